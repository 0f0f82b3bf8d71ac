"""What an isolated worker does with a picture: prove that it can be decoded, and digest it.

A file of its own, so that a worker imports neither polars nor pyarrow: it starts in a third of the
time and takes a third of the memory.
"""

from __future__ import annotations

from typing import NamedTuple

from contracts import decode
from contracts.uid import digest_of


class Seen(NamedTuple):
    """What was found of a picture; the picture itself does not travel back."""

    digest: bytes
    inspected: decode.Inspected | None
    code: str | None = None
    detail: str = ""


def seen(image: bytes) -> Seen:
    """Decode a picture once, in a worker with resource limits."""
    digest = digest_of(image)
    try:
        return Seen(digest, decode.inspect(image))
    except decode.Undecodable as error:
        return Seen(digest, None, error.code, error.detail)


def crashed(image: bytes, reason: str) -> Seen:
    """Say what is known of a picture that killed its worker or kept it too long."""
    return Seen(digest_of(image), None, reason, "its decoder died or did not end")
