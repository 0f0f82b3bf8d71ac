"""Why a record is in or out of a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from contracts import methods
from contracts.errors import DataError
from contracts.params import names_of
from contracts.uid import digest_of, hex_uid, parse_uid
from flows.look.render import readable
from flows.pool_reader import HOLDOUT
from flows.recipe.expressions import Expression, clause_values
from storage import shards

if TYPE_CHECKING:
    from flows.look.views import RunView


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
    columns = [c for c in ("source", "source_id") if c in run.pool.columns]
    record = run.reader.frame(columns).filter(pl.col("uid") == uid).row(0, named=True)
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


def _resolve(run: RunView, key: str) -> tuple[int, str]:
    reader = run.reader
    everyone = reader.frame([])["uid"]
    # 16 digits may be either; the whole column decides that in a file, here the pool does.
    for uid in (parse_uid(key), int(key) if re.fullmatch("[0-9]{1,20}", key) else None):
        if uid is not None and uid < 2**64 and uid in everyone:
            return uid, "uid"
    for column in ("source_id", "meta.url"):
        if column in run.pool.columns:
            rows = reader.frame([column]).filter(pl.col(column) == key)
            if rows.height:
                return int(rows["uid"][0]), column
    path = Path(key)
    if path.is_file():
        data = path.read_bytes()
        rows = reader.frame(["digest"]).filter(pl.col("digest") == digest_of(data))
        if rows.height:
            return int(rows["uid"][0]), "digest"
        near = _by_picture(run, data)
        if near is not None:
            return near, "perceptual hash"
    raise DataError(
        f"{key}: no record of pool {run.pool.name}@{run.pool.version} has this uid, source id, "
        "URL or content."
    )


def _by_picture(run: RunView, data: bytes) -> int | None:
    """Return the record whose perceptual hash is nearest to a picture's, within 6 bits."""
    for alias, section in run.recipe.get("annotate", {}).items():
        path = f"{alias}.bits"
        if section.get("step") != "perceptual_hash" or path not in run.reader.columns:
            continue
        step = methods.load("curation.annotate", "perceptual_hash")
        step = step.bind(**{k: v for k, v in section.items() if k in names_of(step.function)})
        mine = step(pl.DataFrame({"uid": pl.Series([0], dtype=pl.UInt64), "image": [data]}))
        bits = mine["bits"][0]
        if bits is None or mine.schema["bits"] != pl.UInt64:
            continue
        theirs = run.reader.frame([path]).drop_nulls()
        distance = np.bitwise_count(theirs[path].to_numpy() ^ np.uint64(bits))
        if len(distance) and distance.min() <= 6:
            return int(theirs["uid"][int(distance.argmin())])
    return None


def _twin(run: RunView, uid: int, dropped_by: str | None) -> dict[str, Any]:
    """Return the kept record that a dropped one duplicates, the kind of edge and the distance.

    Where a later rule dropped the twin as a duplicate too, the twin's twin is followed.
    """
    nothing = {"duplicate_of": None, "edge": None, "distance": None}
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
    }


def _versions(run: RunView, uid: int) -> list[int]:
    """Return the versions of this recipe's run that kept the record."""
    found = []
    for version in run.store.versions("run", run.name):
        rows = run.at(version).verdict
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


def _short(values: Any) -> str:
    if not isinstance(values, Mapping):
        return str(values)
    return ", ".join(f"{k} = {str(v)[:60]}" for k, v in values.items() if v is not None)
