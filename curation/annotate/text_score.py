"""How good a text is by a linear model of its words: of `text_classifier`, or of fastText."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import polars as pl
from scipy.special import expit

from contracts.errors import ConfigError, nearest
from contracts.params import File
from curation import _bags, _fasttext, _ngrams
from curation._files import once
from curation.step import Parameters, Role, Table, rowwise


def _check(parameters: Parameters, bound: Collection[str]) -> str | None:
    if ("classifier" in bound) == (parameters["weights"] is not None):
        return (
            'give either the table classifier, such as "fit.text_classifier", or weights, the file '
            "of a classifier of fastText."
        )
    if parameters["weights"] is not None and parameters["label"] is None:
        return "name by label the file's label of good texts."
    return None


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"score": pl.Float32},
    tables={"classifier": Table(("bucket", "weight"), optional=True)},
    check=_check,
)
def text_score(
    rows: pl.DataFrame,
    classifier: pl.DataFrame | None = None,
    *,
    weights: File = None,
    label: str | None = None,
) -> pl.DataFrame:
    """Give the probability that a text is of the good ones that a model was trained on.

    Of a classifier it is 1 / (1 + exp(-(w x + b))) of the counts x of the words and pairs of a text
    at length 1; of a file of fastText the probability of the label, as its `predict` gives it, a
    newline counting as a space. Neither is a share of anything in the pool: cut by rank, with
    `top`, or by a threshold that was found for this very model.

    Reads:
        text: what is scored.
        classifier: such as `fit.text_classifier`.
    Args:
        weights: a classifier of fastText in place of `classifier`, such as DCLM's.
        label: of the file, the one of good texts, for DCLM's `hq`; without `__label__`.
    Reference: Li et al. 2024, DataComp-LM, arXiv:2406.11794, section 4.4; Joulin et al. 2016,
        arXiv:1607.01759.
    Writes:
        score: in [0, 1], of fastText up to 1e-5 above for each branching of its tree; null for a
            null text and for one without words. Of words that a classifier never saw it is the
            intercept's; null where a file of fastText has no row for any part of the text.
    Cost: of a classifier some 30 MB of text a second, and 2 MB; of fastText as `language`.
    Raises:
        ConfigError: not exactly one of `classifier` and `weights` is given, or the file has no such
            label.
    """
    if weights is not None and label is not None:
        return pl.DataFrame({"score": _by_fasttext(rows["text"], weights, label)})
    assert classifier is not None
    known = classifier.select(pl.col("bucket").cast(pl.UInt32), "weight")
    of_buckets = known.drop_nulls("bucket")
    every = np.zeros(_ngrams.BUCKETS)
    every[of_buckets["bucket"].to_numpy()] = of_buckets["weight"].to_numpy()
    intercept = known.filter(pl.col("bucket").is_null())["weight"].sum()
    score = np.full(rows.height, np.nan)
    for here, bags in _bags.blocks(rows["text"]):
        score[here] = np.where(np.diff(bags.indptr) > 0, expit(bags @ every + intercept), np.nan)
    return pl.DataFrame({"score": pl.Series(score, dtype=pl.Float32).fill_nan(None)})


def _by_fasttext(texts: pl.Series, weights: str, label: str) -> pl.Series:
    model = _read(Path(weights))
    name = label.removeprefix(_fasttext.LABEL.decode())
    if name not in model.labels:
        raise ConfigError(
            f"text_score: label is one of the file's {len(model.labels)}, such as "
            f"{model.labels[:5]} (got {label!r}).{nearest(name, model.labels)}"
        )
    numbers, sure = model(texts, model.labels.index(name))
    is_known = texts.is_not_null() & pl.Series(numbers >= 0)
    return pl.select(pl.when(is_known).then(pl.Series(sure))).to_series()


_read = once(_fasttext.read)
