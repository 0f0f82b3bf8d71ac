from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from contracts.errors import ConfigError, DataError
from curation.annotate.minhash_clusters import bands_of, minhash_clusters
from curation.annotate.minhash_signature import minhash_signature


def signed(uids: list[int], texts: list[str | None], **parameters: object) -> pl.DataFrame:
    rows = pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "text": texts})
    return rows.with_columns(signature=minhash_signature(rows, **parameters)["values"])


def table(signatures: np.ndarray) -> pl.DataFrame:
    uids = pl.Series(range(len(signatures)), dtype=pl.UInt64)
    dtype = pl.Array(pl.UInt32, signatures.shape[1])
    return pl.DataFrame({"uid": uids, "signature": pl.Series(signatures, dtype=dtype)})


def planted(pairs: int, num_perm: int, similarity: float) -> np.ndarray:
    """Return signatures of which rows 2n and 2n + 1 agree in each slot with that probability."""
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 2**32, (2 * pairs, num_perm), dtype=np.uint32)
    equal = rng.random((pairs, num_perm)) < similarity
    signatures[1::2] = np.where(equal, signatures[::2], signatures[1::2])
    return signatures


def met(signatures: np.ndarray, **parameters: object) -> np.ndarray:
    cluster = minhash_clusters(table(signatures), **parameters)["cluster"].to_numpy()
    return cluster[::2] == cluster[1::2]


def documents(count: int) -> list[str]:
    """Return texts of 30 words in families that share most of their words."""
    rng = np.random.default_rng(1)
    base = rng.integers(0, 10**6, (count // 4, 30))
    texts = []
    for n in range(count):
        words = base[n % len(base)].copy()
        changed = rng.integers(0, 30, rng.integers(0, 12))
        words[changed] = rng.integers(0, 10**6, len(changed))
        texts.append(" ".join(f"w{word}" for word in words))
    return texts


def test_near_duplicates_share_a_cluster_named_by_its_smallest_uid():
    texts = ["a red dog runs on the beach at noon", "A red dog runs on the beach, at noon!"]
    rows = signed([9, 3, 5, 7, 8], [*texts, "two cats", None, ""])
    assert minhash_clusters(rows).rows() == [
        (9, 3, 2, 3, 1.0),
        (3, 3, 2, 9, 1.0),
        (5, 5, 1, None, None),
        (7, 7, 1, None, None),
        (8, 8, 1, None, None),
    ]


def test_the_default_bands_are_the_widest_that_find_95_of_100_pairs_at_the_threshold():
    assert bands_of(128, 0.8, None, "estimate") == (18, 7)
    for num_perm in (16, 64, 128, 256):
        for threshold in (0.3, 0.5, 0.7, 0.8, 0.9, 0.95):
            bands, slots = bands_of(num_perm, threshold, None, "text")
            assert bands == num_perm // slots
            assert 1 - (1 - threshold**slots) ** bands >= 0.95
            wider = [
                1 - (1 - threshold**r) ** (num_perm // r) for r in range(slots + 1, num_perm + 1)
            ]
            assert max(wider, default=0) < 0.95


@pytest.mark.parametrize(
    ("threshold", "num_perm", "expected"),
    [(0.7, 240, (24, 10)), (0.7, 256, (25, 10)), (0.8, 128, (9, 13)), (0.8, 256, (17, 15))],
)
def test_without_verification_the_bands_are_datasketchs_optimum(
    threshold: float, num_perm: int, expected: tuple[int, int]
):
    assert bands_of(num_perm, threshold, None, "none") == expected


def test_given_bands_take_all_the_slots_there_are():
    assert bands_of(128, 0.8, 20, "none") == (20, 6)
    with pytest.raises(ConfigError, match="at most 128 bands"):
        bands_of(128, 0.8, 129, "none")


# FineWeb's 14 bands of 8, NeMo Curator's 20 of 13, and datasketch's 9 of 13.
@pytest.mark.parametrize(
    ("bands", "num_perm", "chances"),
    [
        (14, 112, {0.6: 0.21, 0.7: 0.56, 0.8: 0.92, 0.9: 1.0}),
        (20, 260, {0.6: 0.03, 0.7: 0.18, 0.8: 0.68, 0.9: 1.0}),
        (9, 117, {0.6: 0.01, 0.7: 0.08, 0.8: 0.40, 0.9: 0.93}),
    ],
)
def test_pairs_meet_as_often_as_the_s_curve_says(
    bands: int, num_perm: int, chances: dict[float, float]
):
    for similarity, rounded in chances.items():
        chance = 1 - (1 - similarity ** (num_perm // bands)) ** bands
        assert chance == pytest.approx(rounded, abs=0.006)
        found = met(planted(1500, num_perm, similarity), bands=bands, verify="none").mean()
        assert abs(found - chance) <= 4 * (chance * (1 - chance) / 1500) ** 0.5 + 1e-3


def test_two_texts_that_share_a_band_but_little_else_are_not_joined():
    signatures = planted(200, 128, 0.0)
    signatures[1::2, :7] = signatures[::2, :7]
    assert not met(signatures).any()
    assert met(signatures, bands=18, verify="none").all()


def test_no_pair_below_the_threshold_is_joined_and_its_share_is_reported():
    signatures = planted(1000, 128, 0.8)
    share = (signatures[::2] == signatures[1::2]).mean(axis=1)
    found = minhash_clusters(table(signatures))
    joined = found["nearest"].is_not_null().to_numpy()[::2]
    assert not (joined & (share < 0.8)).any()
    assert joined[share >= 0.8].mean() > 0.93
    assert np.array_equal(found["similarity"].to_numpy()[::2][joined], share[joined].astype("f4"))


def test_equal_texts_always_meet():
    rows = signed(list(range(100)), [f"word{n % 10}" for n in range(100)])
    assert minhash_clusters(rows)["cluster"].to_list() == [n % 10 for n in range(100)]


@pytest.mark.parametrize("verify", ["none", "estimate", "text"])
def test_clusters_are_those_of_a_plain_walk_through_the_buckets(verify: str):
    rows = signed(list(range(400)), documents(400), num_perm=64, ngram=2)
    found = minhash_clusters(rows, verify=verify, threshold=0.5, ngram=2)
    signatures = rows["signature"].to_list()
    words = [text.split() for text in rows["text"]]
    grams = [set(pairwise(one)) for one in words]
    bands, slots = bands_of(64, 0.5, None, verify)
    buckets = defaultdict(list)
    for uid, values in enumerate(signatures):
        for band in range(bands):
            buckets[band, *values[band * slots : (band + 1) * slots]].append(uid)
    edges = []
    for members in buckets.values():
        exemplars: list[int] = members[:1]
        for uid in members[1:]:
            shares = {}
            for other in exemplars:
                equal = sum(x == y for x, y in zip(signatures[uid], signatures[other], strict=True))
                exact = len(grams[uid] & grams[other]) / len(grams[uid] | grams[other])
                shares[other] = exact if verify == "text" else equal / 64
            close = {o: s for o, s in shares.items() if verify == "none" or s >= 0.5}
            edges += [(uid, other) for other in close]
            if not close and len(exemplars) < 32:
                exemplars.append(uid)
    a, b = np.array(edges).T
    _, label = connected_components(coo_array((np.ones(len(a)), (a, b)), shape=(400, 400)))
    first = {name: int(np.flatnonzero(label == name)[0]) for name in set(label)}
    assert found["cluster"].to_list() == [first[name] for name in label]
    assert 50 < found["cluster"].n_unique() < 350


def test_verify_text_reports_the_exact_jaccard_similarity_of_the_n_grams():
    texts = ["one two three four five six", "one two three four five seven", None]
    rows = signed([0, 1, 2], texts, ngram=1)
    found = minhash_clusters(rows, verify="text", threshold=0.7, bands=128, ngram=1)
    assert found["similarity"].to_list() == pytest.approx([5 / 7, 5 / 7, None])


def test_a_record_is_compared_with_the_first_32_exemplars_of_a_bucket():
    texts = [f"{n} {n}{n} {n}x" for n in range(40)]
    same = np.zeros((42, 8), dtype=np.uint32)
    rows = table(same).with_columns(text=pl.Series([*texts, texts[20], texts[36]]))
    found = minhash_clusters(rows, verify="text")
    assert found["nearest"].to_list()[-2:] == [20, None]
    assert found["nearest"][20] == 40


def test_a_null_text_is_like_no_other_where_texts_are_compared():
    rows = table(np.zeros((3, 8), dtype=np.uint32)).with_columns(text=pl.Series([None, None, "a"]))
    assert minhash_clusters(rows, verify="text")["size"].to_list() == [1, 1, 1]


def test_lists_and_arrays_of_any_unsigned_integers_give_the_same_clusters():
    rows = table(planted(50, 128, 0.9))
    expected = minhash_clusters(rows)
    as_lists = rows.with_columns(pl.col("signature").arr.to_list())
    wide = rows.with_columns(pl.col("signature").cast(pl.Array(pl.UInt64, 128)))
    assert expected["size"].max() == 2
    assert_frame_equal(minhash_clusters(as_lists), expected)
    assert_frame_equal(minhash_clusters(wide), expected)


def test_signatures_of_different_lengths_are_refused():
    rows = pl.DataFrame({"uid": pl.Series([1, 2], dtype=pl.UInt64), "signature": [[1, 2], [1]]})
    with pytest.raises(DataError, match="signatures of \\[1, 2\\] slots"):
        minhash_clusters(rows.with_columns(pl.col("signature").cast(pl.List(pl.UInt32))))


def test_text_is_read_only_where_texts_are_compared():
    assert list(minhash_clusters.reads) == ["signature"]
    assert list(minhash_clusters.bind(verify="text").reads) == ["signature", "text"]


@pytest.mark.data
def test_package_descriptions_of_one_text_are_one_cluster_and_most_others_alone(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = rows.filter(pl.col("lang") == "en").head(6000)["text"]
    found = minhash_clusters(signed(list(range(6000)), english.to_list()))
    clusters = found.with_columns(text=english).group_by("text").agg(pl.col("cluster").n_unique())
    assert clusters["cluster"].max() == 1
    assert 0.6 < found["cluster"].n_unique() / 6000 < 0.99
