from __future__ import annotations

import logging

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from curation.select.uid_list import uid_list

HEX = ["139e4a9b22a614771f06c700a8ebe150", "6e35" + "0" * 27 + "1", "f" * 32]
POOL = pl.DataFrame(
    {"uid": pl.Series([3, 2**64 - 1, 9], dtype=pl.UInt64), "source_id": HEX},
)


def uids(*values):
    return pl.DataFrame({"uid": pl.Series(values, dtype=pl.UInt64)})


def test_a_list_of_uids_keeps_these_and_inverted_the_others():
    listed = uids(9, 2**64 - 1)
    assert uid_list(POOL, listed)["uid"].to_list() == [9, 2**64 - 1]
    assert uid_list(POOL, listed, invert=True)["uid"].to_list() == [3]
    assert uid_list(POOL.drop("source_id"), listed).height == 2


@pytest.mark.parametrize("column", ["source_id", "uid"])
def test_a_list_of_strings_names_source_ids(column):
    assert uid_list(POOL, pl.DataFrame({column: [HEX[0], HEX[2]]}))["uid"].to_list() == [3, 9]


def test_datacomps_subset_file_names_source_ids_by_their_halves():
    # The worked pair of specs/methods.md 6.1, read from a real npy of dtype u8,u8.
    subset = np.array(
        [(1413649363202610295, 2235693070683988304), (2**64 - 1, 2**64 - 1)], dtype="u8,u8"
    )
    table = pl.DataFrame({name: subset[name] for name in subset.dtype.names})
    assert uid_list(POOL, table)["uid"].to_list() == [3, 9]
    other = pl.DataFrame({"uid": pl.Series([1], dtype=pl.UInt64), "source_id": ["photo.jpg"]})
    assert uid_list(pl.concat([POOL, other]), table, invert=True)["uid"].to_list() == [
        1,
        2**64 - 1,
    ]


def test_a_list_may_repeat_and_hold_nulls():
    listed = pl.DataFrame({"uid": pl.Series([9, None, 9], dtype=pl.UInt64)})
    assert uid_list(POOL, listed)["uid"].to_list() == [9]


def test_ids_that_no_candidate_has_are_counted(caplog):
    with caplog.at_level(logging.WARNING):
        uid_list(POOL, uids(9, 10, 11))
    assert "2 of 3 ids are not among the candidates" in caplog.text
    caplog.clear()
    uid_list(POOL, uids(9))
    assert not caplog.text


@pytest.mark.parametrize("listed", [uids(10, 11), uids(), pl.DataFrame({"source_id": ["x"]})])
def test_a_list_that_finds_nobody_is_an_error(listed):
    for invert in (False, True):
        with pytest.raises(DataError, match="is among 3 candidates"):
            uid_list(POOL, listed, invert=invert)
    assert uid_list(POOL.clear(), listed).height == 0


def test_a_list_without_ids_is_an_error_that_names_its_columns():
    with pytest.raises(ConfigError, match="url"):
        uid_list(POOL, pl.DataFrame({"url": ["a"]}))


def test_source_ids_need_their_role():
    with pytest.raises(ConfigError, match="bind the role source_id"):
        uid_list(POOL.drop("source_id"), pl.DataFrame({"source_id": ["x"]}))


def test_uids_as_exports_show_them_are_uids():
    exported = pl.DataFrame({"uid": ["0000000000000003", "0000000000000009"], "source_id": "x"})
    assert uid_list(POOL, exported)["uid"].to_list() == [3, 9]
