from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_series_equal

from curation.annotate.language import language

CAPTIONS = {
    "en": "A small dog runs along the beach in the evening light.",
    "de": "Ein kleiner Hund läuft am Abend über den Strand.",
    "fr": "Un petit chien court sur la plage à la tombée du soir.",
    "es": "Un perro pequeño corre por la playa al anochecer.",
    "ru": "Маленькая собака бежит по пляжу вечером.",
    "zh": "一只小狗傍晚在海滩上奔跑。",
    "ja": "小さな犬が夕方の浜辺を走っています。",
    "th": "สุนัขตัวเล็กวิ่งบนชายหาดในตอนเย็น",
    "ar": "كلب صغير يركض على الشاطئ في المساء.",
}


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def test_each_caption_is_labelled_with_its_iso_639_1_code():
    found = language(table(list(CAPTIONS.values())))
    assert found["label"].to_list() == list(CAPTIONS)
    assert found["confidence"].is_between(0, 1).all()


@pytest.mark.parametrize("text", [None, "", "   ", "12 345", "!?…", "🐶"])
def test_a_text_without_letters_has_no_language(text: str | None):
    assert language(table([text])).row(0) == (0, None, None)


def test_the_confidence_is_the_softmax_of_the_models_scores():
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    model.set_languages([code for code in model.labels if len(code) == 2])
    ranks = [model.rank(text) for text in CAPTIONS.values()]
    assert all(abs(sum(p for _, p in rank) - 1) < 1e-5 for rank in ranks)
    expected = pl.Series("confidence", [rank[0][1] for rank in ranks], dtype=pl.Float32)
    assert_series_equal(language(table(list(CAPTIONS.values())))["confidence"], expected)


@pytest.mark.data
def test_ninety_eight_of_a_hundred_package_descriptions_get_their_language(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet").sample(1000, seed=0)
    found = language(table(rows["text"].to_list()))
    assert (found["label"] == rows["lang"]).mean() > 0.98
