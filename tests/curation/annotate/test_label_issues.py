"""Wrong labels: the worked example, planted flips, and what must not matter."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.label_issues import label_issues
from curation.annotate.nearest_neighbours import nearest_neighbours

LABELS = ["a", "a", "a", "b", "b", "c", "c"]
P = [
    (0.9, 0.1, 0), (0.2, 0.8, 0), (0.6, 0.4, 0), (0.1, 0.8, 0.1), (0.3, 0.6, 0.1),
    (0.1, 0.1, 0.8), (0.7, 0.1, 0.2),
]  # fmt: skip


def table(labels: object, **columns: object) -> pl.DataFrame:
    frame = pl.DataFrame({"label": labels, **columns})
    return frame.with_columns(uid=pl.int_range(frame.height, dtype=pl.UInt64))


def given(labels: object, p: object) -> pl.DataFrame:
    rows = table(labels, probabilities=pl.Series(p, dtype=pl.List(pl.Float64)))
    return label_issues(rows, mode="probabilities")


def by_vectors(labels: object, vectors: pl.Series, k: int = 10) -> pl.DataFrame:
    rows = table(labels, vector=vectors)
    lists = nearest_neighbours(rows.with_columns(group=0), k=k)
    return label_issues(rows.with_columns(lists["neighbours"]))


def clusters(count: int, seed: int = 0) -> tuple[np.ndarray, pl.Series]:
    """Return labels 0 to 3 and vectors that lie near one of four corners each."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, count)
    vectors = np.eye(8)[labels] + rng.normal(scale=0.15, size=(count, 8))
    return labels, pl.Series(vectors.astype(np.float32), dtype=pl.Array(pl.Float32, 8))


def test_the_worked_example():
    found = given(LABELS, P)
    # Thresholds 0.5667, 0.70 and 0.50.
    assert found["suggested"].to_list() == ["a", "b", "a", "b", None, "c", "a"]
    assert found["issue"].arg_true().to_list() == [1, 6]
    assert found["self_confidence"].to_list() == pytest.approx([0.9, 0.2, 0.6, 0.8, 0.6, 0.8, 0.2])
    assert found["margin"].to_list() == pytest.approx([0.9, 0.2, 0.6, 0.85, 0.65, 0.85, 0.25])


def test_of_several_confident_labels_the_likeliest_of_these_is_suggested():
    # Thresholds 0.5, 0.25 and 0.2: the likeliest of all labels is below its own.
    p = [(0.5, 0.5, 0), (0, 0.25, 0.75), (0.8, 0, 0.2), (0.45, 0.3, 0.25)]
    found = given(["a", "b", "c", None], p)
    assert found["suggested"].to_list()[3] == "b"
    assert found["issue"].to_list()[3] is None
    assert found["self_confidence"].to_list()[3] is None


def test_at_its_threshold_a_record_is_confident_and_below_it_is_not():
    p = [(0.5, 0.5), (0.3, 0.7), (0.5, 0.5), (0.5001, 0.4999)]
    assert given(["a", "b", None, None], p)["suggested"].to_list() == ["a", "b", "a", "a"]
    p = [(0.5, 0.5), (0.3, 0.7), (0.4999, 0.5001)]
    assert given(["a", "b", None], p)["suggested"].to_list() == ["a", "b", None]


def test_names_of_labels_do_not_matter_and_numbers_are_in_their_own_order():
    found = given([2, 2, 2, 9, 9, 10, 10], P)
    assert found["suggested"].to_list() == ["2", "9", "2", "9", None, "10", "2"]
    renamed = given([{"a": "z", "b": "y", "c": "x"}[one] for one in LABELS], [q[::-1] for q in P])
    assert renamed["issue"].to_list() == found["issue"].to_list()


@pytest.mark.parametrize(("rate", "recall"), [(0.05, 0.85), (0.2, 0.9)])
def test_planted_flips_are_found_and_clean_labels_are_not(rate: float, recall: float):
    labels, vectors = clusters(800)
    rng = np.random.default_rng(1)
    flipped = rng.random(800) < rate
    noisy = np.where(flipped, (labels + rng.integers(1, 4, 800)) % 4, labels)
    found = by_vectors(noisy, vectors)
    issue = found["issue"].to_numpy()
    assert issue[flipped].mean() >= recall
    assert issue[~flipped].mean() <= 0.02
    assert (
        found["suggested"].cast(pl.Int64).to_numpy()[issue & flipped] == labels[issue & flipped]
    ).all()
    assert by_vectors(labels, vectors)["issue"].sum() == 0


def test_votes_are_those_of_the_nearest_others_by_brute_force():
    labels, vectors = clusters(60, seed=3)
    x = vectors.to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    cosine = x @ x.T
    np.fill_diagonal(cosine, -2)
    near = np.argsort(-cosine, axis=1)[:, :5]
    own = (labels[near] == labels[:, None]).mean(axis=1)
    found = by_vectors(labels, vectors, k=5)
    assert found["self_confidence"].to_numpy() == pytest.approx(own, abs=1e-6)


def test_copies_of_a_record_vote_and_the_record_itself_never():
    vectors = pl.Series([[1.0, 0.0]] * 4 + [[0.0, 1.0]], dtype=pl.Array(pl.Float32, 2))
    found = by_vectors(["a", "b", "b", "b", "b"], vectors, k=2)
    assert found["self_confidence"].to_list()[:2] == [0.0, 0.5]


def test_without_a_label_nobody_is_judged_by_a_record_and_without_a_vector_it_is_not_judged():
    vectors = pl.Series([[1.0, 0.0], [1.0, 0.1], [1.0, 0.1], None, [0.0, 0.0]],
                        dtype=pl.Array(pl.Float32, 2))  # fmt: skip
    found = by_vectors(["a", None, "a", "b", "b"], vectors)
    assert found["suggested"].to_list() == ["a", "a", "a", None, None]
    assert found["self_confidence"].to_list() == [1.0, None, 1.0, None, None]
    # The only record with a label has no neighbour with one.
    alone = by_vectors(["a", None], vectors[:2])
    assert alone["suggested"].to_list() == [None, None]


def test_probabilities_that_are_not_one_a_label_are_refused_and_nan_is_unmeasured():
    with pytest.raises(DataError, match="has 2 probabilities, but the pool 3 labels"):
        given(["a", "b", "c"], [(1.0, 0.0)] * 3)
    found = given(["a", "b", "b", "b"], [(1.0, 0.0), (float("nan"), 1.0), None, (None, 1.0)])
    assert found["suggested"].to_list() == ["a", None, None, None]


def test_neighbours_that_are_not_of_the_pool_and_the_record_itself_do_not_vote():
    lists = pl.Series([[0, 1, 9], [0], [7], [], None], dtype=pl.List(pl.UInt64))
    found = label_issues(table(["a", "b", "b", "b", "b"], neighbours=lists))
    assert found["self_confidence"].to_list() == [0.0, 0.0, None, None, None]
