from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Features
from evaluation.protocols.zero_shot import zero_shot


def test_each_image_goes_to_the_class_of_largest_cosine() -> None:
    classes = np.eye(6)
    images = np.array([[5, 1, 0, 0, 0, 0], [0, 1, 2, 0, 0, 0], [6, 5, 4, 3, 2, 1]])
    found = zero_shot(Features(images, [0, 1, 5]), classes)
    # Ranks 1, 2 and 6.
    assert (found["accuracy"].value, found["top5"].value) == pytest.approx((1 / 3, 2 / 3))


def test_a_long_class_vector_has_no_advantage() -> None:
    classes = np.array([[1.0, 0.0], [50.0, 50.0]])
    assert zero_shot(Features(np.array([[1.0, 0.1]]), [0]), classes)["accuracy"].value == 1


def test_classes_that_are_all_alike_score_nothing() -> None:
    found = zero_shot(Features(np.ones((4, 3)), [0, 1, 2, 0]), np.ones((3, 3)))
    assert found["accuracy"].value == 0


def test_ranks_are_those_of_a_double_loop() -> None:
    rng = np.random.default_rng(0)
    images, classes = rng.normal(size=(50, 8)), rng.normal(size=(12, 8))
    labels = rng.integers(0, 12, 50)
    unit = [c / np.linalg.norm(c) for c in classes]
    rank = [
        sorted(range(12), key=lambda c: -float(image @ unit[c])).index(label)
        for image, label in zip(images, labels, strict=True)
    ]
    found = zero_shot(Features(images, labels), classes)
    assert found["accuracy"].value == np.mean(np.array(rank) < 1)
    assert found["top5"].value == np.mean(np.array(rank) < 5)


@pytest.mark.parametrize("labels", [[0, 3], [-1, 0], [0.0, 1.0], ["a", "b"]])
def test_a_label_that_is_no_row_of_the_classes_is_refused(labels: list[object]) -> None:
    with pytest.raises(DataError, match="0 to 2"):
        zero_shot(Features(np.eye(3)[:2], np.array(labels)), np.eye(3))
