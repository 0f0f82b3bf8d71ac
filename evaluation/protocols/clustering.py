"""Compare clusters of vectors, found without labels, with the labels: NMI and ARI."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from contracts.report import Metric
from evaluation.features import finite, ordered, unit
from evaluation.interval import by_influence
from evaluation.protocol import Labels, Vectors, protocol

Matrix = NDArray[np.float64]
Numbers = NDArray[np.intp]

_ITERATIONS = 100
_BLOCK = 4096


@protocol({"nmi": True, "ari": True})
def clustering(
    vector_ND: Vectors, label_N: Labels, *, starts: Count = 5, seed: Seed = 0
) -> dict[str, Metric]:
    """Score how well k-means of unit vectors finds the labels, k being their number.

    Of several starts by k-means++ the clusters with the least sum of squared distances are taken.
    The length of vectors has no effect, nor has the order of rows beyond rounding.

    Reference: Strehl and Ghosh 2002, Cluster ensembles, JMLR 3 (NMI); Hubert and Arabie 1985,
        Comparing partitions (ARI); Arthur and Vassilvitskii 2007, k-means++; as a protocol of
        vectors: Muennighoff et al. 2022, MTEB, arXiv:2210.07316 (clustering).
    Args:
        vector_ND: of every record that has a label.
        label_N: of each of them.
        starts: of k-means.
        seed: of the starts.
    Returns:
        nmi: mutual information of clusters and labels, divided by the mean of their entropies;
            from 0 to 1. Many clusters of few records have much of it by chance.
        ari: the share of pairs on which the two agree, above chance: 0 by chance, 1 when equal.
        The intervals are over other records, by the infinitesimal jackknife, the clusters being
        given: what another k-means would find is not in them.
    Cost: O(starts * iterations * N * k * D) time, 100 iterations at most; 20 bytes a number.
    Raises:
        DataError: when the lengths differ, or there is one label, or one a record.
    """
    x_ND = unit(finite(vector_ND, "clustering")).astype(np.float64)
    label_N = np.unique(np.asarray(label_N), return_inverse=True)[1]
    if len(label_N) != len(x_ND):
        raise DataError(f"clustering: {len(x_ND)} vectors, but {len(label_N)} labels.")
    k = label_N.max() + 1
    if not 1 < k < len(x_ND):
        raise DataError(
            f"clustering: {len(x_ND)} records have {k} different labels; needed are two or more, "
            "some of them of several records. Choose another label."
        )
    order = ordered(x_ND, np.zeros(len(x_ND), dtype=np.intp), seed)
    return agreement(kmeans(x_ND[order], k, starts=starts, seed=seed), label_N[order])


def kmeans(x_ND: Matrix, k: int, *, starts: int, seed: int) -> Numbers:
    """Return the cluster of each row, of the start with the least sum of squared distances."""
    rng = np.random.default_rng(seed)
    found = [_lloyd(x_ND, _spread(x_ND, k, rng)) for _ in range(starts)]
    return min(found, key=lambda one: one[0])[1]


def _spread(x_ND: Matrix, k: int, rng: np.random.Generator) -> Matrix:
    """Return k rows, each drawn with a probability as its squared distance to those before it."""
    centre_KD = np.empty((k, x_ND.shape[1]))
    square_N = np.square(x_ND).sum(axis=1)
    weight_N, distance_N = np.ones(len(x_ND)), np.full(len(x_ND), np.inf)
    for i in range(k):
        reached_N = np.cumsum(weight_N)
        row = np.searchsorted(reached_N, rng.random() * reached_N[-1], side="right")
        row = min(row, len(x_ND) - 1)
        centre_KD[i] = x_ND[row]
        to_it_N = square_N + square_N[row] - 2 * x_ND @ x_ND[row]
        weight_N = distance_N = np.minimum(distance_N, to_it_N.clip(min=0))
    return centre_KD


def _lloyd(x_ND: Matrix, centre_KD: Matrix) -> tuple[float, Numbers]:
    """Move centres until no row changes its cluster; one without rows stays where it is."""
    from scipy.sparse import csr_array

    rows = np.arange(len(x_ND))
    objective, cluster_N = _nearest(x_ND, centre_KD)
    for _ in range(_ITERATIONS):
        size_K = np.bincount(cluster_N, minlength=len(centre_KD))
        member_KN = csr_array((np.ones(len(rows)), (cluster_N, rows)), (len(centre_KD), len(rows)))
        used = size_K > 0
        centre_KD[used] = (member_KN @ x_ND)[used] / size_K[used, None]
        objective, moved_N = _nearest(x_ND, centre_KD)
        if (moved_N == cluster_N).all():
            break
        cluster_N = moved_N
    return objective, cluster_N


def _nearest(x_ND: Matrix, centre_KD: Matrix) -> tuple[float, Numbers]:
    """Return the sum of squared distances to the nearest centres, and which these are."""
    total, clusters = np.square(x_ND).sum(), []
    for start in range(0, len(x_ND), _BLOCK):
        distance_BK = (
            np.square(centre_KD).sum(axis=1) - 2 * x_ND[start : start + _BLOCK] @ centre_KD.T
        )
        clusters.append(distance_BK.argmin(axis=1))
        total += distance_BK.min(axis=1).sum()
    return float(total), np.concatenate(clusters)


def agreement(cluster_N: ArrayLike, label_N: ArrayLike) -> dict[str, Metric]:
    """Return NMI and ARI of two partitions, of which the second has some pair, but not all."""
    _, cluster = np.unique(np.asarray(cluster_N), return_inverse=True)
    _, label = np.unique(np.asarray(label_N), return_inverse=True)
    _, both = np.unique(cluster * (label.max() + 1) + label, return_inverse=True)
    # Of each record how many share its cluster, its label, and both.
    c_N, l_N, b_N = (np.bincount(part)[part] for part in (cluster, label, both))
    return {"nmi": _nmi(c_N, l_N, b_N), "ari": _ari(c_N, l_N, b_N)}


def _nmi(c_N: Numbers, l_N: Numbers, b_N: Numbers) -> Metric:
    n = len(c_N)
    information_N = np.log(n * b_N / (c_N * l_N))
    entropy_N = -np.log(c_N / n * l_N / n) / 2
    nmi = information_N.mean() / entropy_N.mean()
    return by_influence(float(nmi), (information_N - nmi * entropy_N) / entropy_N.mean())


def _ari(c_N: Numbers, l_N: Numbers, b_N: Numbers) -> Metric:
    # The share of pairs that are together is the mean over records of their share of the others.
    others = len(c_N) - 1
    in_cluster, in_label, in_both = ((x_N.mean() - 1) / others for x_N in (c_N, l_N, b_N))
    # Two records are in a pair, hence 2.
    d_cluster, d_label, d_both = (2 * (x_N - x_N.mean()) / others for x_N in (c_N, l_N, b_N))
    chance, d_chance = in_cluster * in_label, in_cluster * d_label + in_label * d_cluster
    most, d_most = (in_cluster + in_label) / 2, (d_cluster + d_label) / 2
    ari = (in_both - chance) / (most - chance)
    influence = (d_both - d_chance - ari * (d_most - d_chance)) / (most - chance)
    return by_influence(float(ari), influence)
