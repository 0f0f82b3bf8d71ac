"""NIfTI volumes and DICOM series: each a record, or each axial slice in its bit depth."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from contracts.uid import digest_of
from contracts.volume import Header, Limits
from storage.rows import check_columns, is_unicode
from storage.source import SUFFIXES, Columns, Location, Record, Refused, Rejected, Unit
from storage.sources import _dicom, _nifti
from storage.sources._slices import Extent, Scale, Voxels, extent_of, png
from storage.walk import Folder, Tree

_SUFFIXES = SUFFIXES["volumes"]
_MARK_AT, _MARK = 128, b"DICM"
# Of a DICOM header, what a volume's own cannot say.
_KEPT = ("modality", "window_center", "window_width")


@dataclass(frozen=True)
class Series(Unit):
    """The DICOM files of a folder.

    Attributes:
        names: of those called `.dcm`, and of those without a suffix, which may be others.
    """

    names: tuple[str, ...] = ()


@dataclass
class _Stack:
    """Slices of a series that lie alike, as the slices of one volume do."""

    slices: list[_dicom.Slice] = field(default_factory=list)
    extent: Extent = field(default_factory=Extent)


class Volumes:
    """Read NIfTI files (.nii, .nii.gz) and DICOM files (.dcm, or without a suffix).

    A record is a volume. Of NIfTI its bytes are kept as they came, a fourth axis is its channels,
    and its id is its path. A DICOM series becomes one packed NIfTI file with the values as they
    were stored, their scale and where they lie in the patient; the slices of one place, those of
    several echoes or times, become its channels; its id is `<folder>/<series>`, and in meta are
    `modality`, `window_center` and `window_width` of its first slice. UNEVEN_SLICES notes one
    whose slices are not equally far apart, as where a file is missing or was refused.

    With `slices` a record is an axial slice as a PNG in grey: 8 bits for voxels of one byte, kept
    as they are, else 16 bits. One scale serves a whole volume, never a slice by itself, so that
    equal voxels stay equal: whole numbers that span no more than 65,535 are kept without loss,
    others are spread over 16 bits between the least and the greatest of the volume. In meta,
    `slope` and `intercept` give the values back: value = grey * slope + intercept, in Hounsfield
    units for CT; also `slices`, `modality`, `spacing_x_mm`, `spacing_y_mm`, `spacing_z_mm`, and of
    DICOM `window_center` and `window_width`, which are not applied. Nothing else is read of a
    DICOM header: no name, no date, no place.

    `series` names the volume and `position` counts its slices from the feet up. A NIfTI file is
    turned, never interpolated, so that its pictures show the patient's left to the right and the
    back below, as DICOM's do; its series is its path, and a slice's id is `<path>#<position>`. A
    file of four axes is as many volumes, `<path>@<n>` each. DICOM files of a folder that share a
    SeriesInstanceUID are a series, in the order of their places along the normal of the slices,
    else by InstanceNumber, else by name with numbers as numbers; a slice's id is its file's path.
    Slices of another orientation or size, such as a localizer's, are a series of their own,
    `<uid>@LF-512x400`, while most keep the name.
    Compressed pixels are read where pydicom finds a decoder: RLE, JPEG and JPEG 2000 always, others
    after `pip install python-gdcm`. Label maps are volumes like any other. Where two sources hold
    the same paths, a step that groups by `series` takes `group = "source || '/' || series"`.

    A unit is a NIfTI file, or the DICOM files of a folder: one that is added changes the positions
    of those behind it, which `--update` takes.

    Rejects:
        SYMLINK, SPECIAL_FILE, UNREADABLE, SOURCE_GONE, CHANGED_WHILE_READING, TOO_LARGE (a DICOM
        file, or the file of a volume that is a record, of more than 64 MiB; of slices a volume of
        more than 1 GiB of voxels, a file of more than 16 GiB or a million slices; a series of more
        than 2^28 voxels that becomes one volume), SOURCE_TRUNCATED, SOURCE_UNREADABLE,
        VOLUME_HEADER, UNSUPPORTED_CODING, VALUE_RANGE, CORRUPT_DATA, NO_CONTENT, BAD_DIMENSIONS,
        BOMB_PIXELS.
    Cost: each file of a series is read twice, and of slices each file; a volume is held in memory,
        of DICOM slices one file at a time.
    Raises:
        ConfigError: a column is named; nibabel or pydicom is missing.
    """

    apart = True

    def __init__(
        self, root: Path, paths: list[Path], columns: Columns, follow_links: Path | None = None
    ) -> None:
        check_columns(columns, [], "a folder of volumes")
        self._tree, self._slices = Tree(root, paths, follow_links), columns.slices
        self.passed_over = self._tree.passed_over

    def units(self) -> Iterator[Unit]:
        """Yield a unit a NIfTI file, and one for the DICOM files of each folder."""
        for folder in self._tree.folders():
            dicom = []
            chosen = list(self._chosen(folder))
            folder.pass_over_rest(chosen)
            for name in chosen:
                if name.lower().endswith((".nii", ".nii.gz")):
                    yield self._tree.unit(folder, name)
                else:
                    dicom.append(name)
            if dicom:
                unit = self._tree.unit(folder, *dicom)
                place = folder.prefix.rstrip("/") or "."
                yield Series(place, folder.path, unit.size_bytes, unit.fingerprint, tuple(dicom))

    def records(self, unit: Unit) -> Iterator[Record | Rejected]:
        """Yield a unit's volumes, or their slices, one volume after another, each from below."""
        if isinstance(unit, Series):
            yield from self._of_dicom(unit)
            return
        try:
            if not self._slices:
                yield self._whole(unit)
                return
            with self._tree.open(unit.path) as file:
                for number, (header, voxels) in enumerate(_nifti.volumes(file)):
                    name = unit.name if header.volumes is None else f"{unit.name}@{number}"
                    yield from _of_nifti(header, voxels, name)
        except Refused as bad:
            yield Rejected(unit.name, bad.code, bad.detail, unit.name)

    def _chosen(self, folder: Folder) -> Iterator[str]:
        """Yield names that may be volumes; one without a suffix may be a DICOM file."""
        known = set(folder.chosen(_SUFFIXES))
        for name in folder.names:
            bare = folder.wanted is None and "." not in name and name != "DICOMDIR"
            if name in known or bare:
                yield name

    def _of_dicom(self, unit: Series) -> Iterator[Record | Rejected]:
        """Yield each series of a folder: first look at all files, then read them in order."""
        prefix = "" if unit.name == "." else f"{unit.name}/"
        series: dict[str, list[_Stack]] = {}
        for name in unit.names:
            try:
                data = self._tree.read(unit.path / name)
                if "." not in name and data[_MARK_AT : _MARK_AT + 4] != _MARK:
                    self.passed_over.contents.add(prefix + name, "no DICOM")
                    continue
                one, voxels = _dicom.parse(data, name, digest_of(data))
            except Refused as bad:
                yield Rejected(prefix + name, bad.code, bad.detail, prefix + name)
                continue
            stacks = series.setdefault(one.series, [])
            stack = next((s for s in stacks if _dicom.stackable(s.slices[0], one)), None)
            if stack is None:
                stack = _Stack()
                stacks.append(stack)
            stack.slices.append(one)
            if self._slices:
                stack.extent.add(voxels)
        for uid in sorted(series):
            for name, stack in _named(uid or unit.name, series[uid]):
                slices = _dicom.ordered(stack.slices)
                if self._slices:
                    yield from self._of_series(unit, prefix, name, slices, stack.extent)
                else:
                    yield self._whole_series(unit, f"{prefix}{name}" if uid else name, slices)

    def _whole(self, unit: Unit) -> Record:
        data = self._tree.read(unit.path)
        place = str(unit.path.absolute())
        # A path that is not UTF-8 cannot be remembered: such a payload is copied.
        location = Location(place, 0, len(data)) if is_unicode(place) else None
        return Record(unit.name, unit.name, volume=data, location=location)

    def _whole_series(
        self, unit: Series, name: str, slices: Sequence[_dicom.Slice]
    ) -> Record | Rejected:
        """Return the volume of a series; its files were looked at before."""
        first = slices[0]
        alike = len({(one.slope, one.intercept) for one in slices}) == 1
        try:
            if any(not _dicom.stackable(first, one) for one in slices):
                raise Refused("CORRUPT_DATA", "no two of its slices lie alike")
            count, most = len(slices) * math.prod(first.size), Limits().voxels
            if count > most:
                raise Refused("TOO_LARGE", f"{count:,} voxels, the limit is {most:,}")
            if alike:
                voxels_NYX = np.stack([self._voxels(unit, one) for one in slices])
                slope, intercept = first.slope, first.intercept
            else:
                values = [self._values(unit, one).astype(np.float32) for one in slices]
                voxels_NYX, slope, intercept = np.stack(values), 1.0, 0.0
            data = _dicom.volume(slices, voxels_NYX, slope, intercept)
        except Refused as bad:
            return Rejected(name, bad.code, bad.detail, name)
        meta = {key: first.meta[key] for key in _KEPT if key in first.meta}
        notes = ("UNEVEN_SLICES",) if _dicom.uneven(slices) else ()
        return Record(name, name, volume=data, meta=meta, notes=notes)

    def _of_series(
        self,
        unit: Series,
        prefix: str,
        volume: str,
        slices: Sequence[_dicom.Slice],
        extent: Extent,
    ) -> Iterator[Record | Rejected]:
        alike = len({(one.slope, one.intercept) for one in slices}) == 1
        apart = _dicom.distance(slices)
        try:
            if not alike:
                # Each file has a scale of its own: only their values can be compared.
                extent = extent_of(self._values(unit, one) for one in slices)
            scale = extent.scale()
        except Refused as bad:
            yield Rejected(prefix + slices[0].name, bad.code, f"series {volume}: {bad.detail}")
            return
        for position, one in enumerate(slices):
            name = prefix + one.name
            try:
                voxels = self._voxels(unit, one) if alike else self._values(unit, one)
            except Refused as bad:
                yield Rejected(name, bad.code, bad.detail, name)
                continue
            slope, intercept = (one.slope, one.intercept) if alike else (1.0, 0.0)
            meta = one.meta | ({} if apart is None else {"spacing_z_mm": apart})
            meta |= _given(scale, slope, intercept, len(slices))
            yield _record(name, name, volume, position, voxels, scale, meta)

    def _voxels(self, unit: Series, one: _dicom.Slice) -> Voxels:
        data = self._tree.read(unit.path / one.name)
        if digest_of(data) != one.digest:
            raise Refused("CHANGED_WHILE_READING", "other bytes than at the first look")
        return _dicom.parse(data, one.name, one.digest)[1]

    def _values(self, unit: Series, one: _dicom.Slice) -> Voxels:
        values: Voxels = self._voxels(unit, one) * np.float64(one.slope) + one.intercept
        return values


def _named(series: str, stacks: list[_Stack]) -> list[tuple[str, _Stack]]:
    """Return the volumes of a series under their names.

    The largest bears the name of the series, so that a localizer beside it changes nothing. Where
    no two slices lie alike, as in a turning projection, the series is left whole.
    """
    if all(len(stack.slices) == 1 for stack in stacks):
        whole = _Stack()
        for stack in stacks:
            whole.slices += stack.slices
            whole.extent.merge(stack.extent)
        return [(series, whole)]
    main = max(stacks, key=lambda stack: len(stack.slices))
    named = {series: main}
    for stack in stacks:
        if stack is not main:
            name = f"{series}@{_dicom.plane(stack.slices[0])}"
            again = (f"{name}-{number}" for number in itertools.count(2))
            named[next(n for n in itertools.chain([name], again) if n not in named)] = stack
    return sorted(named.items())


def _of_nifti(header: Header, voxels: Voxels, name: str) -> Iterator[Record | Rejected]:
    planes = [voxels[:, :, position].T for position in range(voxels.shape[2])]
    try:
        scale = extent_of(planes).scale()
    except Refused as bad:
        yield Rejected(name, bad.code, bad.detail, name)
        return
    meta = _given(scale, header.slope, header.intercept, len(planes))
    if header.upright_spacing is not None:
        keys = ("spacing_x_mm", "spacing_y_mm", "spacing_z_mm")
        meta |= dict(zip(keys, header.upright_spacing, strict=True))
    for position, plane in enumerate(planes):
        place = f"{name}#{position}"
        yield _record(place, place, name, position, plane, scale, meta)


def _given(scale: Scale, slope: float, intercept: float, slices: int) -> dict[str, Any]:
    """Return what gives the values back: value = grey * slope + intercept; and the slices."""
    return {
        "slope": slope / scale.factor,
        "intercept": slope * scale.least + intercept,
        "slices": slices,
    }


def _record(
    source_id: str,
    where: str,
    volume: str,
    position: int,
    voxels: Voxels,
    scale: Scale,
    meta: dict[str, Any],
) -> Record:
    finite = voxels.dtype.kind != "f" or bool(np.isfinite(voxels).all())
    return Record(
        source_id,
        where,
        image=png(scale.grey(voxels)),
        series=volume,
        position=position,
        meta=meta,
        notes=() if finite else ("NON_FINITE",),
    )
