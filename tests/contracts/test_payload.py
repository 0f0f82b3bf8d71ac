from __future__ import annotations

import pytest

from contracts import payload
from tests.contracts.bad_audio import encoded, flac, tone, wav
from tests.contracts.bad_images import jpeg


def test_a_picture_and_a_clip_are_described_by_their_own_columns():
    assert payload.KINDS["image"].inspect(jpeg()).columns == {"width": 64, "height": 48}
    found = payload.KINDS["audio"].inspect(encoded(tone(seconds=0.5, channels=2)))
    assert found.columns == {"duration_s": 0.5, "sample_rate": 8000, "channels": 2}


@pytest.mark.parametrize(("kind", "data"), [("image", jpeg()), ("audio", wav()), ("audio", flac())])
def test_what_a_shard_calls_a_payload_says_its_kind(kind: str, data: bytes):
    assert payload.kind_of(payload.KINDS[kind].suffix(data)) == kind


def test_no_suffix_is_of_two_kinds_and_other_members_are_of_none():
    every = [suffix for kind in payload.KINDS.values() for suffix in kind.suffixes]
    assert len(every) == len(set(every))
    assert payload.kind_of("txt") is None
    assert payload.kind_of("json") is None
