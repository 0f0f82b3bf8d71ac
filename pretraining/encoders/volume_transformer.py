"""A small Transformer over patches of a volume, with fixed positions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count, Positive
from pretraining.parts.transformer import Trunk
from pretraining.parts.volume import VolumeCodec


class VolumeTransformer(Trunk):
    """Embed cubes of a volume, mix them in blocks, average them: (B, C, Z, Y, X) to (B, dim).

    Positions are fixed sines and cosines of the place along each axis, so that any sides that are
    multiples of `patch` will do.

    Args:
        width: numbers of a patch's vector and of the volume's; a multiple of 6 and of heads.
        depth: blocks.
        heads: of the attention.
        channels: of a volume, its first ones: the fourth axis of NIfTI.
        slices: of the grid that a volume is resampled to; a multiple of patch, as are its sides.
        rows: of a slice of the grid.
        columns: of a slice of the grid.
        patch: side of a patch, in voxels of the grid.
        spacing_mm: from voxel to voxel of the grid, which then shows the middle of a volume; all
            of it is shown, as large as it fits, where not given.
        low: the value that becomes 0, as smaller ones do; the volume's least where not given. Of
            CT in Hounsfield units, such as -175.
        high: the value that becomes 1, as larger ones do; the volume's greatest where not given.
        class_tokens: learned tokens beside the patches; the volume's vector then is their mean.
    Reference: Dosovitskiy et al. 2021, arXiv:2010.11929, with cubes as in Hatamizadeh et al. 2022,
        arXiv:2103.10504; average pooling and fixed positions as in Beyer et al. 2022,
        arXiv:2205.01580.
    Cost: about 12 x width^2 x depth multiplications a patch.
    """

    patches: Patches

    def __init__(
        self,
        *,
        width: Count = 96,
        depth: Annotated[int, Field(ge=1, le=64)] = 3,
        heads: Count = 3,
        channels: Count = 1,
        slices: Count = 32,
        rows: Count = 48,
        columns: Count = 48,
        patch: Count = 8,
        spacing_mm: Positive | None = None,
        low: float | None = None,
        high: float | None = None,
        class_tokens: Annotated[int, Field(ge=0, le=64)] = 0,
    ) -> None:
        name = "volume_transformer"
        if width % heads or width % 6:
            raise ConfigError(f"{name}: width {width} is no multiple of 6 and of heads, {heads}.")
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"{name}: low {low} is not below high {high}.")
        patches = Patches(channels, width, patch)
        patches.check((slices, rows, columns))
        super().__init__(width, depth, heads, class_tokens=class_tokens, patches=patches)
        self.codec = VolumeCodec(channels, slices, rows, columns, spacing_mm, low, high)

    @property
    def embed(self) -> Patches:
        """The linear map of patches."""
        return self.patches

    def grid(self, x_BCZYX: Tensor) -> tuple[int, int, int]:
        """Return the number of patches upwards, to the back and to the left.

        Raises:
            ConfigError: a side is not a multiple of `patch`.
        """
        return self.patches.check(x_BCZYX.shape[-3:])


class Patches(nn.Conv3d):
    """A linear map of each cube, slice by slice: (B, C, Z, Y, X) to (B, N, width)."""

    def __init__(self, channels: int, width: int, patch: int) -> None:
        super().__init__(channels, width, patch, stride=patch)
        self.patch = patch

    def check(self, sides: tuple[int, ...]) -> tuple[int, int, int]:
        """Return how many patches lie along each side.

        Raises:
            ConfigError: a side is not a multiple of the patch's.
        """
        if any(side % self.patch for side in sides):
            raise ConfigError(
                f"volume_transformer: patches of {self.patch} voxels do not tile a volume of "
                f"{' x '.join(map(str, sides))}: choose another grid or patch."
            )
        slices, rows, columns = (side // self.patch for side in sides)
        return slices, rows, columns

    def forward(self, x_BCZYX: Tensor) -> Tensor:
        """Return (B, N, width); values in [0, 1] are scaled to [-1, 1]."""
        self.check(x_BCZYX.shape[-3:])
        return super().forward(2 * x_BCZYX - 1).flatten(2).transpose(1, 2)
