"""Measure how many directions the vectors use, without labels: their effective rank."""

from __future__ import annotations

import numpy as np

from contracts.report import Metric
from evaluation.features import finite
from evaluation.interval import by_influence
from evaluation.protocol import Vectors, protocol


@protocol({"rank": True})
def rankme(vector_ND: Vectors) -> dict[str, Metric]:
    """Measure the effective rank of a set of vectors.

    With the singular values s of the matrix of vectors and p = s / sum(s), it is
    exp(-sum(p log p)): D where all directions are used alike, 1 where all vectors lie on one line.
    The paper adds 1e-7 to each p, which keeps its logarithm finite; here 0 log 0 is 0.

    A low rank says that an encoder has collapsed. A high one alone says little: noise has the
    highest. Few vectors show few directions: of vectors drawn from all directions alike it is
    98.5 % of D where there are 10 D of them, 93 % with 2 D, and never more than their number.

    Reference: Garrido et al. 2023, RankMe, arXiv:2210.02885, after Roy and Vetterli 2007, The
        effective rank, EUSIPCO.
    Args:
        vector_ND: as the encoder gives them, neither centred nor scaled.
    Returns:
        rank: from 1 to D; 0 where every vector is zero. Its interval is over other records, by
            the infinitesimal jackknife.
    Cost: one singular value decomposition, O(N * D^2) time, 32 bytes a number.
    Raises:
        DataError: when the vectors are no matrix, none, or not finite.
    """
    x_ND = finite(vector_ND, "rankme").astype(np.float64)
    u_NK, s_K, _ = np.linalg.svd(x_ND, full_matrices=False)
    total = s_K.sum()
    if not total:
        return {"rank": Metric(0.0, len(x_ND), 0.0, 0.0)}
    p_K = s_K / total
    log_p_K = np.log(p_K, out=np.zeros_like(p_K), where=p_K > 0)
    entropy = -(p_K @ log_p_K)
    rank = float(np.exp(entropy))
    # A row's weight moves s_k by s_k u_k^2 / 2, and s_k moves the entropy by -(log p_k + H) / sum.
    moves_N = np.square(u_NK) @ (-p_K * (log_p_K + entropy) / 2)
    return {"rank": by_influence(rank, len(x_ND) * rank * moves_N)}
