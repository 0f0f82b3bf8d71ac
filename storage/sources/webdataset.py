"""WebDataset tars, those of img2dataset and DataComp too: a record a sample."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from contracts.errors import DataError
from contracts.uid import digest_of
from storage.rows import ALIASES, record_of
from storage.source import (
    AUDIO_LIKE_SUFFIXES,
    AUDIO_SUFFIXES,
    DECODED_SUFFIXES,
    IMAGE_LIKE_SUFFIXES,
    SUFFIXES,
    VOLUME_SUFFIXES,
    Columns,
    Location,
    Record,
    Refused,
    Rejected,
    Unit,
)
from storage.sources._json import Described, parse_beside, parse_object
from storage.sources._sidecars import SampleCounts, SidecarRows, stem_of
from storage.sources._stream import Stream
from storage.sources._tar import Member, Tar
from storage.walk import FILE_BYTES, Tree, shown

IMAGES = frozenset(suffix[1:] for suffix in DECODED_SUFFIXES)
# Taken where there is none of these, so that the decoder gives a reason. A document is no picture
# of the text beside it.
UNDECODED = frozenset(s[1:] for s in IMAGE_LIKE_SUFFIXES - DECODED_SUFFIXES - {".pdf"})
AUDIO = frozenset(suffix[1:] for suffix in AUDIO_SUFFIXES)
UNDECODED_AUDIO = frozenset(suffix[1:] for suffix in AUDIO_LIKE_SUFFIXES) - AUDIO
VOLUMES = frozenset(suffix[1:] for suffix in VOLUME_SUFFIXES)
# Which members are a kind of payload: those that are decoded, and those that the decoder refuses.
MEMBERS: Mapping[str, tuple[frozenset[str], frozenset[str]]] = {
    "image": (IMAGES, UNDECODED),
    "audio": (AUDIO, UNDECODED_AUDIO),
    "volume": (VOLUMES, frozenset()),
}
KIND_OF = {end: kind for kind, sets in MEMBERS.items() for ends in sets for end in ends}
# Members that some loaders unpickle; here they are not even read.
FORBIDDEN = frozenset({"pyd", "pth", "pt", "ckpt", "pickle", "pkl", "joblib", "dill", "npz"})
SAMPLE_BYTES = 2 * FILE_BYTES


class Webdataset:
    """Read tars, plain, gzip or zstd, a unit a tar; consecutive members of one key are a sample.

    The key of `folder/name.field` is `folder/name`, up to the first dot of the last part. The
    image is the member jpg, png, webp, gif or bmp by any of its suffixes, else one of a format that
    is not decoded, such as tif or avif, which the decoder refuses; `txt` is the text, else a known
    alias in `json` is, whose other keys go to meta; `cls` is `meta.label`, an integer where it is
    one, and another label in the json becomes `meta.label_name`. Where a name has more dots,
    `a.b.jpg`, its last suffix decides, if one member alone has it (note DOTTED_KEY); `nii.gz` is
    one suffix, and `*.mask.png` no image. Members of other suffixes are passed over. `image` and
    `text` of the recipe may name a member's field instead. An image without a text is a record. A
    sample without an image is one only in a tar that holds none at all, which is a tar of audio
    where it has members wav or flac, or of another audio format, which the decoder refuses (`audio`
    of the recipe names them), else of volumes where it has members nii or nii.gz (`volume`), else
    of texts. A json that cannot be taken costs no payload and no text (notes
    JSON_VALUE_DROPPED, JSON_DROPPED).

    A Parquet file of the tar's name beside it, as img2dataset writes it, gives its row of the same
    `key` to meta; what the json says goes before. The counts of `_stats.json`, `sizes.json` and
    `index.json` are compared: the tar is right (note INDEX_MISMATCH on its last record, and on
    samples that the Parquet file lacks), unless it has no end and fewer samples.

    The source id is `<tar>/<key>`; with `id = "key"` the key alone, with another `id` that
    column. Bytes of names that are no characters are percent-encoded.

    A walk over the headers goes before the one that yields records: whether a key comes twice
    (KEY_SPLIT), whether there are images, and where the tar is cut must be known first. A cut tar
    keeps its whole samples, and the rest is one rejection; a tar without its end blocks that is
    not visibly cut is noted TAR_NO_EOF on its last record; records of further tars in the same
    file TAR_CONCATENATED.

    Cost: two passes, of a plain tar over headers only at first; memory for one sample, the keys
        of one tar and rows of its Parquet file that have not been asked for.
    Raises:
        DataError: the source's only tar is none.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        self._tree, self._columns = Tree(root, paths, follow_links), columns
        self.passed_over = self._tree.passed_over
        self._counts = SampleCounts(self._tree)

    def units(self) -> Iterator[Unit]:
        """Yield a unit a tar, with the Parquet file beside it."""
        for folder in self._tree.folders():
            names = set(folder.names)
            used = {"sizes.json", "index.json"}
            for name in folder.chosen(SUFFIXES["webdataset"]):
                sidecar = {stem_of(name) + ".parquet"} & names - {name}
                used |= {name, *sidecar, stem_of(name) + "_stats.json"}
                yield self._tree.unit(folder, name, *sidecar)
            folder.pass_over_rest(used)

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a record or a rejection for each sample, and rejections of single members.

        Rejections of members: TAR_MEMBER_TYPE, TAR_HEADER_TOO_LARGE, PATH_TRAVERSAL, NO_EXTENSION,
        FORBIDDEN_MEMBER, DUP_MEMBER; of samples: KEY_SPLIT, AMBIGUOUS_KEY (one for each of several
        payloads), NO_IMAGE, NO_AUDIO, NO_VOLUME, NO_CONTENT, TOO_LARGE, of a json that is all there
        is as `parse_object` says, and what `record_of` says; of the rest of a tar: TAR_TRUNCATED,
        TAR_TOO_MANY, BOMB_RATIO, BOMB_WINDOW, UNREADABLE, CHANGED_WHILE_READING.
        """
        try:
            with self._tree.open(unit.path) as opened:
                stream = Stream(opened)
                survey = _survey(stream, self._counts.of(unit.path))
                stream.rewind()
                yield from self._samples(unit, stream, survey)
        except Refused as fault:
            if fault.code == "SOURCE_UNREADABLE" and self._tree.single:
                raise DataError(f"{unit.path}: is no tar: it {fault.detail}.") from None
            yield Rejected(unit.name, fault.code, fault.detail)

    def _samples(self, unit: Unit, stream: Stream, survey: _Survey) -> Iterator[Record | Rejected]:
        sidecar = SidecarRows(self._tree, unit)
        tar = Tar(stream, survey.until)
        sample: _Sample | None = None
        number = 0
        for member, key, suffix, fault in _named(tar):
            if fault is None and (sample is None or sample.id != (member.archive, key)):
                if sample is not None:
                    number += 1
                    yield from self._items(unit, stream, sample, survey, sidecar, number)
                sample = _Sample((member.archive, key), member.offset)
            if fault is None and sample is not None and suffix in sample.members:
                fault = Refused("DUP_MEMBER", f"{member.name} is there before")
            if fault is not None:
                where = f"{unit.name}@{member.offset}"
                yield Rejected(
                    where, fault.code, fault.detail, f"{unit.name}/{key}" if key else None
                )
            elif sample is not None:
                sample.add(member, suffix, stream, wanted=self._is_wanted(suffix))
        fault, at, key = survey.fault, survey.stopped, survey.torn
        if tar.fault is not None:
            # It was whole at the first pass: somebody writes to it.
            fault, at, key = tar.fault, tar.stopped, ""
        elif sample is not None:
            yield from self._items(unit, stream, sample, survey, sidecar, number + 1)
        if fault is not None:
            source_id = f"{unit.name}/{key}" if key else None
            yield Rejected(f"{unit.name}@{at}", fault.code, fault.detail, source_id)
        if sidecar.fault is not None:
            yield sidecar.fault

    def _is_wanted(self, suffix: str) -> bool:
        named = self._columns.payload
        given = (self._columns.text, self._columns.label_image, named and named[1])
        return _end(suffix) in {*KIND_OF, "txt", "json"} or suffix == "cls" or suffix in given

    def _items(
        self,
        unit: Unit,
        stream: Stream,
        sample: _Sample,
        survey: _Survey,
        sidecar: SidecarRows,
        number: int,
    ) -> Iterator[Record | Rejected]:
        """Yield a sample's record or rejection; of several images in it one each."""
        key = sample.id[1]
        where, source_id = f"{unit.name}@{sample.offset}", f"{unit.name}/{key}"
        columns, found = self._columns, None
        kind, named = columns.payload or (survey.kind, None)
        if columns.id == "key":
            source_id, columns = key, replace(columns, id=None)
        elif columns.id is not None:
            columns = replace(columns, id=columns.id.removeprefix("meta."))
        try:
            if sample.id in survey.split:
                raise Refused("KEY_SPLIT", f"the members of {key!r} are not consecutive")
            labels = None if columns.label_image is None else sample.take(columns.label_image)
            decoded, refused = MEMBERS[kind]
            found = sample.field(decoded, named) or sample.field(refused, named)
            text = sample.field({"txt"}, columns.text)
            described = sample.field({"json"}, None)
            row = sidecar.row(key)
            absent = sidecar.known and not row
            said = Described({})
            if described is not None:
                data = sample.data(described).removeprefix(codecs.BOM_UTF8)
                alone = found is None and text is None
                said = Described(parse_object(data)) if alone else parse_beside(data)
                row |= said.row
            if said.fault is not None and columns.id not in (None, *row):
                raise said.fault
            if "cls" in sample.members:
                _add_label(row, sample.data("cls"))
            if text is not None:
                words = sample.data(text).rstrip(b"\r\n")
                for alias in ALIASES["text"]:
                    if isinstance(row.get(alias), str) and row[alias].encode() == words:
                        del row[alias]
                row[text] = words
                columns = replace(columns, text=text)
            if columns.label_image is not None:
                row[columns.label_image] = labels
            location = None
            if found is not None:
                member, data = sample.members[found], sample.data(found)
                row[found] = {"bytes": data, "path": member.name}
                columns = columns.naming(kind, found)
                if not stream.compressed:
                    path = str(unit.path.absolute())
                    location = Location(path, member.start, member.size)
            elif survey.has_payload and named not in row:
                raise Refused(f"NO_{kind.upper()}", f"has only {', '.join(sorted(sample.members))}")
        except Refused as fault:
            known = source_id if columns.id is None else None
            if isinstance(fault, _Ambiguous) and found is None:
                for name in fault.names:
                    place = f"{unit.name}@{sample.members[name].offset}"
                    yield Rejected(place, fault.code, fault.detail, known and f"{known}.{name}")
                return
            raw = None if found is None else sample.contents.get(found)
            digest = None if raw is None else digest_of(raw)
            yield Rejected(where, fault.code, fault.detail, known, digest)
            return
        notes = {
            "TAR_CONCATENATED": sample.id[0] > 0,
            "DOTTED_KEY": any(f is not None and f != _end(f) for f in (found, text, described)),
            "INDEX_MISMATCH": absent or (number == survey.samples and survey.mismatch),
            "TAR_NO_EOF": number == survey.samples and survey.no_end,
            "TRAILING_BYTES": number == survey.samples and survey.trailing,
        }
        record = record_of(
            columns,
            row,
            source_id=source_id,
            where=where,
            location=location,
            notes=(*(note for note, holds in notes.items() if holds), *said.notes),
        )
        if isinstance(record, Record) and record.payload is None and record.text is None:
            detail = f"neither payload nor text: {', '.join(sorted(sample.members))}"
            record = Rejected(where, "NO_CONTENT", detail, record.source_id)
        if isinstance(record, Record):
            passed_over = self.passed_over.contents
            for name in sample.members:
                if name not in (found, text, described, "cls"):
                    passed_over.add(f"{unit.name}/{key}.{name}", "not read")
            if said.fault is not None:
                reason = f"{said.notes[0]}: {said.fault.code}"
                passed_over.add(f"{unit.name}/{key}.{described}", reason)
        yield record


def _add_label(row: dict[str, Any], data: bytes) -> None:
    """Set `label` to what the member `cls` holds, and keep another one of the json beside it."""
    text = data.strip()
    label = int(text) if re.fullmatch(rb"-?[0-9]{1,18}", text) else text
    if "label" in row and row["label"] != label:
        row.setdefault("label_name", row["label"])
    row["label"] = label


# ------------------------------------------------------------------ samples


class _Ambiguous(Refused):
    """Several members of a sample could be its payload, or its text."""

    def __init__(self, key: str, names: list[str]) -> None:
        self.names = names
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        suffix = _end(names[0])
        stem = names[0].removesuffix(suffix).rstrip(".")
        renamed = f"{key}_{stem.replace('.', '_')}.{suffix}"
        advice = f"write {renamed} for {key}.{names[0]}, or " if stem else ""
        super().__init__(
            "AMBIGUOUS_KEY",
            f"{len(names)} under the key {key!r}, which ends at the first dot of a name: {advice}"
            f"name as the column which is meant of {some}",
        )


@dataclass
class _Sample:
    """Consecutive members of one key, and the contents of those that may be needed."""

    id: tuple[int, str]
    offset: int
    members: dict[str, Member] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    size: int = 0

    def add(self, member: Member, suffix: str, stream: Stream, *, wanted: bool) -> None:
        self.members[suffix] = member
        if wanted and member.size <= FILE_BYTES and self.size + member.size <= SAMPLE_BYTES:
            self.contents[suffix] = stream.read(member.size)
            self.size += member.size

    def take(self, suffix: str) -> bytes | None:
        """Return a member's content, None where there is none, and have it no longer.

        Raises:
            Refused: TOO_LARGE.
        """
        data = self.data(suffix) if suffix in self.members else None
        self.members.pop(suffix, None)
        return data

    def field(self, suffixes: Iterable[str], given: str | None) -> str | None:
        """Return which of the members has one of the suffixes; the given one, if it is there.

        Raises:
            Refused: AMBIGUOUS_KEY: several have.
        """
        if given is not None:
            return given if given in self.members else None
        found = [name for name in self.members if name in suffixes]
        if not found:
            found = [
                name
                for name in self.members
                if _end(name) in suffixes and not name.endswith("mask.png")
            ]
        if len(found) > 1:
            raise _Ambiguous(self.id[1], found)
        return found[0] if found else None

    def data(self, suffix: str) -> bytes:
        """Return a member's content.

        Raises:
            Refused: TOO_LARGE.
        """
        if suffix not in self.contents:
            size = self.members[suffix].size
            raise Refused("TOO_LARGE", f"{suffix} has {size:,} bytes, the limit is {FILE_BYTES:,}")
        return self.contents[suffix]


def _named(tar: Tar) -> Iterator[tuple[Member, str, str, Refused | None]]:
    """Yield each member with its key and lower-case field, or with the reason to refuse it."""
    for member in tar.members():
        key, suffix, fault = "", "", member.fault
        if fault is None:
            try:
                key, suffix = _split(member.name)
            except Refused as bad:
                fault = bad
        if suffix.rpartition(".")[2] in FORBIDDEN:
            fault = Refused("FORBIDDEN_MEMBER", f"{member.name} may hold code; it was not read")
        if fault is not None or key:
            yield member, key, suffix, fault


def _split(name: str) -> tuple[str, str]:
    """Return key and field of a member's name, two empty texts for `__meta__`.

    Raises:
        Refused: PATH_TRAVERSAL or NO_EXTENSION.
    """
    folders = re.split(r"[/\\]", name)
    if "\0" in name or not folders[0] or ".." in folders or re.match(r"[A-Za-z]:", name):
        raise Refused("PATH_TRAVERSAL", name)
    name = shown(name.removeprefix("./"))
    folder, slash, base = name.rpartition("/")
    stem, _, suffix = base.partition(".")
    if any(re.fullmatch(r"__.+__", part) for part in (*folders[:-1], stem)):
        return "", ""
    if not stem or not suffix:
        raise Refused("NO_EXTENSION", name)
    return f"{folder}{slash}{stem}", suffix.lower()


def _end(field: str) -> str:
    """Return the last suffix of a field: jpg of a.jpg, nii.gz of a.nii.gz."""
    last = ".".join(field.split(".")[-2:])
    return last if last in KIND_OF else field.rpartition(".")[2]


# ------------------------------------------------------------------ the first walk


@dataclass(frozen=True)
class _Survey:
    """What must be known of a tar before its first sample can be given.

    Attributes:
        kind: of the payload: the first of MEMBERS that some sample has, image where none has any.
        has_payload: some sample has one.
        samples: how many are given.
        split: archive and key of those whose members are not consecutive.
        until: where to stop reading; None for the end.
        fault: why not all is given; `stopped` the place, `torn` the key of the sample that is cut.
        no_end: the end blocks are missing, and nothing else.
        trailing: something that is no tar follows the end.
        mismatch: an index beside the tar says another number of samples.
    """

    kind: str
    has_payload: bool
    samples: int
    split: frozenset[tuple[int, str]]
    until: int | None
    fault: Refused | None
    stopped: int
    torn: str
    no_end: bool
    trailing: bool
    mismatch: bool


@dataclass
class _Run:
    id: tuple[int, str]
    offset: int
    fields: set[str] = field(default_factory=set)


def _survey(stream: Stream, expected: int | None) -> _Survey:
    """Walk over the headers once."""
    tar = Tar(stream)
    split: set[tuple[int, str]] = set()
    seen: set[str] = set()
    last: _Run | None = None
    # The fields that every sample but the last has.
    common: set[str] | None = None
    kinds: set[str] = set()
    samples = 0
    for member, key, suffix, fault in _named(tar):
        if fault is not None:
            continue
        if last is None or last.id != (member.archive, key):
            if last is not None:
                common = last.fields if common is None else common & last.fields
                if last.id[0] != member.archive:
                    seen.clear()
            if key in seen:
                split.add((member.archive, key))
            seen.add(key)
            samples += 1
            last = _Run((member.archive, key), member.offset)
        last.fields.add(suffix)
        if _end(suffix) in KIND_OF and not suffix.endswith("mask.png"):
            kinds.add(KIND_OF[_end(suffix)])
    fault, torn, until, stopped = tar.fault, "", None, tar.stopped
    if fault is not None:
        until = stopped
    if last is not None and _is_torn(tar, last, common):
        torn, until, stopped = last.id[1], last.offset, last.offset
        samples -= 1
        fault = fault or Refused("TAR_TRUNCATED", f"has no end, and {torn!r} lacks members")
    elif fault is None and not tar.ended and expected is not None and samples < expected:
        detail = f"has no end and {samples:,} samples, {expected:,} by its index"
        fault, stopped = Refused("TAR_TRUNCATED", detail), stream.position
    return _Survey(
        kind=next((kind for kind in MEMBERS if kind in kinds), "image"),
        has_payload=bool(kinds),
        samples=samples,
        split=frozenset(split),
        until=until,
        fault=fault,
        stopped=stopped,
        torn=torn,
        no_end=fault is None and not tar.ended,
        trailing=tar.trailing,
        mismatch=fault is None and expected is not None and expected != samples,
    )


def _is_torn(tar: Tar, last: _Run, common: set[str] | None) -> bool:
    """Whether members of the last sample are missing, as far as can be told.

    They are where the member that is cut bears its key. Where that name is cut too, or the tar
    just stops, a sample is whole that has every field that all before it have; so the first is.
    """
    if tar.ended:
        return False
    if tar.fault is not None:
        lead, name = f"{last.id[1]}.", shown(tar.torn.removeprefix("./"))
        if name.startswith(lead):
            return True
        if not lead.startswith(name):
            return False
    return common is not None and not common <= last.fields
