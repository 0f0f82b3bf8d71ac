from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import DataError
from curation import _neighbours


def unit_rows(seed, n, d):
    return _neighbours.unit(np.random.default_rng(seed).standard_normal((n, d)))


def exact_closest(rows, columns):
    """Python's own sums in double precision, the first of equals."""
    wide = [[float(v) for v in row] for row in columns]
    best = []
    for row in rows:
        scores = [sum(float(a) * b for a, b in zip(row, column, strict=True)) for column in wide]
        top = max(scores)
        best.append(next(i for i, s in enumerate(scores) if s >= top - 1e-12))
    return best


def test_a_column_of_half_precision_is_not_copied_to_another_precision():
    x = np.array([[1, 2], [3, 4]], dtype=np.float16)
    held, found = _neighbours.matrix(pl.Series("v", x, dtype=pl.Array(pl.Float16, 2)))
    assert held.tolist() == [True, True]
    assert found.dtype == np.float16
    assert found.tolist() == x.tolist()


@pytest.mark.parametrize(
    "dtype", [pl.Array(pl.Float32, 2), pl.List(pl.Float16), pl.List(pl.Float64), pl.List(pl.Int64)]
)
def test_arrays_and_lists_of_any_number_are_vectors_and_nulls_are_left_out(dtype):
    series = pl.Series("v", [[1, 2], None, [0, 0], [3, 4]], dtype=dtype)
    held, x = _neighbours.matrix(series)
    assert held.tolist() == [True, False, True, True]
    assert x.tolist() == [[1, 2], [0, 0], [3, 4]]
    held, x = _neighbours.directions(series)
    assert held.tolist() == [True, False, False, True]
    np.testing.assert_allclose(x, [[5**-0.5, 2 * 5**-0.5], [0.6, 0.8]], atol=1e-7)


def test_a_column_of_nulls_alone_holds_no_vector():
    for dtype in (pl.Array(pl.Float16, 3), pl.List(pl.Float32)):
        held, x = _neighbours.directions(pl.Series("v", [None, None], dtype=dtype))
        assert held.tolist() == [False, False]
        assert len(x) == 0


def test_vectors_that_are_not_finite_are_counted_in_the_error():
    nan, inf = float("nan"), float("inf")
    series = pl.Series("v", [[1.0, nan], [1, 0], [inf, 0], None], dtype=pl.Array(pl.Float16, 2))
    with pytest.raises(DataError, match="v: 2 of 3 vectors hold NaN or infinity"):
        _neighbours.matrix(series)


def test_vectors_of_two_lengths_are_an_error_that_names_both():
    with pytest.raises(DataError, match=r"\[2, 3\] dimensions"):
        _neighbours.matrix(pl.Series("v", [[1.0, 2.0], [1.0, 2.0, 3.0]]))


def test_large_and_small_magnitudes_keep_their_direction():
    x = np.array([[3e37, 4e37], [3e-38, 4e-38]], dtype=np.float32)
    np.testing.assert_allclose(_neighbours.unit(x), [[0.6, 0.8]] * 2, atol=1e-6)
    assert _neighbours.cosine(x, x).tolist() == [1.0, 1.0]


def test_equal_vectors_have_a_cosine_of_exactly_one():
    x = np.random.default_rng(0).standard_normal((5000, 96)).astype(np.float16)
    assert (_neighbours.cosine(x, x.copy()) == 1.0).all()
    assert (_neighbours.cosine(x, -x) == -1.0).all()


def test_a_cosine_has_the_same_bits_whatever_rows_are_beside_it():
    x, y = unit_rows(1, 3000, 77), unit_rows(2, 3000, 77)
    together = _neighbours.cosine(x, y)
    alone = [_neighbours.cosine(x[i : i + 1], y[i : i + 1])[0] for i in range(0, 3000, 7)]
    assert together[::7].tolist() == alone


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 12), m=st.integers(1, 30), d=st.integers(1, 5))
def test_the_nearest_column_is_that_of_plain_sums_and_the_first_of_equals(seed, n, m, d):
    rng = np.random.default_rng(seed)
    # Few different integers make many exact and near ties.
    rows = _neighbours.unit(rng.integers(-2, 3, (n, d)) + 0.5)
    columns = _neighbours.unit(rng.integers(-2, 3, (m, d)) + 0.5)
    exact = _neighbours.unit_64(rows), _neighbours.unit_64(columns)
    assert _neighbours.nearest(rows, columns).tolist() == exact_closest(*exact)


def test_near_ties_across_tiles_are_decided_beyond_single_precision():
    d, m = 64, 3 * _neighbours.COLUMNS
    row = unit_rows(3, 1, d)
    columns = np.repeat(row, m, axis=0)
    # One component nudged, each time otherwise: the best differ by some 1e-11 in cosine.
    columns[:, 0] += (1 + np.random.default_rng(4).permutation(m)) * np.float32(2**-18)
    columns = _neighbours.unit(columns)
    exact = _neighbours.unit_64(columns) @ _neighbours.unit_64(row)[0]
    assert _neighbours.nearest(row, columns)[0] == exact.argmax()
    assert _neighbours.nearest(row, columns[::-1].copy())[0] == exact[::-1].argmax()


def test_the_first_of_equal_columns_wins_across_tiles():
    columns = np.repeat(unit_rows(5, 2, 32), 2 * _neighbours.COLUMNS, axis=0)
    assert _neighbours.nearest(columns[-3:], columns).tolist() == [2 * _neighbours.COLUMNS] * 3


def test_a_span_hides_the_columns_outside_it():
    x = unit_rows(6, 5000, 16)
    first, last = np.array([0, 10, 4000, 7]), np.array([5000, 20, 4500, 7])
    found = _neighbours.closest(x[:4], x, span=(first, last))
    for i in range(3):
        inside = x[first[i] : last[i]] @ x[i]
        assert found[i] == first[i] + inside.argmax()
    assert found[3] == -1


def test_rows_made_at_length_one_when_asked_for_have_the_same_neighbours():
    x = np.random.default_rng(12).standard_normal((6000, 20)).astype(np.float16)
    x[3000:3050] = x[:50]
    chosen = np.random.default_rng(13).permutation(6000)[:5000]
    made, kept = _neighbours.Units(x, chosen), _neighbours.unit(x[chosen])
    assert (len(made), made.shape) == (5000, (5000, 20))
    rows, span = kept[:300], (np.arange(300) % 7, 5000 - np.arange(300))
    found = _neighbours.closest(rows, made, span=span)
    assert found.tolist() == _neighbours.closest(rows, kept, span=span).tolist()


def test_a_ranking_begins_with_the_nearest_and_has_every_column_once():
    rows, columns = unit_rows(14, 50, 6), unit_rows(15, 300, 6)
    columns[200:] = columns[:100]
    ranked = _neighbours.ranking(rows, columns, 1000)
    assert (np.sort(ranked, axis=1) == np.arange(300)).all()
    assert ranked[:, 0].tolist() == _neighbours.nearest(rows, columns).tolist()
    exact = _neighbours.unit_64(rows) @ _neighbours.unit_64(columns).T
    ordered = np.take_along_axis(exact, ranked, axis=1)
    assert (np.diff(ordered, axis=1) <= 1e-12).all()
    assert (np.diff(ranked, axis=1)[np.abs(np.diff(ordered, axis=1)) < 1e-12] > 0).all()


@pytest.mark.parametrize(("n", "m", "d"), [(300, 5000, 48), (7, 3, 2), (64, 2100, 512)])
def test_torch_finds_the_same_neighbours_as_numpy(n, m, d):
    rows, columns = unit_rows(7, n, d), unit_rows(8, m, d)
    columns[m // 2 :] = columns[: m - m // 2]  # exact ties, within a tile and across tiles
    span = np.arange(n) % 5, m - np.arange(n) % 7
    for spanned in (None, span):
        numpy = _neighbours.closest(rows, columns, span=spanned)
        torch = _neighbours.closest(rows, columns, span=spanned, device="cpu")
        assert numpy.tolist() == torch.tolist()


@pytest.mark.gpu
def test_cuda_finds_the_same_neighbours_as_numpy():
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    rows, columns = unit_rows(7, 1000, 512), unit_rows(8, 5000, 512)
    numpy = _neighbours.closest(rows, columns, device="cpu")
    assert numpy.tolist() == _neighbours.closest(rows, columns, device="cuda").tolist()


def test_torch_is_left_at_the_precision_it_had():
    import torch

    torch.set_float32_matmul_precision("high")
    try:
        _neighbours.closest(unit_rows(1, 3, 4), unit_rows(2, 5, 4), device="cpu")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("depth", [1, 7, 300, 10_000])
def test_a_shortlist_is_the_head_of_the_full_ranking(depth):
    x = np.random.default_rng(9).standard_normal((9000, 24)).astype(np.float16)
    x[5000:5050] = x[:50]
    centroids = unit_rows(10, 6, 24)
    rows, cosines, sure = _neighbours.shortlist(x, centroids, depth)
    assert (sure <= min(depth, 9000)).all()
    assert (sure >= min(depth, 9000) - 2).all()
    for q, centroid in enumerate(centroids):
        every = _neighbours.cosine(x, np.broadcast_to(centroid, x.shape))
        order = np.lexsort((np.arange(9000), -every))[: sure[q]]
        assert rows[q, : sure[q]].tolist() == order.tolist()
        assert cosines[q, : sure[q]].tolist() == every[order].tolist()


def test_a_shortlist_claims_no_order_that_rounding_could_turn():
    x = np.repeat(unit_rows(11, 1, 8), 50, axis=0)
    _, _, sure = _neighbours.shortlist(x, x[:1], 10)
    assert sure.tolist() == [0]
    rows, _, sure = _neighbours.shortlist(x, x[:1], 50)
    assert sure.tolist() == [50]
    assert rows[0].tolist() == list(range(50))


def clustered(threads):
    code = (
        "import numpy as np, hashlib\n"
        "from curation import _neighbours as n\n"
        "x = np.random.default_rng(0).standard_normal((6000, 48)).astype(np.float16)\n"
        "for spherical in (True, False):\n"
        "    c, s = n.kmeans(x, np.arange(6000, dtype=np.uint64), 37, iterations=8,"
        " spherical=spherical, seed=0, stream='k')\n"
        "    print(hashlib.sha256(c.tobytes() + s.tobytes()).hexdigest())\n"
    )
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    environment = os.environ | dict.fromkeys(names, str(threads))
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout


def test_kmeans_gives_the_same_bytes_on_one_and_on_two_threads():
    assert clustered(1) == clustered(2)


def test_importing_the_module_loads_neither_torch_nor_faiss():
    code = (
        "import sys, curation._neighbours, curation.select.simcore\n"
        "print(sorted({'torch', 'faiss', 'numba'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_half_precision_becomes_single_bit_for_bit():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16).reshape(256, 256)
    assert _neighbours.single(every).tobytes() == every.astype(np.float32).tobytes()
    turned = every.T
    assert np.array_equal(_neighbours.single(turned), turned.astype(np.float32), equal_nan=True)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_vectors_stay_where_they_lie(dtype):
    x = np.arange(1, 13, dtype=dtype).reshape(4, 3)
    whole = pl.Series("v", x, dtype=pl.Array(pl.Float16 if dtype == np.float16 else pl.Float32, 3))
    gap = pl.select(pl.when(pl.Series([True, False, True, True])).then(whole)).to_series()
    zero = whole.to_list()
    zero[2] = [0.0, 0.0, 0.0]
    zero = pl.Series("v", zero, dtype=whole.dtype)
    for series, chosen in ((whole, [0, 1, 2, 3]), (gap, [0, 2, 3]), (zero, [0, 1, 3])):
        held, rows = _neighbours.in_place(series, zeros=False)
        assert np.flatnonzero(held).tolist() == rows.chosen.tolist() == chosen
        assert np.array_equal(rows[:], x[chosen])
        assert rows.shape == (len(chosen), 3)
    held, rows = _neighbours.in_place(gap[1:], zeros=False)
    assert np.array_equal(rows[:], x[2:])
    assert held.tolist() == [False, True, True]
    flat = np.shares_memory(_neighbours.in_place(whole)[1].x, whole.to_numpy())
    assert flat


def test_kmeans_is_the_same_where_rows_are_brought_to_length_1_anew(monkeypatch):
    x = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float16)
    uids = np.arange(500, dtype=np.uint64)
    options = {"iterations": 9, "spherical": True, "seed": 0, "stream": "k"}
    in_memory = _neighbours.kmeans(x, uids, 12, **options)
    monkeypatch.setattr(_neighbours, "IN_MEMORY_BYTES", 0)
    anew = _neighbours.kmeans(x, uids, 12, **options)
    assert all(np.array_equal(a, b) for a, b in zip(in_memory, anew, strict=True))
