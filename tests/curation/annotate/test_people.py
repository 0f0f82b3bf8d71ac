"""What a detector's numbers become: by a stand-in whose numbers are known."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest

from curation.annotate.people import people

NAN = float("nan")


class Detector:
    """Answers each picture by the numbers that are given for its bytes."""

    fingerprint = "told"

    def __init__(self, **told: Any) -> None:
        self.told = {name.encode(): row for name, row in told.items()}

    def __call__(self, values: Any) -> np.ndarray:
        return np.array([self.told[value] for value in values], dtype=np.float32)


def measured(detector: Detector, *images: bytes | None, **parameters: Any) -> list[Any]:
    uids = pl.int_range(len(images), dtype=pl.UInt64, eager=True)
    table = pl.DataFrame({"uid": uids, "image": pl.Series(images, dtype=pl.Binary)})
    return people(table, detector, **parameters).drop("uid").rows()


def test_the_surest_place_and_the_boxes_from_the_threshold_on_are_told():
    two = [0.9, 1, 2, 3, 4, 0.9, 5, 6, 7, 8, 0.25]
    none = [0.1, *[NAN] * 10]
    detector = Detector(two=two, none=none, broken=[NAN] * 11)
    first = {"left": 1, "top": 2, "right": 3, "bottom": 4, "confidence": np.float32(0.9)}
    second = {"left": 5, "top": 6, "right": 7, "bottom": 8, "confidence": 0.25}
    for threshold, boxes in ((0.25, [first, second]), (0.26, [first]), (0.91, [])):
        found = measured(detector, b"two", b"none", None, b"broken", threshold=threshold)
        assert found[0] == (np.float32(0.9), len(boxes), boxes)
        assert found[1] == (np.float32(0.1), 0, [])
        assert found[2:] == [(None, None, None)] * 2


def test_a_scorer_of_one_number_a_picture_has_no_boxes():
    assert measured(Detector(a=0.75, b=0.25), b"b", b"a") == [(0.25, 0, []), (0.75, 0, [])]


@pytest.mark.parametrize("rows", [0, 1, 64, 65])
def test_blocks_of_pictures_leave_no_row_out(rows: int):
    assert measured(Detector(a=0.5), *[b"a"] * rows) == [(0.5, 0, [])] * rows
