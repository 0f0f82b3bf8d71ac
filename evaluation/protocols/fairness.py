"""Score groups of records each by itself, by nearest neighbours: the worst group, the gap."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from contracts.errors import DataError
from contracts.params import Count, Positive
from contracts.report import Metric
from evaluation.interval import bootstrap
from evaluation.protocol import Test, TestGroups, Train, protocol
from evaluation.protocols.knn import predict


@protocol({"worst_group": True, "gap": False, "accuracy": True, "small_groups": None})
def fairness(
    train: Train,
    test: Test,
    group_N: TestGroups,
    *,
    k: Count = 20,
    temperature: Positive = 0.07,
    min_items: Count = 20,
) -> dict[str, Metric]:
    """Score the groups of a test set, each by itself, by the neighbours of the protocol `knn`.

    Groups of fewer test items than min_items are left out of the worst and the best: their
    accuracy is mostly luck.

    Reference: Sagawa et al. 2020, Distributionally Robust Neural Networks for Group Shifts,
        arXiv:1911.08731 (worst-group accuracy).
    Args:
        group_N: of each test item, as `groups` of the section says.
        k: neighbours that vote.
        temperature: the lower, the more the nearest outvote the others.
        min_items: test items that a group must have to count.
    Returns:
        worst_group: the smallest accuracy of a group that counts; n is the items of all of these.
        gap: the largest accuracy less the smallest; likewise.
        accuracy: share of all test items whose predicted label is theirs.
        small_groups: how many groups are left out, n of how many.
        The intervals of the first two are over other items of the groups that were the worst and
        the best: the worst of many groups is partly the unluckiest, which is not in them.
    Cost: that of `knn`.
    Raises:
        DataError: when the dimensions or lengths differ, or fewer than two groups count.
    """
    group_N = np.asarray(group_N)
    if group_N.shape != (len(test),):
        raise DataError(f"fairness: {len(test)} test items, but {len(group_N)} groups.")
    names_G, of_N, size_G = np.unique(group_N, return_inverse=True, return_counts=True)
    counts_G = size_G >= min_items
    if counts_G.sum() < 2:
        raise DataError(
            f"fairness: {counts_G.sum()} of {len(names_G)} groups have min_items = {min_items} "
            f"test items, the largest {size_G.max()}. Lower min_items, hold out more records, or "
            "choose coarser groups."
        )
    guess_N = predict(train, test.x_ND, k=k, temperature=temperature)
    right_N = guess_N == np.asarray(test.y_N)
    accuracy_G = np.bincount(of_N, weights=right_N) / size_G
    worst = int(np.where(counts_G, accuracy_G, np.inf).argmin())
    best = int(np.where(counts_G, accuracy_G, -np.inf).argmax())
    size_2, accuracy_2 = size_G[[best, worst]], accuracy_G[[best, worst]]
    drawn_S2 = np.random.default_rng(0).binomial(size_2, accuracy_2, (1000, 2)) / size_2
    low, high = np.quantile(drawn_S2[:, 0] - drawn_S2[:, 1], [0.025, 0.975])
    n, small = int(size_G[counts_G].sum()), float((~counts_G).sum())
    lowest = bootstrap(right_N[of_N == worst])
    return {
        # Another encoder has another worst group, so there are no items to compare with.
        "worst_group": replace(lowest, n=n, items=None),
        "gap": Metric(float(accuracy_2[0] - accuracy_2[1]), n, float(low), float(high)),
        "accuracy": bootstrap(right_N),
        "small_groups": Metric(small, len(names_G), small, small),
    }
