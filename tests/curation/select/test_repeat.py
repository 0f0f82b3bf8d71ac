from __future__ import annotations

import polars as pl
import pytest

from contracts.errors import DataError
from curation.select.repeat import repeat


def rows(repeats: list[int | None], dtype: type[pl.DataType]) -> pl.DataFrame:
    uid = pl.Series(range(len(repeats)), dtype=pl.UInt64)
    return pl.DataFrame({"uid": uid, "repeats": pl.Series(repeats, dtype=dtype)})


@pytest.mark.parametrize("dtype", [pl.UInt16, pl.Int64, pl.UInt8])
def test_all_are_kept_but_those_of_no_repeat(dtype: type[pl.DataType]):
    found = repeat(rows([3, None, 0, 1, 200], dtype))
    assert found["uid"].to_list() == [0, 3, 4]
    assert found["repeats"].to_list() == [3, 1, 200]
    assert found.schema["repeats"] == pl.UInt16


@pytest.mark.parametrize("wrong", [-1, 65_536])
def test_repeats_that_no_index_holds_are_refused(wrong: int):
    with pytest.raises(DataError, match="record 0000000000000001 has"):
        repeat(rows([2, wrong], pl.Int64))
