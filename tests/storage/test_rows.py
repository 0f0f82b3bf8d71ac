from __future__ import annotations

import base64
import time as clock
import uuid
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest

from contracts.errors import ConfigError
from contracts.uid import digest_of
from storage.rows import check_columns, folded, record_of, roles_of
from storage.source import Columns, Record, Rejected
from storage.store import canonical

PNG = b"\x89PNG\r\n\x1a\n" + bytes(60)


def _record(row, **columns) -> Record:
    record = record_of(Columns(**columns), row, source_id="f#0", where="f#0")
    assert isinstance(record, Record), record
    return record


def _rejected(row, **columns) -> Rejected:
    rejected = record_of(Columns(**columns), row, source_id="f#0", where="f#0")
    assert isinstance(rejected, Rejected), rejected
    return rejected


def test_columns_of_img2dataset_datacomp_and_laion_find_their_roles():
    row = {
        "URL": "http://x/y.jpg",
        "TEXT": "a cat",
        "LICENSE": "CC0-1.0",
        "NSFW": "UNLIKELY",
        "AESTHETIC_SCORE": 6.5,
        "clip_b32_similarity_score": 0.3,
        "original_width": 640,
        "__key__": "000000007",
        "imageHash": "ab",
        "jpg": PNG,
    }
    record = _record(row)
    assert (record.text, record.licence, record.image) == ("a cat", "CC0-1.0", PNG)
    assert record.meta == {
        "url": "http://x/y.jpg",
        "nsfw": "UNLIKELY",
        "aesthetic": 6.5,
        "similarity": 0.3,
        "original_width": 640,
        "key": "000000007",
        "image_hash": "ab",
    }


def test_the_first_alias_is_the_role_and_the_others_stay_in_meta():
    record = _record({"caption": "b", "text": "a", "alt": "c"})
    assert (record.text, record.meta) == ("a", {"caption": "b", "alt": "c"})


def test_the_recipe_goes_before_the_aliases():
    row = {"text": "a", "alt": "b", "n": 7, "set": 3, "at": "12"}
    record = _record(row, text="alt", id="n", series="set", position="at")
    assert (record.source_id, record.text, record.series, record.position) == ("7", "b", "3", 12)
    assert record.meta == {"text": "a"}


def test_two_columns_never_share_a_name_in_meta():
    names = ("punsafe", "NSFW", "url", "URL", "a b", "a-b", "", "<img onerror>")
    assert roles_of(Columns(), names).meta == {
        "punsafe": "nsfw",
        "NSFW": "nsfw_2",
        "url": "url",
        "URL": "url_2",
        "a b": "a_b",
        "a-b": "a_b_2",
        "": "column",
        "<img onerror>": "img_onerror",
    }


def test_columns_that_all_want_one_name_are_numbered_in_linear_time():
    names = tuple(f"a{n:b}b".replace("0", "-").replace("1", " ") for n in range(1, 20_000))
    started = clock.process_time()
    meta = roles_of(Columns(), names).meta
    assert clock.process_time() - started < 5  # with a search from 2 on for each, ten times that
    assert [*meta.values()] == ["a_b", *(f"a_b_{n}" for n in range(2, 20_000))]


def test_the_first_columns_of_a_source_are_kept_and_the_others_become_one_text(monkeypatch):
    monkeypatch.setattr("storage.rows.META_COLUMNS", 3)
    rows = [{"a": 1, "b": 2}, {"c": 3, "d": 4, "b": 5}, {"e": date(2026, 1, 2), "d": float("nan")}]
    known: dict[str, None] = {}
    held = []
    for row in rows:
        held.append(folded(row, known))
        known |= dict.fromkeys(held[-1])
    assert held == [
        {"a": 1, "b": 2},
        {"c": 3, "b": 5, "rest": '{"d":4}'},
        {"rest": '{"d":"nan","e":"2026-01-02"}'},
    ]
    assert [*known] == ["a", "b", "c", "rest"]
    # Again, with all that is known: the same.
    assert [folded(row, known) for row in rows] == held


def test_a_column_that_is_called_rest_itself_is_lost_in_no_case(monkeypatch):
    monkeypatch.setattr("storage.rows.META_COLUMNS", 2)
    assert folded({"rest": 7, "a": 1}, {}) == {"rest": 7, "a": 1}
    assert folded({"rest": 7, "b": 2, "a": 1}, {}) == {"b": 2, "rest": '{"a":1,"rest":7}'}


def test_values_of_meta_become_what_a_column_or_json_holds():
    hour = timezone(timedelta(hours=1))
    row = {
        "text": "x",
        "decimal": Decimal("1.50"),
        "whole": Decimal("12"),
        "instant": datetime(2026, 1, 1, 1, tzinfo=hour),
        "day": date(2026, 1, 1),
        "clock": time(1, 2),
        "span": timedelta(seconds=1.5),
        "code": uuid.UUID(int=1),
        "old_text": b"caf\xc3\xa9",
        "nothing": None,
        "nested": {"n": float("nan"), "when": datetime(2026, 1, 1, tzinfo=UTC), "all": [(1, "x")]},
    }
    meta = _record(row).meta
    assert meta == {
        "decimal": 1.5,
        "whole": 12,
        "instant": datetime(2026, 1, 1),
        "day": date(2026, 1, 1),
        "clock": "01:02:00",
        "span": 1.5,
        "code": "00000000-0000-0000-0000-000000000001",
        "old_text": "café",
        "nested": {"n": None, "when": "2026-01-01T00:00:00", "all": [[1, "x"]]},
    }
    assert isinstance(meta["whole"], int)
    assert canonical(meta["nested"])


def test_bytes_that_are_no_text_are_dropped_from_meta_with_a_note():
    record = _record({"text": "x", "mask": b"\x89\xff", "other": [b"\xff"]})
    assert (record.meta, record.notes) == ({"other": [None]}, ("BINARY_DROPPED",))


@pytest.mark.parametrize(
    "value",
    [
        PNG,
        {"bytes": PNG, "path": "a.png"},
        [{"bytes": PNG, "path": None}],
        base64.b64encode(PNG).decode(),
        "data:image/png;base64," + base64.b64encode(PNG).decode(),
    ],
)
def test_an_image_comes_as_bytes_as_a_struct_or_in_base64(value):
    assert _record({"image": value}).image == PNG
    assert _record({"photo": value, "image": 3}, image="photo").image == PNG


def test_a_path_whose_suffix_is_not_what_the_bytes_are_is_noted():
    assert _record({"image": {"bytes": PNG, "path": "a.jpg"}}).notes == ("EXT_MISMATCH",)
    assert _record({"image": {"bytes": PNG, "path": "a.PNG"}}).notes == ()
    assert _record({"image": {"bytes": PNG, "path": "no_suffix"}}).notes == ()


@pytest.mark.parametrize("value", ["images/1.jpg", "https://x/y.jpg", "cat1", 7, []])
def test_what_is_called_image_and_holds_none_stays_in_meta(value):
    record = _record({"image": value, "text": "x"})
    assert (record.image, record.meta) == (None, {"image": value})


@pytest.mark.parametrize(
    ("row", "columns", "code"),
    [
        ({"image": None, "text": "x"}, {}, "NO_IMAGE"),
        ({"image": {"bytes": None, "path": "a.jpg"}, "text": "x"}, {}, "NO_IMAGE"),
        ({"text": "x"}, {"image": "photo"}, "NO_IMAGE"),
        ({"image": [PNG, PNG]}, {}, "MANY_IMAGES"),
        ({"photo": "a.jpg"}, {"image": "photo"}, "NOT_AN_IMAGE"),
        ({"text": " "}, {}, "CAPTION_EMPTY"),
        ({"text": b"caf\xe9"}, {}, "CAPTION_NOT_UTF8"),
        ({"text": "x", "note": "\ud800"}, {}, "CAPTION_NOT_UTF8"),
        ({"text": "x", "note": {"a": ["\ud800"]}}, {}, "CAPTION_NOT_UTF8"),
        ({"text": "x" * ((16 << 20) + 1)}, {}, "CAPTION_TOO_LONG"),
        ({"text": 7}, {}, "SCHEMA_MISMATCH"),
        ({"text": "x", "at": 1.5}, {"position": "at"}, "SCHEMA_MISMATCH"),
        ({"text": "x", "at": "one"}, {"position": "at"}, "SCHEMA_MISMATCH"),
    ],
)
def test_a_row_that_is_no_record_has_a_reason(row, columns, code):
    rejected = _rejected(row, **columns)
    assert (rejected.code, rejected.where, rejected.source_id) == (code, "f#0", "f#0")


@pytest.mark.parametrize("value", [None, "", "  ", "\ud800", b"\xff"])
def test_a_row_without_an_id_is_refused_where_ids_are_asked_for(value):
    rejected = _rejected({"text": "x", "n": value}, id="n")
    assert (rejected.code, rejected.source_id) == ("NO_ID", None)
    assert _rejected({"text": "x"}, id="n").code == "NO_ID"


@pytest.mark.parametrize(("value", "label"), [(7, "7"), (7.0, "7"), (True, "True"), ("7.0", "7.0")])
def test_an_id_or_a_series_is_never_a_float(value, label):
    record = _record({"text": "x", "n": value, "s": value}, id="n", series="s")
    assert (record.source_id, record.series) == (label, label)


@pytest.mark.parametrize("value", [0.5, 2.0**53, float("nan"), float("inf")])
def test_a_float_that_is_no_exact_whole_number_is_no_id(value):
    assert _rejected({"text": "x", "n": value}, id="n").code == "NO_ID"


def test_a_caption_has_a_smaller_limit_than_a_text():
    long = "x" * ((64 << 10) + 1)
    rejected = _rejected({"image": PNG, "text": long})
    assert (rejected.code, rejected.digest) == ("CAPTION_TOO_LONG", digest_of(PNG))
    assert _record({"text": long}).text == long


def test_an_image_with_an_empty_caption_has_none():
    record = _record({"image": PNG, "text": "\u200b"})
    assert (record.text, record.notes) == (None, ("CAPTION_EMPTY",))
    assert _record({"image": b""}).image == b""


def test_several_captions_are_all_kept():
    record = _record({"image": PNG, "caption": ["a cat", None, "", "a dog\x00"]})
    assert record.text == "a cat"
    assert [t["text"] for t in record.texts] == ["a cat", "a dog"]
    assert record.notes == ("CONTROL_CHARS",)


def test_columns_that_a_table_lacks_are_named_together():
    with pytest.raises(ConfigError) as error:
        check_columns(Columns(id="uid", text="captoin"), ["caption", "uid"], "a.parquet")
    assert str(error.value) == ("source.text: a.parquet has no column 'captoin'. Nearest: caption.")


def test_audio_is_bytes_a_struct_or_base64_where_there_is_no_image():
    coded = base64.b64encode(b"RIFF" * 20).decode()
    for value in (b"RIFF" * 20, {"bytes": b"RIFF" * 20, "path": "a.wav"}, coded):
        assert _record({"audio": value}).payload == ("audio", b"RIFF" * 20)
        assert _record({"sound": value}, audio="sound").payload == ("audio", b"RIFF" * 20)
    both = _record({"image": PNG, "audio": b"RIFF" * 20})
    assert both.payload == ("image", PNG)
    assert _record({"image": PNG, "audio": b"RIFF"}, audio="audio").payload == ("audio", b"RIFF")


def test_a_volume_is_bytes_a_struct_or_base64_where_there_is_neither_image_nor_audio():
    data = b"\x5c\x01" * 30
    for value in (data, {"bytes": data, "path": "a.nii"}, base64.b64encode(data).decode()):
        for name in ("volume", "nii", "nii.gz"):
            assert _record({name: value}).payload == ("volume", data)
        assert _record({"scan": value}, volume="scan").payload == ("volume", data)
    assert _record({"audio": b"RIFF", "volume": data}).payload == ("audio", b"RIFF")
    assert _rejected({"scan": None}, volume="scan").code == "NO_VOLUME"
    assert _rejected({"scan": 3}, volume="scan").code == "NOT_A_VOLUME"


@pytest.mark.parametrize("value", ["clips/1.wav", ["a", "b"], None, 3])
def test_what_an_audio_column_holds_besides_stays_in_meta(value):
    record = _record({"text": "a text", "audio": value})
    assert (record.payload, record.meta) == (None, {} if value is None else {"audio": value})


@pytest.mark.parametrize(
    ("row", "code"),
    [
        ({"text": "t"}, "NO_AUDIO"),
        ({"sound": None}, "NO_AUDIO"),
        ({"sound": {"bytes": None, "path": "a.wav"}}, "NO_AUDIO"),
        ({"sound": 3}, "NOT_AUDIO"),
    ],
)
def test_a_row_without_the_audio_that_the_recipe_names_is_refused(row, code):
    assert _rejected(row, audio="sound").code == code


def test_a_column_called_like_a_payload_that_holds_none_takes_no_others_name_in_meta():
    row = {"text": "a cat", "volume": 3, "Volume": 4, "volume_2": 5}
    record = record_of(Columns(), row, source_id="f#0", where="f#0")
    assert record.meta == {"volume": 4, "volume_2": 5, "volume_3": 3}


@pytest.mark.parametrize("value", [b"png", {"bytes": b"png", "path": "a.png"}])
def test_a_label_image_lies_in_a_column_as_a_picture_does(value):
    row = {"image": b"\xff\xd8\xff", "mask": value, "n": 1}
    record = record_of(Columns(label_image="mask"), row, source_id="f#0", where="f#0")
    assert (record.label_image, record.meta) == (b"png", {"n": 1})


@pytest.mark.parametrize(
    ("row", "found"),
    [
        ({"image": b"\xff\xd8\xff"}, "NO_LABEL_IMAGE: there is no mask"),
        ({"image": b"\xff\xd8\xff", "mask": None}, "NO_LABEL_IMAGE: there is no mask"),
        ({"image": b"\xff\xd8\xff", "mask": 3}, "NO_LABEL_IMAGE: mask is int, no encoded picture"),
        ({"text": "a cat", "mask": b"png"}, "NO_IMAGE: a label image without its picture"),
    ],
)
def test_a_picture_without_its_labels_and_labels_without_a_picture_are_rejected(row, found):
    bad = record_of(Columns(label_image="mask"), row, source_id="f", where="f")
    assert f"{bad.code}: {bad.detail}" == found
