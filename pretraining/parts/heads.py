"""What objectives put on top of an encoder."""

from __future__ import annotations

from torch import Tensor, nn

from pretraining.objective import Encoder, TextEncoder


def mlp(dim: int, hidden: int, out: int) -> nn.Sequential:
    """Return a projector of two layers, batch-normalised between them."""
    return nn.Sequential(
        nn.Linear(dim, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(),
        nn.Linear(hidden, out),
    )


class Tower(nn.Module):
    """An encoder and the linear map from its output into a space shared with other towers.

    `tower.encoder` alone gives the features in front of the map, the better ones for a probe.
    """

    def __init__(self, encoder: Encoder, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.encoder = encoder
        self.projection = nn.Linear(encoder.dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim), not normalised."""
        projected_BD: Tensor = self.projection(self.encoder(x))
        return projected_BD


class TextTower(Tower):
    """A tower over texts; it has its encoder's tokens."""

    encoder: TextEncoder

    def tokenize(self, texts: list[str]) -> Tensor:
        """Return tokens_BN, int64."""
        return self.encoder.tokenize(texts)
