"""Audio from a source to shards, and what is refused of it on the way."""

from __future__ import annotations

import base64
import io
import json
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from contracts.uid import hex_uid, uid_of
from flows.look import report, show
from flows.look.why import why
from flows.recipe.init import init
from flows.reporter import Reporter
from storage import shards
from tests.contracts.bad_audio import ROWS, encoded, tone

RECIPE = """
[[source]]
path = "clips"
[annotate.bytes]
step = "content_hash"
[annotate.same]
step = "exact_clusters"
digest = "bytes.digest"
[[select]]
name = "one of each clip"
by = "one_per_cluster"
cluster = "same.cluster"
[export]
format = ["webdataset", "parquet"]
"""
# libsndfile writes the time into clips of floats: each is made once.
MADE = {name: row.make() for name, row in ROWS.items()}
GOOD = {name: data for name, data in MADE.items() if ROWS[name].code is None}


def _clip(number: int, format: str = "WAV") -> bytes:
    return encoded(tone(seconds=0.1 * number, channels=1 + number % 2), format=format)


def _clips() -> dict[str, bytes]:
    """Six clips, of which two are one file; with a word each."""
    files = {f"{n}.wav": _clip(n) for n in (1, 2, 3)} | {"copy.wav": _clip(3)}
    files |= {f"{n}.flac": _clip(n, "FLAC") for n in (4, 5)}
    words = {f"{Path(name).stem}.txt": f"word {name}".encode() for name in files}
    return files | words


@pytest.fixture
def clips(project: Any) -> Any:
    project.pictures(_clips(), "clips")
    return project


@pytest.fixture(scope="module")
def ran(projects: Callable[[], Any]) -> Any:
    """A project that ran the recipe; `said` are the lines of the run."""
    project = projects()
    project.pictures(_clips(), "clips")
    project.said = []
    project.result = project.run(
        RECIPE, until="report", reporter=Reporter(line=project.said.append)
    )
    return project


def test_clips_go_from_a_folder_to_shards_with_the_bytes_that_they_had(ran: Any):
    assert (ran.result["records"], ran.result["kept"]) == (6, 5)
    folder = Path(ran.last().result["export"])
    kept = {Path(name).stem: data for name, data in _clips().items() if not name.endswith(".txt")}
    of_stem = {hex_uid(uid_of("clips", n)): Path(n).stem for n in _clips()}
    members = dict(shards.read_tar(folder / "00000.tar"))
    sounds = {n: data for n, data in members.items() if n.endswith((".wav", ".flac"))}
    assert len(sounds) == 5
    assert all(kept[of_stem[name.split(".")[0]]] == data for name, data in sounds.items())
    described = json.loads(members[f"{hex_uid(uid_of('clips', '5.flac'))}.json"])
    assert (described["duration_s"], described["sample_rate"], described["channels"]) == (
        0.5,
        8000,
        2,
    )
    [rows] = [pl.read_parquet(path) for path in (folder / "data").iterdir()]
    assert {row["bytes"] for row in rows["audio"]} == set(sounds.values())
    assert {Path(row["path"]).suffix for row in rows["audio"]} == {".wav", ".flac"}


def test_a_trainer_reads_the_payload_by_its_kind(ran: Any):
    samples = shards.ShardSamples(Path(ran.last().result["export"]))
    assert samples.kind == "audio"
    found = samples.read(np.arange(len(samples.uids)))
    samples.close()
    assert set(found) == {"audio", "text"}
    assert set(found["audio"]) <= set(_clips().values())
    assert all(text.startswith("word ") for text in found["text"])


def test_what_winnow_exported_it_reads_again(ran: Any, projects: Callable[[], Any]):
    folder = Path(ran.last().result["export"])
    for path in (folder / "00000.tar", folder / "data"):
        again = projects()
        recipe = RECIPE.replace('"clips"', json.dumps(str(path)))
        assert again.run(recipe, until="select")["kept"] == 5


def test_clips_by_reference_stay_where_they_are(clips: Any):
    clips.run(RECIPE.replace('path = "clips"', 'path = "clips"\npayload = "reference"'))
    members = dict(shards.read_tar(Path(clips.last().result["export"]) / "00000.tar"))
    assert len(set(members.values()) & set(_clips().values())) == 10
    assert sum(p.stat().st_size for p in clips.recipe_dir.rglob("payload/*")) < 4000


# ------------------------------------------------------------------ bad clips


def _as_folder(folder: Path, clips: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for name, data in clips.items():
        (folder / f"{name}.wav").write_bytes(data)


def _as_tar(folder: Path, clips: Mapping[str, bytes]) -> None:
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in clips.items():
            info = tarfile.TarInfo(f"{name}.wav")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def _as_parquet(folder: Path, clips: Mapping[str, bytes]) -> None:
    folder.mkdir()
    audio = [{"bytes": data, "path": f"{name}.wav"} for name, data in clips.items()]
    pl.DataFrame({"name": list(clips), "audio": audio}).write_parquet(folder / "a.parquet")


def _as_lines(folder: Path, clips: Mapping[str, bytes]) -> None:
    folder.mkdir()
    coded = {name: base64.b64encode(data).decode() for name, data in clips.items()}
    lines = [json.dumps({"name": name, "audio": data}) for name, data in coded.items()]
    (folder / "a.jsonl").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("write", [_as_folder, _as_tar, _as_parquet, _as_lines])
def test_a_bad_clip_costs_itself_alone_in_every_container(write: Any, project: Any):
    # A text of less than 64 characters is a word: no base64 of a payload.
    rows = {n: row for n, row in ROWS.items() if write is not _as_lines or len(MADE[n]) >= 48}
    write(project.recipe_dir / "clips", {name: MADE[name] for name in rows})
    recipe = '[[source]]\npath = "clips"\n[guard]\nmax_quarantined_ratio = 1.0\n'
    project.run(recipe, until="ingest")
    pool = project.view.pool("web")
    frame = pool.frame("normalised", "digest").collect()
    payloads = pl.concat(pool.reader.payloads(frame["uid"]))
    assert sorted(payloads["payload"]) == sorted(GOOD.values())
    notes = {n for row in ROWS.values() for n in row.notes}
    assert notes <= set(frame["normalised"].explode())
    refused = [row.code for row in rows.values() if row.code is not None]
    assert sorted(pool.quarantine()["code"]) == sorted(refused)


def test_a_sample_without_sound_in_a_tar_of_audio_is_refused(project: Any):
    _as_tar(project.recipe_dir / "clips", {"a": _clip(1), "b": _clip(2)})
    with tarfile.open(project.recipe_dir / "clips/a.tar", "a") as tar:
        info = tarfile.TarInfo("c.txt")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"c"))
    project.run('[[source]]\npath = "clips"\n', until="ingest", accept=True)
    assert project.view.pool("web").quarantine()["code"].to_list() == ["NO_AUDIO"]


# ------------------------------------------------------------------ what no audio can be


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[annotate.look]\nstep = "perceptual_hash"\n',
            r"annotate\.look\.image: the pool has audio",
        ),
        ('[embed.looks]\nencoder = "color_layout"\n', r"embed\.looks\.image: the pool has audio"),
        ('[[select]]\nwhere = "image IS NOT NULL"\n', r"the pool has audio and no image"),
        ('[export]\nimage = "jpeg"\n', r"export\.image: the pool has audio"),
        ("[canaries]\ncount = 1\n", r"canaries: are copies of pictures and texts"),
    ],
)
def test_what_is_for_pictures_is_refused_before_anything_is_measured(
    more: str, said: str, ran: Any
):
    recipe = RECIPE if "export" not in more else RECIPE.partition("[export]")[0]
    with pytest.raises(ConfigError, match=said):
        ran.run(recipe + more)
    assert ran.last().version == 1


def test_a_pool_has_payloads_of_one_kind(clips: Any, captioned: Mapping[str, bytes]):
    clips.run(RECIPE, until="ingest")
    clips.pictures({n: d for n, d in captioned.items() if n.startswith("0/00")})
    with pytest.raises(ConfigError, match=r"'pictures' gives image, and pool 'web' has audio"):
        clips.run('[[source]]\npath = "pictures"\n', until="ingest")
    assert clips.pool().version == 1


def test_audio_cannot_be_read_without_soundfile(clips: Any, monkeypatch: pytest.MonkeyPatch):
    hidden = clips.recipe_dir / "hidden"
    hidden.mkdir()
    (hidden / "soundfile.py").write_text("raise ImportError('hidden')\n")
    monkeypatch.syspath_prepend(str(hidden))
    with pytest.raises(ConfigError, match=r"pip install 'winnow\[audio\]'"):
        clips.run(RECIPE)


# ------------------------------------------------------------------ what is shown


def test_a_first_recipe_for_a_folder_of_audio_runs_as_it_is(clips: Any):
    target = clips.recipe_dir / "winnow.toml"
    written = init([str(clips.recipe_dir / "clips")], target)
    [found] = written["found"]
    assert (found["kind"], found["audio"], found["images"], found["texts"]) == (
        "audio_folder", 6, 0, 6,
    )  # fmt: skip
    text = target.read_text()
    assert "(audio_folder, 6 of 6 looked at have sound, 6 a text)" in text
    assert clips.run(text, "clips")["dropped"] == {"one of each clip": 1}


def test_records_of_audio_are_shown_explained_and_reported(ran: Any):
    run = ran.last()
    rows = show.records_as_rows(
        ran.view, "web", where="duration_s > 0.35", dropped=None, quarantined=None, n=9,
        images=ran.recipe_dir / "seen",
    )  # fmt: skip
    assert sorted(row["source_id"] for row in rows) == ["4.flac", "5.flac"]
    written = {path.suffix: path.read_bytes() for path in (ran.recipe_dir / "seen").iterdir()}
    assert written[".flac"] in {_clip(4, "FLAC"), _clip(5, "FLAC")}
    assert len(list((ran.recipe_dir / "seen").iterdir())) == 2
    dropped = run.dropped().collect()["source_id"][0]
    [answer] = why(run, dropped)
    assert answer["dropped_by"] == "one of each clip"
    assert "word" in show.show(run.kept())._repr_html_()
    assert "one of each clip" in report.render(run)


def test_a_line_that_cannot_serve_audio_says_why(ran: Any):
    whys = [line for line in ran.said if line.startswith("#")]
    assert any(why.startswith("# open_clip trains on pictures") for why in whys)
    assert any("torchcodec" in why for why in whys)


# `datasets` takes ten seconds to be imported; webdataset leaves the tars open.
@pytest.mark.skipif(not os.environ.get("WINNOW_SOAK"), reason="is run by make soak")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_ready_lines_open_the_clips_or_say_why_not(ran: Any):
    import datasets
    import webdataset

    said = ran.said
    [line] = [line for line in said if line.startswith("webdataset.")]
    found = list(eval(line, {"webdataset": webdataset}))
    assert {sample.get("wav") or sample.get("flac") for sample in found} <= set(_clips().values())
    sounds = {data for name, data in _clips().items() if not name.endswith(".txt")}
    for line in (line for line in said if line.startswith("datasets.")):
        rows = eval(line, {"datasets": datasets})["train"]
        columns = {"audio", "wav", "flac"} & set(rows.column_names)
        for column in columns:
            rows = rows.cast_column(column, datasets.Audio(decode=False))
        found = [row[column]["bytes"] for row in rows for column in columns if row[column]]
        assert len(found) == 5
        assert set(found) == sounds
