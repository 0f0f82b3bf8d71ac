from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise, product
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DataError
from curation.annotate.entry_matches import entry_matches
from curation.fit.build_metadata import build_metadata


def rows(*texts: str | None) -> pl.DataFrame:
    uids = pl.Series(range(len(texts)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})


def names(table: pl.DataFrame, source: str) -> list[str]:
    return table.filter(pl.col("source") == source)["name"].to_list()


def test_the_sources_follow_one_another_and_a_name_is_of_its_first(tmp_path: Path):
    synsets, titles = tmp_path / "synsets.txt", tmp_path / "titles.tsv"
    synsets.write_text("hot_dog.n.01\nhot_dog.n.02\ndog.n.01\n7.n.01\n.\n")
    titles.write_text("U.S.\t50\nU.S.\t30\nRare\t69\nUser:Me\t900\nNew_York\t80\nBerlin\ndog\t99\n")
    corpus = rows(*["New York, dog"] * 3, "dog", None, "")
    table = build_metadata(
        corpus,
        synsets=str(synsets),
        titles=str(titles),
        min_count=3,
        min_pmi=0.0,
        min_pair_count=2,
    )
    assert table["entry"].to_list() == list(range(table.height))
    assert names(table, "number") == [str(n) for n in range(100)]
    assert names(table, "synset") == ["hot dog", "dog"]
    assert names(table, "word") == ["New", "York"]
    assert names(table, "pair") == ["New York"]
    assert names(table, "title") == ["U.S.", "Berlin"]
    assert table.filter(~pl.col("reachable"))["name"].to_list() == ["U.S."]
    found = entry_matches(rows("2 hot dogs in New  York, U.S."), table)["entries"][0]
    assert table[found.to_list()]["name"].to_list() == ["2", "New", "York", "New York", "U.S."]


@settings(max_examples=30)
@given(st.lists(st.lists(st.sampled_from(["a", "b", "c", ","]), max_size=8), max_size=6))
def test_words_and_pairs_are_those_of_a_counter(texts: list[list[str]]):
    table = build_metadata(rows(*map(" ".join, texts)), min_count=2, min_pmi=0.5, min_pair_count=2)
    count = Counter(word for text in texts for word in text if word != ",")
    pairs = Counter(pair for text in texts for pair in pairwise(text) if "," not in pair)
    pmi = {
        f"{x} {y}": math.log2(n * count.total() / (count[x] * count[y]))
        for (x, y), n in pairs.items()
        if n >= 2
    }
    ranked = sorted((w for w in count if count[w] >= 2), key=lambda w: (-count[w], w))
    assert names(table, "word") == ranked
    close = names(table, "pair")
    assert set(close) == {pair for pair in pmi if pmi[pair] >= 0.5}
    assert [round(pmi[pair], 9) for pair in close] == sorted(
        (round(pmi[pair], 9) for pair in close), reverse=True
    )


def test_letters_of_scripts_without_spaces_are_joined_without_one():
    table = build_metadata(rows("東京 a"), min_count=1, min_pmi=0.0)
    assert set(names(table, "pair")) == {"東京", "京 a"}


def test_limits_take_the_first_of_each_source():
    corpus = rows("a b", "a b", "a c")
    table = build_metadata(
        corpus, min_count=1, min_pmi=0.0, max_words=2, max_pairs=1, num_entries=102
    )
    assert table["name"].to_list()[100:] == ["a", "b"]


def test_a_name_is_reachable_where_the_reference_finds_it_in_some_text(tmp_path: Path):
    names = ["".join(letters) for n in range(1, 5) for letters in product("a, :", repeat=n)]
    texts = rows(*("".join(letters) for n in range(5) for letters in product("a, :", repeat=n)))
    path = tmp_path / "synsets.txt"
    path.write_text("\n".join(name for name in names if name.strip() == name))
    table = build_metadata(rows(), synsets=str(path))[100:]
    found = entry_matches(texts, table, mode="reference")["entries"].explode().unique()
    assert table.filter("reachable")["entry"].to_list() == found.drop_nulls().sort().to_list()


def test_files_that_are_no_tables_of_names_are_refused(tmp_path: Path):
    path = tmp_path / "titles.tsv"
    path.write_text("Berlin\tmany\n")
    with pytest.raises(DataError, match="'many' is no number of views"):
        build_metadata(rows("a"), titles=str(path))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="no text in UTF-8"):
        build_metadata(rows("a"), synsets=str(path))
