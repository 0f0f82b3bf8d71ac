"""On real pictures, through decoding, batches and the loop: what the demo does."""

import numpy as np
import polars as pl
import pytest
import torch
from torch.nn.functional import normalize

from contracts import decode
from contracts.decode import square
from pretraining.batches import batches
from pretraining.codecs import column
from pretraining.train import train
from tests.pretraining.made import made

STEPS, SIDE_PX = 60, 48


class Drawings:
    """Rows of the emoji pack as exported shards hand them over."""

    def __init__(self, table):
        self.image = table["image"].struct.field("bytes").to_list()
        self.text = table["caption"].to_list()
        self.uids = np.arange(table.height, dtype=np.uint64)
        self.repeats = np.ones(table.height, dtype=np.uint16)

    def read(self, rows):
        return {name: [getattr(self, name)[row] for row in rows] for name in ("image", "text")}


@pytest.mark.data
@pytest.mark.slow
def test_clip_finds_captions_of_unseen_drawings_many_times_better_than_chance(data):
    table = pl.read_parquet(data / "emoji" / "emoji.parquet").filter(pl.col("vendor") == "noto")
    unseen = pl.col("base_codepoint").is_in(
        table["base_codepoint"].unique().sort().gather_every(8).implode()
    )
    shards = Drawings(table.filter(~unseen))
    untoned = table.filter(unseen, ~pl.col("skin_tone"))
    tested = Drawings(untoned.unique("caption", keep="first", maintain_order=True).head(200))
    objective = made("clip", {}, "small_cnn", {}, text={}, seed=0)

    def batches_from(start):
        return batches(
            shards,
            codecs=objective.codecs,
            batch=128,
            seed=0,
            start=start,
            steps=STEPS,
        )

    def recall_at_10():
        objective.eval()
        pictures = np.stack([square(decode.image(d), SIDE_PX) for d in tested.image])
        with torch.no_grad():
            images = torch.from_numpy(pictures).permute(0, 3, 1, 2)
            texts = column(objective.codecs["text"], tested.text)
            cosine = normalize(objective.image_encoder(images)) @ (
                normalize(objective.text_encoder(texts)).T
            )
        rank = (cosine >= cosine.diag()[:, None]).sum(1)
        return (rank <= 10).float().mean().item()

    fresh = recall_at_10()
    train(objective, batches_from, steps=STEPS, lr=2e-3, seed=0)
    chance = 10 / len(tested.text)
    assert fresh < 3 * chance
    assert recall_at_10() > 5 * chance
