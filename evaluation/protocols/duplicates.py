"""Score duplicate clusters against labels that say which records are the same."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from contracts.report import Metric
from evaluation.protocol import Clusters, Labels, protocol

Numbers = NDArray[Any]


@protocol(dict.fromkeys(("precision", "recall", "f1", "bcubed_precision", "bcubed_recall"), True))
def duplicates(
    cluster_N: Clusters, label_N: Labels, *, samples: Count = 1000, seed: Seed = 0
) -> dict[str, Metric]:
    """Compare the pairs that share a cluster with the pairs that share a label.

    With n_cl the records of cluster c and label l, and pairs(n) = n (n - 1) / 2:
    precision = sum pairs(n_cl) / sum_c pairs(n_c), recall = sum pairs(n_cl) / sum_l pairs(n_l).
    The intervals are 95 % percentile bootstraps over clusters for precision, over labels for
    recall and F1: the pairs of a group are not independent, its records are drawn together.

    Reference: pairwise measures as in Hassanzadeh et al. 2009, VLDB 2(1), section 3.2;
    B-cubed: Bagga and Baldwin 1998, LREC workshop on linguistic coreference.
    Args:
        cluster_N: of each record; numbers or texts.
        label_N: likewise; records of equal label are duplicates.
        samples: draws of the bootstrap.
        seed: of the bootstrap.
    Returns:
        precision: of the pairs joined, the share that is right; 1 where none is joined.
        recall: of the pairs that are duplicates, the share joined; 1 where there are none.
        f1: their harmonic mean.
        bcubed_precision, bcubed_recall: means over records of the share of its cluster with its
            label, and of its label in its cluster: large groups weigh by records, not by pairs.
    Cost: a sort of the records.
    Raises:
        DataError: when the two differ in length, or are empty.
    """
    _, cluster = np.unique(np.asarray(cluster_N), return_inverse=True)
    _, label = np.unique(np.asarray(label_N), return_inverse=True)
    if len(cluster) != len(label) or not len(cluster):
        raise DataError(
            f"duplicates: {len(cluster)} clusters and {len(label)} labels; one of each a record."
        )
    both, of, n_B = np.unique(
        cluster * (label.max() + 1) + label, return_inverse=True, return_counts=True
    )
    n_C, n_L = np.bincount(cluster), np.bincount(label)
    cluster_B, label_B = np.divmod(both, label.max() + 1)
    right_B = _pairs(n_B)
    right_C = np.bincount(cluster_B, weights=right_B, minlength=len(n_C))
    right_L = np.bincount(label_B, weights=right_B, minlength=len(n_L))
    # What a label's records are joined to, right and wrong, is halved between the two ends.
    joined_N = (n_C[cluster] - 1) / 2
    joined_L = np.bincount(label, weights=joined_N, minlength=len(n_L))
    rng = np.random.default_rng(seed)
    own = n_B[of]
    return {
        "precision": _shares(right_C, _pairs(n_C), samples, rng),
        "recall": _shares(right_L, _pairs(n_L), samples, rng),
        "f1": _shares(2 * right_L, _pairs(n_L) + joined_L, samples, rng),
        "bcubed_precision": _shares(
            np.bincount(label, weights=own / n_C[cluster]), n_L * 1.0, samples, rng
        ),
        "bcubed_recall": _shares(
            np.bincount(label, weights=own / n_L[label]), n_L * 1.0, samples, rng
        ),
    }


def _pairs(n: Numbers) -> Numbers:
    pairs: Numbers = n * (n - 1) / 2
    return pairs


def _shares(part_G: Numbers, whole_G: Numbers, samples: int, rng: np.random.Generator) -> Metric:
    """Return sum(part) / sum(whole) over groups and its interval; n counts what is shared."""
    total = whole_G.sum()
    if not total:
        return Metric(1.0, 0, 1.0, 1.0)
    # A group without a pair moves no share.
    part, whole = part_G[whole_G > 0], whole_G[whole_G > 0]
    equal = np.full(len(whole), 1 / len(whole))
    drawn = (rng.multinomial(len(whole), equal) for _ in range(samples))
    shares = [(n @ part) / (n @ whole) for n in drawn]
    low, high = np.percentile(shares, [2.5, 97.5])
    return Metric(float(part_G.sum() / total), int(total), float(low), float(high))
