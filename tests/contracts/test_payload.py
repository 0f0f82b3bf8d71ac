from __future__ import annotations

import gzip

import pytest

from contracts import payload
from tests.contracts.bad_audio import encoded, flac, tone, wav
from tests.contracts.bad_images import jpeg
from tests.contracts.bad_volumes import WHOLE, cube, volume


def test_each_kind_is_described_by_its_own_columns():
    assert payload.KINDS["image"].inspect(jpeg()).columns == {"width": 64, "height": 48}
    found = payload.KINDS["audio"].inspect(encoded(tone(seconds=0.5, channels=2)))
    assert found.columns == {"duration_s": 0.5, "sample_rate": 8000, "channels": 2}
    assert payload.KINDS["volume"].inspect(volume(cube())).columns == {
        "width": 5, "height": 4, "depth": 3, "channels": 1,
        "spacing_x_mm": 1.0, "spacing_y_mm": 1.0, "spacing_z_mm": 1.0,
    }  # fmt: skip


EACH = [
    ("image", jpeg()), ("audio", wav()), ("audio", flac()), ("volume", WHOLE),
    ("volume", gzip.compress(WHOLE)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "data"), EACH)
def test_what_a_shard_calls_a_payload_says_its_kind(kind: str, data: bytes):
    assert payload.kind_of(payload.KINDS[kind].suffix(data)) == kind


def test_no_suffix_is_of_two_kinds_and_other_members_are_of_none():
    every = [suffix for kind in payload.KINDS.values() for suffix in kind.suffixes]
    assert len(every) == len(set(every))
    assert payload.kind_of("txt") is None
    assert payload.kind_of("json") is None


@pytest.mark.parametrize(("kind", "data"), EACH)
def test_what_a_payload_decodes_to_is_found_by_its_first_bytes(kind: str, data: bytes):
    assert payload.decoded(data) == payload.KINDS[kind].decoded(data)


def test_what_begins_like_no_payload_is_refused():
    with pytest.raises(payload.Undecodable, match="UNSUPPORTED_FORMAT"):
        payload.decoded(b"nothing")
