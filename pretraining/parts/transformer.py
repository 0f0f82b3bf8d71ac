"""The Transformer under encoders of tokens: a block, the trunk of blocks, fixed positions.

E: width of a head. T: all tokens, class tokens first.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contracts.tokens import PADDING


class Block(nn.Module):
    """Self-attention, then a two-layer perceptron, each normalised before and added after.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3; the norm first as in
        Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.perceptron_norm = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x_BND: Tensor, attend: Tensor | None = None) -> Tensor:
        """Return (B, N, D).

        Args:
            x_BND: the tokens.
            attend: bool, broadcast to (B, N, N): the query (second axis) may look at the key.
                One that may look at nothing gets zeros from the attention.
        """
        batch, tokens, width = x_BND.shape
        split = (batch, tokens, 3, self.heads, width // self.heads)
        projected = self.query_key_value(self.attention_norm(x_BND)).view(split)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (B, heads, N, E) each
        mask = None if attend is None else attend[..., None, :, :]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x_BND = x_BND + self.attended(mixed.transpose(1, 2).reshape(x_BND.shape))
        thought_BND: Tensor = self.perceptron(self.perceptron_norm(x_BND))
        return x_BND + thought_BND


class Trunk(nn.Module):
    """The base of encoders over tokens: what lies below the blocks, the blocks, a norm.

    An encoder's file adds `embed` and `grid`, `positions_of` where positions are not fixed, and
    `present` where it pads. What lies below the blocks it hands over by the names of its weights;
    they are `stem`, which `layer_decay` asks for.

    Args:
        width: of a token; it is `dim`.
        depth: blocks.
        heads: of the attention; they divide the width.
        class_tokens: learned tokens in front of the others. The vector of an item is their mean,
            or, without them, that of the others.
        below: modules and parameters, made in this order before the blocks.
    """

    def __init__(
        self,
        width: int,
        depth: int,
        heads: int,
        *,
        class_tokens: int = 0,
        **below: nn.Module | nn.Parameter,
    ) -> None:
        super().__init__()
        self.dim = width
        self.class_tokens = class_tokens
        self.stem = (*below, "class_token")
        for name, part in below.items():
            setattr(self, name, part)
        if class_tokens:
            fresh = torch.empty(class_tokens, width).uniform_(-0.035, 0.035)
            self.class_token = nn.Parameter(fresh)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    @property
    def embed(self) -> nn.Module:
        """The module from x to (B, N, dim), before positions; of texts its `weight` is a table."""
        raise NotImplementedError

    def grid(self, x: Tensor) -> tuple[int, ...]:
        """Return the number of tokens along each axis of x; their product is N."""
        raise NotImplementedError

    def positions_of(self, x: Tensor) -> Tensor:
        """Return what is added to the tokens, (N, dim)."""
        return grid_positions(self.grid(x), self.dim, x.device)

    def present(self, x: Tensor) -> Tensor | None:  # noqa: ARG002
        """Return bool (B, N), false where a token is padding; None where none is."""
        return None

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim)."""
        return self.pool(self.tokens(x), x)

    def tokens(
        self,
        x: Tensor,
        keep: Tensor | None = None,
        replace: tuple[Tensor, Tensor] | None = None,
        attend: Tensor | None = None,
        positions: bool = True,
        layers: tuple[int, ...] = (),
    ) -> Tensor:
        """Return the tokens after the last block and the norm, (B, class_tokens + N, dim).

        `replace` and `attend` speak of all N, before `keep`. Every token looks at the class
        tokens, and these at whatever any token may look at: so what `attend` keeps from one
        token may still reach it through them.

        Args:
            x: items as `embed` takes them.
            keep: int64 (B, K): only these of the N tokens run, in this order; K takes N's place.
            replace: bool (B, N), and vectors that expand to (B, N, dim): the vectors stand for
                the embeddings where it is true.
            attend: bool, expands to (B, N, N): the query (second axis) may look at the key.
                Padding is never looked at.
            positions: false leaves them out.
            layers: blocks, counted from 0; the tokens after these, without the norm, are returned
                instead: (L, B, class_tokens + N, dim).
        """
        x_BTD = self.embed(x)
        if replace is not None:
            chosen_BN, vectors = replace
            x_BTD = torch.where(chosen_BN[:, :, None], vectors, x_BTD)
        if positions:
            x_BTD = x_BTD + self.positions_of(x)
        attend = self._attend(x, attend, x_BTD.shape[1])
        if self.class_tokens:
            x_BTD = torch.cat([self.class_token.expand(len(x_BTD), -1, -1), x_BTD], dim=1)
        if keep is not None:
            front = torch.arange(self.class_tokens, device=keep.device).expand(len(keep), -1)
            kept_BT = torch.cat([front, keep + self.class_tokens], dim=1)
            if attend is not None:
                attend = attend.expand(len(keep), x_BTD.shape[1], -1)
                attend = attend.take_along_dim(kept_BT[:, :, None], 1)
                attend = attend.take_along_dim(kept_BT[:, None, :], 2)
            x_BTD = x_BTD.take_along_dim(kept_BT[:, :, None], 1)
        after = []
        for block in self.blocks:
            x_BTD = block(x_BTD, attend)
            if layers:
                after.append(x_BTD)
        if layers:
            return torch.stack([after[layer] for layer in layers])
        normed_BTD: Tensor = self.norm(x_BTD)
        return normed_BTD

    def pool(self, tokens_BTD: Tensor, x: Tensor) -> Tensor:
        """Return (B, dim), the mean of the class tokens, or of all tokens but padding.

        Args:
            tokens_BTD: as `tokens` returns them.
            x: the items; where they have padding and some tokens were kept, x.gather(1, keep).
        """
        if self.class_tokens:
            return tokens_BTD[:, : self.class_tokens].mean(1)
        present_BN = self.present(x)
        if present_BN is None:
            return tokens_BTD.mean(1)
        weight_BN1 = present_BN[:, :, None].to(tokens_BTD.dtype)
        return (tokens_BTD * weight_BN1).sum(1) / weight_BN1.sum(1)

    def _attend(self, x: Tensor, attend: Tensor | None, number: int) -> Tensor | None:
        """Return who may look at whom, padding and class tokens included, for `Block`."""
        present_BN = self.present(x)
        if attend is not None:
            attend = attend.expand(len(x), number, number)
        if present_BN is not None:
            attend = present_BN[:, None] if attend is None else attend & present_BN[:, None]
        if attend is None or not self.class_tokens:
            return attend
        attend = attend.expand(-1, number, -1)
        first = attend.any(1, keepdim=True).expand(-1, self.class_tokens, -1)
        return F.pad(torch.cat([first, attend], dim=1), (self.class_tokens, 0), value=True)


class TextTrunk(Trunk):
    """The trunk under encoders of texts: int64 (B, N), padded, with learned positions.

    Attributes:
        position: (N, dim).
    """

    position: nn.Parameter

    def grid(self, tokens_BN: Tensor) -> tuple[int]:
        """Return N."""
        return (tokens_BN.shape[1],)

    def positions_of(self, tokens_BN: Tensor) -> Tensor:  # noqa: ARG002
        """Return the learned positions, (N, dim)."""
        return self.position

    def present(self, tokens_BN: Tensor) -> Tensor:
        """Return which tokens are not padding."""
        return tokens_BN != PADDING


def grid_positions(grid: tuple[int, ...], width: int, device: torch.device) -> Tensor:
    """Return (N, width) for the cells of a grid, the last axis fastest.

    Each axis has an equal share of the width, an even number, for the sines and cosines of the
    place along it.
    """
    share = width // len(grid)
    codes = []
    for axis, length in enumerate(grid):
        shape = [1] * len(grid)
        shape[axis] = length
        code = sine_cosine(torch.arange(length, device=device), share)
        codes.append(code.view(*shape, share).expand(*grid, share))
    return torch.cat(codes, dim=-1).flatten(0, -2)


def sine_cosine(positions_N: Tensor, width: int) -> Tensor:
    """Return (N, width): sines, then cosines, of width / 2 frequencies from 1 down to 1/10,000.

    Reference: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.
    """
    half = width // 2
    frequencies = 10_000.0 ** -(torch.arange(half, device=positions_N.device) / half)
    angles = positions_N[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)
