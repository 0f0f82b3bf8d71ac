"""Several scores as axes that do not correlate: their principal components."""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from curation.annotate.quantile import NUMBERS
from curation.step import Parameters, Role, poolwise

Floats = NDArray[np.float64]

SMALLEST = 1e-9
"""Variance below which an axis is rounding error: the scores before it say all."""


def read(parameters: Parameters) -> dict[str, Role]:
    """Return the roles, one a score."""
    return {f"score_{n}": Role(NUMBERS) for n in range(1, parameters["scores"] + 1)}


def written(parameters: Parameters) -> dict[str, Any]:
    """Return the columns, one an axis."""
    return {f"component_{n}": pl.Float32 for n in range(1, parameters["scores"] + 1)}


@poolwise(version=1, reads=read, writes=written)
def decorrelate(
    rows: pl.DataFrame, *, scores: Annotated[int, Field(ge=2, le=32)] = 2
) -> pl.DataFrame:
    """Turn scores into principal components, to rank by each axis instead of by the same thing.

    component_k = z . v_k / sqrt(l_k), of the scores z in standard deviations from their means and
    the k-th largest eigenvalue l_k, with its vector v_k, of their correlations. So each has mean 0
    and standard deviation 1, and no two correlate; the first is what the scores share, the others
    what tells them apart. The weights in v_k sum to more than 0, or, where they sum to 0, the first
    is above it.

    Reads:
        score_1: one score.
        score_2: another one, and so on, as many as `scores` says.
    Args:
        scores: how many there are.
    Reference: Jolliffe 2002, Principal Component Analysis, chapter 2; before ranking: ODiS, 2025,
        arXiv:2510.18909.
    Writes:
        component_1: in standard deviations; null where any score is null or not finite.
        component_2: likewise, and so on; null everywhere where the scores leave no such axis, as
            when one is constant or follows from others.
    Cost: 8 bytes a record and score, three times; scores ** 2 multiplications a record.
    """
    names = [f"score_{n}" for n in range(1, scores + 1)]
    values = rows.select(pl.col(names).cast(pl.Float64).fill_nan(None))
    x = np.column_stack([values[name].fill_null(np.nan).to_numpy() for name in names])
    known = np.isfinite(x).all(axis=1)
    found = np.full(x.shape, np.nan)
    if known.any():
        z = _in_deviations(x[known])
        for k, (size, axis) in enumerate(_axes(z)):
            found[known, k] = _along(z, axis) / np.sqrt(size)
    columns = {f"component_{k + 1}": pl.Series(found[:, k]).fill_nan(None) for k in range(scores)}
    return pl.DataFrame(columns).cast(pl.Float32)


def _in_deviations(x: Floats) -> Floats:
    """Return each column less its mean, over its standard deviation; 0 where it is constant."""
    gap = x - x.mean(axis=0)
    spread = np.sqrt((gap**2).mean(axis=0))
    constant = spread <= SMALLEST * np.abs(x).max(axis=0)
    z: Floats = np.where(constant, 0.0, gap / np.where(constant, 1.0, spread))
    return z


def _axes(z: Floats) -> list[tuple[float, Floats]]:
    """Return the eigenvalues of the correlations above rounding, descending, with their vectors."""
    # Means of NumPy in the order of rows: a product of matrices depends on the threads.
    correlations = np.array([[(a * b).mean() for a in z.T] for b in z.T])
    sizes, vectors = np.linalg.eigh(correlations)
    axes = []
    for size, vector in zip(sizes[::-1], vectors.T[::-1], strict=True):
        total, first = vector.sum(), vector[np.abs(vector) > SMALLEST][0]
        sign = np.sign(total if abs(total) > SMALLEST else first)
        axes.append((float(size), sign * vector))
    return [(size, axis) for size, axis in axes if size > SMALLEST]


def _along(z: Floats, axis: Floats) -> Floats:
    total: Floats = sum((z[:, n] * weight for n, weight in enumerate(axis)), np.zeros(len(z)))
    return total
