"""People in a picture, by a detector of faces or persons: how sure it is, and where."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl

from contracts.params import Ratio, Scorer
from curation.step import Role, rowwise

_SIDES = ("left", "top", "right", "bottom")
_BOX = pl.Struct({**dict.fromkeys(_SIDES, pl.UInt32), "confidence": pl.Float32})
_WRITES: dict[str, Any] = {"score": pl.Float32, "detections": pl.UInt32, "boxes": pl.List(_BOX)}
BLOCK_ROWS = 64


@rowwise(version=1, reads={"image": Role(pl.Binary)}, writes=_WRITES)
def people(rows: pl.DataFrame, detector: Scorer, *, threshold: Ratio = 0.2) -> pl.DataFrame:
    """Tell how sure a detector is that a picture shows somebody, and where.

    The slot takes `center_face`, which finds faces: it is no detector of persons, and who shows no
    face is missed. Nothing here says that a picture shows nobody: PASS had people look at what its
    detectors had left. A scorer of pictures that gives one number each fills the slot too, without
    boxes.

    Reads:
        image: where people are looked for.
    Args:
        threshold: a box is listed from this confidence on. PASS takes 0.5; a lower one lists more
            faces, and more that are none.
    Reference: Asano et al. 2021, PASS, arXiv:2109.13228 (detectors first, then people who look).
    Writes:
        score: the detector's greatest confidence, in [0, 1], whatever the threshold; null where
            the picture is null or not decodable, as all columns.
        detections: boxes that are listed.
        boxes: pixels of the upright picture, right and bottom outside, and the confidence, the
            surest first.
    Cost: of the detector.
    """
    found = [
        _told(rows["image"][start : start + BLOCK_ROWS], detector, threshold)
        for start in range(0, max(1, rows.height), BLOCK_ROWS)
    ]
    return pl.concat(found)


def _told(images: pl.Series, detector: Scorer, threshold: float) -> pl.DataFrame:
    given = images.is_not_null().arg_true()
    told = np.asarray(detector(images.gather(given).to_list()), dtype=np.float32)
    told = told[:, None] if told.ndim == 1 else told
    rows: list[tuple[float | None, int | None, list[dict[str, float]] | None]]
    rows = [(None, None, None)] * len(images)
    for place, (score, *numbers) in zip(given.to_list(), told.tolist(), strict=True):
        if np.isnan(score):
            continue
        several = [numbers[start : start + 5] for start in range(0, len(numbers), 5)]
        boxes = [
            dict(zip(_SIDES, map(int, sides), strict=True)) | {"confidence": confidence}
            for *sides, confidence in several
            if confidence >= threshold
        ]
        rows[place] = score, len(boxes), boxes
    return pl.DataFrame(rows, schema=_WRITES, orient="row")
