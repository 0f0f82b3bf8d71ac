from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.errors import ConfigError, DataError
from storage.source import Columns, Location, Record, Rejected, detect, find
from storage.sources.audio_folder import AudioFolder
from tests.contracts.bad_audio import flac, wav

WAV, FLAC = wav(), flac()


def make_source(folder: Path) -> None:
    """Write a source of nothing but records, for test_contract.py."""
    files = {"1.wav": WAV, "1.txt": b"a word", "2.flac": FLAC, "2.json": b'{"text": "two"}'}
    _write(folder, {f"yes/{name}": content for name, content in files.items()})
    _write(folder, {"no/1.wav": WAV, "no/2.WAV": WAV})


def _write(root: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)


def _read(path: Path, **columns: str) -> tuple[AudioFolder, list[Record | Rejected]]:
    found = find(path)
    source = AudioFolder(found.root, found.paths, Columns(**columns))
    return source, [item for unit in source.units() for item in source.records(unit)]


def test_a_clip_its_path_its_transcript_and_its_place_make_a_record(tmp_path: Path):
    _write(tmp_path, {"yes/1.wav": WAV, "yes/1.txt": b"yes\n"})
    place = Location(f"{tmp_path}/yes/1.wav", 0, len(WAV))
    record = Record("yes/1.wav", "yes/1.wav", audio=WAV, text="yes", location=place)
    assert _read(tmp_path)[1] == [record]
    assert record.payload == ("audio", WAV)


def test_other_columns_come_from_the_table_beside_the_clips(tmp_path: Path):
    rows = [{"file_name": f"{n}.wav", "speaker": f"s{n}", "image": "cover.jpg"} for n in (1, 2)]
    table = "".join(json.dumps(row) + "\n" for row in [*rows, {"file_name": "gone.wav"}])
    _write(tmp_path, {"metadata.jsonl": table.encode(), "1.wav": WAV, "2.wav": WAV})
    _write(tmp_path, {"3.wav": WAV, "stray.txt": b"no clip's", "notes.md": b"#"})
    source, found = _read(tmp_path)
    assert [(r.source_id, r.meta.get("speaker")) for r in found] == [
        ("1.wav", "s1"), ("2.wav", "s2"), ("3.wav", None),
    ]  # fmt: skip
    assert {reason for _, reason, _, _ in source.passed_over.rows()} == {
        "a clip without a row or a text", "a row that names no clip", "beside no clip", "not read",
    }  # fmt: skip


def test_a_table_that_names_no_clip_says_so(tmp_path: Path):
    _write(tmp_path, {"metadata.csv": b"file_name\nx/1.wav\n", "1.wav": WAV})
    with pytest.raises(DataError, match=r"none of its 1 rows names a clip: .*a clip is '1\.wav'"):
        _read(tmp_path)


def test_a_suffix_that_the_bytes_belie_is_noted(tmp_path: Path):
    _write(tmp_path, {"a.wav": FLAC, "b.wave": WAV, "c.mp3": WAV})
    assert [r.notes for r in _read(tmp_path)[1]] == [("EXT_MISMATCH",), (), ("EXT_MISMATCH",)]


def test_a_record_has_one_payload(tmp_path: Path):
    _write(tmp_path, {"a.wav": WAV})
    with pytest.raises(ConfigError, match=r"source\.audio: a record has one payload"):
        _read(tmp_path, image="cover")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("a.wav", "a.json", "b.flac", "b.txt"), "audio_folder"),
        (("a.wav", "b.jpg", "c.jpg"), "image_folder"),
        (("a.mp3", "b.txt"), "audio_folder"),
        (("a.wav", "b.tar"), "webdataset"),
    ],
)
def test_a_folder_is_of_audio_where_most_of_its_files_are(
    names: tuple[str, ...], kind: str, tmp_path: Path
):
    _write(tmp_path, dict.fromkeys(names, b"x"))
    assert detect(find(tmp_path)) == kind


def test_one_file_without_a_suffix_is_known_by_its_first_bytes(tmp_path: Path):
    _write(tmp_path, {"clip": FLAC})
    assert detect(find(tmp_path / "clip")) == "audio_folder"
