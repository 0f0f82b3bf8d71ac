"""Vectors of an encoder that this pipeline's own pretraining exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, cast

import polars as pl
import torch
from torch import Tensor, nn

from contracts import decode
from contracts.errors import ConfigError, nearest
from embeddings._inference import (
    encode_images,
    encode_texts,
    find_device,
    fingerprint_of,
    numerics_of,
)
from embeddings.encoder import Pixels, square


class Checkpoint:
    """One exported module, run on what it was trained on.

    A module that has `tokenize` reads `text`, any other `image`: the centre square of the shorter
    side, scaled to the side of the training, as bytes in 0..255. So it sees what the trainer's
    batches hold, without augmentation.

    Writes:
        vector: unit norm; null where the input is null or not decodable.
    Cost: of the module.
    Raises:
        ConfigError: when the checkpoint has no such tower, or an image tower no `side_px`.
    """

    version = 1

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        description: Mapping[str, Any],
        device: str | None = None,
        *,
        tower: Literal["image", "text"] = "image",
    ) -> None:
        """Take the modules that were exported.

        Args:
            modules: by export name, with their weights; each has `dim`, a text encoder `tokenize`.
            description: how the training made them; `side_px` for pictures.
            device: found by itself where None.
            tower: which to run where there are several; a single module is run whatever its name.
        """
        name = _named(modules, tower)
        module = cast(Any, modules[name])
        self._device = find_device(device)
        self._dimension = int(module.dim)
        self.writes = MappingProxyType({"vector": self._dimension})
        self._role = "text" if hasattr(module, "tokenize") else "image"
        self.reads = MappingProxyType({self._role: self._role})
        if self._role == "image":
            if "side_px" not in description:
                raise ConfigError(
                    f"checkpoint: the description of {name} names no side_px, only "
                    f"{sorted(description)}; export it with the pretrain stage."
                )
            self._side_px = int(description["side_px"])
        self.fingerprint = fingerprint_of(
            {"description": json.dumps(dict(description), sort_keys=True, default=str)}
            | {"export": name, "version": self.version},
            module.state_dict(),
        )
        self.numerics = numerics_of(self._device, torch.float32)
        self._module = module.eval().to(self._device)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `vector` for the column that the tower reads."""
        column, size = rows[self._role], self._dimension
        if self._role == "text":
            # The module pads to one length by itself.
            vector = encode_texts(
                column, self.tokens, self.forward, dimension=size, device=self._device, multiple=1
            )
        else:
            vector = encode_images(
                column, self.prepare, self.forward, dimension=size, device=self._device
            )
        return vector.to_frame("vector")

    def prepare(self, data: bytes) -> Pixels:
        """Decode one picture to the side that the training used."""
        return square(decode.reduced(data, self._side_px), self._side_px)

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the module's own token numbers of each text."""
        numbers: list[list[int]] = self._module.tokenize(texts).tolist() if texts else []
        return numbers

    def forward(self, batch: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Return the vectors (B, D) of bytes (B, 3, H, W) or token numbers (B, L)."""
        del mask_BL
        vectors_BD: Tensor = self._module(batch)
        return vectors_BD


def _named(modules: Mapping[str, nn.Module], tower: str) -> str:
    if len(modules) == 1:
        return next(iter(modules))
    for name in (tower, f"{tower}_encoder"):
        if name in modules:
            return name
    raise ConfigError(
        f"checkpoint: it exports no {tower} tower.{nearest(tower, modules)} Set tower to match."
    )
