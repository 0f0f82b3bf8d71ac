"""What an isolated worker does with a payload: prove that it can be decoded, and digest it.

A file of its own, so that a worker imports neither polars nor pyarrow: it starts in a third of the
time and takes a third of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from contracts.payload import KINDS, Inspected, Undecodable
from contracts.uid import digest_of


class Seen(NamedTuple):
    """What was found of a payload; the payload itself does not travel back.

    Attributes:
        columns: what the pool records of it, by name; None where it cannot be decoded.
        notes: of `payload.Inspected`.
        code: the reason why it cannot be decoded.
    """

    digest: bytes
    columns: Mapping[str, Any] | None
    notes: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""


LABEL_IMAGE = "label_image"
"""What a label image is called among the payloads, of which it is none."""

# As a plain tuple a Seen is pickled and read in a tenth of the time: no class need be found.
Fields = tuple[Any, ...]


def seen(payload: tuple[str, bytes]) -> Fields:
    """Decode a payload of a kind once, in a worker with limits; return the fields of its Seen."""
    kind, data = payload
    digest = digest_of(data)
    try:
        found = _label_image(data) if kind == LABEL_IMAGE else KINDS[kind].inspect(data)
    except Undecodable as error:
        return digest, None, (), error.code, error.detail
    return digest, found.columns, found.notes


def _label_image(data: bytes) -> Inspected:
    from contracts import decode

    height, width = decode.labels(data).shape
    return Inspected({"width": width, "height": height}, ())


def crashed(payload: tuple[str, bytes], reason: str) -> Fields:
    """Say what is known of a payload that killed its worker or kept it too long."""
    return digest_of(payload[1]), None, (), reason, "its decoder died or did not end"
