from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Features
from evaluation.protocols.linear_probe import fit, linear_probe


def problem(n: int, seed: int, *, noise: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    truth = np.random.default_rng(7).normal(size=(10, 3))
    rng = np.random.default_rng(seed)
    x_ND = rng.normal(size=(n, 10))
    return x_ND, (x_ND @ truth + noise * rng.normal(size=(n, 3))).argmax(axis=1)


def test_the_weights_are_those_of_sklearns_logistic_regression() -> None:
    from sklearn.linear_model import LogisticRegression

    x_ND, y_N = problem(300, 0)
    l2 = 0.01
    weights = fit(x_ND, y_N, 3, l2)
    model = LogisticRegression(C=1 / (l2 * 300), tol=1e-8, max_iter=5000).fit(x_ND, y_N)
    assert np.abs(weights[:-1].T - model.coef_).max() < 2e-3
    bias = weights[-1] - weights[-1].mean()
    assert np.abs(bias - model.intercept_ + model.intercept_.mean()).max() < 2e-3


def test_the_gradient_is_zero_at_the_optimum() -> None:
    x_ND, y_N = problem(200, 1)
    weights = fit(x_ND, y_N, 3, 0.05)
    logits = x_ND @ weights[:-1] + weights[-1]
    p_NC = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradient = x_ND.T @ (p_NC - np.eye(3)[y_N]) / 200 + 0.05 * weights[:-1]
    assert np.abs(gradient).max() < 1e-3


def test_a_boundary_that_no_centre_splits_is_learned() -> None:
    # Two classes that share their mean in the first coordinate and differ by the second alone.
    rng = np.random.default_rng(0)
    x_ND = rng.normal(size=(400, 2)) * [10, 0.1]
    y_N = (x_ND[:, 1] > 0).astype(int)
    found = linear_probe(Features(x_ND[:200], y_N[:200]), Features(x_ND[200:], y_N[200:]))
    assert found["accuracy"].value > 0.97


def test_noisy_labels_get_a_stronger_penalty_than_clean_ones() -> None:
    chosen = {}
    for noise in (0.01, 30.0):
        train, test = (Features(*problem(400, seed, noise=noise)) for seed in (0, 1))
        chosen[noise] = linear_probe(train, test)["l2"].value
    assert chosen[0.01] < 1e-3 < chosen[30.0]


def test_the_test_set_has_no_say_in_the_choice_of_l2() -> None:
    train, test = Features(*problem(200, 0)), Features(*problem(100, 1))
    other = Features(test.x_ND[::-1] * 3, np.asarray(test.y_N)[::-1] * 0)
    assert linear_probe(train, test)["l2"] == linear_probe(train, other)["l2"]


def test_a_given_l2_is_used() -> None:
    train, test = Features(*problem(200, 0)), Features(*problem(100, 1))
    assert linear_probe(train, test, l2=0.3)["l2"].value == 0.3
    strong = linear_probe(train, test, l2=1e6)["accuracy"].value
    assert strong <= linear_probe(train, test, l2=1e-3)["accuracy"].value


def test_constant_features_say_nothing_and_break_nothing() -> None:
    train, test = (Features(np.ones((60, 4)), np.arange(60) % 3) for _ in range(2))
    assert linear_probe(train, test)["accuracy"].value == pytest.approx(1 / 3)


def test_one_class_or_too_few_items_are_refused() -> None:
    with pytest.raises(DataError, match="only the label"):
        linear_probe(Features(np.ones((4, 2)), [1] * 4), Features(np.ones((1, 2)), [1]))
    few = Features(np.random.default_rng(0).normal(size=(6, 2)), [0, 0, 0, 1, 1, 1])
    with pytest.raises(DataError, match="too few to choose l2"):
        linear_probe(few, few)
    assert linear_probe(few, few, l2=1e-4)["accuracy"].n == 6
