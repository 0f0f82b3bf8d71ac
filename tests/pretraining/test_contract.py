"""What holds for every objective and every encoder of the folders."""

import pytest
import torch

from contracts.methods import first_line, load, names
from contracts.params import schema_of
from pretraining.build import build
from pretraining.checkpoint import exported, rebuild
from pretraining.train import moment_at

OBJECTIVES = names("pretraining.objectives")
ENCODERS = names("pretraining.encoders")
CLASSES = {n: load("pretraining.objectives", n) for n in OBJECTIVES}
READS = {n: load("pretraining.encoders", n).reads for n in ENCODERS}
IMAGE_ENCODERS = [n for n in ENCODERS if READS[n] == "image"]
TEXTS = ["a red square", "two blue circles", "", "灰色の猫"] * 2
SMALL = {"small_cnn": {"width": 4}, "vit": {"width": 16, "depth": 2, "heads": 2}}
# Each objective with each encoder of what it reads; a text tower beside another is `words`.
FITTING = {
    name: [e for e in ENCODERS if READS[e] == (cls.reads[0] if cls.reads != ("text",) else "text")]
    for name, cls in CLASSES.items()
}
every_pair = pytest.mark.parametrize(
    ("name", "encoder"), [(name, encoder) for name in OBJECTIVES for encoder in FITTING[name]]
)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)


class Recorded(dict):
    """A batch that remembers which columns were touched."""

    def __init__(self, columns):
        super().__init__(columns)
        self.touched = set()

    def __getitem__(self, column):
        self.touched.add(column)
        return super().__getitem__(column)


def made(name, encoder=None, seed=0):
    words = {"width": 16, "depth": 1, "heads": 2, "num_buckets": 64}
    encoder = encoder or FITTING[name][0]
    parameters = SMALL.get(encoder, {})
    return build(name, {}, encoder, parameters, text_encoder_section=words, seed=seed)


def images(objective):
    del objective
    rng = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8, generator=rng)


# How a column of a batch is made: an objective that reads another needs a line here.
COLUMNS = {"image": images, "text": lambda objective: objective.tokenize(TEXTS)}


def batch_for(objective):
    return Recorded({column: COLUMNS[column](objective) for column in objective.reads})


@every_pair
def test_the_loss_is_a_finite_scalar_and_its_gradient_reaches_every_weight_of_the_encoders(
    name, encoder
):
    objective = made(name, encoder)
    outputs = objective(batch_for(objective), moment_at(1, 4, seed=0))
    for value in outputs.values():
        assert value.ndim == 0
        assert torch.isfinite(value)
    outputs["loss"].backward()
    for export in objective.exports:
        for weight, value in objective.get_submodule(export).named_parameters():
            assert value.grad is not None, weight
            assert value.grad.abs().sum() > 0, weight


@every_objective
def test_all_randomness_comes_from_the_moment(name):
    objective = made(name)
    batch = batch_for(objective)

    def loss(step, noise):
        torch.manual_seed(noise)
        return objective(batch, moment_at(step, 4, seed=0))["loss"].item()

    before = torch.get_rng_state()
    assert loss(1, noise=0) == loss(1, noise=1)
    torch.set_rng_state(before)
    objective(batch, moment_at(1, 4, seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    assert loss(1, noise=0) != loss(2, noise=0)


@every_objective
def test_reads_is_exactly_what_is_touched(name):
    objective = made(name)
    batch = batch_for(objective)
    objective(batch, moment_at(0, 4, seed=0))
    assert batch.touched == set(objective.reads)


@every_objective
def test_the_loss_survives_bfloat16_autocast(name):
    objective = made(name)
    batch = batch_for(objective)
    exact = objective(batch, moment_at(0, 4, seed=0))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(batch, moment_at(0, 4, seed=0))["loss"]
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05, check_dtype=False)


@every_pair
def test_what_is_exported_is_rebuilt_to_the_same_outputs(name, encoder):
    objective = made(name, encoder)
    modules = rebuild(exported(objective, {"side_px": 32}))
    assert set(modules) == set(objective.exports)
    objective.eval()
    batch = batch_for(objective)
    for export, module in modules.items():
        column = "text" if hasattr(module, "tokenize") else "image"
        ours = objective.get_submodule(export)(batch[column])
        assert torch.equal(module(batch[column]), ours)


@pytest.mark.parametrize("encoder", IMAGE_ENCODERS)
@torch.no_grad()
def test_an_image_encoder_gives_dim_numbers_for_bytes_as_for_floats_whatever_its_batch(encoder):
    module = load("pretraining.encoders", encoder)(**SMALL.get(encoder, {})).eval()
    images = torch.randint(0, 256, (6, 3, 48, 48), dtype=torch.uint8)
    vectors = module(images)
    assert vectors.shape == (6, module.dim)
    torch.testing.assert_close(module(images.float() / 255), vectors)
    torch.testing.assert_close(module(images[2:3]), vectors[2:3], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [*OBJECTIVES, *ENCODERS])
def test_the_keyword_parameters_are_a_schema_and_the_first_line_says_what_it_is(name):
    folder = "pretraining.objectives" if name in OBJECTIVES else "pretraining.encoders"
    method = load(folder, name)
    schema = schema_of(method)
    assert schema().model_dump() == {n: f.default for n, f in schema.model_fields.items()}
    assert 0 < len(first_line(folder, name)) <= 90
    assert first_line(folder, name).endswith(".")
    assert "Reference:" in method.__doc__
