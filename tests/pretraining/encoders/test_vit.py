import pytest
import torch

from contracts.errors import ConfigError
from pretraining.encoders.vit import ViT


@torch.no_grad()
def test_every_patch_has_a_place_of_its_own():
    encoder = ViT(width=16, depth=1, heads=2, patch_px=4).eval()
    images = torch.zeros(15, 3, 12, 20)
    for n, image in enumerate(images):
        row, column = divmod(n, 5)
        image[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = 1
    vectors = encoder(images)
    assert torch.cdist(vectors, vectors).fill_diagonal_(1).min() > 1e-4


@pytest.mark.parametrize("parameters", [{"width": 18, "heads": 2}, {"width": 16, "heads": 3}])
def test_a_width_that_does_not_divide_is_refused(parameters):
    with pytest.raises(ConfigError, match="no multiple"):
        ViT(**parameters)


def test_a_side_that_the_patches_do_not_tile_is_refused_by_name():
    with pytest.raises(ConfigError, match="8 px do not tile an image of 20 x 16"):
        ViT(width=16, depth=1, heads=2)(torch.rand(1, 3, 16, 20))
