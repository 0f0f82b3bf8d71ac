"""What holds for every objective and every encoder of the folders."""

import pytest
import torch

from contracts.methods import first_line, load, names
from contracts.params import schema_of
from pretraining.build import roles_of
from pretraining.checkpoint import exported, rebuild
from pretraining.train import moment_at
from tests.pretraining.made import SMALL, batch_of, columns_of, drawn, encoder, fitting, made

OBJECTIVES = names("pretraining.objectives")
ENCODERS = names("pretraining.encoders")
every_pair = pytest.mark.parametrize(
    ("name", "first"), [(name, first) for name in OBJECTIVES for first in fitting(name)]
)
every_objective = pytest.mark.parametrize("name", OBJECTIVES)
every_encoder = pytest.mark.parametrize("name", ENCODERS)


class Recorded(dict):
    """A batch that remembers which columns were touched."""

    def __init__(self, columns):
        super().__init__(columns)
        self.touched = set()

    def __getitem__(self, column):
        self.touched.add(column)
        return super().__getitem__(column)


@every_pair
def test_the_loss_is_a_finite_scalar_and_its_gradient_reaches_every_weight_that_outlives_training(
    name, first
):
    objective = made(name, first=first)
    outputs = objective(batch_of(objective), moment_at(1, 4, seed=0))
    for value in outputs.values():
        assert value.ndim == 0
        assert torch.isfinite(value)
    outputs["loss"].backward()
    for export in objective.exports:
        for weight, value in objective.get_submodule(export).named_parameters():
            assert value.grad is not None, weight
            assert value.grad.abs().sum() > 0, weight


@every_objective
def test_no_gradient_reaches_a_role_that_is_fixed(name):
    objective = made(name)
    objective(batch_of(objective), moment_at(1, 4, seed=0))["loss"].backward()
    assert set(objective.fixed) <= set(roles_of(type(objective)))
    for role in objective.fixed:
        assert all(
            w.grad is None for w in objective.get_submodule(objective.places[role]).parameters()
        )


@every_objective
def test_all_randomness_comes_from_the_moment(name):
    objective = made(name)
    batch = batch_of(objective)

    def loss(step, noise):
        torch.manual_seed(noise)
        moment = moment_at(step, 4, seed=0)
        before = moment.rng.get_state()
        value = objective(batch, moment)["loss"].item()
        return value, not torch.equal(moment.rng.get_state(), before)

    before = torch.get_rng_state()
    assert loss(1, noise=0) == loss(1, noise=1)
    torch.set_rng_state(before)
    objective(batch, moment_at(1, 4, seed=0))
    assert torch.equal(torch.get_rng_state(), before)
    (first, draws), (second, _) = loss(1, noise=0), loss(2, noise=0)
    assert (first != second) == draws


@every_objective
def test_what_follows_a_step_does_nothing_more_to_trained_weights_the_second_time(name):
    objective, moment = made(name), moment_at(1, 4, seed=0)
    trained = [weight for weight in objective.parameters() if weight.requires_grad]
    with torch.no_grad():
        for weight in trained:
            weight.mul_(100)
    seen = []
    for _ in range(2):
        objective(batch_of(objective), moment)
        objective.after_step(moment)
        seen.append([weight.detach().clone() for weight in trained])
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))


@every_objective
def test_every_column_is_touched_and_no_other(name):
    objective = made(name)
    batch = Recorded(batch_of(objective))
    objective(batch, moment_at(0, 4, seed=0))
    assert batch.touched == set(columns_of(objective))
    assert set(objective.inputs) == set(roles_of(type(objective)))


@every_objective
def test_a_column_that_may_be_left_out_is_not_missed(name):
    objective = made(name)
    batch = batch_of(objective)
    for column, of in objective.columns.items():
        if of.optional:
            del batch[column]
    assert torch.isfinite(objective(batch, moment_at(0, 4, seed=0))["loss"])


@every_objective
def test_the_loss_survives_bfloat16_autocast(name):
    objective = made(name)
    batch = batch_of(objective)
    exact = objective(batch, moment_at(0, 4, seed=0))["loss"]
    with torch.autocast("cpu", torch.bfloat16):
        rough = objective(batch, moment_at(0, 4, seed=0))["loss"]
    torch.testing.assert_close(rough, exact, rtol=0.05, atol=0.05, check_dtype=False)


@every_pair
def test_what_is_exported_is_rebuilt_to_the_same_outputs(name, first):
    objective = made(name, first=first)
    modules = rebuild(exported(objective, {"steps": 3}))
    assert set(modules) == set(objective.exports)
    objective.eval()
    for export, module in modules.items():
        ours = objective.get_submodule(export)
        assert module.codec == ours.codec
        x = drawn(module.codec, 0)
        assert torch.equal(module(x), ours(x))


@every_encoder
@torch.no_grad()
def test_an_encoder_gives_dim_numbers_for_what_its_codec_gives_whatever_its_batch(name):
    module = encoder(name).eval()
    x = drawn(module.codec, 0)
    vectors = module(x)
    assert vectors.shape == (8, module.dim)
    torch.testing.assert_close(module(x[2:3]), vectors[2:3], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in ENCODERS if encoder(n).codec.reads == "image"])
@torch.no_grad()
def test_an_image_encoder_takes_floats_as_bytes_and_another_side(name):
    module = encoder(name).eval()
    images = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    torch.testing.assert_close(module(images.float() / 255), module(images))


@pytest.mark.parametrize("name", [*OBJECTIVES, *ENCODERS])
def test_the_keyword_parameters_are_a_schema_and_the_first_line_says_what_it_is(name):
    folder = "pretraining.objectives" if name in OBJECTIVES else "pretraining.encoders"
    method = load(folder, name)
    schema = schema_of(method)
    needed = {n: SMALL[name][n] for n, f in schema.model_fields.items() if f.is_required()}
    defaults = {n: f.default for n, f in schema.model_fields.items() if not f.is_required()}
    assert schema(**needed).model_dump() == {**defaults, **needed}
    assert 0 < len(first_line(folder, name)) <= 90
    assert first_line(folder, name).endswith(".")
    assert "Reference:" in method.__doc__
