import pytest
import torch

from contracts.errors import ConfigError
from pretraining.encoders.vit import ViT, _places


@torch.no_grad()
def test_every_patch_has_a_place_of_its_own():
    places = _places(torch.zeros(1, 16, 5, 7))
    assert places.shape == (35, 16)
    assert len(places.unique(dim=0)) == 35
    torch.testing.assert_close(places[7, 8:], places[0, 8:])  # below: the same column


@torch.no_grad()
def test_swapping_two_patches_changes_the_vector():
    encoder = ViT(width=16, depth=1, heads=2, patch_px=8).eval()
    images = torch.rand(1, 3, 16, 16)
    swapped = torch.cat([images[..., 8:], images[..., :8]], 3)
    assert (encoder(images) - encoder(swapped)).abs().max() > 1e-4


@pytest.mark.parametrize("parameters", [{"width": 18, "heads": 2}, {"width": 16, "heads": 3}])
def test_a_width_that_does_not_divide_is_refused(parameters):
    with pytest.raises(ConfigError, match="no multiple"):
        ViT(**parameters)


def test_a_side_that_the_patches_do_not_tile_is_refused_by_name():
    with pytest.raises(ConfigError, match="8 px do not tile an image of 20 x 16"):
        ViT(width=16, depth=1, heads=2)(torch.rand(1, 3, 16, 20))
