import itertools
from collections import Counter

import pytest
import torch

from pretraining.objective import Moment
from pretraining.parts.masks import clustered_mask, hidden_count, places, random_mask


def moment(seed=0):
    return Moment(0.0, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("number", "ratio", "count"),
    [(64, 0.75, 48), (16, 0.75, 12), (10, 0.9, 9), (4, 0.99, 3), (4, 0.01, 1), (512, 0.78, 399)],
)
def test_the_share_is_rounded_and_leaves_something_to_see_and_something_to_guess(
    number, ratio, count
):
    assert hidden_count(number, ratio) == count


def test_every_choice_of_tokens_is_hidden_equally_often():
    counts = Counter(map(tuple, places(random_mask(30_000, 5, 2, moment()), 2).tolist()))
    assert set(counts) == set(itertools.combinations(range(5), 2))
    assert min(counts.values()) > 2_700
    assert max(counts.values()) < 3_300


@pytest.mark.parametrize("hidden", [1, 20, 59])
def test_clusters_hide_exactly_as_many_tokens_in_every_row(hidden):
    mask = clustered_mask(40, (6, 10), hidden, moment())
    assert mask.sum(1).tolist() == [hidden] * 40


def test_clusters_are_squares_laid_in_random_order_until_enough_is_covered():
    height, width, hidden = 7, 9, 30
    mask = clustered_mask(25, (height, width), hidden, moment(3))
    rng = torch.Generator().manual_seed(3)
    sides = 3 + (torch.rand(25, generator=rng) * 3).long()
    assert set(sides.tolist()) == {3, 4, 5}
    times = torch.rand(25, 1, height + 4, width + 4, generator=rng)[:, 0]
    for row, side, time in zip(mask, sides.tolist(), times, strict=True):
        corners = itertools.product(range(height + side - 1), range(width + side - 1))
        covered: list[set[int]] = []
        for y, x in sorted(corners, key=lambda corner: float(time[corner])):
            square = {
                i * width + j
                for i in range(max(0, y - side + 1), min(height, y + 1))
                for j in range(max(0, x - side + 1), min(width, x + 1))
            }
            covered.append(square.union(*covered[-1:]))
            if len(covered[-1]) >= hidden:
                break
        chosen = set(places(row[None], hidden)[0].tolist())
        assert covered[-2] < chosen <= covered[-1]


def test_of_the_last_square_any_part_may_be_hidden():
    shares = clustered_mask(20_000, (4, 5), 1, moment()).float().mean(0)
    assert shares.min() > 0.5 / 20
    assert shares.max() < 2 / 20


def test_no_token_is_spared_not_in_the_corners_either():
    clustered = clustered_mask(20_000, (8, 8), 48, moment()).float().mean(0)
    assert (clustered - 0.75).abs().max() < 0.03
    alone = random_mask(20_000, 64, 48, moment()).float().mean(0)
    assert (alone - 0.75).abs().max() < 0.015


def test_hidden_tokens_have_hidden_neighbours_more_often_in_clusters():
    def neighbours(mask):
        grid = mask.view(-1, 8, 8)
        return (grid[:, :, 1:] & grid[:, :, :-1]).float().mean().item()

    clustered = neighbours(clustered_mask(200, (8, 8), 24, moment()))
    assert clustered > 1.5 * neighbours(random_mask(200, 64, 24, moment()))


def test_masks_are_those_of_the_generator_alone():
    for make in (lambda m: random_mask(3, 30, 9, m), lambda m: clustered_mask(3, (5, 6), 9, m)):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        assert torch.equal(make(moment(4)), make(moment(4)))
        assert not torch.equal(make(moment(4)), make(moment(5)))
        assert torch.equal(torch.get_rng_state(), state)


def test_places_are_in_rising_order():
    chosen = torch.tensor([[True, False, True, False], [False, False, True, True]])
    assert places(chosen, 2).tolist() == [[0, 2], [2, 3]]
    assert places(~chosen, 2).tolist() == [[1, 3], [0, 1]]
