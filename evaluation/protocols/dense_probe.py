"""Label every pixel by a linear classifier on the grid of frozen features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.params import Positive
from contracts.report import Metric
from evaluation.features import NO_CLASS, Dense
from evaluation.interval import by_influence
from evaluation.protocol import TestDense, TrainDense, protocol
from evaluation.protocols.linear_probe import fit


@protocol({"miou": True})
def dense_probe(train: TrainDense, test: TestDense, *, l2: Positive = 1e-3) -> dict[str, Metric]:
    """Score the label images of a test set by a linear classifier of places.

    A place of the grid is of the class that most of the pixels have whose centre it holds, the
    smaller of equals; one without a class is left out. The classifier is `linear_probe`'s of a
    given l2, over places. Its logits are spread over the label image bilinearly, and a pixel goes
    to the largest. With the pixels of class c and those that are taken for c, over all test
    images, IoU_c = |both| / |either|; mIoU is its mean over the classes that either has. Pixels
    without a class count nowhere.

    Args:
        l2: weight of the penalty.
    Reference: Oquab et al. 2023, DINOv2, arXiv:2304.07193, section 7.4 (a linear layer on frozen
        patch tokens, spread over the picture); Everingham et al. 2010, section 4.2 (IoU).
    Returns:
        miou: its interval is over images, by the jackknife.
    Cost: as `linear_probe` with a row a place; a test image costs height x width x classes.
    Raises:
        DataError: the widths differ, or the training half has fewer than two classes.
    """
    if train.x_NHWD.shape[3] != test.x_NHWD.shape[3]:
        raise DataError(
            f"dense_probe: dimensions {train.x_NHWD.shape[3]} and {test.x_NHWD.shape[3]} differ."
        )
    most_NHW = _most(train)
    x_PD = train.x_NHWD[most_NHW != NO_CLASS].astype(np.float64)
    labels_C, class_P = np.unique(most_NHW[most_NHW != NO_CLASS], return_inverse=True)
    if len(labels_C) < 2:
        raise DataError("dense_probe: the training half has fewer than two classes.")
    mean = x_PD.mean(axis=0)
    scale = np.sqrt(np.square(x_PD - mean).mean()) or 1.0
    weights = fit((x_PD - mean) / scale, class_P, len(labels_C), l2)
    counts = []
    for x_HWD, y_HW in zip(test.x_NHWD, test.y_NHW, strict=True):
        logits_HWC = ((x_HWD - mean) / scale) @ weights[:-1] + weights[-1]
        guess_HW = labels_C[bilinear(logits_HWC, y_HW.shape).argmax(axis=2)]
        counts.append(overlap(guess_HW, y_HW))
    return {"miou": mean_iou(np.array(counts))}


def overlap(guess_HW: NDArray[np.uint8], y_HW: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return (2, 255): of each class the pixels that both have, and those that either has."""
    counted = y_HW != NO_CLASS
    guess, y = guess_HW[counted], y_HW[counted]
    both, guessed, true = (np.bincount(v, minlength=NO_CLASS) for v in (y[guess == y], guess, y))
    return np.array([both, guessed + true - both])


def mean_iou(counts_N2C: NDArray[np.int64]) -> Metric:
    """Return the mean over classes of IoU, which is taken over all images.

    Raises:
        DataError: no pixel has a class.
    """
    counts_N2C = counts_N2C[:, :, counts_N2C[:, 1].any(axis=0)]
    if not counts_N2C.size:
        raise DataError("dense_probe: no pixel of the test half has a class.")
    both_C, either_C = counts_N2C.sum(axis=0)
    iou_C = both_C / either_C
    change_NC = (counts_N2C[:, 0] - iou_C * counts_N2C[:, 1]) / either_C
    return by_influence(float(iou_C.mean()), len(counts_N2C) * change_NC.mean(axis=1))


def bilinear(x_HWC: NDArray[np.float64], size: tuple[int, ...]) -> NDArray[np.float64]:
    """Return values of a grid at the centres of the pixels that it lies over, up to its edges."""
    rows, columns = (_ways(n, m) for n, m in zip(x_HWC.shape[:2], size, strict=True))
    spread: NDArray[np.float64] = np.einsum("yh,hwc,xw->yxc", rows, x_HWC, columns, optimize=True)
    return spread


def _ways(places: int, pixels: int) -> NDArray[np.float64]:
    """Return (pixels, places): how much of each place a pixel has."""
    at = ((np.arange(pixels) + 0.5) * places / pixels - 0.5).clip(0, places - 1)
    ways: NDArray[np.float64] = np.maximum(0, 1 - np.abs(at[:, None] - np.arange(places)))
    return ways


def _most(of: Dense) -> NDArray[np.uint8]:
    """Return for each place the class of most of its pixels, NO_CLASS where none has one."""
    count, height, width, _ = of.x_NHWD.shape
    most = np.full((count, height, width), NO_CLASS, dtype=np.uint8)
    rows, columns = (
        (2 * np.arange(n) + 1) * m // (2 * n)
        for n, m in ((of.y_NHW.shape[1], height), (of.y_NHW.shape[2], width))
    )
    place_HW = rows[:, None] * width + columns
    for number, y_HW in enumerate(of.y_NHW):
        votes = np.zeros((height * width, NO_CLASS + 1), dtype=np.int64)
        np.add.at(votes, (place_HW.ravel(), y_HW.ravel()), 1)
        classes = votes[:, :NO_CLASS].argmax(axis=1)
        known = votes[:, :NO_CLASS].any(axis=1)
        most[number] = np.where(known, classes, NO_CLASS).reshape(height, width)
    return most
