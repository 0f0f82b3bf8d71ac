"""Keep the records that a list names, or all but these."""

from __future__ import annotations

import logging

import polars as pl

from contracts.errors import ConfigError, DataError
from contracts.uid import parse_uids
from curation.step import Role, Table, selector

_log = logging.getLogger(__name__)


@selector(
    version=1,
    reads={"source_id": Role(pl.String, default="source_id", optional=True)},
    tables={"ids": Table()},
)
def uid_list(candidates: pl.DataFrame, ids: pl.DataFrame, *, invert: bool = False) -> pl.DataFrame:
    """Keep the candidates whose uid or source id stands in the list; with `invert` the others.

    The list is one of
    * `uid` of integers, or of 16 hexadecimal digits each: our uids, as exports hold them;
    * `source_id` of strings, or `uid` of other strings: ids of the source, such as DataComp's;
    * a text file of either, one a line;
    * `f0`, `f1` of UInt64: DataComp's subset file, the halves of a source id of 32 hexadecimal
      digits.

    Ids of the list that no candidate has are counted in the log: earlier rules may have dropped
    them.

    Reads:
        source_id: matches a list of the source's ids.
        ids: the list, `file:<path>`.
    Args:
        invert: whether to keep the others.
    Reference: Gadre et al. 2023, DataComp, arXiv:2304.14108 (subset files).
    Cost: a hash join; some 50 bytes an id.
    Raises:
        ConfigError: the list has none of these columns, or source ids and no role source_id.
        DataError: no candidate is in the list.
    """
    keys, listed = _keys(candidates, ids)
    listed = listed.drop_nulls().unique()
    named = candidates.select("uid").hstack(keys).join(listed, on=listed.columns, how="semi")
    found = named.select(listed.columns).n_unique()
    if found < listed.height:
        _log.warning(
            "uid_list: %d of %d ids are not among the candidates",
            listed.height - found,
            listed.height,
        )
    if candidates.height and not found:
        raise DataError(
            f"uid_list: none of {listed.height} ids is among {candidates.height} candidates; the "
            f"list names {listed.columns}, such as {listed.head(1).row(0) if listed.height else ()}"
            ": is it of another pool or source?"
        )
    kept = candidates.join(named, on="uid", how="anti" if invert else "semi")
    return kept.select("uid")


def _keys(candidates: pl.DataFrame, ids: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the column or two by which the list names records: of the candidates, of the list."""
    if "uid" in ids.columns:
        uids = parse_uids(ids["uid"])
        if ids["uid"].dtype.is_integer() or uids.null_count() == ids["uid"].null_count():
            return candidates.select(key="uid"), uids.to_frame("key")
    strings = [n for n in ("source_id", "uid") if ids.schema.get(n) == pl.String]
    if not strings and not {"f0", "f1"} <= set(ids.columns):
        raise ConfigError(
            f"uid_list: the list has the columns {ids.columns}; it needs uid (integers "
            "or 16 hexadecimal digits), source_id (strings), or DataComp's f0 and f1."
        )
    if "source_id" not in candidates.columns:
        raise ConfigError("uid_list: the list holds source ids: bind the role source_id.")
    if strings:
        return candidates.select(key="source_id"), ids.select(key=strings[0])
    source_id = pl.col("source_id")
    digits = pl.when(source_id.str.contains(r"^[0-9a-fA-F]{32}$")).then(source_id)
    halves = {"high": digits.str.head(16), "low": digits.str.tail(16)}
    return (
        candidates.select(
            **{n: h.str.to_integer(base=16, dtype=pl.UInt64) for n, h in halves.items()}
        ),
        ids.select(high=pl.col("f0").cast(pl.UInt64), low=pl.col("f1").cast(pl.UInt64)),
    )
