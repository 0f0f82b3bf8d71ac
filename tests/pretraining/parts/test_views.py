import math

import pytest
import torch

from pretraining.objective import Moment
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.views import (
    LUMA,
    colour_matrix,
    multi_crop,
    random_blur,
    random_colours,
    random_resized_crop,
    random_solarise,
    random_view,
)


def moment(seed=0):
    return Moment(0.0, torch.Generator().manual_seed(seed))


def ramp(count=64, side=32):
    """Images whose red is the column's place and whose green is the row's, from 0 to 1."""
    place = (torch.arange(side) + 0.5) / side
    image = torch.stack([place.expand(side, side), place[:, None].expand(side, side)])
    return torch.cat([image, torch.zeros(1, side, side)]).expand(count, 3, side, side).clone()


def test_bytes_become_floats_and_floats_stay():
    assert unit_pixels(torch.tensor([0, 51, 255], dtype=torch.uint8)).tolist() == pytest.approx(
        [0, 0.2, 1]
    )
    kept = torch.rand(3)
    assert unit_pixels(kept) is kept


def test_the_whole_area_without_mirror_is_the_image():
    images = torch.rand(4, 3, 16, 16)
    crops = random_resized_crop(images, moment(), min_area_ratio=1.0)
    torch.testing.assert_close(crops, images, rtol=0, atol=1e-5)


def test_a_certain_mirror_swaps_left_and_right():
    images = torch.rand(4, 3, 16, 16)
    crops = random_resized_crop(images, moment(), min_area_ratio=1.0, flip_ratio=1.0)
    torch.testing.assert_close(crops, images.flip(3), rtol=0, atol=1e-5)


def test_crops_have_the_area_the_aspect_and_the_places_that_were_asked_for():
    crops = random_resized_crop(ramp(512), moment(), min_area_ratio=0.25, max_aspect=4 / 3)
    # On a ramp the steps between neighbours are the box's sides, and the centre is its place.
    width = (crops[:, 0, 16, 20] - crops[:, 0, 16, 12]) * 4
    height = (crops[:, 1, 20, 16] - crops[:, 1, 12, 16]) * 4
    area, aspect = width * height, width / height
    assert 0.249 < area.min() < 0.27
    assert 0.93 < area.max() <= 1.001
    inside = (width < 0.99) & (height < 0.99)
    assert aspect[inside].min() > 0.749
    assert aspect[inside].max() < 1.335
    assert aspect.std() > 0.1
    left = crops[:, 0, 16, 15:17].mean(1) - width / 2
    assert left.min() > -0.01
    assert (left + width).max() < 1.01
    assert left[width < 0.6].std() > 0.05


def test_each_image_of_a_batch_has_its_own_draw_and_equal_generators_equal_draws():
    images = ramp(8)
    crops = random_resized_crop(images, moment(5), min_area_ratio=0.3)
    assert torch.equal(crops, random_resized_crop(images, moment(5), min_area_ratio=0.3))
    assert len(crops.flatten(1).unique(dim=0)) == 8


def test_colours_without_strength_stay():
    images = torch.rand(8, 3, 8, 8)
    same = random_colours(images, moment(), strength=0.0, jitter_ratio=1.0, grey_ratio=0.0)
    torch.testing.assert_close(same, images, rtol=0, atol=1e-6)


def test_a_grey_image_has_its_luma_in_every_channel():
    images = torch.rand(8, 3, 8, 8)
    grey = random_colours(images, moment(), strength=0.0, grey_ratio=1.0)
    luma = (images * torch.tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
    torch.testing.assert_close(grey, luma.expand_as(images), rtol=0, atol=1e-6)


def test_a_third_of_a_turn_makes_red_green_and_leaves_grey():
    matrix = colour_matrix(torch.ones(1), torch.ones(1), torch.tensor([1 / 3]))[0]
    torch.testing.assert_close(
        matrix @ torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1, 0]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(matrix @ torch.full((3,), 0.4), torch.full((3,), 0.4))


def test_brightness_scales_and_no_saturation_is_luma():
    matrix = colour_matrix(torch.tensor([0.5]), torch.tensor([0.0]), torch.zeros(1))[0]
    torch.testing.assert_close(matrix @ torch.tensor([0.0, 1.0, 0.0]), torch.full((3,), 0.2935))


def test_jitter_is_brightness_saturation_hue_then_contrast_about_the_mean_luma():
    images = 0.4 + 0.2 * torch.rand(16, 3, 8, 8, generator=moment(1).rng)
    strength = 0.3
    drawn = moment(7).rng
    factors = [1 + 0.24 * (2 * torch.rand(16, generator=drawn) - 1) for _ in range(3)]
    hue = 0.06 * (2 * torch.rand(16, generator=drawn) - 1)
    expected = []
    for image, brightness, contrast, saturation, turn in zip(images, *factors, hue, strict=True):
        matrix = colour_matrix(brightness[None], saturation[None], turn[None])[0]
        coloured = torch.einsum("ij,jhw->ihw", matrix, image)
        level = (coloured * torch.tensor(LUMA)[:, None, None]).sum(0).mean()
        expected.append((contrast * coloured + (1 - contrast) * level).clamp(0, 1))
    views = random_colours(images, moment(7), strength=strength, jitter_ratio=1.0, grey_ratio=0.0)
    torch.testing.assert_close(views, torch.stack(expected), rtol=0, atol=1e-5)


def test_about_the_stated_share_is_jittered_and_made_grey():
    images = torch.rand(2000, 3, 2, 2)
    views = random_colours(images, moment(), strength=0.5)
    changed = (views - images).abs().amax((1, 2, 3)) > 1e-4
    grey = (views - views[:, :1]).abs().amax((1, 2, 3)) < 1e-5
    assert changed.float().mean().item() == pytest.approx(1 - 0.2 * 0.8, abs=0.03)
    assert grey.float().mean().item() == pytest.approx(0.2, abs=0.03)


def test_a_blurred_point_is_a_gaussian_and_keeps_its_sum():
    image = torch.zeros(1, 3, 224, 224)
    image[:, :, 112, 112] = 1.0
    drawn = moment(3).rng
    sigma = 0.1 + 1.9 * torch.rand(1, generator=drawn).item()
    blurred = random_blur(image, moment(3), blur_ratio=1.0)[0, 0]
    assert blurred.sum().item() == pytest.approx(1, abs=1e-5)
    ratio = blurred[112, 113] / blurred[112, 112]
    assert ratio.item() == pytest.approx(math.exp(-0.5 / sigma**2), rel=1e-4)
    torch.testing.assert_close(blurred, blurred.T)


def test_blur_touches_about_its_share_and_never_a_flat_image():
    images = torch.rand(200, 1, 112, 112, generator=moment(4).rng)
    changed = (random_blur(images, moment(), blur_ratio=0.5) != images).flatten(1).any(1)
    assert changed.float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert random_blur(images, moment(), blur_ratio=0.0) is images
    flat = torch.full((2, 3, 32, 32), 0.3)
    torch.testing.assert_close(random_blur(flat, moment(), blur_ratio=1.0), flat)


def test_two_views_of_an_image_differ_and_stay_pixels():
    images, drawn = torch.rand(4, 3, 32, 32, generator=moment(5).rng), moment()
    for blur_ratio in (0.0, 1.0):
        first, second = (
            random_view(
                images, drawn, min_area_ratio=0.2, colour_strength=0.5, blur_ratio=blur_ratio
            )
            for _ in range(2)
        )
        assert not torch.equal(first, second)
        for view in (first, second):
            assert view.shape == images.shape
            assert view.min() >= 0
            assert view.max() <= 1


def test_a_view_may_be_smaller_and_of_a_small_part():
    crops = random_resized_crop(
        ramp(64), moment(), min_area_ratio=0.1, max_area_ratio=0.2, side_px=16
    )
    assert crops.shape == (64, 3, 16, 16)
    # Half of the new side spans half of the box.
    width = (crops[:, 0, 8, 12] - crops[:, 0, 8, 4]) * 2
    assert (width**2).min() > 0.099
    assert (width**2).max() < 0.201


def test_solarised_is_what_is_bright_in_about_its_share():
    images = torch.tensor([0.2, 0.5, 0.9]).view(1, 3, 1, 1).expand(2000, 3, 1, 1)
    views = random_solarise(images, moment(), solarise_ratio=0.2)[:, :, 0, 0]
    turned = views[:, 2] < 0.5
    assert turned.float().mean().item() == pytest.approx(0.2, abs=0.03)
    assert views[turned][0].tolist() == pytest.approx([0.2, 0.5, 0.1])
    assert torch.equal(views[~turned], images[~turned, :, 0, 0])


def test_of_many_crops_two_show_much_and_the_others_are_small_and_show_little():
    large, small = multi_crop(
        ramp(64), moment(), local_crops=3, local_px=16, split_area_ratio=0.4, min_area_ratio=0.1,
        colour_strength=0.0,
    )  # fmt: skip
    assert [view.shape for view in large] == [(64, 3, 32, 32)] * 2
    assert [view.shape for view in small] == [(64, 3, 16, 16)] * 3
    # On a ramp the spread of brightness tells the box's sides; grey ones mix the channels.
    least = large[0].std((2, 3)).mean(0)[:2].min()
    most = torch.stack(small).std((3, 4)).mean((0, 1))[:2].max()
    assert least > 1.3 * most
