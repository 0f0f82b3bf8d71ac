"""A step that an objective takes itself: looking ahead, and updating groups apart."""

from typing import ClassVar

import pytest
import torch

from contracts.errors import ConfigError, ContractError
from pretraining.objective import Objective, WeightGroup
from pretraining.train import check, train


class LookAhead(Objective):
    """A scalar and a teacher that follows virtual steps: Learning from Future (Du et al. 2022)."""

    def __init__(self, ahead=1):
        super().__init__()
        self.encoder = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.ones(()))})
        self.register_buffer("teacher", torch.ones(()))
        self.ahead, self.seen = ahead, []

    def forward(self, batch, moment):  # noqa: ARG002
        w = self.encoder["w"]
        return {"loss": 0.5 * w**2 + 0.5 * (w - self.teacher) ** 2}

    def move(self):
        self.teacher.mul_(0.9).add_(0.1 * self.encoder["w"].detach())

    def take_step(self, batch, moment, update):
        before = update.snapshot()
        for _ in range(self.ahead):
            update.backward(self(batch, moment)["loss"])
            update.step()
            self.seen.append(self.encoder["w"].item())
            self.move()
        update.restore(before)
        self.seen.append(self.encoder["w"].item())
        return super().take_step(batch, moment, update)


def batches(start, steps=1):
    return iter([{"image": torch.zeros(1)}] * (steps - start))


SETTINGS = {
    "lr": 0.1, "optimizer": "sgd", "schedule": "constant", "warmup_ratio": 0.0,
    "weight_decay": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("ahead", "virtual", "teacher", "weight"),
    # By hand: w - 0.1 (2 w - t); the second virtual step has 0.9 of the first's momentum.
    [(0, [], 1.0, 0.9), (1, [0.9], 0.99, 0.899), (2, [0.9, 0.729], 0.9639, 0.89639)],
)
def test_a_look_ahead_moves_the_teacher_and_nothing_else(ahead, virtual, teacher, weight):
    objective = LookAhead(ahead)
    train(objective, batches, steps=1, **SETTINGS)
    assert objective.seen == pytest.approx([*virtual, 1.0])
    assert objective.seen[-1] == 1.0
    assert objective.teacher.item() == pytest.approx(teacher)
    assert objective.encoder["w"].item() == pytest.approx(weight)


def test_a_snapshot_keeps_what_the_optimizer_remembers():
    """Two steps with a look-ahead whose teacher does not count equal two without one."""

    class Alone(LookAhead):
        def move(self):
            pass

    plain, ahead = Alone(0), Alone(3)
    for objective in (plain, ahead):
        train(
            objective,
            lambda start: batches(start, 4),
            steps=4,
            **{**SETTINGS, "optimizer": "adamw"},
        )
    assert torch.equal(plain.encoder["w"], ahead.encoder["w"])


class TwoOptimizers(Objective):
    """Every weight in one group, and one of them again in another: URLBERT's two optimizers."""

    parameter_groups: ClassVar = {
        "all": WeightGroup(("encoder", "head")),
        "contrast": WeightGroup(("encoder",), lr=10.0),
    }

    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Linear(1, 1, bias=False)
        self.head = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(self.encoder.weight, 1.0)
        torch.nn.init.constant_(self.head.weight, 1.0)

    def forward(self, batch, moment):  # noqa: ARG002
        return {"loss": (self.encoder.weight + self.head.weight).sum()}

    def take_step(self, batch, moment, update):
        outputs = self(batch, moment)
        update.backward(outputs["loss"])
        update.step(groups=("all",))
        update.backward(2 * self.encoder.weight.sum())
        update.step(groups=("contrast",))
        return outputs


def test_a_weight_in_two_groups_has_two_states_and_a_group_its_own_rate():
    objective, kept = TwoOptimizers(), []
    train(objective, batches, kept.append, steps=1, **SETTINGS)
    # 1 - 0.1 x 1 for both, then 0.1 x 10 x 2 from the encoder alone.
    assert objective.head.weight.item() == pytest.approx(0.9)
    assert objective.encoder.weight.item() == pytest.approx(-1.1)
    momentum = kept[-1].group("optimizer")
    assert {name: value.item() for name, value in momentum.items()} == {
        "all:encoder.weight/momentum": 1.0,
        "all:head.weight/momentum": 1.0,
        "contrast:encoder.weight/momentum": 2.0,
    }


def test_it_is_resumed_as_if_it_had_never_stopped():
    saved = []
    straight = train(
        TwoOptimizers(), lambda s: batches(s, 4), saved.append, steps=4, save_every=1, **SETTINGS
    )
    for state in saved:
        resumed = train(TwoOptimizers(), lambda s: batches(s, 4), resume=state, steps=4, **SETTINGS)
        assert resumed.checkpoint.to_bytes() == straight.checkpoint.to_bytes()


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match=r"pretrain\.accumulate: LookAhead takes its steps"):
        train(LookAhead(), batches, steps=1, accumulate=2, **SETTINGS)
    settings = {"schedule": "constant", "warmup_ratio": 0.0, "accumulate": 2}
    with pytest.raises(ConfigError, match=r"pretrain\.accumulate: LookAhead takes its steps"):
        check(LookAhead(), 2, settings)

    class Unknown(LookAhead):
        def take_step(self, batch, moment, update):
            update.backward(self(batch, moment)["loss"])
            update.step(groups=("nobody",))

    with pytest.raises(ContractError, match=r"no parameter_groups \['nobody'\]"):
        train(Unknown(), batches, steps=1, **SETTINGS)

    class Partial(TwoOptimizers):
        parameter_groups: ClassVar = {"all": WeightGroup(("head",)), "none": WeightGroup(("tail",))}

    with pytest.raises(ContractError, match=r"leave out \['encoder.weight'\], and \['none'\] have"):
        train(Partial(), batches, steps=1, **SETTINGS)
