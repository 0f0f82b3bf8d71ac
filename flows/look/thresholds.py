"""Thresholds: what each cut of a number would keep, with the records at it, from notes alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from contracts.errors import ConfigError, nearest
from contracts.uid import hex_uid, uniform
from flows.recipe.expressions import Expression, bound_roles, nan_as_null
from storage import tables

if TYPE_CHECKING:
    from flows.look.views import RunView, Winnow

CUTS = 20
EXAMPLES = 3
STREAM = "thresholds"
TEXT_CHARACTERS = 200


@dataclass(frozen=True)
class Example:
    """A record at a cut.

    Attributes:
        uid: as 16 hexadecimal digits.
        source: source name and source id.
        value: of the signal.
    """

    uid: str
    source: str
    text: str | None
    value: float


@dataclass(frozen=True)
class Cut:
    """A value to cut at: that of the record below which a share of the measured ones lies.

    Attributes:
        quantile: that share, in [0, 1).
        at_least: the share of all records that `signal >= value` keeps.
        at_most: the share that `signal <= value` keeps.
        examples: the first records from there on, by value and among equals by chance.
    """

    quantile: float
    value: float
    at_least: float
    at_most: float
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class Table:
    """What the cuts of a signal keep.

    Attributes:
        signal: a column, or SQL over columns.
        rules: those that name it.
        records: of the pool, less the hold-out; the shares are of them.
        unmeasured: those without a value, which every rule drops.
    """

    signal: str
    rules: tuple[str, ...]
    records: int
    unmeasured: int
    cuts: tuple[Cut, ...]


def asked(
    opened: Winnow, name: str | None, run_name: str | None, version: int | None
) -> tuple[RunView, str | None]:
    """Return the run that is asked, and the alias or column of its notes that `name` is.

    Args:
        opened: the store.
        name: an alias or a column of the last run's notes, else the name of a run.
        run_name: which run; the last one where not given.
        version: of that run.

    Raises:
        ConfigError: `name` is neither.
    """
    runs = opened.store.names("run")
    if run_name is None and name in runs and not of(signals(opened.run()), name):
        return opened.run(name, version), None
    run = opened.run(run_name, version)
    if name is not None and not of(signals(run), name):
        known = [*signals(run), *(s.partition(".")[0] for s in signals(run)), *runs]
        raise ConfigError(
            f"{name}: no number of run {run.name} is called so, and no run.{nearest(name, known)}"
        )
    return run, name


def signals(run: RunView) -> dict[str, tuple[str, ...]]:
    """Return a run's numeric columns, and the rules that name each: these first, in their order.

    The others are those of the notes. What has 64 unsigned bits is a uid or a hash, and none.
    """
    rules: dict[str, list[str]] = {}
    for rule in run.recipe["select"]:
        for path in run.named(rule):
            rules.setdefault(path, []).append(rule["name"])
    paths = list(dict.fromkeys([*rules, *run.reader.columns]))
    types = _types(run, paths)
    return {
        path: tuple(rules.get(path, ()))
        for path in paths
        if types[path].is_numeric() and types[path] != pl.UInt64
    }


def _types(run: RunView, paths: Sequence[str]) -> dict[str, Any]:
    """Return the types of columns: in the first part that has one."""
    reader = run.reader
    found: dict[str, Any] = {}
    for index, part in enumerate(reader.pool.parts):
        unknown = [path for path in paths if path not in found]
        own = tables.part_schema(reader.store, part) if unknown else {}
        for path, (item, column) in reader.notes_at(index, unknown).items():
            own[path] = tables.schema(reader.store, item)[column]
        found |= {path: own[path] for path in unknown if own.get(path, pl.Null) != pl.Null}
    return dict.fromkeys(paths, pl.Null()) | found


def thresholds(run: RunView, alias: str | None = None, signal: str | None = None) -> list[Table]:
    """Return the table of a signal, of all of an alias, or of those that rules name.

    Args:
        run: the run.
        alias: of the notes, or one column of them. Where neither it nor a signal is given and no
            rule names a number, every number of the notes is taken.
        signal: a column, or SQL over columns.

    Raises:
        ConfigError: a signal is no number, or names an unknown column.
    """
    known = signals(run)
    if signal is not None:
        chosen = [signal]
    elif alias is not None:
        chosen = of(known, alias)
    else:
        chosen = [path for path, rules in known.items() if rules] or list(known)
    return tables_of(run, {path: known.get(path, ()) for path in chosen})


def tables_of(run: RunView, chosen: dict[str, tuple[str, ...]]) -> list[Table]:
    """Return the tables of signals, each with the rules that name it.

    Cost: of each signal its columns and 24 bytes a record, one signal at a time; of the examples
    the text, in one pass over the parts that hold some.
    """
    cut = {signal: _cut(values(run, signal)) for signal in chosen}
    uids = [uid for _, _, rows in cut.values() for uid in rows["uid"].unique()]
    shown = _shown(run, uids)
    found = []
    for signal, (records, measured, rows) in cut.items():
        cuts = [
            Cut(
                quantile,
                group["value"][0],
                group["at_least"][0] / records,
                group["at_most"][0] / records,
                tuple(
                    Example(hex_uid(uid), *shown[uid], value)
                    for uid, value in group.select("uid", "value").iter_rows()
                ),
            )
            for (quantile,), group in rows.group_by("quantile", maintain_order=True)
        ]
        found.append(Table(signal, chosen[signal], records, records - measured, tuple(cuts)))
    return found


def values(run: RunView, signal: str) -> pl.DataFrame:
    """Return `uid` and `value`, null where unmeasured, of every record that is not held out.

    Raises:
        ConfigError: it is no number, or names an unknown column.
    """
    rows = bound(run, {"value": signal})
    if not (rows["value"].dtype.is_numeric() or rows["value"].dtype == pl.Null):
        raise ConfigError(f"{signal}: is {rows['value'].dtype}, and no number to cut.")
    return rows


def bound(run: RunView, expressions: dict[str, str]) -> pl.DataFrame:
    """Return `uid` and the values of expressions, of every record that is not held out.

    Raises:
        ConfigError: one is no SQL, or names an unknown column.
    """
    known = [*run.pool.columns, *run.reader.columns]
    # The name of a column may be no SQL.
    columns = {name: text for name, text in expressions.items() if text in known}
    roles = {name: Expression(expressions[name]) for name in expressions.keys() - columns}
    paths = [*columns.values(), *(path for role in roles.values() for path in role.paths)]
    unknown = [path for path in paths if path not in known]
    if unknown:
        raise ConfigError(f"there is no column {unknown[0]!r}.{nearest(unknown[0], known)}")
    flat = run.reader.frame(paths, run.reader.visible)
    plain = [nan_as_null(flat[path]).alias(name) for name, path in columns.items()]
    return flat.select("uid", *plain, *bound_roles(flat, roles))


def _cut(rows: pl.DataFrame) -> tuple[int, int, pl.DataFrame]:
    """Return how many records there are, how many measured, and each cut's examples.

    These are rows of quantile, uid, value, at_least and at_most: records that either side keeps.
    """
    measured = rows.drop_nulls("value")
    draws = pl.Series("draw", uniform(measured["uid"].to_numpy(), 0, STREAM))
    measured = measured.with_columns(draws).sort("value", "draw", "uid")
    count = measured.height
    steps = np.arange(CUTS if count else 0)
    starts = steps * count // CUTS
    sorted_values = measured["value"].to_numpy()
    at = sorted_values[starts]
    cuts = pl.DataFrame(
        {
            "quantile": steps / CUTS,
            "at_least": count - np.searchsorted(sorted_values, at, side="left"),
            "at_most": np.searchsorted(sorted_values, at, side="right"),
        }
    )
    places = [range(start, min(start + EXAMPLES, count)) for start in starts.tolist()]
    cuts = cuts.with_columns(pl.Series("place", places, dtype=pl.List(pl.Int64))).explode("place")
    chosen = measured[cuts["place"].to_numpy()].select("uid", "value")
    return rows.height, count, cuts.drop("place").hstack(chosen)


def _shown(run: RunView, uids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """Return source and text of some records."""
    rows = run.reader.frame(["source", "source_id", "text"], run.reader.where(uids))
    rows = rows.with_columns(pl.col("text").cast(pl.String).str.head(TEXT_CHARACTERS))
    return {uid: (f"{source}:{id}", text) for uid, source, id, text in rows.iter_rows()}


def of(known: dict[str, tuple[str, ...]], alias: str | None) -> list[str]:
    """Return the numbers of an alias, or the one column; all where there is none."""
    if alias is None:
        return list(known)
    return [path for path in known if alias in (path, path.partition(".")[0])]


def frame(found: Sequence[Table]) -> pl.DataFrame:
    """Return a row a cut."""
    rows = [
        {"signal": table.signal, **asdict(cut), "value": float(cut.value),
         "examples": [{**asdict(e), "value": float(e.value)} for e in cut.examples]}
        for table in found
        for cut in table.cuts
    ]  # fmt: skip
    return pl.DataFrame(rows, infer_schema_length=None)


def described(run: RunView, found: Sequence[Table]) -> dict[str, Any]:
    """Return what `winnow thresholds --json` prints."""
    shown = {table.signal for table in found}
    return {
        "run": run.name,
        "version": run.version,
        "signals": [
            {
                **asdict(table),
                "cuts": [
                    {**asdict(cut), "value": _finite(cut.value),
                     "examples": [{**asdict(e), "value": _finite(e.value)} for e in cut.examples]}
                    for cut in table.cuts
                ],
            }
            for table in found
        ],
        "others": [path for path in signals(run) if path not in shown],
    }  # fmt: skip


def _finite(value: float) -> float | str:
    """Return a number as JSON has it: what is infinite is a text."""
    return value if math.isfinite(value) else str(value)


def text(found: dict[str, Any]) -> str:
    """Return `described` as a person reads it."""
    lines = [f"run {found['run']} version {found['version']}; a record without a value is dropped"]
    for table in found["signals"]:
        named = f"; named by {', '.join(table['rules'])}" if table["rules"] else ""
        lines += [
            "",
            f"{table['signal']}: {table['records']:,} records, "
            f"{table['unmeasured']:,} unmeasured{named}",
            f"{'below':>6}  {'value':>12}  {'kept by >=':>10}  {'kept by <=':>10}  records there",
        ]
        for cut in table["cuts"]:
            shares = f"{cut['at_least']:>10.1%}  {cut['at_most']:>10.1%}"
            value = cut["value"] if isinstance(cut["value"], str) else f"{cut['value']:,.6g}"
            head = f"{cut['quantile']:>6.0%}  {value:>12}  {shares}"
            for example in cut["examples"]:
                words = " ".join((example["text"] or "").split())[:60]
                lines.append(f"{head}  {example['source']}  {words}".rstrip())
                head = " " * len(head)
    if found["others"]:
        lines += ["", f"more numbers: {', '.join(found['others'])}"]
    return "\n".join(lines)
