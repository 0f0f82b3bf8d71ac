import json
import pickle

import pytest
import torch
from safetensors.torch import load, save

from contracts.errors import ConfigError, ContractError, DataError
from pretraining.checkpoint import Checkpoint, description_of, exported, rebuild
from pretraining.objectives.simclr import Simclr
from tests.pretraining.made import made


class Canary:
    """Its unpickling would leave a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def simclr(**parameters):
    return made("simclr", parameters, "small_cnn", {"width": 4}, seed=0)


@pytest.fixture(scope="module")
def good():
    return exported(simclr(), {"arm": "recipe", "steps": 10})


def changed(data, edit=None, **tensors):
    """Return the file with its metadata edited and tensors replaced, or removed where None."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    metadata = json.loads(header["__metadata__"]["winnow"])
    if edit is not None:
        edit(metadata)
    kept = {**load(data), **tensors}
    kept = {name: tensor for name, tensor in kept.items() if tensor is not None}
    return save(kept, {"winnow": json.dumps(metadata)})


def test_the_same_weights_are_the_same_bytes_and_say_what_they_are(good):
    assert exported(simclr(), {"steps": 10, "arm": "recipe"}) == good
    described = description_of(good)
    assert described["arm"] == "recipe"
    assert described["made"]["objective"]["name"] == "simclr"
    assert described["made"]["encoders"]["encoder"]["parameters"] == {
        "width": 4,
        "depth": 1,
        "side_px": 64,
    }


def test_what_outlives_training_is_the_encoder_alone_ready_to_use(good):
    modules = rebuild(good)
    assert list(modules) == ["encoder"]
    assert not modules["encoder"].training
    assert not any(name.startswith("projector") for name in load(good))


def test_a_projector_of_hostile_size_costs_no_memory(good):
    def grow(metadata):
        metadata["made"]["objective"]["parameters"]["dim"] = 10**12

    assert list(rebuild(changed(good, grow))) == ["encoder"]


def test_weights_keep_the_layout_that_convolutions_are_fast_in(good):
    weights = rebuild(good)["encoder"].layers[3].weight
    assert weights.is_contiguous(memory_format=torch.channels_last)


NORM = "encoder/layers.1.weight"
NOT_FINITE = torch.tensor([1.0, float("nan"), 1.0, 1.0])


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"encoder/extra": torch.ones(1)}, r"has unknown \['encoder/extra'\]"),
        ({NORM: None}, r"lacks \['encoder/layers.1.weight'\]"),
        ({NORM: torch.ones(5)}, r"layers.1.weight is \(\(5,\), torch.float32\), not \(\(4,\)"),
        ({NORM: torch.ones(4, dtype=torch.float16)}, "torch.float16"),
        ({NORM: NOT_FINITE}, "layers.1.weight has numbers that are not finite"),
        ({NORM: torch.full((4,), float("inf"))}, "not finite"),
    ],
)
def test_weights_of_another_model_or_without_value_are_refused(good, tensors, message):
    with pytest.raises(DataError, match=message):
        rebuild(changed(good, **tensors))


def encoder_of(metadata):
    return metadata["made"]["encoders"]["encoder"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: encoder_of(m).update(name="resnet_152"), "no method 'resnet_152'"),
        (lambda m: encoder_of(m).update(name="os:system"), "foreign code"),
        (lambda m: m["made"]["objective"].update(name="./x.py:Evil"), "foreign code"),
        (lambda m: encoder_of(m)["parameters"].update(widths=3), "unknown key"),
        (lambda m: encoder_of(m)["parameters"].update(width="4"), "valid integer"),
        (lambda m: encoder_of(m)["parameters"].update(depth=10**9), "less than or equal to 64"),
        (lambda m: encoder_of(m)["parameters"].update(width=10**6), "another model"),
        (lambda m: m["made"].pop("encoders"), "Field required"),
        (lambda m: m["made"].update(encoders={}), "takes the encoders"),
        (lambda m: m.pop("made"), "does not describe"),
        (lambda m: m.update(format=2), "not of format 1"),
        (lambda m: m.pop("format"), "not of this trainer"),
        (lambda m: m.update(kind="training"), "kind 'training', where one of 'encoder'"),
    ],
)
def test_a_description_that_was_tampered_with_is_refused(good, edit, message):
    with pytest.raises(DataError, match=message):
        rebuild(changed(good, edit))


def test_files_that_are_no_weights_are_refused_by_name_and_nothing_in_them_runs(good, tmp_path):
    canary = tmp_path / "canary"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    archive = tmp_path / "weights.pt"
    torch.save({"canary": Canary(canary)}, archive)
    cases = {
        pointer: "this is a Git LFS pointer",
        pickle.dumps(Canary(canary)): "this is a pickle",
        archive.read_bytes(): "this is a pickle",
        b"": "cut, damaged or no safetensors",
        good[:-1]: "cut, damaged or no safetensors",
        good[:40]: "cut, damaged or no safetensors",
        good + b"tail": "cut, damaged or no safetensors",
        (10**12).to_bytes(8, "little") + b"x" * 100: "cut, damaged or no safetensors",
        save({"a": torch.ones(1)}): "not of this trainer",
        save({"a": torch.ones(1)}, {"winnow": "[" * 100_000}): "cut, damaged or no safetensors",
        save({"a": torch.ones(1)}, {"winnow": "[]"}): "not of this trainer",
    }
    for data, message in cases.items():
        for read in (rebuild, description_of, Checkpoint.from_bytes):
            with pytest.raises(DataError, match=message):
                read(data)
    assert not canary.exists()


def test_weights_whose_header_is_as_long_as_a_pickle_begins_are_read():
    def of_length(padding):
        return exported(simclr(), {"arm": "recipe", "padding": "x" * padding})

    lengths = {of_length(padding)[0]: padding for padding in range(0, 256, 8)}
    assert set(rebuild(of_length(lengths[0x80]))) == {"encoder"}


def test_foreign_code_is_imported_only_where_the_caller_allows_it(tmp_path):
    source = "from pretraining.encoders.vit import ViT\n\nclass Mine(ViT):\n    pass\n"
    (tmp_path / "my_encoder.py").write_text(source)
    small = {"width": 16, "heads": 2, "depth": 1}
    name = "./my_encoder.py:Mine"
    data = exported(made("simclr", {}, name, small, seed=0, recipe_dir=tmp_path), {})
    with pytest.raises(DataError, match=r"foreign code, \['./my_encoder.py:Mine'\]"):
        rebuild(data, recipe_dir=tmp_path)
    encoder = rebuild(data, allow=[name], recipe_dir=tmp_path)["encoder"]
    assert type(encoder).__name__ == "Mine"


def test_what_could_not_be_rebuilt_is_not_exported():
    by_hand = Simclr(simclr().encoder)
    with pytest.raises(ConfigError, match="made by hand"):
        exported(by_hand, {})
    hiding = simclr()
    hiding.encoder.register_buffer("table", torch.ones(2), persistent=False)
    with pytest.raises(ContractError, match=r"encoder has buffers .*table"):
        exported(hiding, {})
    broken = simclr()
    broken.encoder.layers[1].weight.data[0] = float("nan")
    with pytest.raises(DataError, match="not finite"):
        exported(broken, {})


def test_a_training_state_survives_its_bytes_bit_for_bit():
    state = Checkpoint(
        {
            "weights/w": torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last),
            "optimizer/w/step": torch.tensor(7.0),
            "losses": torch.tensor([0.1, 2.0], dtype=torch.float64),
        },
        {"step": 2, "run": {"lr": 0.1 + 0.2}, "numerics": {"threads": 1}},
    )
    again = Checkpoint.from_bytes(state.to_bytes())
    assert again.to_bytes() == state.to_bytes()
    assert again.metadata == state.metadata
    assert again.step == 2
    assert list(again.group("optimizer")) == ["w/step"]
    for name, tensor in state.tensors.items():
        assert torch.equal(again.tensors[name], tensor)
