"""Language of a text and how sure the identifier is."""

from __future__ import annotations

from functools import cache
from typing import Any

import polars as pl

from curation.step import Role, rowwise


@rowwise(
    version=1,
    reads={"text": Role(pl.String)},
    writes={"label": pl.String, "confidence": pl.Float32},
)
def language(rows: pl.DataFrame) -> pl.DataFrame:
    """Name the most likely of the languages that have an ISO 639-1 code.

    A naive Bayes model of byte n-grams; its scores, divided by the square root of the length in
    bytes, go through a softmax over the languages, so that a caption gets a lower confidence than
    a document of the same language.

    Reads:
        text: what is identified.
    Reference: Lui and Baldwin 2012, langid.py, ACL system demonstrations; model of py3langid.
    Writes:
        label: ISO 639-1, such as `en`; null where the text is null or holds no letter.
        confidence: probability of the label, in [0, 1]; null where the label is.
    Cost: some 45 microseconds for 60 bytes and 0.2 ms for 400, the model loaded once a process.
    """
    classify = _identifier().classify
    lettered = rows["text"].str.contains(r"\p{L}")
    found = [
        classify(text) if has_letters else (None, None)
        for text, has_letters in zip(rows["text"], lettered, strict=True)
    ]
    return pl.DataFrame(
        {
            "label": pl.Series([label for label, _ in found], dtype=pl.String),
            "confidence": pl.Series([sure for _, sure in found], dtype=pl.Float32),
        }
    )


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages([code for code in identifier.labels if len(code) == 2])
    return identifier
