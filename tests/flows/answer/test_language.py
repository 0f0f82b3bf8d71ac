"""A comparison of language models by bits per byte, from texts to the answer."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch

from contracts.errors import ConfigError
from contracts.tokens import SPECIALS, UNKNOWN
from flows.answer import evaluate, pretrain
from flows.recipe.sections import PretrainSection, parsed
from flows.reporter import Reporter
from pretraining.checkpoint import load_encoder, predictor
from pretraining.codecs import column
from tests.flows.answer import small
from tests.flows.answer.facts import Evidence
from tests.pretraining import made

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


QUESTION = """[[evaluate]]
protocol = "multiple_choice"
label = "CASE meta.colour WHEN 'red' THEN 0 WHEN 'green' THEN 1 ELSE 2 END"
choices = "CASE WHEN meta.number < 36 THEN '[\\" red\\", \\" green\\", \\" blue\\"]' END"
"""


def test_questions_are_answered_by_what_each_choice_costs_after_the_end_of_the_text(project: Any):
    recipe = RECIPE.replace('["recipe", "random"]', '["untrained"]').partition("[[evaluate]]")[0]
    evidence = Evidence(project, recipe + QUESTION)
    metrics, passed_over = (evidence.answer[name] for name in ("metrics", "passed_over"))
    rows = [evidence.rows[uid] for uid in sorted(evidence.held)]
    asked = [row for row in rows if row["number"] < 36]
    assert passed_over == {"multiple_choice": {"without choices": len(rows) - len(asked)}}
    path = next((project.store.root / "objects/web/checkpoints").glob("untrained-*"))
    model = predictor(path.read_bytes())
    words = model.codecs["text"].vocabulary

    def nats(text: str, choice: str) -> float:
        """Tell a choice byte by byte; of twelve places the start and six bytes are taken."""
        told, cost = [1, *words.encode(text[-5:])], 0.0
        for token in words.encode(choice):
            row = torch.tensor([told + [0] * (12 - len(told))])
            state_D = model.encoder.tokens(row)[0, len(told) - 1]
            log_p = torch.log_softmax(model.head(state_D, model.encoder.encoder), 0)
            cost -= float(log_p[token])
            told.append(token)
        return cost

    choices = [" red", " green", " blue"]
    with torch.no_grad():
        costs = [[nats(row["text"], choice) for choice in choices] for row in asked]
    right = [list(small.COLOURS).index(row["colour"]) for row in asked]
    plain = [of.index(min(of)) == n for of, n in zip(costs, right, strict=True)]
    by_byte = [[c / len(k) for c, k in zip(of, choices, strict=True)] for of in costs]
    normed = [of.index(min(of)) == n for of, n in zip(by_byte, right, strict=True)]
    bits = sum(of[n] for of, n in zip(costs, right, strict=True)) / math.log(2)
    expected = {
        "accuracy": sum(plain) / len(asked),
        "accuracy_per_byte": sum(normed) / len(asked),
        "bits_per_byte": bits / sum(len(choices[n]) for n in right),
    }
    for name, value in expected.items():
        within = metrics[f"multiple_choice.{name}"]["within"]["untrained"]
        assert within["value"] == pytest.approx(value, rel=1e-4), name


def test_texts_are_packed_and_their_lengths_counted_once_an_arm(project: Any):
    recipe = RECIPE.replace("max_tokens = 12", 'max_tokens = 12, packing = "cut"')
    evidence = Evidence(project, recipe)
    found = sorted((project.store.root / "objects/web/lengths").glob("*.parquet"))
    # Both random sets have all of these few records, so that their lengths are one table.
    assert [path.name.partition(".")[0] for path in found] == ["random", "recipe"]
    lengths = {}
    for path in found:
        lengths |= dict(pl.read_parquet(path).iter_rows())
    assert all(n == len(evidence.rows[uid]["text"]) + 1 for uid, n in lengths.items())
    plain = project.run(RECIPE, until="pretrain")["checkpoint"]
    assert plain != evidence.result["checkpoint"]
    again = project.run(recipe, until="pretrain")
    assert again["checkpoint"] == evidence.result["checkpoint"]
    masked = recipe.replace('"clm"', '"mlm"').replace('"cut"', '"whole"').partition("[compare]")[0]
    encoder = load_encoder(project.run(masked, until="pretrain")["checkpoint"])
    assert encoder.codec.packing == "whole"


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (RECIPE.replace('"clm"', '"clm"\ngroups = "meta.motif"'), "pretrain.encoder.packing"),
        (
            RECIPE.replace('"clm"', '"pretrained_distillation"\nclasses = 2')
            .replace("encoder =", "student =")
            .replace("[compare]", '[pretrain.columns]\nprobabilities = "meta.number"\n[compare]'),
            "pretrain.student.packing",
        ),
    ],
)
def test_packed_texts_go_with_nothing_whose_rows_are_records(project: Any, recipe: str, key: str):
    with pytest.raises(ConfigError) as refused:
        project.run(recipe.replace("heads = 2", 'heads = 2, packing = "whole"'))
    assert [problem.key for problem in refused.value.problems] == [key]


def test_what_packed_texts_do_not_go_with_is_named(tmp_path: Path):
    texts = {"name": "text_transformer", "width": 8, "heads": 2, "packing": "whole"}
    section = PretrainSection(objective="clip", own={"text_encoder": texts})
    with pytest.raises(ConfigError) as refused:
        pretrain.check(section, tmp_path)
    assert {problem.key: problem.message for problem in refused.value.problems} == {
        "pretrain.text_encoder.packing": "makes rows that are no records: not with the column of "
        "image_encoder."
    }


LOSING = """
from pretraining.objectives.clm import Clm


class Losing(Clm):
    def predict(self, batch):
        told = super().predict(batch)
        # The bytes of texts that end with a 7 are not known.
        seven = (batch["text"] == 4 + sorted(map(chr, range(33, 127))).index("7")).any(1)
        return {**told, "bytes": told["bytes"].masked_fill(seven, float("nan"))}
"""


def test_texts_of_unknown_bytes_are_passed_over_counted_and_said(project: Any):
    (project.recipe_dir / "losing.py").write_text(LOSING)
    said: list[str] = []
    recipe = RECIPE.replace('"clm"', '"./losing.py:Losing"').replace(
        "max_tokens = 12", "max_tokens = 16"
    )
    recipe = recipe.replace('["recipe", "random"]', '["untrained"]')
    evaluation = project.run(recipe, until="evaluate", reporter=Reporter(line=said.append))[
        "evaluation"
    ]
    held = Evidence(project, recipe)
    sevens = sum("7" in held.rows[uid]["text"] for uid in held.held)
    assert sevens
    assert evaluation["passed_over"] == {"bits_per_byte": {"of unknown bytes": sevens}}
    assert f"bits_per_byte: passes over held-out records {sevens} of unknown bytes" in said
    within = evaluation["metrics"]["bits_per_byte.bits_per_byte"]["within"]["untrained"]
    assert within["n"] == len(held.held) - sevens


def test_a_vocabulary_that_loses_bytes_is_refused_before_anything_is_trained(project: Any):
    recipe = RECIPE.replace("max_tokens = 12", 'max_tokens = 12, vocabulary = "fit.pieces"')
    recipe += '[fit.pieces]\nstep = "word_piece"\n'
    with pytest.raises(ConfigError) as refused:
        project.run(recipe)
    [problem] = refused.value.problems
    assert problem.key == "pretrain.encoder.vocabulary"
    assert "take byte_pair_encoding" in problem.message
    project.run(recipe.replace("word_piece", "byte_pair_encoding"), until="select")


def test_weights_whose_vocabulary_loses_bytes_are_refused_too():
    tokens = [*SPECIALS, UNKNOWN, *"abc"]
    own = {**made.SMALL["text_transformer"], "vocabulary": {"token": tokens}}
    objective = made.made("clm", first="text_transformer", own=own)
    recipe = parsed(tomllib.loads(RECIPE), recipe_dir=Path(), name="web")
    with pytest.raises(ConfigError, match=r"pretrain\.encoder\.weights: bits_per_byte counts"):
        evaluate.check(recipe, evaluate.sections(recipe), objective)


def test_what_a_protocol_over_choices_needs_is_said_by_its_key(project: Any):
    for recipe, key in (
        (QUESTION.partition("choices")[0], "evaluate[1].choices"),
        (QUESTION.partition("label")[0] + 'choices = "meta.choices"\n', "evaluate[1].label"),
    ):
        with pytest.raises(ConfigError) as refused:
            project.run(RECIPE + recipe, until="evaluate")
        assert key in {problem.key for problem in refused.value.problems}


def test_an_objective_that_tells_no_loss_is_refused_with_the_key(project: Any):
    with pytest.raises(ConfigError) as refused:
        project.run(RECIPE.replace('"clm"', '"mlm"'))
    [problem] = refused.value.problems
    assert problem.key == "pretrain.objective"
    assert "bits_per_byte reads ['loss', 'tokens', 'bytes']" in problem.message


@pytest.mark.parametrize("vocabulary", ["bytes", "fitted"])
def test_a_small_model_chooses_hard_texts_and_teaches_on_them(project: Any, vocabulary: str):
    boot = RECIPE.partition("[compare]")[0].replace('"web"', '"small"\npool = "web"')
    salt = SALT
    if vocabulary == "fitted":
        # When the recipe is read, the student's is not made yet, and the teacher's is.
        pieces = '[fit.pieces]\nstep = "byte_pair_encoding"\nnum_tokens = 300\n'
        fitted = 'max_tokens = 12, vocabulary = "fit.pieces" }'
        boot = boot.replace("max_tokens = 12 }", fitted).replace(
            "[pretrain]", f"{pieces}[pretrain]"
        )
        salt = SALT.replace("max_tokens = 12 }", fitted).replace(
            "[pretrain]", f"{pieces}[pretrain]"
        )
    project.run(boot, "small", until="pretrain")
    small_model = predictor(Path(project.view.run("small").result["checkpoint"]).read_bytes())
    result = project.run(salt, "salt", until="pretrain")
    assert result["kept"] == (small.RECORDS - result["dropped"]["holdout"]) // 2
    large = predictor(Path(result["checkpoint"]).read_bytes())
    assert large.student.dim == 2 * small_model.encoder.dim
