import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import Part, build
from pretraining.objectives.mae import masked_mse_loss
from pretraining.objectives.spark import Spark
from pretraining.parts.masks import hidden_count, random_mask
from pretraining.parts.patches import normalize_patches
from pretraining.train import moment_at

# A coarsest grid of 4 x 4 places of 8 px.
RESNET = {"width": 4, "small_stem": True, "side_px": 32}


def made(encoder=RESNET, **parameters):
    part = Part(name="resnet", parameters=encoder)
    return build("spark", {"decoder_width": 16, **parameters}, {"encoder": part}, seed=0)


def unchanged(images, moment):
    del moment
    return images


def pictures(count=4):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_a_place_of_the_pixels_1_and_3_has_the_loss_one_half_under_a_prediction_of_zero():
    # (1 - 2) / sqrt(2), (3 - 2) / sqrt(2): the variance is that of a sample.
    target = normalize_patches(torch.tensor([[[1.0, 3.0], [5.0, 9.0]]]))
    assert target[0, 0].tolist() == pytest.approx([-0.7071, 0.7071], abs=1e-4)
    hidden = torch.tensor([[True, False]])
    assert masked_mse_loss(torch.zeros(1, 2, 2), target, hidden).item() == pytest.approx(0.5)
    assert 49 - hidden_count(49, 0.6) == 20


@torch.no_grad()
def test_the_loss_is_that_of_a_loop_over_the_hidden_places_alone():
    objective = made()
    objective.view = unchanged
    heard, seen = [], []
    objective.pixels.register_forward_hook(lambda _, __, out: heard.append(out))
    stages = objective.encoder.stages
    objective.encoder.stages = lambda x, keep: (seen.append(keep), stages(x, keep))[1]
    loss = objective({"image": pictures()}, moment_at(0, 4, seed=0))["loss"].item()
    (predicted,), (keep,) = heard, seen
    assert (~keep).sum((1, 2)).tolist() == [10] * 4
    errors = []
    for i, row, column in (~keep).nonzero().tolist():
        place = (i, slice(None), slice(8 * row, 8 * row + 8), slice(8 * column, 8 * column + 8))
        target = pictures()[place]
        target = (target - target.mean()) / (target.var() + 1e-6).sqrt()
        errors.append((predicted[place] - target).square().mean().item())
    assert loss == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize("encoder", [RESNET, {"width": 4, "side_px": 64}])
@torch.no_grad()
def test_nothing_of_a_hidden_place_reaches_the_decoder(encoder):
    objective = made(encoder, decoder_width=32)
    side = encoder["side_px"]
    objective.view = unchanged
    heard = []
    objective.pixels.register_forward_hook(lambda _, __, out: heard.append(out))
    images = torch.rand(4, 3, side, side)
    moment = moment_at(0, 4, seed=0)
    state = moment.rng.get_state()
    number = (side // objective.encoder.strides[-1]) ** 2
    hidden = random_mask(4, number, hidden_count(number, 0.6), moment)
    moment.rng.set_state(state)
    grid = hidden.view(4, 1, int(number**0.5), -1)
    stride = objective.encoder.strides[-1]
    at_pixels = grid.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    other = torch.where(at_pixels, torch.rand(images.shape), images)
    losses = []
    for shown in (images, other):
        losses.append(objective({"image": shown}, moment_at(0, 4, seed=0))["loss"].item())
    assert torch.equal(heard[0], heard[1])
    assert losses[0] != losses[1]


@pytest.mark.parametrize(
    ("encoder", "parameters", "message"),
    [
        ({"width": 4, "side_px": 32}, {}, "two or more places of 32 px must tile a picture of 32"),
        ({"width": 4, "side_px": 80}, {}, "must tile a picture of 80 px"),
        (RESNET, {"decoder_width": 20}, "decoder_width 20 cannot be halved 3 times"),
    ],
)
def test_what_does_not_tile_or_halve_is_refused(encoder, parameters, message):
    with pytest.raises(ConfigError, match=message):
        made(encoder, **parameters)


def test_stages_that_do_not_halve_the_grid_are_refused():
    encoder = made().encoder
    encoder.strides = (1, 2, 8)
    with pytest.raises(ConfigError, match=r"stages of \(1, 2, 8\) px a place do not halve"):
        Spark(encoder)


def test_a_gradient_reaches_every_weight():
    objective = made()
    objective({"image": pictures()}, moment_at(0, 4, seed=0))["loss"].backward()
    for name, weight in objective.named_parameters():
        assert weight.grad.abs().sum() > 0, name
