from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import uniform
from curation import _neighbours
from curation.annotate.nearest_centroid import nearest_centroid
from curation.annotate.semantic_duplicates import TILE, semantic_duplicates
from curation.fit.kmeans import kmeans
from curation.properties import PROPERTIES, Case, sample
from curation.select.one_per_neighbourhood import one_per_neighbourhood


def frame(x, group=0, uids=None, dtype=pl.Float32, **columns):
    x = np.asarray(x)
    uids = np.arange(len(x)) if uids is None else uids
    return pl.DataFrame(
        {
            "uid": pl.Series(uids, dtype=pl.UInt64),
            "vector": pl.Series(x.tolist(), dtype=pl.Array(dtype, x.shape[-1])),
            "group": [group] * len(x) if isinstance(group, int) else pl.Series(group),
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


def before(rows, key):
    """The largest cosine to a record of smaller key, and that record, a block of rows at a time."""
    x = rows["vector"].to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    value, nearest = np.zeros(len(x)), np.full(len(x), -1)
    for a in range(0, len(x), 500):
        cosines = np.where(key < key[a : a + 500, None], x[a : a + 500] @ x.T, -2)
        value[a : a + 500], nearest[a : a + 500] = cosines.max(axis=1), cosines.argmax(axis=1)
    return np.maximum(value, 0), np.where(value > -2, nearest, -1)


def test_all_in_one_group_is_exact_for_thousands_of_records():
    n = 5 * _neighbours.ROWS + 77
    rows = frame(np.random.default_rng(12).standard_normal((n, 6)), 0, dtype=pl.Float16)
    value, nearest = before(rows, uniform(rows["uid"].to_numpy(), 0, "semantic_duplicates"))
    found = semantic_duplicates(rows, order="random")
    np.testing.assert_allclose(found["max_cosine"], value, atol=2e-7)
    agree = found["nearest"].fill_null(0).to_numpy() == np.maximum(nearest, 0)
    # In half precision and six dimensions some cosines of different pairs are equal.
    assert agree.mean() > 0.999


def test_beside_the_vectors_a_large_group_takes_some_bytes_a_record_and_blocks():
    def peak(n):
        x = np.random.default_rng(13).standard_normal((n, 200), np.float32)
        vector = pl.Series(x.astype(np.float16), dtype=pl.Array(pl.Float16, 200))
        rows = pl.DataFrame({"uid": np.arange(n, dtype=np.uint64), "vector": vector})
        rows = rows.with_columns(group=pl.lit(1, dtype=pl.UInt32))
        tracemalloc.start()
        try:
            semantic_duplicates.function(rows, order="hard", seed=0, stream="")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    small, large = peak(6_000), peak(12_000)
    assert large - small < 60 * 6_000 < 200 * 2 * 6_000
    assert large < (12 << 20) + 20 * 1024 * 200 + 60 * 12_000


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


def test_a_group_that_both_list_brings_duplicates_of_different_clusters_together():
    rows = frame([[1.0, 0.0], [1.0, 0.0], [1.0, 0.1]], [[0, 1], [1, 2], [3, 2]])
    found = semantic_duplicates(rows.with_columns(score=pl.Series([3, 2, 1])), order="score")
    assert found["nearest"].to_list() == [None, 0, 1]
    assert found["max_cosine"].to_list() == pytest.approx([0, 1, 1.01**-0.5])


def test_of_equally_near_records_in_different_groups_the_smallest_uid_is_named():
    x = [[1.0, 1.0], [1.0, -1.0], [1.0, 0.0]]
    for groups in ([[7], [5], [5, 7]], [[5], [7], [5, 7]]):
        rows = frame(x, groups).with_columns(score=pl.Series([1, 2, 0]))
        assert semantic_duplicates(rows, order="score")["nearest"].to_list() == [None, None, 0]


def test_lists_of_one_group_say_what_the_group_says():
    rng = np.random.default_rng(8)
    group = rng.integers(30, size=900)
    rows = frame(rng.standard_normal((900, 6)), group, dtype=pl.Float16)
    rows = rows.with_columns(pl.when(pl.col("uid") % 11 > 0).then("group").alias("group"))
    listed = rows.with_columns(pl.concat_list("group"))
    assert semantic_duplicates(listed, order="random").equals(
        semantic_duplicates(rows, order="random")
    )


def test_a_record_whose_list_is_null_or_empty_or_holds_a_null_is_alone():
    groups = [None, [], [None], [4, 4], [None, 4]]
    rows = frame([[1.0, 0.0]] * 5, 0).with_columns(
        group=pl.Series(groups, dtype=pl.List(pl.UInt32))
    )
    score = rows.with_columns(score=-pl.col("uid").cast(pl.Int64))
    found = semantic_duplicates(score, order="score")
    assert found["max_cosine"].to_list() == [0, 0, 0, 0, 1]
    assert found["nearest"].to_list() == [None] * 4 + [3]


@pytest.mark.parametrize("order", ["random", "score"])
def test_with_lists_it_agrees_with_brute_force_over_pairs_that_share_a_group(order):
    rng = np.random.default_rng(9)
    n = 400
    x = rng.standard_normal((40, 8))[rng.integers(40, size=n)] + 0.3 * rng.standard_normal((n, 8))
    lists = [rng.choice(25, size=rng.integers(1, 5), replace=False).tolist() for _ in range(n)]
    rows = frame(x, lists, rng.permutation(10**6)[:n], pl.Float16)
    rows = rows.with_columns(score=pl.Series(rng.integers(4, size=n).astype(float)))
    found = semantic_duplicates(rows, order=order, seed=3)

    x = rows["vector"].to_numpy().astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    uids = rows["uid"].to_numpy()
    key = {
        "random": uniform(uids, 3, "semantic_duplicates"),
        "score": -rows["score"].to_numpy(),
    }[order]
    place = np.argsort(np.lexsort((uids, key)))
    for i in range(n):
        shared = [j for j in range(n) if place[j] < place[i] and set(lists[i]) & set(lists[j])]
        cosines = x[shared] @ x[i] if shared else np.empty(0)
        largest = max([0.0, *cosines])
        assert found["max_cosine"][i] == pytest.approx(largest, abs=2e-7)
        if largest > 0:
            assert found["nearest"][i] == uids[shared[int(cosines.argmax())]]


def test_lists_hold_the_properties_of_a_groupwise_step():
    rows, _ = sample(semantic_duplicates)
    lists = pl.concat_list("group", (pl.col("group") + 1) % 7)
    rows = rows.with_columns(group=pl.when(pl.col("group").is_not_null()).then(lists))
    for holds in PROPERTIES["groupwise"]:
        holds(Case(semantic_duplicates.bind(order="random"), rows, {}))


@pytest.mark.parametrize(("order", "score"), [("hard", '"-nearest'), ("easy", '"nearest')])
def test_an_order_of_each_group_is_refused_for_lists_and_the_message_says_what_to_bind(
    order, score
):
    rows = frame([[1.0, 0.0]], [[0, 1]])
    with pytest.raises(ConfigError, match=f"Bind score = {score}_centroid.cosine"):
        semantic_duplicates(rows, order=order)


def recall(rows, num_clusters, threshold, probes):
    """Of what all pairs say is a duplicate, the share that is found within clusters."""
    exact = semantic_duplicates(rows.with_columns(group=pl.lit(0)), order="random")
    near = exact.filter(pl.col("max_cosine") > threshold)["uid"]
    assert near.len() > 100
    centroids = kmeans(rows, num_clusters=num_clusters, iterations=10)
    assigned = nearest_centroid(rows, centroids, probes=probes)
    group = assigned["probes" if probes > 1 else "centroid"]
    found = semantic_duplicates(rows.with_columns(group=group), order="random")
    assert (found["max_cosine"] <= exact["max_cosine"] + 1e-7).all()
    draws = uniform(rows["uid"].to_numpy(), 0, "semantic_duplicates")
    twins = found.drop_nulls()
    assert (draws[twins["nearest"].to_numpy()] < draws[twins["uid"].to_numpy()]).all()
    return (found.filter(found["uid"].is_in(near.implode()))["max_cosine"] > threshold).mean()


def test_four_probes_find_the_duplicates_that_clusters_part():
    rng = np.random.default_rng(10)
    base = rng.standard_normal((1500, 12))
    x = np.vstack([base, base + 0.4 * rng.standard_normal(base.shape)])
    found = [recall(frame(x, dtype=pl.Float16), 150, 0.85, probes) for probes in (1, 2, 4)]
    assert found[0] < 0.8 < found[1] < 0.97 < found[2]


@pytest.mark.data
def test_four_probes_find_the_pictures_of_one_emoji_that_clusters_part(data):
    from embeddings.color_layout import ColorLayout

    pictures = pl.read_parquet(data / "emoji" / "emoji.parquet", columns=["image"])
    pictures = pictures.gather_every(3).select(image=pl.col("image").struct.field("bytes"))
    rows = ColorLayout()(pictures).with_columns(uid=pl.int_range(pictures.height, dtype=pl.UInt64))
    found = [recall(rows, 256, 0.95, probes) for probes in (1, 2, 4)]
    assert found[0] < 0.93 < found[1] < 0.99 < found[2]


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
