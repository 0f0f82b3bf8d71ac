"""Find the text of an image and the image of a text: recall at k, median and mean rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from contracts.errors import DataError
from contracts.params import Count
from contracts.report import Metric
from evaluation.features import finite, unit
from evaluation.interval import bootstrap
from evaluation.protocol import Groups, Images, Texts, protocol

_BLOCK = 1024
WAYS = ("image_to_text", "text_to_image")


def _metrics(k: Sequence[int]) -> dict[str, bool]:
    found: dict[str, bool] = {}
    for way in WAYS:
        found |= {f"{way}.recall@{n}": True for n in k}
        found |= {f"{way}.median_rank": False, f"{way}.mean_reciprocal_rank": True}
    return found


@protocol(_metrics)
def retrieval(
    image_ND: Images,
    text_MD: Texts,
    groups_N: Groups,
    text_groups_M: ArrayLike | None = None,
    *,
    k: Sequence[Count] = (1, 5),
) -> dict[str, Metric]:
    """Score retrieval by cosine, both ways.

    An image and a text of one group belong together, so an image may have several texts and a
    text several images; any of them is a hit. The rank of a query is 1 + the number of candidates
    of other groups that are as similar as its best hit, or more: vectors that are all alike
    score nothing. Neither the order of rows nor the length of vectors has an effect.

    Reference: Karpathy and Fei-Fei 2015, arXiv:1412.2306, section 4.1 (recall at k, median rank).
    Args:
        image_ND: one vector an image.
        text_MD: one vector a text.
        groups_N: the group of each image.
        text_groups_M: the group of each text; None where text i belongs to image i.
        k: the recalls to report.
    Returns:
        For `image_to_text` and `text_to_image`, over the queries of that side:
        `<way>.recall@<k>`: share of queries with rank k or better.
        `<way>.median_rank`: of the queries, from 1.
        `<way>.mean_reciprocal_rank`: mean of 1 / rank, in (0, 1].
    Cost: O(N * M * D) time, 8 KB of memory a candidate.
    Raises:
        DataError: when shapes differ, or a query has no counterpart.
    """
    image, text = unit(finite(image_ND, "image vectors")), unit(finite(text_MD, "text vectors"))
    image_group = np.asarray(groups_N)
    text_group = image_group if text_groups_M is None else np.asarray(text_groups_M)
    shapes = (image_group.shape, text_group.shape)
    if image.shape[1] != text.shape[1] or shapes != ((len(image),), (len(text),)):
        raise DataError(
            f"retrieval: {image.shape} images, {text.shape} texts and groups {shapes} do not fit."
        )
    ranks = (
        _ranks(image, text, image_group, text_group),
        _ranks(text, image, text_group, image_group),
    )
    found: dict[str, Metric] = {}
    for way, rank in zip(WAYS, ranks, strict=True):
        found |= {f"{way}.recall@{n}": bootstrap(rank <= n) for n in k}
        found[f"{way}.median_rank"] = bootstrap(rank, statistic="median")
        found[f"{way}.mean_reciprocal_rank"] = bootstrap(1 / rank)
    return found


def _ranks(
    query: NDArray[np.float32],
    candidate: NDArray[np.float32],
    query_group: NDArray[np.generic],
    candidate_group: NDArray[np.generic],
) -> NDArray[np.int64]:
    alone = ~np.isin(query_group, candidate_group)
    if alone.any():
        raise DataError(
            f"retrieval: {alone.sum()} of {len(alone)} queries have no counterpart, the first of "
            f"group {query_group[alone][0]}. Leave them out."
        )
    ranks = []
    for start in range(0, len(query), _BLOCK):
        cosine = query[start : start + _BLOCK] @ candidate.T
        same = query_group[start : start + _BLOCK, None] == candidate_group
        best = np.where(same, cosine, -np.inf).max(axis=1, keepdims=True)
        ranks.append(1 + ((cosine >= best) & ~same).sum(axis=1))
    return np.concatenate(ranks)
