from __future__ import annotations

import math

import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.concepts import concepts


def test_head_tail_and_entropy_are_those_of_a_hand_made_pool():
    # Eight records name entry 7, two of them entry 3 as well, one names entry 5 alone.
    entries = [[7], [7], [7], [7], [7], [7], [3, 7, 7], [3, 7], [5], [], None]
    kept = [True, True, *[False] * 4, False, True, True, True, None]
    found = concepts(
        pl.DataFrame(
            {"entries": entries, "kept": kept}, schema_overrides={"entries": pl.List(pl.UInt32)}
        ),
        cap=2,
    )
    assert found.table.rows() == [(7, 8, 3, 3 / 8), (3, 2, 1, 1 / 2), (5, 1, 1, 1.0)]
    assert found.head(1)["entry"].to_list() == [7]
    assert found.tail(2)["entry"].to_list() == [3, 5]
    assert found.tail_ratio == pytest.approx((3 / 11, 2 / 5))
    before = -sum(p * math.log2(p) for p in (8 / 11, 2 / 11, 1 / 11))
    after = -sum(p * math.log2(p) for p in (3 / 5, 1 / 5, 1 / 5))
    assert found.entropy == pytest.approx((before, after))
    assert found.effective == pytest.approx((2**before, 2**after))


def test_repeats_count_as_draws_and_nothing_kept_has_no_entropy():
    rows = pl.DataFrame({"entries": [[1], [2]], "repeats": [3, None]})
    found = concepts(rows)
    assert found.table.rows() == [(1, 1, 3, 3.0), (2, 1, 0, 0.0)]
    nothing = concepts(rows.with_columns(repeats=0))
    assert math.isnan(nothing.tail_ratio[1])
    assert nothing.effective == (2.0, 0.0)
    with pytest.raises(ConfigError, match="needs the columns"):
        concepts(rows.drop("repeats"))
