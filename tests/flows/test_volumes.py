"""Volumes from a source to shards, and what is refused of them on the way."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from PIL import Image

from contracts.errors import ConfigError
from contracts.uid import hex_uid, uid_of
from flows.look import report, show
from flows.look.preview import preview
from flows.look.why import why
from flows.recipe.init import init
from storage import shards
from tests.contracts.bad_audio import encoded, tone
from tests.contracts.bad_volumes import ROWS, cube, volume
from tests.storage.sources.test_volumes import dicom, plane

RECIPE = """
[[source]]
path = "scans"
[annotate.voxels]
step = "content_hash"
mode = "pixels"
[annotate.same]
step = "exact_clusters"
digest = "voxels.digest"
[[select]]
name = "one of each volume"
by = "one_per_cluster"
cluster = "same.cluster"
[export]
format = ["webdataset", "parquet"]
"""
MADE = {name: row.make() for name, row in ROWS.items()}
GOOD = {name: data for name, data in MADE.items() if ROWS[name].code is None}


def _scan(number: int, dtype: Any = np.int16) -> bytes:
    return volume(cube(dtype, (6, 5, 4)) + dtype(number), np.diag([-2.0, -3.0, 4.0, 1.0]))


def _scans() -> dict[str, bytes]:
    """Five volumes, of which two are equal voxel by voxel and two others one file."""
    files = {f"{n}.nii": _scan(n) for n in (1, 2, 3)}
    return files | {
        "same.nii.gz": gzip.compress(_scan(3, np.float32), mtime=0),
        "copy.nii": _scan(2),
    }


@pytest.fixture(scope="module")
def ran(projects: Callable[[], Any]) -> Any:
    """A project that ran the recipe."""
    project = projects()
    project.pictures(_scans(), "scans")
    dicom(project.recipe_dir / "scans/ct/1.dcm", plane(1), ImagePositionPatient=[0, 0, 1])
    dicom(project.recipe_dir / "scans/ct/2.dcm", plane(2), ImagePositionPatient=[0, 0, 2])
    project.result = project.run(RECIPE, until="report")
    return project


def test_volumes_go_from_a_folder_to_shards_with_the_bytes_that_they_had(ran: Any):
    assert (ran.result["records"], ran.result["kept"]) == (6, 4)
    folder = Path(ran.last().result["export"])
    members = dict(shards.read_tar(folder / "00000.tar"))
    kept = {n: d for n, d in members.items() if n.endswith((".nii", ".nii.gz"))}
    came = {hex_uid(uid_of("scans", name)): data for name, data in _scans().items()}
    assert len(kept) == 4
    series = [name for name in kept if name.partition(".")[0] not in came]
    assert [name.partition(".")[2] for name in series] == ["nii.gz"]
    assert all(d == came[n.partition(".")[0]] for n, d in kept.items() if n not in series)
    described = json.loads(members[f"{hex_uid(uid_of('scans', '1.nii'))}.json"])
    names = ("width", "height", "depth", "channels", "spacing_z_mm")
    assert [described[name] for name in names] == [6, 5, 4, 1, 4.0]
    [rows] = [pl.read_parquet(path) for path in (folder / "data").iterdir()]
    assert {row["bytes"] for row in rows["volume"]} == set(kept.values())
    samples = shards.ShardSamples(folder)
    assert samples.kind == "volume"
    assert set(samples.read(np.arange(4))["volume"]) == set(kept.values())
    samples.close()


def test_what_winnow_exported_it_reads_again(ran: Any, project: Any):
    tar = Path(ran.last().result["export"]) / "00000.tar"
    project.run(RECIPE.replace('"scans"', json.dumps(str(tar))), until="ingest")
    notes = project.view.pool("web").frame("normalised").collect()["normalised"]
    assert len(notes) == 4
    assert notes.explode().drop_nulls().is_empty()


def test_volumes_by_reference_stay_where_they_are_but_for_a_series(project: Any):
    project.pictures(_scans(), "scans")
    dicom(project.recipe_dir / "scans/ct/1.dcm", plane(1))
    recipe = RECIPE.replace('path = "scans"', 'path = "scans"\npayload = "reference"')
    assert project.run(recipe)["kept"] == 4
    held = project.view.pool("web").frame("location", "source_id").collect()
    assert held.filter(pl.col("location").is_null())["source_id"].to_list() == ["ct/1.2.3.4"]


def _as_tar(folder: Path, scans: Mapping[str, bytes]) -> None:
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for name, data in scans.items():
            info = tarfile.TarInfo(f"{name}.nii.gz" if data[:1] == b"\x1f" else f"{name}.nii")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_a_bad_volume_costs_itself_alone(project: Any):
    _as_tar(project.recipe_dir / "scans", MADE)
    recipe = '[[source]]\npath = "scans"\n[guard]\nmax_quarantined_ratio = 1.0\n'
    project.run(recipe, until="ingest")
    pool = project.view.pool("web")
    frame = pool.frame("normalised", "digest").collect()
    payloads = pl.concat(pool.reader.payloads(frame["uid"]))
    assert sorted(payloads["payload"]) == sorted(GOOD.values())
    notes = {n for row in ROWS.values() for n in row.notes}
    assert notes <= set(frame["normalised"].explode())
    refused = [row.code for row in ROWS.values() if row.code is not None]
    assert sorted(pool.quarantine()["code"]) == sorted(refused)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[annotate.look]\nstep = "perceptual_hash"\n',
            r"annotate\.look\.image: the pool has volume",
        ),
        ('[export]\nimage = "jpeg"\n', r"export\.image: the pool has volume"),
        ("[canaries]\ncount = 1\n", r"canaries: are copies of pictures and texts"),
    ],
)
def test_what_is_for_pictures_is_refused_before_anything_is_measured(
    more: str, said: str, ran: Any
):
    recipe = RECIPE if "export" not in more else RECIPE.partition("[export]")[0]
    with pytest.raises(ConfigError, match=said):
        ran.run(recipe + more)


def test_a_first_recipe_for_shards_of_volumes_runs_as_it_is(ran: Any, project: Any):
    folder = Path(ran.last().result["export"])
    written = init([str(folder / "data")], project.recipe_dir / "winnow.toml")
    [found] = written["found"]
    assert (found["kind"], found["volumes"], found["images"]) == ("parquet", 4, 0)
    text = (project.recipe_dir / "winnow.toml").read_text()
    assert "4 of 4 looked at have a volume" in text
    assert project.run(text)["kept"] == 4


# ------------------------------------------------------------------ what is shown


def test_records_of_volumes_are_shown_explained_and_reported(ran: Any):
    run = ran.last()
    rows = show.records_as_rows(
        ran.view, "web", where="depth = 4", dropped=None, quarantined=None, n=9,
        images=ran.recipe_dir / "seen",
    )  # fmt: skip
    assert len(rows) == 3
    written = [path.read_bytes() for path in (ran.recipe_dir / "seen").iterdir()]
    assert set(written) <= set(_scans().values())
    dropped = run.dropped().collect()["source_id"][0]
    [answer] = why(run, dropped)
    assert answer["dropped_by"] == "one of each volume"
    assert show.show(run.kept())._repr_html_().count("<img ") == 4
    assert report.render(run).count('<img src="data:image/jpeg') >= 6


def test_a_pool_of_volumes_gives_them_and_says_that_it_has_no_images(ran: Any):
    pool = ran.view.pool("web")
    uids = [uid_of("scans", name) for name in _scans()]
    found = pool.payloads(uids)
    assert found.columns == ["uid", "volume"]
    assert set(found["volume"]) == set(_scans().values())
    with pytest.raises(ConfigError, match=r"pool 'web' has volume and no images"):
        pool.images(uids)


def test_a_preview_is_the_middle_slice_of_a_volume_and_the_wave_of_a_clip():
    values = np.zeros((8, 6, 3), np.int16)
    values[4:, :, 1] = 100
    drawn = np.asarray(Image.open(io.BytesIO(preview("volume", volume(values), side_px=64))))
    assert drawn.shape == (6, 8)
    assert drawn[:, :3].max() < 40
    assert drawn[:, 5:].min() > 200
    loud = np.concatenate([tone(0.5) * 4, tone(0.5) / 100])
    wave = np.asarray(Image.open(io.BytesIO(preview("audio", encoded(loud), side_px=64))))
    assert wave.shape == (16, 64)
    assert (wave < 128)[1:-1, 1:30].all()
    assert (wave < 128)[:, 34:].sum(axis=0).max() <= 2
