"""Upgrade: a store of format 1 becomes one of this format; nothing is measured again.

What format 2 changes: paths are relative to the store, some names in a run's ref are plainer, a
record's hash takes its text by digest. New record hashes make new tables of records, whose sha256
stand in the keys of what was measured over them; so manifests are renamed, and nothing else.

1. Tables of records are written anew beside the old, and what became what is noted in
   `upgrade.json`, once all of it is known.
2. Manifests are written under their new keys beside the old, then each ref in its place: the
   store can be read at any moment.
3. Reports are sealed, `store.json` says the new format, what is old goes, the note last.

Killed anywhere and run again it ends with the same bytes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from contracts.errors import ConfigError
from contracts.uid import digest_of
from flows.export.export import Exported
from storage import commit, seals, shards, tables
from storage.commit import failpoint
from storage.meta import EXACT
from storage.records import members, record_hash
from storage.runs import content_of, from_format_1, load_run, on_disk
from storage.store import FIRST_KEY, FORMAT, KINDS, Object, Store, key_of

NOTE = "upgrade.json"
# The stages of format 1, in order; a run did the first so many of them.
STAGES = ("ingest", "embed", "annotate", "select", "export", "pretrain", "evaluate", "report")
CANARIES = "canaries"
_HEX = re.compile(r"[0-9a-f]{32,}")
Note = dict[str, Any]


def upgrade(store: Store) -> dict[str, Any]:
    """Bring a store to this format; again is harmless.

    Returns:
        `from` and `to`, the formats, and how many `pools`, `runs` and `manifests` were rewritten.

    Raises:
        BusyError: another process holds the store.
        ConfigError: there is no store.
        DataError: something in it is damaged: nothing is rewritten before it is read whole.
    """
    if not (store.root / "refs").is_dir():
        raise ConfigError(f"{store.root}: there is no store here.")
    counts = {"pools": 0, "runs": 0, "manifests": 0}
    with commit.lease(store.root / "lease"):
        before = store.format
        if before == FORMAT and not (store.root / NOTE).is_file():
            return {"from": before, "to": FORMAT, **counts}
        commit.empty(store.temporary)
        if not (store.root / NOTE).is_file() and _is_written_in_this_format(store):
            # Only the mark was lost.
            store.mark()
            return {"from": FORMAT, "to": FORMAT, **counts}
        note = _noted(store)
        counts["manifests"] = len(note["keys"])
        if before < FORMAT:
            counts["pools"], counts["runs"] = _rewrite(store, note)
            for folder, pattern in (("reports", "*.*"), ("training", "*.safetensors")):
                for path in sorted((store.root / folder).rglob(pattern)):
                    seals.seal(path, temporary=store.temporary)
            failpoint("upgrade.sealed")
            store.mark()
            failpoint("upgrade.marked")
        _remove_old(store, note)
        commit.empty(store.temporary)
    return {"from": before, "to": FORMAT, **counts}


def _is_written_in_this_format(store: Store) -> bool:
    refs = (
        store.ref(kind, name, version)
        for kind in KINDS
        for name in store.names(kind)
        for version in store.versions(kind, name)
    )
    return any(ref is not None and ref["format"] == FORMAT for ref in refs)


def _noted(store: Store) -> Note:
    """Return what becomes what, from the note where it was made before."""
    path = store.root / NOTE
    if path.is_file():
        return store.sealed(path)
    note: Note = {
        "format": FORMAT, "records": {}, "digests": {}, "longs": {}, "keys": {}, "contents": {},
    }  # fmt: skip
    for name in store.names("pool"):
        _note_pool(store, name, note)
    new_of = {old["sha256"]: new["sha256"] for old, new in note["records"].values()}
    new_of |= dict(note["digests"].values())
    for path_ in sorted((store.root / "manifests").glob("*.json")):
        manifest = store.sealed(path_)
        made_by = _renamed(manifest["made_by"], new_of)
        if made_by != manifest["made_by"]:
            note["keys"][manifest["key"]] = key_of(made_by)
    for name in store.names("run"):
        for version in store.versions("run", name):
            note["contents"][f"{name}@{version}"] = _content(store, name, version, note)
    store.write_sealed(path, note)
    failpoint("upgrade.noted")
    return note


def _note_pool(store: Store, name: str, note: Note) -> None:
    """Write a pool's records anew and note them, and the digest of each of its versions."""
    sums: dict[str, int] = {}
    hashes: dict[str, pl.DataFrame] = {}
    for version in store.versions("pool", name):
        pool = tables.load_pool(store, name, version)
        assert pool is not None
        for part in pool.parts:
            old = part.records
            if old.path in sums:
                continue
            frame = _rehashed(tables.read(store, old))
            for source, column in _longs(frame):
                longs = note["longs"].setdefault(name, {}).setdefault(source, [])
                if column not in longs:
                    longs.append(column)
            hashes[old.path] = frame.select("uid", "record")
            sums[old.path] = members(frame["uid"].to_numpy(), frame["record"])
            new = tables.put(store, frame, pool=name, table="records", part=part.name)
            note["records"][old.path] = [asdict(old), asdict(new)]
            failpoint("upgrade.records")
        total = sum(sums[part.records.path] for part in pool.parts)
        if pool.removed is not None:
            gone = tables.read(store, pool.removed)
            for part in pool.parts:
                here = gone.filter(pl.col("part") == part.name)["uid"]
                rows = hashes[part.records.path].filter(pl.col("uid").is_in(here.implode()))
                total -= members(rows["uid"].to_numpy(), rows["record"])
        note["digests"][f"{name}@{version}"] = [pool.digest, f"{total % 2**128:032x}"]


def _rehashed(frame: pl.DataFrame) -> pl.DataFrame:
    """Return records with the hash that ingest would give them now."""
    hashes = []
    for row in frame.iter_rows(named=True):
        text = row.get("text")
        text_digest = None if text is None else digest_of(text)
        hashes.append(record_hash(row["digest"], text_digest, row, row.get("meta") or {}))
    return frame.with_columns(record=pl.Series(hashes, dtype=pl.Binary))


def _longs(frame: pl.DataFrame) -> list[tuple[str, str]]:
    """Return source and column of integers that a float would not hold, a type of its own now."""
    if "meta" not in frame.columns:
        return []
    metas = frame["meta"].struct.unnest()
    found = []
    for column in metas.columns:
        if metas[column].dtype == pl.Int64:
            far = (metas[column] > EXACT) | (metas[column] < -EXACT)
            sources = frame["source"].filter(far.fill_null(False)).unique().sort()
            found += [(source, column) for source in sources]
    return found


def _renamed(value: Any, new_of: Mapping[str, str]) -> Any:
    """Return JSON in which the sha256 of tables of records and digests of pools are the new."""
    if isinstance(value, str):
        return _HEX.sub(lambda found: new_of.get(found[0], found[0]), value)
    if isinstance(value, Mapping):
        return {k: _renamed(v, new_of) for k, v in value.items()}
    return [_renamed(v, new_of) for v in value] if isinstance(value, list) else value


def _content(store: Store, name: str, version: int, note: Note) -> str:
    """Return what tells a run's version from the next, as a run would find it now.

    How far a run went is not in its ref of format 1: it is the one for which its own content
    comes out. Where none does, it is kept, and the next run makes a version.
    """
    run = store.ref("run", name, version)
    assert run is not None
    old, new = note["digests"][f"{run['pool']}@{run['pool_version']}"]
    for last in range(len(STAGES)):
        stages = STAGES[: last + 1]
        if content_of(run, old, stages) == run["content"]:
            return content_of(from_format_1(run), new, stages)
    return str(run["content"])


def _rewrite(store: Store, note: Note) -> tuple[int, int]:
    """Write manifests and refs of this format; return how many pools and runs."""
    new_of = {old["sha256"]: new["sha256"] for old, new in note["records"].values()}
    new_of |= dict(note["digests"].values())
    for old_key in sorted(note["keys"]):
        manifest = store.sealed(store.root / "manifests" / f"{old_key}.json")
        parts = [Object(**part) for part in manifest["parts"]]
        recorded = {**manifest["recorded"], FIRST_KEY: old_key}
        store.publish_manifest(_renamed(manifest["made_by"], new_of), parts, recorded)
        failpoint("upgrade.manifest")
    counts = {"pool": 0, "run": 0}
    keys_of = _keys_of(store, note)
    for kind in KINDS:
        for name in store.names(kind):
            for version in store.versions(kind, name):
                content = store.ref(kind, name, version)
                assert content is not None
                if kind in counts:
                    counts[kind] += 1
                if content["format"] == FORMAT:
                    continue
                if kind == "pool":
                    content = _pool(content, note)
                elif kind == "run":
                    content = _run(store, name, version, keys_of, note)
                elif kind == "fit":
                    key = content["manifest"]
                    content["manifest"] = note["keys"].get(key, key)
                store.replace_ref(kind, name, version, content)
                failpoint("upgrade.ref")
    return counts["pool"], counts["run"]


def _pool(content: Mapping[str, Any], note: Note) -> dict[str, Any]:
    _, digest = note["digests"][f"{content['name']}@{content['version']}"]
    parts = [
        {**part, "records": note["records"][part["records"]["path"]][1]}
        for part in content["parts"]
    ]
    # Canaries come from the store itself, wherever it lay.
    sources = {
        source: {**entry, "roots": ["."]} if entry["kind"] == CANARIES else dict(entry)
        for source, entry in content["sources"].items()
    }
    for source, columns in note["longs"].get(content["name"], {}).items():
        if source in sources:
            meta = sources[source]["meta"]
            sources[source]["meta"] = {c: "long" if c in columns else k for c, k in meta.items()}
    return {**content, "digest": digest, "parts": parts, "sources": sources}


def _run(
    store: Store, name: str, version: int, keys_of: Mapping[str, list[str]], note: Note
) -> dict[str, Any]:
    run = load_run(store, name, version)
    assert run is not None
    made = {t: [o["path"] for o in objects] for t, objects in run["notes"].items()}
    made |= {t: [o["path"]] for t, o in run["models"].items()}
    run["manifests"] = {
        table: sorted({keys_of[path][0] for path in paths if path in keys_of})
        for table, paths in made.items()
    }
    run["content"] = note["contents"][f"{name}@{version}"]
    if exports := _exports(run):
        run["exports"] = exports
    return on_disk(store, run)


def _keys_of(store: Store, note: Note) -> dict[str, list[str]]:
    """Return for each object the keys of the manifests of this format that name it."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted((store.root / "manifests").glob("*.json")):
        if path.stem not in note["keys"]:
            for part in store.sealed(path)["parts"]:
                found[part["path"]].append(path.stem)
    return found


def _exports(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return every file of each arm's export, where all of it is whole."""
    if "export" not in run["result"]:
        return {}
    folder = Path(run["result"]["export"])
    found = {}
    for arm in (run["recipe"].get("export") or {}).get("arms") or ["recipe"]:
        path = folder if arm == "recipe" else folder.parent / arm / folder.name
        content = None if shards.damaged(path) else shards.manifest(path)
        if content is not None:
            files = [shards.Shard.of(item) for item in content["files"]]
            found[arm] = Exported(path, tuple(files)).promised()
    return found


def _remove_old(store: Store, note: Note) -> None:
    """Remove what nothing names any more, and the note."""
    for old, new in note["records"].values():
        if old["path"] != new["path"]:
            (store.root / old["path"]).unlink(missing_ok=True)
    for old_key in note["keys"]:
        (store.root / "manifests" / f"{old_key}.json").unlink(missing_ok=True)
    failpoint("upgrade.removed")
    (store.root / NOTE).unlink(missing_ok=True)
