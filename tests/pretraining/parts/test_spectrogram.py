from __future__ import annotations

import math

import numpy as np
import pytest

from contracts import audio
from pretraining.parts.spectrogram import SpectrogramCodec, log_mel, resampled, triangles
from tests.contracts.bad_audio import encoded, tone

CODEC = SpectrogramCodec(sample_rate=8000, mels=16, frames=30, mean=-4.0, deviation=3.0)


def _naive(samples: np.ndarray, rate: int, mels: int) -> np.ndarray:
    """The filter bank by its definition: a discrete Fourier transform by sums, loops over bands."""
    length, hop = round(0.025 * rate), round(0.010 * rate)
    size = 1 << (length - 1).bit_length()

    def mel(hertz: float) -> float:
        return 1127 * math.log(1 + hertz / 700)

    low, high = mel(20.0), mel(rate / 2)
    step = (high - low) / (mels + 1)
    turn = np.exp(-2j * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(length)) / size)
    found = []
    for start in range(0, len(samples) - length + 1, hop):
        frame = samples[start : start + length].astype(float)
        frame = frame - frame.mean()
        shaped = np.array([frame[n] - 0.97 * frame[max(n - 1, 0)] for n in range(length)])
        shaped *= [0.5 - 0.5 * math.cos(2 * math.pi * n / (length - 1)) for n in range(length)]
        power = np.abs(turn @ shaped) ** 2
        bands = []
        for band in range(mels):
            middle = low + (band + 1) * step
            weights = [
                max(0.0, 1 - abs(mel(line * rate / size) - middle) / step)
                for line in range(size // 2 + 1)
            ]
            bands.append(math.log(max(float(power @ weights), 2.0**-23)))
        found.append(bands)
    return np.array(found).T


@pytest.mark.parametrize(("rate", "mels"), [(8000, 16), (16_000, 40)])
def test_the_filter_bank_is_that_of_its_definition(rate: int, mels: int):
    rng = np.random.default_rng(3)
    samples = (tone(0.2, rate)[:, 0] + 0.1 * rng.normal(size=rate // 5)).astype(np.float32)
    found = log_mel(samples, rate, mels)
    assert found.shape == (mels, 18)
    np.testing.assert_allclose(found, _naive(samples, rate, mels), rtol=1e-9, atol=1e-9)


def test_a_tone_is_loudest_in_the_band_that_holds_it():
    time = np.arange(8000) / 8000
    for hertz in (300, 1000, 2500):
        found = log_mel(np.sin(2 * np.pi * hertz * time).astype(np.float32), 8000, 16)
        edges = np.linspace(1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 4000 / 700), 18)
        band = np.abs(edges[1:-1] - 1127 * np.log(1 + hertz / 700)).argmin()
        assert (found.argmax(axis=0) == band).all()


def test_triangles_cover_each_line_once_between_the_first_and_the_last_middle():
    weights = triangles(16_000, 512, 20)
    inside = weights.sum(axis=0)[5:219]
    np.testing.assert_allclose(inside, 1, atol=1e-12)


def test_a_spectrogram_has_one_shape_and_its_values_are_shifted_and_scaled():
    clip = encoded(tone(seconds=0.2))
    found = CODEC.encode(clip)
    assert found.shape == CODEC.shape == (1, 16, 30)
    assert found.dtype == CODEC.dtype == np.float32
    bare = log_mel(audio.samples(clip).values, 8000, 16)
    np.testing.assert_allclose(found[0, :, : bare.shape[1]], (bare + 4) / 6, rtol=1e-6)
    assert not found[0, :, bare.shape[1] :].any()
    assert bare.shape[1] == 18


def test_a_long_clip_is_cut_and_its_end_is_never_looked_at():
    codec = SpectrogramCodec(sample_rate=16_000, mels=16, frames=30, mean=-4.0, deviation=3.0)
    for rate in (8000, 16_000, 44_100):
        values = tone(seconds=2.0, rate=rate)
        quiet = values.copy()
        quiet[round(0.4 * rate) :] = 0
        found = codec.encode(encoded(values, rate))
        np.testing.assert_array_equal(found, codec.encode(encoded(quiet, rate)))
        assert found[0, :, -1].any()


@pytest.mark.parametrize("rate", [8000, 44_100])
def test_a_tone_of_another_rate_is_the_same_tone_after_resampling(rate: int):
    wanted = tone(seconds=0.5, rate=16_000)[:, 0]
    found = resampled(tone(seconds=0.5, rate=rate)[:, 0].astype(np.float32), rate, 16_000)
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found[400:-400], wanted[400:-400], atol=1e-3)


def test_a_clip_shorter_than_a_frame_is_one_frame():
    assert log_mel(np.ones(10, dtype=np.float32), 8000, 16).shape == (16, 1)
    assert CODEC.encode(encoded(tone(seconds=0.005)))[0, :, 1:].any() == np.False_


def test_equal_codecs_are_one_column_of_a_batch():
    assert SpectrogramCodec(8000, 16, 30, -4.0, 3.0) == CODEC
    assert SpectrogramCodec(8000, 16, 31, -4.0, 3.0) != CODEC
