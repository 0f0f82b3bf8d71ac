"""A training that goes on over the next version of a pool."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.optim.adamw import adamw

from contracts.errors import ConfigError, DataError
from contracts.uid import random_bits
from flows.measure import encoders
from flows.recipe import bootstrap
from flows.run import read_recipe
from flows.upkeep.checkpoints import drop, listed
from pretraining.build import Part, build
from pretraining.checkpoint import Checkpoint, rebuild
from pretraining.codecs import column
from pretraining.objective import Moment
from pretraining.orders import order
from tests.flows.answer import small
from tests.flows.answer.test_roles import _refused, _weights

HEAD = (
    'name = "{name}"\npool = "web"\n[[source]]\npath = "pictures"\n[holdout]\nratio = 0.3\n'
    'by_group = "meta.motif"\n[pretrain]\nobjective = "simclr"\nbatch = 8\nseed = {seed}\n'
    "steps = {steps}\nencoder = {{ width = 4, side_px = 16 }}\n"
)
STEADY = 'schedule = "infinite"\ndecay_ratio = 0.4\n'
FIRST = HEAD.format(name="first", seed=3, steps=5) + STEADY
NEXT = HEAD.format(name="next", seed=5, steps=4) + STEADY + "temperature = 0.2\n"
SMALL = "{ width = 4, side_px = 16 }"
VIT = '{ name = "vit", width = 16, heads = 2, side_px = 16 }'
GOES_ON = 'continue_from = "recipe:first.toml"\n'


def _files(project: Any, rows: list[dict[str, Any]]) -> None:
    project.pictures({row["id"]: row["image"] for row in rows})
    texts = [{k: v for k, v in row.items() if k not in ("image", "id")} for row in rows]
    named = [{"file_name": row["id"], **text} for row, text in zip(rows, texts, strict=True)]
    project.lines("pictures/metadata.jsonl", named)


@pytest.fixture(scope="module")
def grown(projects: Callable[[], Any]) -> Any:
    """A pool whose second version has more records, and a training on the first."""
    project = projects()
    _files(project, small.rows()[:24])
    project.run(FIRST, "first", until="pretrain")
    _files(project, small.rows())
    project.run(NEXT + GOES_ON, "next", until="pretrain")
    return project


def _by_hand(project: Any, state: Checkpoint) -> Any:
    """Go on from a state with nothing but torch and what the recipe says, written out."""
    encoder = Part(name="small_cnn", parameters={"width": 4, "side_px": 16})
    objective: Any = build("simclr", {"temperature": 0.2}, {"encoder": encoder}, seed=5)
    objective.load_state_dict(state.group("weights"))
    # Laid out in memory as the weight is, which the fused kernel takes for granted.
    remembered = {
        f"{name}/{what}": (torch.zeros_like(weight) if what != "step" else torch.zeros(())).copy_(
            state.group("optimizer")[f"{name}/{what}"]
        )
        for name, weight in objective.named_parameters()
        for what in ("mean", "square", "step")
    }
    kept = project.last("next").kept().select("uid", "repeats").collect()
    uids, repeats = kept["uid"].to_numpy(), kept["repeats"].to_numpy()
    pool = project.view.pool("web")
    codec = objective.codecs["image"]
    ids = dict(pool.frame("source_id").select("uid", "source_id").collect().iter_rows())
    files = {
        uid: (project.recipe_dir / "pictures" / ids[uid]).read_bytes() for uid in uids.tolist()
    }
    drawn = np.concatenate([uids[order(uids, repeats, 5, epoch)] for epoch in range(3)])
    objective.train()
    # The rate is 0.4 of 1e-3, and from 0.6 of the steps on it falls to a hundredth of 1e-3.
    for step in range(4):
        falls = max(0.0, ((step + 0.5) / 4 - (1 - 0.4)) / 0.4)
        rate = 1e-3 * (0.4 * (0.01 / 0.4) ** falls)
        batch = column(codec, [files[uid] for uid in drawn[8 * step :][:8].tolist()])
        bits = random_bits(np.array([step], dtype=np.uint64), 5, "moment")
        moment = Moment(step / 4, torch.Generator().manual_seed(int(bits[0])))
        objective.zero_grad(set_to_none=True)
        objective({"image": batch}, moment)["loss"].backward()
        for name, weight in objective.named_parameters():
            entries = [remembered[f"{name}/{what}"] for what in ("mean", "square", "step")]
            adamw(
                [weight], [weight.grad], [entries[0]], [entries[1]], [], [entries[2]], fused=True,
                amsgrad=False, beta1=0.9, beta2=0.98, lr=rate,
                weight_decay=0.1 if weight.ndim > 1 else 0.0, eps=1e-6, maximize=False,
            )  # fmt: skip
    return objective


def test_it_equals_the_same_steps_by_hand_bit_for_bit(grown: Any):
    state = Checkpoint.from_bytes(_state(grown, "first").read_bytes())
    # The schedule of five steps decays after three.
    assert state.step == 3
    by_hand = _by_hand(grown, state).encoder.state_dict()
    trained = rebuild(_weights(grown, "next"))["encoder"].state_dict()
    assert all(torch.equal(by_hand[name], trained[name]) for name in by_hand)
    before = rebuild(_weights(grown, "first"))["encoder"].state_dict()
    assert not torch.equal(before["layers.0.weight"], trained["layers.0.weight"])


def _state(project: Any, name: str) -> Path:
    [row] = [
        row
        for row in listed(project.store)
        if row["what"] == "state" and row["needed_by"] == f"{name}@1"
    ]
    return Path(row["path"])


def test_the_state_in_front_of_the_decay_is_kept_and_listed_and_stays_while_a_version_needs_it(
    grown: Any,
):
    rows = {(row["needed_by"], row["what"]): row for row in listed(grown.store)}
    assert {("first@1", "encoder"), ("first@1", "state"), ("next@1", "state")} <= set(rows)
    before = sorted(row["path"] for row in rows.values())
    drop(grown.store)
    assert sorted(row["path"] for row in listed(grown.store)) == before
    # It may be named as a run and as a file as well, and is one training.
    path = _state(grown, "first")
    named = NEXT.replace('"next"', '"named"')
    for source in ("run:first@1", f"file:{path}"):
        grown.run(named + f'continue_from = "{source}"\n', "named", until="pretrain")
        assert _weights(grown, "named") == _weights(grown, "next")
    assert len([row for row in listed(grown.store) if row["what"] == "encoder"]) == 2


def test_a_schedule_without_a_constant_rate_begins_anew_from_the_last_state(grown: Any):
    cosine = HEAD.format(name="cosine", seed=3, steps=3)
    grown.run(cosine, "cosine", until="pretrain")
    state = _state(grown, "cosine")
    assert Checkpoint.from_bytes(state.read_bytes()).step == 3
    # One that is gone is made again, with the same bytes.
    state.unlink()
    assert grown.run(cosine, "cosine", until="pretrain")["changed"]
    assert state.is_file()
    again = HEAD.format(name="again", seed=3, steps=10) + 'continue_from = "recipe:cosine.toml"\n'
    grown.run(again, "again", until="pretrain")
    [log] = [
        path
        for path in (grown.store.root / "training").glob("*.jsonl")
        if json.loads(path.read_text().splitlines()[-1])["step"] == 10
    ]
    rate = json.loads(log.read_text().splitlines()[-1])["lr"]
    warm = [0.5] + [0.5 * (1 + np.cos(np.pi * (s + 0.5 - 1) / 9)) for s in range(1, 10)]
    assert rate == pytest.approx(1e-3 * np.mean(warm), rel=1e-6)


def test_every_arm_and_the_untrained_encoder_begin_from_the_state(grown: Any):
    recipe = (
        NEXT.replace('"next"', '"compared"')
        + GOES_ON
        + (
            '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\nk = 1\n'
            '[compare]\narms = ["recipe", "untrained"]\nseeds = 2\n'
        )
    )
    grown.run(recipe, "compared", until="evaluate")
    kept = Checkpoint.from_bytes(_state(grown, "first").read_bytes()).group("weights")
    [untrained] = (grown.store.root / "objects/web/checkpoints").glob("untrained-5.*")
    found = rebuild(untrained.read_bytes())["encoder"].state_dict()
    assert all(torch.equal(kept[f"encoder.{name}"], found[name]) for name in found)
    assert _weights(grown, "compared") == _weights(grown, "next")


def test_held_out_records_that_any_training_of_the_chain_saw_are_refused(grown: Any):
    few = '[[select]]\nwhere = "meta.number >= 12"\n'
    grown.run(NEXT.replace('"next"', '"middle"') + GOES_ON + few, "middle", until="pretrain")
    assert grown.last("middle").ref["begins_with"] == ["first@1"]
    chain = NEXT.replace('"next"', '"third"') + 'continue_from = "recipe:middle.toml"\n'
    problems = _refused(grown, chain.replace("ratio = 0.3", "ratio = 0.4"))
    assert "was trained under another [holdout]" in problems["pretrain.continue_from"]
    # Equal sections, and yet a record that was trained on may be held out: its group came to be.
    recipe = bootstrap.resolved(read_recipe(grown.recipe(chain, "third")), grown.store, encoders)
    trained = {
        name: grown.last(name).kept().select("uid").collect()["uid"] for name in ("first", "middle")
    }
    bootstrap.refuse_trained(grown.store, recipe, trained["first"].clear())
    only_first = trained["first"].filter(~trained["first"].is_in(trained["middle"].implode()))
    for held_out, said in ((trained["middle"], "middle@1"), (only_first, "first@1")):
        with pytest.raises(ConfigError, match=f"{said} was trained on {len(held_out)} of the"):
            bootstrap.refuse_trained(grown.store, recipe, held_out)


def test_a_role_with_weights_is_of_the_chain_too(grown: Any):
    few = '[[select]]\nwhere = "meta.number >= 20"\n'
    lent = NEXT.replace('"next"', '"lent"').replace(SMALL, '{ weights = "recipe:first.toml" }')
    grown.run(lent + few, "lent", until="pretrain")
    third = NEXT.replace('"next"', '"third"') + 'continue_from = "recipe:lent.toml"\n'
    recipe = bootstrap.resolved(read_recipe(grown.recipe(third, "third")), grown.store, encoders)
    first, own = (
        grown.last(name).kept().select("uid").collect()["uid"] for name in ("first", "lent")
    )
    only_first = first.filter(~first.is_in(own.implode()))
    with pytest.raises(ConfigError, match=f"first@1 was trained on {len(only_first)} of the"):
        bootstrap.refuse_trained(grown.store, recipe, only_first)


def test_a_recipe_keeps_its_state_where_a_random_set_is_the_same_records(grown: Any):
    recipe = HEAD.format(name="everything", seed=9, steps=1) + (
        '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\nk = 1\n'
        '[compare]\narms = ["recipe", "random"]\nseeds = 1\nrandom_sets = 2\n'
    )
    grown.run(recipe, "everything", until="evaluate")
    assert Checkpoint.from_bytes(_state(grown, "everything").read_bytes()).step == 1


MASKED = NEXT.replace('"simclr"', '"mae"').replace("temperature = 0.2\n", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (MASKED.replace(SMALL, VIT), "objective is 'simclr' there, 'mae' here"),
        (NEXT.replace(SMALL, VIT), "encoder is 'small_cnn' there, 'vit' here"),
        (NEXT.replace("width = 4", "width = 8"), "is of another model"),
        (NEXT + 'optimizer = "sgd"\n', "optimizer is 'adamw' there, 'sgd' here"),
    ],
)  # fmt: skip
def test_a_training_of_something_else_does_not_go_on(grown: Any, text: str, message: str):
    problems = _refused(grown, text + GOES_ON)
    assert message in problems["pretrain.continue_from"]


def test_what_is_no_state_is_refused(grown: Any):
    problems = _refused(grown, NEXT + 'continue_from = "first"\n')
    assert '"recipe:' in problems["pretrain.continue_from"]
    problems = _refused(grown, NEXT + 'continue_from = "run:first@7"\n')
    assert "there is no run 'first@7'" in problems["pretrain.continue_from"]
    encoder = grown.last("first").result["checkpoint"]
    with pytest.raises(DataError, match="of kind 'encoder', where one of 'training'"):
        grown.run(NEXT + f'continue_from = "file:{encoder}"\n', "web")
