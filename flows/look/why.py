"""Why a record is in or out of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from contracts.errors import DataError
from contracts.uid import hex_uid, uid_of
from flows.ingest import quarantine
from flows.ingest.known import known_units
from flows.look import find
from flows.look.render import marked, readable
from flows.pool_reader import HOLDOUT
from flows.recipe.expressions import Expression, clause_values
from storage import shards, tables

if TYPE_CHECKING:
    from flows.look.views import RunView

# Of the records that one key names, so many are answered.
MOST = 20


def why(run: RunView, key: str) -> list[dict[str, Any]]:
    """Say of each record that a key names why it is in or out of a run.

    What was never accepted has an answer too: `quarantined` says why, and no rule saw it.

    Args:
        run: the run.
        key: as `find.records` takes it.

    Raises:
        DataError: nothing has the key, or too many records have it (65).
    """
    match = find.records(run.pool, key, run)
    if len(match.uids) > MOST:
        raise DataError(
            f"{key}: names {len(match.uids):,} records (by {match.by}), such as "
            f"{_name(run, match.uids[0])}. Name one as source:id or by its uid."
        )
    answers = [_answer(run, uid, match) for uid in match.uids]
    latest = tables.load_pool(run.store, run.pool.name)
    assert latest is not None
    unusable = quarantine.listed(run.store, latest)
    answers += left_out(unusable, key)
    if not answers:
        raise DataError(_nothing(run, latest, key, unusable))
    return answers


def left_out(rows: pl.DataFrame, key: str) -> list[dict[str, Any]]:
    """Return an answer for each row of a quarantine that a key names."""
    return [
        {
            "uid": None
            if row["source_id"] is None
            else hex_uid(uid_of(row["source"], row["source_id"])),
            "found_by": "quarantine",
            "kept": False,
            "dropped_by": None,
            "quarantined": {k: row[k] for k in ("code", "detail", "where")},
            "rules": [],
            "duplicate_of": None,
            "hits": [],
            "source": f"{row['source']}:{row['source_id'] or row['where']}",
            "versions": [],
            "shards": [],
        }
        for row in find.left_out(rows, key).to_dicts()
    ]


def _answer(run: RunView, uid: int, match: find.Match) -> dict[str, Any]:
    fate = run.verdict.filter(pl.col("uid") == uid).row(0, named=True)
    twin = _twin(run, uid, fate["dropped_by"])
    return {
        "uid": hex_uid(uid),
        "found_by": match.by,
        "bits_apart": match.bits_apart,
        "kept": fate["dropped_by"] is None,
        "dropped_by": fate["dropped_by"],
        "quarantined": None,
        "rules": run.explained(uid),
        **twin,
        "hits": _hits(run, uid, fate["dropped_by"]),
        "source": _name(run, uid),
        "versions": _versions(run, uid),
        "shards": _shards(run, uid),
    }


def _name(run: RunView, uid: int) -> str:
    reader = run.pool.reader
    row = reader.frame(["source", "source_id"], reader.where([uid])).row(0, named=True)
    return f"{row['source']}:{row['source_id']}"


def _nothing(run: RunView, latest: tables.Pool, key: str, unusable: pl.DataFrame) -> str:
    """Return what is said where nothing has a key, and where else it may be."""
    pool = run.pool
    said = (
        f"{key}: no record of pool {pool.name}@{pool.version}, and nothing in its quarantine, has "
        "this uid, source id, source:id, URL, file name or content."
    )
    if "://" in key and unusable.height:
        said += (
            f" What is quarantined ({unusable.height:,}) is found by file or source id, not by "
            f"URL: `winnow show {latest.name} --quarantined` lists it."
        )
    for source in latest.sources:
        for unit, (_, count) in known_units(run.store, latest, source).items():
            if count != 1 and f"/{key}".endswith(f"/{unit}"):
                said += (
                    f" It is a file of source {source}, which was read as {count:,} records: name "
                    "one of these."
                )
    if latest.version != pool.version:
        said += (
            f" The run judged version {pool.version}, the last is {latest.version}: `winnow run` "
            "judges what is new."
        )
    suffix = Path(key).suffix.lower()
    for group in pool.passed_over():
        if suffix and group["suffix"] == suffix:
            said += f" {group['count']:,} {suffix} files were passed over: {group['reason']}."
    return said


def explained(run: RunView, uid: int) -> list[dict[str, Any]]:
    """Evaluate every `where` rule for one record, reached or not; say of a selector what it did."""
    fate = run.verdict.filter(pl.col("uid") == uid).row(0, named=True)["dropped_by"]
    found: list[dict[str, Any]] = []
    if run.ref["holdout"]:
        found.append({"rule": HOLDOUT, "clause": None, "value": None, "passed": fate != HOLDOUT})
    reached = fate != HOLDOUT
    mask = run.reader.where([uid])
    for rule in run.recipe["select"]:
        name = rule["name"]
        if "where" in rule:
            where = Expression(rule["where"])
            flat = run.reader.frame(where.paths, mask)
            passes = clause_values(where, flat)
            for i, text in enumerate(where.clauses):
                named = readable({p: flat[p][0] for p in Expression(text).paths})
                found.append(
                    {
                        "rule": name,
                        "clause": text,
                        "value": named,
                        "passed": bool(passes[str(i)][0]),
                    }
                )
        elif not reached:
            found.append(
                {"rule": name, "clause": f"by {rule['by']}", "value": "not_reached", "passed": None}
            )
        else:
            evidence = run.evidence(name)
            mine = None if evidence is None else evidence.filter(pl.col("uid") == uid)
            values = mine.drop("uid").row(0, named=True) if mine is not None and mine.height else {}
            found.append({"rule": name, "clause": f"by {rule['by']}",
                          "value": readable(values) or None, "passed": fate != name})  # fmt: skip
        reached = reached and fate != name
    return found


def why_text(answer: Mapping[str, Any]) -> str:
    """Return an answer of `why` as lines."""
    if answer["quarantined"]:
        reason = answer["quarantined"]
        detail = f": {reason['detail']}" if reason["detail"] else ""
        place = "" if answer["source"].endswith(f":{reason['where']}") else f" at {reason['where']}"
        return f"{answer['source']}: quarantined as {reason['code']}{place}{detail}"
    fate = "kept" if answer["kept"] else f"dropped by {answer['dropped_by']}"
    lines = [f"{answer['uid']}  {answer['source']}: {fate}"]
    if answer["bits_apart"] is not None:
        lines.append(
            "  found by its looks: the perceptual hashes differ in "
            f"{answer['bits_apart']} of 64 bits, the bytes differ"
        )
    for rule in answer["rules"]:
        state = {True: "passed", False: "FAILED", None: "not reached"}[rule["passed"]]
        value = {} if rule["passed"] is None else dict(rule["value"] or {})
        if answer["duplicate_of"] and rule["rule"] == answer["dropped_by"]:
            # These are said once, by the line of the duplicate below.
            value = {k: v for k, v in value.items() if k not in ("twin", "edge", "distance")}
        value_ = f"  ({shown})" if (shown := _short(value)) else ""
        clause = f": {rule['clause']}" if rule["clause"] else ""
        lines.append(f"  {state:11} {rule['rule']}{clause}{value_}")
    if answer["duplicate_of"]:
        distance = answer["distance"]
        far = "joined through others" if distance is None else f"distance {distance:.4g}"
        lines.append(f"  duplicate of {answer['duplicate_of']} ({answer['edge']}, {far})")
        if answer["difference"]:
            lines.append(f"  [-here-] {{+there+}}: {answer['difference']}")
    for hit in answer["hits"]:
        lines.append("  hit: " + ", ".join(f"{k} {v!r}" for k, v in hit.items() if v is not None))
    lines += [f"  in {shard}" for shard in answer["shards"]]
    return "\n".join(lines)


def _twin(run: RunView, uid: int, dropped_by: str | None) -> dict[str, Any]:
    """Return the kept record that a dropped one duplicates, and how it differs.

    Where a later rule dropped the twin as a duplicate too, the twin's twin is followed.
    """
    nothing = {"duplicate_of": None, "edge": None, "distance": None, "difference": None}
    evidence = None if dropped_by is None else run.evidence(dropped_by)
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
        "difference": _difference(run, uid, row["twin"]),
    }


def _hits(run: RunView, uid: int, dropped_by: str | None) -> list[dict[str, Any]]:
    """Return what the notes that the dropping rule reads list as `hits` of a record."""
    where = [r["where"] for r in run.recipe["select"] if r["name"] == dropped_by and "where" in r]
    aliases = {path.partition(".")[0] for text in where for path in Expression(text).paths}
    paths = [f"{alias}.hits" for alias in sorted(aliases) if f"{alias}.hits" in run.reader.columns]
    listed = run.reader.frame(paths, run.reader.where([uid])).drop("uid").row(0) if paths else ()
    return [hit for hits in listed for hit in hits or ()]


def _difference(run: RunView, uid: int, twin: int) -> str | None:
    """Return where two texts differ, None where one of the records has none or they are equal."""
    reader = run.pool.reader
    texts = dict(reader.frame(["text"], reader.where([uid, twin])).iter_rows())
    here, there = texts[uid], texts[twin]
    return None if here is None or there is None or here == there else marked(here, there)


def _versions(run: RunView, uid: int) -> list[int]:
    """Return the versions of this recipe's run that kept the record."""
    found = []
    for version in run.store.versions("run", run.name):
        rows = run.at(version).verdict
        if rows.filter((pl.col("uid") == uid) & pl.col("dropped_by").is_null()).height:
            found.append(version)
    return found


def _shards(run: RunView, uid: int) -> list[str]:
    if run.result.get("export") is None:
        return []
    layout = Path(run.result["export"]) / shards.LAYOUT
    files = run.ref.get("exports", {}).get("recipe")
    if files is None:  # A ref of the first format leaves that to the manifest.
        files = (shards.manifest(layout.parent) or {"files": []})["files"]
    promised = {item["name"]: item["sha256"] for item in files}
    if shards.LAYOUT not in promised or not layout.parent.is_dir():
        return []
    if not layout.is_file() or shards.file_sha256(layout) != promised[shards.LAYOUT]:
        raise DataError(
            f"{layout}: is damaged or missing; winnow verify --deep says what makes it again."
        )
    placed = shards.read_table(layout).filter(pl.col("uid") == uid)
    numbers = {f"{n:05d}" for n in placed["shard"]}
    return [
        s["path"] for s in run.result.get("shards", [])
        if any(Path(s["path"]).name.removeprefix("train-")[:5] == n for n in numbers)
    ]  # fmt: skip


def _short(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} = {str(v)[:60]}" for k, v in values.items() if v is not None)
