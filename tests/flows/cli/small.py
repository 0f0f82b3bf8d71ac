"""The recipe of the twelve records that the tests of this folder call the command on."""

from __future__ import annotations

RECIPE = """
[[source]]
path = "rows.jsonl"
id = "id"
[[select]]
name = "words"
where = "caption_stats.words >= 2"
[[select]]
name = "some"
by = "random_sample"
budget = 5
[export]
shard_records = 3
"""
