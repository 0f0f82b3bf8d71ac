"""A vocabulary of byte-level pair encoding: every text is written in it, and read back."""

from __future__ import annotations

import json
from typing import Annotated

import polars as pl
from pydantic import Field
from tokenizers import trainers

from contracts.tokens import BYTES, SPECIALS, byte_level
from curation.step import Parameters, Role, fit

SAMPLE = 1_000_000
"""Records that the fit looks at."""


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw."""
    return SAMPLE, parameters


@fit(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"token": pl.String, "merge": pl.String},
    plan=plan,
)
def byte_pair_encoding(
    rows: pl.DataFrame, *, num_tokens: Annotated[int, Field(ge=len(SPECIALS) + len(BYTES))] = 8_192
) -> pl.DataFrame:
    """Begin with the 256 bytes and join, again and again, the most frequent pair of tokens.

    Pairs lie within words, numbers and runs of other characters, with the space before them, as
    GPT-2 splits a text. Of pairs that are as frequent the one with smaller ids comes first; one
    that is there only once is not joined, so a small pool has fewer tokens.

    Reads:
        text: what is learned from; null takes no part.
    Args:
        num_tokens: the most there are, the four special ones and the 256 bytes among them.
    Reference: Sennrich et al. 2016, arXiv:1508.07909; over bytes: Radford et al. 2019, Language
    models are unsupervised multitask learners, section 2.2.
    Writes:
        token: in the order of the ids, which count from 0: padding, start, separator and mask,
            the bytes, then what was joined; each byte is written as a visible character.
        merge: the two tokens that were joined, with a space between; null for the others.
    Cost: one pass over the texts of the sample; memory for them and for their different words.
    """
    tokenizer = byte_level({}, [])
    trainer = trainers.BpeTrainer(
        vocab_size=num_tokens,
        min_frequency=2,
        special_tokens=list(SPECIALS),
        initial_alphabet=list(BYTES),
        show_progress=False,
    )
    tokenizer.train_from_iterator(rows["text"].drop_nulls(), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    # A token's own joins are the same wherever it is met, so each has one way to be made.
    merges = [f"{left} {right}" for left, right in model["merges"]]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    unmerged = [None] * (len(tokens) - len(merges))
    return pl.DataFrame(
        {"token": tokens, "merge": [*unmerged, *merges]},
        schema={"token": pl.String, "merge": pl.String},
    )
