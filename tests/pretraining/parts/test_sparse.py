import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contracts.errors import ConfigError
from pretraining.parts.sparse import hiding
from tests.pretraining.made import encoder

KEEP = torch.tensor([[[True, False], [False, True]], [[True, True], [False, False]]])


def naive_norm(x, shown, eps=1e-5):
    """Normalise each channel over the places that are shown, one by one."""
    out = torch.zeros_like(x)
    for channel in range(x.shape[1]):
        values = [x[i, channel, r, c] for i, r, c in shown.nonzero().tolist()]
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        for i, r, c in shown.nonzero().tolist():
            out[i, channel, r, c] = (x[i, channel, r, c] - mean) / (variance + eps).sqrt()
    return out


@torch.no_grad()
def test_a_convolution_finds_zeros_and_a_norm_only_what_is_shown():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3))
    x = torch.randn(2, 2, 4, 4)
    shown = KEEP.repeat_interleave(2, 1).repeat_interleave(2, 2)
    with hiding(network, KEEP):
        found = network(x)
    zeroed = torch.where(shown[:, None], x, torch.zeros(()))
    convolved = F.conv2d(zeroed, network[0].weight, network[0].bias, padding=1)
    torch.testing.assert_close(found, naive_norm(convolved, shown), rtol=1e-4, atol=1e-5)
    assert network[1].running_mean.tolist() == pytest.approx(
        [0.1 * convolved[:, c][shown].mean().item() for c in range(3)], rel=1e-4
    )
    # Outside of it the network is as it was.
    assert not torch.equal(network(x), found)
    assert network(x)[~shown[:, None].expand(-1, 3, -1, -1)].abs().min() > 0


def test_a_norm_over_the_places_of_an_item_is_refused_and_nothing_stays_behind():
    network = nn.Sequential(nn.Conv2d(2, 2, 1), nn.GroupNorm(1, 2))
    message = "1 is a GroupNorm, which is over hidden places too"
    with pytest.raises(ConfigError, match=message), hiding(network, KEEP):
        pass
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize("model", ["resnet", "timm"])
@torch.no_grad()
def test_hidden_places_are_zero_in_every_stage_and_their_pixels_change_nothing(model):
    torch.manual_seed(0)
    network = encoder(model).train()
    images = torch.rand(2, 3, 64, 64)
    shown = KEEP.repeat_interleave(32, 1).repeat_interleave(32, 2)[:, None]
    changed = torch.where(shown, images, torch.rand(images.shape))
    first, second = network.stages(images, KEEP), network.stages(changed, KEEP)
    for stage, other in zip(first, second, strict=True):
        here = F.interpolate(KEEP[:, None].float(), stage.shape[-2:]).bool().expand_as(stage)
        assert not stage[~here].any()
        assert stage[here].any()
        assert torch.equal(stage, other)
    whole = network.stages(images, torch.ones_like(KEEP))
    for stage, plain in zip(whole, network.stages(images), strict=True):
        torch.testing.assert_close(stage, plain, rtol=1e-3, atol=1e-4)
