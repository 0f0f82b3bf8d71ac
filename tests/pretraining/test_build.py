from typing import Protocol

import pytest
import torch

from contracts.errors import ConfigError, ContractError, DataError
from pretraining.build import Description, Part, assemble, build, default, roles_of
from pretraining.checkpoint import encoder_of, exported, rebuild
from pretraining.codecs import ImageCodec
from pretraining.encoders.vit import ViT
from pretraining.objective import Objective
from pretraining.objectives.clip import Clip
from pretraining.objectives.distillation import Distillation
from pretraining.objectives.simclr import Simclr

FILE = """
import torch
from torch import nn
from pretraining.codecs import ImageCodec

class Mean(nn.Module):
    codec = ImageCodec(8)

    def __init__(self, *, dim: int = 5) -> None:
        super().__init__()
        self.dim = dim
        self.linear = nn.Linear(3, dim)

    def forward(self, images):
        return self.linear(images.float().mean((2, 3)))
"""


def built(objective, parameters, *, seed=0, recipe_dir=None, **encoders):
    parts = {role: Part(name=name, parameters=own) for role, (name, own) in encoders.items()}
    return build(objective, parameters, parts, seed=seed, recipe_dir=recipe_dir)


def weights(objective):
    return torch.cat([w.detach().flatten() for w in objective.parameters()])


def test_initial_weights_are_a_function_of_the_seed_and_leave_torchs_generator_alone():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = built("clip", {}, image_encoder=("small_cnn", {"width": 4}), seed=5)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same = built("clip", {}, image_encoder=("small_cnn", {"width": 4}), seed=5)
    other = built("clip", {}, image_encoder=("small_cnn", {"width": 4}), seed=5 + 2**32)
    assert torch.equal(weights(first), weights(same))
    assert not torch.equal(weights(first), weights(other))


def test_every_section_reaches_its_part():
    objective = built(
        "clip",
        {"dim": 24, "min_area_ratio": 0.5},
        image_encoder=("vit", {"width": 16, "heads": 2, "depth": 1, "side_px": 32}),
        text_encoder=("words", {"width": 32, "max_tokens": 5}),
    )
    assert objective.image_encoder.dim == 24
    assert objective.min_area_ratio == 0.5
    assert objective.image_encoder.encoder.dim == 16
    assert objective.inputs == {"image_encoder": "image", "text_encoder": "text"}
    assert objective.codecs["image"].shape == (3, 32, 32)
    assert objective.codecs["text"].shape == (5,)


def test_the_description_holds_every_default_and_is_enough_to_make_it_again():
    objective = built("simclr", {"dim": 8}, encoder=("small_cnn", {"width": 4}), seed=3)
    described = objective.description
    assert described["objective"]["parameters"]["temperature"] == 0.5
    assert described["encoders"] == {
        "encoder": {"name": "small_cnn", "parameters": {"width": 4, "depth": 1, "side_px": 64}}
    }
    again = assemble(Description.model_validate(described))
    assert again.description == described
    assert torch.equal(weights(again), weights(objective))


def test_all_problems_of_all_sections_are_reported_together_under_their_keys():
    with pytest.raises(ConfigError) as caught:
        built(
            "clip",
            {"temperature": -1.0},
            image_encoder=("small_cnn", {"widths": 3}),
            text_encoder=("words", {"depth": -1}),
        )
    keys = [problem.key for problem in caught.value.problems]
    assert keys == [
        "pretrain.temperature",
        "pretrain.image_encoder.widths",
        "pretrain.text_encoder.depth",
    ]
    assert "Nearest: width" in str(caught.value)


@pytest.mark.parametrize(("objective", "role"), [("simclr", "encoder"), ("clip", "image_encoder")])
def test_a_text_encoder_in_the_place_of_an_image_encoder_is_refused(objective, role):
    message = rf"pretrain\.{role}: words reads text, not image: {role} of"
    with pytest.raises(ConfigError, match=message):
        built(objective, {}, **{role: ("words", {})})


class HasTokens(Protocol):
    def tokens_of_my_own(self): ...


class Own(Objective):
    def __init__(self, encoder: HasTokens):  # noqa: ARG002
        super().__init__()


def test_a_role_is_filled_by_what_has_the_methods_of_its_protocol():
    [(name, asked)] = roles_of(Own).items()
    assert (name, asked.reads) == ("encoder", None)
    assert "no tokens_of_my_own, which HasTokens asks for" in asked.misfit(ViT())
    with pytest.raises(ConfigError, match=r"pretrain.encoder.name: is required"):
        default("encoder", asked)

    class Tokens(ViT):
        def tokens_of_my_own(self): ...

    assert asked.misfit(Tokens()) is None


def test_a_role_that_no_protocol_annotates_is_a_mistake_of_the_objective():
    class Wrong(Objective):
        def __init__(self, encoder: int):  # noqa: ARG002
            super().__init__()

    with pytest.raises(ContractError, match="encoder is annotated"):
        roles_of(Wrong)


def test_what_is_not_named_gets_the_first_encoder_that_fits():
    made = build("clip", {}, {}, seed=0).description["encoders"]
    assert {role: part["name"] for role, part in made.items()} == {
        "image_encoder": "small_cnn",
        "text_encoder": "words",
    }


def test_a_role_begins_with_the_weights_that_are_given_and_may_be_frozen():
    first = built("clip", {}, image_encoder=("small_cnn", {"width": 4}), seed=1)
    data = exported(first, {})
    asked = roles_of(Simclr)["encoder"]
    part, tensors = encoder_of(data, "encoder", asked)
    assert part.parameters["width"] == 4
    made = build(
        "simclr", {}, {"encoder": part}, seed=2, weights={"encoder": tensors}, frozen=["encoder"]
    )
    assert made.frozen == ("encoder",)
    for name, tensor in made.encoder.state_dict().items():
        assert torch.equal(tensor, first.image_encoder.encoder.state_dict()[name])
    fresh = build("simclr", {}, {"encoder": part}, seed=2)
    assert torch.equal(fresh.projector[0].weight, made.projector[0].weight)
    with pytest.raises(ConfigError, match=r"no encoder that fits, of \['encoder'\]"):
        encoder_of(exported(made, {}), "text_encoder", roles_of(Clip)["text_encoder"])
    with pytest.raises(DataError, match=r"pretrain\.encoder: the weights are of another encoder"):
        build("simclr", {}, {}, seed=0, weights={"encoder": tensors})


def test_of_several_encoders_the_one_of_the_same_name_is_taken():
    data = exported(build("clip", {}, {}, seed=1), {})
    asked = roles_of(Distillation)["student"]
    with pytest.raises(ConfigError, match="2 encoders that fit"):
        encoder_of(data, "student", asked)
    assert encoder_of(data, "text_encoder", asked)[0].name == "words"


def test_the_first_files_said_the_side_of_pictures_apart():
    data = exported(built("simclr", {}, encoder=("vit", {"side_px": 64})), {"side_px": 48})
    assert rebuild(data)["encoder"].codec == ImageCodec(48)


@pytest.mark.parametrize(("objective", "encoder"), [("simclrr", "vit"), ("simclr", "vitt")])
def test_an_unknown_name_is_answered_with_the_nearest(objective, encoder):
    with pytest.raises(ConfigError, match=r"Nearest: (simclr|vit)\."):
        built(objective, {}, encoder=(encoder, {}))


def test_ones_own_encoder_is_named_by_a_file_beside_the_recipe(tmp_path):
    (tmp_path / "mine.py").write_text(FILE)
    objective = built("simclr", {}, encoder=("./mine.py:Mean", {"dim": 6}), recipe_dir=tmp_path)
    assert objective.encoder.dim == 6
    assert objective.description["encoders"]["encoder"]["name"] == "./mine.py:Mean"
