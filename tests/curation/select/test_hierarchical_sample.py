"""Even samples of a tree: the worked cuts on each level, against a naive recursion."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.uid import uniform
from curation.select.balance_groups import balance_groups
from curation.select.hierarchical_sample import hierarchical_sample


def tree(sizes: Sequence[Sequence[int]], **columns: object) -> pl.DataFrame:
    """Return records of coarse clusters of fine ones, given each fine one's size."""
    paths, fine = [], 0
    for coarse, below in enumerate(sizes):
        for size in below:
            paths += [[coarse, fine]] * size
            fine += 1
    uid = pl.int_range(len(paths), dtype=pl.UInt64, eager=True)
    path = pl.Series(paths, dtype=pl.List(pl.UInt32))
    return pl.DataFrame({"uid": uid, "path": path, **columns})


def parts(rows: pl.DataFrame, budget: int, level: int, **options: object) -> list[int]:
    kept = rows.join(hierarchical_sample(rows, budget=budget, **options), on="uid", how="semi")
    count = int(rows["path"].list.get(level).max() or 0) + 1
    return np.bincount(kept["path"].list.get(level), minlength=count).tolist()


@pytest.mark.parametrize(
    ("sizes", "budget", "want"),
    [
        ([10, 3, 1], 9, [5, 3, 1]),
        ([10, 3, 1], 8, [4, 3, 1]),
        ([100, 10, 1], 30, [19, 10, 1]),
        ([4, 4], 100, [4, 4]),
    ],
)
def test_the_worked_numbers_on_either_level(sizes: list[int], budget: int, want: list[int]):
    assert parts(tree([[size] for size in sizes]), budget, 0) == want
    assert parts(tree([sizes]), budget, 1) == want


def test_a_part_is_cut_again_by_finer_clusters():
    rows = tree([[100, 10, 1], [30, 30]])
    assert parts(rows, 60, 0) == [30, 30]
    assert parts(rows, 60, 1) == [19, 10, 1, 15, 15]


def cut(sizes: list[int], budget: int) -> tuple[int, int]:
    """Return the largest cut that fits and what it leaves."""
    c = max(c for c in range(max(sizes) + 1) if sum(min(c, s) for s in sizes) <= budget)
    return c, budget - sum(min(c, s) for s in sizes)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.lists(st.integers(1, 15), min_size=1, max_size=4), min_size=1, max_size=4),
    st.integers(1, 99),
)
def test_every_level_is_a_fair_cut(sizes: list[list[int]], budget: int):
    rows = tree(sizes)
    budget = min(budget, rows.height)
    coarse, fine = parts(rows, budget, 0), parts(rows, budget, 1)
    families = [(coarse, [sum(below) for below in sizes], budget)]
    for part, below in zip(coarse, sizes, strict=True):
        families.append((fine[: len(below)], below, part))
        fine = fine[len(below) :]
    for found, whole, of in families:
        level, left = cut(whole, of)
        extra = [f - min(level, s) for f, s in zip(found, whole, strict=True)]
        assert set(extra) <= {0, 1}
        assert sum(extra) == left
        assert all(f <= s for f, s in zip(found, whole, strict=True))


def test_a_finest_cluster_gives_its_smallest_draws_or_the_closest():
    cosine = pl.Series([0.1, 0.9, 0.5, 0.9, 0.2, 0.3, None], dtype=pl.Float32)
    rows = tree([[4, 3]], cosine=cosine)
    assert hierarchical_sample(rows, budget=4, strategy="closest")["uid"].to_list() == [1, 3, 4, 5]
    assert hierarchical_sample(rows, budget=9, strategy="closest").height == 6
    draw = uniform(np.arange(7, dtype=np.uint64), 2, "hierarchical_sample")
    first = [draw[:4].argmin(), 4 + draw[4:].argmin()]
    assert hierarchical_sample(rows, budget=2, seed=2)["uid"].to_list() == first
    with pytest.raises(ConfigError, match="needs `cosine`"):
        hierarchical_sample(rows.drop("cosine"), budget=2, strategy="closest")


def test_a_larger_budget_contains_a_smaller_one_and_null_paths_are_never_kept():
    rows = tree([[9, 1], [4, 7, 2], [1]])
    kept = [set(hierarchical_sample(rows, budget=b)["uid"]) for b in range(1, 25)]
    assert [len(one) for one in kept] == list(range(1, 25))
    assert all(a < b for a, b in pairwise(kept))
    some = rows.with_columns(path=pl.when(pl.col("uid") > 3).then("path"))
    assert hierarchical_sample(some, budget=99)["uid"].to_list() == list(range(4, 24))
    assert hierarchical_sample(some.head(2), budget=99).height == 0


def test_one_level_keeps_as_many_of_each_as_balance_groups():
    rows = tree([[7], [2], [11]]).with_columns(group=pl.col("path").list.get(0))
    for budget in range(1, 21):
        kept = rows.join(balance_groups(rows, budget=budget), on="uid", how="semi")
        want = np.bincount(kept["group"], minlength=3)
        assert sorted(parts(rows, budget, 0)) == sorted(want)
