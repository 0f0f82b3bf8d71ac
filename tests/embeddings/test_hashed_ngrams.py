from __future__ import annotations

import math
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from embeddings.hashed_ngrams import HashedNgrams, features


def bag(text: str) -> dict[object, float]:
    """The unfolded bag, counted one n-gram at a time."""
    clean = " " + " ".join(unicodedata.normalize("NFKC", text).casefold().split()) + " "
    grams: list[object] = [
        (n, clean[i : i + n]) for n in (3, 4, 5) for i in range(len(clean) - n + 1)
    ]
    return {key: 1 + math.log(n) for key, n in Counter(grams + clean.split()).items()}


def cosine(a: dict[object, float], b: dict[object, float]) -> float:
    dot = sum(value * b.get(key, 0) for key, value in a.items())
    return dot / math.hypot(*a.values()) / math.hypot(*b.values())


def encode(*texts: str | None, dimension: int = 256) -> np.ndarray:
    rows = pl.DataFrame({"text": pl.Series(texts, dtype=pl.String)})
    return HashedNgrams(dimension=dimension)(rows)["vector"].to_numpy().astype(np.float64)


TEXTS = [
    "A dog runs in the park",
    "the dog runs in a park",
    "Quarterly earnings of the bank",
    "日本語のテキスト",
    "ＡＢＣ abc",
    "x",
]


def test_a_text_has_the_features_that_counting_by_hand_finds() -> None:
    rows, hashes = features(["abc", "", "a b"])
    # " abc " has 3 + 2 + 1 n-grams and a word, "  " nothing, " a b " 3 + 2 + 1 and two words.
    assert np.bincount(rows).tolist() == [7, 0, 8]
    assert len(np.unique(hashes[rows == 0])) == 7


def test_every_ngram_and_word_has_its_own_hash() -> None:
    rows, hashes = features(TEXTS)
    for number, text in enumerate(TEXTS):
        assert len(np.unique(hashes[rows == number])) == len(bag(text))
    distinct = {key for text in TEXTS for key in bag(text)}
    assert len(np.unique(hashes)) == len(distinct)


def test_with_many_buckets_the_cosine_is_that_of_the_unfolded_bags() -> None:
    x_ND = encode(*TEXTS, dimension=2**16)
    exact = [[cosine(bag(a), bag(b)) for b in TEXTS] for a in TEXTS]
    assert np.abs(x_ND @ x_ND.T - exact).max() < 0.01
    assert exact[0][1] > 0.5


def test_folding_into_few_buckets_is_unbiased() -> None:
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 6)) for _ in range(200)]
    texts = [" ".join(rng.choice(words, 8)) for _ in range(60)]
    x_ND = encode(*texts, dimension=64)
    exact = np.array([[cosine(bag(a), bag(b)) for b in texts] for a in texts])
    error = (x_ND @ x_ND.T - exact)[np.triu_indices(60, 1)]
    assert abs(error.mean()) < 0.01
    assert 0.05 < error.std() < 0.2  # 1 / sqrt(64) = 0.125: few buckets cost precision, not bias


def test_case_width_and_white_space_have_no_effect_but_letters_do() -> None:
    a, b, c = encode("Ｇreen  Tea\n", "green tea", "green sea")
    assert (a == b).all()
    assert a @ c < 0.9


def test_a_text_without_letters_has_no_vector() -> None:
    assert HashedNgrams()(pl.DataFrame({"text": ["", " \n", "a"]}))[
        "vector"
    ].is_null().to_list() == [
        True,
        True,
        False,
    ]


def test_the_number_of_buckets_is_in_the_fingerprint_and_the_type() -> None:
    wide = HashedNgrams(dimension=512)
    assert wide.fingerprint != HashedNgrams().fingerprint
    assert dict(wide.writes) == {"vector": 512}


@pytest.mark.data
def test_a_text_whose_last_word_changed_is_found_again_among_real_descriptions(data: Path) -> None:
    frame = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    frame = frame.filter(pl.col("lang") == "en")
    texts = frame["text"].unique(maintain_order=True)[:2000].to_list()
    edited = [" ".join(text.split()[:-1]) + " indeed" for text in texts]
    x_ND, y_ND = encode(*texts), encode(*edited)
    hits = (y_ND @ x_ND.T).argmax(axis=1) == np.arange(len(texts))
    assert hits.mean() > 0.95
