"""Curated shards: WebDataset tars, Parquet, JSON lines, uid lists, and their strict reader.

Tar headers are our own (ustar, mtime 0, uid 0), so equal records give equal bytes. A sample is
its payload, its text and its json under one key, and every sample has every member. What was
written is read back once, member by member, before a manifest says that it is there.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.payload import kind_of
from contracts.uid import UIDs, hex_uid
from storage import commit, tables
from storage.store import canonical

BLOCK = 512
INDEX = "index.parquet"
LAYOUT = "layout.parquet"
REPEATS = "repeats.parquet"
MANIFEST = "manifest.json"
ROW_GROUP_BYTES = 100 << 20
# Of the tables beside the shards, which are written while the shards are.
TABLE_ROWS = 1 << 17
# What a file system says that makes no hard link here: another one, a kind without, too many.
_NO_LINK = (errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EMLINK)


@dataclass(frozen=True)
class Shard:
    """One file of an export.

    Attributes:
        name: below the version's folder.
        records: that it holds.
        size_bytes: of the file.
        sha256: of the file.
        members: of a tar, what its samples' members end in, such as jpg, json, txt.
    """

    name: str
    records: int
    size_bytes: int
    sha256: str
    members: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> Shard:
        """Return the file that a manifest or a ref describes."""
        return cls(**{**item, "members": tuple(item.get("members", ()))})


@dataclass(frozen=True)
class Sample:
    """One record on its way out.

    Attributes:
        payload: as it goes out, encoded; None where it has none.
        suffix: of its member, such as `jpg`.
        text: None in a pool without texts; null texts are written as empty members.
        json: an object as `canonical` writes it.
        label_image: a class for each pixel of the payload, encoded; None where it has none.
        label_suffix: of its member, such as `label.png`.
    """

    uid: int
    payload: bytes | None
    suffix: str
    text: str | None
    json: bytes
    label_image: bytes | None = None
    label_suffix: str = ""

    @property
    def key(self) -> str:
        """The sample's key in the tar: 16 hexadecimal digits, so without a dot."""
        return hex_uid(self.uid)

    def members(self) -> list[tuple[str, bytes]]:
        """Name and content of each member, in the order they are written."""
        found = [] if self.payload is None else [(self.suffix, self.payload)]
        if self.label_image is not None:
            found.append((self.label_suffix, self.label_image))
        if self.text is not None:
            found.append(("txt", self.text.encode()))
        return [*found, ("json", self.json)]


# Of 16 bytes each.
Digests = NDArray[np.void]

INDEX_SCHEMA = {
    "uid": pl.UInt64,
    "shard": pl.UInt32,
    "payload_offset": pl.UInt64,
    "payload_length": pl.UInt64,
    "text_offset": pl.UInt64,
    "text_length": pl.UInt64,
    "content": pl.Binary,
}
# Further columns where pictures have label images.
LABEL_SCHEMA = {"label_offset": pl.UInt64, "label_length": pl.UInt64}
# What an index called two columns while images were the only payload.
_FORMER = {"image_offset": "payload_offset", "image_length": "payload_length"}
LAYOUT_SCHEMA = {"uid": pl.UInt64, "content": pl.Binary, "shard": pl.UInt32}


def index_schema(*, labels: bool) -> dict[str, Any]:
    """Return the columns of an index, of tars with label images where `labels` says so."""
    return {**INDEX_SCHEMA, **LABEL_SCHEMA} if labels else INDEX_SCHEMA


def write_tar(
    folder: Path, name: str, samples: Iterator[Sample], number: int, *, labels: bool = False
) -> tuple[Shard, pl.DataFrame]:
    """Write one tar and read it back; return what it is and its rows of the index.

    Args:
        folder: of the export.
        name: of the tar.
        samples: what it holds.
        number: of the tar.
        labels: whether the index says where label images are.

    Raises:
        DataError: what is on disk is not what was written.
    """
    rows: list[tuple[Any, ...]] = []
    hashes: list[tuple[str, str]] = []
    extensions: set[str] = set()
    with commit.Staged(folder) as staged:
        for sample in samples:
            at: dict[str, tuple[int, int]] = {}
            content = hashlib.blake2b(digest_size=16)
            for extension, data in sample.members():
                member = f"{sample.key}.{extension}"
                staged.write(_header(member, len(data)))
                kind = extension if extension in ("txt", "json") else "payload"
                kind = "label" if extension == sample.label_suffix else kind
                at[kind] = (staged.size_bytes, len(data))
                staged.write(data)
                staged.write(bytes(-len(data) % BLOCK))
                hashes.append((member, hashlib.sha256(data).hexdigest()))
                extensions.add(extension)
                content.update(member.encode() + data)
            payload, text = at.get("payload", (None, None)), at.get("txt", (None, None))
            label = at.get("label", (None, None)) if labels else ()
            rows.append((sample.uid, number, *payload, *text, content.digest(), *label))
        # Two zero blocks end an archive; readers expect records of 20 blocks.
        staged.write(bytes(2 * BLOCK))
        staged.write(bytes(-staged.size_bytes % (20 * BLOCK)))
        members = tuple(sorted(extensions))
        shard = Shard(name, len(rows), staged.size_bytes, staged.sha256, members)
        staged.publish(folder / name)
    found = [(member, hashlib.sha256(data).hexdigest()) for member, data in read_tar(folder / name)]
    if found != hashes:
        raise DataError(f"{folder / name}: what was read back is not what was written.")
    return shard, pl.DataFrame(rows, schema=index_schema(labels=labels), orient="row")


def read_tar(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of every member of a tar of ours; anything unusual is an error.

    Raises:
        DataError: the archive is cut, a checksum is wrong, or a member is no plain file.
    """
    with path.open("rb") as file:
        while True:
            header = file.read(BLOCK)
            if header == bytes(BLOCK):
                if file.read(BLOCK) != bytes(BLOCK) or file.read().strip(b"\0"):
                    raise DataError(f"{path}: does not end as a tar ends.")
                return
            if len(header) < BLOCK:
                raise DataError(f"{path}: ends in a header.")
            total = sum(header[:148]) + sum(header[156:]) + 8 * 32
            if int(header[148:154], 8) != total or header[156:157] != b"0":
                raise DataError(f"{path}: has a damaged header.")
            size = int(header[124:135], 8)
            data = file.read(size)
            padding = file.read(-size % BLOCK)
            if len(data) < size or len(padding) < -size % BLOCK:
                raise DataError(f"{path}: ends in a member.")
            yield header[:100].rstrip(b"\0").decode(), data


def write_parquet(
    folder: Path,
    name: str,
    groups: Iterator[pl.DataFrame],
    *,
    kind: str | None,
    labels: bool = False,
) -> Shard:
    """Write one Parquet shard in the Hugging Face layout: payload as struct of bytes and path.

    Args:
        folder: of the export.
        name: of the shard.
        groups: the samples, a row group at a time, as columns named as Sample's attributes.
        kind: of the payloads, which their column is called by; None without.
        labels: whether there is a column `label_image`, likewise a struct.
    """
    features: dict[str, Any] = {"uid": {"dtype": "string", "_type": "Value"}}
    fields = [pa.field("uid", pa.string())]
    encoded = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    if kind is not None:
        features[kind] = {"_type": kind.capitalize()}
        fields.append(pa.field(kind, encoded))
    if labels:
        features["label_image"] = {"_type": "Image"}
        fields.append(pa.field("label_image", encoded))
    for column in ("text", "json"):
        features[column] = {"dtype": "string", "_type": "Value"}
        fields.append(pa.field(column, pa.string()))
    info = json.dumps({"info": {"features": features}})
    schema = pa.schema(fields, {"huggingface": info})
    records = 0
    with commit.Staged(folder) as staged:
        sink = pa.PythonFile(staged, mode="w")
        with pq.ParquetWriter(sink, schema, compression="zstd") as writer:
            for group in groups:
                writer.write_table(
                    tables.to_arrow(_hugging_face(group, kind)).select(schema.names).cast(schema)
                )
                records += len(group)
        shard = Shard(name, records, staged.size_bytes, staged.sha256)
        staged.publish(folder / name)
    if pq.ParquetFile(folder / name).metadata.num_rows != records:
        raise DataError(f"{folder / name}: lost rows on the way to disk.")
    return shard


def _hugging_face(samples: pl.DataFrame, kind: str | None) -> pl.DataFrame:
    """Return samples as the columns of the Hugging Face layout."""
    key = pl.Series([hex_uid(uid) for uid in samples["uid"]], dtype=pl.String)

    def encoded(column: str, suffix: str) -> pl.Expr:
        path = pl.concat_str("uid", pl.lit("."), suffix)
        return pl.when(pl.col(column).is_not_null()).then(pl.struct(bytes=column, path=path))

    made = [encoded("payload", "suffix").alias(kind or "payload")]
    if "label_image" in samples.columns:
        made.append(encoded("label_image", "label_suffix").alias("label_image"))
    return samples.with_columns(uid=key).with_columns(*made, json=pl.col("json").cast(pl.String))


def write_lines(folder: Path, name: str, samples: Iterator[Sample]) -> Shard:
    """Write one shard of JSON lines: text and the json's keys; payloads stay where they are."""
    records = 0
    with commit.Staged(folder) as staged:
        for sample in samples:
            staged.write(canonical({**json.loads(sample.json), "text": sample.text}) + b"\n")
            records += 1
        shard = Shard(name, records, staged.size_bytes, staged.sha256)
        staged.publish(folder / name)
    return shard


def write_datacomp_ids(folder: Path, ids: NDArray[np.uint64]) -> Shard:
    """Write DataComp's `subset.npy`: dtype u8,u8, sorted; of ids (n, 2), the high half first."""
    ids = ids[np.lexsort((ids[:, 1], ids[:, 0]))]
    with commit.Staged(folder) as staged:
        pairs = np.ascontiguousarray(ids).view("u8,u8")[:, 0]
        np.lib.format.write_array(staged, pairs)
        shard = Shard("subset.npy", len(ids), staged.size_bytes, staged.sha256)
        staged.publish(folder / shard.name)
    return shard


class TableFile:
    """A table that goes beside the shards, such as their index, written as it grows."""

    def __init__(self, folder: Path, name: str, schema: Mapping[str, Any]) -> None:
        self._folder, self._name = folder, name
        self._staged = commit.Staged(folder)
        self._writer: pq.ParquetWriter | None = None
        self._waiting = [pl.DataFrame(schema=schema)]
        self._records = 0

    def __enter__(self) -> TableFile:
        return self

    def __exit__(self, *_error: object) -> None:
        self._staged.discard()

    def write(self, frame: pl.DataFrame) -> None:
        """Append rows; row groups are of one size, however the rows come."""
        self._waiting.append(frame)
        if sum(f.height for f in self._waiting) >= TABLE_ROWS:
            waiting = pl.concat(self._waiting, rechunk=True)
            whole = waiting.height - waiting.height % TABLE_ROWS
            for start in range(0, whole, TABLE_ROWS):
                self._write(waiting[start : start + TABLE_ROWS])
            self._waiting = [waiting[whole:]]

    def _write(self, frame: pl.DataFrame) -> None:
        table = tables.to_arrow(frame)
        if self._writer is None:
            self._writer = pq.ParquetWriter(pa.PythonFile(self._staged, mode="w"), table.schema)
        self._writer.write_table(table)
        self._records += frame.height

    def publish(self) -> Shard:
        """Finish the file and show it."""
        rest = pl.concat(self._waiting, rechunk=True)
        if rest.height or self._writer is None:
            self._write(rest)
        assert self._writer is not None
        self._writer.close()
        shard = Shard(self._name, self._records, self._staged.size_bytes, self._staged.sha256)
        self._staged.publish(self._folder / self._name)
        return shard


def read_table(path: Path) -> pl.DataFrame:
    """Return a table that lies beside the shards."""
    # `pq.read_table` opens a dataset, for which pyarrow imports pandas where it is installed.
    frame = pl.from_arrow(pq.ParquetFile(path).read())
    assert isinstance(frame, pl.DataFrame)
    return frame


def read_index(folder: Path, shard: int) -> pl.DataFrame:
    """Return one shard's rows of an export's index, not reading those of the others."""
    rows = pl.scan_parquet(folder / INDEX).filter(pl.col("shard") == shard).collect()
    return rows.rename(_FORMER, strict=False)


def as_index(rows: pl.DataFrame, *, labels: bool) -> pl.DataFrame:
    """Return rows of another export's index with the columns of this one's."""
    schema = index_schema(labels=labels)
    absent = [pl.lit(None, dtype=schema[c]).alias(c) for c in schema if c not in rows.columns]
    return rows.with_columns(absent).select(list(schema))


def read_layout(folder: Path) -> tuple[UIDs, Digests, NDArray[np.uint32]]:
    """Return uid, content digest and shard of an export's records, in the order of its shards.

    Cost: 28 bytes a record.
    """
    file = pq.ParquetFile(folder / LAYOUT)
    rows = file.metadata.num_rows
    uids, shards = np.empty(rows, dtype=np.uint64), np.empty(rows, dtype=np.uint32)
    contents = np.empty(rows, dtype="V16")
    start = 0
    for batch in file.iter_batches(TABLE_ROWS, columns=["uid", "content", "shard"]):
        here = slice(start, start + batch.num_rows)
        uids[here], shards[here] = batch["uid"].to_numpy(), batch["shard"].to_numpy()
        contents[here] = np.frombuffer(b"".join(batch["content"].to_pylist()), dtype="V16")
        start += batch.num_rows
    return uids, contents, shards


def layout_rows(uids: UIDs, contents: Digests, shard: int) -> pl.DataFrame:
    """Return one shard's rows of the layout, as `read_layout` reads them."""
    packed = contents.tobytes()
    digests = [packed[i : i + 16] for i in range(0, len(packed), 16)]
    numbers = pl.repeat(shard, len(uids), dtype=pl.UInt32, eager=True)
    return pl.DataFrame([uids, digests, numbers], schema=LAYOUT_SCHEMA)


def carried(source: Path, expected: Shard, folder: Path, name: str) -> Shard | None:
    """Take an unchanged file of another export into this one; None where it is not what it was.

    It is hashed first: a hard link would carry the damage on for ever. Where the file system
    makes no link it is copied.
    """
    if not source.is_file() or source.stat().st_size != expected.size_bytes:
        return None
    if file_sha256(source) != expected.sha256:
        return None
    members = expected.members
    if name.endswith(".tar") and not members:
        # A manifest of the first format does not name them.
        members = tuple(sorted({member.rpartition(".")[2] for member, _ in read_tar(source)}))
    target = folder / name
    commit.make_folder(target.parent)
    with commit.reporting(target):
        # A worker that was killed may have come so far.
        target.unlink(missing_ok=True)
        try:
            os.link(source, target)
            commit.sync_folder(target.parent)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            with commit.Staged(folder) as staged, source.open("rb") as file:
                while data := file.read(1 << 20):
                    staged.write(data)
                if staged.sha256 != expected.sha256:
                    return None
                staged.publish(target)
    return Shard(name, expected.records, expected.size_bytes, expected.sha256, members)


def write_file(folder: Path, name: str, data: bytes, records: int = 0) -> Shard:
    """Write a small file of an export, such as its data card."""
    commit.write(folder / name, data)
    return Shard(name, records, len(data), hashlib.sha256(data).hexdigest())


def seal(folder: Path, shards: Sequence[Shard], facts: Mapping[str, Any]) -> str:
    """Write the manifest that covers every file of the folder; return its sha256."""
    content = {**facts, "files": [described(shard) for shard in shards]}
    content["sha256"] = hashlib.sha256(canonical(content)).hexdigest()
    commit.write(folder / MANIFEST, canonical(content))
    return str(content["sha256"])


def described(shard: Shard) -> dict[str, Any]:
    """Return a file as a manifest or a ref describes it; `members` of tars alone."""
    return {key: value for key, value in asdict(shard).items() if key != "members" or value}


def manifest(folder: Path) -> dict[str, Any] | None:
    """Return an export's manifest, None where there is none.

    Raises:
        DataError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        seal = content.pop("sha256")
    except (ValueError, KeyError, AttributeError):
        raise DataError(f"{path}: is damaged: not a sealed JSON file.") from None
    if hashlib.sha256(canonical(content)).hexdigest() != seal:
        raise DataError(f"{path}: is damaged: its content does not match its own sha256.")
    return {**content, "sha256": seal}


def damaged(folder: Path) -> list[Path]:
    """Return the files of an export that are missing or not what its manifest says."""
    try:
        content = manifest(folder)
    except DataError:
        content = None
    if content is None:
        return [folder / MANIFEST]
    found = []
    for item in content["files"]:
        path = folder / item["name"]
        if not path.is_file() or file_sha256(path) != item["sha256"]:
            found.append(path)
    return found


def file_sha256(path: Path) -> str:
    """Return a file's sha256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ShardSamples:
    """Random access to the samples of exported tars, as the trainer wants them.

    Attributes:
        uids: (n,) in the order of the shards.
        repeats: (n,) how often an epoch sees each.
        kind: of the payloads, by the suffixes of their members; `image` where there are none.
    """

    def __init__(self, *folders: Path, records: pl.DataFrame | None = None) -> None:
        """Open exports.

        Args:
            folders: of exports that share no record.
            records: uid and repeats of those that are wanted, and further columns that are read
                with them; all, as the exports repeat them, where not given.

        Raises:
            DataError: a folder is no export, a record is in none of them, or their payloads are
                of several kinds.
        """
        self._paths: list[Path] = []
        kinds: set[str] = set()
        indices = []
        for folder in folders:
            content = manifest(folder)
            if content is None:
                raise DataError(f"{folder}: is no export: it has no {MANIFEST}.")
            index = read_table(folder / INDEX).drop("content").rename(_FORMER, strict=False)
            first = pl.lit(len(self._paths), dtype=pl.UInt32)
            repeats = pl.DataFrame(schema={"uid": pl.UInt64, "repeats": pl.UInt16})
            if (folder / REPEATS).is_file():
                repeats = read_table(folder / REPEATS)
            indices.append(
                index.with_columns(shard=pl.col("shard") + first)
                .join(repeats, "uid", "left", maintain_order="left")
                .with_columns(pl.col("repeats").fill_null(1))
            )
            tars = [Shard.of(f) for f in content["files"] if f["name"].endswith(".tar")]
            self._paths += [folder / tar.name for tar in tars]
            kinds |= {kind for tar in tars for m in tar.members if (kind := kind_of(m))}
        if len(kinds) > 1:
            where = ", ".join(map(str, folders))
            raise DataError(f"{where}: hold payloads of several kinds: {sorted(kinds)}.")
        self.kind = kinds.pop() if kinds else "image"
        index = pl.concat(indices, how="diagonal")
        self._members = ["payload", "text", *(["label"] if "label_offset" in index.columns else [])]
        self._further = [] if records is None else records.columns[2:]
        if records is not None:
            index = index.drop("repeats").join(records, "uid", "inner", maintain_order="left")
            if index.height != records.height:
                where = ", ".join(map(str, folders))
                raise DataError(
                    f"{where}: hold {index.height:,} of the {records.height:,} records that are "
                    "trained on. Delete them: they are made again."
                )
        self._index = index
        self.uids: NDArray[np.uint64] = index["uid"].to_numpy()
        self.repeats: NDArray[np.uint16] = index["repeats"].to_numpy()
        self._files: dict[int, int] = {}

    def read(self, rows: NDArray[np.int64]) -> dict[str, list[Any]]:
        """Return the payloads of rows (encoded bytes) under their kind, `text`, further columns.

        Encoded label images are `label_image`, where any record has one.
        """
        index = self._index[rows]
        found: dict[str, list[Any]] = {c: index[c].to_list() for c in self._further}
        found |= {name: [] for name in self._members}
        for row in index.iter_rows(named=True):
            for column in self._members:
                offset = row[f"{column}_offset"]
                data = None
                if offset is not None:
                    data = os.pread(self._open(row["shard"]), row[f"{column}_length"], offset)
                    if len(data) < row[f"{column}_length"]:
                        raise DataError(f"{self._paths[row['shard']]}: is cut.")
                found[column].append(
                    data.decode() if data is not None and column == "text" else data
                )
        found[self.kind] = found.pop("payload")
        if "label" in found:
            found["label_image"] = found.pop("label")
        return found

    def _open(self, shard: int) -> int:
        if shard not in self._files:
            self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
        return self._files[shard]

    def close(self) -> None:
        """Close the shards."""
        for descriptor in self._files.values():
            os.close(descriptor)
        self._files.clear()


def _header(name: str, size: int) -> bytes:
    """Return a ustar header that says nothing of time, owner or machine."""
    fields = (
        name.encode().ljust(100, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,
        f"{size:011o}\0".encode(),
        b"00000000000\0",
    )
    start = b"".join(fields)
    end = b"0" + bytes(100) + b"ustar\x0000" + bytes(64) + b"0000000\0" * 2
    end = end.ljust(BLOCK - len(start) - 8, b"\0")
    checksum = sum(start) + sum(end) + 8 * 32
    return start + f"{checksum:06o}\0 ".encode() + end
