"""Sound as a picture: the log-mel spectrogram of a clip, of one size for every clip."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from contracts import audio

WINDOW_S, HOP_S = 0.025, 0.010
_LEAST_HZ = 20.0
_PREEMPHASIS = 0.97
# The least energy that is told from none: the distance of 1 to the next float32.
_FLOOR = float(np.finfo(np.float32).eps)
# What a resampler looks at beyond the samples that it gives, at any rate that is decoded.
_BEYOND_S = 0.02


@dataclass(frozen=True)
class SpectrogramCodec:
    """Encode a clip as the beginning of its log-mel spectrogram, (1, mels, frames).

    A frame is 25 ms, the next begins 10 ms later. A clip of fewer frames is filled up with zeros,
    which are the mean.

    Attributes:
        sample_rate: to which a clip of another rate is resampled, in Hz.
        mels: bands of the spectrogram, from 20 Hz up to half of the rate.
        frames: of every spectrogram.
        mean: of the spectrograms' values, which becomes zero.
        deviation: their standard deviation, twice which becomes one.
    """

    sample_rate: int
    mels: int
    frames: int
    mean: float
    deviation: float
    reads: ClassVar[str] = "audio"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one spectrogram."""
        return 1, self.mels, self.frames

    def encode(self, raw: bytes) -> NDArray[np.float32]:
        """Return the spectrogram of a clip of WAV or FLAC.

        Raises:
            Undecodable: as `audio.samples`.
        """
        seconds = (self.frames - 1) * HOP_S + WINDOW_S
        values, rate = audio.samples(raw, seconds + _BEYOND_S)
        values = resampled(values, rate, self.sample_rate)
        found = log_mel(values[: round(seconds * self.sample_rate)], self.sample_rate, self.mels)
        found = (found - self.mean) / (2 * self.deviation)
        filled = np.zeros(self.shape, dtype=np.float32)
        filled[0, :, : found.shape[1]] = found[:, : self.frames]
        return filled


def resampled(values_T: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Return samples at another rate, band-limited: a polyphase filter with a Kaiser window."""
    if rate == wanted:
        return values_T
    from scipy.signal import resample_poly

    common = math.gcd(rate, wanted)
    return np.asarray(resample_poly(values_T, wanted // common, rate // common), dtype=np.float32)


def log_mel(values_T: NDArray[np.float32], rate: int, mels: int) -> NDArray[np.float64]:
    """Return the logarithm of the energies in bands of equal width in mel, (mels, frames).

    Of each frame of N samples the mean is taken away, then 0.97 times the sample before from each
    (the first from itself); a Hann window, its power spectrum, and triangles over 1127 ln(1 + f /
    700 Hz), each reaching to the middles of its neighbours. Samples after the last whole frame are
    left out; a clip shorter than a frame is one frame, filled up with zeros.

    Reference: the filter bank of HTK and Kaldi; Young et al. 2006, The HTK Book, section 5.
    """
    length, hop = round(WINDOW_S * rate), round(HOP_S * rate)
    padded = np.pad(values_T.astype(np.float64), (0, max(0, length - len(values_T))))
    frames_FN = np.lib.stride_tricks.sliding_window_view(padded, length)[::hop]
    frames_FN = frames_FN - frames_FN.mean(axis=1, keepdims=True)
    before_FN = np.concatenate([frames_FN[:, :1], frames_FN[:, :-1]], axis=1)
    shaped_FN = (frames_FN - _PREEMPHASIS * before_FN) * np.hanning(length)
    size = 1 << (length - 1).bit_length()
    power_FK = np.abs(np.fft.rfft(shaped_FN, size)) ** 2
    energy_MF = triangles(rate, size, mels) @ power_FK.T
    return np.asarray(np.log(np.maximum(energy_MF, _FLOOR)))


@cache
def triangles(rate: int, size: int, mels: int) -> NDArray[np.float64]:
    """Return the weights of a spectrum's lines in each band, (mels, size / 2 + 1)."""
    edges = np.linspace(_mel(_LEAST_HZ), _mel(rate / 2), mels + 2)
    lines_K = _mel(np.arange(size // 2 + 1) * rate / size)
    step = edges[1] - edges[0]
    rising_MK = (lines_K - edges[:-2, None]) / step
    falling_MK = (edges[2:, None] - lines_K) / step
    return np.asarray(np.maximum(0, np.minimum(rising_MK, falling_MK)))


def _mel(hertz: Any) -> Any:
    return 1127 * np.log1p(np.asarray(hertz) / 700)
