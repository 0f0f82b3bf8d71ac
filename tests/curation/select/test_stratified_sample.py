"""Strata get their parts, in proportion or evenly, and more data changes little."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from contracts.uid import mix, uniform
from curation.select.random_sample import random_sample
from curation.select.stratified_sample import stratified_sample


def strata(*sizes: int) -> pl.DataFrame:
    """Return so many records of the strata a, b, c and so on, their uids mixed."""
    names = [name for name, size in zip("abcdefgh", sizes, strict=False) for _ in range(size)]
    uid = mix(np.arange(len(names), dtype=np.uint64))
    return pl.DataFrame({"uid": uid, "group": pl.Series(names, dtype=pl.String)})


def counts(rows: pl.DataFrame, **options: object) -> dict[str | None, int]:
    kept = rows.join(stratified_sample(rows, **options), on="uid", how="semi")
    return dict(kept["group"].value_counts().sort("group").iter_rows())


def test_parts_are_in_proportion_even_or_between():
    rows = strata(600, 300, 100)
    assert counts(rows, budget=100) == {"a": 60, "b": 30, "c": 10}
    assert counts(rows, budget_ratio=0.09, power=0.0) == {"a": 30, "b": 30, "c": 30}
    # The square roots of 900, 100 are as 3 to 1.
    assert counts(strata(900, 100), budget=80, power=0.5) == {"a": 60, "b": 20}
    # What c lacks is shared.
    assert counts(strata(500, 500, 10), budget=210, power=0.0) == {"a": 100, "b": 100, "c": 10}


def test_a_stratum_gives_its_smallest_draws():
    rows = strata(40, 60)
    draw = pl.Series(uniform(rows["uid"].to_numpy(), 5, "stratified_sample"))
    drawn = rows.with_columns(draw=draw).sort("draw").group_by("group").head(10)
    want = pl.concat([drawn.filter(group="a").head(8), drawn.filter(group="b").head(10)])
    found = stratified_sample(rows, budget=18, power=0.5, seed=5)
    assert found["uid"].to_list() == want["uid"].sort().to_list()


def test_one_stratum_is_the_random_sample_and_nulls_are_a_stratum():
    rows = strata(200)
    assert stratified_sample(rows, budget=50, stream="s").equals(
        random_sample(rows, budget=50, stream="s")
    )
    half = strata(100, 100).with_columns(group=pl.col("group").replace("b", None))
    assert counts(half, budget=20) == {"a": 10, None: 10}
    assert counts(half, budget=1000) == {"a": 100, None: 100}


BUDGETS = [1, 2, 3, 4, 5, 8, 20, 21, 22, 40, 62, 63]


def test_a_larger_budget_contains_a_smaller_one():
    rows = strata(17, 5, 1, 40)
    for power in (0.0, 0.3, 1.0):
        kept = [set(stratified_sample(rows, budget=b, power=power)["uid"]) for b in BUDGETS]
        assert [len(one) for one in kept] == BUDGETS
        assert all(a < b for a, b in pairwise(kept))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_a_hundredth_of_new_records_changes_little_of_what_is_kept(power: float):
    more = strata(10_100, 5050, 1010, 101)
    rows = more.filter(pl.int_range(pl.len()).over("group") < pl.len().over("group") * 100 // 101)
    assert rows.height == 16_100
    before = stratified_sample(rows, budget=2000, power=power)
    lost = before.join(stratified_sample(more, budget=2000, power=power), on="uid", how="anti")
    assert lost.height <= 0.03 * 2000


def test_a_budget_is_needed():
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        stratified_sample(strata(3))
