"""The table of a fit as a parameter of an encoder that is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from contracts.errors import ConfigError
from contracts.tokens import Vocabulary
from flows.answer import pretrain
from flows.answer.arms import Arm
from flows.recipe.sections import parsed
from pretraining.checkpoint import rebuild
from tests.flows.answer import small

RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[holdout]
where = "meta.number < 30"
[fit.pieces]
step = "{step}"
num_tokens = 280
[pretrain]
objective = "mlm"
steps = 2
batch = 4
[pretrain.encoder]
width = 8
heads = 2
depth = 1
max_tokens = 8
vocabulary = "fit.pieces"
"""


def problems_of(project: Any, recipe: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as caught:
        project.run(recipe)
    return {problem.key: problem.message for problem in caught.value.problems}


def test_a_training_goes_on_with_the_same_vocabulary_alone(project: Any):
    small.write(project)
    first = RECIPE.format(step="byte_pair_encoding").replace("280", "270")
    before = project.run(first, until="pretrain")["checkpoint"]
    goes_on = first.replace("steps = 2\n", 'steps = 1\ncontinue_from = "run:web@1"\n')
    after = project.run(goes_on, until="pretrain")["checkpoint"]
    [one], [other] = (rebuild(Path(path).read_bytes()).values() for path in (before, after))
    assert one.codec == other.codec
    assert not torch.equal(one.embed.weight, other.embed.weight)
    # As many tokens of other texts.
    few = goes_on.replace("num_tokens", 'only = "meta.number > 33"\nnum_tokens')
    with pytest.raises(ConfigError, match=r"continue_from: the vocabulary of encoder is another"):
        project.run(few, until="pretrain")


@pytest.mark.parametrize("step", ["byte_pair_encoding", "word_piece"])
def test_an_encoder_is_trained_with_the_vocabulary_of_a_fit_and_keeps_it(project: Any, step: str):
    small.write(project)
    recipe = RECIPE.format(step=step)
    result = project.run(recipe, until="pretrain")
    [path] = (project.store.root / "objects/web/fit.pieces").glob("*.parquet")
    table = pl.read_parquet(path)
    [module] = rebuild(Path(result["checkpoint"]).read_bytes()).values()
    assert module.codec.vocabulary == Vocabulary.of(table.to_dict(as_series=False))
    assert len(table) > 260 or step == "word_piece"
    assert project.run(recipe, until="pretrain")["checkpoint"] == result["checkpoint"]
    other = project.run(recipe.replace("280", "270" if step[0] == "b" else "24"), until="pretrain")
    assert other["checkpoint"] != result["checkpoint"]


def test_a_training_is_known_by_what_a_table_holds_and_not_by_its_name():
    def key(name: str, token: str) -> Any:
        raw = {"pretrain": {"objective": "mlm", "encoder": {"vocabulary": {"token": [token]}}}}
        section = parsed(raw, recipe_dir=Path(), name=name).pretrain
        assert section is not None
        arm = Arm("recipe", None, 1, 1, "content")
        return pretrain.Training(Path(), "web", arm, section, 5, 0, Path()).made_by()

    assert key("web", "a") == key("other", "a")
    assert key("web", "a") != key("web", "b")


def test_a_fit_that_is_not_there_and_a_key_that_takes_no_table_are_told_before_anything_runs(
    project: Any,
):
    small.write(project)
    recipe = RECIPE.format(step="byte_pair_encoding")
    unknown = problems_of(project, recipe.replace('fit.pieces"', 'fit.piece"'))
    assert "there is no 'fit.piece'" in unknown["pretrain.encoder.vocabulary"]
    misnamed = problems_of(project, recipe.replace("vocabulary =", "vocabluary ="))
    assert "Nearest: vocabulary" in misnamed["pretrain.encoder.vocabluary"]
    number = problems_of(project, recipe.replace("width = 8", 'width = "fit.pieces"'))
    assert set(number) == {"pretrain.encoder.width"}
