"""A step that was not finite: what is kept of it, and what is seen when it runs again."""

from dataclasses import replace

import pytest
import torch

from contracts.errors import DataError, DivergedError
from contracts.methods import names
from pretraining.build import Part, build
from pretraining.checkpoint import Checkpoint
from pretraining.replay import replay
from pretraining.train import train
from tests.pretraining.made import batch_of, fitting, made

STEPS, FAILING = 4, 3
SETTINGS = {"steps": STEPS, "lr": 0.01, "seed": 0, "save_every": 1}
FITTING = {name: fitting(name)[0] for name in names("pretraining.objectives")}

OWN = '''
from torch import zeros

from pretraining.objective import Encoder, Objective


class Root(Objective):
    """The root of what is nothing has no gradient, from the fifth forward pass on."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("seen", zeros(()))

    def forward(self, batch, moment):
        self.seen += 1
        size = self.encoder(batch["image"]).square().mean()
        return {"loss": size + (size * (self.seen < 5)).sqrt(), "size": size.detach()}


class Twice(Root):
    """The same with two updates a step: the first of the third step is finite, the second not."""

    def take_step(self, batch, moment, update):
        super().take_step(batch, moment, update)
        return super().take_step(batch, moment, update)
'''


def failed(objective, batches=None, **settings):
    """Train until a step is not finite; return the states saved, what is kept, and the error."""
    saved, kept = [], []

    def keep(step):
        kept.append(step)
        return "It is kept."

    with pytest.raises(DivergedError, match=r"Lower lr.*It is kept\.") as caught:
        train(
            objective,
            lambda start: iter(batches or given(objective)[start:]),
            saved.append,
            failed=keep,
            **{**SETTINGS, **settings},
        )
    [step] = kept
    return saved, step, str(caught.value)


def given(objective):
    return [batch_of(objective, seed=step) for step in range(STEPS)]


def own(name, folder):
    (folder / "own.py").write_text(OWN)
    encoders = {"encoder": Part(name="small_cnn", parameters={"width": 4})}
    return build(f"./own.py:{name}", {}, encoders, seed=0, recipe_dir=folder)


def check_state(step, saved):
    """The state in front of the step is the last that was saved, bit for bit."""
    for prefix in ("weights", "optimizer"):
        before, kept = saved[-1].group(prefix), step.group(prefix)
        assert set(before) <= set(kept)
        assert all(torch.equal(kept[name], value) for name, value in before.items())
    assert step.step == saved[-1].step


@pytest.mark.parametrize(
    ("name", "optimizer"), [*((name, "adamw") for name in FITTING), ("clip", "sgd")]
)
def test_a_step_runs_again_as_it_ran_in_the_training_that_learned_of_it_later(name, optimizer):
    straight, told, saved = made(name, first=FITTING[name]), [], []
    settings = {**SETTINGS, "optimizer": optimizer}
    whole = train(
        straight, lambda s: iter(given(straight)[s:]), saved.append,
        log=lambda *t: told.append(t), **settings,
    )  # fmt: skip
    objective, seen = made(name, first=FITTING[name]), []
    forward = objective.forward

    def spoilt(batch, moment):
        seen.append(1)
        outputs = forward(batch, moment)
        return {**outputs, "loss": outputs["loss"] * (torch.nan if len(seen) == FAILING else 1)}

    objective.forward = spoilt
    # The step after it is computed too, and changes nothing.
    _, step, _ = failed(objective, **{**settings, "save_every": STEPS}, fetch_every=STEPS)
    check_state(step, saved[: FAILING - 1])
    again = replay(step.to_bytes())
    assert again["error"] is None
    assert again["step"] == FAILING
    assert again["scalars"]["loss"] == whole.losses[FAILING - 1]
    assert again["gradient_norm"] == told[FAILING - 1][1]["gradient_norm"]
    assert (again["weights"], again["gradients"], again["inputs"]) == ([], [], {})
    assert again["module"] is None


def test_an_input_that_is_not_finite_is_found_by_its_row():
    objective = made("distillation", first="small_cnn")
    batches, column = given(objective), objective.inputs["teacher"]
    batches[FAILING - 1][column] = batches[FAILING - 1][column].float()
    batches[FAILING - 1][column][5, 2] = torch.nan
    saved, step, error = failed(objective, batches)
    assert f"the loss is nan at step {FAILING} of {STEPS}" in error
    check_state(step, saved)
    known = replace(step, metadata={**step.metadata, "records": list("abcdefgh")})
    seen = replay(known.to_bytes())
    assert error.startswith(seen["error"])
    assert str(seen["scalars"]["loss"]) == "nan"
    assert seen["inputs"] == {column: [5]}
    assert seen["records"][5] == "f"
    assert seen["gradient_norm"] is None
    assert (seen["weights"], seen["gradients"]) == ([], [])
    assert seen["module"] == "teacher.layers.0"


@pytest.mark.parametrize(("name", "step", "forwards"), [("Root", 5, 4), ("Twice", 3, 4)])
@pytest.mark.parametrize("clip_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_ends_the_training_before_it_changes_a_weight(
    name, step, forwards, clip_norm, tmp_path
):
    given = {} if clip_norm is None else {"clip_norm": clip_norm}
    objective = own(name, tmp_path)
    batches = [batch_of(objective, seed=number) for number in range(6)]
    saved, kept, error = failed(objective, batches, steps=6, **given)
    assert f"the norm of the gradients is nan at step {step} of 6" in error
    check_state(kept, saved)
    assert kept.group("weights")["seen"] == forwards
    _, later, _ = failed(
        own(name, tmp_path), batches, steps=6, save_every=6, fetch_every=6, **given
    )
    assert later.to_bytes() == kept.to_bytes()
    seen = replay(kept.to_bytes(), allow=[f"./own.py:{name}"], recipe_dir=tmp_path)
    assert error.startswith(seen["error"])
    assert set(seen["scalars"]) == {"loss", "size"}
    assert str(seen["gradient_norm"]) == "nan"
    assert "encoder.layers.0.weight" in seen["gradients"]
    assert seen["weights"] == []


def test_weights_that_are_not_finite_are_named():
    objective = made("simclr", first="small_cnn")
    torch.nn.init.constant_(objective.projector[0].weight, torch.inf)
    _, step, _ = failed(objective)
    seen = replay(step.to_bytes())
    assert seen["weights"] == ["projector.0.weight"]
    assert seen["module"] == "projector.0"


def test_what_is_no_step_is_refused(tmp_path):
    _, step, _ = failed(own("Twice", tmp_path), steps=STEPS)
    with pytest.raises(DataError, match=r"foreign code, \['./own.py:Twice'\]"):
        replay(step.to_bytes(), recipe_dir=tmp_path)
    with pytest.raises(DataError, match="kind 'training', where one of 'step'"):
        replay(Checkpoint(step.tensors, step.metadata).to_bytes())
    for change in ({"lr": "fast"}, {"made": {}}, {"speed": 1}):
        run = {**step.metadata["run"], **change}
        other = replace(step, metadata={**step.metadata, "run": run})
        with pytest.raises(DataError, match="of no objective known here"):
            replay(other.to_bytes(), allow=["./own.py:Twice"], recipe_dir=tmp_path)
