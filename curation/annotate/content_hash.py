"""Digest of a payload, of its decoded pixels, or of its normalised text."""

from __future__ import annotations

import unicodedata
from typing import Literal

import polars as pl

from contracts import decode
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

    `bytes` takes the payload whole; `pixels` the decoded image (shape and RGB values), so that
    lossless re-encodings meet; `text` the text after NFKC, case folding and with every run of
    white space made one space.

    Reads:
        payload: the picture or the clip, or the text where there is none.
    Args:
        mode: what is hashed: the bytes, the decoded pixels, or the normalised text.
    Reference: Aumasson et al. 2013, BLAKE2, RFC 7693 (16 bytes).
    Writes:
        digest: 16 bytes; null where the payload is null or, for `pixels`, not decodable.
    Cost: one pass over the bytes.
    """
    of = {"bytes": digest_of, "pixels": _pixels, "text": _text}[mode]
    values = [None if value is None else of(value) for value in rows["payload"]]
    return pl.DataFrame({"digest": pl.Series(values, dtype=pl.Binary)})


def _pixels(data: bytes | str) -> bytes | None:
    if isinstance(data, str):
        return None
    try:
        pixels = decode.image(data)
    except decode.Undecodable:
        return None
    height, width, _ = pixels.shape
    return digest_of(f"{width}x{height}\n".encode() + pixels.tobytes())


def _text(value: bytes | str) -> bytes:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return digest_of(" ".join(unicodedata.normalize("NFKC", text).casefold().split()))
