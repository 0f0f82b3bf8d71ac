from __future__ import annotations

import io
import sys
import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from contracts.errors import ConfigError
from embeddings.efficientnet_lite import EfficientnetLite


@pytest.fixture(scope="module")
def encoder() -> EfficientnetLite:
    torch.set_num_threads(1)
    return EfficientnetLite("cpu")


def sample(name: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(load_sample_image(name)).save(stream, "PNG")
    return stream.getvalue()


def test_the_features_are_those_from_which_the_package_tells_a_palace_from_a_daisy(
    encoder: EfficientnetLite,
) -> None:
    pixels = np.stack([encoder.prepare(sample(name)) for name in ("china.jpg", "flower.jpg")])
    with torch.inference_mode():
        x_BCHW = torch.from_numpy(pixels).permute(0, 3, 1, 2)
        features = encoder.forward(x_BCHW)
        logits = encoder._model._fc(features)
        whole = encoder._model((x_BCHW.float() - 127) / 128)
    assert torch.allclose(logits, whole, atol=1e-4)
    palace, daisy = 698, 985
    assert logits.argmax(dim=1).tolist() == [palace, daisy]


def test_a_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(ConfigError, match="pip install efficientnet-lite-pytorch"):
        EfficientnetLite("cpu")


@pytest.mark.data
@pytest.mark.slow
def test_some_hundred_small_photographs_are_classified_far_above_chance(
    data: Path,
) -> None:
    encoder = EfficientnetLite("cpu", side_px=96)

    def load(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        with tarfile.open(data / "cifar10" / name) as tar:
            members = [m for m in tar if m.name.endswith(".jpg")][:count]
            files = [tar.extractfile(m).read() for m in members]  # type: ignore[union-attr]
            labels = [tar.extractfile(m.name[:-3] + "cls").read() for m in members]  # type: ignore[union-attr]
        vectors = encoder(pl.DataFrame({"image": files}))["vector"]
        return vectors.to_numpy().astype(np.float32), np.array([int(label) for label in labels])

    (bank, bank_labels), (query, labels) = load("train-000.tar", 200), load("test-000.tar", 60)
    nearest = (query @ bank.T).argmax(axis=1)
    assert (bank_labels[nearest] == labels).mean() > 0.4
