from __future__ import annotations

import gzip
import itertools
import sys
import tracemalloc

import nibabel
import numpy as np
import pytest
from nibabel.orientations import apply_orientation, inv_ornt_aff

from contracts import payload, volume
from contracts.errors import ConfigError
from tests.contracts.bad_volumes import ROWS, WHOLE, cube, put, with_value
from tests.contracts.bad_volumes import volume as made


@pytest.mark.parametrize("name", ROWS)
def test_a_bad_volume_has_its_one_outcome(name: str):
    row = ROWS[name]
    if row.code is None:
        assert volume.inspect(row.make()).notes == row.notes
        assert np.isfinite(volume.voxels(row.make()).values).all()
        return
    for look in (volume.inspect, volume.voxels):
        with pytest.raises(volume.Undecodable) as refused:
            look(row.make())
        assert refused.value.code == row.code
        assert row.detail in refused.value.detail


def test_a_volume_is_described_by_its_header():
    data = made(cube(shape=(7, 5, 3, 2)), np.diag([-2.0, -3.0, 4.0, 1.0]))
    assert volume.inspect(data) == volume.Inspected((7, 5, 3), 2, (2.0, 3.0, 4.0), ())


def test_values_are_channels_of_slices_from_below_with_the_headers_scale():
    values = cube(shape=(5, 4, 3, 2))
    found = volume.voxels(put(made(values), 112, "<f4", 2.5, -1000))
    assert found.values.dtype == np.float32
    np.testing.assert_array_equal(found.values, 2.5 * values.transpose(3, 2, 1, 0) - 1000)
    assert found.spacing == (1.0, 1.0, 1.0)


def test_a_slope_of_0_is_none():
    np.testing.assert_array_equal(volume.voxels(put(WHOLE, 112, "<f4", 0, 7)).values[0].T, cube())


def test_however_the_axes_are_stored_and_packed_the_voxels_are_the_same():
    values, affine = cube(), np.diag([-2.0, -3.0, 4.0, 1.0])
    expected = payload.decoded(made(values, affine))
    orders = itertools.permutations(range(3))
    for axes, signs in itertools.product(orders, itertools.product([1, -1], repeat=3)):
        turn = np.column_stack([axes, signs])
        turned = made(apply_orientation(values, turn), affine @ inv_ornt_aff(turn, values.shape))
        assert payload.decoded(turned) == expected
        assert volume.voxels(turned).spacing == (4.0, 3.0, 2.0)
    for other in (
        made(values.astype(np.float64), affine),
        made(values, affine, order=">"),
        made(values, affine, kind=nibabel.Nifti2Image),
        gzip.compress(made(values, affine)),
    ):
        assert payload.decoded(other) == expected
    assert payload.decoded(made(values + 1, affine)) != expected


def test_what_is_no_number_is_read_as_the_least():
    values = volume.voxels(with_value(np.nan)).values
    assert values[0, 1, 1, 1] == values.min() == np.sort(cube().ravel())[0] + 0.5


@pytest.mark.parametrize(
    ("limits", "code"),
    [(volume.Limits(bytes=100), "TOO_LARGE"), (volume.Limits(voxels=59), "BOMB_VOXELS")],
)
def test_what_a_volume_would_cost_is_judged_before_it_is_unfolded(limits, code, monkeypatch):
    monkeypatch.setattr(volume, "_pieces", lambda *_: pytest.fail("it was unfolded"))
    with pytest.raises(volume.Undecodable) as refused:
        volume.inspect(WHOLE, limits)
    assert refused.value.code == code


def test_a_large_volume_is_looked_at_in_little_memory():
    data = gzip.compress(made(np.zeros((256, 256, 128), np.int16)), 1)
    tracemalloc.start()
    volume.inspect(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 24 << 20


def test_without_nibabel_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "nibabel.nifti1", None)
    with pytest.raises(ConfigError, match=r"pip install 'winnow\[volumes\]'"):
        volume.inspect(WHOLE)


@pytest.mark.parametrize(("data", "suffix"), [(WHOLE, "nii"), (gzip.compress(WHOLE), "nii.gz")])
def test_a_shard_calls_a_volume_by_its_first_bytes(data: bytes, suffix: str):
    assert volume.suffix(data) == suffix


def test_whatever_the_header_it_ends_in_voxels_or_a_reason():
    rng = np.random.default_rng(0)
    codes = set()
    for _ in range(300):
        data = bytearray(WHOLE)
        for at in rng.integers(0, 352, 3):
            data[at] = rng.integers(0, 256)
        try:
            assert volume.voxels(bytes(data)).values.size <= volume.Limits().voxels
            codes.add("VOXELS")
        except volume.Undecodable as bad:
            codes.add(bad.code)
    assert {"VOXELS", "VOLUME_HEADER", "UNSUPPORTED_CODING", "TRUNCATED"} <= codes
