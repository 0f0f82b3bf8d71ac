from __future__ import annotations

from collections import Counter

import polars as pl
from polars.testing import assert_frame_equal

from curation import _ngrams, _shingles
from curation.fit.ngram_counts import ngram_counts

TEXTS = ["The cat, the cat!", "a dog", "", None, "cat", "ﬁne Straße 狗在海滩 cafe\u0301", "THE CAT"]


def table(texts: list[str | None]) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def bucket(gram: str) -> int:
    """Return where a word or a pair is counted: of a pair what its two words do not explain."""
    found = _ngrams.counts(pl.Series([gram]))
    for word in gram.split(" ") if " " in gram else []:
        found -= _ngrams.counts(pl.Series([word]))
    (place,) = found.nonzero()[0]
    return int(place)


def test_words_and_pairs_are_those_of_the_folded_text_and_no_pair_goes_over_its_end():
    counted: Counter[str] = Counter()
    for text in filter(None, TEXTS):
        words = _shingles.tokens(text, "word")
        counted.update(words)
        counted.update(" ".join(words[n : n + 2]) for n in range(len(words) - 1))
    assert (counted["the cat"], counted["cat"], counted["cat a"]) == (3, 4, 0)
    found = ngram_counts(table(TEXTS))
    expected = {bucket(gram): count for gram, count in counted.items()}
    assert len(expected) == len(counted)
    assert dict(found.select("bucket", "count").iter_rows()) == expected
    assert found["target_count"].sum() == 0


def test_of_parts_the_pools_counts_add_up_and_the_targets_do_not():
    rows, target = table(TEXTS * 3), pl.DataFrame({"text": ["the cat", None, "another"]})
    whole = ngram_counts(rows, target)
    parts = [ngram_counts(rows[start : start + 5], target) for start in range(0, 21, 5)]
    assert_frame_equal(ngram_counts.fold(parts), whole)
    assert whole["target_count"].sum() == 4
    assert whole.filter(pl.col("bucket") == bucket("another"))["count"].to_list() == [0]
