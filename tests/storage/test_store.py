"""Where a store's paths lead, and what its format allows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from storage.records import PLAIN, quick_canonical
from storage.store import Store, canonical


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_path_in_the_store_is_recorded_relative_and_another_absolute(store: Store):
    inside, outside = store.root / "shards/web/v0001", store.root.parent / "data"
    assert store.recorded(inside) == "shards/web/v0001"
    assert store.recorded(outside) == str(outside.resolve())
    assert store.located("shards/web/v0001") == inside
    assert store.located(str(outside)) == outside
    assert store.located("..") == store.root.parent


def test_what_was_moved_twice_is_found_where_it_is_and_what_was_moved_back_where_it_was(
    store: Store,
):
    with store.lease():
        store.move(Path("/a"), Path("/b"))
        assert store.outside("/a/x") == Path("/b/x")
        assert store.outside("/ab/x") == Path("/ab/x")
        store.move(Path("/b"), Path("/c/d"))
        assert store.outside("/a/x") == Path("/c/d/x")
        store.move(Path("/c/d"), Path("/a"))
    assert Store(store.root).outside("/a/x") == Path("/a/x")
    assert Store(store.root).outside("/b/new") == Path("/a/new")


def test_the_longest_path_that_was_moved_counts(store: Store):
    with store.lease():
        store.move(Path("/a"), Path("/b"))
        store.move(Path("/a/x"), Path("/y"))
    assert store.outside("/a/x/1") == Path("/y/1")
    assert store.outside("/a/z/1") == Path("/b/z/1")


def test_a_part_of_what_had_moved_goes_elsewhere(store: Store):
    with store.lease():
        store.move(Path("/a"), Path("/b"))
        store.move(Path("/b/x"), Path("/y"))
    assert store.outside("/a/x/1") == Path("/y/1")
    assert store.outside("/a/z/1") == Path("/b/z/1")


def test_a_path_is_not_moved_below_itself(store: Store):
    with store.lease(), pytest.raises(ConfigError, match="lies below the old one"):
        store.move(Path("/a"), Path("/a/old"))


def test_a_new_store_has_this_format_and_one_without_a_mark_the_first(store: Store):
    with store.lease():
        store.create_ref("pool", "p", 1, {})
    assert store.format == 2
    (store.root / "store.json").unlink()
    assert store.format == 1
    with pytest.raises(ConfigError, match=f"winnow upgrade --store {store.root}"), store.lease():
        pass


_SIZES = st.floats(PLAIN[0], PLAIN[1], exclude_max=True)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.just(0.0)
    | _SIZES
    | _SIZES.map(float.__neg__),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(st.characters(codec=None)), _VALUES))
def test_the_quick_way_to_canonical_json_writes_the_same(value: dict[str, Any]):
    assert quick_canonical(value) == canonical(value)
