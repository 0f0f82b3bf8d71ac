import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import Part, build
from pretraining.objectives.mae import masked_mse_loss
from pretraining.parts.patches import patchify, unpatchify
from pretraining.train import moment_at, train

VIT = {"width": 24, "depth": 2, "heads": 2, "patch_px": 4, "side_px": 16}


def made(encoder=VIT, **parameters):
    return build("mae", parameters, {"encoder": Part(name="vit", parameters=encoder)}, seed=0)


def unchanged(images, moment):
    del moment
    return images


def images(count=6):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_hidden_patches_alone_count_in_the_loss():
    predicted = torch.tensor([[[1.0, 2.0], [0.0, 0.0]], [[3.0, 3.0], [9.0, 9.0]]])
    target = torch.tensor([[[1.0, 0.0], [7.0, 7.0]], [[2.0, 4.0], [9.0, 8.0]]])
    hidden = torch.tensor([[True, False], [True, False]])
    # ((0 + 4) / 2 + (1 + 1) / 2) / 2
    assert masked_mse_loss(predicted, target, hidden).item() == pytest.approx(1.5)
    assert masked_mse_loss(predicted, target, ~hidden).item() == pytest.approx((49 + 0.5) / 2)


def test_the_loss_is_that_of_a_double_loop():
    rng = torch.Generator().manual_seed(2)
    predicted, target = torch.randn(2, 3, 7, 5, generator=rng)
    hidden = torch.rand(3, 7, generator=rng).argsort(1) < 4
    total, count = 0.0, 0
    for row in range(3):
        for place in range(7):
            if hidden[row, place]:
                total += sum((predicted[row, place] - target[row, place]) ** 2).item() / 5
                count += 1
    assert count == 12
    found = masked_mse_loss(predicted, target, hidden).item()
    assert found == pytest.approx(total / count, rel=1e-5)


@pytest.mark.parametrize("class_tokens", [0, 1])
@torch.no_grad()
def test_nothing_of_a_hidden_patch_reaches_the_encoder(class_tokens):
    objective = made({**VIT, "class_tokens": class_tokens})
    objective.view = unchanged
    heard = []
    objective.decoder.register_forward_hook(lambda _, arguments, __: heard.append(arguments))

    def loss(pictures):
        return objective({"image": pictures}, moment_at(0, 4, seed=0))["loss"]

    before = loss(images())
    tokens, seen, grid = heard[-1]
    assert grid == (4, 4)
    assert tokens.shape == (6, class_tokens + 4, 24)
    patches = patchify(images(), grid)
    of_seen = torch.zeros(6, 16, dtype=torch.bool).scatter(1, seen, True)[:, :, None]
    other = torch.rand(patches.shape)
    hidden_changed = unpatchify(torch.where(of_seen, patches, other), grid, (16, 16))
    assert loss(hidden_changed) != before
    assert torch.equal(heard[-1][0], tokens)
    seen_changed = unpatchify(torch.where(of_seen, other, patches), grid, (16, 16))
    loss(seen_changed)
    assert (heard[-1][0] - tokens).abs().amax(2).min() > 1e-4


@pytest.mark.parametrize("normalize", [True, False])
@torch.no_grad()
def test_a_decoder_that_knows_the_pixels_has_no_loss(normalize):
    objective = made(normalize_pixels=normalize)
    objective.view = unchanged
    patches = patchify(images(), (4, 4))
    if normalize:
        spread = (patches.var(-1, keepdim=True) + 1e-6).sqrt()
        patches = (patches - patches.mean(-1, keepdim=True)) / spread
    objective.decoder.forward = lambda *_: patches

    def loss(pictures):
        return objective({"image": pictures}, moment_at(0, 4, seed=0))["loss"].item()

    assert loss(images()) < 1e-10
    assert loss(images().flip(0)) > 0.05
    # A brighter picture of less contrast is the same to predict where pixels are normalised.
    assert (loss(images() / 2 + 0.5) < 1e-3) == normalize


def test_the_view_is_a_crop_of_the_moment_and_stays_pixels():
    objective = made()
    first = objective.view(images(), moment_at(0, 4, seed=0))
    assert torch.equal(objective.view(images(), moment_at(0, 4, seed=0)), first)
    assert not torch.equal(objective.view(images(), moment_at(1, 4, seed=0)), first)
    assert first.shape == (6, 3, 16, 16)
    assert first.min() >= 0
    assert first.max() <= 1


@pytest.mark.parametrize("parameters", [{}, {"class_tokens": 2}])
def test_a_gradient_reaches_every_weight(parameters):
    objective = made({**VIT, **parameters})
    objective({"image": images()}, moment_at(0, 4, seed=0))["loss"].backward()
    for name, weight in objective.named_parameters():
        assert weight.grad.abs().sum() > 0, name


def test_the_hidden_rest_of_a_picture_is_learned_where_what_is_seen_tells_it():
    tiles = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)).repeat(1, 1, 4, 4)
    objective = made()
    objective.view = unchanged

    def batches_from(start):
        for _ in range(start, 40):
            yield {"image": tiles}

    losses = []
    train(
        objective,
        batches_from,
        log=lambda _, said: losses.append(said["loss"]),
        steps=40,
        lr=5e-3,
        seed=0,
    )
    assert losses[0] > 47 / 48  # that of one who always says the mean
    assert losses[-1] < 0.5


def test_a_picture_of_one_patch_is_refused():
    with pytest.raises(ConfigError, match="one patch"):
        made({**VIT, "patch_px": 16})
