"""Export: kept records become shards, built aside and shown whole under a version's folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from contracts import encode
from contracts.errors import DataError
from contracts.payload import KINDS
from contracts.uid import UIDs, digest_of, hex_uid, shuffled
from flows.export import captions, destination, hub, redaction, spool, uid_list
from flows.export.kept import Kept, Positions
from flows.measure.runtime import Runtime
from flows.recipe.sections import ExportSection
from storage import commit, shards, tables
from storage.records import PLAIN, quick_canonical
from storage.shards import Digests, Sample, Shard, TableFile
from storage.store import canonical, key_of

# meta fields and pool columns that every json member carries where the pool has them.
JSON_COLUMNS = (
    "source", "source_id", "width", "height", "depth", "duration_s", "sample_rate", "channels",
    "spacing_x_mm", "spacing_y_mm", "spacing_z_mm", "licence",
)  # fmt: skip

# Rows of a part, and bytes of a shard, that are Python objects at a time.
_JSON_ROWS = 4096
_SAMPLES_BYTES = 8 << 20
_NO_SHARD = np.iinfo(np.uint32).max


@dataclass(frozen=True)
class Exported:
    """One export.

    Attributes:
        folder: of the version.
        files: every file of the folder but the manifest.
    """

    folder: Path
    files: tuple[Shard, ...]

    @property
    def shards(self) -> tuple[Shard, ...]:
        """The files that hold records for others to read."""
        return tuple(file for file in self.files if _is_shard(file.name))

    def described(self) -> list[dict[str, Any]]:
        """Path, records and sha256 of each shard, as --json prints them."""
        return [
            {"path": str(self.folder / s.name), "records": s.records, "sha256": s.sha256}
            for s in self.shards
        ]

    def promised(self) -> list[dict[str, Any]]:
        """Every file of the folder, the manifest too, as the run's ref keeps it."""
        path = self.folder / shards.MANIFEST
        manifest = Shard(path.name, 0, path.stat().st_size, shards.file_sha256(path))
        return [shards.described(file) for file in (*self.files, manifest)]


@dataclass(frozen=True)
class Previous:
    """The export of the version before, as its run's ref or else its manifest describes it."""

    folder: Path
    files: Mapping[str, Shard]

    @classmethod
    def of_run(cls, ref: Mapping[str, Any] | None, arm: str) -> Previous | None:
        """Return what a run's ref promises of an arm's export, None where it promises none."""
        if ref is None or not ref["result"].get("export"):
            return None
        folder = Path(ref["result"]["export"])
        if arm != "recipe":
            folder = folder.parent / arm / folder.name
        promised = ref.get("exports", {}).get(arm)
        if promised is None:
            promised = (destination.manifest(folder) or {}).get("files")
        if promised is None:
            return None
        return cls(folder, {item["name"]: Shard.of(item) for item in promised})

    def is_there(self) -> bool:
        """Whether every file is there with its size, and the manifest as it was written."""
        # A ref of the first format promises nothing: what it says is what its manifest says.
        manifest = shards.MANIFEST not in self.files or self.is_whole(shards.MANIFEST)
        return manifest and all(
            (self.folder / name).is_file()
            and (self.folder / name).stat().st_size == file.size_bytes
            for name, file in self.files.items()
        )

    def is_whole(self, name: str) -> bool:
        """Whether a file is there, with the bytes that were written."""
        path = self.folder / name
        promised = self.files.get(name)
        return (
            promised is not None and path.is_file() and shards.file_sha256(path) == promised.sha256
        )


@dataclass(frozen=True)
class _Columns:
    """What a sample holds besides its payload.

    Attributes:
        paths: columns of the pool and notes that are read.
        names: of those in the json, by path.
        types: of those in the json, by name.
    """

    paths: list[str]
    names: dict[str, str]
    types: dict[str, Any]


@dataclass(frozen=True)
class _Piece:
    """One shard to write: its records in order, and where what they hold was spooled."""

    number: int
    name: str
    format: str
    uids: UIDs
    spool: Path
    kind: str | None
    has_text: bool
    has_labels: bool
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
    previous: Previous | None = None,
    on_line: Callable[[str], None] = lambda _line: None,
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
        on_line: called with what a reader should know of it.

    Cost: memory for one shard, and for some 50 bytes a record.
    Raises:
        ConfigError: something else lies where the folder would be.
        DataError: what was read back is not what was written.
        BusyError: another export is writing the same folder.
    """
    store = runtime.store
    destination.refuse_foreign(store, folder, facts)
    records = Kept.of(runtime, kept)
    columns = _columns(records, section)
    contents = _contents(records, columns, section)
    if contents.without_text:
        on_line(
            f"{contents.without_text:,} of {len(records.uids):,} records leave without a text: "
            f"export.text, {section.text}, gives them none."
        )
    layout = _layout(records, contents.samples, section, previous, on_line)
    content = {
        "section": asdict(section) | {"path": None},
        "records": digest_of_arrays([records.uids, records.repeats, contents.samples]),
        "layout": digest_of_arrays(records.uids[group] for group in layout.groups),
        "facts": facts,
        "card": digest_of(card).hex(),
    }
    key = key_of(content)
    known = destination.manifest(folder)
    if known is not None and known.get("key") == key and not shards.damaged(folder):
        return Exported(folder, tuple(Shard.of(f) for f in known["files"]))
    building = folder.parent / f".building-{folder.name}"
    with commit.lease(folder.parent / ".export.lease"):
        shutil.rmtree(building, ignore_errors=True)
        commit.make_folder(building)
        try:
            written = _write(
                records, section, columns, contents.has_text, layout, building, previous, on_line
            )
            written.append(_write_layout(records, contents.samples, layout, building))
            written += _companions(records, section, columns, written, building, card, key)
            commit.failpoint("export.files")
            sha256 = shards.seal(building, written, {"key": key, "facts": dict(facts)})
            commit.failpoint("export.sealed")
            destination.write_down(store, sha256, facts)
            destination.show(store, building, folder, facts)
            commit.failpoint("export.shown")
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return Exported(folder, tuple(written))


def digest_of_arrays(arrays: Iterable[Any]) -> str:
    """Return a digest of arrays one after another, each with its length."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(len(array).to_bytes(8, "big"))
        digest.update(np.ascontiguousarray(array).view(np.uint8).data)
    return digest.hexdigest()


def trained(runtime: Runtime, uids: pl.Series, section: ExportSection) -> Digests:
    """Return a digest of each record, as a trainer sees it: payload and text.

    Args:
        runtime: gives the pool.
        uids: ascending.
        section: what is done to images.
    """
    once = pl.DataFrame({"uid": uids}).with_columns(repeats=pl.lit(1, dtype=pl.UInt16))
    kept = Kept.of(runtime, once)
    records = np.zeros(len(uids), dtype="V16")
    for part in range(len(runtime.pool.parts)):
        rows, positions = kept.of_part(part)
        if len(rows):
            frame = kept.columns(part, ["record", *captions.others(section)], rows)
            records[positions] = _of_records(frame, section)
    treated = [section.image, section.max_side_px, *redaction.identity(runtime.plan, section)]
    return _mixed(records, canonical(treated))


def deep_pictures(runtime: Runtime, kept: pl.DataFrame, section: ExportSection) -> int:
    """Return how many pictures an export leaves with 16 bits a channel."""
    if section.image not in ("keep", "strip") or section.max_side_px is not None:
        return 0
    records, deep = Kept.of(runtime, kept), 0
    if "normalised" not in records.schema():
        return 0
    for part in range(len(runtime.pool.parts)):
        rows, _ = records.of_part(part)
        notes = records.columns(part, ["normalised"], rows)["normalised"]
        if notes.dtype == pl.List(pl.String):
            deep += int(notes.list.contains("DEPTH16").sum())
    return deep


# ------------------------------------------------------------------ which record goes where


@dataclass(frozen=True)
class _Layout:
    """The records of each shard, as positions in order.

    Attributes:
        carried: shards of the previous export that stay, number to the number they had.
    """

    groups: list[Positions]
    carried: dict[int, int]


def _columns(kept: Kept, section: ExportSection) -> _Columns:
    schema = kept.schema()
    meta = sorted(name for name in schema if name.startswith("meta."))
    bare = ("text", "digest", "record", "label_image")
    own = [c for c in (*JSON_COLUMNS, *bare) if c in schema]
    paths = [*own, *meta, *section.columns]
    names = {c: c.removeprefix("meta.") for c in paths if c not in bare}
    types: dict[str, Any] = {"uid": pl.String}
    for path, name in names.items():
        types[name] = schema.get(path, pl.Null)
    return _Columns(paths, names, types)


@dataclass(frozen=True)
class _Contents:
    """What decides the bytes of the samples.

    Attributes:
        samples: one of each sample, its json too: a shard stays only where all of them did.
        has_text: whether any has a text.
        without_text: where another text than the own leaves, how many records have none.
    """

    samples: Digests
    has_text: bool
    without_text: int


def _contents(kept: Kept, columns: _Columns, section: ExportSection) -> _Contents:
    records = np.zeros(len(kept.uids), dtype="V16")
    seen = np.zeros(len(kept.uids), dtype=bool)
    notes = {path: columns.names[path] for path in section.columns}
    noted = np.zeros(len(kept.uids) if notes else 0, dtype="V16")
    pool = kept.schema()
    has_text, without_text = False, 0
    for part in range(len(kept.runtime.pool.parts)):
        rows, positions = kept.of_part(part)
        if not len(rows):
            continue
        # One text says that there are texts: those of the parts behind it are not read.
        text = captions.columns(section) if captions.there(pool, section) and not has_text else []
        paths = dict.fromkeys(["record", *notes, *captions.others(section), *text])
        frame = kept.columns(part, list(paths), rows)
        for path, name in notes.items():
            if columns.types[name] == pl.Null:
                columns.types[name] = frame.schema[path]
        records[positions] = _of_records(frame, section)
        if notes:
            digests = b"".join(map(digest_of, _jsons(frame, notes)))
            noted[positions] = np.frombuffer(digests, dtype="V16")
        seen[positions] = True
        has_text |= bool(text) and bool(captions.of(frame, section).is_not_null().any())
        if captions.others(section):
            without_text += captions.of(frame, section).null_count()
    assert seen.all(), "the verdict keeps a record that the pool lacks"
    # A json names every column of the pool, and has the values in the pool's types.
    types = {name: str(pool.get(path)) for path, name in columns.names.items()}
    treated: list[Any] = [section.image, section.max_side_px]
    treated += redaction.identity(kept.runtime.plan, section)
    # All files of a Parquet export have the same columns.
    if "parquet" in section.format and "label_image" in columns.paths:
        treated.append("label_image")
    samples = _mixed(records, canonical([treated, types]))
    return _Contents(_mixed(samples, noted) if notes else samples, has_text, without_text)


def _of_records(frame: pl.DataFrame, section: ExportSection) -> Digests:
    """Return a digest of each record, and of the text that leaves with it where it is another."""
    records = np.frombuffer(b"".join(frame["record"]), dtype="V16")
    if section.text == captions.OWN:
        return records
    texts = [digest_of((text or "").encode()) for text in captions.of(frame, section)]
    return _mixed(records, np.frombuffer(b"".join(texts), dtype="V16"))


def _mixed(digests: Digests, other: Digests | bytes) -> Digests:
    """Return digests that say what both say."""
    if isinstance(other, bytes):
        other = np.frombuffer(digest_of(other), dtype="V16")
    words = digests.view(np.uint64).reshape(-1, 2) ^ other.view(np.uint64).reshape(-1, 2)
    return words.view("V16")[:, 0]


def _jsons(frame: pl.DataFrame, names: Mapping[str, str]) -> Iterator[bytes]:
    """Yield each row as JSON: its columns, by the names that they have there."""
    keys = ("uid", *names.values())
    for rows in frame.iter_slices(_JSON_ROWS):
        columns = [rows[path] for path in names]
        dump = quick_canonical if all(map(_is_quick, columns)) else canonical
        values = [map(hex_uid, rows["uid"]), *map(_plain_values, columns)]
        for row in zip(*values, strict=True):
            yield dump(dict(zip(keys, row, strict=True)))


def _is_quick(values: pl.Series) -> bool:
    if not values.dtype.is_float():
        return "Float" not in str(values.dtype)
    sizes = values.abs()
    plain = (sizes == 0) | sizes.is_between(*PLAIN, closed="left") | ~sizes.is_finite()
    return bool(plain.all())


def _plain_values(values: pl.Series) -> list[Any]:
    if values.dtype.is_float():
        return values.set(~values.is_finite(), None).to_list()
    if values.dtype in (pl.String, pl.Boolean) or values.dtype.is_integer():
        return values.to_list()
    return [_plain(value) for value in values]


def _layout(
    kept: Kept,
    contents: Digests,
    section: ExportSection,
    previous: Previous | None,
    on_line: Callable[[str], None],
) -> _Layout:
    carried: dict[int, int] = {}
    groups: list[Positions] = []
    fresh = np.ones(len(kept.uids), dtype=bool)
    if section.layout == "append" and previous is not None:
        if previous.is_whole(shards.LAYOUT):
            uids, before, numbers = shards.read_layout(previous.folder)
            positions = np.minimum(np.searchsorted(kept.uids, uids), len(kept.uids) - 1)
            stays = (kept.uids[positions] == uids) & (contents[positions] == before)
            fresh[positions[stays]] = False
            bounds = np.searchsorted(numbers, np.arange(int(numbers.max(initial=0)) + 2))
            for number, (start, end) in enumerate(pairwise(bounds.tolist())):
                group = positions[start:end][stays[start:end]]
                if not len(group):
                    continue
                if len(group) == end - start:
                    carried[len(groups)] = number
                groups.append(group)
        else:
            on_line(
                f"{previous.folder / shards.LAYOUT}: is damaged or missing: every shard is written "
                "anew from the pool."
            )
    rest = np.flatnonzero(fresh)
    rest = rest[shuffled(kept.uids[rest], section.seed, "export")]
    groups += [
        rest[start : start + section.shard_records]
        for start in range(0, len(rest), section.shard_records)
    ]
    return _Layout(groups, carried)


# ------------------------------------------------------------------ writing


def _write(
    kept: Kept,
    section: ExportSection,
    columns: _Columns,
    has_text: bool,
    layout: _Layout,
    building: Path,
    previous: Previous | None,
    on_line: Callable[[str], None],
) -> list[Shard]:
    """Write the shards of every format, and the index of the tars."""
    formats = [f for f in section.format if f != "uids"]
    carried = _carry(kept, formats, layout, building, previous, on_line)
    todo = [
        (name, number)
        for name in formats
        for number in range(len(layout.groups))
        if (name, number) not in carried
    ]
    # Of JSON lines the payloads stay where they are.
    with_payload = any(name != "jsonl" for name, _ in todo)
    waiting = spool.Spool(building / ".spool")
    has_labels = "label_image" in columns.paths

    def pieces() -> Iterator[_Piece]:
        for name, number in todo:
            yield _Piece(
                number=number, name=_file_name(name, number, len(layout.groups)), format=name,
                uids=kept.uids[layout.groups[number]], spool=waiting.path(number),
                kind=kept.runtime.pool.kind, has_text=has_text,
                has_labels=has_labels, section=section, folder=building,
            )  # fmt: skip

    written = list(carried.values())
    has_tars = "webdataset" in formats
    with (
        TableFile(building, shards.INDEX, shards.index_schema(labels=has_labels))
        if has_tars
        else nullcontext()
    ) as table:
        indexed = 0

        def index_carried(end: int) -> None:
            """Write the rows of the carried tars before a number."""
            nonlocal indexed
            while table is not None and indexed < end:
                assert previous is not None
                rows = shards.read_index(previous.folder, layout.carried[indexed])
                rows = rows.with_columns(shard=pl.lit(indexed, dtype=pl.UInt32))
                table.write(shards.as_index(rows, labels=has_labels))
                indexed += 1

        try:
            if todo:
                _fill(
                    waiting,
                    kept,
                    section,
                    columns,
                    layout,
                    {number for _, number in todo},
                    with_payload,
                )
            for shard, rows in kept.runtime.workers.map(_write_piece, pieces()):
                written.append(shard)
                if table is not None and rows is not None:
                    index_carried(int(rows["shard"][0]))
                    table.write(rows)
                    indexed += 1
                commit.failpoint("export.shard")
        finally:
            waiting.discard()
        if table is not None:
            index_carried(len(layout.groups))
            written.append(table.publish())
    # A worker that was killed leaves what it was writing.
    names = {building / shard.name for shard in written}
    for path in building.iterdir():
        if path.is_file() and path not in names:
            path.unlink()
    return sorted(written, key=lambda shard: shard.name)


def _carry(
    kept: Kept,
    formats: Sequence[str],
    layout: _Layout,
    building: Path,
    previous: Previous | None,
    on_line: Callable[[str], None],
) -> dict[tuple[str, int], Shard]:
    """Take over what the previous export has whole of the shards that stay."""
    if previous is None or not layout.carried:
        return {}
    formats = list(formats)
    if "webdataset" in formats and not previous.is_whole(shards.INDEX):
        if shards.INDEX in previous.files:
            index = previous.folder / shards.INDEX
            on_line(f"{index}: is damaged or missing: the tars are written again from the pool.")
        formats.remove("webdataset")
    old_names: dict[tuple[str, int], Shard] = {}
    for file in previous.files.values():
        for name in formats:
            if match := _FILE_NAMES[name].fullmatch(file.name):
                old_names[name, int(match[1])] = file
    wanted = {
        (name, number): old_names[name, old]
        for name in formats
        for number, old in layout.carried.items()
        if (name, old) in old_names
    }
    count = len(layout.groups)
    taking = [
        (previous.folder / file.name, file, building, _file_name(name, number, count))
        for (name, number), file in wanted.items()
    ]
    carried: dict[tuple[str, int], Shard] = {}
    results = kept.runtime.workers.map(_carry_one, iter(taking))
    for place, file, shard in zip(wanted, wanted.values(), results, strict=True):
        if shard is None:
            path = previous.folder / file.name
            on_line(f"{path}: is damaged or missing: written again from the pool.")
        else:
            carried[place] = shard
    return carried


def _carry_one(taking: tuple[Path, Shard, Path, str]) -> Shard | None:
    return shards.carried(*taking)


def _fill(
    waiting: spool.Spool,
    kept: Kept,
    section: ExportSection,
    columns: _Columns,
    layout: _Layout,
    numbers: set[int],
    with_payload: bool,
) -> None:
    """Read what the shards of these numbers hold, once in pool order, and lay it down by shard."""
    shard_of = np.full(len(kept.uids), _NO_SHARD, dtype=np.uint32)
    for number in numbers:
        shard_of[layout.groups[number]] = number
    store = kept.runtime.store
    for index, part in enumerate(kept.runtime.pool.parts):
        rows, positions = kept.of_part(index)
        into = shard_of[positions]
        rows, into = rows[into != _NO_SHARD], into[into != _NO_SHARD]
        if not len(rows):
            continue
        texts = captions.columns(section) if captions.there(columns.paths, section) else []
        paths = dict.fromkeys([*columns.paths, *texts, *redaction.columns(section)])
        frame = kept.columns(index, list(paths), rows)
        jsons = pl.Series(_jsons(frame, columns.names), dtype=pl.Binary)
        if texts:
            frame = frame.with_columns(captions.of(frame, section))
            frame = frame.with_columns(redaction.redacted(frame, section))
        else:
            frame = frame.with_columns(text=pl.lit(None, dtype=pl.String))
        labels = [pl.col("label_image").cast(pl.Binary)] if "label_image" in frame.columns else []
        samples = frame.select("uid", "text", *labels, json=jsons)
        if not with_payload or part.payload is None:
            waiting.add(samples.with_columns(payload=pl.lit(None, dtype=pl.Binary)), into)
            continue
        mask = np.zeros(part.rows, dtype=bool)
        mask[rows] = True
        start = 0
        for group in tables.payloads(store, part, rows=mask):
            here = slice(start, start + len(group))
            start += len(group)
            assert samples["uid"][here].equals(group["uid"]), "a part is not aligned"
            waiting.add(samples[here].with_columns(group["payload"]), into[here])
    waiting.flush()


def _write_layout(kept: Kept, contents: Digests, layout: _Layout, building: Path) -> Shard:
    with TableFile(building, shards.LAYOUT, shards.LAYOUT_SCHEMA) as table:
        for number, group in enumerate(layout.groups):
            table.write(shards.layout_rows(kept.uids[group], contents[group], number))
        return table.publish()


def _companions(
    kept: Kept,
    section: ExportSection,
    columns: _Columns,
    written: Sequence[Shard],
    building: Path,
    card: str,
    key: str,
) -> list[Shard]:
    found = []
    tars = [shard for shard in written if shard.name.endswith(".tar")]
    if tars:
        sizes = {shard.name: shard.records for shard in tars}
        data = json.dumps(sizes, indent=0, sort_keys=True).encode() + b"\n"
        found.append(shards.write_file(building, "sizes.json", data))
    if "uids" in section.format:
        found.append(uid_list.write(kept, building))
    if bool((kept.repeats > 1).any()):
        repeats = {"uid": pl.UInt64, "repeats": pl.UInt16}
        with TableFile(building, shards.REPEATS, repeats) as table:
            for start in range(0, len(kept.uids), shards.TABLE_ROWS):
                here = slice(start, start + shards.TABLE_ROWS)
                table.write(pl.DataFrame([kept.uids[here], kept.repeats[here]], schema=repeats))
            found.append(table.publish())
    if card:
        found.append(shards.write_file(building, "datacard.md", card.encode()))
    if tars:
        readme = hub.readme(tars, columns.types, key[:16], has_card=bool(card))
        found.append(shards.write_file(building, "README.md", readme.encode()))
    return found


def _write_piece(piece: _Piece) -> tuple[Shard, pl.DataFrame | None]:
    if piece.format == "webdataset":
        return shards.write_tar(
            piece.folder, piece.name, _samples(piece), piece.number, labels=piece.has_labels
        )
    if piece.format == "parquet":
        groups = _blocks(piece, shards.ROW_GROUP_BYTES)
        return (
            shards.write_parquet(
                piece.folder, piece.name, groups, kind=piece.kind, labels=piece.has_labels
            ),
            None,
        )
    return shards.write_lines(piece.folder, piece.name, _samples(piece)), None


def _samples(piece: _Piece) -> Iterator[Sample]:
    for block in _blocks(piece, _SAMPLES_BYTES):
        yield from itertools.starmap(Sample, block.iter_rows())


def _blocks(piece: _Piece, size_bytes: int) -> Iterator[pl.DataFrame]:
    """Yield the samples of a shard in their order, some bytes at a time; columns as of Sample."""
    waiting = spool.read(piece.spool)
    uids = waiting["uid"].to_numpy()
    order = np.argsort(uids)
    places = order[np.searchsorted(uids, piece.uids, sorter=order)]
    coded = ("payload", "json", *(["label_image"] if piece.has_labels else []))
    sizes = waiting.select(
        pl.sum_horizontal(pl.col(*coded).bin.size().fill_null(0), pl.col("text").str.len_bytes())
    ).to_series()
    ends = sizes.to_numpy()[places].cumsum()
    start = 0
    while start < len(places):
        read = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, read + size_bytes, side="right")))
        yield _made(waiting[places[start:stop]], piece)
        start = stop


def _made(block: pl.DataFrame, piece: _Piece) -> pl.DataFrame:
    payloads, suffixes = block["payload"], pl.repeat("", len(block), eager=True)
    if payloads.null_count() < len(payloads):
        assert piece.kind is not None
        suffix = KINDS[piece.kind].suffix
        made = [None if data is None else _encoded(data, piece) for data in payloads]
        suffixes = pl.Series(["" if data is None else suffix(data) for data in made])
        payloads = pl.Series(made, dtype=pl.Binary)
    if piece.kind is None:
        for uid in block.filter(pl.col("text").is_null())["uid"]:
            raise DataError(f"record {hex_uid(uid)} has neither payload nor text.")
    text = pl.col("text").fill_null("") if piece.has_text else pl.lit(None, dtype=pl.String)
    samples = block.select("uid", payload=payloads, suffix=suffixes, text=text, json="json")
    if not piece.has_labels:
        return samples
    labels = [None if data is None else _label_image(data, piece) for data in block["label_image"]]
    ends = ["" if data is None else f"label.{encode.suffix(data)}" for data in labels]
    return samples.with_columns(
        label_image=pl.Series(labels, dtype=pl.Binary),
        label_suffix=pl.Series(ends, dtype=pl.String),
    )


def _label_image(data: bytes, piece: _Piece) -> bytes:
    section = piece.section
    if section.max_side_px is not None:
        return encode.labels(data, max_side_px=section.max_side_px)
    return encode.stripped(data) if section.image == "strip" else data


def _encoded(data: bytes, piece: _Piece) -> bytes:
    section = piece.section
    if piece.kind != "image":
        return data
    if section.image == "png8":
        return encode.png8(data, max_side_px=section.max_side_px)
    if section.image == "jpeg" or section.max_side_px is not None:
        return encode.jpeg(data, max_side_px=section.max_side_px)
    return encode.stripped(data) if section.image == "strip" else data


_FILE_NAMES = {
    "webdataset": re.compile(r"(\d+)\.tar"),
    "parquet": re.compile(r"data/train-(\d+)-of-\d+\.parquet"),
    "jsonl": re.compile(r"(\d+)\.jsonl"),
}


def _file_name(format_: str, number: int, count: int) -> str:
    return {
        "webdataset": f"{number:05d}.tar",
        "parquet": f"data/train-{number:05d}-of-{count:05d}.parquet",
        "jsonl": f"{number:05d}.jsonl",
    }[format_]


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
