from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from contracts.errors import ConfigError
from contracts.uid import mix, uniform
from curation.select.balance_entries import balance_entries, cap_of_share, tail_share


def candidates(entries: list[list[int] | None], languages: list[str] | None = None) -> pl.DataFrame:
    uids = pl.Series(mix(np.arange(len(entries), dtype=np.uint64)))
    rows = pl.DataFrame({"uid": uids, "entries": pl.Series(entries, dtype=pl.List(pl.UInt32))})
    return rows if languages is None else rows.with_columns(language=pl.Series(languages))


def counts(*values: int) -> pl.DataFrame:
    entries = pl.Series(range(len(values)), dtype=pl.UInt32)
    return pl.DataFrame({"entry": entries, "count": pl.Series(values, dtype=pl.UInt64)})


def keep_probs(rows: pl.DataFrame, *tables: pl.DataFrame, **parameters: object) -> list[float]:
    found = balance_entries(rows, *tables, mode="online", **parameters)
    return rows.join(found, on="uid", how="left", maintain_order="left")["keep_prob"].to_list()


def zipf(records: int = 4000) -> pl.DataFrame:
    """Records of 0 to 4 entries, entry e drawn in proportion to 1 / (e + 1)."""
    rng = np.random.default_rng(0)
    weights = 1 / np.arange(1, 201)
    sizes = rng.integers(0, 5, records)
    return candidates([rng.choice(200, n, p=weights / weights.sum()).tolist() for n in sizes])


def test_a_tail_entry_is_always_kept_and_a_head_entry_with_cap_over_count():
    found = keep_probs(candidates([[0], [1], [2], [3], [4]]), counts(1, 2, 3, 4, 90), cap=4)
    assert found == pytest.approx([1, 1, 1, 1, 0.0444], abs=5e-5)


def test_two_head_entries_of_a_tenth_and_a_fifth_keep_28_percent():
    assert keep_probs(candidates([[0, 1]]), counts(100, 50), cap=10) == pytest.approx([0.28])


def test_tail_share_is_the_share_of_matches_below_the_cap():
    assert tail_share(np.array([1.0, 2, 3, 4, 90]), 5) == 0.1


def test_the_cap_of_a_share_is_the_count_where_the_ascending_share_comes_closest():
    assert cap_of_share(np.array([1.0, 2, 3, 4, 90]), 0.1) == 4
    assert cap_of_share(np.array([10.0, 10, 20, 60]), 0.2) == 10


def test_a_record_without_entries_is_dropped_and_one_with_a_tail_entry_kept():
    rows = candidates([[0], [], None, [0, 1], *[[0]] * 50])
    found = balance_entries(rows, cap=1)
    assert set(rows["uid"][1:3]).isdisjoint(found["uid"])
    assert rows["uid"][3] in found["uid"]


def test_repeats_in_a_list_count_once():
    assert keep_probs(candidates([[0, 0, 0]]), counts(10), cap=5) == [0.5]


def test_without_a_table_the_candidates_are_counted():
    assert keep_probs(candidates([[0], [0], [0], [0, 1]]), cap=1) == [0.25, 0.25, 0.25, 1.0]


def test_an_entry_that_the_table_lacks_counts_as_one():
    assert keep_probs(candidates([[7]]), counts(100), cap=1) == [1.0]


def test_raising_the_cap_only_adds():
    rows = zipf()
    kept = [set(balance_entries(rows, cap=cap)["uid"]) for cap in (1, 3, 10, 31, 100, 1000)]
    assert all(small <= large for small, large in itertools.pairwise(kept))
    assert len(kept[0]) < len(kept[-1])


def test_the_draw_of_a_record_depends_on_no_other_record():
    rows = zipf()
    table = counts(*[50 * (200 - e) for e in range(200)])
    half = rows.sample(fraction=0.5, seed=1)
    expected = balance_entries(rows, table, cap=40).join(half, on="uid", how="semi")
    assert_frame_equal(balance_entries(half, table, cap=40), expected.sort("uid"))


def test_the_size_lies_within_four_standard_deviations_of_the_sum_of_probabilities():
    rows = zipf()
    probabilities = balance_entries(rows, cap=5, mode="online")["keep_prob"].to_numpy()
    spread = math.sqrt((probabilities * (1 - probabilities)).sum())
    assert spread > 10
    for seed in range(5):
        size = balance_entries(rows, cap=5, seed=seed).height
        assert abs(size - probabilities.sum()) < 4 * spread


def test_a_budget_finds_the_cap_whose_expected_size_it_is():
    rows = zipf()
    assert sum(filter(None, keep_probs(rows, budget=700))) == pytest.approx(700, abs=1e-6)


def test_a_budget_above_all_candidates_keeps_all_that_have_entries():
    rows = zipf(200)
    with_entries = rows.filter(pl.col("entries").list.len() > 0).sort("uid")
    assert balance_entries(rows, budget=200)["uid"].equals(with_entries["uid"])


def test_the_expected_count_of_an_entry_is_at_least_the_smaller_of_count_and_cap():
    rows = zipf()
    found = rows.join(balance_entries(rows, cap=20, mode="online"), on="uid")
    after = (
        found.with_columns(pl.col("entries").list.unique())
        .explode("entries")
        .group_by("entries")
        .agg(pl.len(), expected=pl.col("keep_prob").sum())
    )
    assert (after["expected"] >= after["len"].clip(upper_bound=20) - 1e-9).all()


def test_every_language_gets_the_share_of_tail_matches_of_the_anchor():
    # English: entries of 1, 2, 3, 4 and 90 matches; a tenth lies below a cap of 5. French: 10,
    # 10, 20 and 60; the ascending shares are .1, .2, .4 and 1, so its cap is 10.
    english = [[e] for e, n in enumerate([1, 2, 3, 4, 90]) for _ in range(n)]
    french = [[e] for e, n in enumerate([10, 10, 20, 60]) for _ in range(n)]
    rows = candidates(english + french, ["en"] * 100 + ["fr"] * 100)
    found = keep_probs(rows, cap=5)
    assert found[:10] == [1.0] * 10
    assert found[99] == pytest.approx(5 / 90)
    assert [found[100], found[110], found[120], found[199]] == pytest.approx([1, 1, 1 / 2, 1 / 6])


def test_languages_with_a_table_that_does_not_count_by_language_are_refused():
    with pytest.raises(ConfigError, match="has no \\['language'\\]"):
        balance_entries(candidates([[0]], ["en"]), counts(1))


def test_languages_without_the_anchor_language_are_refused():
    with pytest.raises(ConfigError, match="anchor language 'en'"):
        balance_entries(candidates([[0]], ["fr"]))


def test_every_probability_is_the_product_over_a_records_entries():
    rows = zipf().with_columns(
        language=pl.Series([["en", "fr", None][n % 3] for n in range(4000)], dtype=pl.String)
    )
    rows = rows.with_columns(
        pl.when(pl.col("uid") % 2 == 0)
        .then("entries")
        .otherwise(
            pl.col("entries")
            .cast(pl.List(pl.Int64))
            .list.eval(pl.element() * 2**24)
            .cast(pl.List(pl.UInt32))
        )
    )
    for table in (rows.drop("language"), rows):
        languages = table.get_column("language", default=pl.Series([""] * rows.height)).to_list()
        lists = [sorted(set(entries)) for entries in table["entries"]]
        matched = [(lang, e) for lang, one in zip(languages, lists, strict=True) for e in one]
        count = Counter(matched)
        caps = dict.fromkeys(languages, 20.0)
        if "language" in table.columns:
            of = {k: np.array([n for (lang, _), n in count.items() if lang == k]) for k in caps}
            share = tail_share(of["en"], 20)
            caps |= {k: cap_of_share(of[k], share) for k in ("fr", None)}
        expected = [
            1 - math.prod(1 - min(1, caps[lang] / count[lang, e]) for e in one) if one else None
            for lang, one in zip(languages, lists, strict=True)
        ]
        assert keep_probs(table, cap=20) == pytest.approx(expected)


def test_an_exact_budget_takes_the_smallest_draw_over_probability():
    rows = zipf()
    likely = balance_entries(rows, budget=700, mode="online")
    order = uniform(likely["uid"].to_numpy(), 3, "balance_entries") / likely["keep_prob"].to_numpy()
    smallest = likely["uid"].gather(np.argsort(order)[:700])
    found = balance_entries(rows, budget=700, exact=True, seed=3)
    assert set(found["uid"]) == set(smallest)
    assert found["uid"].is_sorted()


def test_exact_without_a_budget_keeps_as_many_as_are_expected():
    rows = zipf()
    expected = balance_entries(rows, cap=5, mode="online")["keep_prob"].sum()
    assert balance_entries(rows, cap=5, exact=True).height == math.floor(expected)
    with pytest.raises(ConfigError, match="draws nothing"):
        balance_entries(rows, exact=True, mode="online")


def test_a_share_of_the_candidates_is_a_budget():
    rows = zipf()
    assert keep_probs(rows, budget_ratio=0.1) == keep_probs(rows, budget=400)
