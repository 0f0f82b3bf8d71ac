from __future__ import annotations

import sys

import numpy as np
import pytest

from contracts import audio
from contracts.errors import ConfigError
from tests.contracts.bad_audio import ROWS, encoded, flac, tone, wav


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_clip_has_its_one_outcome(name: str):
    row = ROWS[name]
    if row.code is None:
        assert audio.inspect(row.make()).notes == row.notes
        return
    with pytest.raises(audio.Undecodable) as refused:
        audio.inspect(row.make())
    assert refused.value.code == row.code
    assert row.detail in refused.value.detail


def test_a_clip_is_described_by_its_header():
    data = encoded(tone(seconds=1.5, rate=16_000, channels=2), 16_000)
    assert audio.inspect(data) == audio.Inspected(24_000, 16_000, 2, ())


def test_samples_are_the_mean_of_the_channels():
    left, right = tone()[:, 0], -tone()[:, 0] / 2
    clip = audio.samples(encoded(np.stack([left, right], axis=1), subtype="FLOAT"))
    assert clip.rate == 8000
    assert clip.values.dtype == np.float32
    np.testing.assert_allclose(clip.values, left / 4, atol=1e-7)


def test_flac_and_wav_of_the_same_samples_give_the_same_numbers():
    values = np.round(tone() * 32_767).astype(np.int16)
    clips = [audio.samples(encoded(values, format=name)) for name in ("WAV", "FLAC")]
    np.testing.assert_array_equal(clips[0].values, values[:, 0] / np.float32(32_768))
    np.testing.assert_array_equal(clips[1].values, clips[0].values)


def test_the_first_seconds_are_the_beginning_of_all():
    data = encoded(tone(seconds=5))
    np.testing.assert_array_equal(
        audio.samples(data, 0.3).values, audio.samples(data).values[:2400]
    )
    assert len(audio.samples(data, 60.0).values) == 40_000


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        (audio.Limits(bytes=100), "TOO_LARGE"),
        (audio.Limits(seconds=0), "BOMB_DURATION"),
        (audio.Limits(samples=1000), "BOMB_DURATION"),
    ],
)
def test_what_a_clip_would_cost_is_judged_before_it_is_decoded(
    limits: audio.Limits, code: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(audio.Undecodable) as refused:
        audio.inspect(wav(), limits)
    assert refused.value.code == code


def test_without_soundfile_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    data = wav()
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(ConfigError, match=r"pip install 'winnow\[audio\]'"):
        audio.inspect(data)


@pytest.mark.parametrize(("make", "suffix"), [(wav, "wav"), (flac, "flac")])
def test_a_shard_calls_a_clip_by_its_first_bytes(make, suffix: str):
    assert audio.suffix(make()) == suffix


def test_a_long_clip_is_looked_at_in_little_memory():
    import tracemalloc

    data = encoded(np.zeros((900 * 8000, 1), np.int16), format="FLAC")
    tracemalloc.start()
    audio.inspect(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 << 20
