"""What a person sees of a payload: a small picture of it, whatever its kind."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts import audio, encode, volume


def preview(kind: str, data: bytes, *, side_px: int) -> bytes:
    """Return a JPEG no larger than `side_px`: a picture, a clip's wave, a volume's middle slice.

    Raises:
        Undecodable: the payload is damaged.
        ConfigError: what decodes it is not installed.
    """
    if kind == "image":
        return encode.jpeg(data, max_side_px=side_px, quality=85)
    grey = _wave(data, side_px) if kind == "audio" else _middle(data)
    drawn = Image.fromarray(grey)
    drawn.thumbnail((side_px, side_px))
    buffer = io.BytesIO()
    drawn.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def _wave(data: bytes, width: int) -> NDArray[np.uint8]:
    """Return how far a clip's samples reach from the middle, column by column: black on white."""
    values_T = np.abs(audio.samples(data).values)
    reach = np.array([piece.max(initial=0) for piece in np.array_split(values_T, width)])
    height = width // 4
    from_middle = np.abs(np.linspace(-1, 1, height))[:, None]
    drawn = np.where(from_middle <= np.maximum(reach, 1 / height), 0, 255)
    return np.asarray(drawn, dtype=np.uint8)


def _middle(data: bytes) -> NDArray[np.uint8]:
    """Return the middle axial slice of the first channel, from black to white."""
    values_CZYX = volume.voxels(data).values
    slice_YX = values_CZYX[0, values_CZYX.shape[1] // 2].astype(np.float64)
    least, most = slice_YX.min(), slice_YX.max()
    return np.asarray((slice_YX - least) / ((most - least) or 1.0) * 255, dtype=np.uint8)
