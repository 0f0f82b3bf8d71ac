from __future__ import annotations

import numpy as np
import pytest

from contracts.errors import DataError
from contracts.report import Metric
from evaluation.protocols.retrieval import retrieval

WAYS = ("image_to_text", "text_to_image")


def test_pairs_that_match_score_one_both_ways() -> None:
    x_ND = np.random.default_rng(0).normal(size=(30, 8))
    found = retrieval(x_ND, x_ND * 7, np.arange(30))
    for way in WAYS:
        assert found[f"{way}.recall@1"] == Metric(1.0, 30, 1.0, 1.0)
        assert found[f"{way}.median_rank"].value == 1
        assert found[f"{way}.mean_reciprocal_rank"].value == 1


def test_a_case_that_one_counts_by_hand() -> None:
    images = np.eye(3)
    # Cosines, a row an image: own text first, second and third.
    texts = np.array([[3, 2, 1], [2, 1, 3], [1, 3, 2]]) / np.sqrt(14)
    found = retrieval(images, texts.T, np.arange(3), k=(1, 2))
    # Image 0: 3 1 wins. Image 1: own 1, others 2 and 3: rank 3. Image 2: own 2, one better.
    assert found["image_to_text.recall@1"].value == pytest.approx(1 / 3)
    assert found["image_to_text.recall@2"].value == pytest.approx(2 / 3)
    assert found["image_to_text.median_rank"].value == 2
    expected = (1 + 1 / 3 + 1 / 2) / 3
    assert found["image_to_text.mean_reciprocal_rank"].value == pytest.approx(expected)


def test_any_text_of_the_own_group_is_a_hit_and_none_of_them_a_rival() -> None:
    images = np.array([[1, 0], [0, 1]])
    # Two captions for each image; the second of the first image is far off.
    texts = np.array([[1, 0.1], [-1, 0.2], [0.1, 1], [0.3, 1]])
    found = retrieval(images, texts, [10, 20], [10, 10, 20, 20])
    assert found["image_to_text.recall@1"] == Metric(1.0, 2, 1.0, 1.0)
    assert found["text_to_image.recall@1"].value == pytest.approx(3 / 4)
    assert found["text_to_image.recall@1"].n == 4
    apart = retrieval(images[[0, 0, 1, 1]], texts, np.arange(4))
    assert apart["image_to_text.recall@1"].value < 1


def test_several_images_under_one_caption_are_hits_too() -> None:
    images = np.array([[1, 0.2], [1, -0.2], [0, 1]])
    texts = np.array([[1, 0], [0.1, 1]])
    found = retrieval(images, texts, ["cat", "cat", "sea"], ["cat", "sea"])
    assert found["text_to_image.recall@1"].value == 1
    assert found["image_to_text.recall@1"].value == 1


def test_ranks_are_those_of_a_double_loop_across_blocks() -> None:
    rng = np.random.default_rng(1)
    images, texts = rng.normal(size=(1100, 6)), rng.normal(size=(1100, 6))
    texts += 0.7 * images
    groups = rng.integers(0, 700, 1100)
    found = retrieval(images, texts, groups, k=[1, 5, 10])
    a = images / np.linalg.norm(images, axis=1, keepdims=True)
    b = texts / np.linalg.norm(texts, axis=1, keepdims=True)
    for way, cosine in zip(WAYS, (a @ b.T, b @ a.T), strict=True):
        ranks = np.array(
            [
                1 + (row[groups != own] >= row[groups == own].max()).sum()
                for row, own in zip(cosine, groups, strict=True)
            ]
        )
        for k in (1, 5, 10):
            assert found[f"{way}.recall@{k}"].value == pytest.approx((ranks <= k).mean(), abs=2e-3)
        assert found[f"{way}.median_rank"].value == pytest.approx(np.median(ranks), abs=1)
        expected = (1 / ranks).mean()
        assert found[f"{way}.mean_reciprocal_rank"].value == pytest.approx(expected, abs=1e-3)


def test_unrelated_vectors_score_chance_within_three_sigma() -> None:
    rng = np.random.default_rng(2)
    found = retrieval(rng.normal(size=(500, 16)), rng.normal(size=(500, 16)), np.arange(500))
    for way in WAYS:
        value = found[f"{way}.recall@5"].value
        assert abs(value - 0.01) < 3 * np.sqrt(0.01 * 0.99 / 500)


def test_vectors_that_are_all_alike_score_nothing() -> None:
    found = retrieval(np.ones((10, 4)), np.ones((10, 4)), np.arange(10))
    assert found["image_to_text.recall@5"].value == 0
    assert found["image_to_text.median_rank"].value == 10


def test_the_order_of_rows_has_no_effect() -> None:
    rng = np.random.default_rng(3)
    images = rng.normal(size=(80, 6))
    texts = images + rng.normal(size=(80, 6))
    groups = np.arange(80) // 2
    order = rng.permutation(80)
    found = retrieval(images[order], texts[order], groups[order])
    assert found == retrieval(images, texts, groups)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DataError, match="do not fit"):
        retrieval(np.ones((3, 2)), np.ones((4, 2)), [0, 1, 2])
    with pytest.raises(DataError, match=r"1 of 2 queries have no counterpart, .* group 5"):
        retrieval(np.ones((2, 2)), np.ones((2, 2)), [0, 5], [0, 0])
