"""Payload kinds: what a record's encoded bytes are, how they are proven decodable, how named.

A record has one payload, a pool payloads of one kind. Decoders are imported where they are first
asked for: a source that gives texts loads none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from contracts._containers import Undecodable

__all__ = ["KINDS", "Inspected", "Kind", "Undecodable", "decoded", "kind_of"]


@dataclass(frozen=True)
class Inspected:
    """A payload proven decodable.

    Attributes:
        columns: what the pool records of it, by name.
        notes: what was normalised or is worth knowing.
    """

    columns: Mapping[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Kind:
    """One kind of payload.

    Attributes:
        suffixes: of the files that its decoder reads, with their dot.
        inspect: decodes a payload once under limits, or raises Undecodable.
        suffix: what a shard calls a payload, by its first bytes; or raises Undecodable. It may
            have a dot of its own, as nii.gz has: a key ends at the first dot of a member's name.
        decoded: shape and decoded values as bytes, equal for lossless re-encodings of one thing;
            or raises Undecodable.
        column: of the pool, which has a value where a record has such a payload.
    """

    suffixes: frozenset[str]
    inspect: Callable[[bytes], Inspected]
    suffix: Callable[[bytes], str]
    decoded: Callable[[bytes], bytes]
    column: str


def _image(data: bytes) -> Inspected:
    from contracts import decode

    found = decode.inspect(data)
    return Inspected({"width": found.width, "height": found.height}, found.notes)


def _image_suffix(data: bytes) -> str:
    from contracts import encode

    return encode.suffix(data)


def _pixels(data: bytes) -> bytes:
    from contracts import decode

    pixels_HWC = decode.image(data)
    height, width, _ = pixels_HWC.shape
    return f"{width}x{height}\n".encode() + pixels_HWC.tobytes()


def _audio(data: bytes) -> Inspected:
    from contracts import audio

    found = audio.inspect(data)
    columns = {
        "duration_s": found.frames / found.sample_rate,
        "sample_rate": found.sample_rate,
        "channels": found.channels,
    }
    return Inspected(columns, found.notes)


def _audio_suffix(data: bytes) -> str:
    from contracts import audio

    return audio.suffix(data)


def _samples(data: bytes) -> bytes:
    from contracts import audio

    return audio.decoded(data)


def _volume(data: bytes) -> Inspected:
    from contracts import volume

    found = volume.inspect(data)
    columns: dict[str, Any] = dict(zip(("width", "height", "depth"), found.size, strict=True))
    columns["channels"] = found.channels
    if found.spacing is not None:
        names = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")
        columns |= zip(names, found.spacing, strict=True)
    return Inspected(columns, found.notes)


def _volume_suffix(data: bytes) -> str:
    from contracts import volume

    return volume.suffix(data)


def _voxels(data: bytes) -> bytes:
    from contracts import volume

    values_CZYX = volume.voxels(data).values
    shape = "x".join(map(str, values_CZYX.shape))
    return f"{shape}\n".encode() + values_CZYX.tobytes()


KINDS: Mapping[str, Kind] = {
    "image": Kind(
        frozenset({
            ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".png", ".apng",
            ".webp", ".gif", ".bmp", ".dib",
        }),
        _image,
        _image_suffix,
        _pixels,
        "width",
    ),
    "audio": Kind(
        frozenset({".wav", ".wave", ".flac"}), _audio, _audio_suffix, _samples, "sample_rate"
    ),
    "volume": Kind(frozenset({".nii", ".nii.gz"}), _volume, _volume_suffix, _voxels, "depth"),
}  # fmt: skip


def kind_of(suffix: str) -> str | None:
    """Return the kind of a file or member by its suffix without the dot, None for none."""
    return next((name for name, kind in KINDS.items() if f".{suffix}" in kind.suffixes), None)


def decoded(data: bytes) -> bytes:
    """Return shape and decoded values of a payload as bytes; its kind is told by its first bytes.

    Raises:
        Undecodable: it begins like a payload of no kind, or cannot be decoded.
    """
    for kind in KINDS.values():
        with suppress(Undecodable):
            kind.suffix(data)
            break
    else:
        raise Undecodable("UNSUPPORTED_FORMAT", f"begins with {data[:8].hex(' ')}")
    return kind.decoded(data)
