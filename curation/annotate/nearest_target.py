"""The nearest record of a target pool, such as an evaluation's, by hash and by vector."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts.errors import DataError
from curation import _bits
from curation._evaluation import Same, directions, names, nearest
from curation.step import Role, Table, one_of, rowwise

HIT = {"by": pl.String, "item": pl.String, "distance": pl.UInt16, "cosine": pl.Float32}
HITS = pl.List(pl.Struct(HIT))


@rowwise(
    version=1,
    reads={
        "bits": Role((pl.UInt64, pl.Binary), default="perceptual_hash.bits", optional=True),
        "vector": Role((pl.Array, pl.List), optional=True),
    },
    writes={"distance": pl.UInt16, "cosine": pl.Float32, "hits": HITS},
    tables={"target": Table(pool=True)},
    check=one_of("bits", "vector"),
)
def nearest_target(rows: pl.DataFrame, target: pl.DataFrame) -> pl.DataFrame:
    """Compare a record with all records of a target pool; the search is exact.

    A rule drops what is near to an evaluation's pictures: `nearest_target.distance > 6`, or a
    cosine under the encoder's own threshold, `nearest_target.cosine < 0.9 OR ... IS NULL`.

    Reads:
        bits: what is compared by the bits in which it differs; alone, where no role is bound.
        vector: what is compared by its cosine.
        target: the records, `pool:<name>` or `pool:./folder`; their hashes and vectors are
            measured as the pool's own are.
    Reference: Gadre et al. 2023, DataComp, arXiv:2304.14108, which drops by the cosine of a copy
    detector's vectors to those of its evaluations.
    Writes:
        distance: bits to the nearest target; null where either side has none, or no role is bound.
        cosine: to the nearest target, in [-1, 1]; null likewise, and of a vector of zeros.
        hits: what is nearest `by` "bits" and by "vector": the `item`, its uid in hexadecimal digits
            (the `id` of a table that has one), and how far it is; ties to the first name.
    Cost: a target takes 1 ns a record and word of 64 bits, or D multiplications.
    Raises:
        ConfigError: neither role is bound.
        DataError: bits or vectors of different lengths; NaN or infinity.
    """
    near = [pl.DataFrame(schema={"row": pl.Int64, **HIT})]
    if "bits" in rows.columns:
        near.append(_by_bits(rows["bits"], _strings(Same(target))))
    if "vector" in rows.columns:
        items = directions(Same(target))
        row, at, cosine = nearest("nearest_target", rows["vector"], items)
        near.append(_hits(row, "vector", items.items["id"].gather(at), cosine=cosine))
    listed = (
        pl.concat(near)
        .group_by("row", maintain_order=True)
        .agg(pl.col("distance", "cosine").max(), hits=pl.struct(*HIT))
    )
    every = pl.DataFrame({"row": pl.int_range(rows.height, dtype=pl.Int64, eager=True)})
    joined = every.join(listed, on="row", how="left", maintain_order="left").drop("row")
    return joined.with_columns(pl.col("hits").fill_null(pl.lit([], dtype=HITS)))


class _Targets(NamedTuple):
    """The targets that have bits: as (n, words), and their names."""

    values: NDArray[Any]
    names: pl.Series


@lru_cache(maxsize=2)
def _strings(same: Same) -> _Targets:
    assert same.table is not None
    table = same.table.select("bits", id=names(same.table)).drop_nulls("bits")
    table = table.sort("id", maintain_order=True)
    return _Targets(_bits.words(table["bits"]), table["id"])


def _by_bits(bits: pl.Series, targets: _Targets) -> pl.DataFrame:
    """Return `row` and the hit of each record that has bits."""
    from curation import _hamming

    row = np.flatnonzero(bits.is_not_null().to_numpy())
    words = _bits.words(bits.drop_nulls())
    if not len(words) or not len(targets.values):
        return pl.DataFrame(schema={"row": pl.Int64, **HIT})
    if words.shape[1] != targets.values.shape[1]:
        raise DataError(
            f"nearest_target: bits of {words.shape[1]} words of 64, of targets "
            f"{targets.values.shape[1]}: make both by the same hash."
        )
    at, distance = _hamming.nearest(words, targets.values)
    return _hits(row, "bits", targets.names.gather(at), distance=distance)


def _hits(
    row: NDArray[np.int64], by: str, items: pl.Series, **measured: NDArray[np.number]
) -> pl.DataFrame:
    columns = {"row": row, "by": [by] * len(row), "item": items}
    missing = {name: None for name in ("distance", "cosine") if name not in measured}
    made = pl.DataFrame({**columns, **measured}).with_columns(
        pl.lit(value).alias(name) for name, value in missing.items()
    )
    return made.select("row", *HIT).cast(pl.Schema(HIT))
