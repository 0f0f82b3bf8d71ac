from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import uniform
from curation.annotate.semantic_duplicates import TILE, semantic_duplicates
from curation.select.one_per_neighbourhood import one_per_neighbourhood


def frame(x, group=0, uids=None, dtype=pl.Float32, **columns):
    x = np.asarray(x)
    uids = np.arange(len(x)) if uids is None else uids
    return pl.DataFrame(
        {
            "uid": pl.Series(uids, dtype=pl.UInt64),
            "vector": pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[-1])),
            "group": np.broadcast_to(group, len(x)).tolist(),
            **columns,
        }
    )


def at_degrees(*angles):
    radians = np.radians(angles)
    return np.c_[np.cos(radians), np.sin(radians)]


def brute_force(rows, order, seed=0):
    """Per group: sort, the full matrix of cosines in double precision, its upper triangle."""
    expected = {}
    for (_,), part in rows.sort("uid").group_by(["group"], maintain_order=True):
        x = part["vector"].to_numpy().astype(np.float64)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        mean = x.sum(axis=0)
        uids = part["uid"].to_numpy()
        key = {
            "hard": lambda x=x, mean=mean: (x @ mean / np.linalg.norm(mean)).astype(np.float32),
            "easy": lambda x=x, mean=mean: -(x @ mean / np.linalg.norm(mean)).astype(np.float32),
            "random": lambda uids=uids: uniform(uids, seed, "semantic_duplicates"),
            "score": lambda part=part: -part["score"].fill_null(-np.inf).to_numpy(),
        }[order]()
        ordered = np.lexsort((uids, key))
        x, uids = x[ordered], uids[ordered]
        cosines = np.triu(x @ x.T, 1)
        for j in range(len(x)):
            before = cosines[:j, j]
            twin = uids[(before >= before.max() - 1e-12).argmax()] if j else None
            expected[uids[j]] = (cosines[:, j].max(), twin)
    return expected


def assert_agrees(rows, found, expected):
    for uid, cosine, nearest in found.iter_rows():
        assert cosine == pytest.approx(expected[uid][0], abs=2e-7)
        assert nearest == expected[uid][1]


# specs/methods.md 4.1: unit vectors at 0, 20 and 40 degrees; cos 20 = .9397, cos 40 = .7660.
A, B, C = 0, 1, 2


@pytest.mark.parametrize(
    ("first_to_last", "cosines", "semdedup", "keep_one"),
    [
        ((A, B, C), [0, 0.9397, 0.9397], {A}, {A, C}),
        ((A, C, B), [0, 0.7660, 0.9397], {A, C}, {A, C}),
        ((B, A, C), [0, 0.9397, 0.9397], {B}, {B}),
    ],
)
def test_the_worked_example_at_0_20_and_40_degrees(first_to_last, cosines, semdedup, keep_one):
    score = [float(-first_to_last.index(record)) for record in (A, B, C)]
    rows = frame(at_degrees(0, 20, 40), score=score)
    found = semantic_duplicates(rows, order="score")
    by_order = found[list(first_to_last)]
    assert by_order["max_cosine"].to_list() == pytest.approx(cosines, abs=1e-4)
    assert by_order["nearest"][0] is None
    candidates = found.rename({"max_cosine": "cosine"})
    paper = one_per_neighbourhood(candidates, threshold=0.93, mode="semdedup")
    assert set(paper["uid"]) == semdedup
    assert set(one_per_neighbourhood(candidates, threshold=0.93)["uid"]) == keep_one


def test_hard_takes_the_farthest_from_the_mean_first_and_easy_the_nearest():
    # The mean of 0, 20 and 40 degrees is at 20: hard is A, C (a tie: by uid), B; easy is B, A, C.
    rows = frame(at_degrees(0, 20, 40))
    hard, easy = (semantic_duplicates(rows, order=order) for order in ("hard", "easy"))
    assert hard["max_cosine"].to_list() == pytest.approx([0, 0.9397, 0.7660], abs=1e-4)
    assert hard["nearest"].to_list()[::2] == [None, A]
    assert easy["max_cosine"].to_list() == pytest.approx([0.9397, 0, 0.9397], abs=1e-4)
    assert easy["nearest"].to_list() == [B, None, B]


def test_of_any_two_alone_the_smaller_uid_comes_first():
    x = np.random.default_rng(0).standard_normal((4000, 48))
    found = semantic_duplicates(frame(x, np.arange(4000) // 2, dtype=pl.Float16))
    assert found["nearest"].is_null().to_list() == [True, False] * 2000


@pytest.mark.parametrize("order", ["hard", "easy", "random", "score"])
@pytest.mark.parametrize("sizes", [[1, 2, 3, 500, 40], [2 * TILE + 7, 3, TILE, TILE + 1]])
def test_it_agrees_with_the_full_matrix_of_cosines(order, sizes):
    rng = np.random.default_rng(1)
    group = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    x = rng.standard_normal((len(sizes), 12))[group] + 0.7 * rng.standard_normal((len(group), 12))
    x[rng.integers(len(x), size=40)] = x[rng.integers(len(x), size=40)]
    score = pl.Series(rng.integers(5, size=len(x)).astype(float)).replace({4.0: None})
    rows = frame(x, group, rng.permutation(10**6)[: len(x)], pl.Float16, score=score)
    found = semantic_duplicates(rows, order=order, seed=5)
    assert found["uid"].equals(rows["uid"])
    assert_agrees(rows, found, brute_force(rows, order, seed=5))


def test_a_group_wider_than_a_tile_of_columns_agrees_with_the_full_matrix():
    rng = np.random.default_rng(2)
    rows = frame(rng.standard_normal((2600, 3)), 7, rng.permutation(2600), pl.Float16)
    assert_agrees(rows, semantic_duplicates(rows), brute_force(rows, "hard"))


def test_what_it_says_of_a_group_does_not_depend_on_the_others():
    rng = np.random.default_rng(3)
    group = rng.integers(60, size=3000)
    rows = frame(rng.standard_normal((3000, 24)), group, dtype=pl.Float16)
    together = semantic_duplicates(rows)
    for one in (0, 17, 59):
        alone = semantic_duplicates(rows.filter(pl.col("group") == one))
        assert alone.equals(together.filter(pl.Series(group == one)))


@pytest.mark.parametrize("order", ["hard", "random"])
def test_the_order_of_rows_does_not_matter(order):
    rng = np.random.default_rng(4)
    rows = frame(rng.standard_normal((700, 8)), rng.integers(3, size=700), dtype=pl.Float16)
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    found = semantic_duplicates(shuffled, order=order).sort("uid")
    assert found.equals(semantic_duplicates(rows, order=order))


@pytest.mark.parametrize("dtype", [pl.Float16, pl.Float32])
def test_equal_vectors_exceed_any_threshold_below_one(dtype):
    x = np.random.default_rng(5).standard_normal((3000, 100))
    rows = frame(np.vstack([x, x]), 0, dtype=dtype)
    found = semantic_duplicates(rows, order="random")
    later = found.filter(pl.col("max_cosine") == 1)
    assert later.height == 3000
    assert (later["nearest"].cast(pl.Int64) - later["uid"].cast(pl.Int64)).abs().to_list() == (
        [3000] * 3000
    )
    kept = one_per_neighbourhood(
        found.rename({"max_cosine": "cosine"}), threshold=1 - 2**-30, mode="semdedup"
    )
    assert kept.height == 3000


def test_many_equal_vectors_all_name_the_first_of_the_order():
    found = semantic_duplicates(frame(np.full((3 * TILE, 4), 0.5), 0))
    assert found["nearest"].to_list() == [None] + [0] * (3 * TILE - 1)
    assert found["max_cosine"].to_list() == [0] + [1] * (3 * TILE - 1)


def test_a_threshold_of_one_removes_nothing_and_a_lower_one_removes_more():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((20, 6))[rng.integers(20, size=400)]
    found = semantic_duplicates(frame(x + 0.2 * rng.standard_normal(x.shape), 0))
    found = found.rename({"max_cosine": "cosine"})
    kept = [
        set(one_per_neighbourhood(found, threshold=t, mode="semdedup")["uid"])
        for t in (1.0, 0.99, 0.95, 0.9, 0.5, 0.0)
    ]
    assert len(kept[0]) == 400
    assert all(b < a for a, b in itertools.pairwise(kept))
    assert len(kept[-1]) >= 1


def test_opposite_vectors_have_a_measure_of_zero_and_still_a_nearest():
    found = semantic_duplicates(frame([[1.0, 0.0], [-1.0, 0.0]], 0))
    assert found["max_cosine"].to_list() == [0, 0]
    assert found["nearest"].to_list() == [None, 0]


def test_duplicates_in_different_groups_are_missed():
    found = semantic_duplicates(frame([[1.0, 0.0], [1.0, 0.0]], [0, 1]))
    assert found["nearest"].to_list() == [None, None]


def test_a_record_without_a_group_is_alone():
    found = semantic_duplicates(frame([[1.0, 0.0]] * 3, [None, None, 4]))
    assert found["max_cosine"].to_list() == [0, 0, 0]


def test_null_vectors_and_zeros_get_nulls_and_are_nobodys_nearest():
    rows = frame([[0.0, 0.0], [1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], 0)
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 1).then("vector"))
    found = semantic_duplicates(rows)
    assert found["max_cosine"].to_list() == [None, None, 0, 1]
    assert found["nearest"].to_list() == [None, None, None, 2]


def test_a_stream_of_its_own_gives_another_random_order():
    rows = frame(np.random.default_rng(7).standard_normal((50, 4)), 0)
    first = semantic_duplicates(rows, order="random")
    assert not first.equals(semantic_duplicates(rows, order="random", stream="#2"))
    assert not first.equals(semantic_duplicates(rows, order="random", seed=1))


def test_order_by_score_needs_a_score():
    with pytest.raises(ConfigError, match="needs the role score"):
        semantic_duplicates(frame([[1.0, 0.0]], 0), order="score")


def test_a_vector_that_is_not_finite_is_an_error():
    with pytest.raises(DataError, match="1 of 2"):
        semantic_duplicates(frame([[1.0, 0.0], [float("nan"), 0.0]], 0))


def test_no_record_is_no_row():
    found = semantic_duplicates(frame(np.empty((0, 2)), 0))
    assert found.schema == {"uid": pl.UInt64, "max_cosine": pl.Float32, "nearest": pl.UInt64}
    assert found.height == 0
