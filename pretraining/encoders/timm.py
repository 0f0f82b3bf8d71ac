"""Any image model of timm by its name, with fresh weights."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from contracts.errors import ConfigError, nearest
from contracts.params import Count
from pretraining.codecs import ImageCodec
from pretraining.parts.pixels import unit_pixels
from pretraining.parts.sparse import shown_stages


class Timm(nn.Module):
    """The model without its classifier: (B, 3, H, W) to (B, dim).

    Images are uint8, or float in [0, 1], and are normalised as timm does for the model. `stages`
    is there where the model has `forward_intermediates`: for each size of a place that it knows
    the last output, so a plain vision Transformer has one stage. Of hidden places a convolution
    sees zeros, as does an attention of what came in, and a mean over the picture counts them.
    Dropout is off unless the model's own default says otherwise; it then is drawn anew each step.

    Args:
        model: as `timm.list_models()` names it.
        side_px: the square that a picture is cut to.
    Reference: Wightman 2019, PyTorch Image Models, github.com/huggingface/pytorch-image-models.
    Cost: of the model.
    Raises:
        ConfigError: timm has no such model, or the model takes no picture of that side.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        *,
        model: Annotated[str, Field(min_length=1)] = "vit_tiny_patch16_224",
        side_px: Count = 64,
    ) -> None:
        super().__init__()
        from contracts import _torchvision  # noqa: F401  # isort: skip
        import timm

        if not timm.is_model(model):
            raise ConfigError(f"timm has no model {model}.{nearest(model, timm.list_models())}")
        self.model = _made(model, side_px)
        self.dim = int(self.model.head_hidden_size)
        self.codec = ImageCodec(side_px)
        for name, key in (("mean", "mean"), ("deviation", "std")):
            value_C11 = torch.tensor(self.model.pretrained_cfg[key]).view(-1, 1, 1)
            self.register_buffer(name, value_C11, persistent=False)
        # Of the outputs with places of one size the last.
        last = {of["reduction"]: i for i, of in enumerate(getattr(self.model, "feature_info", []))}
        self.strides, self._indices = tuple(sorted(last)), [last[size] for size in sorted(last)]
        if self.model.pretrained_cfg["fixed_input_size"] and side_px % max(self.strides, default=1):
            raise ConfigError(
                f"timm: {model} takes no picture of {side_px} px, which is no multiple of "
                f"{self.strides[-1]}."
            )
        self.widths = tuple(self.model.feature_info[i]["num_chs"] for i in self._indices)

    def forward(self, images_BCHW: Tensor) -> Tensor:
        """Return (B, dim), what the model hands to its classifier."""
        found: Tensor = self.model(self._normalized(images_BCHW))
        return found

    @property
    def stages(self) -> Any:
        """The function from images, and `keep`, to the outputs, as `PyramidEncoder` says."""
        if not hasattr(self.model, "forward_intermediates"):
            raise AttributeError("stages")
        return self._shown

    def _shown(self, images_BCHW: Tensor, keep: Tensor | None = None) -> list[Tensor]:
        return shown_stages(self.model, self._stages, images_BCHW, keep)

    def _stages(self, images_BCHW: Tensor) -> list[Tensor]:
        found: list[Tensor] = self.model.forward_intermediates(
            self._normalized(images_BCHW),
            indices=self._indices,
            intermediates_only=True,
            output_fmt="NCHW",
        )
        return found

    def _normalized(self, images_BCHW: Tensor) -> Tensor:
        return (unit_pixels(images_BCHW) - self.mean) / self.deviation


def _made(model: str, side_px: int) -> Any:
    """Return a model for pictures of a side, and of others too where it can."""
    import timm

    config = timm.get_pretrained_cfg(model)
    fixed = config is not None and config.fixed_input_size
    sized: list[dict[str, Any]] = [
        {"img_size": side_px, "dynamic_img_size": True},
        {"img_size": side_px},
    ]
    for given in sized if fixed else [{}]:
        try:
            return timm.create_model(model, num_classes=0, **given)
        except TypeError:
            continue  # It has no such parameter.
    raise ConfigError(f"timm: {model} takes pictures of its own size alone.")
