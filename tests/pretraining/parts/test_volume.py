import numpy as np
import pytest
import torch
import torch.nn.functional as F

from contracts.payload import Undecodable
from pretraining.parts.volume import VolumeCodec, resampling
from tests.contracts.bad_volumes import cube, volume


def codec(slices: int, rows: int, columns: int, **more) -> VolumeCodec:
    given = {"channels": 1, "spacing_mm": None, "low": None, "high": None, **more}
    return VolumeCodec(slices=slices, rows=rows, columns=columns, **given)


def scan(values: np.ndarray, *spacing: float) -> bytes:
    """Values (X, Y, Z) with millimetres along each."""
    x, y, z = spacing or (1, 1, 1)
    return volume(values, np.diag([-x, -y, z, 1.0]))


def test_a_volume_of_the_grids_size_keeps_its_voxels_from_0_to_1():
    values = cube(np.float32, (6, 5, 4))
    found = codec(4, 5, 6).encode(scan(values))
    assert found.shape == (1, 4, 5, 6)
    expected = (values.T - values.min()) / np.ptp(values)
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_a_window_cuts_what_lies_beyond_it():
    values = np.array([-1000, -100, 0, 100, 900], np.int16).reshape(5, 1, 1)
    found = codec(1, 1, 5, low=-100.0, high=100.0).encode(scan(values))
    assert found[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("factor", [2, 4])
def test_enlarging_is_linear_between_voxels(factor: int):
    values = cube(np.float32, (4, 4, 4))
    found = codec(4 * factor, 4 * factor, 4 * factor).encode(scan(values))
    unit = (values.T - values.min()) / np.ptp(values)
    expected = F.interpolate(
        torch.from_numpy(unit)[None, None], scale_factor=factor, mode="trilinear"
    )
    inner = (slice(factor, -factor),) * 3
    np.testing.assert_allclose(found[0][inner], expected[0, 0].numpy()[inner], atol=1e-5)


def test_shrinking_weighs_all_voxels_alike_but_for_the_ends():
    weights = resampling(12, 3, 4.0)
    np.testing.assert_allclose(weights.sum(axis=1), 1, atol=1e-6)
    # Triangles of twice the step: 1, 3, 5, 7, 7, 5, 3, 1 of 32.
    np.testing.assert_allclose(weights[1, 2:10] * 32, [1, 3, 5, 7, 7, 5, 3, 1], atol=1e-5)


def test_distances_of_the_body_are_kept_and_the_rest_of_the_grid_is_the_least():
    # A block of 8 x 8 x 8 mm in 8 x 8 x 2 voxels fills a cube; by its voxels it would be a plate.
    values = np.full((8, 8, 2), 100, np.int16)
    values[0, 0, 0] = 0
    bright = codec(8, 8, 8).encode(scan(values, 1, 1, 4)) > 0.5
    assert bright.sum() > 490
    plate = codec(8, 8, 8).encode(scan(values, 1, 1, 1)) > 0.5
    assert plate[0].any(axis=(1, 2)).tolist() == [False] * 3 + [True] * 2 + [False] * 3
    assert codec(8, 8, 8).encode(scan(values, 1, 1, 1))[0, 0].max() == 0


def test_a_spacing_shows_the_middle_as_large_as_it_is():
    values = np.zeros((40, 40, 40), np.int16)
    values[18:22, 18:22, 18:22] = 9
    found = codec(8, 8, 8, spacing_mm=1.0).encode(scan(values, 0.5, 0.5, 0.5))
    # 2 mm of the middle, of 20 that there are.
    assert found[0].sum() == pytest.approx(8, rel=0.05)
    assert found[0, 3:5, 3:5, 3:5].min() > 0.5


def test_channels_are_the_first_and_too_few_are_refused():
    values = cube(np.float32, (4, 4, 4, 3))
    assert codec(4, 4, 4, channels=2).encode(volume(values)).shape == (2, 4, 4, 4)
    with pytest.raises(Undecodable, match="3 channels, 4 are asked for"):
        codec(4, 4, 4, channels=4).encode(volume(values))


def test_a_volume_of_one_value_is_zeros():
    assert not codec(4, 4, 4).encode(scan(np.full((4, 4, 4), 7, np.int16))).any()
