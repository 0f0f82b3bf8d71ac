"""Digest of a payload, of what it decodes to, or of its normalised text."""

from __future__ import annotations

import unicodedata
from typing import Literal

import polars as pl

from contracts import payload
from contracts.uid import digest_of
from curation.step import Role, rowwise


@rowwise(
    version=1,
    reads={"payload": Role((pl.Binary, pl.String))},
    writes={"digest": pl.Binary},
)
def content_hash(
    rows: pl.DataFrame, *, mode: Literal["bytes", "pixels", "text"] = "bytes"
) -> pl.DataFrame:
    """Give equal contents equal digests.

    `bytes` takes the payload whole; `pixels` what it decodes to, so that lossless re-encodings
    meet: of a picture the shape and the RGB values, of a clip rate and samples of every channel,
    of a volume the shape and the voxels, upright; `text` the text after NFKC, case folding and
    with every run of white space made one space.

    Reads:
        payload: the picture, the clip or the volume, or the text where there is none.
    Args:
        mode: what is hashed: the bytes, the decoded pixels (samples, voxels), or the normalised
            text.
    Reference: Aumasson et al. 2013, BLAKE2, RFC 7693 (16 bytes).
    Writes:
        digest: 16 bytes; null where the payload is null or, for `pixels`, a text or not decodable.
    Cost: one pass over the bytes; of `pixels` memory for a decoded payload twice.
    """
    of = {"bytes": digest_of, "pixels": _decoded, "text": _text}[mode]
    values = [None if value is None else of(value) for value in rows["payload"]]
    return pl.DataFrame({"digest": pl.Series(values, dtype=pl.Binary)})


def _decoded(data: bytes | str) -> bytes | None:
    if isinstance(data, str):
        return None
    try:
        return digest_of(payload.decoded(data))
    except payload.Undecodable:
        return None


def _text(value: bytes | str) -> bytes:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return digest_of(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))
