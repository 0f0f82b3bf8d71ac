from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

TINY = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}


def _draw(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """Smooth blobs of colour with a few hard edges, as photographs have."""
    rng = np.random.default_rng(seed)
    low = rng.integers(0, 256, (5, 6, 3)).astype(np.uint8)
    pixels = cv2.resize(low, (width, height), interpolation=cv2.INTER_CUBIC)
    left, top = rng.integers(0, min(height, width) // 2, 2).tolist()
    corner, colour = (left + 15, top + 20), rng.integers(0, 256, 3).tolist()
    cv2.rectangle(pixels, (left, top), corner, colour, -1)
    return pixels


def _encode(pixels: np.ndarray, suffix: str = ".png", options: Sequence[int] = ()) -> bytes:
    good, data = cv2.imencode(suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))
    assert good
    return bytes(data)


@pytest.fixture(scope="session")
def draw() -> Callable[..., np.ndarray]:
    return _draw


@pytest.fixture(scope="session")
def encode() -> Callable[..., bytes]:
    return _encode


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    sizes = [(60, 80), (80, 60), (33, 200), (32, 32), (20, 20), (224, 224)]
    return [_encode(_draw(seed, *sizes[seed % len(sizes)])) for seed in range(18)]


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    """The configuration of a CLIP model of open_clip, small enough for a test."""
    return TINY


@pytest.fixture(scope="session")
def save_clip() -> Callable[..., Path]:
    """A function that writes random weights of the tiny model as safetensors."""

    def save(path: Path, *, seed: int = 0) -> Path:
        import torch

        from contracts import _torchvision  # noqa: F401  # isort: skip
        from open_clip.model import CLIP
        from safetensors.torch import save_file

        torch.manual_seed(seed)
        save_file(CLIP(**TINY).state_dict(), path)
        return path

    return save


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory, save_clip: Callable[..., Path]) -> Path:
    """The tiny model with random weights, laid out as open_clip's push_to_hf_hub does."""
    folder = tmp_path_factory.mktemp("clip")
    text = json.dumps({"model_cfg": TINY, "preprocess_cfg": {}})
    (folder / "open_clip_config.json").write_text(text)
    save_clip(folder / "open_clip_model.safetensors")
    return folder
