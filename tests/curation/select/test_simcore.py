from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import random_bits
from curation.fit.kmeans import kmeans
from curation.select.simcore import simcore


def frame(x, uids=None, dtype=pl.Float32):
    x = np.asarray(x)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector})


def with_cosines(cosines):
    """Return unit vectors with these cosines to two targets, and the targets, 60 degrees apart.

    Each vector has a dimension of its own for the part that neither target sees.
    """
    cosines = np.asarray(cosines, dtype=np.float64)
    n = len(cosines)
    targets = np.zeros((2, n + 2))
    targets[0, 0], targets[1, :2] = 1, (0.5, 0.75**0.5)
    plane = np.linalg.solve(targets[:, :2], cosines.T).T
    rest = np.sqrt(1 - (plane**2).sum(axis=1))
    return frame(np.hstack([plane, np.diag(rest)])), frame(targets)


def rounds_of(selection):
    return [set(part["uid"]) for part in selection.partition_by("round", maintain_order=True)]


# specs/methods.md 2, the worked example: items 0 to 4, two centroids.
EXAMPLE = [[0.9, 0.8], [0.85, 0.1], [0.2, 0.7], [0.6, 0.6], [0.1, 0.05]]


@pytest.mark.parametrize("rule", [{}, {"rule": "released", "patience": 1}])
@pytest.mark.parametrize(
    ("stop_ratio", "rounds"),
    [(0.8, [{0}, {1, 2}]), (0.5, [{0}, {1, 2}, {3}]), (0.0, [{0}, {1, 2}, {3}, {4}])],
)
def test_the_worked_example_stops_before_the_round_of_low_utility(rule, stop_ratio, rounds):
    pool, target = with_cosines(EXAMPLE)
    assert rounds_of(simcore(pool, target, stop_ratio=stop_ratio, **rule)) == rounds


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_the_worked_example_at_a_budget_of_three(rule):
    pool, target = with_cosines(EXAMPLE)
    found = simcore(pool, target, budget=3, rule=rule)
    assert found["uid"].to_list() == [0, 1, 2]
    assert found["round"].to_list() == [1, 2, 2]
    assert found["centroid"].to_list() == [0, 0, 1]
    assert found["cosine"].to_list() == pytest.approx([0.9, 0.85, 0.7])


def test_the_second_worked_example_stops_after_one_round():
    # specs/systems-1.md L63: round 1 takes u1 and u2 at utility .80; round 2 u3 alone at .40.
    pool, target = with_cosines([[0.9, 0.1], [0.8, 0.7], [0.2, 0.6], [0.1, 0.1]])
    assert rounds_of(simcore(pool, target)) == [{0, 1}]
    assert rounds_of(simcore(pool, target, stop_ratio=0.49)) == [{0, 1}, {2}]


def test_the_released_rule_compares_with_the_round_of_its_patience():
    # Utilities .85, .775, .60, .075: against round 3, 0.95 * .60, round 4 is the first to stop.
    pool, target = with_cosines(EXAMPLE)
    for patience, count in ((1, 1), (2, 3), (3, 4), (20, 5)):
        found = simcore(pool, target, rule="released", patience=patience)
        assert found.height == count
    assert simcore(pool, target, patience=3).height == 1


def reference(pool, target, budget):
    """Rounds over the full matrix and sorted queues, item by item, as the specification says."""
    x, c = (t["vector"].to_numpy().astype(np.float64) for t in (pool, target))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    c /= np.linalg.norm(c, axis=1, keepdims=True)
    cosines = x @ c.T
    queues = [list(np.lexsort((np.arange(len(x)), -cosines[:, q]))) for q in range(len(c))]
    taken, picks, utilities = set(), [], []
    while len(taken) < min(budget, len(x)):
        this, total = {}, 0.0
        for q, queue in enumerate(queues):
            item = next(i for i in queue if i not in taken)
            total += cosines[item, q]
            if item not in this or cosines[item, q] > this[item][0]:
                this[item] = (cosines[item, q], q)
        utilities.append(total / len(c))
        ordered = sorted(this, key=lambda i: (-this[i][0], i))[: budget - len(taken)]
        taken |= set(this)
        picks += [(i, len(utilities), this[i][1], this[i][0]) for i in ordered]
    return picks, utilities


def assert_agrees(found, picks):
    expected = sorted(picks)
    assert found.select("uid", "round", "centroid").rows() == [p[:3] for p in expected]
    np.testing.assert_allclose(found["cosine"], [p[3] for p in expected], atol=2e-7)


@pytest.mark.parametrize("budget", [1, 9, 10, 57, 199, 200, 500])
@pytest.mark.parametrize("seed", [0, 1])
def test_it_agrees_with_sorted_queues_on_200_by_10(seed, budget):
    rng = np.random.default_rng(seed)
    pool, target = (frame(rng.standard_normal((n, 8)), dtype=pl.Float16) for n in (200, 10))
    picks, _ = reference(pool, target, budget)
    assert_agrees(simcore(pool, target, budget=budget), picks)


def test_it_agrees_where_all_centroids_want_the_same_and_the_depth_must_grow():
    rng = np.random.default_rng(2)
    base = rng.standard_normal(6)
    pool = frame(rng.standard_normal((1500, 6)))
    target = frame(base + 0.02 * rng.standard_normal((40, 6)))
    picks, utilities = reference(pool, target, 900)
    assert picks[-1][1] > 2 * 900 / 40  # rounds deeper than an even spread
    assert_agrees(simcore(pool, target, budget=900), picks)
    stop = next(r for r, f in enumerate(utilities, 1) if f < 0.6 * utilities[0])
    found = simcore(pool, target, stop_ratio=0.6)
    assert_agrees(found, [p for p in picks if p[1] < stop])


def test_copies_are_taken_by_uid_even_when_there_are_more_than_the_depth():
    pool = frame(np.repeat([[1.0, 0.0]], 500, axis=0), np.random.default_rng(0).permutation(500))
    found = simcore(pool, frame([[1.0, 0.0], [1.0, 0.1]]), budget=3)
    assert found["uid"].to_list() == [0, 1, 2]
    assert found["round"].to_list() == [1, 2, 3]


@pytest.mark.parametrize("rule", ["paper", "released"])
def test_a_smaller_budget_is_a_subset_of_a_larger_one_with_the_same_evidence(rule):
    rng = np.random.default_rng(3)
    pool, target = (frame(rng.standard_normal((n, 6))) for n in (120, 11))
    kept = [set(simcore(pool, target, budget=b, rule=rule).rows()) for b in range(1, 121)]
    assert all(a < b for a, b in itertools.pairwise(kept))


def test_the_released_rule_cuts_the_last_round_by_draws():
    rng = np.random.default_rng(4)
    pool, target = (frame(rng.standard_normal((n, 16))) for n in (300, 12))
    whole = simcore(pool, target, budget=300)
    first = whole.filter(pl.col("round") == 1)["uid"].to_numpy()
    assert len(first) > 6
    for seed in range(3):
        cut = simcore(pool, target, budget=5, rule="released", seed=seed)
        draws = random_bits(first, seed, "simcore")
        assert set(cut["uid"]) == set(first[draws.argsort()[:5]])


def test_the_released_rule_stops_at_fifty_records_a_target_record():
    pool = frame(np.c_[np.ones(200), np.linspace(0, 0.1, 200)])
    target = frame([[1.0, 0.0]])
    assert simcore(pool, target, rule="released").height == 50
    assert simcore(pool, target).height == 200
    assert simcore(pool, target, rule="released", budget=60).height == 60


def test_a_target_inside_the_pool_returns_itself_in_the_first_round():
    x = np.random.default_rng(5).standard_normal((60, 20))
    found = simcore(frame(x), frame(x[10:30], np.arange(10, 30)), budget=20)
    assert found["uid"].to_list() == list(range(10, 30))
    assert set(found["round"]) == {1}
    assert found["cosine"].to_list() == [1.0] * 20
    assert found["centroid"].to_list() == list(range(20))


def test_utilities_never_rise():
    rng = np.random.default_rng(6)
    pool, target = (frame(rng.standard_normal((n, 5))) for n in (150, 7))
    _, utilities = reference(pool, target, 150)
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(utilities))
    kept = [simcore(pool, target, stop_ratio=s).height for s in (1.0, 0.9, 0.7, 0.4, 0.0)]
    assert kept == sorted(kept)
    assert kept[0] < kept[-1] < 150  # below zero it always stops


def test_neither_the_order_of_rows_nor_the_length_of_vectors_matters():
    rng = np.random.default_rng(7)
    x = rng.standard_normal((400, 9)).astype(np.float16)
    target = frame(rng.standard_normal((300, 9)), dtype=pl.Float16)
    rows = frame(x, dtype=pl.Float16)
    found = simcore(rows, target, budget=70, num_centroids=8)
    for other in (
        rows.sample(fraction=1, shuffle=True, seed=1),
        frame(x * np.float16(4), dtype=pl.Float16),
    ):
        shuffled = target.sample(fraction=1, shuffle=True, seed=2)
        assert simcore(other, shuffled, budget=70, num_centroids=8).equals(found)


def test_a_larger_target_is_clustered_first():
    rng = np.random.default_rng(8)
    pool, target = (frame(rng.standard_normal((n, 6))) for n in (200, 90))
    table = kmeans(target, num_clusters=5, seed=3, stream="simcore")
    centroids = table.select("vector", uid=pl.col("centroid").cast(pl.UInt64))
    found = simcore(pool, target, budget=40, num_centroids=5, seed=3)
    assert found.equals(simcore(pool, centroids, budget=40))
    assert not found.equals(simcore(pool, target, budget=40, num_centroids=5, seed=4))
    assert not found.equals(simcore(pool, target, budget=40, num_centroids=90, seed=3))


def test_it_finds_the_relevant_part_of_an_open_set():
    rng = np.random.default_rng(9)
    modes = rng.standard_normal((40, 32))
    label = rng.integers(40, size=4000)
    pool = frame(modes[label] + 0.5 * rng.standard_normal((4000, 32)))
    target = frame(modes[rng.integers(4, size=200)] + 0.5 * rng.standard_normal((200, 32)))
    found = simcore(pool, target, budget=200, num_centroids=20)
    precision = (label[found["uid"].to_numpy()] < 4).mean()
    assert precision > 0.9 > 2 * (label < 4).mean()


def test_a_budget_beyond_the_candidates_takes_all_that_have_a_direction():
    pool = frame([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    pool = pool.with_columns(vector=pl.when(pl.col("uid") != 3).then("vector"))
    found = simcore(pool, frame([[1.0, 0.0]]), budget=99)
    assert found["uid"].to_list() == [0, 2]
    assert found["cosine"].to_list() == [1, -1]
    assert simcore(pool, frame([[1.0, 0.0]]), budget_ratio=0.25)["uid"].to_list() == [0]


def test_nothing_similar_is_taken_without_a_budget():
    found = simcore(frame([[-1.0, 0.0]]), frame([[1.0, 0.0]]))
    assert found.height == 0
    assert found.columns == ["uid", "round", "centroid", "cosine"]
    assert simcore(frame([[-1.0, 0.0]]), frame([[1.0, 0.0]]), stop_ratio=1.0).height == 0
    assert simcore(frame(np.empty((0, 2))), frame([[1.0, 0.0]]), budget=5).height == 0


def test_a_budget_and_a_stop_ratio_end_it_at_the_first_that_is_met():
    pool, target = with_cosines(EXAMPLE)
    assert simcore(pool, target, budget=2, stop_ratio=0.8).height == 2
    assert simcore(pool, target, budget=5, stop_ratio=0.8).height == 3


def test_wrong_targets_and_budgets_are_errors():
    pool = frame([[1.0, 0.0]])
    with pytest.raises(DataError, match="target has no vector"):
        simcore(pool, frame(np.zeros((2, 2))))
    with pytest.raises(DataError, match="2 dimensions, a target of 3"):
        simcore(pool, frame([[1.0, 0.0, 0.0]]))
    with pytest.raises(ConfigError, match="either budget or budget_ratio"):
        simcore(pool, pool, budget=1, budget_ratio=0.5)
