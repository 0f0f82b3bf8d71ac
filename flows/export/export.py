"""Export: kept records become shards, built aside and shown whole under a version's folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contracts import encode
from contracts.errors import DataError
from contracts.uid import digest_of, hex_uid, shuffled
from flows.measure.runtime import Runtime
from flows.recipe.sections import ExportSection
from storage import commit, shards, tables
from storage.shards import Sample, Shard
from storage.store import canonical, key_of

# meta fields and pool columns that every json member carries where the pool has them.
JSON_COLUMNS = ("source", "source_id", "width", "height", "licence")


@dataclass(frozen=True)
class Exported:
    """One export: its folder, the manifest's sha256, its shards."""

    folder: Path
    sha256: str
    shards: tuple[Shard, ...]

    def described(self) -> list[dict[str, Any]]:
        """Path, records and sha256 of each shard, as --json prints them."""
        return [
            {"path": str(self.folder / s.name), "records": s.records, "sha256": s.sha256}
            for s in self.shards
        ]


@dataclass(frozen=True)
class _Piece:
    """One shard to write: its records in order, and where their payload was spooled."""

    number: int
    name: str
    format: str
    rows: pl.DataFrame
    spool: Path | None
    has_text: bool
    section: ExportSection
    folder: Path


def export(
    runtime: Runtime,
    kept: pl.DataFrame,
    section: ExportSection,
    folder: Path,
    *,
    facts: Mapping[str, Any],
    card: str = "",
    previous: Path | None = None,
) -> Exported:
    """Write the kept records as shards and show them as one folder, whole or not at all.

    The order is a function of (uid, seed): with `packed` the bytes are those of an export from
    scratch; with `append` the previous export's shards stay, hard-linked, but those that lost
    a record, which keep the order of the rest; new records follow in new shards.

    Args:
        runtime: gives the pool and its notes.
        kept: uid and repeats.
        section: formats and layout.
        folder: final folder; one with the same manifest is found, not written again.
        facts: what the manifest says besides its files (recipe, pool, versions).
        card: the data card's text; none where it is empty.
        previous: the export before, for `append`.

    Raises:
        DataError: what was read back is not what was written.
        BusyError: another export is writing the same folder.
    """
    rows = _rows(runtime, kept, section)
    layout = _layout(rows, section, previous)
    content = {
        "section": asdict(section) | {"path": None},
        "kept": key_of({"content": [c.hex() for c in rows["content"]]}),
        "layout": [[hex_uid(u) for u in group["uid"]] for group in layout.groups],
        "facts": facts,
    }
    key = key_of(content)
    known = None if shards.damaged(folder) else shards.manifest(folder)
    if known is not None and known.get("key") == key:
        return Exported(folder, known["sha256"], _shards(known))
    building = folder.parent / f".building-{folder.name}"
    with commit.lease(folder.parent / ".export.lease"):
        shutil.rmtree(building, ignore_errors=True)
        commit.make_folder(building)
        try:
            written = _write(runtime, section, layout, building)
            written += _companions(rows, section, written, building, card)
            commit.failpoint("export.files")
            sha256 = shards.seal(building, written, {"key": key, "facts": dict(facts)})
            commit.failpoint("export.sealed")
            if folder.exists():
                # Only an export that no run names can be here: its run was killed.
                shutil.rmtree(folder)
            with commit.reporting(folder):
                building.rename(folder)
                commit.sync_folder(folder.parent)
            commit.failpoint("export.shown")
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return Exported(folder, sha256, tuple(s for s in written if _is_shard(s.name)))


def point_latest(folder: Path) -> None:
    """Make `latest.json` name a version's folder."""
    content = {"version": folder.name, "path": folder.name}
    commit.write(folder.parent / "latest.json", json.dumps(content).encode() + b"\n")
    commit.failpoint("export.latest")


def ready_lines(exported: Exported, draws: int) -> list[str]:
    """Return lines to paste for open_clip, webdataset and datasets, over all shards."""
    tars = [s.name for s in exported.shards if s.name.endswith(".tar")]
    lines = []
    if tars:
        span = f"{{{tars[0][:-4]}..{tars[-1][:-4]}}}" if len(tars) > 1 else tars[0][:-4]
        pattern = exported.folder / f"{span}.tar"
        lines += [
            f"open_clip_train --dataset-type webdataset --train-data '{pattern}' "
            f"--train-num-samples {draws}",
            f"webdataset.WebDataset('{pattern}', shardshuffle=False)",
            f"datasets.load_dataset('webdataset', data_files='{exported.folder}/*.tar')",
        ]
    if any(s.name.endswith(".parquet") for s in exported.shards):
        lines.append(f"datasets.load_dataset('parquet', data_dir='{exported.folder / 'data'}')")
    if any(s.name.endswith(".jsonl") for s in exported.shards):
        lines.append(f"datasets.load_dataset('json', data_files='{exported.folder}/*.jsonl')")
    return lines


@dataclass(frozen=True)
class _Layout:
    """The records of each shard, in order; `linked` are the previous files that stay."""

    groups: list[pl.DataFrame]
    linked: dict[int, Path]


def _rows(runtime: Runtime, kept: pl.DataFrame, section: ExportSection) -> pl.DataFrame:
    """Return the kept records with everything their shards say of them, and a content digest."""
    schemas = [tables.schema(runtime.store, part.records) for part in runtime.pool.parts]
    held = {name for schema in schemas for name in schema}
    meta = sorted(name for name in held if name.startswith("meta."))
    own = [c for c in (*JSON_COLUMNS, "text", "digest", "record") if c in held]
    paths = [*own, *meta, *section.columns]
    masks, where = [], []
    for index in range(len(runtime.pool.parts)):
        uids = runtime.frame([], [np.ones(p.rows, dtype=bool) for p in runtime.pool.parts], index)
        masks.append(uids["uid"].is_in(kept["uid"].implode()).to_numpy() & runtime.live[index])
        where += [(index, int(row)) for row in np.flatnonzero(masks[-1])]
    rows = runtime.frame(paths, masks)
    rows = rows.with_columns(
        part=pl.Series([p for p, _ in where], dtype=pl.UInt32),
        row=pl.Series([r for _, r in where], dtype=pl.UInt32),
    ).join(kept, on="uid", how="left", maintain_order="left")
    names = [(c, c.removeprefix("meta.")) for c in paths if c not in ("text", "digest", "record")]
    jsons = [
        canonical({"uid": hex_uid(row["uid"]), **{n: _plain(row[c]) for c, n in names}})
        for row in rows.iter_rows(named=True)
    ]
    # What a sample's bytes are made of, so that a shard stays only where all of it did.
    image = canonical([section.image, section.max_side_px])
    content = [image + r + j for r, j in zip(rows["record"], jsons, strict=True)]
    return rows.select(
        "uid", "repeats", "part", "row", "source", "source_id",
        text=pl.col("text") if "text" in own else pl.lit(None, dtype=pl.String),
        json=pl.Series(jsons, dtype=pl.Binary),
        content=pl.Series([digest_of(c) for c in content], dtype=pl.Binary),
    )  # fmt: skip


def _layout(rows: pl.DataFrame, section: ExportSection, previous: Path | None) -> _Layout:
    linked: dict[int, Path] = {}
    groups: list[pl.DataFrame] = []
    if section.layout == "append" and previous is not None and shards.manifest(previous):
        old = shards.read_table(previous / shards.LAYOUT)
        fresh = rows.join(old.select("uid", "content"), on=["uid", "content"], how="anti")
        for number, group in enumerate(old.partition_by("shard", maintain_order=True)):
            stays = group.select("uid", "content").join(
                rows, on=["uid", "content"], how="inner", maintain_order="left"
            )
            if not stays.height:
                continue
            if stays.height == group.height:
                linked[len(groups)] = previous / f"{number:05d}"
            groups.append(stays.select(rows.columns))
        rows = fresh
    order = shuffled(rows["uid"].to_numpy(), section.seed, "export")
    rows = rows[order]
    for start in range(0, rows.height, section.shard_records):
        groups.append(rows[start : start + section.shard_records])
    return _Layout(groups, linked)


def _write(
    runtime: Runtime, section: ExportSection, layout: _Layout, building: Path
) -> list[Shard]:
    formats = [f for f in section.format if f != "uids"]
    written: list[Shard] = []
    pieces: list[_Piece] = []
    indexes: dict[int, pl.DataFrame] = {}
    old_index = None
    # Every sample of an export has every member, whichever shard it is in.
    has_text = any(bool(rows["text"].is_not_null().any()) for rows in layout.groups)
    spool = _Spool(runtime, layout, building / ".spool")
    try:
        for name in formats:
            for number, rows in enumerate(layout.groups):
                file = _file_name(name, number, len(layout.groups))
                source = layout.linked.get(number)
                linked = _link(source, name, building / file) if source is not None else None
                if linked is not None and name == "webdataset":
                    assert source is not None
                    if old_index is None:
                        old_index = shards.read_table(source.parent / shards.INDEX)
                    mine = old_index.filter(pl.col("shard") == int(source.name))
                    indexes[number] = mine.with_columns(shard=pl.lit(number, dtype=pl.UInt32))
                if linked is not None:
                    written.append(linked)
                    continue
                place = spool.file(number)
                pieces.append(_Piece(number, file, name, rows, place, has_text, section, building))
        if pieces:
            spool.fill({piece.number for piece in pieces})
        for shard, index in runtime.workers.map(_write_piece, iter(pieces)):
            written.append(shard)
            if index is not None:
                indexes[int(index["shard"][0])] = index
            commit.failpoint("export.shard")
        # A worker that was killed leaves what it was writing.
        names = {building / shard.name for shard in written}
        for path in building.iterdir():
            if path.is_file() and path not in names:
                path.unlink()
    finally:
        spool.discard()
    written.sort(key=lambda shard: shard.name)
    if indexes:
        frame = pl.concat([indexes[number] for number in sorted(indexes)])
        written.append(shards.write_table(building, shards.INDEX, frame))
    placed = [
        rows.select("uid", "content", shard=pl.lit(number, dtype=pl.UInt32))
        for number, rows in enumerate(layout.groups)
    ]
    empty = pl.DataFrame(schema={"uid": pl.UInt64, "content": pl.Binary, "shard": pl.UInt32})
    written.append(shards.write_table(building, shards.LAYOUT, pl.concat([empty, *placed])))
    return written


def _companions(
    rows: pl.DataFrame,
    section: ExportSection,
    written: Sequence[Shard],
    building: Path,
    card: str,
) -> list[Shard]:
    found = []
    sizes = {s.name: s.records for s in written if s.name.endswith(".tar")}
    if sizes:
        data = json.dumps(sizes, indent=0, sort_keys=True).encode() + b"\n"
        found.append(shards.write_file(building, "sizes.json", data))
    if "uids" in section.format:
        ids = rows.select("uid", "source", "source_id", "repeats")
        found.append(shards.write_uids(building, ids))
    if bool((rows["repeats"] > 1).any()):
        found.append(shards.write_table(building, shards.REPEATS, rows.select("uid", "repeats")))
    if card:
        found.append(shards.write_file(building, "datacard.md", card.encode()))
    return found


class _Spool:
    """Payloads on their way to their shards: read once in pool order, laid down by shard."""

    def __init__(self, runtime: Runtime, layout: _Layout, folder: Path) -> None:
        self.runtime, self.layout, self.folder = runtime, layout, folder
        self.has_payload = any(part.payload is not None for part in runtime.pool.parts)

    def file(self, number: int) -> Path | None:
        """Return where a shard's payload lies; None in a pool without payload."""
        return self.folder / f"{number:06d}" if self.has_payload else None

    def fill(self, numbers: set[int]) -> None:
        """Read the wanted payloads of the pool once and append each to its shard's file."""
        if not self.has_payload:
            return
        commit.make_folder(self.folder)
        empty = pl.DataFrame(schema={"part": pl.UInt32, "row": pl.UInt32, "shard": pl.UInt32})
        wanted = pl.concat(
            [empty]
            + [
                self.layout.groups[n].select("part", "row", shard=pl.lit(n, dtype=pl.UInt32))
                for n in sorted(numbers)
            ]
        )
        for index, part in enumerate(self.runtime.pool.parts):
            if part.payload is None:
                continue
            here = wanted.filter(pl.col("part") == index).select("row", "shard")
            mask = np.zeros(part.rows, dtype=bool)
            mask[here["row"].to_numpy()] = True
            for group in tables.payloads(self.runtime.store, part, "image", rows=mask.tolist()):
                for (shard,), rows in (
                    group.join(here, on="row").partition_by("shard", as_dict=True).items()
                ):
                    self._append(self.folder / f"{shard:06d}", rows)

    def _append(self, path: Path, rows: pl.DataFrame) -> None:
        with commit.reporting(path), path.open("ab") as file:
            for uid, image in rows.select("uid", "image").iter_rows():
                size = 2**63 if image is None else len(image)
                file.write(uid.to_bytes(8, "big") + size.to_bytes(8, "big") + (image or b""))

    def discard(self) -> None:
        """Remove the spooled payloads."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _spooled(path: Path | None) -> dict[int, tuple[int, int]]:
    """Return where each uid's payload lies in a spool file."""
    found: dict[int, tuple[int, int]] = {}
    if path is None or not path.exists():
        return found
    with path.open("rb") as file:
        while head := file.read(16):
            uid, size = int.from_bytes(head[:8], "big"), int.from_bytes(head[8:], "big")
            if size != 2**63:
                found[uid] = (file.tell(), size)
                file.seek(size, os.SEEK_CUR)
    return found


def _write_piece(piece: _Piece) -> tuple[Shard, pl.DataFrame | None]:
    if piece.format == "webdataset":
        return shards.write_tar(piece.folder, piece.name, _samples(piece), piece.number)
    if piece.format == "parquet":
        return shards.write_parquet(piece.folder, piece.name, _samples(piece)), None
    return shards.write_lines(piece.folder, piece.name, _samples(piece)), None


def _samples(piece: _Piece) -> Iterator[Sample]:
    places = _spooled(piece.spool)
    file = piece.spool.open("rb") if places and piece.spool is not None else None
    try:
        for row in piece.rows.iter_rows(named=True):
            image, suffix = None, ""
            if file is not None and row["uid"] in places:
                offset, size = places[row["uid"]]
                file.seek(offset)
                image = _image(file.read(size), piece.section)
                suffix = encode.suffix(image)
            elif piece.spool is None and row["text"] is None:
                raise DataError(f"record {row['uid']:016x} has neither payload nor text.")
            text = row["text"] or "" if piece.has_text else None
            yield Sample(row["uid"], image, suffix, text, json.loads(row["json"]))
    finally:
        if file is not None:
            file.close()


def _image(data: bytes, section: ExportSection) -> bytes:
    if section.image == "jpeg" or section.max_side_px is not None:
        return encode.jpeg(data, max_side_px=section.max_side_px)
    return encode.stripped(data) if section.image == "strip" else data


def _file_name(format_: str, number: int, count: int) -> str:
    return {
        "webdataset": f"{number:05d}.tar",
        "parquet": f"data/train-{number:05d}-of-{count:05d}.parquet",
        "jsonl": f"{number:05d}.jsonl",
    }[format_]


def _link(source: Path, format_: str, target: Path) -> Shard | None:
    """Hard-link a shard of the previous export that lost nothing; None where it is not there."""
    content = shards.manifest(source.parent)
    number = int(source.name)
    assert content is not None
    names = {
        "webdataset": lambda name: name == f"{number:05d}.tar",
        "parquet": lambda name: name.startswith(f"data/train-{number:05d}-of-"),
        "jsonl": lambda name: name == f"{number:05d}.jsonl",
    }
    for item in content["files"]:
        if names[format_](item["name"]):
            if not has_size(source.parent / item["name"], item["size_bytes"]):
                return None
            commit.make_folder(target.parent)
            with commit.reporting(target):
                os.link(source.parent / item["name"], target)
                commit.sync_folder(target.parent)
            relative = target.relative_to(target.parents[1 if format_ == "parquet" else 0])
            return Shard(str(relative), item["records"], item["size_bytes"], item["sha256"])
    return None


def _shards(content: Mapping[str, Any]) -> tuple[Shard, ...]:
    return tuple(Shard(**f) for f in content["files"] if _is_shard(f["name"]))


def has_size(path: Path, size_bytes: int) -> bool:
    """Whether a file is there with the size that a manifest says."""
    return path.is_file() and path.stat().st_size == size_bytes


def _is_shard(name: str) -> bool:
    ids = name in ("subset.npy", "uids.parquet")
    return ids or name.endswith((".tar", ".jsonl")) or name.startswith("data/")


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return str(value)
