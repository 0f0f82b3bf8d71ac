"""What objectives put on top of an encoder."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


class PrototypeHead(nn.Module):
    """The cosines of a projected vector with learned prototypes: (B, dim) to (B, prototypes).

    Three layers, a vector of length 1, and a linear map whose rows have length 1 as well.

    Args:
        dim: of the vectors.
        prototypes: numbers of the result.
        hidden: width of the layers.
        bottleneck: numbers of a prototype.
    Reference: Caron et al. 2021, arXiv:2104.14294, section 3.2 and appendix C.
    """

    def __init__(
        self, dim: int, prototypes: int, *, hidden: int, bottleneck: int, batch_norm: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for wide in (dim, hidden):
            norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
            layers += [nn.Linear(wide, hidden, bias=not batch_norm), *norm, nn.GELU()]
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        self.prototypes = nn.Parameter(torch.empty(prototypes, bottleneck).uniform_(-1, 1))

    def forward(self, x_BD: Tensor) -> Tensor:
        """Return the cosines."""
        projected_BP = self.layers(x_BD)
        with torch.autocast(x_BD.device.type, enabled=False):
            unit_BP = F.normalize(projected_BP.float(), dim=1)
            return unit_BP @ F.normalize(self.prototypes, dim=1).T


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
