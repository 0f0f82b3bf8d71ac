from __future__ import annotations

import itertools

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from curation import _spans

PLACES = {"uid": pl.UInt64, "start": pl.UInt32, "end": pl.UInt32}


def spanned(characters: dict[int, int], spans: list[tuple[int, int, int]]) -> pl.DataFrame:
    records = pl.DataFrame(
        list(characters.items()),
        schema={"uid": pl.UInt64, "characters": pl.UInt32},
        orient="row",
    )
    return _spans.spanned(records, pl.DataFrame(spans, schema=PLACES, orient="row"))


def pairs(frame: pl.DataFrame) -> list[list[tuple[int, int]]]:
    return [[(one["start"], one["end"]) for one in spans] for spans in frame["spans"]]


def test_overlapping_spans_are_united_and_touching_ones_stay_two():
    spans = [(1, 4, 6), (1, 0, 3), (1, 2, 5), (1, 6, 8), (2, 0, 9), (2, 1, 2), (2, 8, 10)]
    found = spanned({2: 10, 1: 16, 3: 5, 4: 0}, spans)
    assert found["uid"].to_list() == [1, 2, 3, 4]
    assert pairs(found) == [[(0, 6), (6, 8)], [(0, 10)], [], []]
    assert found["repeated_ratio"].to_list() == [0.5, 1.0, 0.0, 0.0]
    assert found.schema["spans"] == _spans.SPANS
    assert found.schema["repeated_ratio"] == pl.Float32


def test_nothing_at_all_has_the_same_types():
    assert spanned({}, []).schema == spanned({1: 2}, [(1, 0, 1)]).schema


@pytest.mark.parametrize("seed", range(20))
def test_the_union_covers_what_its_members_cover(seed: int):
    rng = np.random.default_rng(seed)
    start = rng.integers(0, 60, rng.integers(0, 25))
    end = start + rng.integers(1, 12, len(start))
    found = spanned({7: 80}, [(7, int(a), int(b)) for a, b in zip(start, end, strict=True)])
    covered = {place for a, b in zip(start, end, strict=True) for place in range(a, b)}
    assert {place for a, b in pairs(found)[0] for place in range(a, b)} == covered
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(pairs(found)[0]))
    assert found["repeated_ratio"][0] == np.float32(len(covered) / 80)


def test_partial_rows_fold_to_the_same_however_they_are_taken_together():
    rng = np.random.default_rng(0)
    spans = [(int(u), int(a), int(a) + int(w)) for u, a, w in rng.integers(1, 30, (60, 3))]
    whole = spanned(dict.fromkeys(range(1, 30), 60), spans)
    parts = [
        spanned(dict.fromkeys({u for u, _, _ in spans[i::4]}, 60), spans[i::4]) for i in range(4)
    ]
    a, b, c, d = parts

    def fold(*frames: pl.DataFrame) -> pl.DataFrame:
        return _spans.folded(pl.concat(frames))

    met = whole.filter(pl.col("spans").list.len() > 0)
    assert_frame_equal(fold(a, b, c, d), met)
    assert_frame_equal(fold(d, fold(c, fold(b, a))), met)
    assert_frame_equal(fold(fold(fold(a, b), c), d, d), met)
