from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from scipy.sparse.csgraph import connected_components

from contracts.errors import ConfigError, DataError
from curation.annotate.hamming_clusters import hamming_clusters

ROOT = Path(__file__).parents[3]
RULES = ("components", "exemplar")


def frame(bits, *, uids=None, scores=None, dtype=pl.UInt64) -> pl.DataFrame:
    uids = range(1, len(bits) + 1) if uids is None else uids
    columns = {"uid": pl.Series(uids, dtype=pl.UInt64), "bits": pl.Series(bits, dtype=dtype)}
    return pl.DataFrame(columns | ({} if scores is None else {"score": scores}))


def found(bits, *, uids=None, scores=None, **parameters) -> list[tuple]:
    return hamming_clusters(frame(bits, uids=uids, scores=scores), **parameters).rows()


def distances(bits: list[int | bytes]) -> np.ndarray:
    numbers = [b if isinstance(b, int) else int.from_bytes(b, "big") for b in bits]
    return np.array([[(a ^ b).bit_count() for b in numbers] for a in numbers]).reshape(
        len(bits), len(bits)
    )


def components_by_hand(rows: pl.DataFrame, radius: int) -> list[tuple]:
    """Every pair of records, connected components, the nearest other record."""
    known = rows.filter(pl.col("bits").is_not_null()).sort("uid")
    apart, uids = distances(known["bits"].to_list()), known["uid"].to_numpy()
    _, label = connected_components(apart <= radius, directed=False)
    np.fill_diagonal(apart, 9999)
    expected = {}
    for i, uid in enumerate(uids):
        members = uids[label == label[i]]
        best = int(apart[i].min()) if len(uids) > 1 else 9999
        near = (int(uids[apart[i].argmin()]), best) if best <= radius else (None, None)
        expected[uid] = (int(uid), int(members.min()), len(members), *near)
    return [expected.get(u, (u, u, 1, None, None)) for u in rows["uid"].to_list()]


def exemplars_by_hand(rows: pl.DataFrame, radius: int) -> list[tuple]:
    """Record by record: the first exemplar within the radius covers it, else it is one."""
    known = rows.filter(pl.col("bits").is_not_null())
    if "score" in rows.columns:
        order = [(-1e9 if s is None or np.isnan(s) else s) for s in known["score"].to_list()]
        known = known.with_columns(order=pl.Series(order)).sort(
            "order", "uid", descending=[True, False]
        )
    else:
        known = known.sort("uid")
    uids, bits = known["uid"].to_list(), known["bits"].to_list()
    apart = distances(bits)
    covers: dict[int, list[tuple[int, int]]] = {}
    place: dict[int, int] = {}
    for i, uid in enumerate(uids):
        above = [j for j in place if apart[i, j] <= radius]
        if not above:
            place[i] = uid
            covers[uid] = []
        else:
            covers[uids[min(above)]].append((int(apart[i, min(above)]), uid))
    expected = {}
    for exemplar, members in covers.items():
        size = 1 + len(members)
        best = min(members, default=(None, None))
        expected[exemplar] = (exemplar, exemplar, size, best[1], best[0])
        for apart_by, uid in members:
            expected[uid] = (uid, exemplar, size, exemplar, apart_by)
    return [expected.get(u, (u, u, 1, None, None)) for u in rows["uid"].to_list()]


BY_HAND = {"components": components_by_hand, "exemplar": exemplars_by_hand}


def hostile(count: int, width: int, seed: int) -> pl.DataFrame:
    """Families of near strings, repeated values, nulls, uids and scores in no order."""
    chance = np.random.default_rng(seed)
    centres = [int.from_bytes(chance.bytes(width), "big") for _ in range(count // 8 + 1)]
    bits: list[int | None] = []
    for _ in range(count):
        value = centres[chance.integers(len(centres))]
        for place in chance.integers(0, 8 * width, chance.integers(0, 9)):
            value ^= 1 << int(place)
        bits.append(value if chance.random() > 0.05 else None)
    uids = chance.choice(10 * count, count, replace=False).astype(np.uint64)
    scores = [
        None if s == 0 else float("nan") if s == 1 else float(s)
        for s in chance.integers(0, 6, count)
    ]
    if width == 8:
        return frame(bits, uids=uids, scores=scores)
    packed = [None if value is None else value.to_bytes(width, "big") for value in bits]
    return frame(packed, uids=uids, scores=scores, dtype=pl.Binary)


def test_the_worked_example_of_both_rules():
    a, b, c, d = 0b0, 0b1, 0b11, 0b1111
    assert found([a, b, c, d], max_distance=1) == [
        (1, 1, 3, 2, 1),
        (2, 1, 3, 1, 1),  # as near to 3, the smaller uid is named
        (3, 1, 3, 2, 1),
        (4, 4, 1, None, None),
    ]
    assert found([a, b, c, d], max_distance=1, rule="exemplar") == [
        (1, 1, 2, 2, 1),
        (2, 1, 2, 1, 1),
        (3, 3, 1, None, None),
        (4, 4, 1, None, None),
    ]


def test_the_best_score_becomes_the_exemplar_then_the_smallest_uid():
    bits, scores = [0b0, 0b1, 0b11, 0b1111], [1.0, 9.0, 1.0, 1.0]
    kept = {row[1] for row in found(bits, scores=scores, max_distance=1, rule="exemplar")}
    assert kept == {2, 4}
    nothing = [None, float("nan"), 0.5, None]
    kept = {row[1] for row in found([0, 0, 0, 0], scores=nothing, rule="exemplar")}
    assert kept == {3}
    assert found([0, 0], scores=[None, None], rule="exemplar")[1][1] == 1


def test_a_wider_distance_can_leave_more_exemplars():
    bits = [0b0, 0b111, 0b11111, 0b1100111]
    two = found(bits, max_distance=2, rule="exemplar")
    three = found(bits, max_distance=3, rule="exemplar")
    assert {row[1] for row in two} == {1, 2}
    assert {row[1] for row in three} == {1, 3, 4}


@pytest.mark.parametrize("rule", RULES)
def test_equal_values_are_one_cluster_whose_records_name_each_other(rule: str):
    assert found([5, 5, 5], uids=[30, 10, 20], rule=rule) == [
        (30, 10, 3, 10, 0),
        (10, 10, 3, 20, 0),
        (20, 10, 3, 10, 0),
    ]


@pytest.mark.parametrize("rule", RULES)
def test_null_bits_are_clusters_of_their_own(rule: str):
    assert found([None, 0, None, 0], rule=rule) == [
        (1, 1, 1, None, None),
        (2, 2, 2, 4, 0),
        (3, 3, 1, None, None),
        (4, 2, 2, 2, 0),
    ]
    assert found([], rule=rule) == []
    assert found([7], rule=rule) == [(1, 1, 1, None, None)]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("width", "radius"), [(8, 0), (8, 3), (8, 6), (8, 64), (32, 6), (32, 31)])
def test_it_is_the_comparison_of_all_pairs(rule: str, width: int, radius: int):
    for seed in range(4):
        rows = hostile(150, width, seed)
        assert hamming_clusters(rows, rule=rule, max_distance=radius).rows() == BY_HAND[rule](
            rows, radius
        )
        assert hamming_clusters(rows.drop("score"), rule=rule, max_distance=radius).rows() == (
            BY_HAND[rule](rows.drop("score"), radius)
        )


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_the_rows_changes_nothing(rule: str):
    rows = hostile(200, 8, 9)
    expected = hamming_clusters(rows, rule=rule).sort("uid")
    shuffled = rows.sample(fraction=1, shuffle=True, seed=1)
    assert hamming_clusters(shuffled, rule=rule).sort("uid").equals(expected)


def test_exemplars_are_further_apart_than_what_they_cover():
    rows = hostile(300, 8, 3).drop_nulls("bits")
    clusters = hamming_clusters(rows, rule="exemplar", max_distance=6)
    bits = dict(zip(rows["uid"], rows["bits"], strict=True))
    exemplars = clusters["cluster"].unique().to_list()
    assert all((bits[a] ^ bits[b]).bit_count() > 6 for a, b in itertools.combinations(exemplars, 2))
    assert all((bits[u] ^ bits[c]).bit_count() <= 6 for u, c, *_ in clusters.rows())
    assert 1 < len(exemplars) < rows.height


def test_hashes_of_two_lengths_are_refused():
    rows = frame([b"12345678", b"1234567890123456"], dtype=pl.Binary)
    with pytest.raises(DataError, match="one kind"):
        hamming_clusters(rows)
    with pytest.raises(ConfigError, match="max_distance"):
        hamming_clusters(frame([1]), max_distance=-1)


def test_bits_of_any_whole_number_of_bytes_are_compared():
    rows = frame([b"\x00", b"\x03", b"\xff"], dtype=pl.Binary)
    assert hamming_clusters(rows, max_distance=2)["cluster"].to_list() == [1, 1, 3]


# ------------------------------------------------------------------ the search at scale


def planted(count: int, width: int, flips: int, seed: int = 0) -> np.ndarray:
    """Random strings, every other followed by one that differs in at most `flips` bits."""
    chance = np.random.default_rng(seed)
    words = np.repeat(chance.integers(0, 2**64, (count // 2, width), dtype=np.uint64), 2, axis=0)
    followers = np.repeat(np.arange(1, count, 2), chance.integers(1, flips + 1, count // 2))
    places = chance.integers(0, 64 * width, len(followers), dtype=np.uint64)
    bits = np.uint64(1) << places % np.uint64(64)
    np.bitwise_xor.at(words, (followers, places // np.uint64(64)), bits)
    return words


def all_pairs(words: np.ndarray) -> np.ndarray:
    return np.bitwise_count(words[:, None] ^ words[None]).sum(axis=2, dtype=np.int64)


def test_strings_within_the_radius_share_a_bucket_of_some_table():
    from curation._hamming import tables

    masks = tables(1_000_000, 1, 3)[:, 0]
    assert len(masks) > 1
    places = np.array(list(itertools.combinations(range(64), 3)), dtype=np.uint64)
    differences = np.bitwise_or.reduce(np.uint64(1) << places, axis=1)
    assert ((differences[:, None] & masks) == 0).any(axis=1).all()
    chance = np.random.default_rng(0)
    for width, radius in ((1, 6), (1, 10), (4, 31)):
        masks = tables(1_000_000, width, radius)
        words = planted(2000, width, radius, seed=radius)
        apart = words[::2] ^ words[1::2]
        assert ((apart[:, None] & masks) == 0).all(axis=2).any(axis=1).all()
        order = chance.permutation(len(masks))
        assert len(np.unique(masks[order], axis=0)) == len(masks)


@pytest.mark.parametrize(("width", "radius"), [(1, 0), (1, 3), (1, 6), (4, 31)])
def test_the_tables_find_what_the_comparison_of_all_pairs_finds(width: int, radius: int):
    from curation import _hamming

    words = np.unique(planted(3000, width, max(radius, 1)), axis=0)
    words = words[np.random.default_rng(1).permutation(len(words))]
    apart = all_pairs(words)
    root, nearest, distance = _hamming.components(words, radius)
    exemplar, covered = _hamming.exemplars(words, radius)
    expected = np.full(len(words), -1)
    for i in range(len(words)):
        if expected[i] < 0:
            expected[(apart[i] <= radius) & (expected < 0)] = i
    assert np.array_equal(exemplar, expected)
    assert np.array_equal(covered, apart[expected, np.arange(len(words))])
    _, label = connected_components(apart <= radius, directed=False)
    assert np.array_equal(root, np.array([np.flatnonzero(label == k)[0] for k in label]))
    np.fill_diagonal(apart, 9999)
    linked = apart.min(axis=1) <= radius
    assert linked.any() == (radius > 0)
    assert np.array_equal(nearest, np.where(linked, apart.argmin(axis=1), -1))
    assert np.array_equal(distance[linked], apart.min(axis=1)[linked])


@pytest.mark.parametrize("rule", RULES)
def test_a_large_pool_gives_what_each_of_its_families_gives_alone(rule: str):
    words = planted(10_000, 1, 6, seed=4)[:, 0]
    words[::100] = words[0]
    scores = np.random.default_rng(5).permutation(10_000).astype(float)
    rows = frame(words, scores=scores)
    large = hamming_clusters(rows, rule=rule)
    sizes = large.filter(pl.col("size") > 1)
    assert sizes.height > 9000
    # A cluster is far from all others, so it comes out the same without them.
    chosen = large["cluster"].unique().sort().gather_every(5)
    members = large.filter(pl.col("cluster").is_in(chosen.implode()))
    alone = hamming_clusters(rows.join(members, on="uid", how="semi"), rule=rule)
    assert members.height < 4096 < rows["bits"].n_unique()
    assert alone.sort("uid").equals(members.sort("uid"))


@pytest.mark.parametrize(("step", "radius"), [(2, 2), (1, 6)])
def test_a_giant_component_is_covered_as_all_pairs_say(step: int, radius: int):
    """A chain: each string differs little from the last, its ends are as far as any two."""
    from curation import _hamming

    chance = np.random.default_rng(step)
    words = np.empty((3000, 1), np.uint64)
    words[0] = 0
    for i in range(1, 3000):
        places = chance.integers(0, 64, step, dtype=np.uint64)
        words[i] = words[i - 1] ^ np.bitwise_or.reduce(np.uint64(1) << places)
    words = np.unique(words, axis=0)
    words = words[chance.permutation(len(words))]
    apart = all_pairs(words)
    expected = np.full(len(words), -1)
    for i in range(len(words)):
        if expected[i] < 0:
            expected[(apart[i] <= radius) & (expected < 0)] = i
    root, _, _ = _hamming.components(words, radius)
    assert np.bincount(root).max() > _hamming._GIANT
    exemplar, covered = _hamming.exemplars(words, radius)
    assert np.array_equal(exemplar, expected)
    assert np.array_equal(covered, apart[expected, np.arange(len(words))])


@pytest.mark.parametrize("rule", RULES)
def test_a_value_that_repeats_a_hundred_thousand_times_counts_once(rule: str):
    clusters = hamming_clusters(frame(np.full(100_000, 7, np.uint64)), rule=rule)
    assert clusters["cluster"].unique().to_list() == [1]
    assert clusters["size"].unique().to_list() == [100_000]
    assert clusters["nearest"].to_list()[:3] == [2, 1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
def test_hundreds_of_thousands_of_hashes_are_clustered(rule: str):
    count = 1_000_000 if os.environ.get("WINNOW_SOAK") else 300_000
    words = planted(count, 1, 3)[:, 0]
    words[:100_000] = words[0]
    clusters = hamming_clusters(frame(words), rule=rule)
    assert clusters["size"].max() == 100_000
    assert (clusters["size"].tail(count - 100_000) >= 2).mean() > 0.999
    assert clusters["distance"].max() <= 6


def test_importing_the_method_loads_no_compiler():
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import curation.annotate.hamming_clusters, curation.annotate.perceptual_hash\n"
        "print([m for m in ('numba', 'torch', 'faiss', 'cv2') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
