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
