"""The recipe of the twenty records that the tests of this folder look at."""

from __future__ import annotations

from contracts.uid import uid_of

ROWS = '[[source]]\npath = "rows.jsonl"\nid = "id"\n'
RECIPE = (
    ROWS
    + """
[holdout]
where = "meta.n = 0"
[annotate.d]
step = "content_hash"
payload = "text"
[annotate.same]
step = "exact_clusters"
digest = "d.digest"
[[select]]
name = "size"
where = "meta.n < 18 AND caption_stats.words >= 2 AND meta.n >= 2"
[[select]]
name = "one"
by = "one_per_cluster"
cluster = "same.cluster"
[[select]]
name = "some"
by = "random_sample"
budget = 4
[export]
shard_records = 3
"""
)


def row_uid(number: int) -> int:
    """The uid of a record."""
    return uid_of("rows", f"r{number}")
