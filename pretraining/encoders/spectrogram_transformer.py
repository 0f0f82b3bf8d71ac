"""A small Transformer over patches of a log-mel spectrogram: AST, with fixed positions."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError
from contracts.params import Count, Positive
from pretraining.parts.spectrogram import SpectrogramCodec
from pretraining.parts.transformer import Trunk


class SpectrogramTransformer(Trunk):
    """Embed patches of a spectrogram, mix them in blocks, average them: (B, 1, M, F) to (B, dim).

    Args:
        width: numbers of a patch's vector and of the clip's; a multiple of 4 and of heads.
        depth: blocks.
        heads: of the attention.
        mels: bands of the spectrogram; SSAST has 128.
        frames: of 10 ms; a longer clip is cut, a shorter one filled up; SSAST has 1024.
        patch_mels: bands of a patch; with all of them patches are frames.
        patch_frames: frames of a patch.
        sample_rate: to which clips are resampled, in Hz.
        mean: of the values of the spectrograms; AudioSet's, by which SSAST was trained.
        deviation: their standard deviation; likewise.
        class_tokens: learned tokens beside the patches; the clip's vector then is their mean.
    Reference: Gong et al. 2021, arXiv:2104.01778, without overlap of patches; average pooling and
        fixed positions as in Beyer et al. 2022, arXiv:2205.01580.
    Cost: about 12 x width^2 x depth multiplications a patch.
    """

    patches: Patches

    def __init__(
        self,
        *,
        width: Count = 96,
        depth: Annotated[int, Field(ge=1, le=64)] = 4,
        heads: Count = 4,
        mels: Count = 64,
        frames: Count = 128,
        patch_mels: Count = 8,
        patch_frames: Count = 8,
        sample_rate: Annotated[int, Field(ge=1000, le=768_000)] = 16_000,
        mean: float = -4.2677393,
        deviation: Positive = 4.5689974,
        class_tokens: Annotated[int, Field(ge=0, le=64)] = 0,
    ) -> None:
        name = "spectrogram_transformer"
        if width % heads or width % 4:
            raise ConfigError(f"{name}: width {width} is no multiple of 4 and of heads, {heads}.")
        if mels % patch_mels or frames % patch_frames:
            raise ConfigError(
                f"{name}: patches of {patch_mels} x {patch_frames} do not tile a spectrogram of "
                f"{mels} x {frames}."
            )
        patches = Patches(width, (patch_mels, patch_frames))
        super().__init__(width, depth, heads, class_tokens=class_tokens, patches=patches)
        self.codec = SpectrogramCodec(sample_rate, mels, frames, mean, deviation)

    @property
    def embed(self) -> Patches:
        """The linear map of patches."""
        return self.patches

    def grid(self, x_B1MF: Tensor) -> tuple[int, int]:
        """Return the number of patches over the bands and over time."""
        mels, frames = self.patches.stride
        return x_B1MF.shape[-2] // mels, x_B1MF.shape[-1] // frames


class Patches(nn.Conv2d):
    """A linear map of each patch, band by band: (B, 1, M, F) to (B, N, width)."""

    def __init__(self, width: int, patch: tuple[int, int]) -> None:
        super().__init__(1, width, patch, stride=patch)

    def forward(self, x_B1MF: Tensor) -> Tensor:
        """Return (B, N, width)."""
        return super().forward(x_B1MF).flatten(2).transpose(1, 2)
