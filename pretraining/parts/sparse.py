"""A convolutional network on the places of a picture that are shown, as if there were no others.

keep_Bhw: bool, of the coarsest grid, true where a place is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from contracts.errors import ConfigError

_MIXING = (nn.Conv2d, nn.ConvTranspose2d, nn.MaxPool2d, nn.AvgPool2d)


def shown_stages(
    network: nn.Module,
    stages: Callable[[Tensor], list[Tensor]],
    images_BCHW: Tensor,
    keep_Bhw: Tensor | None,
) -> list[Tensor]:
    """Return the stages of images, zero where a place is hidden; all of them without `keep_Bhw`.

    Raises:
        ConfigError: as `hiding`.
    """
    if keep_Bhw is None:
        return stages(images_BCHW)
    with hiding(network, keep_Bhw):
        return [x * at_grid(keep_Bhw, x) for x in stages(images_BCHW)]


def at_grid(keep_Bhw: Tensor, x_BCHW: Tensor) -> Tensor:
    """Return bool (B, 1, H, W): which places of a grid as fine or finer are shown."""
    return F.interpolate(keep_Bhw[:, None].float(), x_BCHW.shape[-2:], mode="nearest").bool()


@contextmanager
def hiding(network: nn.Module, keep_Bhw: Tensor) -> Iterator[None]:
    """Let a network see nothing of the hidden places.

    Convolutions and pools find zeros there, batch norms are over the places that are shown. So a
    hidden place has no effect on one that is shown. What has no grid as fine as that of keep_Bhw,
    such as a mean over the picture, is left alone. Of several ranks each shows as many places.

    Reference: Tian et al. 2023, arXiv:2301.03580, section 3.1; by zeros in place of sparse kernels,
        as the authors compute it.

    Raises:
        ConfigError: the network has a norm over the places of an item, which would see the zeros.
    """
    places: dict[tuple[int, ...], Tensor] = {}
    sizes: dict[nn.Module, tuple[int, ...]] = {}

    def fine(x_BCHW: Tensor) -> bool:
        return x_BCHW.shape[-2] >= keep_Bhw.shape[-2]

    def shown(x_BCHW: Tensor) -> Tensor:
        """Return the numbers of the places of a grid that are shown, which is waited for once."""
        size = tuple(x_BCHW.shape[-2:])
        if size not in places:
            places[size] = at_grid(keep_Bhw, x_BCHW).flatten().nonzero()[:, 0]
        return places[size]

    def zeroed(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:  # noqa: ARG001
        x_BCHW, *rest = given
        return (x_BCHW * at_grid(keep_Bhw, x_BCHW), *rest) if fine(x_BCHW) else given

    def packed(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
        x_BCHW, *rest = given
        if not fine(x_BCHW):
            return given
        sizes[module] = x_BCHW.shape
        x_PC = x_BCHW.permute(0, 2, 3, 1).flatten(0, 2)  # P: places, here of all, then the shown
        x_PC = x_PC.index_select(0, shown(x_BCHW))
        return x_PC[:, :, None, None], *rest

    def laid(module: nn.Module, given: tuple[Any, ...], x_PC11: Tensor) -> Tensor:  # noqa: ARG001
        if module not in sizes:
            return x_PC11
        count, _, *size = sizes.pop(module)
        out_PC = x_PC11.new_zeros(count * size[0] * size[1], x_PC11.shape[1])
        out_PC = out_PC.index_copy(0, places[tuple(size)], x_PC11[:, :, 0, 0])
        return out_PC.view(count, *size, -1).permute(0, 3, 1, 2)

    handles = []
    try:
        for name, module in network.named_modules():
            if isinstance(module, nn.GroupNorm | _InstanceNorm):
                raise ConfigError(
                    f"{name} is a {type(module).__name__}, which is over hidden places too: choose "
                    "an encoder with batch norms."
                )
            if isinstance(module, _MIXING):
                handles.append(module.register_forward_pre_hook(zeroed))
            elif isinstance(module, _BatchNorm):
                handles.append(module.register_forward_pre_hook(packed))
                handles.append(module.register_forward_hook(laid))
        yield
    finally:
        for handle in handles:
            handle.remove()
