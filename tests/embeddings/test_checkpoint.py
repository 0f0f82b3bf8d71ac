from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor, nn

from contracts.errors import ConfigError
from embeddings.checkpoint import Checkpoint
from pretraining.batches import batches
from pretraining.checkpoint import description_of, exported, rebuild
from pretraining.codecs import ImageCodec
from pretraining.orders import order
from tests.pretraining.made import made


class MeanColour(nn.Module):
    """Red, green and blue of a picture, weighted: an encoder that one can check by eye."""

    dim = 3
    codec = ImageCodec(8)

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3))

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return images_BCHW.float().mean((2, 3)) * self.weight


class Characters:
    reads, shape, dtype = "text", (8,), np.dtype(np.int64)

    def encode(self, raw: str) -> np.ndarray:
        return np.array([ord(c) - ord("a") for c in raw[:8].ljust(8, "z")])


class Letters(nn.Module):
    """How often a, b and c occur."""

    dim = 3
    codec = Characters()

    def forward(self, tokens_BN: Tensor) -> Tensor:
        return torch.stack([(tokens_BN == letter).sum(1) for letter in range(3)], dim=1).float()


def halves(encode: Callable[..., bytes]) -> bytes:
    """40 x 20: red in the centre square, blue beside it."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[..., 2] = 255
    pixels[:, 10:30] = (255, 0, 0)
    return encode(pixels)


def test_a_picture_is_seen_as_its_centre_square(encode: Callable[..., bytes]) -> None:
    encoder = Checkpoint({"encoder": MeanColour()}, {"side_px": 8}, "cpu")
    found = encoder(pl.DataFrame({"image": [halves(encode)]}))
    assert found["vector"].to_list() == [[1, 0, 0]]
    assert dict(encoder.reads) == {"image": "image"}


def test_a_text_tower_is_chosen_by_name_and_brings_its_own_tokens() -> None:
    modules = {"image_encoder": MeanColour(), "text_encoder": Letters()}
    encoder = Checkpoint(modules, {"side_px": 8}, "cpu", tower="text")
    found = encoder(pl.DataFrame({"text": ["aaaabbb", "c", None, "xyz"]}))
    assert dict(encoder.reads) == {"text": "text"}
    expected = [pytest.approx([0.8, 0.6, 0], abs=1e-3), [0, 0, 1], None, None]
    assert found["vector"].to_list() == expected


def test_both_towers_write_a_column_each_and_either_alone_a_vector() -> None:
    modules = {"image_encoder": MeanColour(), "text_encoder": Letters()}
    both = Checkpoint(modules, {"side_px": 8}, "cpu")
    assert dict(both.reads) == {"image": "image", "text": "text"}
    assert dict(both.writes) == {"image": 3, "text": 3}
    rows = pl.DataFrame({"image": [None], "text": ["ab"]}, schema_overrides={"image": pl.Binary})
    assert both(rows)["image"].to_list() == [None]
    assert both(rows)["text"][0].to_list() == pytest.approx([0.7071, 0.7071, 0], abs=1e-3)
    for tower in ("image", "text"):
        alone = Checkpoint(modules, {"side_px": 8}, "cpu", tower=tower)
        assert alone(rows)["vector"].to_list() == both(rows)[tower].to_list()
        assert alone.fingerprint != both.fingerprint


def test_a_single_module_is_run_whatever_its_name() -> None:
    assert dict(Checkpoint({"encoder": Letters()}, {}, "cpu").reads) == {"text": "text"}


def test_weights_and_description_are_in_the_fingerprint() -> None:
    one = Checkpoint({"encoder": MeanColour()}, {"side_px": 8}, "cpu").fingerprint
    larger = Checkpoint({"encoder": MeanColour()}, {"side_px": 9}, "cpu").fingerprint
    trained = MeanColour()
    torch.nn.init.constant_(trained.weight, 2.0)
    other = Checkpoint({"encoder": trained}, {"side_px": 8}, "cpu").fingerprint
    assert len({one, larger, other}) == 3
    assert one == Checkpoint({"encoder": MeanColour()}, {"side_px": 8}, "cpu").fingerprint


def test_dropout_and_batch_statistics_are_off(encode: Callable[..., bytes]) -> None:
    class Noisy(MeanColour):
        def forward(self, images_BCHW: Tensor) -> Tensor:
            return nn.functional.dropout(super().forward(images_BCHW), 0.5, self.training)

    encoder = Checkpoint({"encoder": Noisy().train()}, {"side_px": 8}, "cpu")
    rows = pl.DataFrame({"image": [halves(encode)] * 20})
    assert encoder(rows)["vector"].null_count() == 0


def test_a_missing_tower_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"no image tower\. There is: text\."):
        Checkpoint({"left": Letters()}, {}, "cpu", tower="image")
    with pytest.raises(ConfigError, match="left and right both read text"):
        Checkpoint({"left": Letters(), "right": Letters()}, {}, "cpu")


@pytest.mark.parametrize("name", ["small_cnn", "vit"])
def test_what_the_trainer_exports_is_run_on_the_pixels_and_tokens_of_its_batches(
    name: str, pictures: list[bytes]
) -> None:
    objective = made("clip", {"dim": 16}, name, {"side_px": 32}, seed=0)
    data = exported(objective, {"steps": 0})
    modules, description = rebuild(data), description_of(data)
    captions = [f"caption {i}" for i in range(len(pictures))]

    class Pool:
        uids = np.arange(len(pictures), dtype=np.uint64)
        repeats = np.ones(len(pictures), dtype=np.uint16)

        def read(self, rows: np.ndarray) -> dict[str, list[object]]:
            return {"image": [pictures[i] for i in rows], "text": [captions[i] for i in rows]}

    options = {"codecs": objective.codecs, "batch": len(pictures), "seed": 0}
    (batch,) = batches(Pool(), **options, start=0, steps=1)
    drawn = order(Pool.uids, Pool.repeats, 0, 0)
    for tower in ("image", "text"):
        with torch.inference_mode():
            expected = modules[f"{tower}_encoder"](batch[tower]).double()
        expected = torch.nn.functional.normalize(expected, dim=1)
        encoder = Checkpoint(modules, description, "cpu", tower=tower)
        rows = pl.DataFrame({"image": pictures, "text": captions})
        found = encoder(rows)["vector"].to_numpy().astype(np.float64)[drawn]
        assert np.abs(found - expected.numpy()).max() < 1e-3
