"""Classify by the class means of a few labelled examples, over many draws of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Count, Seed
from contracts.report import Metric
from evaluation.features import ordered, unit
from evaluation.interval import bootstrap
from evaluation.protocol import Test, Train, protocol


def _metrics(k: Sequence[int], **_: Any) -> dict[str, bool]:
    return {f"accuracy@{n}": True for n in k}


@protocol(_metrics)
def few_shot(
    train: Train,
    test: Test,
    *,
    k: Sequence[Count] = (1, 5, 10),
    episodes: Count = 100,
    seed: Seed = 0,
) -> dict[str, Metric]:
    """Score a test set by the nearest mean of k examples a class.

    In each episode k examples of every class are drawn without repetition; a class is the mean of
    their unit vectors, and an item goes to the class of largest cosine, the one that sorts first
    of equals. The k of one episode are nested: the 5 begin with the 1. A class that has fewer
    gives all it has. Neither the order of the rows nor the length of the vectors has an effect.

    Reference: Wang et al. 2019, SimpleShot, arXiv:1911.04623 (nearest centroid of L2-normalised
        features), with all classes in each episode, and the cosine in place of the distance.
    Args:
        k: examples of each class.
        episodes: draws of examples.
        seed: of the draws.
    Returns:
        accuracy@<k>: share of test items whose predicted label is theirs, mean over episodes. Its
            interval is over items, each with its mean over the episodes.
    Cost: O(len(k) * episodes * test * classes * D) time, 4 bytes a test item, class and k.
    Raises:
        DataError: when the dimensions differ, or the training set has fewer than two classes.
    """
    if train.x_ND.shape[1] != test.x_ND.shape[1]:
        raise DataError(
            f"few_shot: dimensions {train.x_ND.shape[1]} and {test.x_ND.shape[1]} differ."
        )
    labels_C, class_M = np.unique(np.asarray(train.y_N), return_inverse=True)
    if len(labels_C) < 2:
        raise DataError(
            f"few_shot: the training half has only the label {labels_C[0]}. Choose another "
            "label, or hold out more."
        )
    x_MD, query_ND = unit(train.x_ND), unit(test.x_ND)
    order = ordered(x_MD, class_M, seed)
    x_MD, class_M = x_MD[order], class_M[order]
    rng = np.random.default_rng(seed)
    # Items by predicted class, counted over episodes, so that labels are read once, at the end.
    votes_KNC = np.zeros((len(k), len(test), len(labels_C)), dtype=np.uint32)
    rows = np.arange(len(test))
    for _ in range(episodes):
        place_M = _places(class_M, rng)
        for votes_NC, shots in zip(votes_KNC, k, strict=True):
            taken = place_M < shots
            mean_CD = _means(x_MD[taken], class_M[taken])
            votes_NC[rows, (query_ND @ mean_CD.T).argmax(axis=1)] += 1
    right_NC = np.asarray(test.y_N)[:, None] == labels_C
    return {
        f"accuracy@{shots}": bootstrap((votes_NC * right_NC).sum(axis=1) / episodes)
        for votes_NC, shots in zip(votes_KNC, k, strict=True)
    }


def _places(class_M: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return the place of each row among those of its class, in random order; sorted by class."""
    order = np.lexsort((rng.random(len(class_M)), class_M))
    place_M = np.empty_like(class_M)
    place_M[order] = np.arange(len(class_M)) - np.searchsorted(class_M, class_M)
    return place_M


def _means(x_MD: NDArray[np.float32], class_M: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return the direction of each class's mean; the rows are sorted by class."""
    first_C = np.flatnonzero(np.diff(class_M, prepend=-1))
    return unit(np.add.reduceat(x_MD, first_C, axis=0))
