import numpy as np
import pytest
import torch

from contracts.errors import ConfigError
from pretraining.encoders.volume_transformer import VolumeTransformer
from tests.contracts.bad_volumes import cube, volume
from tests.pretraining.made import SMALL

OWN = SMALL["volume_transformer"]


def test_a_patch_is_a_linear_map_of_its_voxels():
    encoder = VolumeTransformer(**{**OWN, "channels": 2})
    x = torch.rand(3, 2, 4, 6, 8)
    assert encoder.grid(x) == (2, 3, 4)
    found = encoder.embed(x)
    assert found.shape == (3, 24, 12)
    weight, bias = encoder.patches.weight, encoder.patches.bias
    # The second of the slices, the third row and the first column of patches.
    patch = 2 * x[:, :, 2:4, 4:6, 0:2] - 1
    expected = patch.flatten(1) @ weight.flatten(1).T + bias
    torch.testing.assert_close(found[:, 12 + 8], expected)


@torch.no_grad()
def test_volumes_of_any_size_become_vectors_and_crops_are_taken():
    encoder = VolumeTransformer(**OWN).eval()
    scans = [volume(cube(shape=shape)) for shape in ((5, 4, 3), (20, 9, 30))]
    x = torch.from_numpy(np.stack([encoder.codec.encode(scan) for scan in scans]))
    assert encoder(x).shape == (2, 12)
    assert encoder(x[..., :4, :6]).shape == (2, 12)


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"width": 16}, "width 16 is no multiple of 6"),
        ({"rows": 13}, "patches of 2 voxels do not tile a volume of 4 x 13 x 12"),
        ({"low": 3.0, "high": 3.0}, "low 3.0 is not below high 3.0"),
    ],
)
def test_what_does_not_fit_is_said(parameters, said):
    with pytest.raises(ConfigError, match=said):
        VolumeTransformer(**{**OWN, **parameters})
