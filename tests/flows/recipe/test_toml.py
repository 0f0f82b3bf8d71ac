from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flows.recipe.toml import dumps

scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"])),
)
keys = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
tables = st.recursive(
    st.dictionaries(keys, scalars, max_size=4),
    lambda inner: st.dictionaries(
        keys,
        st.one_of(
            scalars,
            st.lists(scalars, max_size=3),
            inner,
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_size=4,
    ),
    max_leaves=12,
)


@given(tables)
def test_what_is_written_is_read_back(content: dict[str, Any]):
    assert tomllib.loads(dumps(content)) == content


def test_a_recipe_reads_as_a_person_would_write_it():
    recipe = {
        "name": "web",
        "annotate": {"near": {"step": "minhash_clusters", "threshold": 0.8}},
        "select": [{"name": "short", "where": "caption.words >= 3"}, {"by": "top", "budget": 5}],
    }
    assert dumps(recipe) == (
        'name = "web"\n\n[annotate.near]\nstep = "minhash_clusters"\nthreshold = 0.8\n\n'
        '[[select]]\nname = "short"\nwhere = "caption.words >= 3"\n\n'
        '[[select]]\nby = "top"\nbudget = 5\n'
    )


def test_a_section_without_keys_stays():
    assert tomllib.loads(dumps({"export": {}})) == {"export": {}}
    assert tomllib.loads(dumps({"annotate": {"x": {}}})) == {"annotate": {"x": {}}}


def test_a_section_inside_a_list_of_sections_stays_with_its_item():
    content = {"select": [{"by": "a", "scorer": {"name": "x"}}, {"by": "b"}]}
    assert tomllib.loads(dumps(content)) == content


def test_none_has_no_toml_form_and_is_left_out():
    assert dumps({"a": None, "b": 1}) == "b = 1\n"


def test_a_tuple_is_a_list():
    assert tomllib.loads(dumps({"a": (1, 2), "b": ()})) == {"a": [1, 2], "b": []}
