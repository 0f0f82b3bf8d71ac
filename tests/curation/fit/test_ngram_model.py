from __future__ import annotations

from collections import Counter, defaultdict

import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.perplexity import perplexity
from curation.fit.ngram_model import ngram_model

TEXTS = ["the cat sat on the mat", "the cat ran", "a dog sat on the cat", "the the", "dog"]


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


class Oracle:
    """Interpolated Kneser-Ney over tuples of words."""

    def __init__(self, texts: list[str], order: int) -> None:
        self.order = order
        counts = [Counter[tuple[str, ...]]() for _ in range(order + 1)]
        for text in texts:
            words = ["<s>", *text.split()]
            for end in range(2, len(words) + 1):
                for length in range(1, min(order, end) + 1):
                    counts[length][tuple(words[end - length : end])] += 1
        self.c = []
        for length in range(order + 1):
            before = Counter(g[1:] for g in counts[length + 1]) if length < order else {}
            self.c.append({g: before.get(g) or n for g, n in counts[length].items()})
        self.discount, self.follow = [0.0], [{}]
        for c in self.c[1:]:
            once, twice = (sum(n == wanted for n in c.values()) for wanted in (1, 2))
            self.discount.append((once + 1) / (once + 2 * twice + 2))
            follow = defaultdict(list)
            for gram, n in c.items():
                follow[gram[:-1]].append(n)
            self.follow.append(follow)

    def p(self, word: str, history: tuple[str, ...]) -> float:
        length = len(history) + 1
        below = self.p(word, history[1:]) if history else 1 / (len(self.c[1]) + 1)
        follow = self.follow[length].get(history)
        if not follow:
            return below
        c = self.c[length].get((*history, word), 0)
        saved = self.discount[length] * len(follow)
        return (max(c - self.discount[length], 0) + saved * below) / sum(follow)

    def perplexity(self, text: str) -> float:
        words = ["<s>", *text.split()]
        product = 1.0
        for end in range(1, len(words)):
            product *= self.p(words[end], tuple(words[max(0, end - self.order + 1) : end]))
        return product ** (-1 / (len(words) - 1))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_perplexity_is_that_of_interpolated_kneser_ney_over_words(order: int):
    oracle = Oracle(TEXTS, order)
    model = ngram_model(table(TEXTS), order=order)
    asked = [
        "the cat sat on the cat",
        "a cat",
        "unseen",
        "dog unseen dog",
        "the dog ran the mat on",
    ]
    found = perplexity(table(asked), model)["value"].to_list()
    assert found == pytest.approx([oracle.perplexity(text) for text in asked], rel=1e-5)
    assert model["order"].max() == order


def test_the_probabilities_of_what_may_follow_are_one_together():
    oracle = Oracle(TEXTS, 3)
    words = [gram[0] for gram in oracle.c[1]]
    for history in [(), ("the",), ("sat", "on"), ("never", "seen"), ("<s>", "dog")]:
        assert sum(oracle.p(word, history) for word in [*words, "unseen"]) == pytest.approx(1)


def test_one_text_of_one_word_gives_what_one_reckons_by_hand():
    # One word, seen once: D = (1 + 1) / (1 + 2), so p = 1/3 + 2/3 x 1/2.
    model = ngram_model(table(["dog"]), order=1)
    assert perplexity(table(["dog", "cat"]), model)["value"].to_list() == pytest.approx([1.5, 3])


def test_without_words_there_is_no_model():
    with pytest.raises(DataError, match="no text has a word"):
        ngram_model(table([None, "", " "]))
