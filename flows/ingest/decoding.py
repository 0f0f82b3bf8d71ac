"""What an isolated worker does with a picture: prove that it can be decoded, and digest it.

A file of its own, so that a worker imports neither polars nor pyarrow: it starts in a third of the
time and takes a third of the memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from contracts import decode
from contracts.uid import digest_of


class Seen(NamedTuple):
    """What was found of a picture; the picture itself does not travel back.

    Attributes:
        size: width and height in pixels; None where it cannot be decoded.
        notes: of `decode.Inspected`.
        code: the reason why it cannot be decoded.
    """

    digest: bytes
    size: tuple[int, int] | None
    notes: tuple[str, ...] = ()
    code: str = ""
    detail: str = ""


# As a plain tuple a Seen is pickled and read in a tenth of the time: no class need be found.
Fields = tuple[Any, ...]


def seen(image: bytes) -> Fields:
    """Decode a picture once, in a worker with resource limits; return the fields of its Seen."""
    digest = digest_of(image)
    try:
        found = decode.inspect(image)
    except decode.Undecodable as error:
        return digest, None, (), error.code, error.detail
    return digest, (found.width, found.height), found.notes


def crashed(image: bytes, reason: str) -> Fields:
    """Say what is known of a picture that killed its worker or kept it too long."""
    return digest_of(image), None, (), reason, "its decoder died or did not end"
