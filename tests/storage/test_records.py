"""A record's hash: the same from a source and from the pool, another where anything differs."""

from __future__ import annotations

import hashlib
from datetime import date, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from contracts.uid import digest_of
from storage.records import members, record_hash, record_hashes
from storage.store import canonical

PAYLOAD, TEXT = digest_of(b"a picture"), digest_of("a text")
COLUMNS = {"source": "s", "source_id": "1", "normalised": []}


def test_a_record_hash_is_blake2b_of_both_digests_and_the_other_columns():
    """Its definition, by hand."""
    data = PAYLOAD + TEXT + b'{"meta":{"n":"1"},"normalised":[],"source":"s","source_id":"1"}'
    want = hashlib.blake2b(data, digest_size=16).digest()
    assert record_hash(PAYLOAD, TEXT, COLUMNS, {"n": 1, "none": None}) == want
    without = data.replace(TEXT, bytes(16))
    want = hashlib.blake2b(without, digest_size=16).digest()
    assert record_hash(PAYLOAD, None, {**COLUMNS, "licence": None, "text": "?"}, {"n": 1}) == want


@pytest.mark.parametrize(
    ("raw", "stored"),
    [
        (1, 1.0),
        (2**60, float(2**60)),
        (0.1, 0.1),
        (True, "true"),
        ([1, {"k": None}], '[1,{"k":null}]'),
        (7, "7"),
        (2**70, str(2**70)),
        (float("nan"), float("nan")),
        (date(2024, 1, 2), "2024-01-02"),
        (datetime(2024, 1, 2, 3), "2024-01-02T03:00:00"),
    ],
)
def test_a_value_counts_as_the_column_holds_it(raw: Any, stored: Any):
    hashes = [record_hash(PAYLOAD, TEXT, COLUMNS, {"v": v}) for v in (raw, stored)]
    assert hashes[0] == hashes[1]


def test_anything_that_differs_gives_another_hash():
    one = {"source": "s", "source_id": "1", "texts": [{"text": "a", "lang": None}], "width": 3}
    hashes = [
        record_hash(PAYLOAD, TEXT, one, {"v": 1}),
        record_hash(TEXT, TEXT, one, {"v": 1}),
        record_hash(PAYLOAD, PAYLOAD, one, {"v": 1}),
        record_hash(PAYLOAD, None, one, {"v": 1}),
        record_hash(PAYLOAD, TEXT, one, {"v": 1.5}),
        record_hash(PAYLOAD, TEXT, one, {"w": 1}),
        record_hash(PAYLOAD, TEXT, {**one, "width": 4}, {"v": 1}),
        record_hash(PAYLOAD, TEXT, {**one, "texts": [{"text": "b"}]}, {"v": 1}),
        record_hash(PAYLOAD, TEXT, {**one, "source_id": "2"}, {"v": 1}),
    ]
    assert len(set(hashes)) == len(hashes)
    assert record_hash(PAYLOAD, TEXT, {**one, "texts": [{"text": "a"}]}, {"v": 1}) == hashes[0]


# What may be taken for the end of a text, of a row or of a template.
_TEXTS = st.text(st.sampled_from('",\\\n%b{}a\u2028é'), max_size=4) | st.text(max_size=4)
_ROWS = st.fixed_dictionaries(
    {"source_id": _TEXTS, "series": st.none() | _TEXTS, "position": st.none() | st.integers(0, 9)}
)
_FLOATS = st.floats(-1e17, 1e17) | st.floats(0, 1e-3) | st.sampled_from((1e-4, 1e16, 0.5, -0.0))
_METAS = st.fixed_dictionaries(
    {"a": st.none() | _TEXTS, 'b"%s': _TEXTS, "c": st.integers(0, 9), "d": _FLOATS}
)


def _row(text: str) -> dict[str, Any]:
    return {"source_id": text, "series": text, "position": 0}


def _meta(text: str) -> dict[str, Any]:
    return {"a": text, 'b"%s': text, "c": 1, "d": 0.5}


def _as_text(number: float) -> str:
    return str(int(number)) if number.is_integer() else repr(number)


@given(st.lists(st.tuples(_ROWS, _METAS), max_size=6))
@example([(_row(text), _meta(text)) for text in ('x",', "y", '",', ",", "")])
def test_a_batch_of_records_hashes_what_the_definition_says_of_each(records: list[Any]):
    def known(values: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    columns = {
        name: [row[name] for row, _ in records] for name in ("source_id", "series", "position")
    }
    metas = {name: [meta[name] for _, meta in records] for name in ("a", 'b"%s', "c", "d")}
    shared = {"source": "50 %", "normalised": []}
    digests = [digest_of(str(row)) for row in range(len(records))]
    want = []
    for digest, (row, meta) in zip(digests, records, strict=True):
        own = known({**meta, "c": str(meta["c"]), "d": _as_text(meta["d"])})
        want.append(digest + TEXT + canonical({**shared, **known(row), "meta": own}))
    assert record_hashes(digests, [TEXT] * len(records), columns, metas, shared) == [
        hashlib.blake2b(data, digest_size=16).digest() for data in want
    ]


def test_a_pools_digest_is_the_sum_over_its_uids_and_hashes():
    uids, hashes = [1, 2**64 - 1, 3], [PAYLOAD, TEXT, PAYLOAD]
    each = [
        hashlib.blake2b(uid.to_bytes(8, "big") + record, digest_size=16).digest()
        for uid, record in zip(uids, hashes, strict=True)
    ]
    want = sum(int.from_bytes(digest, "big") for digest in each) % 2**128
    assert members(np.array(uids, dtype=np.uint64), hashes) == want
    assert members(np.array(uids, dtype=np.uint64), [TEXT, PAYLOAD, PAYLOAD]) != want
    assert members(np.array([], dtype=np.uint64), []) == 0
