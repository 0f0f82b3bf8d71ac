from __future__ import annotations

import gzip
import io
import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff
from PIL import Image
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from contracts import volume
from contracts.errors import ConfigError
from storage.source import Columns, Location, Record, Rejected, detect, find, probe
from storage.sources import _nifti
from storage.sources.volumes import Volumes
from tests.contracts import bad_volumes
from tests.contracts.bad_volumes import damaged


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    nifti(folder / "a.nii", cube(np.int16, 3000))
    nifti(folder / "b.nii.gz", cube(np.uint8))
    for number in range(3):
        dicom(folder / f"ct/{number}.dcm", plane(number), ImagePositionPatient=[0, 0, number])


def read(path: Path, **columns: Any) -> list[Record | Rejected]:
    found = find(path)
    source = Volumes(found.root, found.paths, Columns(slices=True, **columns))
    return [item for unit in source.units() for item in source.records(unit)]


def records(path: Path) -> list[Record]:
    items = read(path)
    assert all(isinstance(item, Record) for item in items), items
    return items


def rejected(path: Path) -> list[tuple[str, str | None]]:
    return [(i.code, i.source_id) for i in read(path) if isinstance(i, Rejected)]


def grey(record: Record) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(record.image)))


def values(record: Record) -> np.ndarray:
    return grey(record) * record.meta["slope"] + record.meta["intercept"]


def nifti(path: Path, voxels: np.ndarray, affine: Any = None, **fields: Any) -> Path:
    """Write a volume; by default stored with its axes to the left, to the back and upwards."""
    affine = np.diag([-1.0, -1.0, 1.0, 1.0]) if affine is None else affine
    made = nibabel.Nifti1Image(voxels, affine, dtype=voxels.dtype)
    made.header.set_xyzt_units("mm")
    for name, value in fields.items():
        made.header[name] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    made.to_filename(path)
    return path


def cube(dtype: Any, top: int = 256, shape: tuple[int, ...] = (5, 4, 3)) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


# ------------------------------------------------------------------ NIfTI


def test_each_axial_slice_is_a_record_in_its_series(tmp_path: Path):
    voxels = cube(np.uint8)
    nifti(tmp_path / "a" / "head.nii.gz", voxels)
    found = records(tmp_path)
    assert [r.source_id for r in found] == [f"a/head.nii.gz#{k}" for k in range(3)]
    assert [(r.series, r.position) for r in found] == [("a/head.nii.gz", k) for k in range(3)]
    for k, record in enumerate(found):
        assert np.array_equal(grey(record), voxels[:, :, k].T)
        assert grey(record).dtype == np.uint8
    assert found[0].meta == {
        "slope": 1.0, "intercept": 0.0, "slices": 3,
        "spacing_x_mm": 1.0, "spacing_y_mm": 1.0, "spacing_z_mm": 1.0,
    }  # fmt: skip


def test_plain_and_packed_either_byte_order_and_both_versions_read_alike(tmp_path: Path):
    voxels = cube(np.int16, 3000)
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti2Image(voxels, affine), tmp_path / "b.nii.gz")
    header = nibabel.Nifti1Header(endianness=">")
    nibabel.save(nibabel.Nifti1Image(voxels, affine, header), tmp_path / "c.nii")
    found = records(tmp_path)
    assert len({r.series for r in found}) == 3
    assert len({r.image for r in found}) == 3
    assert np.array_equal(values(found[1]), voxels[:, :, 1].T)


def test_a_volume_stored_along_any_axes_gives_the_same_pictures(tmp_path: Path):
    voxels = cube(np.uint8)
    affine = np.diag([-2.0, -3.0, 4.0, 1.0])
    expected = [r.image for r in records(nifti(tmp_path / "0.nii", voxels, affine))]
    turns = itertools.product(
        itertools.permutations(range(3)), itertools.product([1, -1], repeat=3)
    )
    for number, (axes, signs) in enumerate(turns):
        turn = np.column_stack([axes, signs])
        turned = apply_orientation(voxels, turn)
        tilt = np.eye(4)
        tilt[:3, :3] = _rotation(0.2)
        path = tmp_path / f"{number + 1}.nii"
        nifti(path, turned, tilt @ affine @ inv_ornt_aff(turn, voxels.shape))
        found = records(path)
        assert [r.image for r in found] == expected
        spacing = [found[0].meta[f"spacing_{axis}_mm"] for axis in "xyz"]
        assert spacing == pytest.approx([2, 3, 4])


def _rotation(angle: float) -> np.ndarray:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array(
        [[1, 0, 0], [0, c, -s], [0, s, c]]
    )


def test_the_patients_left_lies_right_the_front_above_and_the_feet_come_first(tmp_path: Path):
    voxels = np.zeros((5, 4, 3), dtype=np.uint8)
    voxels[4, 3, 2] = 9  # Rightmost, foremost and uppermost, as the affine is the identity: RAS.
    found = records(nifti(tmp_path / "a.nii", voxels, np.eye(4)))
    assert [grey(r).any() for r in found] == [False, False, True]
    assert grey(found[2])[0, 0] == 9


def test_more_than_ten_slices_count_as_numbers(tmp_path: Path):
    voxels = np.broadcast_to(np.arange(13, dtype=np.uint8), (5, 4, 13))
    found = records(nifti(tmp_path / "a.nii.gz", voxels))
    assert [r.position for r in found] == list(range(13))
    assert [int(grey(r)[0, 0]) for r in found] == list(range(13))
    assert sorted(r.source_id for r in found) != [r.source_id for r in found]


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.uint8, 0, 255), (np.int8, -128, 127), (np.int16, -1024, 3071), (np.uint16, 7, 65_535),
        (np.int16, -32_768, 32_767), (np.int32, 10**6, 10**6 + 60_000), (np.float32, -40, 300),
        (np.int64, -(2**62) - 5, 60_000 - 2**62), (np.uint64, 2**63 + 10**5, 2**63 + 10**5 + 99),
    ],
)  # fmt: skip
def test_whole_numbers_come_back_exactly(tmp_path: Path, dtype: Any, low: int, high: int):
    rng = np.random.default_rng(1)
    steps = rng.integers(0, high - low + 1, (6, 5, 4))
    steps[0, 0, 0], steps[1, 0, 0] = 0, high - low
    voxels = np.array([low + int(s) for s in steps.ravel()], dtype=dtype).reshape(steps.shape)
    for k, record in enumerate(records(nifti(tmp_path / "a.nii", voxels))):
        deep = np.dtype(dtype).itemsize > 1
        assert grey(record).dtype == (np.uint16 if deep else np.uint8)
        factor = round(1 / record.meta["slope"])
        least = low if deep or low < 0 else 0
        assert np.array_equal(grey(record), (steps[:, :, k].T + (low - least)) * factor)
        assert record.meta["intercept"] == float(least)
        assert factor == (65_535 // (high - low) if deep else 1)


@pytest.mark.parametrize("scale", [1e-30, 0.37, 1e30])
def test_fractions_come_back_within_half_a_step_of_one_scale_for_the_volume(
    tmp_path: Path, scale: float
):
    voxels = np.random.default_rng(1).normal(size=(7, 6, 5)) * scale
    voxels[:, :, 2] /= 100
    found = records(nifti(tmp_path / "a.nii", voxels))
    assert len({r.meta["slope"] for r in found}) == 1
    greys = np.stack([grey(r) for r in found])
    assert (greys.min(), greys.max()) == (0, 65_535)
    assert np.ptp(greys[2]) < 2000
    for k, record in enumerate(found):
        error = np.abs(values(record) - voxels[:, :, k].T)
        assert error.max() <= record.meta["slope"] * 0.501


def test_the_headers_own_scale_is_part_of_the_values(tmp_path: Path):
    voxels = cube(np.int16, 2000)
    path = nifti(tmp_path / "a.nii", voxels)
    data = bytearray(path.read_bytes())
    data[112:120] = np.array([2.5, -1000], dtype="<f4").tobytes()
    path.write_bytes(data)
    assert np.allclose(nibabel.load(path).get_fdata()[:, :, 1].T, values(records(path)[1]))


def test_a_label_map_keeps_its_numbers(tmp_path: Path):
    voxels = cube(np.uint8, 3)
    for k, record in enumerate(records(nifti(tmp_path / "a.nii", voxels))):
        assert np.array_equal(grey(record), voxels[:, :, k].T)


def test_voxels_that_are_no_numbers_become_the_least_and_are_noted(tmp_path: Path):
    voxels = np.arange(60, dtype=np.float32).reshape(5, 4, 3) + 0.5
    voxels[0, 0, 1], voxels[1, 1, 1] = np.nan, np.inf
    found = records(nifti(tmp_path / "a.nii", voxels))
    assert [r.notes for r in found] == [(), ("NON_FINITE",), ()]
    assert values(found[1])[0, 0] == 0.5
    assert rejected(nifti(tmp_path / "b.nii", voxels * np.nan)) == [("CORRUPT_DATA", "b.nii")]
    huge = np.zeros((2, 2, 2))
    huge[0, 0, 0], huge[1, 1, 1] = -1.5e308, 1.5e308
    assert rejected(nifti(tmp_path / "c.nii", huge + 0.5)) == [("VALUE_RANGE", "c.nii")]


@pytest.mark.parametrize("value", [0.0, 0.25, -7.0])
def test_a_volume_of_one_value_is_flat(tmp_path: Path, value: float):
    found = records(nifti(tmp_path / "a.nii", np.full((3, 3, 2), value, dtype=np.float32)))
    assert all((grey(r) == 0).all() and (values(r) == value).all() for r in found)


def test_a_file_of_four_axes_is_as_many_volumes_each_with_its_own_scale(tmp_path: Path):
    voxels = np.stack([cube(np.int16, 900), cube(np.int16, 9)], axis=3)
    found = records(nifti(tmp_path / "a.nii.gz", voxels))
    assert [r.series for r in found] == ["a.nii.gz@0"] * 3 + ["a.nii.gz@1"] * 3
    assert [r.position for r in found] == [0, 1, 2, 0, 1, 2]
    assert found[4].source_id == "a.nii.gz@1#1"
    assert np.allclose(values(found[4]), voxels[:, :, 1, 1].T)
    assert found[0].meta["slope"] != found[3].meta["slope"]


def test_one_volume_along_a_fourth_axis_is_a_volume_and_two_axes_a_slice(tmp_path: Path):
    one = records(nifti(tmp_path / "a.nii", cube(np.uint8)[..., None]))
    assert [r.series for r in one] == ["a.nii"] * 3
    flat = records(nifti(tmp_path / "b.nii", cube(np.uint8)[:, :, 0]))
    assert [(r.source_id, r.meta["slices"]) for r in flat] == [("b.nii#0", 1)]


# ------------------------------------------------------------------ files that lie


# What the table of whole volumes calls otherwise of one: here the file is the source.
OF_A_SOURCE = {
    "NOT_A_VOLUME": "SOURCE_UNREADABLE",
    "TRUNCATED": "SOURCE_TRUNCATED",
    "CORRUPT_DATA": "SOURCE_TRUNCATED",
    "BOMB_VOXELS": "TOO_LARGE",
}
CODES = {name: OF_A_SOURCE.get(code, code) for name, code in bad_volumes.CODES.items()}


@pytest.mark.parametrize("name", CODES)
def test_a_bad_file_is_refused_whole_and_leaves_the_good_ones_alone(tmp_path: Path, name: str):
    good = records(nifti(tmp_path / "a.nii", cube(np.int16)))
    (tmp_path / "b.nii").write_bytes(damaged((tmp_path / "a.nii").read_bytes())[name])
    (tmp_path / "c.nii").symlink_to(tmp_path / "a.nii")
    items = read(tmp_path)
    assert items[:-2] == good
    assert [(i.code, i.source_id) for i in items[-2:]] == [
        (CODES[name], "b.nii"),
        ("SYMLINK", "c.nii"),
    ]


def test_a_header_that_asks_for_more_than_deflate_can_give_is_refused_unread(tmp_path: Path):
    voxels = np.zeros((64, 64, 64), dtype=np.uint8)
    path = nifti(tmp_path / "a.nii.gz", voxels)
    assert len(records(path)) == 64
    # 512 MiB are promised: within the limit, but not within 400 bytes.
    whole = bytearray(gzip.decompress(path.read_bytes()))
    whole[40:48] = np.array([3, 1024, 1024, 512], dtype="<i2").tobytes()
    path.write_bytes(gzip.compress(bytes(whole)))
    (item,) = read(path)
    assert item.code == "SOURCE_TRUNCATED"
    assert "cannot hold" in item.detail


def test_a_bomb_is_refused_by_its_size_before_it_unfolds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = nifti(tmp_path / "a.nii.gz", np.zeros((64, 64, 64), dtype=np.uint8))
    monkeypatch.setattr(_nifti, "VOLUME_BYTES", 64**3 - 1)
    monkeypatch.setattr(_nifti, "_read_through", lambda *_: pytest.fail("it was unfolded"))
    assert rejected(path) == [("TOO_LARGE", "a.nii.gz")]


def test_whatever_the_bytes_it_ends_in_records_or_a_reason(tmp_path: Path):
    whole = nifti(tmp_path / "a.nii", cube(np.int16)).read_bytes()
    rng = np.random.default_rng(0)
    path = tmp_path / "b.nii"
    codes = set()
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(0, 352, 3):
            data[at] = rng.integers(0, 256)
        path.write_bytes(zlib.compress(bytes(data), wbits=31) if rng.random() < 0.3 else data)
        codes |= {i.code if isinstance(i, Rejected) else "RECORD" for i in read(path)}
    assert {"RECORD", "VOLUME_HEADER", "SOURCE_TRUNCATED", "UNSUPPORTED_CODING"} <= codes


# ------------------------------------------------------------------ DICOM


SERIES = "1.2.3.4"


def dicom(path: Path, pixels: np.ndarray, **fields: Any) -> Path:
    """Write a slice: uncompressed, of MONOCHROME2, in the axial plane."""
    made = pydicom.Dataset()
    made.PatientName, made.PatientID, made.PatientBirthDate = "Doe^Jane", "4711", "19700101"
    made.SeriesInstanceUID, made.Modality, made.SOPInstanceUID = SERIES, "CT", "1.2.3"
    made.SOPClassUID = CTImageStorage
    made.Rows, made.Columns = pixels.shape
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    made.BitsAllocated, made.BitsStored, made.HighBit = bits, bits, bits - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    made.add_new("PixelData", "OW", pixels.tobytes())
    for name, value in fields.items():
        setattr(made, name, value)
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=True)
    return path


def plane(value: int, dtype: Any = np.int16) -> np.ndarray:
    pixels = np.full((4, 6), value, dtype=dtype)
    pixels[0, 0] = 0
    return pixels


def test_a_series_is_ordered_by_place_whatever_its_files_are_called(tmp_path: Path):
    for name, height in enumerate([30, 0, 10, 20, 110, 40, 50, 60, 70, 80, 90, 100]):
        dicom(tmp_path / f"{name}.dcm", plane(height), ImagePositionPatient=[0, 0, height])
    found = records(tmp_path)
    assert [round(values(r)[1, 1]) for r in found] == list(range(0, 120, 10))
    assert [r.position for r in found] == list(range(12))
    assert {r.series for r in found} == {SERIES}
    assert found[0].source_id == "1.dcm"
    assert found[0].meta["spacing_z_mm"] == 10.0
    assert found[0].meta["slices"] == 12


def test_place_counts_along_the_normal_of_slices_in_any_plane(tmp_path: Path):
    for name, place in enumerate([5, -15, 25]):
        # Coronal: rows to the left, columns downwards; the normal points to the back.
        dicom(
            tmp_path / f"{name}.dcm", plane(20 + place),
            ImageOrientationPatient=[1, 0, 0, 0, 0, -1], ImagePositionPatient=[0, place, 0],
        )  # fmt: skip
    assert [round(values(r)[1, 1]) for r in records(tmp_path)] == [5, 25, 45]


def test_without_places_numbers_order_and_without_numbers_names_do(tmp_path: Path):
    for name, number in (("a", 10), ("b", 9), ("c", 100)):
        dicom(tmp_path / "n" / f"{name}.dcm", plane(number), InstanceNumber=number)
    for number in (10, 9, 100):
        dicom(tmp_path / "o" / f"s{number}.dcm", plane(number))
    for folder in ("n", "o"):
        found = records(tmp_path / folder)
        assert [round(values(r)[1, 1]) for r in found] == [9, 10, 100]
        assert "spacing_z_mm" not in found[0].meta


def test_slices_of_several_directions_are_ordered_by_number(tmp_path: Path):
    turned = [0, 1, 0, 0, 0, -1]
    dicom(tmp_path / "a.dcm", plane(3), InstanceNumber=3, ImagePositionPatient=[0, 0, 0])
    dicom(
        tmp_path / "b.dcm", plane(1), InstanceNumber=1, ImagePositionPatient=[0, 0, 9],
        ImageOrientationPatient=turned,
    )  # fmt: skip
    assert [r.source_id for r in records(tmp_path)] == ["b.dcm", "a.dcm"]


CORONAL, SAGITTAL = [1, 0, 0, 0, 0, -1], [0, 1, 0, 0, 0, -1]


def _axial(folder: Path, count: int = 4) -> None:
    """Write a series that is numbered from the head down, two millimetres apart."""
    for n in range(count):
        place = [0, 0, 10 - 2 * n]
        dicom(folder / f"IM{n}.dcm", plane(n), InstanceNumber=n + 1, ImagePositionPatient=place)


def _told(path: Path) -> dict[str, list[tuple[str, int, Any, int]]]:
    told: dict[str, list[tuple[str, int, Any, int]]] = {}
    for r in records(path):
        spacing, slices = r.meta.get("spacing_z_mm"), r.meta["slices"]
        told.setdefault(r.series, []).append((r.source_id, r.position, spacing, slices))
    return told


def test_a_localizer_is_a_series_of_its_own_and_changes_nothing_of_the_others(tmp_path: Path):
    _axial(tmp_path)
    without = _told(tmp_path)
    assert without == {SERIES: [(f"IM{3 - n}.dcm", n, 2.0, 4) for n in range(4)]}
    images = [r.image for r in records(tmp_path)]
    for name, directions in (("A", CORONAL), ("LOC", SAGITTAL)):
        dicom(
            tmp_path / f"{name}.dcm", plane(30_000), InstanceNumber=0,
            ImageOrientationPatient=directions, ImagePositionPatient=[0, 0, 0],
        )  # fmt: skip
    assert _told(tmp_path) == without | {
        f"{SERIES}@LF-6x4": [("A.dcm", 0, None, 1)],
        f"{SERIES}@PF-6x4": [("LOC.dcm", 0, None, 1)],
    }
    assert [r.image for r in records(tmp_path) if r.series == SERIES] == images


def test_a_scout_of_another_size_is_a_series_of_its_own(tmp_path: Path):
    _axial(tmp_path)
    without = _told(tmp_path)
    for n in range(2):
        pixels = np.full((8, 9), 7, dtype=np.int16)
        dicom(tmp_path / f"0{n}.dcm", pixels, ImagePositionPatient=[0, 0, 5 * n])
    assert _told(tmp_path) == without | {
        f"{SERIES}@LP-9x8": [("00.dcm", 0, 5.0, 2), ("01.dcm", 1, 5.0, 2)]
    }


def test_stacks_of_nearly_one_plane_have_names_of_their_own(tmp_path: Path):
    _axial(tmp_path)
    for n, angle in enumerate((0.1, 0.2)):
        turned = [1, 0, 0, 0, float(np.cos(angle)), float(np.sin(angle))]
        dicom(
            tmp_path / f"T{n}.dcm", plane(n), ImageOrientationPatient=turned,
            ImagePositionPatient=[0, 0, 0],
        )  # fmt: skip
    dicom(tmp_path / "U.dcm", plane(1), ImageOrientationPatient=None)
    assert list(_told(tmp_path)) == [
        SERIES, f"{SERIES}@LP-6x4", f"{SERIES}@LP-6x4-2", f"{SERIES}@unknown-6x4",
    ]  # fmt: skip


def test_directions_that_differ_by_rounding_are_one_series(tmp_path: Path):
    for n in range(6):
        turned = [1, 0, 0, 0, 1, 1e-4 * n]
        dicom(
            tmp_path / f"{n}.dcm", plane(n), ImageOrientationPatient=turned,
            ImagePositionPatient=[0, 0, n],
        )  # fmt: skip
    assert list(_told(tmp_path)) == [SERIES]


def test_slices_that_share_a_place_stay_a_series_of_known_spacing(tmp_path: Path):
    for number, place in enumerate([0, 3, 6, 0, 3, 6]):
        dicom(
            tmp_path / f"{number}.dcm", plane(number), InstanceNumber=number,
            ImagePositionPatient=[0, 0, place],
        )  # fmt: skip
    names = ["0.dcm", "3.dcm", "1.dcm", "4.dcm", "2.dcm", "5.dcm"]
    assert _told(tmp_path) == {SERIES: [(name, n, 3.0, 6) for n, name in enumerate(names)]}


def test_a_folder_may_hold_several_series_and_each_has_one_scale(tmp_path: Path):
    for name, uid, top in (("a", "1.9", 4000), ("b", "1.10", 7), ("c", "1.9", 100)):
        dicom(
            tmp_path / f"{name}.dcm", plane(top), SeriesInstanceUID=uid,
            InstanceNumber=ord(name), RescaleSlope=2, RescaleIntercept=-1024,
        )  # fmt: skip
    found = {r.source_id: r for r in records(tmp_path)}
    assert [r.series for r in found.values()] == ["1.10", "1.9", "1.9"]
    assert found["a.dcm"].meta["slope"] == found["c.dcm"].meta["slope"] == 2 / 16
    assert grey(found["a.dcm"])[1, 1] == 64_000
    assert grey(found["c.dcm"])[1, 1] == 1600
    assert values(found["c.dcm"])[1, 1] == 100 * 2 - 1024


def test_files_with_scales_of_their_own_are_compared_by_their_values(tmp_path: Path):
    dicom(tmp_path / "a.dcm", plane(100), InstanceNumber=1, RescaleSlope=0.5)
    dicom(tmp_path / "b.dcm", plane(100), InstanceNumber=2, RescaleSlope=0.25)
    a, b = records(tmp_path)
    assert a.meta["slope"] == b.meta["slope"]
    assert (values(a)[1, 1], values(b)[1, 1]) == (50, 25)
    assert grey(a)[1, 1] == pytest.approx(2 * int(grey(b)[1, 1]), abs=1)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16])
def test_where_the_least_is_white_the_picture_is_turned_about(tmp_path: Path, dtype: Any):
    pixels = np.arange(24, dtype=dtype).reshape(4, 6) * 5
    fields = {"RescaleSlope": 3, "RescaleIntercept": 7, "PhotometricInterpretation": "MONOCHROME1"}
    (found,) = records(dicom(tmp_path / "a.dcm", pixels, **fields))
    assert np.array_equal(np.round(values(found)).astype(int), pixels.astype(int) * 3 + 7)
    assert (np.diff(grey(found).astype(int).ravel()) < 0).all()
    assert grey(found).dtype == (np.uint8 if dtype == np.uint8 else np.uint16)


def test_the_window_is_kept_and_not_applied(tmp_path: Path):
    fields = {"WindowCenter": [40, 400], "WindowWidth": [80, 2000], "PixelSpacing": [0.7, 0.5]}
    (found,) = records(dicom(tmp_path / "a.dcm", plane(3000), **fields, SliceThickness=1.25))
    assert found.meta | {"slope": 0, "intercept": 0} == {
        "modality": "CT", "window_center": 40.0, "window_width": 80.0, "slices": 1,
        "spacing_x_mm": 0.5, "spacing_y_mm": 0.7, "spacing_z_mm": 1.25, "slope": 0, "intercept": 0,
    }  # fmt: skip
    assert values(found)[1, 1] == 3000


def test_nothing_of_the_patient_is_taken(tmp_path: Path):
    (found,) = records(dicom(tmp_path / "a.dcm", plane(5), StudyDescription="of Doe, Jane"))
    for secret in ("Doe", "Jane", "4711", "1970"):
        assert secret not in repr(found)


def test_dicom_without_a_suffix_is_known_by_its_mark_and_what_has_none_is_passed_over(
    tmp_path: Path,
):
    dicom(tmp_path / "IM0001", plane(5))
    (tmp_path / "README").write_text("not a slice, and not an error")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    source = Volumes(tmp_path, [tmp_path], Columns(slices=True))
    found = [item for unit in source.units() for item in source.records(unit)]
    assert [r.source_id for r in found] == ["IM0001"]
    assert source.passed_over.rows() == [
        ("no suffix", "no DICOM", 1, ["README"]),
        ("no suffix", "not read", 1, ["DICOMDIR"]),
    ]
    assert detect(find(tmp_path / "IM0001")) == "volumes"


def compressed(path: Path, pixels: np.ndarray, syntax: Any) -> Path:
    """Write a slice compressed without loss, by pydicom or by Pillow."""
    made = pydicom.dcmread(dicom(path, pixels))
    if syntax == RLELossless:
        made.compress(syntax)
    else:
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "JPEG2000", irreversible=False, no_jp2=True)
        made.PixelData = encapsulate([file.getvalue()])
        made["PixelData"].is_undefined_length = True
        made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path)
    return path


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_a_compressed_slice_is_that_which_was_compressed(tmp_path: Path, syntax: Any):
    for number, pixels in enumerate((plane(5, np.uint16), plane(3, np.uint8))):
        (plain,) = records(dicom(tmp_path / f"{number}.dcm", pixels))
        (found,) = records(compressed(tmp_path / f"{number}.dcm", pixels, syntax))
        assert found == plain


def test_a_jpeg_is_the_picture_that_pillow_makes_of_it(tmp_path: Path):
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (24, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "JPEG")
    made = pydicom.dcmread(dicom(tmp_path / "a.dcm", pixels))
    made.PixelData = encapsulate([file.getvalue()])
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    made.save_as(tmp_path / "a.dcm")
    (found,) = records(tmp_path)
    assert np.array_equal(grey(found), np.asarray(Image.open(file)))


def test_the_slices_that_pydicom_ships_are_alike_however_compressed():
    folder = Path(pydicom.__file__).parent / "data" / "test_files"
    (plain,) = records(folder / "MR_small.dcm")
    for name in ("MR_small_RLE.dcm", "MR_small_jp2klossless.dcm"):
        (found,) = records(folder / name)
        assert found.image == plain.image
        assert found.meta == plain.meta


def bad_dicom(name: str, path: Path) -> None:
    pixels = plane(5, np.uint16)
    if name == "coloured":
        dicom(path, pixels, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    elif name == "frames":
        dicom(path, pixels, NumberOfFrames=3)
    elif name == "bits":
        dicom(path, pixels, BitsAllocated=1)
    elif name == "short":
        dicom(path, pixels, Rows=400)
    elif name == "enormous":
        dicom(path, pixels, Rows=65_535, Columns=65_535)
    elif name == "no size":
        dicom(path, pixels, Rows=0)
    elif name == "report":
        made = pydicom.dcmread(dicom(path, pixels))
        del made.PixelData
        made.save_as(path)
    elif name == "packed":
        compressed(path, pixels, RLELossless)
        made = pydicom.dcmread(path)
        made.file_meta.TransferSyntaxUID = pydicom.uid.MPEG2MPML
        made.save_as(path)
    elif name == "12 bits of JPEG":
        made = pydicom.dcmread(compressed(path, pixels.astype(np.uint8), JPEG2000Lossless))
        made.file_meta.TransferSyntaxUID = pydicom.uid.JPEGExtended12Bit
        made.BitsStored = 12
        made.save_as(path)
    elif name == "unfolds to more":
        made = pydicom.dcmread(compressed(path, np.zeros((40, 40), np.uint16), JPEG2000Lossless))
        made.Rows = 10
        made.save_as(path)
    elif name == "unfolds to a bomb":
        made = pydicom.dcmread(compressed(path, np.zeros((40, 40), np.uint16), JPEG2000Lossless))
        size = struct.pack(">II", 40, 40)
        made.PixelData = made.PixelData.replace(size, struct.pack(">II", 1 << 20, 1 << 20))
        made.save_as(path)
    elif name == "long RLE":
        made = pydicom.dcmread(compressed(path, pixels, RLELossless))
        made.PixelData = encapsulate(
            [get_frame(made.PixelData, 0, number_of_frames=1) + bytes(10_000)]
        )
        made.save_as(path)
    elif name == "broken JPEG 2000":
        made = pydicom.dcmread(compressed(path, pixels, JPEG2000Lossless))
        made.PixelData = encapsulate([get_frame(made.PixelData, 0, number_of_frames=1)[:-40]])
        made.save_as(path)
    elif name == "deflated":
        made = pydicom.dcmread(dicom(path, pixels))
        made.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
        made.save_as(path)
    elif name == "no mark":
        path.write_bytes(b"nothing of the kind" * 100)
    elif name == "no kind":
        made = pydicom.dcmread(dicom(path, pixels))
        del made.PhotometricInterpretation
        made.save_as(path)
    elif name == "too large":
        with path.open("wb") as file:
            file.truncate((64 << 20) + 1)


DICOM_CODES = {
    "coloured": "UNSUPPORTED_CODING",
    "frames": "UNSUPPORTED_CODING",
    "bits": "UNSUPPORTED_CODING",
    "short": "SOURCE_TRUNCATED",
    "enormous": "BOMB_PIXELS",
    "no size": "BAD_DIMENSIONS",
    "report": "NO_CONTENT",
    "packed": "UNSUPPORTED_CODING",
    "12 bits of JPEG": "UNSUPPORTED_CODING",
    "unfolds to more": "CORRUPT_DATA",
    "unfolds to a bomb": "BOMB_PIXELS",
    "long RLE": "CORRUPT_DATA",
    "broken JPEG 2000": "CORRUPT_DATA",
    "deflated": "UNSUPPORTED_CODING",
    "no mark": "SOURCE_UNREADABLE",
    "no kind": "CORRUPT_DATA",
    "too large": "TOO_LARGE",
}


@pytest.mark.parametrize("name", DICOM_CODES)
def test_a_bad_slice_is_refused_and_leaves_its_series_alone(tmp_path: Path, name: str):
    for number in (1, 2):
        dicom(tmp_path / f"{number}.dcm", plane(number), InstanceNumber=number)
    good = records(tmp_path)
    bad_dicom(name, tmp_path / "bad.dcm")
    items = read(tmp_path)
    assert [(i.code, i.source_id) for i in items if isinstance(i, Rejected)] == [
        (DICOM_CODES[name], "bad.dcm")
    ]
    assert [i for i in items if isinstance(i, Record)] == good


def test_a_deep_nest_of_sequences_ends_in_a_reason(tmp_path: Path):
    whole = dicom(tmp_path / "a.dcm", plane(5)).read_bytes()
    # Private sequences of undefined length, each within the one before.
    level = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    (tmp_path / "b.dcm").write_bytes(whole[: 132 + 200] + level * 50_000)
    end = whole.index(b"\x08\x00\x18\x00")  # The first element of the data set.
    (tmp_path / "c.dcm").write_bytes(whole[:end] + level * 50_000)
    codes = dict(zip("bc", [code for code, _ in rejected(tmp_path)], strict=True))
    assert set(codes.values()) <= {"CORRUPT_DATA", "NO_CONTENT", "SOURCE_UNREADABLE"}


def test_whatever_the_bytes_of_a_slice_it_ends_in_a_record_or_a_reason(tmp_path: Path):
    path, pixels = tmp_path / "a.dcm", plane(5, np.uint16)
    files = [
        dicom(path, pixels, PixelSpacing=[1, 1]).read_bytes(),
        compressed(path, pixels, RLELossless).read_bytes(),
        compressed(path, np.tile(pixels, (8, 8)), JPEG2000Lossless).read_bytes(),
    ]
    rng = np.random.default_rng(0)
    codes = set()
    for number in range(600):
        whole = files[number % 3]
        size = len(whole) if rng.random() < 0.7 else rng.integers(200, len(whole))
        data = bytearray(whole[:size])
        for at in rng.integers(132, len(data), 4):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        codes |= {i.code if isinstance(i, Rejected) else "RECORD" for i in read(tmp_path)}
    assert {"RECORD", "CORRUPT_DATA", "NO_CONTENT"} <= codes


def test_a_file_that_changes_between_the_two_looks_is_refused(tmp_path: Path):
    for number in (1, 2):
        dicom(tmp_path / f"{number}.dcm", plane(number), InstanceNumber=number)
    found = find(tmp_path)
    source = Volumes(found.root, found.paths, Columns(slices=True))
    (unit,) = source.units()
    items = source.records(unit)
    first = next(items)
    dicom(tmp_path / "2.dcm", plane(9), InstanceNumber=2)
    (second,) = items
    assert isinstance(first, Record)
    assert (second.code, second.source_id) == ("CHANGED_WHILE_READING", "2.dcm")


def test_the_files_of_the_two_libraries_own_tests_are_read_or_refused():
    folders = [
        Path(nibabel.__file__).parent / "tests" / "data",
        Path(pydicom.__file__).parent / "data" / "test_files",
    ]
    items = [item for folder in folders for item in read(folder)]
    kept = [item for item in items if isinstance(item, Record)]
    assert len(kept) > 200
    assert {i.code for i in items if isinstance(i, Rejected)} >= {
        "UNSUPPORTED_CODING",
        "NO_CONTENT",
    }
    heads = [r for r in kept if r.source_id.startswith("anatomical.nii#")]
    expected = nibabel.as_closest_canonical(nibabel.load(folders[0] / "anatomical.nii")).get_fdata()
    assert np.allclose([values(r) for r in heads], expected[::-1, ::-1].transpose(2, 1, 0))


def test_computed_tomography_comes_in_hounsfield_units():
    path = Path(pydicom.__file__).parent / "data" / "test_files" / "CT_small.dcm"
    (found,) = records(path)
    slice_ = pydicom.dcmread(path)
    expected = slice_.pixel_array * slice_.RescaleSlope + slice_.RescaleIntercept
    assert np.allclose(values(found), expected)


# ------------------------------------------------------------------ the source


def test_units_are_files_of_nifti_and_folders_of_dicom_and_change_with_them(tmp_path: Path):
    nifti(tmp_path / "x" / "a.nii", cube(np.uint8))
    dicom(tmp_path / "x" / "1.dcm", plane(1))
    dicom(tmp_path / "2.dcm", plane(1))
    source = Volumes(tmp_path, [tmp_path], Columns(slices=True))
    before = {unit.name: unit.fingerprint for unit in source.units()}
    assert list(before) == [".", "x/a.nii", "x"]
    dicom(tmp_path / "x" / "3.dcm", plane(2))
    after = {unit.name: unit.fingerprint for unit in source.units()}
    assert {name for name in before if before[name] != after[name]} == {"x"}


def test_folders_of_volumes_are_recognised_and_probed(tmp_path: Path):
    for name in ("a.nii.gz", "b.nii"):
        nifti(tmp_path / name, cube(np.uint8))
    (tmp_path / "README.md").write_text("# volumes")
    assert detect(find(tmp_path)) == "volumes"
    assert len(probe(find(tmp_path), Columns(), limit=4)[0]) == 4
    assert find(tmp_path / "a.nii.gz").name == "a"


def test_a_file_named_among_others_is_read_alone(tmp_path: Path):
    nifti(tmp_path / "a.nii", cube(np.uint8))
    dicom(tmp_path / "IM2", plane(1))
    dicom(tmp_path / "1.dcm", plane(1))
    assert {r.series for r in records(tmp_path / "a.nii")} == {"a.nii"}
    assert [r.source_id for r in records(tmp_path / "IM2")] == ["IM2"]


def test_volumes_have_no_columns(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"source\.text: a folder of volumes has no column 'x'"):
        Volumes(tmp_path, [tmp_path], Columns(slices=True, text="x"))


# ------------------------------------------------------------------ whole volumes


def whole(path: Path) -> list[Record | Rejected]:
    found = find(path)
    source = Volumes(found.root, found.paths, Columns())
    return [item for unit in source.units() for item in source.records(unit)]


def test_whole_a_nifti_file_is_a_record_of_the_bytes_that_it_has(tmp_path: Path):
    path = nifti(tmp_path / "a" / "head.nii.gz", cube(np.int16, shape=(5, 4, 3, 2)))
    (tmp_path / "b.nii").symlink_to(path)
    link, record = whole(tmp_path)
    assert (record.source_id, record.series, record.meta) == ("a/head.nii.gz", None, {})
    assert record.volume == path.read_bytes()
    assert record.location == Location(str(path), 0, len(record.volume))
    assert (link.code, link.source_id) == ("SYMLINK", "b.nii")


@pytest.mark.parametrize("slopes", [[2.0, 2.0, 2.0], [1.0, 2.0, 3.0]])
def test_whole_a_series_becomes_one_nifti_file_of_its_values(tmp_path: Path, slopes: list[float]):
    rng = np.random.default_rng(0)
    planes = rng.integers(0, 900, (3, 4, 6)).astype(np.int16)
    for number, (pixels, slope) in enumerate(zip(planes, slopes, strict=True)):
        # The last file is the lowest slice.
        dicom(
            tmp_path / "ct" / f"{number}.dcm", pixels, RescaleSlope=slope, RescaleIntercept=-1000,
            ImagePositionPatient=[7, 8, -3 * number], PixelSpacing=[0.5, 0.25], WindowCenter=40,
        )  # fmt: skip
    [record] = whole(tmp_path)
    assert (record.source_id, record.notes) == (f"ct/{SERIES}", ())
    assert record.meta == {"modality": "CT", "window_center": 40.0}
    values, spacing = volume.voxels(record.volume)
    expected = planes * np.array(slopes)[:, None, None] - 1000
    np.testing.assert_array_equal(values[0], expected[::-1])
    assert spacing == (3.0, 0.5, 0.25)
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(record.volume))
    # In the patient's right, front and top: of the first column, row and slice.
    np.testing.assert_allclose(image.affine @ [0, 0, 0, 1], [-7, -8, -6, 1])
    np.testing.assert_allclose(image.affine @ [1, 2, 1, 1], [-7.25, -9, -3, 1])
    [again] = whole(tmp_path)
    assert again.volume == record.volume


def test_whole_slices_of_one_place_are_channels_and_a_missing_one_is_noted(tmp_path: Path):
    for number in range(8):
        dicom(
            tmp_path / "echoes" / f"{number}.dcm", plane(number + 1), InstanceNumber=number,
            ImagePositionPatient=[0, 0, 2 * (number % 4)],
        )  # fmt: skip
    [record] = whole(tmp_path / "echoes")
    values, spacing = volume.voxels(record.volume)
    assert values[:, :, 1, 1].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    # Without PixelSpacing the sides are not known.
    assert spacing is None
    (tmp_path / "echoes" / "5.dcm").unlink()
    [refused] = whole(tmp_path / "echoes")
    assert (refused.code, refused.detail) == ("CORRUPT_DATA", "places of [1, 2] slices each")
    for places in (0, 1, 2, 5), (0, 1, 3):
        folder = tmp_path / "gap" / str(len(places))
        for place in places:
            dicom(folder / f"{place}.dcm", plane(1), ImagePositionPatient=[0, 0, place])
        [record] = whole(folder)
        assert record.notes == ("UNEVEN_SLICES",)


def test_whole_a_localizer_is_a_volume_of_its_own_and_unlike_slices_are_refused(tmp_path: Path):
    for number in range(3):
        dicom(tmp_path / f"{number}.dcm", plane(1), ImagePositionPatient=[0, 0, number])
    dicom(tmp_path / "scout.dcm", plane(1)[:2])
    assert [r.source_id for r in whole(tmp_path)] == [SERIES, f"{SERIES}@LP-6x2"]
    (tmp_path / "1.dcm").write_bytes(b"no DICOM")
    (tmp_path / "2.dcm").unlink()
    items = {type(item): item for item in whole(tmp_path)}
    assert items[Rejected].code in ("SOURCE_UNREADABLE", "CORRUPT_DATA")


def test_whole_a_series_beyond_the_limit_is_refused(tmp_path: Path, monkeypatch: Any):
    for number in range(3):
        dicom(tmp_path / f"{number}.dcm", plane(1), ImagePositionPatient=[0, 0, number])
    monkeypatch.setattr("storage.sources.volumes.Limits", lambda: volume.Limits(voxels=71))
    [refused] = whole(tmp_path)
    assert (refused.code, refused.source_id) == ("TOO_LARGE", SERIES)


@pytest.mark.parametrize(("module", "suffix"), [("nibabel", ".nii"), ("pydicom", ".dcm")])
def test_without_its_package_a_volume_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, suffix: str
):
    nifti(tmp_path / "a.nii", cube(np.uint8))
    dicom(tmp_path / "a.dcm", plane(1))
    for name in [n for n in sys.modules if n.partition(".")[0] == module]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"{module}: pip install 'winnow\[volumes\]'"):
        read(tmp_path / f"a{suffix}")


def test_naming_the_source_loads_neither_package():
    code = (
        "import sys, storage.sources.volumes;"
        "assert not {'nibabel', 'pydicom', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
