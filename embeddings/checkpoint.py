"""Vectors of an encoder that this pipeline's own pretraining exported."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast

import polars as pl
import torch
from torch import Tensor, nn

from contracts.errors import ConfigError, nearest
from embeddings._inference import encode_items, find_device, fingerprint_of, numerics_of


class Checkpoint:
    """The exported modules, run on what they were trained on.

    A module reads what its `codec` reads, as the codec encodes it. So it sees what the trainer's
    batches hold, without augmentation.

    Reads:
        image: what an image tower encodes.
        text: what a text tower encodes.
    Writes:
        vector: of the only tower, or of the one chosen; unit norm, null where the input is null
            or not decodable.
        image, text: the same of both towers, where there are two and none is chosen.
    Cost: of the module.
    Raises:
        ConfigError: when the checkpoint has no such tower.
    """

    version = 2

    def __init__(
        self,
        modules: Mapping[str, nn.Module],
        description: Mapping[str, Any],
        device: str | None = None,
        *,
        tower: str | None = None,
    ) -> None:
        """Take the modules that were exported.

        Args:
            modules: by export name, with their weights; each has `dim` and `codec`.
            description: how the training made them.
            device: found by itself where None.
            tower: the only one to run; all where it is None.
        """
        towers = towers_of(modules)
        if tower is not None:
            if tower not in towers:
                raise ConfigError(
                    f"checkpoint: it exports no {tower} tower.{nearest(tower, towers)} "
                    "Set tower to match."
                )
            towers = {tower: towers[tower]}
        self._device = find_device(device)
        self._modules = {
            role: cast(Any, modules[name].eval().to(self._device)) for role, name in towers.items()
        }
        self.reads = MappingProxyType({role: role for role in towers})
        columns = tuple(towers) if len(towers) > 1 else ("vector",)
        self.writes = MappingProxyType(
            {c: int(m.dim) for c, m in zip(columns, self._modules.values(), strict=True)}
        )
        self.fingerprint = fingerprint_of(
            {"description": json.dumps(dict(description), sort_keys=True, default=str)}
            | {"exports": sorted(towers.values()), "version": self.version},
            {
                f"{towers[role]}/{key}": value
                for role, module in self._modules.items()
                for key, value in module.state_dict().items()
            },
        )
        self.numerics = numerics_of(self._device, torch.float32)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the written columns for the columns that the towers read."""
        found = [self._encoded(role, rows[role]) for role in self._modules]
        return pl.DataFrame([v.alias(c) for v, c in zip(found, self.writes, strict=True)])

    def _encoded(self, role: str, column: pl.Series) -> pl.Series:
        module, device = self._modules[role], self._device
        return encode_items(
            column, module.codec.encode, module, dimension=int(module.dim), device=device
        )


class OtherPixels(nn.Module):
    """An image encoder that is shown pictures otherwise than it was trained: to see what that does.

    Reference: Corley et al. 2024, arXiv:2305.13456 (size and normalisation of frozen features).
    """

    def __init__(self, module: nn.Module, *, side_px: int | None, unscaled: bool) -> None:
        """Take an encoder.

        Args:
            module: whose codec is of pictures.
            side_px: to which they are scaled, in place of the encoder's own side.
            unscaled: whether pixels come as 0 to 255 where it divides them by 255.
        """
        super().__init__()
        own = cast(Any, module)
        self.module, self.dim, self.unscaled = module, own.dim, unscaled
        self.codec = own.codec if side_px is None else replace(own.codec, side_px=side_px)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim)."""
        # Floats are taken for pixels in [0, 1] already.
        vectors: Tensor = self.module(x.float() if self.unscaled else x)
        return vectors


def towers_of(modules: Mapping[str, nn.Module]) -> dict[str, str]:
    """Return for each kind of payload, and for `text`, the export that reads it.

    Raises:
        ConfigError: two exports read the same.
    """
    found: dict[str, str] = {}
    for name, module in modules.items():
        role = cast(Any, module).codec.reads
        if role in found:
            raise ConfigError(
                f"checkpoint: {found[role]} and {name} both read {role}; an encoder of a recipe "
                "has one tower for each."
            )
        found[role] = name
    # The payload's tower comes first, whatever the order of the exports.
    return {role: found[role] for role in sorted(found, key=lambda role: (role == "text", role))}
