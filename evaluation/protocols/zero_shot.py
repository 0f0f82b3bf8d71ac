"""Classify images by the class whose text vector is most similar."""

from __future__ import annotations

import numpy as np

from contracts.errors import DataError
from contracts.report import Metric
from evaluation.features import finite, unit
from evaluation.interval import bootstrap
from evaluation.protocol import Classes, Labelled, protocol


@protocol({"accuracy": True, "top5": True})
def zero_shot(image: Labelled, classes_CD: Classes) -> dict[str, Metric]:
    """Score images against one vector a class, such as the mean over prompts of its name.

    The rank of the own class is 1 + the number of other classes whose cosine is as large or
    larger: vectors that are all alike score nothing. The length of the vectors has no effect.

    Reference: Radford et al. 2021, CLIP, arXiv:2103.00020, section 3.1.
    Args:
        image: vectors, with the row of `classes_CD` as label.
        classes_CD: one vector a class.
    Returns:
        accuracy: share of images whose own class has rank 1.
        top5: share whose own class has rank 5 or better.
    Cost: O(N * C * D) time, 12 bytes an image and class.
    Raises:
        DataError: when the dimensions differ, or a label is no row of the classes.
    """
    classes_CD = finite(classes_CD, "class vectors")
    if classes_CD.shape[1] != image.x_ND.shape[1]:
        raise DataError(
            f"zero_shot: dimensions {image.x_ND.shape[1]} and {classes_CD.shape[1]} differ."
        )
    cosine_NC = unit(image.x_ND) @ unit(classes_CD).T
    label_N = np.asarray(image.y_N)
    count = len(classes_CD)
    if label_N.dtype.kind not in "iu" or label_N.min() < 0 or label_N.max() >= count:
        raise DataError(
            f"zero_shot: a label is the row of a class vector, 0 to {count - 1}; found "
            f"{np.unique(label_N)[:5].tolist()} ..."
        )
    own_N1 = np.take_along_axis(cosine_NC, label_N[:, None], axis=1)
    rank_N = (cosine_NC >= own_N1).sum(axis=1)
    return {"accuracy": bootstrap(rank_N <= 1), "top5": bootstrap(rank_N <= 5)}
