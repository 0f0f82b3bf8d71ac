"""Mixtures that meet their plan: worked plans, UniMax, and every draw by a naive loop."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError, DataError
from contracts.uid import uniform
from curation.select.mixture import mixture
from curation.select.stratified_sample import stratified_sample


def domains(sizes: dict[str | None, int], tokens: list[int] | None = None) -> pl.DataFrame:
    names = [name for name, size in sizes.items() for _ in range(size)]
    uid = pl.int_range(len(names), dtype=pl.UInt64, eager=True)
    rows = pl.DataFrame({"uid": uid, "group": pl.Series(names, dtype=pl.String)})
    return rows if tokens is None else rows.with_columns(tokens=pl.Series(tokens, dtype=pl.UInt32))


def drawn(rows: pl.DataFrame, **options: object) -> dict[str | None, int]:
    """Return how many draws each domain gives."""
    kept = mixture(rows, **options).join(rows, on="uid").sort("group")
    parts = kept.group_by("group", maintain_order=True).agg(pl.col("repeats").cast(pl.Int64).sum())
    return dict(parts.iter_rows())


def test_a_plan_by_weights_is_met_and_a_short_domain_repeats():
    rows = domains({"news": 500, "code": 100, "law": 40})
    weights = {"news": 5.0, "code": 3.0, "law": 2.0}
    assert drawn(rows, budget=100, weights=weights) == {"news": 50, "code": 30, "law": 20}
    kept = mixture(rows, budget=400, weights=weights, max_repeats=4).join(rows, on="uid")
    by_domain = kept.group_by("group").agg(
        pl.col("repeats").min().alias("least"), pl.col("repeats").max().alias("most"),
        pl.col("repeats").cast(pl.Int64).sum(), pl.col("planned").first(),
    ).sort("group")  # fmt: skip
    # 120 of 100, 80 of 40 and 200 of 500.
    assert by_domain.rows() == [
        ("code", 1, 2, 120, 120.0),
        ("law", 2, 2, 80, 80.0),
        ("news", 1, 1, 200, 200.0),
    ]


def test_what_a_domain_lacks_goes_to_the_others_by_weight():
    rows = domains({"a": 1000, "b": 1000, "c": 10})
    weights = {"a": 2.0, "b": 1.0, "c": 1.0}
    assert drawn(rows, budget=400, weights=weights) == {"a": 260, "b": 130, "c": 10}
    assert drawn(rows, budget=400, weights=weights, max_repeats=4) == {"a": 240, "b": 120, "c": 40}
    assert drawn(rows, budget=9999, weights={"a": 1, "c": 3}, max_repeats=2) == {"a": 2000, "c": 20}


def unimax(available: list[int], budget: float, epochs: int) -> dict[int, float]:
    """Algorithm 1 of UniMax: the smallest language first takes its even part, or its cap."""
    found = {}
    for n, language in enumerate(order := np.argsort(available, kind="stable")):
        even = budget / (len(order) - n)
        found[int(language)] = min(even, available[language] * epochs)
        budget -= found[int(language)]
    return found


def test_power_0_with_a_cap_on_repeats_is_unimax():
    available = [700, 3, 90, 11]
    rows = domains({str(n): size for n, size in enumerate(available)})
    for budget, epochs in ((200, 4), (400, 8), (90, 2)):
        planned = unimax(available, budget, epochs)
        kept = mixture(rows, budget=budget, power=0.0, max_repeats=epochs).join(rows, on="uid")
        assert kept["repeats"].sum() == budget
        for name, part in kept.group_by("group"):
            assert part["planned"][0] == pytest.approx(planned[int(str(name[0]))])
            assert abs(int(part["repeats"].sum()) - part["planned"][0]) < 1


def naive(rows: pl.DataFrame, budget: int, weights: dict[str, float], most: int) -> dict[int, int]:
    """List every copy of every record with the time at which it comes, and take them in order."""
    draw = uniform(rows["uid"].to_numpy(), 0, "mixture")
    first = dict(rows.group_by("group").agg(pl.col("uid").min()).iter_rows())
    tie = {
        name: uniform(np.array([uid], dtype=np.uint64), 0, "mixture, ties")[0]
        for name, uid in first.items()
    }
    before = dict.fromkeys(weights, 0)
    comes = []
    for copy in range(most):
        for _, uid, name, tokens in sorted(zip(draw, *rows.get_columns(), strict=True)):
            comes.append(
                ((before[name] + tokens / 2) / weights[name], tie[name], uid, copy, tokens)
            )
            before[name] += tokens
    repeats: dict[int, int] = {}
    total = 0
    for _, _, uid, _, tokens in sorted(comes):
        total += tokens
        if total > budget:
            break
        repeats[uid] = repeats.get(uid, 0) + 1
    return repeats


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.5, 1.0, 3.0]), st.lists(st.integers(1, 9), min_size=1, max_size=6)
        ),
        min_size=1, max_size=4,
    ),
    st.integers(1, 150),
    st.integers(1, 4),
)  # fmt: skip
def test_every_draw_is_that_of_all_copies_in_order(
    made: list[tuple[float, list[int]]], budget: int, most: int
):
    rows = domains(
        {str(n): len(tokens) for n, (_, tokens) in enumerate(made)},
        [count for _, tokens in made for count in tokens],
    )
    weights = {str(n): weight for n, (weight, _) in enumerate(made)}
    kept = mixture(rows, budget=budget, weights=weights, max_repeats=most)
    assert dict(kept.select("uid", "repeats").iter_rows()) == naive(rows, budget, weights, most)


def test_a_budget_of_tokens_is_split_by_tokens():
    rng = np.random.default_rng(0)
    rows = domains({"long": 400, "short": 4000}, [*rng.integers(80, 120, 400), *([5] * 4000)])
    kept = mixture(rows, budget=10_000, weights={"long": 1, "short": 1}).join(rows, on="uid")
    tokens = dict(kept.group_by("group").agg(pl.col("tokens").sum()).iter_rows())
    assert all(abs(part - 5000) <= 120 for part in tokens.values())
    assert 10_000 - 120 < sum(tokens.values()) <= 10_000
    # Alone each domain weighs its own tokens: some 40,000 and 20,000.
    share = mixture(rows, budget_ratio=0.1).join(rows, on="uid")
    by_name = dict(share.group_by("group").agg(pl.col("tokens").sum()).iter_rows())
    assert by_name["long"] / by_name["short"] == pytest.approx(2, rel=0.1)


BUDGETS = [1, 2, 3, 9, 17, 18, 19, 40, 41, 77, 120, 195]


def test_a_larger_budget_draws_every_record_as_often_or_more():
    rows = domains({"a": 30, "b": 7, "c": 2})
    options = {"weights": {"a": 1, "b": 2, "c": 2}, "max_repeats": 5}
    runs = [
        dict(mixture(rows, budget=b, **options).select("uid", "repeats").iter_rows())
        for b in BUDGETS
    ]
    assert [sum(run.values()) for run in runs] == BUDGETS
    for small, large in pairwise(runs):
        assert all(large[uid] >= often for uid, often in small.items())


def test_without_weights_it_is_the_stratified_sample():
    rows = domains({"a": 50, "b": 20, None: 7})
    for power in (0.0, 0.5, 1.0):
        found = mixture(rows, budget=23, power=power, seed=3, stream="s")
        want = stratified_sample(rows, budget=23, power=power, seed=3, stream="s")
        assert found["uid"].to_list() == want["uid"].to_list()


def test_a_hundredth_of_new_records_changes_little_of_what_is_drawn():
    more = domains({"a": 10_100, "b": 5050, "c": 303})
    rows = more.filter(pl.int_range(pl.len()).over("group") < pl.len().over("group") * 100 // 101)
    options = {"budget": 3000, "weights": {"a": 1, "b": 1, "c": 1}, "max_repeats": 4}
    both = mixture(rows, **options).join(mixture(more, **options), on="uid", how="left")
    lost = both["repeats"].cast(pl.Int64) - both["repeats_right"].fill_null(0).cast(pl.Int64)
    assert lost.clip(0).sum() <= 0.03 * 3000


def test_what_cannot_be_planned_is_refused_and_the_unmeasured_is_not_drawn():
    rows = domains({"a": 3, "b": 3})
    with pytest.raises(DataError, match=r"no candidate is of \['c'\]; there is \['a', 'b'\]"):
        mixture(rows, budget=2, weights={"a": 1, "c": 1})
    for wrong in ({}, {"budget": 2, "budget_ratio": 0.5}):
        with pytest.raises(ConfigError, match="either budget or budget_ratio"):
            mixture(rows, **wrong)
    measured = rows.with_columns(tokens=pl.Series([1, 0, None, None, 2, 9], dtype=pl.Int64))
    assert mixture(measured, budget=99)["uid"].to_list() == [0, 1, 4, 5]
    numbered = rows.with_columns(group=pl.Series([7, 7, 7, 8, 8, 8], dtype=pl.Int64))
    assert mixture(numbered, budget=9, weights={"8": 1})["uid"].to_list() == [3, 4, 5]
