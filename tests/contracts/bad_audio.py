"""Recipes of bad and odd clips, each with the one outcome that it must have."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soundfile


@dataclass(frozen=True)
class Row:
    """A recipe: refused with `code`, or accepted with exactly these notes."""

    make: Callable[[], bytes]
    code: str | None = None
    notes: tuple[str, ...] = ()
    detail: str = ""


def tone(seconds: float = 0.2, rate: int = 8000, channels: int = 1) -> np.ndarray:
    """A quiet tone of 440 Hz in each channel, (T, channels)."""
    time = np.arange(round(seconds * rate)) / rate
    return np.repeat(0.25 * np.sin(2 * np.pi * 440 * time)[:, None], channels, axis=1)


def encoded(values: np.ndarray, rate: int = 8000, format: str = "WAV", subtype: str = "PCM_16"):
    buffer = io.BytesIO()
    soundfile.write(buffer, values, rate, format=format, subtype=subtype)
    return buffer.getvalue()


def wav(**options: object) -> bytes:
    return encoded(tone(), **options)


def flac() -> bytes:
    return encoded(tone(), format="FLAC")


def with_header(tag: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16) -> bytes:
    """A WAV of 1,600 zero bytes of samples that declares this format."""
    frame = channels * bits // 8
    format_ = struct.pack("<HHIIHH", tag, channels, rate, rate * frame % (1 << 32), frame, bits)
    body = b"WAVEfmt " + struct.pack("<I", 16) + format_ + b"data" + struct.pack("<I", 1600)
    return b"RIFF" + struct.pack("<I", len(body) + 1600) + body + bytes(1600)


def with_size(data: bytes, size: int) -> bytes:
    """Replace what a WAV of 44 bytes of header says of its samples' length."""
    return data[:40] + struct.pack("<I", size) + data[44:]


def not_finite() -> bytes:
    values = tone()
    values[100] = np.nan
    return encoded(values, subtype="FLOAT")


def unfinished_flac() -> bytes:
    """A FLAC whose writer did not go back to say how long it is."""
    data = flac()
    return data[:21] + bytes((data[21] & 0xF0,)) + bytes(4) + data[26:]


ROWS: dict[str, Row] = {
    # A01 to A10 are the rows of the specification.
    "A01 no bytes": Row(lambda: b"", "NOT_AUDIO"),
    "A01 HTML": Row(lambda: b"<!DOCTYPE html><h1>404</h1>", "NOT_AUDIO", detail="looks like HTML"),
    "A01 junk frames of MP3": Row(lambda: b"\xff\xfb\x90\x00" * 400, "NOT_AUDIO"),
    "A02 header alone": Row(lambda: with_size(wav()[:44], 0), "AUDIO_EMPTY"),
    "A03 WAV cut": Row(lambda: wav()[:800], "TRUNCATED", detail="declares 3200 bytes"),
    "A04 WAV of 4 GB": Row(lambda: with_size(wav(), 0xFFFF_FFFF), notes=("SIZE_LIES",)),
    "A05 no channels": Row(lambda: with_header(channels=0), "CORRUPT_DATA"),
    "A05 rate of zero": Row(lambda: with_header(rate=0), "CORRUPT_DATA"),
    "A06 rate of 10^9": Row(lambda: with_header(rate=10**9), "AUDIO_PARAMS"),
    "A06 255 channels": Row(lambda: with_header(channels=255), "AUDIO_PARAMS"),
    "A06 7 bits": Row(lambda: with_header(bits=7), "AUDIO_PARAMS"),
    "A07 not finite": Row(not_finite, "NONFINITE_SAMPLES"),
    "A08 silence": Row(lambda: encoded(np.zeros((1600, 1))), notes=("SILENT",)),
    "A09 an hour of silence": Row(
        lambda: encoded(np.zeros((3600 * 8000, 1), np.int16), format="FLAC"), "BOMB_DURATION"
    ),
    "A10 FLAC cut in its header": Row(lambda: flac()[:60], "TRUNCATED"),
    "a tone as WAV": Row(wav),
    "a tone as FLAC": Row(flac),
    "of two channels": Row(lambda: encoded(tone(channels=2))),
    "extensible": Row(lambda: encoded(tone(), format="WAVEX")),
    "24 bits": Row(lambda: wav(subtype="PCM_24")),
    "floats": Row(lambda: wav(subtype="FLOAT")),
    "mu-law": Row(lambda: wav(subtype="ULAW")),
    "ADPCM": Row(lambda: wav(subtype="IMA_ADPCM"), "UNSUPPORTED_CODING"),
    "Ogg": Row(lambda: b"OggS" + bytes(100), "UNSUPPORTED_FORMAT", detail="Ogg"),
    "MP4": Row(lambda: b"\0\0\0\x20ftypM4A " + bytes(100), "UNSUPPORTED_FORMAT", detail="MP4"),
    "WAV without samples": Row(lambda: wav()[:36], "TRUNCATED"),
    "samples before their format": Row(
        lambda: b"RIFF\0\0\0\0WAVEdata" + bytes(8), "CORRUPT_DATA", detail="before their format"
    ),
    "many chunks": Row(
        lambda: b"RIFF\0\0\0\0WAVE" + (b"junk" + bytes(4)) * 100_001, "CORRUPT_DATA"
    ),
    "frames that do not add up": Row(
        lambda: wav()[:32] + b"\x03\0" + wav()[34:], "CORRUPT_DATA", detail="in 3 bytes"
    ),
    "FLAC cut in its samples": Row(lambda: flac()[:-200], "CORRUPT_DATA", detail="cut or damaged"),
    "FLAC of an unknown length": Row(unfinished_flac, "UNSUPPORTED_CODING"),
}
