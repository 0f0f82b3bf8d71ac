"""Label images from a folder beside the pictures to the protocol that scores grids of vectors."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image

from contracts.errors import ConfigError, DataError
from contracts.uid import uniform
from evaluation.features import Dense
from evaluation.protocols.dense_probe import dense_probe
from evaluation.protocols.rankme import rankme
from flows.answer import evaluate, pretrain
from flows.recipe.sections import parsed
from pretraining.build import Part, build
from pretraining.codecs import ImageCodec
from storage import shards, tables

RECIPE = """
[[source]]
path = "scenes"
label_image = "masks/{stem}.png"
[holdout]
ratio = 0.5
[annotate.bytes]
step = "content_hash"
[[select]]
where = "width > 0"
[export]
[pretrain]
objective = "simclr"
steps = 2
batch = 4
[pretrain.encoder]
name = "vit"
width = 8
depth = 1
heads = 2
patch_px = 4
side_px = 16
[[evaluate]]
protocol = "dense_probe"
[compare]
metric = "dense_probe.miou"
arms = ["untrained"]
seeds = 1
random_sets = 2
"""


def png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def scenes(projects: Any) -> Any:
    """Twenty-four pictures of a bright square on dark ground; the labels of three are bad."""
    project, rng = projects(), np.random.default_rng(0)
    for number in range(24):
        labels = np.zeros((20, 24), dtype=np.uint8)
        row, column = rng.integers(0, 10, 2)
        labels[row : row + 9, column : column + 9] = 1
        noise = rng.integers(0, 40, (20, 24, 3))
        pixels = (noise + 200 * labels[:, :, None]).astype(np.uint8)
        project.pictures({f"{number}.png": png(pixels)}, "scenes/images")
        stored = {1: labels[:, :20], 2: pixels}.get(number, labels)
        if number:
            project.pictures({f"{number}.png": png(stored)}, "scenes/masks")
    return project


@pytest.fixture(scope="module")
def found(scenes: Any) -> Any:
    return scenes.run(RECIPE, until="evaluate")


def test_bad_label_images_are_quarantined_and_good_ones_lie_beside_their_record(
    scenes: Any, found: Any
):
    pool = scenes.pool()
    (part,) = pool.parts
    rows = tables.read(scenes.store, part.records)
    names = [f"images/{n}.png" for n in range(24) if n > 2]
    assert sorted(rows["source_id"]) == sorted(names)
    masks = scenes.recipe_dir / "scenes" / "masks"
    for source_id, stored in rows.select("source_id", "label_image").iter_rows():
        assert stored == (masks / source_id.removeprefix("images/")).read_bytes()


def grids(scenes: Any, rows: pl.DataFrame) -> Dense:
    """Return what an encoder of the first weights makes of pictures, and their labels, by hand."""
    parameters = {"width": 8, "depth": 1, "heads": 2, "patch_px": 4, "side_px": 16}
    encoder = build("simclr", {}, {"encoder": Part(name="vit", parameters=parameters)}, seed=0)
    module, x, y = encoder.encoder.eval(), [], []
    for source_id in rows["source_id"]:
        folder = scenes.recipe_dir / "scenes"
        x.append(module.codec.encode((folder / source_id).read_bytes()))
        labels = np.asarray(Image.open(folder / source_id.replace("images", "masks")))
        # The middle square of 20 pixels at 16 centres: 0.625, 1.875, ... 19.375.
        at = [int(20 / 16 * (i + 0.5)) for i in range(16)]
        y.append(labels[:, 2:22][np.ix_(at, at)])
    with torch.no_grad():
        tokens_BND = module.tokens(torch.from_numpy(np.stack(x)))
    return Dense(tokens_BND.reshape(len(x), 4, 4, 8).numpy(), np.stack(y))


def test_the_protocol_gets_the_grids_and_labels_of_the_right_pictures(scenes: Any, found: Any):
    (part,) = scenes.pool().parts
    rows = tables.read(scenes.store, part.records, ["uid", "source_id"])
    held = rows.filter(pl.Series(uniform(rows["uid"].to_numpy(), 0, "holdout") < 0.5))
    first = pl.Series(evaluate.halves(held["uid"].to_numpy()))
    expected = dense_probe(grids(scenes, held.filter(first)), grids(scenes, held.filter(~first)))
    said = found["evaluation"]["metrics"]["dense_probe.miou"]["within"]["untrained"]
    for key, value in expected["miou"].to_dict().items():
        if key != "higher_is_better":
            assert said[key] == pytest.approx(value, rel=1e-4), key


def test_an_encoder_without_a_grid_and_a_pool_without_labels_are_refused(scenes: Any):
    other = RECIPE.replace('"vit"', '"small_cnn"').replace(
        "depth = 1\nheads = 2\npatch_px = 4\n", ""
    )
    with pytest.raises(ConfigError, match="the image tower shows neither stages nor tokens"):
        scenes.run(other, name="other", until="evaluate")
    bare = RECIPE.replace('label_image = "masks/{stem}.png"', 'name = "bare"')
    bare = bare.replace('"scenes"', '"scenes/images"')
    with pytest.raises(DataError, match=r"none of the .* can be used: .* without a label image"):
        scenes.run(bare, name="bare", until="evaluate")
    wrong = RECIPE.replace("{stem}", "labels")
    with pytest.raises(ConfigError, match="must say where a picture's labels lie"):
        scenes.run(wrong, name="wrong", until="evaluate")


SEGMENT = '''
"""Learns from label images, of pictures that are bright where the label is 1."""

from typing import Annotated

import torch

from pretraining.objective import Column, Encoder, Objective


class Segment(Objective):
    columns = {"mask": Column("label_image")}

    def __init__(self, encoder: Annotated[Encoder, "image"]):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch, moment):
        image, mask = batch["image"].float().mean(1), batch["mask"]
        assert mask.dtype == torch.uint8
        assert mask.shape == image.shape
        other = ((image > 128) != (mask == 1)).float().mean()
        assert other < 0.15, other
        assert mask.sum() > 0
        return {"loss": self.encoder(batch["image"]).square().mean() + other}
'''


def test_an_objective_gets_the_label_images_of_its_pictures_from_the_shards(scenes: Any):
    (scenes.recipe_dir / "segment.py").write_text(SEGMENT)
    recipe = RECIPE.partition("[[evaluate]]")[0].replace('"simclr"', '"./segment.py:Segment"')
    result = scenes.run(recipe, name="segment", until="pretrain")
    (tar,) = Path(result["export"]).glob("*.tar")
    names = [name for name, _ in shards.read_tar(tar)]
    assert sum(name.endswith(".label.png") for name in names) == len(scenes.kept("segment"))
    index = shards.read_table(tar.parent / shards.INDEX)
    assert index["label_offset"].null_count() == 0
    bare = recipe.replace('label_image = "masks/{stem}.png"', 'name = "bare"')
    with pytest.raises(DataError, match=r"has no label_image: drop such records with a rule"):
        scenes.run(bare.replace('"scenes"', '"scenes/images"'), name="without", until="pretrain")


OTHERWISE = """
[[evaluate]]
name = "small"
protocol = "rankme"
side_px = 8
[[evaluate]]
name = "raw"
protocol = "rankme"
unscaled = true
[[evaluate]]
protocol = "rankme"
[compare]
arms = ["untrained"]
seeds = 1
random_sets = 2
"""


def test_pictures_are_shown_in_another_size_or_unscaled_where_a_section_says_so(scenes: Any):
    recipe = RECIPE.partition("[[evaluate]]")[0] + OTHERWISE
    metrics = scenes.run(recipe, name="otherwise", until="evaluate")["evaluation"]["metrics"]
    (part,) = scenes.pool().parts
    rows = tables.read(scenes.store, part.records, ["uid", "source_id"])
    held = rows.filter(pl.Series(uniform(rows["uid"].to_numpy(), 0, "holdout") < 0.5))
    parameters = {"width": 8, "depth": 1, "heads": 2, "patch_px": 4, "side_px": 16}
    built = build("simclr", {}, {"encoder": Part(name="vit", parameters=parameters)}, seed=0)
    module = built.encoder.eval()
    found = {}
    for name, side_px, factor in (("small", 8, 1), ("raw", 16, 255), ("rankme", 16, 1)):
        codec = ImageCodec(side_px)
        pictures = [(scenes.recipe_dir / "scenes" / s).read_bytes() for s in held["source_id"]]
        x = torch.from_numpy(np.stack([codec.encode(p) for p in pictures]))
        with torch.no_grad():
            vectors = torch.nn.functional.normalize(module(factor * (x / 255))).numpy()
        found[name] = rankme(vectors)["rank"].value
        said = metrics[f"{name}.rank"]["within"]["untrained"]["value"]
        assert said == pytest.approx(found[name], rel=1e-3), name
    assert len({round(value, 3) for value in found.values()}) == 3


def test_only_vectors_of_pictures_may_be_shown_otherwise(scenes: Any):
    recipe = RECIPE.replace('"dense_probe"\n', '"dense_probe"\nside_px = 8\n', 1)
    with pytest.raises(ConfigError, match="side_px: dense_probe is shown pictures as the encoder"):
        scenes.run(recipe, name="refused", until="evaluate")


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"side_px": 20}, "do not tile an image of 20 x 20"),
        (
            {"side_px": 16, "tower": "text"},
            "knn compares vectors of the text tower, which reads no",
        ),
        ({"unscaled": True, "tower": "text"}, "which reads no pictures: leave out side_px"),
    ],
)
def test_pictures_that_an_encoder_does_not_take_are_refused_before_it_is_trained(
    how: dict[str, Any], message: str
):
    vit = {"name": "vit", "width": 8, "depth": 1, "heads": 2, "patch_px": 8, "side_px": 16}
    raw = {
        "source": [{"path": "pictures"}],
        "holdout": {"ratio": 0.3},
        "pretrain": {"objective": "clip", "image_encoder": vit},
        "evaluate": [{"protocol": "knn", "label": "meta.a", "tower": "image", **how}],
    }
    recipe = parsed(raw, recipe_dir=Path(), name="web")
    assert recipe.pretrain is not None
    objective = pretrain.build(recipe.pretrain, 0, Path())
    with pytest.raises(ConfigError, match=message):
        evaluate.check(recipe, evaluate.sections(recipe), objective)
