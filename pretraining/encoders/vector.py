"""Vectors that notes already hold, in the place of an encoder."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from torch import Tensor, nn

from contracts.params import Count
from pretraining.objective import Column


class Vector(nn.Module):
    """Pass (B, dim) through: a frozen teacher whose vectors were computed once, for the pool.

    Such a teacher sees the record, not a view of it.

    Args:
        of: an expression over notes that gives a vector, such as `clip.image`.
        dim: its numbers; a recipe need not say it.
    Reference: the offline teacher of Beyer et al. 2022, arXiv:2106.05237, its "fixed teacher".
    Cost: none.
    """

    def __init__(self, *, of: Annotated[str, Field(min_length=1)], dim: Count) -> None:
        super().__init__()
        self.dim = dim
        self.codec = Column("vector").codec(of, dim)

    def forward(self, x_BD: Tensor) -> Tensor:
        """Return the vectors as they are."""
        return x_BD
