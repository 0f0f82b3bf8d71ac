"""Both towers of a CLIP model of open_clip, by pretrained tag or from local safetensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import polars as pl
import torch
from torch import Tensor

from contracts import decode
from contracts.errors import ConfigError, nearest
from embeddings._inference import (
    encode_images,
    encode_texts,
    find_device,
    fingerprint_of,
    numerics_of,
)
from embeddings.encoder import Pixels, unit_column

_WEIGHTS, _CONFIG = "open_clip_model.safetensors", "open_clip_config.json"
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


class OpenClip:
    """Image and text vectors in one space: the cosine of two says how well they fit.

    Pictures are resized, cropped and normalised exactly as open_clip's own evaluation does for
    the weights at hand; texts are tokenised to the model's one context length.

    Reads:
        image: what the image tower encodes.
        text: what the text tower encodes.
    Reference: Radford et al. 2021, arXiv:2103.00020; Cherti et al. 2023, arXiv:2212.07143
        (open_clip).
    Writes:
        image: unit norm; null where the image is null, absent or not decodable.
        text: unit norm; null where the text is null or absent.
    Cost: of the model; ViT-B-32 takes 4.4 GFLOP a picture and 2.9 a text.
    Raises:
        ConfigError: when model or weights are unknown, not on this machine, or no safetensors.
    """

    version = 1
    reads = MappingProxyType({"image": "image", "text": "text"})

    def __init__(
        self,
        device: str | None = None,
        *,
        model: str = "ViT-B-32",
        pretrained: str | None = None,
        precision: Literal["auto", "float32", "float16", "bfloat16"] = "auto",
    ) -> None:
        """Load the model.

        Args:
            device: found by itself where None.
            model: a name that open_clip knows, or a folder with `open_clip_config.json` and
                `open_clip_model.safetensors`, as open_clip's `push_to_hf_hub` writes.
            pretrained: for a name: a tag whose weights are in the local Hugging Face cache, or a
                `.safetensors` file.
            precision: of the arithmetic; auto takes float16 on CUDA, float32 elsewhere.
        """
        from contracts import _torchvision  # noqa: F401  # isort: skip
        from open_clip import get_tokenizer
        from open_clip.transform import PreprocessCfg, image_transform_v2

        self._device = find_device(device)
        auto = "float16" if self._device.type == "cuda" else "float32"
        self._dtype = _DTYPES[auto if precision == "auto" else precision]
        name, self._model = _load(model, pretrained)
        settings = self._model.visual.preprocess_cfg
        # The geometry alone: the last three turn a picture to RGB, to a tensor, and normalise it.
        self._geometry = image_transform_v2(PreprocessCfg(**settings), is_train=False)
        self._geometry.transforms = self._geometry.transforms[:-3]
        self._tokenizer = get_tokenizer(name)
        self.fingerprint = fingerprint_of(
            {
                "preprocess": settings,
                "context_length": self._tokenizer.context_length,
                "tokenizer": type(self._tokenizer).__name__,
                "version": self.version,
            },
            self._model.state_dict(),
        )
        self.numerics = numerics_of(self._device, self._dtype)
        self._dimension = int(self._model.visual.output_dim)
        self.writes = MappingProxyType({"image": self._dimension, "text": self._dimension})
        self._mean, self._std = (
            torch.tensor(settings[key], device=self._device)[:, None, None]
            for key in ("mean", "std")
        )
        self._model.eval().to(self._device)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `image` and `text` for the columns of these names; either may be absent."""
        absent = unit_column(rows.height, self._dimension, [])
        run: dict[str, Any] = {
            "dimension": self._dimension,
            "device": self._device,
            "dtype": self._dtype,
        }
        image = text = absent
        if "image" in rows.columns:
            image = encode_images(rows["image"], self.prepare, self.forward_image, **run)
        if "text" in rows.columns:
            # All texts have the model's one context length, so there is nothing to pad.
            text = encode_texts(rows["text"], self.tokens, self.forward_text, **run, multiple=1)
        return pl.DataFrame({"image": image, "text": text})

    def prepare(self, data: bytes) -> Pixels:
        """Decode, resize and crop one picture to the model's input size."""
        from PIL import Image

        return np.asarray(self._geometry(Image.fromarray(decode.image(data))))

    def forward_image(self, pixels_BCHW: Tensor) -> Tensor:
        """Return the vectors (B, D) of pixels in 0..255."""
        x_BCHW = (pixels_BCHW.float() / 255 - self._mean) / self._std
        vectors_BD: Tensor = self._model.encode_image(x_BCHW)
        return vectors_BD

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the token numbers of each text, all of the context's length."""
        numbers: list[list[int]] = self._tokenizer(texts).tolist() if texts else []
        return numbers

    def forward_text(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the vectors (B, D) of token numbers; the model finds the end by itself."""
        del mask_BL
        vectors_BD: Tensor = self._model.encode_text(ids_BL)
        return vectors_BD


def _load(model: str, pretrained: str | None) -> tuple[str, Any]:
    """Return the name under which open_clip knows the model, and the model on the CPU."""
    from open_clip import create_model, get_pretrained_cfg, list_models

    folder = Path(model)
    if folder.is_dir():
        for file in (_CONFIG, _WEIGHTS):
            if not (folder / file).is_file():
                raise ConfigError(f"open_clip: {folder} holds no {file}.")
        return f"local-dir:{folder}", create_model(f"local-dir:{folder}")
    if model not in list_models():
        raise ConfigError(
            f"open_clip has no model {model!r}, nor is it a folder.{nearest(model, list_models())}"
        )
    if pretrained is None:
        raise ConfigError(f"open_clip: {model} needs pretrained, a tag or a .safetensors file.")
    settings: Mapping[str, Any] = get_pretrained_cfg(model, pretrained)
    weights = _cached(model, pretrained, settings) if settings else _file(model, pretrained)
    return model, create_model(
        model,
        pretrained=str(weights),
        # OpenAI's weights and a few others were trained with a faster GELU than the name implies.
        force_quick_gelu=bool(settings.get("quick_gelu")),
        force_preprocess_cfg=dict(settings),
    )


def _file(model: str, pretrained: str) -> Path:
    from open_clip import list_pretrained_tags_by_model

    path = Path(pretrained)
    if not path.is_file():
        raise ConfigError(
            f"open_clip: {pretrained} is neither a file nor a tag of {model}."
            + nearest(pretrained, list_pretrained_tags_by_model(model))
        )
    if path.suffix != ".safetensors":
        raise ConfigError(
            f"open_clip: {path} is no .safetensors file, and pickled weights can run code. Convert "
            "it once where you trust it: safetensors.torch.save_file(torch.load(path, "
            'weights_only=True)["state_dict"], "weights.safetensors").'
        )
    return path


def _cached(model: str, tag: str, settings: Mapping[str, Any]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    repository = str(settings.get("hf_hub", "")).strip("/")
    try:
        return Path(hf_hub_download(repository, _WEIGHTS, local_files_only=True))
    except (LocalEntryNotFoundError, ValueError) as error:
        raise ConfigError(
            f"open_clip: the weights of {model} {tag} are not on this machine, and nothing is "
            f"downloaded unasked. Run: hf download {repository} {_WEIGHTS}"
        ) from error
