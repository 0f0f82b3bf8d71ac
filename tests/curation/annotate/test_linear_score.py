"""A head's scores by hand, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import DataError
from curation.annotate.linear_score import linear_score
from storage import files

ROWS = pl.DataFrame(
    {
        "uid": pl.Series([1, 2, 3, 4], dtype=pl.UInt64),
        "vector": pl.Series([[1, 0], [0.6, 0.8], None, [0, 0]], dtype=pl.Array(pl.Float16, 2)),
    }
)


def head(folder: Path, **arrays: Any) -> pl.DataFrame:
    np.savez(folder / "head.npz", **{name: np.array(value) for name, value in arrays.items()})
    return files.load(folder / "head.npz")


def test_a_score_is_the_product_and_the_bias(tmp_path: Path):
    found = linear_score(ROWS, head(tmp_path, weight=[[2.0, 5.0]], bias=[1.0]))
    assert found["score"].to_list() == pytest.approx([3.0, 6.2, None, 1.0], abs=5e-3)
    flat = linear_score(ROWS, head(tmp_path, weight=[2.0, 5.0]))
    assert flat["score"].to_list() == pytest.approx([2.0, 5.2, None, 0.0], abs=5e-3)


def test_safetensors_are_read_and_a_sigmoid_neither_overflows_nor_leaves_its_range(tmp_path: Path):
    from safetensors.numpy import save_file

    weight = np.array([[1e4, -1e4]], dtype=np.float32)
    save_file({"weight": weight, "bias": np.zeros(1, dtype=np.float32)}, tmp_path / "h.safetensors")
    table = files.load(tmp_path / "h.safetensors")
    found = linear_score(ROWS, table, activation="sigmoid")
    assert found["score"].to_list() == [1.0, 0.0, None, 0.5]


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"weight": [[1.0, 2.0, 3.0]]}, "vectors of 2 numbers, and a head of 3 weights"),
        ({"weight": [[1.0, 2.0], [3.0, 4.0]]}, "2 rows of weights, and a score has one"),
        ({"weight": [1.0, 2.0], "bias": [0.0, 1.0]}, "2 biases"),
        ({"weight": [[1.0, np.nan]]}, "NaN or infinity"),
    ],
)
def test_a_head_of_another_shape_is_refused(tmp_path: Path, arrays: Any, says: str):
    with pytest.raises(DataError, match=says):
        linear_score(ROWS, head(tmp_path, **arrays))
