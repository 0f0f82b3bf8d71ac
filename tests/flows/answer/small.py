"""Recipes small enough to train within a test: 40 records, two steps, encoders of a few weights."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from PIL import Image

RECORDS = 40
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 230)}

MINE = '''
"""An objective over texts alone, and protocols of one's own."""

from typing import Annotated

import numpy as np
import torch

from contracts.params import Count
from contracts.report import Metric
from evaluation.protocol import Test, Train, protocol
from pretraining.objective import Encoder, Objective


class Bag(Objective):
    """Texts of a batch should lie far from each other."""

    exports = ("text_encoder",)

    def __init__(self, text_encoder: Annotated[Encoder, "text"], *, scale: Count = 1):
        super().__init__()
        self.text_encoder, self.scale = text_encoder, scale

    def forward(self, batch, moment):
        x_BD = torch.nn.functional.normalize(self.text_encoder(batch["text"]), dim=1)
        return {"loss": self.scale * (x_BD @ x_BD.T).square().mean()}


class Fragile(Bag):
    """The same, but for a weight that falls by the rate at each step, and then has no loss."""

    def __init__(self, text_encoder: Annotated[Encoder, "text"]):
        super().__init__(text_encoder)
        self.fallen = torch.nn.Parameter(torch.zeros(()))

    def forward(self, batch, moment):
        loss = super().forward(batch, moment)["loss"] + self.fallen
        return {"loss": loss * float("nan") if self.fallen < -0.0045 else loss}


@protocol({"up": True, "down": False})
def look(train: Train, test: Test):
    """A number that another weight, vector or label would change: up, and the same as less."""
    x_ND = np.concatenate([train.x_ND, test.x_ND]).astype(np.float64)
    y_N = np.concatenate([train.y_N, test.y_N])
    of_label_N = np.searchsorted(np.unique(y_N), y_N) + 1
    value = float(np.round((x_ND @ np.arange(1, x_ND.shape[1] + 1) * of_label_N).sum(), 6))
    return {
        "up": Metric(value, len(y_N), value, value),
        "down": Metric(-value, len(y_N), -value, -value),
    }


@protocol({"shared": False, "share": None})
def halves(train: Train, test: Test):
    """How many labels both halves have, and how large the first is."""
    labels, share = np.unique(train.y_N), len(train) / (len(train) + len(test))
    shared = float(len(set(labels) & set(test.y_N)))
    return {
        "shared": Metric(shared, len(labels), shared, shared),
        "share": Metric(share, len(train) + len(test), share, share),
    }
'''

# A record in five is drawn twice, so that as many draws are not as many records.
HEAD = """
name = "web"
[[source]]
{source}
[holdout]
ratio = 0.4
by_group = "meta.motif"
[[select]]
name = "most"
where = "meta.number < 27"
[[select]]
name = "twice"
by = "repeat"
repeats = "CASE WHEN meta.number % 5 = 0 THEN 2 ELSE 1 END"
[pretrain]
{pretrain}
steps = 2
batch = 8
seed = 3
[compare]
arms = {arms}
seeds = 2
random_sets = 2
"""
ALL, TWO = '["recipe", "random", "all", "untrained"]', '["recipe", "random"]'

WORDS = {"width": 8, "heads": 2, "num_buckets": 64, "max_tokens": 8}
CNN = {"width": 4, "side_px": 16}
TINY_WORDS = "text_encoder = { width = 8, heads = 2, num_buckets = 64, max_tokens = 8 }"
TINY_CNN = "encoder = { width = 4, side_px = 16 }"
LOOK = '[[evaluate]]\nprotocol = "./mine.py:look"\nlabel = "meta.colour"\n'
HALVES = '[[evaluate]]\nprotocol = "./mine.py:halves"\nlabel = "meta.motif"\n'

TEXTS = (
    HEAD.format(
        arms=ALL,
        source='path = "texts.jsonl"\nid = "id"',
        pretrain=f'objective = "./mine.py:Bag"\n{TINY_WORDS}',
    )
    + LOOK
    + HALVES
)
# At the full rate the trunk breaks after five of its six steps; there are three rates.
GRID = (
    HEAD.format(
        arms=TWO,
        source='path = "texts.jsonl"\nid = "id"',
        pretrain=f'objective = "./mine.py:Fragile"\n{TINY_WORDS}',
    ).replace("seeds = 2", 'seeds = 1\ngrid = "full"')
    + LOOK
)
BARE_PAIRS = (
    HEAD.format(
        arms=TWO,
        source='path = "pictures"',
        pretrain=f'objective = "clip"\ndim = 8\n{TINY_CNN}\n{TINY_WORDS}',
    )
    + LOOK
    + LOOK
    + 'name = "words"\ntower = "text"\n'
    + '[[evaluate]]\nprotocol = "retrieval"\nk = [1]\n'
    + '[[evaluate]]\nprotocol = "zero_shot"\nlabel = "meta.colour"\ntemplate = "a {} tile"\n'
    + '[[evaluate]]\nprotocol = "zero_shot"\nlabel = "meta.colour"\nname = "two_templates"\n'
    + 'template = ["a {} tile", "{}"]\n'
)
# Its recipe's arm is its own export; those of the others are exported for the training alone.
PAIRS = BARE_PAIRS + '[export]\nformat = ["webdataset"]\nshard_records = 5\n'
IMAGES = (
    HEAD.format(
        arms=TWO,
        source='path = "pictures"',
        pretrain=f'objective = "simclr"\n{TINY_CNN}',
    )
    + LOOK
    + '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\nk = 3\n'
    + '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.motif"\nk = 1\n'
    + '[[evaluate]]\nprotocol = "linear_probe"\nlabel = "meta.colour"\nl2 = 0.1\n'
)


@cache
def rows() -> list[dict[str, Any]]:
    """40 records of 20 motifs, each twice, in three colours; with picture and caption."""
    rng = np.random.default_rng(5)
    found = []
    for number in range(RECORDS):
        motif = number % 20
        colour = list(COLOURS)[motif % 3]
        pixels = np.clip(np.array(COLOURS[colour]) + rng.integers(-30, 30, (16, 16, 3)), 0, 255)
        buffer = io.BytesIO()
        Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
        found.append(
            {
                "id": f"{number:02d}.png", "number": number, "motif": f"m{motif}",
                "colour": colour, "text": f"a {colour} tile {motif}", "image": buffer.getvalue(),
            }
        )  # fmt: skip
    return found


def write(project: Any) -> None:
    """Write a project's sources, and the code of one's own."""
    project.pictures({row["id"]: row["image"] for row in rows()})
    texts = [{k: v for k, v in row.items() if k != "image"} for row in rows()]
    project.lines("texts.jsonl", texts)
    renamed = [{"file_name": row.pop("id"), **row} for row in texts]
    project.lines("pictures/metadata.jsonl", renamed)
    (project.recipe_dir / "mine.py").write_text(MINE)
