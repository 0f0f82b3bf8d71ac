"""`step = "predict"`: what another recipe's training says of records, as notes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
import torch

from contracts.errors import ConfigError
from embeddings._prediction import Prediction
from pretraining.checkpoint import predictor
from pretraining.codecs import column
from pretraining.encoders.words import WordCodec
from pretraining.parts.language import next_tokens
from tests.flows.answer import small

TEXTS = (
    'name = "boot"\npool = "web"\n[[source]]\npath = "texts.jsonl"\nid = "id"\n[holdout]\n'
    'ratio = 0.4\nby_group = "meta.motif"\n[pretrain]\nobjective = "clm"\nsteps = 4\nbatch = 8\n'
    'encoder = { name = "text_transformer", width = 8, depth = 1, heads = 2, max_tokens = 32 }\n'
)
SECOND = (
    'name = "second"\npool = "web"\n[annotate.language]\nstep = "predict"\n'
    'weights = "recipe:boot.toml"\n[[select]]\nwhere = "language.loss < 100"\n'
)
MINE = '''
from typing import ClassVar

import torch

from pretraining.objective import Encoder, Objective


class Colour(Objective):
    """A head beside the encoder says a label and a vector of each picture."""

    heads: ClassVar = ("head",)
    predicts: ClassVar = {"label": "label", "scores": "vector"}

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.dim, 3)
        self.thrown_away = torch.nn.Linear(3, 1)

    def forward(self, batch, moment):
        scores_BC = self.head(self.encoder(batch["image"]))
        return {"loss": self.thrown_away(scores_BC).square().mean()}

    def predict(self, batch):
        scores_BC = self.head(self.encoder(batch["image"]))
        return {"label": scores_BC.argmax(1), "scores": scores_BC}
'''


@pytest.fixture
def project(projects: Callable[[], Any]) -> Any:
    made = projects()
    small.write(made)
    return made


def _refused(project: Any, text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        project.run(text, "second")
    return {problem.key: problem.message for problem in refused.value.problems}


def test_the_loss_of_a_language_model_is_a_note_that_rules_read(project: Any, watch: Any):
    project.run(TEXTS, "boot", until="pretrain")
    found = project.run(SECOND, "second", until="select")
    view = project.last("second")
    notes = view.runtime.frame(["text", "language.loss", "language.tokens", "language.bytes"])
    weights = Path(project.view.run("boot").result["checkpoint"]).read_bytes()
    model = predictor(weights)
    codec = model.codecs["text"]
    some = notes.filter(notes["text"].is_not_null()).head(5)
    with torch.no_grad():
        tokens = column(codec, some["text"].to_list())
        logits, _ = next_tokens(model.encoder, model.head, tokens)
    for row, scores, text in zip(some.iter_rows(named=True), logits, some["text"], strict=True):
        ids = codec.encode(text)
        told = [(n, i) for n, i in enumerate(ids[1:]) if i != codec.padding]
        losses = [-torch.log_softmax(scores[n], 0)[i].item() for n, i in told]
        assert row["language.tokens"] == len(told)
        assert row["language.bytes"] == len(text.encode())
        assert row["language.loss"] == pytest.approx(np.mean(losses), rel=1e-4)
    assert project.last("second").recipe["holdout"] == project.last("boot").recipe["holdout"]
    assert found["kept"] > 0
    watch.reset()
    project.run(SECOND, "second", until="select")
    assert not watch.computed
    project.run(TEXTS.replace("steps = 4", "steps = 5"), "boot", until="pretrain")
    project.run(SECOND, "second", until="select")
    assert watch.computed >= {"annotate.language"}


def test_labels_and_vectors_come_from_a_head_and_null_where_there_is_nothing_to_read(project: Any):
    (project.recipe_dir / "own.py").write_text(MINE)
    boot = TEXTS.replace('path = "texts.jsonl"\nid = "id"', 'path = "pictures"')
    boot = boot.partition("[pretrain]")[0] + (
        '[pretrain]\nobjective = "./own.py:Colour"\nsteps = 2\nbatch = 8\n'
        "encoder = { width = 4, side_px = 16 }\n"
    )
    project.run(boot, "boot", until="pretrain")
    project.run(SECOND.replace("loss < 100", "label >= 0"), "second", until="select")
    notes = project.last("second").runtime.frame(["language.label", "language.scores"])
    scores = notes["language.scores"].to_numpy()
    assert scores.shape[1] == 3
    assert notes["language.label"].to_list() == scores.argmax(1).tolist()
    bound = SECOND.partition("[[select]]")[0].replace("[annotate.language]", "[annotate.none]") + (
        'image = "CASE WHEN meta.number > 3 THEN image END"\n'
    )
    project.run(bound, "second", until="select")
    some = project.last("second").runtime.frame(["meta.number", "none.label"])
    assert some["none.label"].is_null().to_list() == (some["meta.number"] <= 3).to_list()


class Named(torch.nn.Module):
    """An objective of hand: a number above what a float holds, and a vector of two."""

    exports, heads = (), ()
    predicts: ClassVar = {"label": "label", "pair": "vector"}
    codecs: ClassVar = {"text": WordCodec(64, 4)}

    def predict(self, batch):
        count_B = (batch["text"] != 0).sum(1)
        return {"label": 2**24 + count_B, "pair": torch.stack([count_B, -count_B], 1)}


def test_labels_are_whole_numbers_and_a_vector_is_as_long_where_nothing_is_read():
    said = Prediction(Named(), {}, "cpu")
    assert dict(said.writes) == {"label": pl.Int64, "pair": pl.Array(pl.Float32, 2)}
    nothing = said(pl.DataFrame({"text": [None]}, schema={"text": pl.String}))
    found = said(pl.DataFrame({"text": ["a b", None, ""]}))
    assert nothing.schema == found.schema
    assert found["label"].to_list() == [2**24 + 3, None, 2**24 + 1]
    assert found["pair"].to_list() == [[3, -3], None, [1, -1]]
    assert pl.concat([nothing, found]).height == 4


@pytest.mark.parametrize(
    ("section", "key", "message"),
    [
        ("", "weights", "is required"),
        ('weights = "boot.toml"', "weights", '"recipe:boot.toml"'),
        ('weights = "recipe:never.toml"', "weights", "there is no such recipe"),
        ('weights = "recipe:boot.toml"\nwieghts = 3', "wieghts", "Nearest: weights"),
        ('weights = "recipe:silent.toml"', "", "predicts nothing"),
    ],
)
def test_what_cannot_predict_is_refused_with_its_key(
    project: Any, section: str, key: str, message: str
):
    project.run(TEXTS, "boot", until="pretrain")
    silent = TEXTS.replace('"boot"', '"silent"').replace('"clm"', '"mlm"').replace("4\n", "1\n")
    project.run(silent, "silent", until="pretrain")
    problems = _refused(project, SECOND.replace('weights = "recipe:boot.toml"', section))
    assert message in problems[f"annotate.language.{key}".rstrip(".")]
