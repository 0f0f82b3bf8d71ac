import torch

from pretraining.parts.patches import normalize_patches, patchify, unpatchify


def test_patches_are_cut_row_by_row_and_channel_by_channel():
    images = torch.arange(2 * 4 * 6.0).view(1, 2, 4, 6)
    patches = patchify(images, (2, 2))
    assert patches.shape == (1, 4, 2 * 2 * 3)
    assert patches[0, 0].tolist() == [0, 1, 2, 6, 7, 8, 24, 25, 26, 30, 31, 32]
    assert patches[0, 1].tolist() == [3, 4, 5, 9, 10, 11, 27, 28, 29, 33, 34, 35]
    assert patches[0, 2, :3].tolist() == [12, 13, 14]


def test_a_patch_times_the_weight_of_a_convolution_is_the_convolution():
    images = torch.rand(2, 3, 8, 12)
    convolution = torch.nn.Conv2d(3, 5, (4, 2), stride=(4, 2), bias=False)
    expected = convolution(images).flatten(2).transpose(1, 2)
    found = patchify(images, (2, 6)) @ convolution.weight.flatten(1).T
    torch.testing.assert_close(found, expected)


def test_patches_are_put_together_again_to_the_bit():
    images = torch.rand(3, 3, 8, 12)
    for grid in ((1, 1), (2, 3), (8, 12), (4, 2)):
        assert torch.equal(unpatchify(patchify(images, grid), grid, (8, 12)), images)


def test_a_normal_patch_has_mean_0_and_the_variance_of_a_sample_1():
    patches = torch.tensor([[[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [0.0, 0.0, 3.0]]])
    normal = normalize_patches(patches)
    torch.testing.assert_close(normal[0, 0], torch.tensor([-1.0, 0.0, 1.0]))
    assert normal[0, 1].tolist() == [0, 0, 0]
    third = torch.tensor([-1.0, -1.0, 2.0]) / 3**0.5
    torch.testing.assert_close(normal[0, 2], third)
