"""Clusters of equal digests, against a dictionary."""

from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from curation.annotate.exact_clusters import exact_clusters


def clusters(uids: list[int], digests: list[bytes | None]) -> pl.DataFrame:
    frame = {"uid": pl.Series(uids, dtype=pl.UInt64), "digest": pl.Series(digests, dtype=pl.Binary)}
    return exact_clusters(pl.DataFrame(frame))


def test_a_cluster_is_named_by_its_smallest_uid():
    found = clusters([9, 3, 5, 7], [b"a", b"a", b"b", b"a"])
    assert found["cluster"].to_list() == [3, 3, 5, 3]
    assert found["size"].to_list() == [3, 3, 1, 3]
    assert found["nearest"].to_list() == [3, 7, None, 3]


def test_records_without_a_digest_are_alone():
    assert clusters([2, 1], [None, None])["cluster"].to_list() == [2, 1]


@given(st.dictionaries(st.integers(0, 2**64 - 1), st.sampled_from([b"a", b"b", b"c", None])))
def test_every_pool_is_clustered_as_a_dictionary_would(records: dict[int, bytes | None]):
    found = clusters(list(records), list(records.values()))
    groups: dict[object, list[int]] = {}
    for uid, digest in records.items():
        groups.setdefault(digest if digest is not None else uid, []).append(uid)
    want = {uid: min(group) for group in groups.values() for uid in group}
    assert dict(zip(found["uid"], found["cluster"], strict=True)) == want
