import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import Part, build, roles_of
from pretraining.checkpoint import Checkpoint
from pretraining.encoders.timm import Timm
from pretraining.objectives.simclr import Simclr
from pretraining.objectives.spark import Spark
from pretraining.train import moment_at, train
from tests.pretraining.made import batch_of


@pytest.mark.parametrize(
    ("model", "widths", "strides"),
    [
        ("test_vit", (64,), (16,)),
        ("test_resnet", (32, 32, 48, 192, 96), (2, 4, 8, 16, 32)),
        ("test_convnext", (24, 32, 48, 64), (4, 8, 16, 32)),
    ],
)
@torch.no_grad()
def test_a_stage_is_the_last_output_with_places_of_its_size(model, widths, strides):
    encoder = Timm(model=model, side_px=64).eval()
    assert (encoder.widths, encoder.strides) == (widths, strides)
    for side in (64, 96):
        x = torch.rand(2, 3, side, side)
        found = [(s.shape[1], *s.shape[2:]) for s in encoder.stages(x)]
        assert found == [(w, side // s, side // s) for w, s in zip(widths, strides, strict=True)]
        assert encoder(x).shape == (2, encoder.dim)


@torch.no_grad()
def test_it_is_timms_own_model_on_pixels_as_timm_normalises_them():
    import timm

    torch.manual_seed(0)
    encoder = Timm(model="test_efficientnet", side_px=64).eval()
    torch.manual_seed(0)
    theirs = timm.create_model("test_efficientnet", num_classes=0).eval()
    x = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    mean, deviation = (theirs.pretrained_cfg[key] for key in ("mean", "std"))
    normalised = torch.stack([(x[:, i] / 255 - mean[i]) / deviation[i] for i in range(3)], dim=1)
    torch.testing.assert_close(encoder(x), theirs(normalised))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"model": "resnett18"}, "timm has no model resnett18. Nearest: resnet18"),
        (
            {"model": "test_vit", "side_px": 72},
            "test_vit takes no picture of 72 px, .* multiple of 16",
        ),
    ],
)
def test_a_model_that_is_unknown_or_takes_no_such_side_is_refused(parameters, message):
    with pytest.raises(ConfigError, match=message):
        Timm(**parameters)


def test_a_model_without_intermediates_has_no_stages():
    encoder = Timm(model="test_resnet")
    assert roles_of(Spark)["encoder"].misfit(encoder) is None
    encoder.model = torch.nn.Identity()
    assert "has no stages" in roles_of(Spark)["encoder"].misfit(encoder)
    assert roles_of(Simclr)["encoder"].misfit(encoder) is None


def test_a_training_with_dropout_is_resumed_bit_for_bit_and_leaves_torchs_generator_alone():
    def fresh():
        part = Part(name="timm", parameters={"model": "test_convnext", "side_px": 32})
        objective = build("simclr", {}, {"encoder": part}, seed=0)
        objective.encoder.model.norm_pre = torch.nn.Dropout(0.5)
        return objective

    batch = batch_of(fresh())

    def trained(**given):
        return train(fresh(), lambda start: iter([batch] * (4 - start)), steps=4, lr=1e-3, **given)

    saved = []
    before = torch.get_rng_state()
    straight = trained(save=lambda c: saved.append(c.to_bytes()), save_every=2)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    resumed = trained(resume=Checkpoint.from_bytes(saved[0]))
    assert resumed.losses.tolist() == straight.losses.tolist()
    torch.manual_seed(6)
    objective = fresh()
    first, second = (objective(batch, moment_at(0, 4, seed=0))["loss"] for _ in range(2))
    assert first != second
