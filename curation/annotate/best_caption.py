"""Which of two captions of a record fits better; of more than two, one after another."""

from __future__ import annotations

import polars as pl

from curation.step import Role, rowwise

SCORE = Role((pl.Float32, pl.Float64))


@rowwise(
    version=1,
    reads={
        "text": Role(pl.String),
        "other_text": Role(pl.String),
        "score": SCORE,
        "other_score": SCORE,
    },
    writes={"text": pl.String, "score": pl.Float32, "is_other": pl.Boolean},
)
def best_caption(rows: pl.DataFrame) -> pl.DataFrame:
    """Take the caption of the larger score, and leave no record without one that has any.

    The other caption wins where it has the larger score, or where it alone has one, or where there
    is no first. A third caption is the other one of a second `best_caption`, whose `text` and
    `score` are those of the first.

    Reads:
        text: a caption, such as the one that came with the picture.
        other_text: another, such as a recaptioned text brought by file.
        score: how well `text` fits, such as an `alignment`; null and NaN are no score.
        other_score: likewise of `other_text`, by the same measure.
    Reference: Vasu et al. 2024, CLIP with Quality Captions, arXiv:2405.08911, for what better
    captions are worth; the choice by a score is that of many recaptioners.
    Writes:
        text: the chosen caption; null where both are.
        score: of it; null where it has none.
        is_other: whether it is `other_text`; null where both captions are.
    Cost: a comparison a record.
    """
    known, other_known = (
        pl.when(pl.col(text).is_not_null()).then(pl.col(score).fill_nan(None)).cast(pl.Float32)
        for text, score in (("text", "score"), ("other_text", "other_score"))
    )
    table = rows.with_columns(score=known, other_score=other_known)
    better = (pl.col("other_score") > pl.col("score").fill_null(-float("inf"))).fill_null(False)
    # A score of minus infinity is one too.
    alone = pl.col("other_score").is_not_null() & pl.col("score").is_null()
    wins = better | alone | pl.col("text").is_null()
    takes = pl.when(wins & pl.col("other_text").is_not_null())
    return table.select(
        text=takes.then(pl.col("other_text")).otherwise(pl.col("text")),
        score=takes.then(pl.col("other_score")).otherwise(pl.col("score")),
        is_other=pl.when(pl.any_horizontal(pl.col("text", "other_text").is_not_null())).then(
            takes.then(True).otherwise(False)
        ),
    )
