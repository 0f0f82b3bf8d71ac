"""What objectives put on top of an encoder."""

from __future__ import annotations

from torch import Tensor, nn

from pretraining.codecs import Codec
from pretraining.objective import Encoder


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

    @property
    def codec(self) -> Codec:
        """How a record becomes what the encoder reads."""
        return self.encoder.codec

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, dim), not normalised."""
        projected_BD: Tensor = self.projection(self.encoder(x))
        return projected_BD
