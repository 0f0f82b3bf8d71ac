"""The better of two captions, by hand."""

from __future__ import annotations

import polars as pl

from curation.annotate.best_caption import best_caption

NAN = float("nan")
CASES = [
    # text, score, other, its score -> text, score, is_other
    (("a", 0.3, "b", 0.5), ("b", 0.5, True)),
    (("a", 0.5, "b", 0.5), ("a", 0.5, False)),
    (("a", 0.5, "b", 0.25), ("a", 0.5, False)),
    (("a", None, "b", -1.0), ("b", -1.0, True)),
    (("a", NAN, "b", -1.0), ("b", -1.0, True)),
    (("a", -1.0, "b", NAN), ("a", -1.0, False)),
    (("a", None, "b", None), ("a", None, False)),
    ((None, 0.9, "b", 0.25), ("b", 0.25, True)),
    ((None, None, "b", None), ("b", None, True)),
    (("a", 0.25, None, 0.9), ("a", 0.25, False)),
    ((None, 0.9, None, 0.9), (None, None, None)),
    (("", 0.5, "b", 0.25), ("", 0.5, False)),
]


def test_the_larger_score_wins_and_no_record_loses_its_only_caption():
    rows = pl.DataFrame(
        [given for given, _ in CASES],
        schema={
            "text": pl.String,
            "score": pl.Float64,
            "other_text": pl.String,
            "other_score": pl.Float64,
        },
        orient="row",
    ).with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
    found = best_caption(rows).drop("uid").with_columns(pl.col("score").round(6)).rows()
    assert found == [
        (text, None if score is None else pl.Series([score], dtype=pl.Float32)[0], is_other)
        for _, (text, score, is_other) in CASES
    ]
