from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import shuffled
from curation.select.k_center import k_center


def frame(x, uids=None, dtype=pl.Float32):
    x = np.asarray(x, dtype=np.float64).reshape(len(x), -1)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def seed_that_starts_at(position, n):
    uids = np.arange(n, dtype=np.uint64)
    return next(s for s in range(1000) if shuffled(uids, s, "k_center")[0] == position)


def test_the_worked_example_on_a_line():
    # specs/methods.md 9: from 0 it picks 20, 10 and 2 at radii 20, 10 and 2; the next has 1.
    line = [0, 1, 2, 10, 11, 20]
    seed = seed_that_starts_at(0, 6)
    kept = k_center(frame(line), budget=4, seed=seed)
    assert [line[u] for u in kept["uid"]] == [0, 2, 10, 20]
    assert kept["radius"].to_list() == [None, 2, 10, 20]
    # 1 and 11 are both one away from a pick: the tie goes to the smaller uid.
    fifth = k_center(frame(line), budget=5, seed=seed).filter(~pl.col("uid").is_in(kept["uid"]))
    assert fifth.rows() == [(1, 1.0)]


def test_each_pick_is_the_farthest_from_all_before():
    x = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    picks = k_center(frame(x), budget=60).sort("radius", descending=True, nulls_last=False)
    order = picks["uid"].to_numpy().astype(int)
    for i in range(1, 60):
        distance = np.linalg.norm(x[:, None] - x[order[:i]], axis=2).min(axis=1)
        assert distance.argmax() == order[i]
        assert picks["radius"][i] == pytest.approx(distance.max(), rel=1e-5)
    assert picks["radius"].drop_nulls().is_sorted(descending=True)


@pytest.mark.parametrize("kind", ["drawn", "of whole numbers", "in clusters"])
def test_rows_that_are_passed_over_change_no_bit(kind):
    """Compared with every pick, over several blocks; whole numbers meet in many ties."""
    rng = np.random.default_rng(3)
    x = {
        "drawn": rng.standard_normal((3000, 24)),
        "of whole numbers": rng.integers(-1, 2, (3000, 5)),
        "in clusters": rng.standard_normal((7, 24))[rng.integers(0, 7, 3000)]
        + rng.standard_normal((3000, 24)) / 20,
    }[kind].astype(np.float32)
    picks = [int(shuffled(np.arange(3000, dtype=np.uint64), 0, "k_center")[0])]
    radii: list[float | None] = [None]
    square = np.full(3000, np.inf, dtype=np.float32)
    while len(picks) < 150:
        gap = x - x[picks[-1]]
        square = np.minimum(square, np.einsum("ij,ij->i", gap, gap))
        square[picks[-1]] = -1
        picks.append(int(square.argmax()))
        radii.append(float(np.sqrt(square[picks[-1]])))
    kept = k_center(frame(x), budget=150)
    assert dict(kept.iter_rows()) == dict(zip(picks, radii, strict=True))


def test_a_smaller_budget_is_a_subset_of_a_larger_one_with_the_same_radii():
    rows = frame(np.random.default_rng(1).standard_normal((80, 3)))
    kept = [set(k_center(rows, budget=b).rows()) for b in range(1, 81)]
    assert all(a < b for a, b in pairwise(kept))


@pytest.mark.parametrize("seed", range(8))
def test_the_distance_left_is_at_most_twice_the_best_possible(seed):
    x = np.random.default_rng(seed).standard_normal((11, 2))
    away = np.linalg.norm(x[:, None] - x, axis=2)
    best = min(away[:, list(c)].min(axis=1).max() for c in combinations(range(11), 3))
    kept = k_center(frame(x), budget=3, seed=seed)["uid"].to_list()
    assert best <= away[:, kept].min(axis=1).max() * (1 + 1e-6) <= 2 * best


def test_the_order_of_rows_does_not_matter():
    rows = frame(np.random.default_rng(2).standard_normal((200, 4)))
    shuffled_rows = rows.sample(fraction=1, shuffle=True, seed=1)
    assert k_center(shuffled_rows, budget=20).equals(k_center(rows, budget=20))


def test_copies_come_last_by_uid_at_radius_zero():
    rows = frame([[1, 0], [1, 0], [0, 1], [1, 0]], dtype=pl.Float16)
    kept = k_center(rows, budget=3, seed=seed_that_starts_at(2, 4))
    assert kept.rows() == [(0, pytest.approx(2**0.5)), (1, 0.0), (2, None)]


def test_a_null_vector_is_never_picked_and_a_large_budget_takes_all_others():
    rows = frame([[1, 0], [0, 0], [0, 1]])
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 2).then("vector"))
    assert k_center(rows, budget=10)["uid"].to_list() == [0, 1]
    assert k_center(rows.filter(pl.col("uid") == 2), budget=1).height == 0
    assert k_center(rows, budget_ratio=0.4).height == 1
    assert k_center(rows, budget_ratio=0.2).height == 0


def test_a_seed_or_a_stream_starts_elsewhere():
    rows = frame(np.arange(50.0))
    starts = {
        k_center(rows, budget=1, seed=s, stream=t)["uid"][0]
        for s in range(5)
        for t in ("k_center", "k_center#2")
    }
    assert len(starts) > 5


def test_wrong_budgets_and_vectors_are_errors():
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        k_center(frame([1.0]))
    with pytest.raises(DataError, match="1 of 1"):
        k_center(frame([float("inf")]), budget=1)


def test_with_chosen_records_it_goes_on_as_if_they_were_its_first_picks():
    rng = np.random.default_rng(5)
    x, had = rng.standard_normal((90, 4)), rng.standard_normal((6, 4))
    picks: list[int] = []
    for _ in range(20):
        covered = np.vstack([had, x[picks]])
        distance = np.linalg.norm(x[:, None] - covered, axis=2).min(axis=1)
        picks.append(int(distance.argmax()))
    kept = k_center(frame(x), frame(had), budget=20).sort("radius", descending=True)
    assert kept["uid"].to_list() == picks
    assert k_center(frame(x), frame(had), budget=20, seed=9).equals(kept.sort("uid"))
    # Where no chosen record has a vector the first is drawn.
    nothing = frame(had).with_columns(vector=pl.lit(None, frame(had)["vector"].dtype))
    assert k_center(frame(x), nothing, budget=9).equals(k_center(frame(x), budget=9))
    with pytest.raises(DataError, match="of 4 dimensions, chosen of 2"):
        k_center(frame(x), frame([[1, 0]]), budget=2)
