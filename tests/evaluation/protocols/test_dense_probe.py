import numpy as np
import pytest

from contracts.errors import DataError
from evaluation.features import Dense
from evaluation.protocols.dense_probe import _most, bilinear, dense_probe, mean_iou, overlap


def test_the_mean_iou_of_two_classes_by_hand():
    guess = np.array([[1, 1], [0, 1]], dtype=np.uint8)
    true = np.array([[1, 0], [0, 1]], dtype=np.uint8)
    counts = overlap(guess, true)
    assert counts[:, :3].tolist() == [[1, 2, 0], [2, 3, 0]]
    # (1/2 + 2/3) / 2: a class that neither has counts nothing.
    assert mean_iou(counts[None]).value == pytest.approx(0.58333, abs=1e-5)


def test_pixels_of_no_class_count_nowhere():
    guess = np.array([[1, 1], [0, 1]], dtype=np.uint8)
    true = np.array([[1, 255], [0, 255]], dtype=np.uint8)
    assert mean_iou(overlap(guess, true)[None]).value == 1
    with pytest.raises(DataError, match="no pixel of the test half has a class"):
        mean_iou(overlap(guess, np.full((2, 2), 255, dtype=np.uint8))[None])


def test_iou_is_over_all_images_and_its_interval_that_of_leaving_one_out():
    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, (200, 6, 6)).astype(np.uint8)
    guess = np.where(rng.random(true.shape) < 0.3, rng.integers(0, 3, true.shape), true)
    counts = np.array([overlap(g.astype(np.uint8), t) for g, t in zip(guess, true, strict=True)])

    def value(of):
        return np.mean([sum(c[0][k] for c in of) / sum(c[1][k] for c in of) for k in range(3)])

    found = mean_iou(counts)
    assert (found.value, found.n) == (pytest.approx(value(counts)), 200)
    left_out = [value(np.delete(counts, i, axis=0)) for i in range(200)]
    deviation = np.sqrt(199 / 200 * np.square(np.array(left_out) - np.mean(left_out)).sum())
    assert found.high - found.value == pytest.approx(1.96 * deviation, rel=0.03)


def test_values_are_spread_between_the_centres_of_places_and_kept_beyond_them():
    spread = bilinear(np.array([[[0.0], [4.0]]]), (2, 4))
    assert spread[:, :, 0].tolist() == [[0, 1, 3, 4]] * 2


def test_a_pixel_is_of_the_place_that_holds_its_centre_so_mirrored_labels_give_mirrored_places():
    labels = np.array([[[1, 1, 2, 3, 3]] * 5], dtype=np.uint8)
    for way in (1, -1):
        places = _most(Dense(np.zeros((1, 3, 3, 1), dtype=np.float32), labels[:, :, ::way]))
        assert places[0].tolist() == [[1, 2, 3][::way]] * 3


def scene(count, seed):
    """Return grids of 4 x 4 places whose vectors say their class, each over 3 x 3 pixels."""
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 3, (count, 4, 4)).astype(np.uint8)
    vectors = np.eye(3)[classes] + 0.3 * rng.normal(size=(count, 4, 4, 3))
    labels = classes.repeat(3, axis=1).repeat(3, axis=2)
    labels[:, 0, 0] = 255
    return Dense(vectors.astype(np.float32), labels)


def test_what_the_features_say_is_found_and_labels_of_other_pictures_are_not():
    train, test = scene(60, 0), scene(40, 1)
    found = dense_probe(train, test)["miou"]
    assert found.value > 0.7
    assert found.low < found.value < found.high
    other = Dense(test.x_NHWD, test.y_NHW[np.random.default_rng(2).permutation(len(test))])
    assert dense_probe(train, other)["miou"].high < found.low
    wrong = Dense(train.x_NHWD, train.y_NHW[np.random.default_rng(3).permutation(len(train))])
    assert dense_probe(wrong, test)["miou"].high < found.low


def test_other_widths_and_a_single_class_are_refused():
    train, test = scene(6, 0), scene(4, 1)
    with pytest.raises(DataError, match="dimensions 3 and 2 differ"):
        dense_probe(train, Dense(test.x_NHWD[..., :2], test.y_NHW))
    with pytest.raises(DataError, match="fewer than two classes"):
        dense_probe(Dense(train.x_NHWD, np.zeros_like(train.y_NHW)), test)
    with pytest.raises(DataError, match="6 grids, but 4 label images"):
        Dense(train.x_NHWD, test.y_NHW)
