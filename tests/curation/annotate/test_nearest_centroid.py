from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.nearest_centroid import nearest_centroid
from curation.properties import check


def frame(values, dtype=pl.Float16, d=2):
    return pl.DataFrame(
        {
            "uid": pl.Series(range(len(values)), dtype=pl.UInt64),
            "vector": pl.Series(values, dtype=pl.Array(dtype, d)),
        }
    )


def table(values, numbers=None, dtype=pl.Float32, d=2):
    return pl.DataFrame(
        {
            "centroid": pl.Series(numbers or range(len(values)), dtype=pl.UInt32),
            "vector": pl.Series(values, dtype=pl.Array(dtype, d)),
        }
    )


def test_each_vector_gets_the_centroid_of_largest_cosine():
    found = nearest_centroid(frame([[3, 4], [1, 0], [-1, 0.5]]), table([[1, 0], [0, 1]]))
    assert found["centroid"].to_list() == [1, 0, 1]
    assert found["cosine"].to_list() == pytest.approx([0.8, 1, 0.5 / 1.25**0.5])
    assert found.schema == {"uid": pl.UInt64, "centroid": pl.UInt32, "cosine": pl.Float32}


def test_a_tie_goes_to_the_smallest_number_whatever_the_order_of_the_table():
    rows = frame([[1, 1], [1, -1]])
    for centroids in (table([[1, 0], [0, 1]], [7, 4]), table([[0, 1], [1, 0]], [4, 7])):
        assert nearest_centroid(rows, centroids)["centroid"].to_list() == [4, 7]


def test_long_centroids_attract_no_more_than_short_ones():
    found = nearest_centroid(frame([[1, 0.1]]), table([[0.1, 0], [100, 100]]))
    assert found["centroid"].to_list() == [0]


def test_a_null_vector_and_one_of_zeros_get_nulls():
    found = nearest_centroid(frame([[1, 0], None, [0, 0], [0, 1]]), table([[1, 0], [0, 1]]))
    assert found["centroid"].to_list() == [0, None, None, 1]
    assert found["cosine"].to_list() == [1, None, None, 1]


def test_it_agrees_with_brute_force_and_a_row_alone_gets_the_same_bits():
    rng = np.random.default_rng(0)
    x, c = rng.standard_normal((3000, 40)), rng.standard_normal((2500, 40)).astype(np.float32)
    rows, centroids = frame(x.tolist(), d=40), table(c.tolist(), d=40)
    found = nearest_centroid(rows, centroids)
    x = rows["vector"].to_numpy().astype(np.float64)
    exact = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        c / np.linalg.norm(c, axis=1, keepdims=True)
    ).T.astype(np.float64)
    assert found["centroid"].to_list() == exact.argmax(axis=1).tolist()
    np.testing.assert_allclose(found["cosine"], exact.max(axis=1), atol=2e-7)
    for i in range(0, 3000, 500):
        assert nearest_centroid(rows[i : i + 3], centroids).equals(found[i : i + 3])


def test_probes_are_the_nearest_centroids_nearest_first():
    found = nearest_centroid(
        frame([[3, 4], None, [1, -0.5]]), table([[1, 0], [0, 1], [-1, 0]], [5, 3, 9]), probes=2
    )
    assert found["probes"].to_list() == [[3, 5], None, [5, 3]]
    assert found["centroid"].to_list() == [3, None, 5]
    assert found.schema["probes"] == pl.List(pl.UInt32)


def test_probes_at_equal_cosine_come_by_number_and_there_are_never_more_than_centroids():
    found = nearest_centroid(frame([[1, 0]]), table([[0, 1], [1, 0], [0, -1], [1, 0]]), probes=9)
    assert found["probes"].to_list() == [[1, 3, 0, 2]]


@pytest.mark.parametrize(("n", "k", "probes"), [(2500, 700, 5), (40, 9000, 3), (7, 3, 2)])
def test_probes_agree_with_a_sort_of_all_cosines_and_change_nothing_else(n, k, probes):
    rng = np.random.default_rng(1)
    c = rng.standard_normal((k, 24)).astype(np.float32)
    c[k // 2 :: 5] = c[: len(c[k // 2 :: 5])]
    rows, centroids = frame(rng.standard_normal((n, 24)).tolist(), d=24), table(c.tolist(), d=24)
    found = nearest_centroid(rows, centroids, probes=probes)
    x = rows["vector"].to_numpy().astype(np.float64)
    exact = (x / np.linalg.norm(x, axis=1, keepdims=True)) @ (
        c / np.linalg.norm(c, axis=1, keepdims=True)
    ).T.astype(np.float64)
    order = np.argsort(-np.round(exact, 12), axis=1, kind="stable")[:, :probes]
    assert found["probes"].to_list() == order.tolist()
    assert found.drop("probes").equals(nearest_centroid(rows, centroids))


def test_several_probes_hold_the_properties_of_a_rowwise_step():
    assert "batch_split" in check(nearest_centroid.bind(probes=3))
    assert nearest_centroid(frame([]), table([]), probes=3)["probes"].dtype == pl.List(pl.UInt32)
    assert list(nearest_centroid.writes) == ["centroid", "cosine"]


def test_vectors_and_centroids_of_different_lengths_are_an_error_that_names_both():
    with pytest.raises(DataError, match="3 dimensions, centroids of 2"):
        nearest_centroid(frame([[1, 0, 0]], d=3), table([[1, 0]]))


def test_no_centroid_is_an_error_and_no_record_is_none():
    with pytest.raises(DataError, match="empty"):
        nearest_centroid(frame([[1, 0]]), table([]))
    assert nearest_centroid(frame([]), table([[1, 0]])).height == 0
    assert nearest_centroid(frame([None]), table([[1, 0]]))["centroid"].to_list() == [None]


def test_centroids_come_from_the_fit_by_default():
    assert nearest_centroid.tables["centroids"].default == "fit.kmeans"
