"""The sentences of a long caption, each a caption of its own: DreamLIP's sub-captions."""

from __future__ import annotations

import polars as pl

from contracts.params import Count
from curation._lines import BREAKS, SPACE, STOP, of_texts, pieces
from curation.step import Role, rowwise

# Behind the mark that ends a sentence may stand a bracket or a quotation mark; Chinese and Japanese
# put no space behind it. `</s>` is what a language model ends with.
SENTENCE = rf"{STOP}([\p{{P}}&&[^.]]*){SPACE}+"
WITHOUT_SPACE = r"([。！？])"
END = "</s>"


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"captions": pl.List(pl.String), "count": pl.UInt32},
)
def sub_captions(rows: pl.DataFrame, *, sentences: Count = 1) -> pl.DataFrame:
    """Cut a text at line breaks, `</s>` and the ends of sentences.

    A full stop ends a sentence behind two characters that are none and before white space, so
    neither in "3.5" nor in "e.g." nor of an initial; other marks before white space, and the
    Chinese ones anywhere. A piece without letter and digit is none.

    Reads:
        text: the long caption.
    Args:
        sentences: so many that follow each other make one sub-caption; the last may have fewer.
    Reference: Zheng et al. 2024, DreamLIP, arXiv:2403.17007; its code cuts at every full stop,
    also within numbers, and never draws the last sentence.
    Writes:
        captions: in their order, without the white space around them; empty where the text has
            none, null where it is null.
        count: how many; null likewise.
    Cost: linear in the text.
    """
    text = rows["text"]
    cut = text.str.replace_all(END, "\n", literal=True).str.replace_all(BREAKS, "\n")
    cut = cut.str.replace_all(SENTENCE, "$1$2\n").str.replace_all(WITHOUT_SPACE, "$1\n")
    caption = pl.col("line").str.strip_chars()
    found = (
        pieces(cut, r"[^\n]+")
        .select("row", line=caption)
        .filter(pl.col("line").str.contains(r"[\p{L}\p{N}]"))
        .with_columns(group=pl.int_range(pl.len()).over("row") // sentences)
        .group_by("row", "group", maintain_order=True)
        .agg(pl.col("line").str.join(" "))
        .group_by("row", maintain_order=True)
        .agg(captions="line")
    )
    listed = of_texts(found, len(text)).select(
        captions=pl.when(text.is_not_null()).then(pl.col("captions").fill_null([]))
    )
    return listed.with_columns(count=pl.col("captions").list.len().cast(pl.UInt32))
