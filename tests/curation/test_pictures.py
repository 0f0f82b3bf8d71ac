from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image
from sklearn.metrics import normalized_mutual_info_score

from curation import _pictures
from curation._pictures import Pictures, grey, is_deep


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def noise(seed: int, shape: tuple[int, int] = (40, 50), top: int = 256, dtype=np.uint8):
    return np.random.default_rng(seed).integers(0, top, shape).astype(dtype)


def similarity(measure: str, *pictures: np.ndarray) -> list[float]:
    """Of the first picture to the others."""
    alike = Pictures([png(p) for p in pictures], measure)
    return alike.similarity(0, np.arange(1, len(pictures))).tolist()


def direct_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, window by window, in double precision."""
    ramp = np.arange(-5, 6)
    window = np.exp(-(ramp[:, None] ** 2 + ramp**2) / (2 * 1.5**2))
    window /= window.sum()
    a, b = (sliding_window_view(p.astype(float), (11, 11)) for p in (x, y))
    mean_a, mean_b = (a * window).sum(axis=(2, 3)), (b * window).sum(axis=(2, 3))
    off_a, off_b = a - mean_a[..., None, None], b - mean_b[..., None, None]
    var_a, var_b = (off_a**2 * window).sum(axis=(2, 3)), (off_b**2 * window).sum(axis=(2, 3))
    covariance = (off_a * off_b * window).sum(axis=(2, 3))
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    found = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((found / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def blends() -> list[np.ndarray]:
    ramp = np.add.outer(np.arange(40) * 3, np.arange(50) * 2).astype(np.uint8)
    return [ramp, ramp // 2, 255 - ramp, noise(1), ramp // 2 + noise(2) // 4, np.full_like(ramp, 9)]


def test_ssim_is_that_of_the_formula_window_by_window():
    pictures = blends()
    expected = [direct_ssim(pictures[0], p) for p in pictures[1:]]
    assert similarity("ssim", *pictures) == pytest.approx(expected, abs=2e-6)


def test_equal_pictures_have_an_ssim_of_exactly_1_and_inverted_ones_a_negative():
    picture = noise(0)
    same, inverted = similarity("ssim", picture, picture, 255 - picture)
    assert same == 1
    assert inverted < -0.5


def test_mutual_information_is_that_of_64_bins_normalised_by_the_mean_entropy():
    pictures = blends()
    labels = [(p // 4).ravel() for p in pictures]
    expected = [
        normalized_mutual_info_score(labels[0], other, average_method="arithmetic")
        for other in labels[1:-1]
    ]
    assert similarity("mutual_information", *pictures[:-1]) == pytest.approx(expected, abs=1e-6)


def test_mutual_information_is_1_where_each_follows_from_the_other_and_0_for_a_flat_picture():
    steps = (np.add.outer(np.arange(32), np.arange(32)) * 4).astype(np.uint8)
    flat = np.full_like(steps, 9)
    found = similarity("mutual_information", steps, steps, 252 - steps, flat)
    assert found == [1, 1, 0]
    assert similarity("mutual_information", flat, flat + 100) == [1]


def test_16_bits_are_seen_through_one_window_of_the_whole_series():
    # 12 bits in 16: by 65,535 all would be nearly black, and alike.
    first, second = noise(1, top=4096, dtype=np.uint16), noise(2, top=4096, dtype=np.uint16)
    first[0, 0], first[0, 1] = 0, 4095
    as_seen = [p * (255 / 4095) for p in (first, second)]
    (found,) = similarity("ssim", first, second)
    assert found == pytest.approx(direct_ssim(*as_seen), abs=2e-6)
    (shifted,) = similarity("ssim", first + 1000, second + 1000)
    assert shifted == pytest.approx(found, abs=1e-6)


def test_one_slice_brighter_than_the_others_is_not_scaled_by_itself():
    dark = noise(1, top=1000, dtype=np.uint16)
    bright = (dark * 4).astype(np.uint16)
    same, other = similarity("ssim", dark, dark, bright)
    assert same == 1
    assert other < 0.8


def test_a_large_picture_is_averaged_over_whole_areas_first():
    large, other = noise(1, (1100, 1030)), noise(2, (1100, 1030))
    tiled = [p[:1100, :1028].reshape(275, 4, 257, 4).mean(axis=(1, 3)) for p in (large, other)]
    (found,) = similarity("ssim", large, other)
    assert found == pytest.approx(direct_ssim(*tiled), abs=2e-6)


def test_pictures_of_other_sizes_are_not_alike_and_small_or_broken_ones_not_known():
    images = [png(noise(1)), png(noise(1).T), png(noise(1, (10, 50))), b"no image", None]
    alike = Pictures(images, "ssim")
    assert alike.known.tolist() == [True, True, False, False, False]
    assert alike.similarity(0, np.array([1])).tolist() == [-1]
    assert Pictures(images, "mutual_information").known.tolist() == [True, True, True, False, False]


def test_what_is_forgotten_is_decoded_again_to_the_same(monkeypatch: pytest.MonkeyPatch):
    images = [png(noise(n)) for n in range(6)]
    others = np.arange(6)
    kept = Pictures(images, "ssim")
    monkeypatch.setattr(_pictures, "CACHE_BYTES", 1)
    forgetful = Pictures(images, "ssim")
    for one in others:
        assert np.array_equal(kept.similarity(one, others), forgetful.similarity(one, others))


def test_grey_keeps_16_bits_and_makes_8_of_all_else():
    deep = noise(1, top=65536, dtype=np.uint16)
    assert is_deep(png(deep))
    assert np.array_equal(grey(png(deep)), deep)
    colour = np.stack([noise(1)] * 3, axis=2)
    assert not is_deep(png(colour))
    assert grey(png(colour)).dtype == np.uint8
    assert grey(png(deep)[:100]) is None
    assert not is_deep(b"\x89PNG\r\n\x1a\n")
