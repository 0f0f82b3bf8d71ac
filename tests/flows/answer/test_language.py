"""A comparison of language models by bits per byte, from texts to the answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.errors import ConfigError
from pretraining.checkpoint import predictor
from pretraining.codecs import column
from tests.flows.answer import small
from tests.flows.answer.facts import Evidence

RECIPE = (
    small.HEAD.format(
        arms=small.TWO,
        source='path = "texts.jsonl"\nid = "id"',
        pretrain='objective = "clm"\nencoder = { name = "text_transformer", width = 8, '
        "depth = 1, heads = 2, max_tokens = 12 }",
    ).replace("seeds = 2", "seeds = 1")
    + '[[evaluate]]\nprotocol = "bits_per_byte"\n'
)

SALT = """
name = "salt"
pool = "web"
[annotate.loss_of]
step = "predict"
weights = "recipe:small.toml"
[[select]]
by = "top"
score = "loss_of.loss"
budget_ratio = 0.5
[pretrain]
objective = "salt"
steps = 4
batch = 8
stage_ratio = 0.5
student = { name = "text_transformer", width = 16, depth = 1, heads = 2, max_tokens = 12 }
teacher = { weights = "recipe:small.toml" }
"""


@pytest.fixture
def project(projects: Callable[[], Any]) -> Any:
    made = projects()
    small.write(made)
    return made


def test_a_recipe_is_compared_with_random_sets_by_what_its_model_says_of_held_out_texts(
    project: Any,
):
    evidence = Evidence(project, RECIPE)
    evaluation = evidence.result["evaluation"]
    assert evaluation["answer"]["metric"] == "bits_per_byte.bits_per_byte"
    scored = evaluation["metrics"]["bits_per_byte.bits_per_byte"]["within"]
    assert set(scored) == {"recipe", "random"}
    model = predictor(Path(evidence.result["checkpoint"]).read_bytes())
    texts = [evidence.rows[uid]["text"] for uid in evidence.held]
    with torch.no_grad():
        says = model.predict({"text": column(model.codecs["text"], texts)})
    # Eleven bytes are told of a text: the first of twelve places is the start's.
    assert says["bytes"].tolist() == [11] * len(texts)
    bits = float((says["loss"] * says["tokens"]).sum()) / math.log(2)
    assert scored["recipe"]["value"] == pytest.approx(bits / (11 * len(texts)), rel=1e-5)
    assert scored["recipe"]["n"] == len(texts)


def test_an_objective_that_tells_no_loss_is_refused_with_the_key(project: Any):
    with pytest.raises(ConfigError) as refused:
        project.run(RECIPE.replace('"clm"', '"mlm"'))
    [problem] = refused.value.problems
    assert problem.key == "pretrain.objective"
    assert "bits_per_byte reads ['loss', 'tokens', 'bytes']" in problem.message


def test_a_small_model_chooses_hard_texts_and_teaches_on_them(project: Any):
    boot = RECIPE.partition("[compare]")[0].replace('"web"', '"small"\npool = "web"')
    project.run(boot, "small", until="pretrain")
    small_model = predictor(Path(project.view.run("small").result["checkpoint"]).read_bytes())
    result = project.run(SALT, "salt", until="pretrain")
    assert result["kept"] == (small.RECORDS - result["dropped"]["holdout"]) // 2
    large = predictor(Path(result["checkpoint"]).read_bytes())
    assert large.student.dim == 2 * small_model.encoder.dim
