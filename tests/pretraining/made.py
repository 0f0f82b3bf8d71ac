"""Objectives of a few weights, and batches that fit any objective."""

from __future__ import annotations

from typing import Any

import torch

from contracts.methods import load, names
from pretraining.build import Part, build, roles_of
from pretraining.codecs import column

WORDS = {"width": 16, "depth": 1, "heads": 2, "num_buckets": 64}
SMALL = {
    "small_cnn": {"width": 4},
    "vit": {"width": 16, "depth": 2, "heads": 2},
    "words": WORDS,
    "text_transformer": {"width": 16, "depth": 1, "heads": 2, "max_tokens": 16},
    "spectrogram_transformer": {"width": 16, "depth": 2, "heads": 2, "mels": 24, "frames": 32},
    "volume_transformer": {
        "width": 12, "depth": 2, "heads": 2, "slices": 4, "rows": 12, "columns": 12, "patch": 2,
    },
    "vector": {"of": "notes.vector", "dim": 8},
    "resnet": {"width": 4},
    "timm": {"model": "test_efficientnet"},
    "pretrained_distillation": {"classes": 8},
    "spark": {"decoder_width": 32},
    "voco": {"hidden": 16},
}  # fmt: skip
# The first of the deep networks is tried where nothing shallow fits, which stands for them.
DEEP = ("resnet", "timm")
DIM = 8
TEXTS = ["a red square", "two blue circles", "no", "灰色の猫"]


def encoder(name: str, **parameters: Any) -> Any:
    """Return an encoder of few weights."""
    return load("pretraining.encoders", name)(**{**SMALL.get(name, {}), **parameters})


def fitting(objective: str, role: str | None = None) -> list[str]:
    """Return the encoders of the folder that fit a role, the first where none is named."""
    asked = roles_of(load("pretraining.objectives", objective))
    role = role or next(iter(asked))
    shallow = [n for n in names("pretraining.encoders") if n not in DEEP]
    found = [n for n in shallow if asked[role].misfit(encoder(n)) is None]
    # timm, which loads torch's compiler, is not made for nothing.
    return found or [next(n for n in DEEP if asked[role].misfit(encoder(n)) is None)]


def made(
    objective: str,
    parameters: dict[str, Any] | None = None,
    first: str | None = None,
    own: dict[str, Any] | None = None,
    *,
    seed: int = 0,
    text: dict[str, Any] | None = None,
    **given: Any,
) -> Any:
    """Return an objective, its first role the encoder named, any other the first that fits."""
    asked = roles_of(load("pretraining.objectives", objective, recipe_dir=given.get("recipe_dir")))
    parts = {}
    for place, role in enumerate(asked):
        if place == 0 and first is not None:
            parts[role] = Part(name=first, parameters=SMALL.get(first, {}) if own is None else own)
        elif role == "text_encoder":
            parts[role] = Part(name="words", parameters=WORDS if text is None else text)
        else:
            name = next(n for n in SMALL if asked[role].misfit(encoder(n)) is None)
            parts[role] = Part(name=name, parameters=SMALL[name])
    return build(objective, parameters or SMALL.get(objective, {}), parts, seed=seed, **given)


def columns_of(objective: Any) -> dict[str, Any]:
    """Return the codec of every column that an objective may read."""
    bound = {
        name: of.codec(name, DIM if of.kind == "vector" else None)
        for name, of in objective.columns.items()
    }
    return {**objective.codecs, **bound}


def batch_of(objective: Any, *, seed: int = 0, size: int = 8) -> dict[str, torch.Tensor]:
    """Return a batch with every column of an objective, a function of the seed."""
    return {name: drawn(codec, seed, size) for name, codec in columns_of(objective).items()}


def drawn(codec: Any, seed: int, size: int = 8) -> torch.Tensor:
    """Return a column of values that a codec could have given."""
    rng = torch.Generator().manual_seed(seed)
    shape = (size, *codec.shape)
    if codec.reads == "text":
        return column(codec, [f"{TEXTS[n % 4]} {n % 4 and seed + n}" for n in range(size)])
    if codec.dtype == "uint8":
        return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng)
    if codec.dtype == "int64":
        return torch.randint(0, 2, shape, generator=rng)
    return torch.randn(shape, generator=rng)
