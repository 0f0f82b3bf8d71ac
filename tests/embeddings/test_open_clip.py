from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from contracts import (
    _torchvision,  # noqa: F401
    decode,
)
from contracts.errors import ConfigError
from embeddings.open_clip import OpenClip

SaveClip = Callable[..., Path]
TEXTS = ["a red ball", "Ein Haus  im Wald", "", "word " * 100]


@pytest.fixture
def named(tmp_path: Path, tiny: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> str:
    """The tiny model under a name that open_clip knows for the length of a test."""
    import open_clip.factory

    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIG_PATHS", [])
    monkeypatch.setattr(open_clip.factory, "_MODEL_CONFIGS", {})
    (tmp_path / "winnow-tiny.json").write_text(json.dumps(tiny))
    open_clip.add_model_config(tmp_path / "winnow-tiny.json")
    return "winnow-tiny"


@pytest.fixture
def tag(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, named: str) -> str:
    """A tag of the tiny model, its weights to be found in an empty cache."""
    import huggingface_hub.constants
    import open_clip.pretrained

    settings = {"hf_hub": "somebody/tiny/", "mean": (0.5,) * 3, "std": (0.25,) * 3}
    settings |= {"resize_mode": "squash", "quick_gelu": True}
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, named, {"mine": settings})
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return "mine"


def numbers(column: pl.Series) -> np.ndarray:
    return column.to_numpy().astype(np.float64)


def test_both_towers_give_the_vectors_of_open_clips_own_pipeline(
    clip_folder: Path, pictures: list[bytes]
) -> None:
    import open_clip
    from PIL import Image

    name = f"local-dir:{clip_folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    model.eval()
    inputs = torch.stack([preprocess(Image.fromarray(decode.image(p))) for p in pictures])
    with torch.inference_mode():
        images = model.encode_image(inputs, normalize=True).double().numpy()
        tokens = open_clip.get_tokenizer(name)(TEXTS)
        texts = model.encode_text(tokens, normalize=True).double().numpy()
    encoder = OpenClip("cpu", model=str(clip_folder))
    prepared = np.stack([encoder.prepare(p) for p in pictures])
    plain = encoder._mean, encoder._std
    pixels = torch.from_numpy(prepared).permute(0, 3, 1, 2) / 255
    assert torch.equal((pixels - plain[0]) / plain[1], inputs)
    found = encoder(pl.DataFrame({"image": pictures}))["image"]
    assert np.abs(numbers(found) - images).max() < 5e-4
    found = encoder(pl.DataFrame({"text": TEXTS}))["text"]
    assert np.abs(numbers(found) - texts).max() < 5e-4


def test_an_absent_role_gives_nulls_and_leaves_the_other_as_it_is(
    clip_folder: Path, pictures: list[bytes]
) -> None:
    encoder = OpenClip("cpu", model=str(clip_folder))
    both = encoder(pl.DataFrame({"image": pictures[:4], "text": TEXTS}))
    only = encoder(pl.DataFrame({"text": TEXTS}))
    assert only["image"].null_count() == 4
    assert only["text"].equals(both["text"])
    assert only.schema == both.schema


def test_other_weights_have_another_fingerprint_and_other_vectors(
    tmp_path: Path, named: str, save_clip: SaveClip
) -> None:
    first, second = (
        OpenClip("cpu", model=named, pretrained=str(save_clip(tmp_path / name, seed=seed)))
        for seed, name in enumerate(("a.safetensors", "b.safetensors"))
    )
    rows = pl.DataFrame({"text": TEXTS})
    assert first.fingerprint != second.fingerprint
    assert not first(rows)["text"].equals(second(rows)["text"])


def test_a_file_and_a_folder_of_the_same_weights_have_one_fingerprint(
    tmp_path: Path, named: str, clip_folder: Path
) -> None:
    file = clip_folder / "open_clip_model.safetensors"
    by_file = OpenClip("cpu", model=named, pretrained=str(file))
    assert by_file.fingerprint == OpenClip("cpu", model=str(clip_folder)).fingerprint


def test_half_precision_is_another_class_of_numerics_with_near_vectors(
    clip_folder: Path, pictures: list[bytes]
) -> None:
    full = OpenClip("cpu", model=str(clip_folder))
    half = OpenClip("cpu", model=str(clip_folder), precision="bfloat16")
    assert (full.numerics, half.numerics) == ("cpu/float32", "cpu/bfloat16")
    assert full.fingerprint == half.fingerprint
    rows = pl.DataFrame({"image": pictures, "text": [f"text {i}" for i in range(len(pictures))]})
    for name in ("image", "text"):
        a, b = numbers(full(rows)[name]), numbers(half(rows)[name])
        assert not (a == b).all()
        assert (a * b).sum(axis=1).min() > 0.999


def test_a_tag_takes_its_weights_and_preprocessing_from_the_local_cache(
    tmp_path: Path, named: str, tag: str, save_clip: SaveClip
) -> None:
    repository = tmp_path / "hub" / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    file = save_clip(repository / "snapshots" / ("0" * 40) / "open_clip_model.safetensors")
    by_tag = OpenClip("cpu", model=named, pretrained=tag)
    assert by_tag._mean.flatten().tolist() == [0.5] * 3
    assert by_tag.fingerprint != OpenClip("cpu", model=named, pretrained=str(file)).fingerprint
    rows = pl.DataFrame({"text": TEXTS})
    plain = OpenClip("cpu", model=named, pretrained=str(file))(rows)
    # The tag says quick_gelu, the plain file does not.
    assert not by_tag(rows)["text"].equals(plain["text"])


def test_weights_that_are_not_here_are_not_downloaded_but_asked_for(named: str, tag: str) -> None:
    with pytest.raises(ConfigError, match=r"hf download somebody/tiny open_clip_model"):
        OpenClip("cpu", model=named, pretrained=tag)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-B-23", "openai", r"no model 'ViT-B-23'.*Nearest: ViT-B-32"),
        ("ViT-B-32", None, "needs pretrained"),
        ("ViT-B-32", "openia", r"neither a file nor a tag of ViT-B-32. Nearest: openai"),
    ],
)
def test_a_wrong_name_is_refused_with_the_nearest(
    model: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        OpenClip("cpu", model=model, pretrained=pretrained)


def test_pickled_weights_are_refused_unopened(tmp_path: Path, named: str) -> None:
    (tmp_path / "weights.pt").write_bytes(b"anything")
    with pytest.raises(ConfigError, match="pickled weights can run code"):
        OpenClip("cpu", model=named, pretrained=str(tmp_path / "weights.pt"))


def test_a_folder_without_weights_says_which_file_is_missing(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"holds no open_clip_model\.safetensors"):
        OpenClip("cpu", model=str(tmp_path))
