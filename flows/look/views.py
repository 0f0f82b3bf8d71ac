"""What `winnow.open` returns: pools and runs to read, re-cut and ask why.

What only reads a run's notes plans nothing, so that no method and no encoder is imported for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import polars as pl

from contracts.errors import ConfigError, DataError, nearest
from contracts.uid import parse_uids
from flows.ingest import quarantine
from flows.look.render import FUNNEL, funnel_rows, funnel_text, html_table, listing, table_text
from flows.look.why import explained, why
from flows.pool_reader import HOLDOUT, Mask, PoolReader
from flows.recipe.expressions import Expression
from storage import tables
from storage.runs import held_run, load_run
from storage.store import Object, Store

if TYPE_CHECKING:
    from flows.look.recut import Recut
    from flows.measure.runtime import Runtime
    from flows.recipe.plan import Plan


class Winnow:
    """A store, opened for reading."""

    _opened: ClassVar[dict[Path, Winnow]] = {}

    def __init__(self, store: Store, given: Mapping[str, Any] | None = None) -> None:
        self.store, self._given = store, given or {}
        self._opened.pop(store.root, None)
        self._opened[store.root] = self

    @classmethod
    def opened(cls) -> list[Winnow]:
        """Return the stores that were opened in this process, the last one first."""
        return list(reversed(cls._opened.values()))

    def pool(self, name: str, version: int | None = None) -> PoolView:
        """Return a version of a pool, the latest where none is given.

        Raises:
            ConfigError: there is no such pool.
        """
        pool = tables.load_pool(self.store, name, version)
        if pool is None:
            raise ConfigError(
                f"there is no pool {name!r}.{nearest(name, self.store.names('pool'))}"
            )
        return PoolView(self.store, pool)

    def run(self, name: str | None = None, version: int | None = None) -> RunView:
        """Return a run of a recipe, the last where no version is given.

        Args:
            name: the recipe's; of several the one that made a version last where not given.
            version: of that recipe's runs, or of what the guard holds.

        Raises:
            ConfigError: there is no such run.
        """
        names = self.store.names("run")
        if name is None and not names:
            raise ConfigError("nothing was run here yet: `winnow run` first.")
        name = name or max(names, key=self._last_written)
        ref = load_run(self.store, name, version)
        if ref is None and version is not None:
            held = held_run(self.store, name)
            ref = held if held is not None and held["version"] == version else None
        if ref is None:
            raise ConfigError(f"there is no run {name!r}.{nearest(name, names)}")
        return RunView(self.store, ref, self._given)

    def leaderboard(self) -> str:
        """Return what each recipe's last version reached, beside random sets, as Markdown."""
        from flows.look import leaderboard

        return leaderboard.page(self.store)

    def _last_written(self, run: str) -> int:
        path = self.store.ref_path("run", run, self.store.versions("run", run)[-1])
        return path.stat().st_mtime_ns

    def __repr__(self) -> str:
        items = listing(self.store)
        return f"winnow store {self.store.root}" + (f"\n{table_text(items)}" if items else "")

    def _repr_html_(self) -> str:
        return html_table(listing(self.store))


class PoolView:
    """One version of a pool."""

    def __init__(self, store: Store, pool: tables.Pool) -> None:
        self._store, self._pool = store, pool

    @property
    def name(self) -> str:
        """The pool's name."""
        return self._pool.name

    @property
    def version(self) -> int:
        """The pool's version."""
        return self._pool.version

    @property
    def records(self) -> int:
        """Live records."""
        return self._pool.records

    @cached_property
    def reader(self) -> PoolReader:
        """What reads the pool's parts."""
        return PoolReader(self._store, self._pool)

    @cached_property
    def columns(self) -> list[str]:
        """What `frame` takes: `uid` and the columns of the parts' records."""
        found: dict[str, None] = {"uid": None}
        for part in self._pool.parts:
            found |= dict.fromkeys(tables.schema(self._store, part.records))
        return [c for c in found if c != "meta"]

    def frame(self, *columns: str) -> pl.LazyFrame:
        """Return `uid` and columns such as `text` and `meta.url`; all but the payload by default.

        Raises:
            ConfigError: there is no such column.
        """
        known = self.columns
        unknown = [c for c in columns if c not in known]
        if unknown:
            raise ConfigError(f"there is no column {unknown[0]!r}.{nearest(unknown[0], known)}")
        wanted = columns or tuple(c for c in known if c not in ("uid", "record"))
        return self.reader.frame([c for c in wanted if c != "uid"]).lazy()

    def texts(self) -> pl.DataFrame:
        """Return `uid` and `text`, null where the pool has none."""
        return self.reader.frame(["text"])

    def images(self, uids: Sequence[int | str]) -> pl.DataFrame:
        """Return `payloads` of a pool of images, or of one of texts, which has none.

        Raises:
            ConfigError: the pool's payloads are of another kind.
        """
        kind = self._pool.kind or "image"
        if kind != "image":
            raise ConfigError(
                f"pool {self.name!r} has {kind} and no images: payloads(uids) gives it."
            )
        return self.payloads(uids)

    def payloads(self, uids: Sequence[int | str]) -> pl.DataFrame:
        """Return `uid` and the encoded bytes of some records, in pool order.

        They are called by their kind: `image`, which a pool of texts has too but no row of it,
        `audio` or `volume`; null where there is none, or where the file that one refers to is gone.

        Args:
            uids: as integers or as 16 hexadecimal digits.
        """
        dtype = pl.String if any(isinstance(uid, str) for uid in uids) else pl.UInt64
        named = parse_uids(pl.Series(list(uids), dtype=dtype)).drop_nulls()
        kind = self._pool.kind or "image"
        frames = [pl.DataFrame(schema={"uid": pl.UInt64, kind: pl.Binary})]
        for group in self.reader.payloads(named, gone="null"):
            frames.append(group.select("uid", pl.col("payload").alias(kind)))
        return pl.concat(frames)

    def quarantine(self) -> pl.DataFrame:
        """Return what is out of it now: source, source_id, where, code, detail, digest, unit."""
        return quarantine.listed(self._store, self._pool)

    def passed_over(self) -> list[dict[str, Any]]:
        """Return what its sources passed over when they were read last: suffix, reason, count."""
        entries = self._pool.sources.values()
        return [dict(group) for entry in entries for group in entry.get("passed_over", [])]

    def __repr__(self) -> str:
        return (
            f"pool {self.name}@{self.version}: {self.records:,} records in "
            f"{len(self._pool.parts)} parts, columns {', '.join(self.columns)}"
        )


class RunView:
    """One version of a run: its verdict, and the notes that it rests on."""

    def __init__(
        self, store: Store, ref: Mapping[str, Any], given: Mapping[str, Any] | None = None
    ) -> None:
        self.store, self.ref, self._given = store, ref, given or {}

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self.ref["run"])

    @property
    def version(self) -> int:
        """The run's version."""
        return int(self.ref["version"])

    @property
    def result(self) -> dict[str, Any]:
        """What `winnow run --json` printed."""
        return dict(self.ref["result"])

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe with everything that was added or left to a default."""
        return dict(self.ref["recipe"])

    @cached_property
    def pool(self) -> PoolView:
        """The pool's version that was judged.

        Raises:
            DataError: its ref is gone.
        """
        name, version = self.ref["pool"], self.ref["pool_version"]
        pool = tables.load_pool(self.store, name, version)
        if pool is None:
            path = self.store.ref_path("pool", name, version)
            raise DataError(
                f"{path}: is missing: run {self.name} rests on it. It cannot be made again from "
                "the store: put back a copy of it."
            )
        return PoolView(self.store, pool)

    @cached_property
    def training(self) -> pl.DataFrame:
        """The log of the recipe's training, a row a line, as far as it is there.

        Over the steps since the row before: `loss`, `lr`, `records_per_s`, `waiting_ratio`, and
        `peak_memory_bytes` so far; rows of probes have `probe_loss` alone.
        """
        path = self.store.root / "training" / str(self.ref.get("training_log"))
        lines = path.read_bytes().splitlines() if path.is_file() else []
        rows = [row for row in map(_parsed, lines) if row is not None]
        return pl.from_dicts(rows, infer_schema_length=None) if rows else pl.DataFrame()

    def at(self, version: int) -> RunView:
        """Return another version of this run."""
        return Winnow(self.store, self._given).run(self.name, version)

    @cached_property
    def plan(self) -> Plan:
        """The resolved recipe, planned."""
        return self.planned(self.recipe["select"])

    @cached_property
    def verdict(self) -> pl.DataFrame:
        """Every live record: uid, dropped_by (null: kept), clause, repeats."""
        return pl.concat([self.verdict_of(part) for part in range(len(self.ref["verdict"]))])

    def verdict_of(self, part: int) -> pl.DataFrame:
        """Return the verdict on the live records of one part of the pool."""
        rows = tables.read(self.store, Object(**self.ref["verdict"][part]))
        return rows.filter(self.pool.reader.live[part])

    def funnel(self) -> pl.DataFrame:
        """Return rule, clause, reached, dropped, unmeasured, kept_ratio, draws; the pool first.

        `draws` counts the repeats after a rule that repeats records, null after any other.
        """
        rows = funnel_rows(self.ref["funnel"], self.result["records"])
        return pl.DataFrame(rows, schema=FUNNEL)

    def kept(self) -> pl.LazyFrame:
        """Return the kept records: uid, repeats, the pool's columns and the rules' columns."""
        return self._records(pl.col("dropped_by").is_null(), None)

    def dropped(self, rule: str | None = None) -> pl.LazyFrame:
        """Return the records that a rule dropped, with its columns and its evidence.

        Raises:
            ConfigError: there is no such rule.
        """
        if rule is None:
            return self._records(pl.col("dropped_by").is_not_null(), None)
        names = [str(r["name"]) for r in self.ref["funnel"]]
        if rule not in names:
            raise ConfigError(f"no rule is called {rule!r}.{nearest(rule, names)}")
        return self._records(pl.col("dropped_by") == rule, rule)

    def recut(self, rules: Mapping[str, Any]) -> Recut:
        """Return what other thresholds would keep, from notes alone, in memory.

        Args:
            rules: rule name to its new SQL, or for a selector to its changed keys.

        Raises:
            ConfigError: there is no such rule, or it needs notes that this run has not.
        """
        from flows.look.recut import recut

        return recut(self, rules)

    def why(self, key: str | int) -> list[dict[str, Any]]:
        """Return of each record that a key names what `winnow why --json` says of it.

        Args:
            key: a uid, source id, source:id, URL, file name or a file.

        Raises:
            DataError: nothing has the key, or too many records have it (65).
        """
        return why(self, str(key))

    def explained(self, uid: int) -> list[dict[str, Any]]:
        """Return every rule in order with its clauses' values for one record."""
        return explained(self, uid)

    @cached_property
    def reader(self) -> PoolReader:
        """The notes of this run beside its pool, to be read."""
        notes = self._notes()
        columns = {
            f"{table.partition('.')[2]}.{column}": table
            for table, objects in notes.items()
            if objects
            for column in tables.schema(self.store, objects[0])
        }
        pool = self.pool.reader.pool
        return PoolReader(self.store, pool, self._holdout_masks(), notes, columns)

    @cached_property
    def runtime(self) -> Runtime:
        """The notes of this run beside its pool, under its plan."""
        return self.runtime_of(self.plan)

    def named(self, rule: Mapping[str, Any]) -> list[str]:
        """Return the columns of the pool and of the notes that a rule of the recipe names."""
        known = {*self.pool.columns, *self.reader.columns}
        return [path for path in _named(rule) if path in known]

    def evidence(self, rule: str) -> pl.DataFrame | None:
        """Return a selector's evidence, None for a `where` rule."""
        item = self.ref["evidence"].get(rule)
        return None if item is None else tables.read(self.store, Object(**item))

    def _holdout_masks(self) -> list[Mask] | None:
        if not self.ref["holdout"]:
            return None
        masks = []
        for part in self.ref["verdict"]:
            rows = tables.read(self.store, Object(**part), ["dropped_by"])["dropped_by"]
            masks.append((rows == HOLDOUT).fill_null(False).to_numpy())
        return masks

    def planned(self, rules: Sequence[Mapping[str, Any]]) -> Plan:
        """Return this run's recipe, planned with other `[[select]]` rules."""
        from flows.recipe import sections as recipes
        from flows.recipe.planner import plan

        raw = {**self.recipe, "select": list(rules)}
        recipe_dir = Path(self.ref["recipe_dir"])
        recipe = recipes.parsed(raw, recipe_dir=recipe_dir, name=self.name)
        return plan(recipe, self._given, self._brought())

    def _brought(self) -> dict[str, dict[str, Any]]:
        """Return the columns of the tables that were files of values, as the store has them."""
        found = {}
        for table, objects in self.ref["notes"].items():
            section, _, alias = table.partition(".")
            if "file" not in self.ref["recipe"].get(section, {}).get(alias, {}) or not objects:
                continue
            columns = tables.schema(self.store, Object(**objects[0]))
            structs = {c for c, dtype in columns.items() if isinstance(dtype, pl.Struct)}
            found[table] = {
                c: dtype
                for c, dtype in columns.items()
                if c != "uid" and c.partition(".")[0] not in structs - {c}
            }
        return found

    def runtime_of(self, planned: Plan) -> Runtime:
        """Return the notes of this run beside its pool, for a plan over them."""
        from flows.measure.runtime import Runtime

        pool, notes = self.pool.reader.pool, self._notes()
        models = {t: Object(**o) for t, o in self.ref["models"].items()}
        return Runtime(self.store, pool, self._holdout_masks(), notes, plan=planned, models=models)

    def _notes(self) -> dict[str, tuple[Object, ...]]:
        return {t: tuple(Object(**o) for o in items) for t, items in self.ref["notes"].items()}

    def _records(self, which: pl.Expr, rule: str | None) -> pl.LazyFrame:
        rows = self.verdict.filter(which)
        reader, known = self.reader, self.pool.columns
        hidden = ("uid", "record", "digest", "label_image")
        paths = [c for c in known if c not in hidden and "." not in c]
        for item in self.recipe["select"]:
            if rule in (None, item["name"]):
                paths += self.named(item)
        chosen = self.verdict.select(which).to_series().fill_null(False).to_numpy()
        found = reader.frame(list(dict.fromkeys(paths)), reader.by_part(chosen))
        found = found.join(rows.select("uid", "clause", "repeats"), on="uid", maintain_order="left")
        evidence = self.evidence(rule) if rule is not None else None
        if evidence is not None:
            found = found.join(evidence, on="uid", how="left", maintain_order="left")
        return found.lazy()

    def __repr__(self) -> str:
        return (
            f"run {self.name} version {self.version} over pool {self.ref['pool']}"
            f"@{self.ref['pool_version']}\n{funnel_text(self.funnel().to_dicts())}"
        )

    def _repr_html_(self) -> str:
        return html_table(self.funnel().to_dicts())


def _named(rule: Mapping[str, Any]) -> list[str]:
    """Return the columns that a rule of a resolved recipe may name: of its SQL, or of its roles.

    A selector's parameters stand beside its roles, and may be texts too: they name no column.
    """
    found: list[str] = []
    for key, value in rule.items():
        if key not in ("name", "by") and isinstance(value, str):
            with suppress(ConfigError):
                found += Expression(value).paths
    return found


def _parsed(line: bytes) -> dict[str, float] | None:
    """Return the numbers of a line of a log; None of what is none, as anyone may write there."""
    with suppress(ValueError, OverflowError, RecursionError):
        row = json.loads(line)
        if isinstance(row, dict) and isinstance(row.get("step"), int):
            return {name: float(v) for name, v in row.items() if isinstance(v, int | float)}
    return None
