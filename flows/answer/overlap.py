"""Records of arms that a pool which is evaluated on has too: counted, and said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from curation import _windows
from flows.answer.sets import Set
from flows.measure.runtime import Runtime
from flows.pool_reader import Mask

NGRAM = 13
"""Words in a row that two texts share hardly ever by chance."""

Others = Mapping[str, tuple[Runtime, Sequence[Mask]]]


def counted(
    runtime: Runtime, others: Others, sets: Mapping[str, Sequence[Set]]
) -> dict[str, dict[str, dict[str, int]]]:
    """Return what the first set of each arm shares with each pool that is evaluated on.

    Returns:
        By the pool and the arm: records; digest, how many of them have a payload, or without one a
        text, that a record of that pool has; ngram, how many have 13 words in a row that one has.
    Reference: the 13 words of Brown et al. 2020, arXiv:2005.14165, appendix C.
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    arms = {
        arm: of[0][0]["uid"].implode() for arm, of in sets.items() if of and of[0][0] is not None
    }
    for reference, (reader, masks) in others.items():
        theirs = [_of_part(reader, masks, part) for part in range(len(masks))]
        digests = pl.concat([rows["digest"] for rows, _, _ in theirs]).implode()
        grams = np.unique(np.concatenate([hashes for _, hashes, _ in theirs]))
        found[reference] = {
            arm: {"records": len(uids.item()), "digest": 0, "ngram": 0}
            for arm, uids in arms.items()
        }
        for part in range(len(runtime.visible)):
            rows, hashes, of_row = _of_part(runtime, runtime.visible, part)
            by_ngram = np.zeros(rows.height, dtype=bool)
            by_ngram[of_row[np.isin(hashes, grams)]] = True
            rows = rows.with_columns(
                by_digest=rows["digest"].is_in(digests), by_ngram=pl.Series(by_ngram)
            )
            for arm, uids in arms.items():
                mine = rows.filter(rows["uid"].is_in(uids))
                found[reference][arm]["digest"] += int(mine["by_digest"].sum())
                found[reference][arm]["ngram"] += int(mine["by_ngram"].sum())
    return found


def lines(shared: Mapping[str, Mapping[str, Mapping[str, int]]]) -> list[str]:
    """Return a sentence for each pool, without its full stop."""
    return [
        f"Of the records trained on, {pool} shares "
        + ", ".join(
            f"by digest {of['digest']:,} and by {NGRAM} words in a row {of['ngram']:,} of the "
            f"{of['records']:,} of {arm}"
            for arm, of in arms.items()
        )
        for pool, arms in shared.items()
    ]


def _of_part(
    reader: Runtime, masks: Sequence[Mask], part: int
) -> tuple[pl.DataFrame, NDArray[np.uint64], NDArray[np.int64]]:
    """Return uid and digest of a part's rows, and the n-grams of their texts, each with its row."""
    rows = reader.frame(["digest", "text"], masks, part)
    windows = _windows.of_all(rows["text"].cast(pl.String), NGRAM)
    return rows.select("uid", "digest"), windows.hashes, windows.rows
