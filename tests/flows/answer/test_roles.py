"""What a role begins with, and what a training reads beyond pictures and texts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from contracts.errors import ConfigError, ContractError, DataError
from flows.answer import pretrain
from flows.recipe import sections
from pretraining.checkpoint import description_of, exported, rebuild
from tests.flows.answer import small
from tests.pretraining.made import made

HEAD = (
    'name = "web"\n[[source]]\npath = "pictures"\n[holdout]\nratio = 0.4\n'
    'by_group = "meta.motif"\n[[select]]\nwhere = "meta.number < 27"\n'
)
BOOT = HEAD.replace('"web"', '"boot"', 1).replace("[[source]]", 'pool = "web"\n[[source]]') + (
    '[pretrain]\nobjective = "simclr"\nsteps = 2\nbatch = 8\n'
    "encoder = { width = 4, side_px = 16 }\n"
)
TRAIN = (
    '[pretrain]\nobjective = "distillation"\nsteps = 2\nbatch = 8\n'
    'student = { name = "small_cnn", width = 4, side_px = 16 }\n'
)
FROM_BOOT = '[pretrain.teacher]\nweights = "recipe:boot.toml"\n'
COLOURS = '[pretrain.teacher]\nname = "color_layout"\n'
MINE = '''
from typing import ClassVar

import torch
import torch.nn.functional as F

from contracts.params import Count
from pretraining.objective import Column, Encoder, Objective


class Labelled(Objective):
    """A picture gives its label."""

    columns: ClassVar = {"label": Column("label", classes="classes")}

    def __init__(self, encoder: Encoder, *, classes: Count = 3):
        super().__init__()
        self.encoder = encoder
        self.head = torch.nn.Linear(encoder.dim, classes)

    def forward(self, batch, moment):
        scores_BC = self.head(self.encoder(batch["image"]))
        return {"loss": F.cross_entropy(scores_BC, batch["label"])}


class Clash(Objective):
    """A role that is called like a key."""

    def __init__(self, encoder: Encoder, columns: Encoder):
        super().__init__()
'''
OWN = "./own.py:Labelled"
LABELLED = (
    f'[pretrain]\nobjective = "{OWN}"\nsteps = 2\nbatch = 8\n'
    "encoder = { width = 4, side_px = 16 }\n"
)


@pytest.fixture
def project(projects: Callable[[], Any]) -> Any:
    made = projects()
    small.write(made)
    (made.recipe_dir / "own.py").write_text(MINE)
    return made


def _weights(project: Any, name: str) -> bytes:
    return Path(project.view.run(name).result["checkpoint"]).read_bytes()


def _same(project: Any, *files: bytes) -> bool:
    """Whether the weights that two files export are equal."""
    one, other = (
        [t for m in rebuild(d, allow=[OWN], recipe_dir=project.recipe_dir).values()
         for t in m.state_dict().values()]
        for d in files
    )  # fmt: skip
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def _refused(project: Any, text: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        project.run(text, "web")
    return {problem.key: problem.message for problem in refused.value.problems}


def test_a_teacher_is_what_another_recipe_trained_and_stays_it(project: Any):
    project.run(BOOT, "boot", until="pretrain")
    project.run(HEAD + TRAIN + FROM_BOOT, "web", until="pretrain")
    data = _weights(project, "web")
    assert set(rebuild(data)) == {"student"}
    described = description_of(data)["made"]["encoders"]
    assert described["teacher"] == {
        "name": "small_cnn", "parameters": {"width": 4, "depth": 1, "side_px": 16},
    }  # fmt: skip
    # Other weights of the teacher are another student.
    project.run(BOOT.replace("steps = 2", "steps = 3"), "boot", until="pretrain")
    project.run(HEAD + TRAIN + FROM_BOOT, "web", until="pretrain")
    assert _weights(project, "web") != data


def test_a_role_goes_on_from_weights_and_a_frozen_one_keeps_them(project: Any):
    project.run(BOOT, "boot", until="pretrain")
    before = rebuild(_weights(project, "boot"))["encoder"].state_dict()
    clip = '[pretrain]\nobjective = "clip"\ndim = 8\nsteps = 2\nbatch = 8\n' + (
        f"{small.TINY_WORDS}\n"
        '[pretrain.image_encoder]\nweights = "recipe:boot.toml"\nfrozen = true\n'
    )
    project.run(HEAD + clip, "web", until="pretrain")
    after = rebuild(_weights(project, "web"))["image_encoder"].encoder.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    project.run(HEAD + clip.replace("frozen = true", ""), "web", until="pretrain")
    moved = rebuild(_weights(project, "web"))["image_encoder"].encoder.state_dict()
    assert not torch.equal(before["layers.0.weight"], moved["layers.0.weight"])
    # Two steps lead not far from where they began.
    assert torch.allclose(before["layers.0.weight"], moved["layers.0.weight"], atol=0.05)


def test_weights_trained_under_another_hold_out_are_refused(project: Any):
    project.run(BOOT, "boot", until="pretrain")
    other = HEAD.replace("ratio = 0.4", "ratio = 0.3") + TRAIN + FROM_BOOT
    problems = _refused(project, other)
    assert "was trained under another [holdout]" in problems["pretrain.teacher.weights"]


def test_the_vectors_of_an_encoder_are_computed_once_and_teach(project: Any, watch: Any):
    project.run(HEAD + TRAIN + COLOURS, "web", until="pretrain")
    assert "embed.teacher" in watch.computed
    first = _weights(project, "web")
    assert description_of(first)["made"]["encoders"]["teacher"]["parameters"]["dim"] > 1
    bound = '[embed.look]\nencoder = "color_layout"\n[pretrain.teacher]\nname = "vector"\n'
    project.run(HEAD + TRAIN + bound + 'of = "look.vector"\n', "web", until="pretrain")
    assert _same(project, first, _weights(project, "web"))


def test_a_weight_is_read_from_notes_and_another_weight_is_another_training(project: Any):
    weighted = HEAD + TRAIN + '[pretrain.columns]\nweight = "meta.number"\n' + COLOURS
    project.run(weighted, "web", until="pretrain")
    first = _weights(project, "web")
    project.run(HEAD + TRAIN + COLOURS, "web", until="pretrain")
    assert first != _weights(project, "web")
    checkpoints = project.store.root / "objects" / "web" / "checkpoints"
    before = sorted(checkpoints.iterdir())
    project.run(weighted.replace("meta.number", "2.0 * meta.number / 2"), "web", until="pretrain")
    assert _weights(project, "web") == first
    assert sorted(checkpoints.iterdir()) == before


def test_texts_as_labels_are_numbered_over_the_whole_pool(project: Any):
    labelled = HEAD + LABELLED + '[pretrain.columns]\nlabel = "meta.colour"\n'
    project.run(labelled, "web", until="pretrain")
    first = _weights(project, "web")
    # The same numbers, given: the names in their order.
    given = "CASE meta.colour WHEN 'blue' THEN 0 WHEN 'green' THEN 1 ELSE 2 END"
    project.run(labelled.replace("meta.colour", given), "web", until="pretrain")
    assert _same(project, first, _weights(project, "web"))
    project.run(labelled.replace("meta.colour", "meta.number % 3"), "web", until="pretrain")
    assert _weights(project, "web") != first


def test_a_record_without_a_label_and_too_many_classes_are_bad_data(project: Any):
    some = "CASE WHEN meta.number > 3 THEN meta.colour END"
    text = HEAD + LABELLED + f'[pretrain.columns]\nlabel = "{some}"\n'
    with pytest.raises(DataError, match=r"label: \d+ of \d+ records .*have no CASE.*the first is"):
        project.run(text, "web", until="pretrain")
    with pytest.raises(DataError, match="has 40 classes, but classes is 3"):
        project.run(text.replace(some, "meta.number"), "web", until="pretrain")


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (TRAIN, "pretrain.teacher", "is never trained: give it weights"),
        (TRAIN + COLOURS + "[pretrain.taecher]\n", "pretrain.taecher", "no such role. Nearest"),
        (TRAIN + 'side_px = 3\n' + COLOURS, "pretrain.side_px", "below [pretrain.student]"),
        (TRAIN + '[pretrain.teacher]\nweights = "boot"\n', "pretrain.teacher.weights", '"recipe:'),
        (
            TRAIN + '[pretrain.teacher]\nweights = "recipe:never.toml"\n',
            "pretrain.teacher.weights",
            "there is no such recipe",
        ),
        (TRAIN + COLOURS + "[embed.teacher]\n", "pretrain.teacher", "rename that one"),
        (
            TRAIN + COLOURS + '[pretrain.columns]\nwieght = "1"\n',
            "pretrain.columns.wieght",
            "Nearest: weight",
        ),
        (
            TRAIN + COLOURS + '[pretrain.columns]\nweight = "no.such"\n',
            "pretrain.columns.weight",
            "no.such",
        ),
        (LABELLED, "pretrain.columns.label", "is required: an expression that gives a label"),
    ],
)  # fmt: skip
def test_what_a_role_or_a_column_cannot_be_is_refused_with_its_key(
    project: Any, text: str, key: str, message: str
):
    problems = _refused(project, HEAD + text)
    assert message in problems[key]


def test_a_role_called_like_a_key_is_a_mistake_of_the_objective(project: Any):
    raw = {"pretrain": {"objective": "./own.py:Clash"}}
    section = sections.parsed(raw, recipe_dir=project.recipe_dir, name="web").pretrain
    with pytest.raises(ContractError, match="may not be called"):
        pretrain.roles(section, project.recipe_dir)


def test_a_teacher_of_texts_begins_with_its_head(tmp_path: Path):
    model = made("clm")
    with torch.no_grad():
        model.head.bias.fill_(0.5)
    (tmp_path / "small.safetensors").write_bytes(exported(model, {}))
    path = str(tmp_path / "small.safetensors")
    raw = {
        "objective": "salt",
        "student": {"name": "text_transformer", "width": 8, "heads": 2, "max_tokens": 16},
        "teacher": {"weights": "file:small.safetensors", "path": path},
    }
    section = sections.parsed({"pretrain": raw}, recipe_dir=tmp_path, name="web").pretrain
    assert section is not None
    objective = pretrain.build(section, 0, tmp_path)
    assert torch.equal(objective.teacher_head.bias, model.head.bias)
    assert not objective.head.bias.any()
    assert objective.frozen == ("teacher.encoder", "teacher_head")
