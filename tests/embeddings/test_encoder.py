"""What holds of every encoder, and the parts that they share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from contracts import methods
from contracts.decode import square
from contracts.errors import ConfigError
from contracts.params import schema_of
from embeddings._inference import fingerprint_of
from embeddings.checkpoint import Checkpoint
from embeddings.efficientnet_lite import EfficientnetLite
from embeddings.encoder import prefetched, unit_column
from embeddings.encoder import prepared as decoded
from embeddings.open_clip import OpenClip
from pretraining.codecs import ImageCodec

SENTENCE = "a brown dog runs over the wet green field while two children watch from afar"
WORDS = SENTENCE.split()
TEXTS = [
    " ".join(WORDS[(i + j) % len(WORDS)] for j in range(1 + (i * 7) % 60)) + f" {i}"
    for i in range(20)
]


class Conv(nn.Module):
    """A small trained-by-nobody image encoder."""

    dim = 12
    codec = ImageCodec(32)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 16, 3, stride=2), nn.ReLU(), nn.Conv2d(16, 12, 3, stride=2)
        )

    def forward(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        return self.layers(pixels_BCHW / 255).mean((2, 3))


# Those that cannot be made of their defaults alone.
MADE: dict[str, Callable[[Path], Any]] = {
    "open_clip": lambda clip_folder: OpenClip("cpu", model=str(clip_folder)),
    "checkpoint": lambda _: Checkpoint({"encoder": Conv()}, {"side_px": 32}, "cpu"),
}


def build(name: str, clip_folder: Path) -> Any:
    made = MADE.get(name, lambda _: methods.load("embeddings", name)("cpu"))
    return made(clip_folder)


# What fills a slot gives scores and no vectors; `encoder` says what an encoder is.
NO_ENCODERS = {"encoder", "center_face", "open_nsfw", "profanity_check"}


@pytest.fixture(scope="module", params=sorted({*methods.names("embeddings")} - NO_ENCODERS))
def encoder(request: pytest.FixtureRequest, clip_folder: Path) -> Any:
    torch.set_num_threads(1)
    return build(request.param, clip_folder)


@pytest.fixture(scope="module")
def rows(encoder: Any, pictures: list[bytes]) -> pl.DataFrame:
    full = {
        "image": pl.Series([*pictures, None, b"not a picture"], dtype=pl.Binary),
        "text": [*TEXTS[:18], None, "the last"],
    }
    return pl.DataFrame({role: full[role] for role in encoder.reads})


@pytest.fixture(scope="module")
def vectors(encoder: Any, rows: pl.DataFrame) -> pl.DataFrame:
    return encoder(rows)


def test_each_written_column_is_a_half_precision_array_of_unit_vectors(
    encoder: Any, vectors: pl.DataFrame
) -> None:
    assert vectors.schema == {n: pl.Array(pl.Float16, d) for n, d in encoder.writes.items()}
    for name in encoder.writes:
        x_ND = vectors[name].drop_nulls().to_numpy().astype(np.float64)
        assert np.abs(np.linalg.norm(x_ND, axis=1) - 1).max() < 1e-3


def test_a_vector_is_null_where_its_input_is_null_or_not_decodable(
    encoder: Any, rows: pl.DataFrame, vectors: pl.DataFrame
) -> None:
    role_of = dict.fromkeys(encoder.writes, next(iter(encoder.reads)))
    role_of |= {name: name for name in encoder.writes if name in encoder.reads}
    for name, role in role_of.items():
        expected = [18, 19] if role == "image" else [18]
        assert vectors[name].is_null().arg_true().to_list() == expected


def test_a_vector_has_the_same_bits_whatever_its_batch_mates_their_number_and_order(
    encoder: Any, rows: pl.DataFrame, vectors: pl.DataFrame
) -> None:
    order = np.random.default_rng(1).permutation(rows.height)
    assert encoder(rows[order]).equals(vectors[order])
    few = [17, 2, 5]
    assert encoder(rows[few]).equals(vectors[few])
    assert encoder(rows[[4]]).equals(vectors[[4]])


def test_no_rows_give_empty_columns_of_the_same_type(
    encoder: Any, rows: pl.DataFrame, vectors: pl.DataFrame
) -> None:
    assert encoder(rows.clear()).equals(vectors.clear())


def test_an_encoder_says_what_made_its_vectors(encoder: Any) -> None:
    assert len(bytes.fromhex(encoder.fingerprint)) == 32
    assert encoder.numerics in ("cpu/float32", "cpu/float64")
    assert encoder.version >= 1


def test_the_device_is_no_parameter_of_a_recipe(encoder: Any) -> None:
    parameters = set(schema_of(type(encoder)).model_fields)
    assert "device" not in parameters


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_a_gpu_bits_depend_on_no_batch_mates_and_directions_are_those_of_the_cpu(
    clip_folder: Path, pictures: list[bytes]
) -> None:
    rows = pl.DataFrame({"image": pictures, "text": TEXTS[: len(pictures)]})
    on_gpu, on_cpu = (OpenClip(device, model=str(clip_folder)) for device in ("cuda", "cpu"))
    assert (on_gpu.numerics, on_gpu.fingerprint) == ("cuda/float16", on_cpu.fingerprint)
    found, expected = on_gpu(rows), on_cpu(rows)
    order = np.random.default_rng(1).permutation(rows.height)
    assert on_gpu(rows[order]).equals(found[order])
    assert on_gpu(rows[[3]]).equals(found[[3]])
    for name in ("image", "text"):
        a, b = (f[name].to_numpy().astype(np.float64) for f in (found, expected))
        assert (a * b).sum(axis=1).min() > 0.999


def test_the_weight_free_encoders_load_no_torch() -> None:
    code = (
        "import sys, embeddings.hashed_ngrams, embeddings.color_layout;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_device_that_does_not_exist_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match="no such device"):
        EfficientnetLite("abacus")


def test_a_fingerprint_changes_with_one_weight_a_name_a_shape_or_the_preprocessing() -> None:
    weight = torch.zeros(2, 3)
    base = fingerprint_of({"side_px": 8}, {"w": weight})
    changed = weight.clone()
    changed[1, 2] = 1e-30
    others = [
        fingerprint_of({"side_px": 8}, {"w": changed}),
        fingerprint_of({"side_px": 8}, {"v": weight}),
        fingerprint_of({"side_px": 8}, {"w": weight.reshape(3, 2)}),
        fingerprint_of({"side_px": 9}, {"w": weight}),
    ]
    assert len({base, *others}) == 5
    assert base == fingerprint_of({"side_px": 8}, {"w": weight.clone()})


def test_a_zero_or_infinite_vector_is_null_rather_than_no_unit_vector() -> None:
    found = unit_column(4, 2, [([0, 1, 2], np.array([[3, 4], [0, 0], [np.inf, 1]]))])
    assert found.to_list() == [pytest.approx([0.6, 0.8], abs=1e-3), None, None, None]


@pytest.mark.parametrize("linux", [True, False])
def test_prefetching_keeps_the_order_and_looks_no_further_ahead_than_told(
    monkeypatch: pytest.MonkeyPatch, linux: bool
) -> None:
    if not linux:
        monkeypatch.delattr(os, "sched_getaffinity")
    taken = []

    def values() -> Any:
        for value in range(20):
            taken.append(value)
            yield value

    stream = prefetched(lambda value: value * value, values(), ahead=4)
    assert next(stream) == 0
    assert taken == [0, 1, 2, 3, 4]
    assert list(stream) == [value * value for value in range(1, 20)]


def test_only_undecodable_pictures_are_left_out_and_other_failures_pass_on() -> None:
    def broken(_: bytes) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decoded(pl.Series([b"x"]), broken))


def test_square_keeps_the_centre_of_the_longer_side_and_averages_when_it_shrinks() -> None:
    pixels = np.zeros((4, 8, 3), np.uint8)
    pixels[:, 2:6] = 100
    pixels[::2, 2:6] = 200
    assert (square(pixels, 4) == pixels[:, 2:6]).all()
    assert (square(pixels, 2) == 150).all()
    assert square(pixels, 16).shape == (16, 16, 3)
