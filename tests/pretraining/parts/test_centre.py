import torch

from pretraining.parts.centre import Centre


def test_the_mean_of_all_rows_of_a_step_moves_it_when_the_step_is_over():
    centre = Centre(2)
    first, second = torch.tensor([[1.0, 0.0], [3.0, 0.0]]), torch.tensor([[4.0, 8.0], [4.0, 8.0]])
    assert torch.equal(centre(first), first)
    assert torch.equal(centre(second), second)
    centre.follow(0.9)  # the mean of the rows is (3, 4)
    torch.testing.assert_close(centre.mean, torch.tensor([0.3, 0.4]))
    torch.testing.assert_close(centre(first), first - torch.tensor([0.3, 0.4]))
    centre.follow(0.0)
    torch.testing.assert_close(centre.mean, torch.tensor([2.0, 0.0]))
    assert set(centre.state_dict()) == {"mean"}
