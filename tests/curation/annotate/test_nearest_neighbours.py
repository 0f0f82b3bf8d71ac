from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate import nearest_neighbours as nearest_neighbours_module
from curation.annotate.nearest_centroid import nearest_centroid
from curation.annotate.nearest_neighbours import nearest, nearest_neighbours
from curation.fit.kmeans import kmeans


def frame(x, group=0, uids=None):
    x = np.asarray(x, dtype=np.float64)
    uids = np.arange(len(x)) if uids is None else uids
    vector = pl.Series(x.tolist(), dtype=pl.Array(pl.Float32, x.shape[1]))
    return pl.DataFrame({"uid": pl.Series(uids, dtype=pl.UInt64), "vector": vector, "group": group})


def clustered(n, seed=0, d=16):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((12, d))[rng.integers(0, 12, n)] + 0.6 * rng.standard_normal((n, d))


def by_comparing_all(x, k, allowed=None):
    """The definition, in double precision: the largest cosines, ties by row."""
    u = np.asarray(x, dtype=np.float32).astype(np.float64)
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    cosine = u @ u.T
    np.fill_diagonal(cosine, -2)
    if allowed is not None:
        cosine[~allowed] = -2
    order = np.lexsort((np.broadcast_to(np.arange(len(x)), cosine.shape), -np.round(cosine, 12)))
    lists = [row[c[row] > -2][:k] for row, c in zip(order, cosine, strict=True)]
    return [row.tolist() for row in lists], [c[row] for row, c in zip(lists, cosine, strict=True)]


def test_four_points_on_a_circle():
    angle = np.radians([0, 10, 30, 180])
    found = nearest_neighbours(frame(np.column_stack([np.cos(angle), np.sin(angle)])), k=2)
    assert found["neighbours"].to_list() == [[1, 2], [0, 2], [1, 0], [2, 1]]
    assert found["cosines"][0].to_list() == pytest.approx(np.cos(np.radians([10, 30])).tolist())


@pytest.mark.parametrize("k", [1, 7, 900])
def test_in_one_group_they_are_those_of_comparing_all_with_all(k):
    x = clustered(700)
    x[100:130] = x[:30]  # equal vectors: ties by uid
    wanted, cosines = by_comparing_all(x, k)
    found = nearest_neighbours(frame(x), k=k)
    assert found["neighbours"].to_list() == wanted
    assert np.allclose(found["cosines"].explode(), np.concatenate(cosines), atol=1e-6)


def test_in_several_groups_they_are_the_nearest_that_share_one():
    x = clustered(600, seed=1)
    rows = frame(x).drop("group")
    centroids = kmeans(rows, num_clusters=24)
    probes = nearest_centroid(rows, centroids, probes=3)["probes"]
    share = np.zeros((600, len(centroids)), dtype=bool)
    share[np.repeat(np.arange(600), 3), probes.explode().to_numpy()] = True
    wanted, _ = by_comparing_all(x, 10, allowed=share.astype(int) @ share.T > 0)
    found = nearest_neighbours(rows.with_columns(group=probes), k=10)
    assert found["neighbours"].to_list() == wanted
    exact, _ = by_comparing_all(x, 10)
    hits = sum(len(set(a) & set(b)) for a, b in zip(exact, wanted, strict=True))
    assert hits / 6000 > 0.9


def test_lists_are_folded_some_records_at_a_time(monkeypatch):
    monkeypatch.setattr(nearest_neighbours_module, "FOLDED_AT_ONCE", 10)
    count = 25
    uids = np.repeat(np.arange(count, dtype=np.uint64), 2)
    partials = pl.DataFrame(
        {
            "uid": uids,
            "neighbours": pl.Series(uids + 1 + np.arange(2 * count) % 2).reshape((-1, 1)),
            "cosines": pl.Series(np.tile(np.float32([0.5, 0.25]), count)).reshape((-1, 1)),
        }
    ).cast({"neighbours": pl.List(pl.UInt64), "cosines": pl.List(pl.Float32)})
    folded = nearest(partials, k=2)
    assert folded["uid"].to_list() == list(range(count))
    wanted = [[n + 1, n + 2] for n in range(count)]
    assert folded["neighbours"].to_list() == wanted


def test_what_has_no_direction_no_group_or_no_other():
    rows = frame([[1, 0], [1, 1], [0, 0], [0, 1]], group=[0, 0, 0, None])
    last = frame([[1, 0]], group=0, uids=[9])
    rows = pl.concat([rows, last], how="vertical_relaxed")
    rows = rows.with_columns(vector=pl.when(pl.col("uid") != 9).then("vector"))
    found = nearest_neighbours(rows, k=5)
    assert found["neighbours"].to_list() == [[1], [0], None, [], None]
    with pytest.raises(DataError, match="NaN or infinity"):
        nearest_neighbours(frame([[np.nan, 1], [1, 1]]), k=1)
