"""Classify by a vote of the most similar training items, without any training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Count, Positive
from contracts.report import Metric
from evaluation.features import Features, unit
from evaluation.interval import bootstrap
from evaluation.protocol import Test, Train, protocol

_BLOCK = 1024
_CHUNK = 128


@protocol({"accuracy": True})
def knn(
    train: Train, test: Test, *, k: Count = 20, temperature: Positive = 0.07
) -> dict[str, Metric]:
    """Score a test set by weighted nearest neighbours.

    Each of the k training items of largest cosine s votes for its class with exp(s / temperature).
    Ties, of cosine and of votes, go to the label that sorts first, so neither the order of the
    rows nor the length of the vectors has an effect. k is at most the size of the training set.

    Args:
        k: neighbours that vote.
        temperature: the lower, the more the nearest outvote the others.
    Reference: Wu et al. 2018, Unsupervised Feature Learning via Non-Parametric Instance
        Discrimination, arXiv:1805.01978, section 3.4; Caron et al. 2021, DINO, arXiv:2104.14294,
        appendix F.1 (k = 20, temperature 0.07).
    Returns:
        accuracy: share of test items whose predicted label is theirs.
    Cost: O(train * test * D) time; 4 KB of memory a training item.
    Raises:
        DataError: when the dimensions differ.
    """
    guess_N = predict(train, test.x_ND, k=k, temperature=temperature)
    return {"accuracy": bootstrap(guess_N == np.asarray(test.y_N))}


def predict(
    train: Features, x_ND: NDArray[np.float32], *, k: Count, temperature: Positive
) -> NDArray[np.generic]:
    """Return the predicted label of each vector."""
    if train.x_ND.shape[1] != x_ND.shape[1]:
        raise DataError(f"knn: dimensions {train.x_ND.shape[1]} and {x_ND.shape[1]} differ.")
    labels_C, class_M = np.unique(np.asarray(train.y_N), return_inverse=True)
    # By label, so that the first of several equally similar items has the first label.
    order = np.argsort(class_M, kind="stable")
    class_M, bank_MD, query_ND = class_M[order], unit(train.x_ND)[order], unit(x_ND)
    k = min(k, len(bank_MD))
    guesses = []
    # One array for all blocks, to a whole number of chunks; no item has the cosine of the rest.
    wide = -(-len(bank_MD) // _CHUNK) * _CHUNK
    memory = np.full((min(_BLOCK, len(query_ND)), wide), -np.inf, dtype=np.float32)
    for start in range(0, len(query_ND), _BLOCK):
        block_BD = query_ND[start : start + _BLOCK]
        cosine_BM = memory[: len(block_BD)]
        np.matmul(block_BD, bank_MD.T, out=cosine_BM[:, : len(bank_MD)])
        nearest_BK = _largest(cosine_BM, k)
        cosine_BK = np.take_along_axis(cosine_BM, nearest_BK, axis=1).astype(np.float64)
        row_BK = np.arange(len(cosine_BM))[:, None] * len(labels_C)
        # Relative to the largest, which leaves the vote as it is and cannot overflow.
        weight_BK = np.exp((cosine_BK - cosine_BK[:, :1]) / temperature)
        votes = np.bincount(
            (row_BK + class_M[nearest_BK]).ravel(),
            weight_BK.ravel(),
            len(cosine_BM) * len(labels_C),
        )
        guesses.append(votes.reshape(-1, len(labels_C)).argmax(axis=1))
    guess_N: NDArray[np.generic] = labels_C[np.concatenate(guesses)]
    return guess_N


def _largest(x_BM: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return the columns of the k largest of each row, in falling order, ties by column."""
    if x_BM.shape[1] % _CHUNK or x_BM.shape[1] <= k * _CHUNK:
        return _partitioned(x_BM, k)
    # The k chunks of largest maxima hold the k largest: each of these maxima comes before
    # whatever is in another chunk.
    chunks_BNC = x_BM.reshape(len(x_BM), -1, _CHUNK)
    firsts = np.arange(0, x_BM.shape[1], _CHUNK)
    most_BN = np.maximum.reduceat(x_BM, firsts, axis=1)
    chosen_BK = np.sort(_partitioned(most_BN, k), axis=1)
    found_BKC = chunks_BNC[np.arange(len(x_BM))[:, None], chosen_BK]
    place_BK = _partitioned(found_BKC.reshape(len(x_BM), -1), k)
    chunk_BK = np.take_along_axis(chosen_BK, place_BK // _CHUNK, axis=1)
    return chunk_BK * _CHUNK + place_BK % _CHUNK


def _partitioned(x_BM: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """Return what `_largest` does, by a partition of each row."""
    if k == x_BM.shape[1]:
        return np.argsort(-x_BM, axis=1, kind="stable")
    columns = np.argpartition(-x_BM, k - 1, axis=1)[:, :k]
    found = np.take_along_axis(x_BM, columns, axis=1)
    columns = np.take_along_axis(columns, np.lexsort((columns, -found), axis=1), axis=1)
    # Where more than k reach the k-th value, the partition's choice among them is arbitrary.
    tied = np.flatnonzero((x_BM >= found.min(axis=1, keepdims=True)).sum(axis=1) > k)
    columns[tied] = np.argsort(-x_BM[tied], axis=1, kind="stable")[:, :k]
    return columns
