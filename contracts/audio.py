"""The one decoder of sound: bytes of WAV or FLAC in, samples or a reason code out.

The header is read here, byte by byte, before libsndfile sees the file: what a clip would cost is
judged by what its header declares, and what it declares is compared with the bytes that are
there, since libsndfile gives a cut WAV as a shorter clip and says nothing. Then libsndfile
decodes, some thousand frames at a time, so that looking at a clip takes no memory for all of it.

A hang and a crash of the C code cannot be seen from inside the process: whoever runs the worker
calls `contracts.decode.limit_process` in it and names them DECODE_TIMEOUT and DECODE_CRASH.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contracts._containers import Undecodable
from contracts.errors import ConfigError

_BLOCK_FRAMES = 1 << 14
_MOST_CHUNKS = 100_000
# What a program that writes into a pipe declares, as it does not know the length beforehand.
_UNKNOWN_BYTES = 0x7FFF_0000
_BITS = {1: (8, 16, 24, 32), 3: (32, 64), 6: (8,), 7: (8,)}
"""Bits of a sample by the format tag of WAV: whole numbers, floats, A-law, mu-law."""
_EXTENSIBLE = 0xFFFE
_FOREIGN = (
    (b"OggS", "Ogg"), (b"ID3", "MP3"), (b"FORM", "AIFF"), (b"caff", "CAF"), (b".snd", "AU"),
    (b"RIFX", "RIFX"), (b"RF64", "RF64"), (b"wvpk", "WavPack"), (b"MAC ", "Monkey's Audio"),
    (b"\x30\x26\xb2\x75", "WMA"),
)  # fmt: skip


@dataclass(frozen=True)
class Limits:
    """What a clip may cost; beyond it is refused before a sample is decoded.

    Attributes:
        bytes: of the file.
        seconds: from its first sample to its last.
        samples: frames times channels.
        channels: of a frame.
        least_rate: frames a second.
        most_rate: likewise.
    """

    bytes: int = 64 << 20
    seconds: int = 1800
    samples: int = 100_000_000
    channels: int = 32
    least_rate: int = 1000
    most_rate: int = 768_000


_LIMITS = Limits()


@dataclass(frozen=True)
class Inspected:
    """A clip proven decodable.

    Attributes:
        frames: samples of one channel.
        sample_rate: frames a second.
        channels: of a frame.
        notes: what is worth knowing, of SIZE_LIES, SILENT, in this order.
    """

    frames: int
    sample_rate: int
    channels: int
    notes: tuple[str, ...]


class Samples(NamedTuple):
    """A clip as numbers.

    Attributes:
        values: (T,), the mean over the channels, whole numbers scaled to [-1, 1).
        rate: samples a second.
    """

    values: NDArray[np.float32]
    rate: int


def inspect(data: bytes, limits: Limits = _LIMITS) -> Inspected:
    """Decode a clip once and say what it is.

    Cost: one decode; memory for 16,384 frames.
    Raises:
        Undecodable: with the reason why it is refused.
        ConfigError: soundfile is not installed.
    """
    header = _header(data, limits)
    silent = True
    for block in _blocks(data, header):
        silent = silent and not block.any()
    found = {"SIZE_LIES": header.size_lies, "SILENT": silent}
    return Inspected(
        frames=header.frames,
        sample_rate=header.rate,
        channels=header.channels,
        notes=tuple(note for note, holds in found.items() if holds),
    )


def samples(data: bytes, most_seconds: float | None = None) -> Samples:
    """Return the samples of a clip, or of its first seconds.

    Raises:
        Undecodable: with the reason, under the default limits.
        ConfigError: soundfile is not installed.
    """
    header = _header(data, _LIMITS)
    most = header.frames if most_seconds is None else round(most_seconds * header.rate)
    blocks = [block.mean(axis=1) for block in _blocks(data, header, most)]
    return Samples(np.concatenate(blocks)[:most], header.rate)


def decoded(data: bytes) -> bytes:
    """Return channels, rate and the samples of every channel as bytes.

    Raises:
        Undecodable: with the reason, under the default limits.
        ConfigError: soundfile is not installed.
    """
    header = _header(data, _LIMITS)
    shape = f"{header.channels}x{header.rate}\n".encode()
    return shape + b"".join(block.tobytes() for block in _blocks(data, header))


def suffix(data: bytes) -> str:
    """Return wav or flac: what a shard calls the clip, by its first bytes.

    Raises:
        Undecodable: it begins like neither.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WAVE":
        return "wav"
    if data.startswith(b"fLaC"):
        return "flac"
    raise _foreign(data)


# ------------------------------------------------------------------ what a header declares


@dataclass(frozen=True)
class _Header:
    frames: int
    rate: int
    channels: int
    size_lies: bool = False


def _header(data: bytes, limits: Limits) -> _Header:
    if len(data) > limits.bytes:
        raise Undecodable("TOO_LARGE", f"{len(data)} bytes, the limit is {limits.bytes}")
    header = _wav(data, limits) if suffix(data) == "wav" else _flac(data, limits)
    seconds = header.frames / header.rate
    if seconds > limits.seconds:
        raise Undecodable("BOMB_DURATION", f"{seconds:.0f} s, the limit is {limits.seconds}")
    if header.frames * header.channels > limits.samples:
        detail = f"{header.frames} frames of {header.channels}, the limit is {limits.samples}"
        raise Undecodable("BOMB_DURATION", detail)
    return header


def _wav(data: bytes, limits: Limits) -> _Header:
    at, format_ = 12, b""
    for _ in range(_MOST_CHUNKS):
        if at + 8 > len(data):
            raise Undecodable("TRUNCATED", "ends before its samples")
        kind, declared = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8
        if kind == b"data":
            break
        if kind == b"fmt ":
            format_ = data[at : at + declared]
        at += declared + declared % 2
    else:
        raise Undecodable("CORRUPT_DATA", f"more than {_MOST_CHUNKS} chunks")
    if len(format_) < 16:
        raise Undecodable("CORRUPT_DATA", "its samples come before their format")
    tag, channels = _number(format_, 0, 2), _number(format_, 2, 2)
    rate, frame_bytes, bits = (
        _number(format_, 4, 4),
        _number(format_, 12, 2),
        _number(format_, 14, 2),
    )
    if tag == _EXTENSIBLE and len(format_) >= 26:
        tag = _number(format_, 24, 2)
    _check(rate, channels, limits)
    if tag not in _BITS:
        raise Undecodable("UNSUPPORTED_CODING", f"WAV of the format tag {tag}")
    if bits not in _BITS[tag]:
        raise Undecodable("AUDIO_PARAMS", f"{bits} bits a sample")
    if frame_bytes != channels * bits // 8:
        detail = f"{channels} samples of {bits} bits in {frame_bytes} bytes"
        raise Undecodable("CORRUPT_DATA", detail)
    held = len(data) - at
    size_lies = declared > held and declared >= _UNKNOWN_BYTES
    if declared > held and not size_lies:
        raise Undecodable("TRUNCATED", f"declares {declared} bytes of samples and has {held}")
    frames = min(declared, held) // frame_bytes
    if not frames:
        raise Undecodable("AUDIO_EMPTY", "no sample")
    return _Header(frames, rate, channels, size_lies)


def _flac(data: bytes, limits: Limits) -> _Header:
    """Read the block STREAMINFO, which is the first (RFC 9639, section 8.2)."""
    at, last = 4, False
    while not last:
        if at + 4 > len(data):
            raise Undecodable("TRUNCATED", "ends before its samples")
        last = data[at] >= 128
        at += 4 + int.from_bytes(data[at + 1 : at + 4], "big")
    if at > len(data):
        raise Undecodable("TRUNCATED", "ends in its header")
    if data[4] & 127 or at < 42:
        raise Undecodable("CORRUPT_DATA", "does not begin with its stream's description")
    # 20 bits of the rate, 3 of the channels, 5 of the sample's bits, 36 of the frames.
    packed = int.from_bytes(data[18:26], "big")
    rate, channels, frames = packed >> 44, (packed >> 41 & 7) + 1, packed & (1 << 36) - 1
    _check(rate, channels, limits)
    if at == len(data):
        raise Undecodable("TRUNCATED" if frames else "AUDIO_EMPTY", "no sample")
    if not frames:
        raise Undecodable("UNSUPPORTED_CODING", "FLAC that does not say how long it is")
    return _Header(frames, rate, channels)


def _number(data: bytes, at: int, length: int) -> int:
    return int.from_bytes(data[at : at + length], "little")


def _check(rate: int, channels: int, limits: Limits) -> None:
    if not rate or not channels:
        raise Undecodable("CORRUPT_DATA", f"{channels} channels at {rate} Hz")
    if channels > limits.channels or not limits.least_rate <= rate <= limits.most_rate:
        raise Undecodable("AUDIO_PARAMS", f"{channels} channels at {rate} Hz")


def _foreign(data: bytes) -> Undecodable:
    for magic, name in _FOREIGN:
        if data.startswith(magic):
            return Undecodable("UNSUPPORTED_FORMAT", name)
    if data[4:8] == b"ftyp":
        return Undecodable("UNSUPPORTED_FORMAT", "MP4")
    if not data:
        return Undecodable("NOT_AUDIO", "no bytes")
    looks = "looks like HTML: " if data[:256].lstrip()[:1] == b"<" else ""
    return Undecodable("NOT_AUDIO", f"{looks}begins with {data[:8].hex(' ')}")


# ------------------------------------------------------------------ from bytes to samples


def _blocks(data: bytes, header: _Header, most: int | None = None) -> Iterator[NDArray[np.float32]]:
    """Yield a clip's frames in order, (frames, channels) at a time."""
    try:
        import soundfile
    except ImportError as error:
        raise ConfigError("Audio needs soundfile: pip install 'winnow[audio]'.") from error
    decoded, wanted = 0, header.frames if most is None else min(most, header.frames)
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as opened:
            if (opened.samplerate, opened.channels) != (header.rate, header.channels):
                raise Undecodable("CORRUPT_DATA", "the decoder reads another header")
            while decoded < wanted:
                block = opened.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)
                if not len(block):
                    raise Undecodable("TRUNCATED", f"{decoded} of {header.frames} frames")
                if not np.isfinite(block).all():
                    raise Undecodable("NONFINITE_SAMPLES", f"at {decoded / header.rate:.1f} s")
                decoded += len(block)
                yield block
    except MemoryError as error:
        raise Undecodable("DECODE_OOM", "the memory limit of the process was reached") from error
    except soundfile.LibsndfileError as error:
        # FLAC declares no length in bytes: a file that is cut and one that is damaged look alike.
        raise Undecodable("CORRUPT_DATA", f"cut or damaged: {error.error_string}") from error
