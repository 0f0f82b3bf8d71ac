"""Classify by multinomial logistic regression on frozen features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Positive, Seed
from contracts.report import Metric
from evaluation.features import ordered, put_aside
from evaluation.interval import bootstrap
from evaluation.protocol import Test, Train, protocol

Matrix = NDArray[np.float64]

_GRID = tuple(10.0**exponent for exponent in range(-6, 2))
_ITERATIONS = 1000


@protocol({"accuracy": True, "l2": None})
def linear_probe(
    train: Train,
    test: Test,
    *,
    l2: Positive | None = None,
    seed: Seed = 0,
) -> dict[str, Metric]:
    """Score a test set by a linear classifier.

    Minimises mean cross entropy + l2 / 2 * |W|^2 by L-BFGS, the bias unpenalised, on features from
    which the training mean is taken and which are divided by their root mean square. So neither
    scale and shift of the features nor the order of the rows matters beyond rounding, and with a
    given l2 no rotation either.

    Without l2, a fifth of each class is put aside (every fifth item along a random direction, so
    that the choice is a function of the set and the seed), the l2 of 1e-6, 1e-5, ..., 10 with the
    smallest cross entropy there is taken, and the classifier fitted anew on the whole training
    set. The test set is read once, for the score.

    Args:
        l2: weight of the penalty; chosen on the training half where not given.
        seed: of the direction along which a fifth is put aside.
    Reference: Radford et al. 2021, CLIP, arXiv:2103.00020, appendix A.3.
    Returns:
        accuracy: share of test items whose predicted label is theirs.
        l2: the one that was used, without an interval.
    Cost: some hundred passes over the training matrix a value of l2; 16 bytes a number.
    Raises:
        DataError: when the dimensions differ, the training set has fewer than two classes, or
            none of its classes has the five items that choosing l2 needs.
    """
    if train.x_ND.shape[1] != test.x_ND.shape[1]:
        raise DataError(
            f"linear_probe: dimensions {train.x_ND.shape[1]} and {test.x_ND.shape[1]} differ."
        )
    labels_C, class_N = np.unique(np.asarray(train.y_N), return_inverse=True)
    if len(labels_C) < 2:
        raise DataError(f"linear_probe: the training set has only the label {labels_C[0]}.")
    x_ND = train.x_ND.astype(np.float64)
    mean = x_ND.mean(axis=0)
    scale = np.sqrt(np.square(x_ND - mean).mean()) or 1.0
    x_ND = (x_ND - mean) / scale
    order = ordered(x_ND, class_N, seed)
    x_ND, class_N = x_ND[order], class_N[order]
    if l2 is None:
        l2 = _choose(x_ND, class_N, len(labels_C))
    weights = fit(x_ND, class_N, len(labels_C), l2)
    guess_N = labels_C[_logits(weights, (test.x_ND - mean) / scale).argmax(axis=1)]
    accuracy = bootstrap(guess_N == np.asarray(test.y_N))
    return {"accuracy": accuracy, "l2": Metric(l2, len(train), l2, l2)}


def fit(
    x_ND: Matrix,
    class_N: NDArray[np.intp],
    classes: int,
    l2: float,
    start: Matrix | None = None,
) -> Matrix:
    """Return the weights (D + 1, C), the last row the bias."""
    from scipy.optimize import minimize

    count, dimension = x_ND.shape
    shape = (dimension + 1, classes)
    rows = np.arange(count)

    def loss(flat: Matrix) -> tuple[float, Matrix]:
        weights = flat.reshape(shape)
        log_p_NC = _log_softmax(_logits(weights, x_ND))
        error_NC = np.exp(log_p_NC)
        error_NC[rows, class_N] -= 1
        gradient = np.empty(shape)
        gradient[:-1] = x_ND.T @ error_NC / count + l2 * weights[:-1]
        gradient[-1] = error_NC.mean(axis=0)
        value = -log_p_NC[rows, class_N].mean() + l2 / 2 * np.square(weights[:-1]).sum()
        return float(value), gradient.ravel()

    initial = np.zeros(shape) if start is None else start
    found = minimize(
        loss, initial.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}
    )
    best: Matrix = found.x.reshape(shape)
    return best


def _choose(x_ND: Matrix, class_N: NDArray[np.intp], classes: int) -> float:
    aside = put_aside(class_N, "linear_probe: l2")
    weights, losses = None, []
    # From strong to weak, each started where the last ended.
    for l2 in reversed(_GRID):
        weights = fit(x_ND[~aside], class_N[~aside], classes, l2, weights)
        log_p = _log_softmax(_logits(weights, x_ND[aside]))
        losses.append(-log_p[np.arange(len(log_p)), class_N[aside]].mean())
    return _GRID[::-1][int(np.argmin(losses))]


def _logits(weights: Matrix, x_ND: Matrix) -> Matrix:
    logits: Matrix = x_ND @ weights[:-1] + weights[-1]
    return logits


def _log_softmax(x_NC: Matrix) -> Matrix:
    x_NC = x_NC - x_NC.max(axis=1, keepdims=True)
    log_p: Matrix = x_NC - np.log(np.exp(x_NC).sum(axis=1, keepdims=True))
    return log_p
