import pytest
import torch
from torch import nn

from contracts.errors import ConfigError
from pretraining.groups import fix, groups
from tests.pretraining.made import made

WORDS = {"width": 16, "depth": 1, "heads": 2, "num_buckets": 64}
VIT = {"width": 16, "depth": 2, "heads": 2}


def clip(encoder="vit"):
    parameters = VIT if encoder == "vit" else {"width": 4}
    return made("clip", {}, encoder, parameters, text=WORDS)


def multipliers(module, **settings):
    return {
        name: group.lr_multiplier for group in groups(module, **settings) for name in group.weights
    }


def test_every_weight_is_in_one_group_and_matrices_alone_decay():
    module = clip()
    found = groups(module)
    assert [(g.lr_multiplier, g.decays) for g in found] in (
        [(1.0, True), (1.0, False)],
        [(1.0, False), (1.0, True)],
    )
    names = [name for group in found for name in group.weights]
    assert sorted(names) == sorted(name for name, _ in module.named_parameters())
    assert all(w.ndim > 1 for g in found if g.decays for w in g.weights.values())
    assert all(w.ndim <= 1 for g in found if not g.decays for w in g.weights.values())


def test_a_prefix_is_whole_parts_of_a_name_and_the_longest_holds():
    given = {"image_encoder": 0.5, "image_encoder.encoder.blocks.1": 0.1}
    found = multipliers(clip(), lr_multipliers=given, freeze=["text_encoder", "log_scale"])
    assert {name.split(".")[0] for name in found} == {"image_encoder"}
    for name, multiplier in found.items():
        assert multiplier == (0.1 if ".blocks.1." in name else 0.5)


def test_each_layer_has_a_share_of_the_rate_of_the_layer_above_it():
    found = multipliers(clip(), layer_decay=0.5, lr_multipliers={"text_encoder": 0.1})
    tower = "image_encoder.encoder"
    # Two blocks: the stem lies three layers below the top, the norm and the projection are it.
    assert found[f"{tower}.patches.weight"] == 0.125
    assert found[f"{tower}.blocks.0.attended.weight"] == 0.25
    assert found[f"{tower}.blocks.1.attended.weight"] == 0.5
    assert found[f"{tower}.norm.weight"] == found["image_encoder.projection.weight"] == 1
    assert found["log_scale"] == 1
    # One block, and a tenth of all that.
    tower = "text_encoder.encoder"
    assert found[f"{tower}.embedding"] == found[f"{tower}.position"] == pytest.approx(0.025)
    assert found[f"{tower}.blocks.0.attended.bias"] == pytest.approx(0.05)
    assert found[f"{tower}.norm.bias"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"freeze": ["image_encodr"]},
            r"pretrain.freeze: no weight's name begins with 'image_encodr'. Nearest: image_encoder",
        ),
        ({"freeze": ["image"]}, r"'image'. Nearest: image_encoder"),
        (
            {"lr_multipliers": {"text_encoder.projecton": 0.1}},
            r"pretrain.lr_multipliers: .*Nearest: text_encoder.projection",
        ),
        (
            {"freeze": ["image_encoder", "text_encoder", "log_scale"]},
            "pretrain.freeze: leaves no weight to train",
        ),
    ],
)
def test_a_prefix_of_no_weight_is_refused_with_the_nearest(settings, message):
    with pytest.raises(ConfigError, match=message):
        groups(clip(), **settings)


def test_an_encoder_without_blocks_has_no_layer_decay_and_all_problems_come_together():
    with pytest.raises(ConfigError) as caught:
        groups(clip("small_cnn"), layer_decay=0.5, freeze=["a"], lr_multipliers={"b": 0.1})
    keys = [problem.key for problem in caught.value.problems]
    assert keys == ["pretrain.freeze", "pretrain.lr_multipliers", "pretrain.layer_decay"]
    assert "the image_encoder does not tell its depth" in str(caught.value)


def test_what_is_frozen_needs_no_gradient_and_a_whole_module_is_set_to_evaluation():
    module = nn.ModuleDict({"a": nn.BatchNorm1d(2), "b": nn.BatchNorm1d(2)})
    fix(module, ["a", "b.weight"])
    fixed = {name for name, weight in module.named_parameters() if not weight.requires_grad}
    assert fixed == {"a.weight", "a.bias", "b.weight"}
    module["a"](torch.randn(4, 2))
    module["b"](torch.randn(4, 2))
    assert module["a"].running_mean.tolist() == [0, 0]
    assert module["b"].running_mean.tolist() != [0, 0]
