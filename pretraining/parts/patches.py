"""Images, or spectrograms, as rows of patches, and back.

P: the values of a patch, channel by channel, each row by row: as in the weight of a convolution.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def patchify(images_BCHW: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (B, N, P), the patches of a grid row by row; the grid divides both sides."""
    patch = _patch(images_BCHW.shape[-2:], grid)
    return F.unfold(images_BCHW, patch, stride=patch).transpose(1, 2)


def unpatchify(patches_BNP: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
    """Return the images_BCHW that `patchify` cut; size is their height and width."""
    patch = _patch(size, grid)
    return F.fold(patches_BNP.transpose(1, 2), size, patch, stride=patch)


def normalize_patches(patches_BNP: Tensor) -> Tensor:
    """Return each patch with mean 0 and variance 1; a patch of one value becomes zeros.

    The variance is that of a sample (P - 1), plus 1e-6, as in the authors' code.

    Reference: He et al. 2021, arXiv:2111.06377, section 3.
    """
    variance_BN1, mean_BN1 = patches_BNP.var(-1, keepdim=True), patches_BNP.mean(-1, keepdim=True)
    return (patches_BNP - mean_BN1) / (variance_BN1 + 1e-6).sqrt()


def _patch(size: tuple[int, ...], grid: tuple[int, int]) -> tuple[int, int]:
    (height, width), (rows, columns) = size, grid
    return height // rows, width // columns
