import pytest
import torch

from pretraining.encoders.small_cnn import SmallCnn


@pytest.mark.parametrize("side", [16, 32, 50, 64])
@torch.no_grad()
def test_any_side_from_16_px_gives_four_times_the_width(side):
    encoder = SmallCnn(width=6).eval()
    assert encoder.dim == 24
    assert encoder(torch.rand(2, 3, side, side)).shape == (2, 24)


def test_depth_adds_residual_convolutions_to_both_stages():
    count = [sum(w.ndim == 4 for w in SmallCnn(width=4, depth=d).parameters()) for d in (1, 3)]
    assert count == [3 + 2, 3 + 6]
