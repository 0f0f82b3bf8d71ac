"""The score card: some records that a person judges say what each cut of a signal is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from contracts.errors import ConfigError, DataError, nearest
from contracts.uid import hex_uid, parse_uids, uniform
from evaluation.score_card import proposed, score_card
from flows.look.thresholds import bound, values
from storage import answers as stored
from storage import files

if TYPE_CHECKING:
    from flows.look.views import RunView

STRATA = 10
STREAM = "score"
QUESTION = "Is this record good?"
SHOWN_CHARACTERS = 2_000
WORDS = {"y": True, "yes": True, "true": True, "1": True,
         "n": False, "no": False, "false": False, "0": False}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """The records of a run in the order in which they are asked.

    Attributes:
        rows: uid, level and group, sorted: every beginning is a sample by strata.
        edges: the least value of each level from 1 on; level 0 has no value.
        sizes: records of each stratum, a row a level.
    """

    rows: pl.DataFrame
    edges: tuple[float, ...]
    sizes: Any


def strata(rows: pl.DataFrame, n: int, seed: int = 0) -> Drawn:
    """Return records by strata of `value`, and of `group` where there is one, in drawn order.

    The levels are tenths of the measured records; equal values are in one. So many groups, the
    largest, are strata of their own that each stratum has one of n answers; the others are one
    together. Round by round each
    stratum gives its record of the smallest draw, uniform(uid, seed, "score"), which is the same
    for every signal and question: so two signals ask mostly about the same records, and an answer
    to one is of use to the other without a bias.
    """
    measured = rows["value"].drop_nulls().sort().to_numpy()
    places = np.arange(STRATA) * len(measured) // STRATA
    edges = np.unique(measured[places]) if len(measured) else np.empty(0)
    filled = rows["value"].fill_null(0).to_numpy()
    levels = np.where(rows["value"].is_null(), 0, np.searchsorted(edges, filled, side="right"))
    group = rows["group"].cast(pl.String) if "group" in rows.columns else pl.lit("")
    found = rows.select(
        "uid",
        level=pl.Series(levels, dtype=pl.Int64),
        group=group,
        draw=pl.Series(uniform(rows["uid"].to_numpy(), seed, STREAM)),
    )
    groups = found.group_by("group").len().sort("len", "group", descending=True, nulls_last=True)
    last = max(1, n // found["level"].n_unique()) - 1 if found.height else 0
    number = pl.int_range(pl.len(), dtype=pl.Int64).clip(upper_bound=last)
    found = found.join(
        groups.select("group", number=number), on="group", nulls_equal=True, maintain_order="left"
    )
    found = (
        found.select("uid", "level", "draw", group="number")
        .sort("draw", "uid")
        .with_columns(turn=pl.int_range(pl.len()).over("level", "group"))
    )
    return Drawn(
        found.sort("turn", "draw", "uid").select("uid", "level", "group"),
        tuple(edges.tolist()),
        counted(found, (len(edges) + 1, max(1, min(len(groups), last + 1)))),
    )


def counted(rows: pl.DataFrame, shape: tuple[int, int]) -> Any:
    """Return how many records each stratum has, a row a level."""
    found = np.zeros(shape, dtype=np.int64)
    np.add.at(found, (rows["level"].to_numpy(), rows["group"].to_numpy()), 1)
    return found


@dataclass
class Session:
    """Questions on a run's records under way.

    Attributes:
        low: small values are the good ones: a cut keeps what lies at most at it.
    """

    run: RunView
    signal: str
    n: int = 50
    group: str | None = None
    question: str = QUESTION
    low: bool = False

    def __post_init__(self) -> None:
        rows = values(self.run, self.signal)
        if self.group is not None:
            rows = rows.hstack(bound(self.run, {"group": self.group}).select("group"))
        if self.low:
            rows = rows.with_columns(-pl.col("value").cast(pl.Float64))
        self.drawn = strata(rows, self.n)

    def answers(self) -> pl.DataFrame:
        """Return the drawn records that are asked of, with `good` and `known`: was it answered.

        Those that were passed over are among them; others are asked in their place.
        """
        known = stored.load(self.run.store, self.run.pool.name)
        known = known.filter(pl.col("question") == self.question)
        rows = self.drawn.rows.join(
            known.select("uid", "good", known=True), on="uid", how="left", maintain_order="left"
        ).with_columns(pl.col("known").fill_null(False))
        passed = rows["known"] & rows["good"].is_null()
        return rows.filter((~passed).cum_sum() <= self.n)

    def ask(self, answer: Callable[[str], str]) -> None:
        """Ask what is open, until all is answered or `q`; what was answered is kept in any case.

        Args:
            answer: shows a question and returns what was typed.
        """
        rows = self._open()
        given: list[tuple[int, bool | None]] = []
        try:
            while rows.height:
                for uid, shown in self._records(rows["uid"].to_list()):
                    word = _word(f"{shown}\n{self.question} [y/n/s/q] ", answer)
                    if word == "q":
                        return
                    given.append((uid, WORDS.get(word)))
                self._keep(given)
                given, rows = [], self._open()
        finally:
            self._keep(given)

    def take(self, path: Path) -> tuple[int, int]:
        """Take answers from a file; return how many, and how many rows name no record.

        Args:
            path: Parquet, CSV or JSON lines with `uid` or `source_id`, and `good`.

        Raises:
            ConfigError: it lacks a column, or one of its answers is none.
            DataError: none of its records is in the pool.
        """
        columns = list(files.columns(path))
        key = "uid" if "uid" in columns else "source_id"
        missing = [c for c in (key, "good") if c not in columns]
        if missing:
            raise ConfigError(f"{path}: has no column {missing[0]!r}, only {columns}.")
        rows = files.load(path, key=key)
        words = rows["good"].cast(pl.String).str.to_lowercase()
        unknown = words.filter(~words.is_in([*WORDS]) & words.is_not_null())
        if len(unknown):
            raise ConfigError(f"{path}: {unknown[0]!r} is no answer.{nearest(unknown[0], WORDS)}")
        good = words.replace_strict(WORDS, default=None, return_dtype=pl.Boolean)
        known = self.run.reader.frame([] if key == "uid" else ["source_id"])
        keys = parse_uids(rows["uid"]) if key == "uid" else rows["source_id"].cast(pl.String)
        found = pl.DataFrame({key: keys, "good": good}).join(known, on=key, maintain_order="left")
        if not found.height:
            raise DataError(f"{path}: none of its {rows.height:,} records is in the pool.")
        self._keep(list(found.select("uid", "good").iter_rows()))
        return found.height, rows.height - int(keys.is_in(found[key].implode()).sum())

    def _keep(self, given: list[tuple[int, bool | None]]) -> None:
        if given:
            rows = pl.DataFrame(given, schema={"uid": pl.UInt64, "good": pl.Boolean}, orient="row")
            rows = rows.with_columns(question=pl.lit(self.question))
            with self.run.store.lease():
                stored.add(self.run.store, self.run.pool.name, rows)

    def _open(self) -> pl.DataFrame:
        return self.answers().filter(~pl.col("known"))

    def _records(self, uids: list[int]) -> list[tuple[int, str]]:
        reader = self.run.reader
        rows = reader.frame(["source", "source_id", "text"], reader.where(uids))
        shown = {
            uid: f"\n{source}:{id}  {hex_uid(uid)}\n{(text or '')[:SHOWN_CHARACTERS]}"
            for uid, source, id, text in rows.iter_rows()
        }
        return [(uid, shown[uid]) for uid in uids]

    def card(self) -> dict[str, Any]:
        """Return what `winnow score --json` prints."""
        rows = self.answers()
        answered = rows.filter(pl.col("good").is_not_null())
        sizes = self.drawn.sizes
        good = answered.filter("good")
        cuts = score_card(sizes, counted(answered, sizes.shape), counted(good, sizes.shape))
        cuts = [cut for cut in cuts if cut.level] if answered.height else []
        best = proposed(cuts)
        sign = -1 if self.low else 1
        return {
            "run": self.run.name,
            "version": self.run.version,
            "signal": self.signal,
            "keeps": "<=" if self.low else ">=",
            "group": self.group,
            "question": self.question,
            "n": self.n,
            "answered": answered.height,
            "passed_over": rows.filter(pl.col("known") & pl.col("good").is_null()).height,
            "open": [hex_uid(uid) for uid in rows.filter(~pl.col("known"))["uid"]],
            "unmeasured": int(sizes[0].sum()),
            "cuts": [
                {
                    "value": sign * self.drawn.edges[cut.level - 1],
                    "kept": cut.kept,
                    "precision": asdict(cut.precision),
                    "recall": None if cut.recall is None else asdict(cut.recall),
                }
                for cut in cuts
            ],
            "proposed": None if best is None else sign * self.drawn.edges[best.level - 1],
        }


def _word(question: str, answer: Callable[[str], str]) -> str:
    """Return y, n, s or q, asked again until it is one; the end of the input is q."""
    while True:
        typed = answer(question)
        word = typed.strip().lower() if typed else "q"
        if word in WORDS or word[:1] in ("s", "q"):
            return word if word in WORDS else word[:1]


def text(card: dict[str, Any]) -> str:
    """Return a card as a person reads it."""
    lines = [
        f"{card['signal']}: {card['question']}",
        f"{card['answered']} of {card['n']} answered, {card['passed_over']} passed over",
    ]
    if card["cuts"]:
        lines.append(f"{'cut':>14}  {'kept':>6}  {'precision':<22}  recall")
    for cut in card["cuts"]:
        precision, recall = (_range(cut[name]) for name in ("precision", "recall"))
        value = f"{card['keeps']} {cut['value']:,.6g}"
        mark = "  <- largest F1" if cut["value"] == card["proposed"] else ""
        lines.append(f"{value:>14}  {cut['kept']:>6.1%}  {precision:<22}  {recall}{mark}")
    return "\n".join(lines)


def _range(found: dict[str, float] | None) -> str:
    if found is None:
        return "unknown"
    return f"{found['value']:.1%} [{found['low']:.1%}, {found['high']:.1%}]"
