import cmath
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from contracts.errors import ConfigError
from pretraining.objectives.batch_styles import in_style_of
from pretraining.train import moment_at, train
from tests.pretraining.made import made


def faint(count, height, width, seed=0):
    """Pictures so close to grey that nothing is clamped."""
    rng = torch.Generator().manual_seed(seed)
    return 0.5 + 0.02 * torch.rand(count, 3, height, width, generator=rng)


def naive(image, style, area_ratio):
    """One channel of one picture, by the double sums of the transform's definition."""
    height, width = image.shape
    places = [(y, x) for y in range(height) for x in range(width)]

    def turn(v, u, y, x):
        return 2j * math.pi * (v * y / height + u * x / width)

    def transform(pixels, v, u):
        return sum(pixels[y, x] * cmath.exp(-turn(v, u, y, x)) for y, x in places)

    found = {}
    for v, u in places:
        cycles = max(min(v, height - v) / height, min(u, width - u) / width)
        own = transform(image, v, u)
        if cycles <= math.sqrt(area_ratio) / 2:
            own = cmath.rect(abs(transform(style, v, u)), cmath.phase(own))
        found[v, u] = own
    back = [sum(f * cmath.exp(turn(v, u, y, x)) for (v, u), f in found.items()) for y, x in places]
    return np.array(back).real.reshape(height, width) / (height * width)


def test_a_style_of_the_mean_alone_moves_every_pixel_alike():
    images = 0.2 + faint(2, 8, 8) - faint(2, 8, 8).mean((2, 3), keepdim=True)
    styled = in_style_of(images, torch.full((1, 3, 8, 8), 0.6), 0.0)
    torch.testing.assert_close(styled.mean((2, 3)), torch.full((2, 3), 0.6))
    torch.testing.assert_close(styled - images, torch.full_like(images, 0.4))


@pytest.mark.parametrize(("height", "width"), [(6, 6), (5, 4), (4, 7)])
@pytest.mark.parametrize("area_ratio", [0.0, 0.15, 0.5, 1.0])
def test_the_style_is_swapped_as_sums_over_pixels_say(height, width, area_ratio):
    images, style = faint(2, height, width), faint(1, height, width, seed=1)
    styled = in_style_of(images, style, area_ratio)
    for image, found in zip(images, styled, strict=True):
        expected = naive(image[1].double().numpy(), style[0, 1].double().numpy(), area_ratio)
        np.testing.assert_allclose(found[1].numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("area_ratio", [0.0, 0.1, 1.0])
def test_a_picture_in_its_own_style_stays_as_it_is(area_ratio):
    images = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(in_style_of(images, images, area_ratio), images, atol=1e-5, rtol=0)


def test_a_whole_spectrum_of_style_leaves_the_phases_alone():
    images, style = faint(4, 16, 16), faint(1, 16, 16, seed=1)
    styled, own, other = map(torch.fft.fft2, (in_style_of(images, style, 1.0), images, style))
    torch.testing.assert_close(styled.abs(), other.abs().expand(4, -1, -1, -1), atol=1e-4, rtol=0)
    turned = (styled * own.conj()).angle()[own.abs() * other.abs() > 1e-3]
    assert turned.abs().max() < 1e-2


def test_pixels_stay_in_range():
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    styled = in_style_of(images, images[:1].round(), 1.0)
    assert styled.min() == 0
    assert styled.max() == 1


def test_a_view_has_one_style_and_another_view_another():
    """Of pictures of one colour each, everything but the style is nothing."""
    colours = 0.3 + 0.4 * torch.rand(6, 3, 1, 1, generator=torch.Generator().manual_seed(0))
    objective = made("batch_styles")
    seen = []
    for step in range(8):
        view = objective.view(colours.expand(6, 3, 16, 16), moment_at(step, 8, seed=0))
        torch.testing.assert_close(view, view[:1, :, :1, :1].expand_as(view), atol=1e-5, rtol=0)
        seen.append(view[0, :, 0, 0])
    assert torch.pdist(torch.stack(seen)).min() > 1e-3


def test_the_style_is_that_of_one_picture_of_the_batch_and_the_content_ones_own():
    images = faint(6, 16, 16) * torch.linspace(0.5, 1.5, 6)[:, None, None, None]
    objective = made("batch_styles", {"colour_strength": 0.0, "min_area_ratio": 1.0})
    of = set()
    for step in range(40):
        view = objective.view(images, moment_at(step, 40, seed=0))
        means = view.mean((1, 2, 3))
        torch.testing.assert_close(means, means[:1].expand(6), atol=1e-4, rtol=0)
        of.add(round(float((means[0] / 0.51 - 0.5) * 5)))
        assert torch.pdist(view.flatten(1)).min() > 0.05
    assert of == set(range(6))


def test_shares_of_the_spectrum_that_are_no_range_are_refused():
    with pytest.raises(ConfigError, match=r"min_style_ratio, .* is more than"):
        made("batch_styles", {"min_style_ratio": 0.3})


def test_the_shares_of_the_spectrum_say_how_much_is_swapped():
    images = faint(6, 16, 16)

    def moved(ratio):
        parameters = {"colour_strength": 0.0, "min_style_ratio": ratio, "max_style_ratio": ratio}
        view = made("batch_styles", parameters).view(images, moment_at(0, 1, seed=0))
        return torch.fft.fft2(view).abs().var(0).mean()

    assert moved(1.0) < 1e-6 < moved(0.3) < moved(0.0)


def test_the_style_of_a_digit_is_told_from_its_features_less_well_than_after_simclr():
    digits = load_digits()
    grey = torch.from_numpy(digits.images / 16)[:, None]
    grey = grey.repeat_interleave(2, 2).repeat_interleave(2, 3)
    style = np.random.default_rng(0).integers(0, 3, len(grey))
    paper = torch.tensor([[0.1, 0.3, 0.6], [0.6, 0.2, 0.1], [0.2, 0.5, 0.2]])
    ink = torch.tensor([[0.9, 0.9, 0.5], [0.9, 0.8, 0.9], [0.5, 0.9, 1.0]])
    paper, ink = paper[style][:, :, None, None], ink[style][:, :, None, None]
    images = ((paper + (ink - paper) * grey) * 255).to(torch.uint8)

    def batches_from(start):
        for step in range(start, 60):
            rows = torch.randperm(900, generator=torch.Generator().manual_seed(step))[:64]
            yield {"image": images[rows]}

    def accuracy(name):
        own = {"width": 8, "side_px": 16}
        objective = made(name, {"min_area_ratio": 0.5}, "small_cnn", own, seed=0)
        train(objective, batches_from, steps=60, lr=3e-3, seed=0)
        with torch.no_grad():
            features = torch.nn.functional.normalize(objective.eval().encoder(images)).numpy()
        known = LogisticRegression().fit(features[:900], style[:900])
        return known.score(features[900:], style[900:])

    plain, styled = accuracy("simclr"), accuracy("batch_styles")
    assert plain > 0.95
    assert styled < plain - 0.03
