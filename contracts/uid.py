"""Who a record is, and the only randomness that curation uses: a function of (uid, seed, stream).

Both are blake2b-based or splitmix-based integers, so that they depend on no row order, part,
worker, process or library version.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import polars as pl

UIDs = NDArray[np.uint64]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def uid_of(source: str, source_id: str) -> int:
    """Return a record's uid, as `uids_of`."""
    return int.from_bytes(_name_digest(_prefix(source), source_id), "big")


def uids_of(source: str, source_ids: Iterable[str]) -> UIDs:
    """Return the uids of a source's records.

    A uid is 8 bytes of blake2b over the length of the source's name, the name and the id.
    """
    prefix = _prefix(source)
    digests = b"".join([_name_digest(prefix, source_id) for source_id in source_ids])
    return np.frombuffer(digests, dtype=">u8").astype(np.uint64)


def _prefix(source: str) -> bytes:
    name = source.encode("utf-8", "surrogateescape")
    return len(name).to_bytes(4, "big") + name


def _name_digest(prefix: bytes, source_id: str) -> bytes:
    key = source_id.encode("utf-8", "surrogateescape")
    return hashlib.blake2b(prefix + key, digest_size=8).digest()


def digest_of(content: bytes | str) -> bytes:
    """Return the 16-byte blake2b digest of a payload, or of a text in UTF-8."""
    data = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(data, digest_size=16).digest()


def hex_uid(uid: int) -> str:
    """Return the 16 hexadecimal digits by which JSON, shards and pages show a uid."""
    return f"{uid:016x}"


def parse_uid(text: str) -> int | None:
    """Return the uid that 16 hexadecimal digits name, None where the text is something else."""
    # `int` alone would also take "0x", a sign, underscores and digits of other scripts.
    return int(text, 16) if re.fullmatch("[0-9a-fA-F]{16}", text) else None


def parse_uids(values: pl.Series) -> pl.Series:
    """Return a column of uids that came back in, as UInt64; null where a value is no uid.

    Integers are uids. Texts are uids as every page and export shows them, 16 hexadecimal digits
    each, or, where one of them has another length, decimal numbers.
    """
    import polars as pl

    if values.dtype.is_integer():
        return values.cast(pl.UInt64, strict=False)
    if values.dtype != pl.String:
        return pl.Series(values.name, [None] * len(values), dtype=pl.UInt64)
    if bool(values.str.contains("^[0-9a-fA-F]{16}$").all()):
        return values.str.to_integer(base=16, dtype=pl.UInt64)
    digits = values.str.contains(r"^[0-9]+$")
    return values.set(~digits, None).str.to_integer(dtype=pl.UInt64, strict=False)


def mix(values: UIDs) -> UIDs:
    """Scramble 64-bit integers one to one (the finaliser of splitmix64)."""
    z = values.astype(np.uint64, copy=True)
    with np.errstate(over="ignore"):
        z += _GOLDEN
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def random_bits(uids: UIDs, seed: int, stream: str) -> UIDs:
    """Return 64 random bits for each uid, independent between seeds and streams."""
    name = hashlib.blake2b(f"{seed}\0{stream}".encode(), digest_size=8).digest()
    return mix(mix(np.asarray(uids, dtype=np.uint64)) ^ np.uint64(int.from_bytes(name, "big")))


def uniform(uids: UIDs, seed: int, stream: str) -> NDArray[np.float64]:
    """Return a draw in [0, 1) for each uid: a function of (uid, seed, stream) and nothing else.

    53 bits of precision, as `random.random`. Two streams never share draws, so one selection
    cannot undo another; the same stream at a higher threshold only adds records.
    """
    return (random_bits(uids, seed, stream) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def shuffled(uids: UIDs, seed: int, stream: str) -> NDArray[np.int64]:
    """Return the permutation that orders uids by their random bits, ties by uid."""
    uids = np.asarray(uids, dtype=np.uint64)
    return np.lexsort((uids, random_bits(uids, seed, stream)))


def set_digest(pairs: Iterable[bytes]) -> int:
    """Return the sum modulo 2**128 of blake2b over each item: parts add up without a sort."""
    total = 0
    for item in pairs:
        total += int.from_bytes(hashlib.blake2b(item, digest_size=16).digest(), "big")
    return total % 2**128
