"""Payload kinds: what a record's encoded bytes are, how they are proven decodable, how named.

A record has one payload, a pool payloads of one kind. Decoders are imported where they are first
asked for: a source that gives texts loads none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from contracts._containers import Undecodable

__all__ = ["KINDS", "Inspected", "Kind", "Undecodable", "kind_of"]


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
        suffix: what a shard calls a payload, by its first bytes; or raises Undecodable.
        column: of the pool, which has a value where a record has such a payload.
    """

    suffixes: frozenset[str]
    inspect: Callable[[bytes], Inspected]
    suffix: Callable[[bytes], str]
    column: str


def _image(data: bytes) -> Inspected:
    from contracts import decode

    found = decode.inspect(data)
    return Inspected({"width": found.width, "height": found.height}, found.notes)


def _image_suffix(data: bytes) -> str:
    from contracts import encode

    return encode.suffix(data)


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


KINDS: Mapping[str, Kind] = {
    "image": Kind(
        frozenset({
            ".jpg", ".jpeg", ".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjp", ".png", ".apng",
            ".webp", ".gif", ".bmp", ".dib",
        }),
        _image,
        _image_suffix,
        "width",
    ),
    "audio": Kind(frozenset({".wav", ".wave", ".flac"}), _audio, _audio_suffix, "sample_rate"),
}  # fmt: skip


def kind_of(suffix: str) -> str | None:
    """Return the kind of a file or member by its suffix without the dot, None for none."""
    return next((name for name, kind in KINDS.items() if f".{suffix}" in kind.suffixes), None)
