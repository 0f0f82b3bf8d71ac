"""Pixels as the encoders and the views take them: float in [0, 1]."""

from __future__ import annotations

import torch
from torch import Tensor


def unit_pixels(images_BCHW: Tensor) -> Tensor:
    """Return uint8 images divided by 255; float images, already in [0, 1], as they are."""
    return images_BCHW / 255 if images_BCHW.dtype == torch.uint8 else images_BCHW
