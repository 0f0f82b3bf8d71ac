from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import unit
from evaluation.protocols.clustering import agreement, clustering, kmeans


def blobs(count: int, *, spread: float) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    label = np.arange(count) % 6
    centre = 3 * np.eye(6, 10)
    return centre[label] + spread * rng.normal(size=(count, 10)), label


def partitions() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(1)
    return [(rng.integers(0, 2 + i, 40), rng.integers(0, 4, 40)) for i in range(12)]


def test_groups_that_lie_apart_are_found_and_scored_one() -> None:
    x_ND, label = blobs(90, spread=0.1)
    for metric in clustering(x_ND, label).values():
        assert metric.value == pytest.approx(1)
        assert metric.n == 90


def test_a_case_that_one_counts_by_hand() -> None:
    # Pairs in a cluster: ab, cd. With a label: ab, ac, bc. Both: ab. By chance 2 * 3 / 6 = 1.
    found = agreement(["x", "x", "y", "y"], [1, 1, 1, 2])
    assert found["ari"].value == pytest.approx((1 - 1) / ((2 + 3) / 2 - 1))
    # Of two equal halves I = H(label) - 1/2 ln 2 and H(cluster) = ln 2.
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    expected = (entropy - math.log(2) / 2) / ((entropy + math.log(2)) / 2)
    assert found["nmi"].value == pytest.approx(expected)


def test_scores_are_those_of_sklearn() -> None:
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    for cluster, label in partitions():
        found = agreement(cluster, label)
        assert found["nmi"].value == pytest.approx(normalized_mutual_info_score(label, cluster))
        assert found["ari"].value == pytest.approx(adjusted_rand_score(label, cluster))


def test_the_adjusted_share_of_pairs_is_that_of_all_pairs_counted_one_by_one() -> None:
    for cluster, label in partitions():
        pairs = list(itertools.combinations(range(40), 2))
        c = np.array([cluster[i] == cluster[j] for i, j in pairs])
        y = np.array([label[i] == label[j] for i, j in pairs])
        chance = c.sum() * y.sum() / len(pairs)
        expected = ((c & y).sum() - chance) / ((c.sum() + y.sum()) / 2 - chance)
        assert agreement(cluster, label)["ari"].value == pytest.approx(expected)


def test_labels_that_the_vectors_do_not_know_score_no_pairs_above_chance() -> None:
    x_ND, _ = blobs(600, spread=0.1)
    wrong = np.random.default_rng(2).integers(0, 6, 600)
    found = clustering(x_ND, wrong)
    assert abs(found["ari"].value) < 0.01
    assert found["nmi"].value < 0.03


def test_vectors_that_are_all_alike_score_nothing() -> None:
    found = clustering(np.ones((30, 4)), np.arange(30) % 3)
    assert (found["nmi"].value, found["ari"].value) == (0, 0)


def test_clusters_are_as_tight_as_those_of_sklearn() -> None:
    from sklearn.cluster import KMeans

    x_ND = unit(np.random.default_rng(3).normal(size=(500, 8)).astype(np.float32)).astype(float)
    cluster = kmeans(x_ND, 12, starts=5, seed=0)
    tight = sum(
        np.square(x_ND[cluster == c] - x_ND[cluster == c].mean(axis=0)).sum() for c in range(12)
    )
    expected = KMeans(12, n_init=5, random_state=0, algorithm="lloyd").fit(x_ND).inertia_
    assert tight == pytest.approx(expected, rel=0.02)


def test_more_starts_find_tighter_clusters_and_the_same_seed_the_same() -> None:
    x_ND = np.random.default_rng(4).normal(size=(300, 6))

    def spread(starts: int, seed: int) -> float:
        cluster = kmeans(x_ND, 20, starts=starts, seed=seed)
        assert (cluster == kmeans(x_ND, 20, starts=starts, seed=seed)).all()
        return sum(
            float(np.square(x_ND[cluster == c] - x_ND[cluster == c].mean(axis=0)).sum())
            for c in np.unique(cluster)
        )

    # The starts of a seed are nested.
    one, ten = spread(1, 0), spread(10, 0)
    assert ten < one
    assert spread(1, 1) != one


def test_a_turn_and_the_length_of_vectors_have_no_effect_on_groups_that_lie_apart() -> None:
    x_ND, label = blobs(90, spread=0.5)
    turn, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(10, 10)))
    long = np.random.default_rng(6).uniform(0.1, 9, size=(90, 1))
    found = clustering(long * x_ND @ turn, label)
    for name, metric in clustering(x_ND, label).items():
        assert found[name].value == pytest.approx(metric.value)


@pytest.mark.parametrize("name", ["nmi", "ari"])
def test_the_interval_is_that_of_leaving_out_one_record_after_the_other(name: str) -> None:
    rng = np.random.default_rng(7)
    label = rng.integers(0, 4, 500)
    cluster = np.where(rng.random(500) < 0.6, label, rng.integers(0, 5, 500))

    def value(rows: np.ndarray) -> float:
        return agreement(cluster[rows], label[rows])[name].value

    without = np.array([value(np.delete(np.arange(500), i)) for i in range(500)])
    error = math.sqrt(499 / 500 * np.square(without - without.mean()).sum())
    found = agreement(cluster, label)[name]
    assert found.high - found.value == pytest.approx(1.96 * error, rel=0.03)
    assert found.value - found.low == pytest.approx(1.96 * error, rel=0.03)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros, "6 records have 1 different labels.*Choose another label"),
        (np.arange, "6 records have 6 different labels"),
        (lambda n: np.arange(n - 1), "6 vectors, but 5 labels"),
    ],
)
def test_labels_that_no_clusters_could_have_are_refused(
    labels: Callable[[int], np.ndarray], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        clustering(np.eye(6), labels(6))
