import pytest
import torch

from contracts import _torchvision  # noqa: F401
from pretraining.encoders.resnet import ResNet
from pretraining.groups import groups


@pytest.mark.parametrize(("layers", "first", "millions"), [(18, 64, 11.177), (50, 256, 23.508)])
def test_it_is_as_large_and_wide_as_the_papers_without_a_classifier(layers, first, millions):
    with torch.device("meta"):
        encoder = ResNet(layers=layers)
    assert sum(w.numel() for w in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=5e-4)
    assert encoder.widths == (first, 2 * first, 4 * first, 8 * first)
    assert encoder.dim == 8 * first


def of_the_main_way_and_of_shortcuts(module):
    found = {n: v for n, v in module.state_dict().items() if v.ndim}
    short = [n for n in found if "shortcut" in n or "downsample" in n]
    return [v for n, v in found.items() if n not in short], [found[n] for n in short]


@pytest.mark.parametrize("layers", [18, 50])
@torch.no_grad()
def test_under_the_weights_of_timms_network_it_gives_its_vectors(layers):
    import timm

    theirs = timm.create_model(f"resnet{layers}", num_classes=0).eval()
    ours = ResNet(layers=layers).eval()
    both = map(of_the_main_way_and_of_shortcuts, (ours, theirs))
    for mine, other in zip(*both, strict=True):
        for a, b in zip(mine, other, strict=True):
            a.copy_(b)
    x = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(ours(x), theirs(2 * x - 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("small_stem", "sides"), [(False, (12, 6, 3, 2)), (True, (48, 24, 12, 6))])
@torch.no_grad()
def test_each_stage_halves_the_grid_and_the_last_is_averaged(small_stem, sides):
    encoder = ResNet(width=4, small_stem=small_stem).eval()
    x = torch.rand(2, 3, 48, 48)
    stages = encoder.stages(x)
    assert [(s.shape[1], *s.shape[2:]) for s in stages] == [
        (width, side, side) for width, side in zip(encoder.widths, sides, strict=True)
    ]
    assert encoder.strides == ((1, 2, 4, 8) if small_stem else (4, 8, 16, 32))
    assert torch.equal(stages[-1].mean((2, 3)), encoder(x))


def test_it_tells_its_depth_to_layer_decay():
    encoder = ResNet(width=4)
    rate = {n: g.lr_multiplier for g in groups(encoder, layer_decay=0.5) for n in g.weights}
    assert rate["first.0.weight"] == 0.5**9
    assert rate["blocks.0.layers.0.weight"] == 0.5**8
    assert rate["blocks.7.layers.0.weight"] == 0.5
