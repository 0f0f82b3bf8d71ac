"""What `winnow.open` returns: pools and runs to read, re-cut and ask why."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl

from contracts.errors import ConfigError, DataError, nearest
from contracts.uid import digest_of, hex_uid, parse_uid, parse_uids
from flows.ingest import quarantine
from flows.measure.runtime import Runtime
from flows.pool_reader import Mask, PoolReader
from flows.recipe import sections as recipes
from flows.recipe.expressions import Expression
from flows.recipe.plan import Plan
from flows.recipe.planner import plan
from flows.recipe.toml import dumps
from flows.select.verdict import HOLDOUT, Verdict, clause_values, judge
from storage import shards, tables
from storage.runs import load_run
from storage.store import Object, Store

UID_COLUMNS = ("uid", "cluster", "nearest", "twin", "target")


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
        """Return a run of a recipe, the last where no version is given; its name may be left out.

        Raises:
            ConfigError: there is no such run, or several recipes were run and none is named.
        """
        names = self.store.names("run")
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise ConfigError(f"name the run (--run): there is {', '.join(names) or 'none'}.")
        ref = load_run(self.store, name, version)
        if ref is None:
            raise ConfigError(f"there is no run {name!r}.{nearest(name, names)}")
        return RunView(self.store, ref, self._given)

    def __repr__(self) -> str:
        lines = [f"winnow store {self.store.root}"]
        for item in listing(self.store):
            lines.append("  " + "  ".join(str(v) for v in item.values()))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return _html_table(listing(self.store))


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

    def frame(self, *columns: str) -> pl.LazyFrame:
        """Return `uid` and columns such as `text` and `meta.url`; all but the payload by default.

        Raises:
            ConfigError: there is no such column.
        """
        known = _columns(self._store, self._pool)
        unknown = [c for c in columns if c not in known]
        if unknown:
            raise ConfigError(f"there is no column {unknown[0]!r}.{nearest(unknown[0], known)}")
        wanted = columns or tuple(c for c in known if c not in ("uid", "record"))
        return self.reader.frame([c for c in wanted if c != "uid"]).lazy()

    def texts(self) -> pl.DataFrame:
        """Return `uid` and `text`, null where the pool has none."""
        return self.reader.frame(["text"])

    def images(self, uids: Sequence[int | str]) -> pl.DataFrame:
        """Return `uid` and `image` (encoded bytes) of some records, in pool order.

        The image is null where there is none, or where the file that it refers to is gone.

        Args:
            uids: as integers or as 16 hexadecimal digits.
        """
        kind = pl.String if any(isinstance(uid, str) for uid in uids) else pl.UInt64
        named = parse_uids(pl.Series(list(uids), dtype=kind))
        frames = [pl.DataFrame(schema={"uid": pl.UInt64, "image": pl.Binary})]
        frames += [
            g.select("uid", "image") for g in self.reader.pictures(named.drop_nulls(), gone="null")
        ]
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
            f"{len(self._pool.parts)} parts, columns {', '.join(_columns(self._store, self._pool))}"
        )


class RunView:
    """One version of a run: its verdict, and the notes that it rests on."""

    def __init__(
        self, store: Store, ref: Mapping[str, Any], given: Mapping[str, Any] | None = None
    ) -> None:
        self._store, self._ref, self._given = store, ref, given or {}

    @property
    def name(self) -> str:
        """The recipe's name."""
        return str(self._ref["run"])

    @property
    def version(self) -> int:
        """The run's version."""
        return int(self._ref["version"])

    @property
    def result(self) -> dict[str, Any]:
        """What `winnow run --json` printed."""
        return dict(self._ref["result"])

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe with everything that was added or left to a default."""
        return dict(self._ref["recipe"])

    @cached_property
    def pool(self) -> PoolView:
        """The pool's version that was judged."""
        return Winnow(self._store).pool(self._ref["pool"], self._ref["pool_version"])

    @cached_property
    def plan(self) -> Plan:
        """The resolved recipe, planned."""
        return self._planned({})

    @cached_property
    def verdict(self) -> pl.DataFrame:
        """Every live record: uid, dropped_by (null: kept), clause, repeats."""
        frames = [tables.read(self._store, Object(**part)) for part in self._ref["verdict"]]
        rows = pl.concat(frames)
        return rows.filter(np.concatenate(self.pool.reader.live))

    def funnel(self) -> pl.DataFrame:
        """Return rule, clause, reached, dropped, unmeasured, kept_ratio, draws; the pool first.

        `draws` counts the repeats after a rule that repeats records, null after any other.
        """
        return _funnel(self._ref["funnel"], self.result["records"])

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
        names = [str(r["name"]) for r in self._ref["funnel"]]
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
        planned = self._planned(rules)
        runtime = self._runtime_of(planned, self._holdout_masks())
        missing = [t for t in planned.nodes if t not in runtime.notes and t not in runtime.models]
        if missing:
            raise ConfigError(
                f"{', '.join(missing)} was not measured: write it into a recipe and run."
            )
        return Recut(self, planned, judge(runtime))

    def explained(self, uid: int) -> list[dict[str, Any]]:
        """Return every rule in order with its clauses' values for one record."""
        return _rules_of(self, uid)

    @cached_property
    def runtime(self) -> Runtime:
        """The notes of this run beside its pool."""
        return self._runtime_of(self.plan, self._holdout_masks())

    def evidence(self, rule: str) -> pl.DataFrame | None:
        """Return a selector's evidence, None for a `where` rule."""
        item = self._ref["evidence"].get(rule)
        return None if item is None else tables.read(self._store, Object(**item))

    def _holdout_masks(self) -> list[Mask] | None:
        if not self._ref["holdout"]:
            return None
        masks = []
        for part in self._ref["verdict"]:
            rows = tables.read(self._store, Object(**part), ["dropped_by"])["dropped_by"]
            masks.append((rows == HOLDOUT).fill_null(False).to_numpy())
        return masks

    def _planned(self, changes: Mapping[str, Any]) -> Plan:
        raw = dict(self._ref["recipe"])
        raw["select"] = _changed(raw["select"], changes)
        recipe_dir = Path(self._ref["recipe_dir"])
        recipe = recipes.parsed(raw, recipe_dir=recipe_dir, name=self.name)
        return plan(recipe, self._given, self._brought())

    def _brought(self) -> dict[str, dict[str, Any]]:
        """Return the columns of the tables that were files of values, as the store has them."""
        found = {}
        for table, objects in self._ref["notes"].items():
            section, _, alias = table.partition(".")
            if "file" not in self._ref["recipe"].get(section, {}).get(alias, {}) or not objects:
                continue
            columns = tables.schema(self._store, Object(**objects[0]))
            structs = {c for c, dtype in columns.items() if isinstance(dtype, pl.Struct)}
            found[table] = {
                c: dtype
                for c, dtype in columns.items()
                if c != "uid" and c.partition(".")[0] not in structs - {c}
            }
        return found

    def _runtime_of(self, planned: Plan, holdout_masks: list[Mask] | None) -> Runtime:
        pool = tables.load_pool(self._store, self._ref["pool"], self._ref["pool_version"])
        assert pool is not None
        notes = {t: tuple(Object(**o) for o in items) for t, items in self._ref["notes"].items()}
        models = {t: Object(**o) for t, o in self._ref["models"].items()}
        return Runtime(self._store, pool, holdout_masks, notes, plan=planned, models=models)

    def _records(self, which: pl.Expr, rule: str | None) -> pl.LazyFrame:
        rows = self.verdict.filter(which)
        known = _columns(self._store, self.pool._pool)
        columns = [c for c in known if c not in ("uid", "record", "digest") and "." not in c]
        named = [r.where.paths for r, _ in self.plan.rules if r.where and rule in (None, r.name)]
        nodes = [n.paths for r, n in self.plan.rules if n is not None and rule in (None, r.name)]
        paths = dict.fromkeys(
            [*columns, *(p for ps in (*named, *nodes) for p in ps if p not in ("image", "payload"))]
        )
        paths = {p: None for p in paths if p in known or p in self.plan.columns}
        chosen = self.verdict.select(which).to_series().fill_null(False).to_numpy()
        found = self.runtime.frame(list(paths), self.runtime.by_part(chosen))
        found = found.join(rows.select("uid", "clause", "repeats"), on="uid", maintain_order="left")
        evidence = self.evidence(rule) if rule is not None else None
        if evidence is not None:
            found = found.join(evidence, on="uid", how="left", maintain_order="left")
        return found.lazy()

    def __repr__(self) -> str:
        return (
            f"run {self.name} version {self.version} over pool {self._ref['pool']}"
            f"@{self._ref['pool_version']}\n{funnel_text(self)}"
        )

    def _repr_html_(self) -> str:
        return _html_table(self.funnel().to_dicts())


@dataclass(frozen=True)
class Recut:
    """What a run would keep under other rules; nothing is written until `save`."""

    run: RunView
    plan: Plan
    verdict: Verdict

    def funnel(self) -> pl.DataFrame:
        """Return what `RunView.funnel` does."""
        results = [asdict(result) for result in self.verdict.results]
        return _funnel(results, self.verdict.rows.height)

    def kept(self) -> pl.DataFrame:
        """Return uid and repeats of what would be kept."""
        return self.verdict.kept

    def diff(self, other: RunView | Recut) -> pl.DataFrame:
        """Return the records whose fate differs: uid, before, after (null: kept)."""
        before = other.verdict if isinstance(other, RunView) else other.verdict.rows
        both = before.select("uid", before="dropped_by").join(
            self.verdict.rows.select("uid", after="dropped_by"), on="uid", maintain_order="left"
        )
        return both.filter(pl.col("before").ne_missing(pl.col("after")))

    def save(self, path: str | Path) -> None:
        """Write the changed recipe as a TOML file."""
        target = Path(path).resolve()
        content = self.plan.resolved()
        if target.parent != self.plan.recipe.recipe_dir:
            content = _anchored(content, self.plan.recipe.recipe_dir)
        target.write_text(dumps(content), encoding="utf-8")

    def __repr__(self) -> str:
        kept, total = self.verdict.kept.height, self.verdict.rows.height
        return f"recut of {self.run.name} version {self.run.version}: {kept:,} of {total:,} kept"


def why(run: RunView, key: str) -> dict[str, Any]:
    """Say why a record is in or out of a run.

    Args:
        run: the run.
        key: uid (16 hexadecimal digits), source id, URL, or a file (by digest, then by
            perceptual hash).

    Raises:
        DataError: nothing has the key (65).
    """
    uid, found_by = _resolve(run, key)
    fate = run.verdict.filter(pl.col("uid") == uid).row(0, named=True)
    pool = run.pool
    columns = [c for c in ("source", "source_id") if c in _columns(run._store, pool._pool)]
    record = run.runtime.frame(columns).filter(pl.col("uid") == uid).row(0, named=True)
    rules = run.explained(uid)
    twin = _twin(run, uid, fate["dropped_by"])
    return {
        "uid": hex_uid(uid),
        "found_by": found_by,
        "kept": fate["dropped_by"] is None,
        "dropped_by": fate["dropped_by"],
        "rules": rules,
        **twin,
        "source": f"{record['source']}:{record['source_id']}",
        "versions": _versions(run, uid),
        "shards": _shards(run, uid),
    }


def why_text(answer: Mapping[str, Any]) -> str:
    """Return `why` as lines."""
    fate = "kept" if answer["kept"] else f"dropped by {answer['dropped_by']}"
    lines = [f"{answer['uid']}  {answer['source']}: {fate}"]
    for rule in answer["rules"]:
        state = {True: "passed", False: "FAILED", None: "not reached"}[rule["passed"]]
        value_ = f"  ({_short(rule['value'])})" if rule["value"] else ""
        clause = f": {rule['clause']}" if rule["clause"] else ""
        lines.append(f"  {state:11} {rule['rule']}{clause}{value_}")
    if answer["duplicate_of"]:
        distance = answer["distance"]
        far = "joined through others" if distance is None else f"distance {distance:.4g}"
        lines.append(f"  duplicate of {answer['duplicate_of']} ({answer['edge']}, {far})")
    lines += [f"  in {shard}" for shard in answer["shards"]]
    return "\n".join(lines)


def funnel_text(run: RunView) -> str:
    """Return the funnel as a table of lines."""
    rows = run.funnel().to_dicts()
    width = max(len(_label(r)) for r in rows)
    lines = [f"{'rule':{width}}  {'reached':>10}  {'dropped':>10}  {'left':>7}"]
    for row in rows:
        unmeasured = f"  ({row['unmeasured']:,} unmeasured)" if row["unmeasured"] else ""
        draws = f"  ({row['draws']:,} draws)" if row["draws"] is not None else ""
        left = "" if row["kept_ratio"] is None else f"{row['kept_ratio']:7.1%}"
        reached = "" if row["reached"] is None else f"{row['reached']:,}"
        counts = f"{reached:>10}  {row['dropped']:>10,}  {left:>7}"
        lines.append(f"{_label(row):{width}}  {counts}{unmeasured}{draws}")
    return "\n".join(lines)


def listing(store: Store, *, files: bool = False) -> list[dict[str, Any]]:
    """Return pools and runs with versions and sizes, or the Parquet files of each table."""
    if files:
        root = store.root / "objects"
        return [
            {"pool": path.parts[-3], "table": path.parts[-2], "bytes": path.stat().st_size,
             "path": str(path)}
            for path in sorted(root.glob("*/*/*.parquet"))
        ]  # fmt: skip
    items: list[dict[str, Any]] = []
    for name in store.names("pool"):
        pool = Winnow(store).pool(name)._pool
        objects = [o for part in pool.parts for o in (part.records, part.payload) if o is not None]
        items.append(
            {"kind": "pool", "name": name, "version": pool.version, "records": pool.records,
             "bytes": sum(o.size_bytes for o in objects)}
        )  # fmt: skip
    for name in store.names("run"):
        last = Winnow(store).run(name)
        paths = [Path(shard["path"]) for shard in last.result.get("shards", [])]
        items.append(
            {"kind": "run", "name": name, "version": last.version, "records": last.result["kept"],
             "bytes": sum(path.stat().st_size for path in paths if path.is_file())}
        )  # fmt: skip
    return items


def _resolve(run: RunView, key: str) -> tuple[int, str]:
    runtime = run.runtime
    everyone = runtime.frame([])["uid"]
    # 16 digits may be either; the whole column decides that in a file, here the pool does.
    for uid in (parse_uid(key), int(key) if re.fullmatch("[0-9]{1,20}", key) else None):
        if uid is not None and uid < 2**64 and uid in everyone:
            return uid, "uid"
    known = _columns(run._store, run.pool._pool)
    for column in ("source_id", "meta.url"):
        if column in known:
            rows = runtime.frame([column]).filter(pl.col(column) == key)
            if rows.height:
                return int(rows["uid"][0]), column
    path = Path(key)
    if path.is_file():
        data = path.read_bytes()
        rows = runtime.frame(["digest"]).filter(pl.col("digest") == digest_of(data))
        if rows.height:
            return int(rows["uid"][0]), "digest"
        near = _by_picture(runtime, data)
        if near is not None:
            return near, "perceptual hash"
    raise DataError(
        f"{key}: no record of pool {run.pool.name}@{run.pool.version} has this uid, source id, "
        "URL or content."
    )


def _by_picture(runtime: Runtime, data: bytes) -> int | None:
    """Return the record whose perceptual hash is nearest to a picture's, within 6 bits."""
    for node in runtime.plan.nodes.values():
        if (
            node.method is None
            or node.method.name != "perceptual_hash"
            or "bits" not in node.writes
        ):
            continue
        mine = node.step(pl.DataFrame({"uid": pl.Series([0], dtype=pl.UInt64), "image": [data]}))
        bits = mine["bits"][0]
        if bits is None or mine.schema["bits"] != pl.UInt64:
            continue
        theirs = runtime.frame([f"{node.alias}.bits"]).drop_nulls()
        distance = np.bitwise_count(theirs[f"{node.alias}.bits"].to_numpy() ^ np.uint64(bits))
        if len(distance) and distance.min() <= 6:
            return int(theirs["uid"][int(distance.argmin())])
    return None


def _rules_of(run: RunView, uid: int) -> list[dict[str, Any]]:
    """Evaluate every `where` rule for one record, reached or not; say of a selector what it did."""
    runtime = run.runtime
    fate = run.verdict.filter(pl.col("uid") == uid).row(0, named=True)["dropped_by"]
    found: list[dict[str, Any]] = []
    if run._ref["holdout"]:
        found.append({"rule": HOLDOUT, "clause": None, "value": None, "passed": fate != HOLDOUT})
    reached = fate != HOLDOUT
    mask = runtime.where([uid])
    for rule, node in run.plan.rules:
        if rule.where is not None:
            flat = runtime.frame(rule.where.paths, mask)
            passes = clause_values(rule, flat)
            for i, text in enumerate(rule.where.clauses):
                named = readable({p: flat[p][0] for p in Expression(text).paths})
                found.append(
                    {"rule": rule.name, "clause": text, "value": named,
                     "passed": bool(passes[str(i)][0])}
                )  # fmt: skip
        else:
            assert node is not None
            evidence = run.evidence(rule.name)
            mine = None if evidence is None else evidence.filter(pl.col("uid") == uid)
            values = mine.drop("uid").row(0, named=True) if mine is not None and mine.height else {}
            passed = (fate != rule.name) if reached else None
            found.append({"rule": rule.name, "clause": f"by {rule.by}",
                          "value": readable(values) if values else None,
                          "passed": passed})  # fmt: skip
            if passed is None:
                found[-1]["value"] = "not_reached"
        reached = reached and fate != rule.name
    return found


def _twin(run: RunView, uid: int, dropped_by: str | None) -> dict[str, Any]:
    """Return the kept record that a dropped one duplicates, the kind of edge and the distance.

    Where a later rule dropped the twin as a duplicate too, the twin's twin is followed.
    """
    nothing = {"duplicate_of": None, "edge": None, "distance": None}
    rule = next((r for r, n in run.plan.rules if r.name == dropped_by and n is not None), None)
    if rule is None:
        return nothing
    evidence = run.evidence(rule.name)
    if evidence is None or "twin" not in evidence.columns:
        return nothing
    mine = evidence.filter((pl.col("uid") == uid) & pl.col("twin").is_not_null())
    if not mine.height:
        return nothing
    row = mine.row(0, named=True)
    fate = run.verdict.filter(pl.col("uid") == row["twin"])["dropped_by"][0]
    if fate is not None:
        return nothing if fate == dropped_by else _twin(run, row["twin"], fate)
    return {
        "duplicate_of": hex_uid(row["twin"]),
        "edge": row["edge"],
        "distance": row["distance"],
    }


def _versions(run: RunView, uid: int) -> list[int]:
    """Return the versions of this recipe's run that kept the record."""
    found = []
    for version in run._store.versions("run", run.name):
        rows = Winnow(run._store).run(run.name, version).verdict
        if rows.filter((pl.col("uid") == uid) & pl.col("dropped_by").is_null()).height:
            found.append(version)
    return found


def _shards(run: RunView, uid: int) -> list[str]:
    folder = run.result.get("export")
    if folder is None or not (Path(folder) / shards.LAYOUT).is_file():
        return []
    placed = shards.read_table(Path(folder) / shards.LAYOUT).filter(pl.col("uid") == uid)
    numbers = {f"{n:05d}" for n in placed["shard"]}
    return [
        s["path"] for s in run.result.get("shards", [])
        if any(Path(s["path"]).name.removeprefix("train-")[:5] == n for n in numbers)
    ]  # fmt: skip


def _anchored(content: Any, recipe_dir: Path, key: str = "") -> Any:
    """Return a recipe whose relative paths are absolute: it may be read from another folder."""
    if isinstance(content, Mapping):
        return {k: _anchored(v, recipe_dir, k) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [_anchored(v, recipe_dir, key) for v in content]
    if not isinstance(content, str):
        return content
    if key in ("path", "recipe", "file", "ids"):
        return content if "://" in content else str(recipe_dir / content)
    if content.startswith("file:"):
        return f"file:{recipe_dir / content.removeprefix('file:')}"
    if content.startswith(("./", "../")) and ".py:" in content:
        return str(recipe_dir / content)
    return content


def _changed(
    select: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    names = [str(rule["name"]) for rule in select]
    for name in changes:
        if name not in names:
            raise ConfigError(f"no rule is called {name!r}.{nearest(name, names)}")
    found = []
    for rule in select:
        change = changes.get(rule["name"])
        if isinstance(change, Mapping):
            found.append({**rule, **change})
        elif change is not None:
            found.append({"name": rule["name"], "where": change})
        else:
            found.append(dict(rule))
    return found


def _funnel(results: Sequence[Mapping[str, Any]], records: int) -> pl.DataFrame:
    rows: list[tuple[Any, ...]] = [("all records", None, records, 0, 0, 1.0, None)]
    for result in results:
        left = result["reached"] - result["dropped"]
        ratio = left / records if records else 0.0
        rows.append(
            (
                result["name"],
                None,
                result["reached"],
                result["dropped"],
                result["unmeasured"],
                ratio,
                result["repeats"],
            )
        )
        if len(result["clauses"]) > 1:
            rows += [
                (result["name"], c["text"], None, c["dropped"], c["unmeasured"], None, None)
                for c in result["clauses"]
            ]
    schema = {
        "rule": pl.String, "clause": pl.String, "reached": pl.Int64, "dropped": pl.Int64,
        "unmeasured": pl.Int64, "kept_ratio": pl.Float64, "draws": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _columns(store: Store, pool: tables.Pool) -> list[str]:
    found: dict[str, None] = {"uid": None}
    for part in pool.parts:
        found |= dict.fromkeys(tables.schema(store, part.records))
    return [c for c in found if c != "meta"]


def _label(row: Mapping[str, Any]) -> str:
    return str(row["rule"]) if row["clause"] is None else f"    {row['clause']}"


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON shows them: columns that hold a uid as 16 hexadecimal digits."""
    return {
        name: hex_uid(v) if name.rpartition(".")[2] in UID_COLUMNS and isinstance(v, int) else v
        for name, v in row.items()
    }


def _short(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(f"{k} = {str(v)[:60]}" for k, v in values.items() if v is not None)


def _html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows as an HTML table, every value escaped."""
    if not rows:
        return "<p>nothing yet</p>"
    head = "".join(f"<th>{html.escape(str(k))}</th>" for k in rows[0])
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(str(v))}</td>" for v in row.values()) + "</tr>"
        for row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
