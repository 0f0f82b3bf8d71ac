"""Batch norms over the batch as a whole, where several processes have rows of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from contracts.errors import ConfigError
from pretraining import ranks
from pretraining.parts.gather import mean_over_ranks


class _OverRanks(_BatchNorm):
    """Mean and variance are those of the rows of all ranks; on one process torch's own module.

    torch's SyncBatchNorm does the same, but not on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or ranks.count() == 1:
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            wide, axes = x.float(), [axis for axis in range(x.ndim) if axis != 1]
            shape = (1, -1, *([1] * (x.ndim - 2)))
            mean_D = mean_over_ranks(wide.mean(axes))
            centred = wide - mean_D.view(shape)
            variance_D = mean_over_ranks(centred.square().mean(axes))
            rows = wide.numel() // len(mean_D) * ranks.count()
            self._remember(mean_D, variance_D * rows / (rows - 1))
            scale_D = (variance_D + self.eps).rsqrt()
            if not self.affine:
                return (centred * scale_D.view(shape)).to(x.dtype)
            scale_D = self.weight * scale_D
            return (centred * scale_D.view(shape) + self.bias.view(shape)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean_D: Tensor, unbiased_D: Tensor) -> None:
        """Move the running statistics."""
        assert self.momentum is not None
        self.get_buffer("num_batches_tracked").add_(1)
        self.get_buffer("running_mean").lerp_(mean_D, self.momentum)
        self.get_buffer("running_var").lerp_(unbiased_D, self.momentum)


class _BatchNorm1d(_OverRanks, nn.BatchNorm1d):
    pass


class _BatchNorm2d(_OverRanks, nn.BatchNorm2d):
    pass


class _BatchNorm3d(_OverRanks, nn.BatchNorm3d):
    pass


_OURS: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: _BatchNorm1d,
    nn.BatchNorm2d: _BatchNorm2d,
    nn.BatchNorm3d: _BatchNorm3d,
}


def spread_batch_norms(module: nn.Module) -> None:
    """Let every batch norm of torch within a module see the rows of all ranks.

    They stay the same modules, with the same weights under the same names.

    Raises:
        ConfigError: a batch norm is of another class, which would see the rows of one rank.
    """
    for name, inner in module.named_modules():
        if type(inner) in _OURS:
            inner.__class__ = _OURS[type(inner)]
        elif isinstance(inner, _BatchNorm) and not isinstance(inner, _OverRanks):
            raise ConfigError(
                f"{name} is a {type(inner).__name__}, which sees the rows of one rank only: train "
                "it by one process."
            )
