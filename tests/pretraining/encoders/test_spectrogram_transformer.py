import numpy as np
import pytest
import torch

from contracts.errors import ConfigError
from pretraining.encoders.spectrogram_transformer import SpectrogramTransformer
from pretraining.parts.patches import patchify
from tests.contracts.bad_audio import encoded, tone

SMALL = {"width": 16, "depth": 1, "heads": 2, "mels": 16, "frames": 24, "sample_rate": 8000}


def test_a_patch_is_a_linear_map_of_its_values():
    encoder = SpectrogramTransformer(**SMALL, patch_frames=4)
    x = torch.randn(3, 1, 16, 24)
    grid = encoder.grid(x)
    assert grid == (2, 6)
    patches = patchify(x, grid)
    expected = patches @ encoder.patches.weight.flatten(1).T + encoder.patches.bias
    torch.testing.assert_close(encoder.embed(x), expected, rtol=1e-4, atol=1e-5)


def test_patches_of_all_bands_are_frames():
    encoder = SpectrogramTransformer(**SMALL, patch_mels=16, patch_frames=2)
    assert encoder.grid(torch.zeros(1, *encoder.codec.shape)) == (1, 12)


@torch.no_grad()
def test_clips_of_any_length_and_rate_become_vectors_and_equal_sounds_alike_ones():
    encoder = SpectrogramTransformer(**SMALL)
    clips = [
        encoded(tone(seconds, rate), rate)
        for seconds, rate in ((0.3, 8000), (0.3, 16_000), (9.0, 8000), (0.01, 8000))
    ]
    x = torch.from_numpy(np.stack([encoder.codec.encode(clip) for clip in clips]))
    vectors = encoder(x)
    assert vectors.shape == (4, 16)
    same, other = (vectors[0] - vectors[1]).norm(), (vectors[0] - vectors[3]).norm()
    assert same < 0.2 * other


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"width": 18}, "width 18 is no multiple of 4"),
        ({"frames": 20}, "patches of 8 x 8 do not tile a spectrogram of 16 x 20"),
    ],
)
def test_what_does_not_fit_is_said(parameters, said):
    with pytest.raises(ConfigError, match=said):
        SpectrogramTransformer(**{**SMALL, **parameters})
