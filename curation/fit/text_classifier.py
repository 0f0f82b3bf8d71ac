"""A linear model that tells examples of good text from others by words and pairs of words."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_array, vstack
from scipy.special import expit
from scipy.stats import rankdata

from contracts.errors import ConfigError, DataError
from contracts.params import Positive, Seed
from contracts.uid import uniform
from curation import _bags, _ngrams, _shingles
from curation.step import Parameters, Role, Table, fit

SAMPLE = 50_000
"""Texts of each class that the fit looks at."""
HELD_OUT = 10
"""One text in so many is not learned from, but tells how good the model is."""
HEAVIEST = 10
"""Words and pairs of each sign that are named."""

Floats = NDArray[np.float64]


def plan(_rows: int, parameters: Parameters) -> tuple[int, Parameters]:
    """Return how many records to draw."""
    return 2 * SAMPLE, parameters


@fit(
    version=1,
    reads={"text": Role(pl.String), "is_positive": Role(pl.Boolean, optional=True)},
    writes={"bucket": pl.UInt32, "weight": pl.Float64, "gram": pl.String, "auc": pl.Float64},
    plan=plan,
    tables={
        "positive": Table(("text",), optional=True, wanted=True),
        "negative": Table(("text",), optional=True),
    },
)
def text_classifier(
    rows: pl.DataFrame,
    positive: pl.DataFrame | None = None,
    negative: pl.DataFrame | None = None,
    *,
    l2: Positive = 1e-5,
    seed: Seed = 0,
) -> pl.DataFrame:
    """Fit log(p / (1 - p)) = w x + b, with x the counts of a text's words and pairs at length 1.

    The loss is the mean of -log p over the positive texts, half, and of -log(1 - p) over the
    negative ones, half, plus l2 / 2 |w|^2: p is the probability of a good text where both kinds are
    equally frequent. It has one minimum, found over all texts at once (L-BFGS). Words are compared
    after NFKC and case folding and without punctuation, in 262,144 buckets of a hash.

    A text that is there several times counts once. A tenth of each class, drawn by the text, is
    held out; of fewer than 10 texts none is. Both classes should come by one way of extraction, or
    the model learns the way; the heaviest words and pairs show it.

    Reads:
        text: of the pool's records.
        is_positive: whether a record is an example of good text, by any expression; null takes no
            part. Without it every record is a negative one.
        positive: examples of good text, in place of the pool's.
        negative: examples of other text, in place of the pool's.
    Args:
        l2: how much large weights cost.
        seed: another one holds other texts out.
    Reference: Li et al. 2024, DataComp-LM, arXiv:2406.11794, section 4.4, there by fastText, whose
        training by several threads is not the same twice; Brown et al. 2020, arXiv:2005.14165,
        appendix A, for a linear model over hashed words.
    Returns:
        bucket: those that occur; null in the first row, which is the intercept's.
        weight: w of the bucket; b in the first row.
        gram: a word or pair of the bucket, of the ten heaviest of each sign; else null.
        auc: in the first row: how often a held-out positive text scores above a held-out negative
            one; null where a class has fewer than 10 texts.
    Cost: some 200 passes over the words and pairs of at most 50,000 texts of each class, in memory
        at 12 bytes each.
    Raises:
        ConfigError: neither `positive` nor `is_positive` is bound.
        DataError: a class has no text with words.
    """
    good, bad = _classes(rows, positive, negative)
    learned, held_out = zip(*(_split(texts, seed) for texts in (good, bad)), strict=True)
    texts, is_good = pl.concat(learned), np.repeat([True, False], list(map(len, learned)))
    buckets, weights, intercept = _minimum(_matrix(texts), is_good, l2)
    every = np.zeros(_ngrams.BUCKETS)
    every[buckets] = weights
    order = np.argsort(weights, kind="stable")
    heaviest = buckets[np.unique(np.concatenate([order[:HEAVIEST], order[-HEAVIEST:]]))]
    table = pl.DataFrame({"bucket": buckets, "weight": weights}).join(
        _named(texts, heaviest), on="bucket", how="left", maintain_order="left"
    )
    first = {"bucket": None, "weight": intercept, "gram": None, "auc": None}
    if all(map(len, held_out)):
        first["auc"] = _auc(*(_matrix(part) @ every for part in held_out))
    schema = pl.Schema(text_classifier.writes)
    return pl.concat([pl.DataFrame([first], schema), table.with_columns(auc=None).cast(schema)])


def _classes(
    rows: pl.DataFrame, positive: pl.DataFrame | None, negative: pl.DataFrame | None
) -> tuple[pl.Series, pl.Series]:
    is_bound = "is_positive" in rows.columns
    if positive is None and not is_bound:
        raise ConfigError(
            "text_classifier needs examples of good text: bind the table positive, such as "
            '"file:good.jsonl" or "pool:good", or the role is_positive, such as '
            "\"meta.source = 'wikipedia'\"."
        )
    good = rows.filter(pl.col("is_positive")) if positive is None else positive
    others = rows.filter(~pl.col("is_positive")) if is_bound else rows
    classes = [frame["text"] for frame in (good, others if negative is None else negative)]
    for name, texts in zip(("positive", "negative"), classes, strict=True):
        if not any(bags.nnz for _, bags in _bags.blocks(texts)):
            raise DataError(f"text_classifier: no {name} text has a word.")
    return classes[0], classes[1]


def _split(texts: pl.Series, seed: int) -> tuple[pl.Series, pl.Series]:
    """Return the texts to learn from and those held out, each once, in an order of their own."""
    texts = texts.drop_nulls().unique()
    digests = b"".join(hashlib.blake2b(t.encode(), digest_size=8).digest() for t in texts)
    keys = np.frombuffer(digests, dtype="<u8")
    order = np.lexsort((keys, uniform(keys, seed, "text_classifier")))[:SAMPLE]
    drawn = texts.gather(order)
    number = len(drawn) // HELD_OUT
    return drawn[number:], drawn[:number]


def _matrix(texts: pl.Series) -> Any:
    return vstack([bags for _, bags in _bags.blocks(texts)], format="csr")


def _minimum(x: Any, is_good: NDArray[np.bool_], l2: float) -> tuple[NDArray[Any], Floats, float]:
    """Return the buckets that occur, their weights, and the intercept."""
    buckets, columns = np.unique(x.indices, return_inverse=True)
    x = csr_array((x.data, columns, x.indptr), shape=(x.shape[0], len(buckets)))
    sign = np.where(is_good, 1.0, -1.0)
    share = 0.5 / np.where(is_good, is_good.sum(), (~is_good).sum())

    def loss(w: Floats) -> tuple[float, Floats]:
        margin = sign * (x @ w[:-1] + w[-1])
        value = (share * np.logaddexp(0, -margin)).sum() + l2 / 2 * np.square(w[:-1]).sum()
        slope = -share * sign * expit(-margin)
        return value, np.append(x.T @ slope + l2 * w[:-1], slope.sum())

    start = np.zeros(len(buckets) + 1)
    options = {"maxiter": 1000, "ftol": 1e-8, "gtol": 1e-7}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", options=options)
    return buckets.astype(np.uint32), found.x[:-1], float(found.x[-1])


def _named(texts: pl.Series, buckets: NDArray[np.uint32]) -> pl.DataFrame:
    """Return for each bucket a word or pair, from the first text that has it."""
    names: dict[int, str] = {}
    for here, bags in _bags.blocks(texts):
        hits = bags[:, buckets].tocoo()
        _, first = np.unique(hits.col, return_index=True)
        for row in np.unique(hits.row[first]).tolist():
            text = texts[here][row]
            words = _shingles.tokens(text, "word")
            grams = [*words, *map(" ".join, itertools.pairwise(words))]
            _, found = next(_ngrams.blocks(pl.Series([text])))
            numbers = np.concatenate([found.words, found.pairs[:-1]]).tolist()
            for bucket, gram in zip(numbers, grams, strict=True):
                names.setdefault(bucket, gram)
    schema = {"bucket": pl.UInt32, "gram": pl.String}
    named = pl.DataFrame({"bucket": list(names), "gram": list(names.values())}, schema)
    return named.filter(pl.col("bucket").is_in(buckets.tolist()))


def _auc(good: Floats, bad: Floats) -> float:
    ranks = rankdata(np.concatenate([good, bad]))[: len(good)]
    return float((ranks.sum() - len(good) * (len(good) + 1) / 2) / (len(good) * len(bad)))
