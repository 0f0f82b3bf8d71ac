"""What [pretrain] hands to the trainer, what it refuses, and what a training's key depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from flows.answer import pretrain
from flows.answer.arms import Arm
from flows.recipe import sections

GIVEN: dict[str, Any] = {
    "schedule": "infinite",
    "cooldown_ratio": 0.2,
    "decay_ratio": 0.3,
    "constant_rate_ratio": 0.5,
    "end_rate_ratio": 0.1,
    "weight_decay_end": 0.2,
    "clip_norm": 1.0,
    "accumulate": 2,
    "freeze": ["log_scale"],
    "lr_multipliers": {"text_encoder": 0.1},
    "layer_decay": 0.9,
}


def section(**keys: Any) -> sections.PretrainSection:
    raw = {"pretrain": {"objective": "clip", "encoder": "vit", **keys}}
    recipe = sections.parsed(raw, recipe_dir=Path(), name="web")
    assert recipe.problems == ()
    assert recipe.pretrain is not None
    return recipe.pretrain


def made_by(**keys: Any) -> Any:
    arm = Arm("recipe", None, 1, 1, "content")
    task = pretrain.Training(Path(), "web", arm, section(**keys), 5, 0, Path())
    return task.made_by()["section"]


def test_a_key_that_is_not_given_has_no_part_in_what_a_training_is_known_by():
    assert set(made_by()) == {
        "objective", "own", "roles", "batch", "lr", "schedule", "warmup_ratio", "weight_decay",
        "optimizer",
    }  # fmt: skip
    assert set(made_by(**GIVEN)) == set(made_by()) | set(GIVEN)


def test_every_key_but_steps_and_seed_reaches_the_trainer_and_is_found_good_before():
    given = section(**GIVEN)
    handed = pretrain._settings(given)
    assert {name: handed[name] for name in GIVEN} == GIVEN
    assert not {"steps", "seed", "own", "batch"} & set(handed)
    pretrain.check(given, Path())


def test_all_that_the_trainer_would_refuse_is_told_before_it_begins():
    wrong = section(
        encoder="small_cnn", cycles=2, freeze=["image_encodr"], accumulate=3, layer_decay=0.5,
        lr_multipliers={"text_encoder.encodr": 0.1},
    )  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        pretrain.check(wrong, Path())
    assert caught.value.exit_code == 78
    problems = {problem.key: problem.message for problem in caught.value.problems}
    assert list(problems) == [
        "pretrain.cycles", "pretrain.freeze", "pretrain.lr_multipliers", "pretrain.layer_decay",
        "pretrain.accumulate",
    ]  # fmt: skip
    assert "Nearest: image_encoder, text_encoder." in problems["pretrain.freeze"]
    assert "Nearest: text_encoder.encoder" in problems["pretrain.lr_multipliers"]
