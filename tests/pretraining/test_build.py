import pytest
import torch

from contracts.errors import ConfigError
from pretraining.build import Description, assemble, build

FILE = """
import torch
from torch import nn

class Mean(nn.Module):
    reads = "image"

    def __init__(self, *, dim: int = 5) -> None:
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(3, dim)

    def forward(self, images):
        return self.linear(images.float().mean((2, 3)))
"""


def weights(objective):
    return torch.cat([w.detach().flatten() for w in objective.parameters()])


def test_initial_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = build("clip", {}, "small_cnn", {"width": 4}, seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same = build("clip", {}, "small_cnn", {"width": 4}, seed=5)
    other = build("clip", {}, "small_cnn", {"width": 4}, seed=5 + 2**32)
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_every_section_reaches_its_part():
    objective = build(
        "clip",
        {"dim": 24, "min_area_ratio": 0.5},
        "vit",
        {"width": 16, "heads": 2, "depth": 1},
        text_encoder_section={"width": 32, "max_tokens": 5},
        seed=0,
    )
    assert objective.image_encoder.dim == 24
    assert objective.min_area_ratio == 0.5
    assert objective.image_encoder.encoder.dim == 16
    assert objective.tokenize(["a"]).shape == (1, 5)


def test_the_description_holds_every_default_and_is_enough_to_make_it_again():
    objective = build("simclr", {"dim": 8}, "small_cnn", {"width": 4}, seed=3)
    described = objective.description
    assert described["objective"]["parameters"]["temperature"] == 0.5
    assert described["encoders"] == {
        "encoder": {"name": "small_cnn", "parameters": {"width": 4, "depth": 1}}
    }
    again = assemble(Description.model_validate(described))
    assert again.description == described
    assert torch.equal(weights(again), weights(objective))


def test_all_problems_of_all_sections_are_reported_together_under_their_keys():
    with pytest.raises(ConfigError) as caught:
        build(
            "clip",
            {"temperature": -1.0},
            "small_cnn",
            {"widths": 3},
            text_encoder_section={"depth": -1},
            seed=0,
        )
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "pretrain.temperature",
        "pretrain.encoder.widths",
        "pretrain.text_encoder.depth",
    ]
    assert "Nearest: width" in str(caught.value)


@pytest.mark.parametrize("objective", ["simclr", "clip"])
def test_a_text_encoder_in_the_place_of_an_image_encoder_is_refused(objective):
    with pytest.raises(ConfigError, match=r"pretrain\.encoder: words reads text: .*encoder of"):
        build(objective, {}, "words", {}, seed=0)


@pytest.mark.parametrize(("objective", "encoder"), [("simclrr", "vit"), ("simclr", "vitt")])
def test_an_unknown_name_is_answered_with_the_nearest(objective, encoder):
    with pytest.raises(ConfigError, match=r"Nearest: (simclr|vit)\."):
        build(objective, {}, encoder, {}, seed=0)


def test_ones_own_encoder_is_named_by_a_file_beside_the_recipe(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    objective = build("simclr", {}, "./mine.py:Mean", {"dim": 6}, seed=0, recipe_dir=tmp_path)
    assert objective.encoder.dim == 6
    assert objective.description["encoders"]["encoder"]["name"] == "./mine.py:Mean"
