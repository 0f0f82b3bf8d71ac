from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import polars as pl
import pytest
from PIL import Image

import winnow
from contracts.errors import ConfigError
from contracts.uid import uid_of

RECIPE = """
[[source]]
path = "scans"
slices = true
[annotate.redundancy]
step = "group_redundancy"
{parameters}
[[select]]
name = "exemplars"
by = "one_per_cluster"
cluster = "redundancy.cluster"
[export]
format = ["uids"]
"""


def dhash(grey: np.ndarray) -> int:
    """Row by row, whether a pixel of 9 x 8 is brighter than its left neighbour."""
    small = np.asarray(Image.fromarray(grey).resize((9, 8), Image.Resampling.LANCZOS))
    bits = (small[:, 1:] > small[:, :-1]).ravel()
    return int("".join("01"[bit] for bit in bits.astype(int)), 2)


def slices_of(path: Path) -> list[np.ndarray]:
    """The slices of a volume, in the depth it has, from nibabel alone."""
    voxels = np.asarray(nibabel.as_closest_canonical(nibabel.load(path)).dataobj)
    if voxels.dtype != np.uint8:
        low, high = float(voxels.min()), float(voxels.max())
        voxels = np.rint((voxels.astype(float) - low) * (65_535 / (high - low))).astype(np.uint16)
    return [np.ascontiguousarray(voxels[::-1, ::-1, k].T) for k in range(voxels.shape[2])]


def exemplars(path: Path, threshold: int = 6) -> list[int]:
    """Take the first remaining slice, delete what is within the threshold of it, repeat."""
    bits = [dhash(grey) for grey in slices_of(path)]
    remaining, kept = list(range(len(bits))), []
    while remaining:
        kept.append(remaining[0])
        first = bits[remaining[0]]
        remaining = [k for k in remaining if (first ^ bits[k]).bit_count() > threshold]
    return kept


@pytest.fixture
def scans(project: Any) -> Any:
    """Two volumes of 14 slices in which a bright disc wanders."""
    y, x = np.mgrid[:40, :36]
    for number in range(2):
        steps = np.arange(14) * (1 + number)
        discs = [np.hypot(x - 6 - s, y - 8 - s / 2) for s in steps]
        voxels = (np.stack(discs, axis=2) * 50).transpose(1, 0, 2).astype(np.int16)
        path = project.recipe_dir / "scans" / f"v{number}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
    return project


def kept_slices(project: Any) -> dict[str, list[int]]:
    """The positions kept of each volume by the last run."""
    frame = project.last().kept().collect()
    rows = project.view.pool("web").frame("series", "position").collect()
    kept = rows.join(frame.select("uid"), on="uid", how="semi").sort("series", "position")
    return dict(kept.group_by("series", maintain_order=True).agg("position").iter_rows())


def test_slices_of_volumes_are_reduced_in_their_natural_order(scans: Any):
    result = scans.run(RECIPE.format(parameters=""))
    expected = {
        f"v{n}.nii.gz": exemplars(scans.recipe_dir / "scans" / f"v{n}.nii.gz") for n in (0, 1)
    }
    assert kept_slices(scans) == expected
    assert 4 < sum(map(len, expected.values())) < 20
    assert result["records"] == 28 == result["kept"] + result["dropped"]["exemplars"]
    assert scans.run(RECIPE.format(parameters=""))["changed"] is False


def test_a_series_lies_in_one_part_in_the_order_of_its_slices(scans: Any):
    scans.run(RECIPE.format(parameters=""))
    rows = scans.view.pool("web").frame("series", "position", "source_id", "meta.slices").collect()
    assert rows["position"].to_list() == [*range(14), *range(14)]
    assert rows["source_id"][11] == "v0.nii.gz#11"
    assert rows["uid"][11] == uid_of("scans", "v0.nii.gz#11")
    assert rows["meta.slices"].unique().to_list() == [14]


@pytest.mark.parametrize(
    "parameters",
    [
        'measure = "ssim"\nthreshold = 0.6',
        'measure = "mutual_information"\ntarget_ratio = 0.4',
        'measure = "every_nth"\nthreshold = 4',
        'bits = "perceptual_hash.bits"\nthreshold = 4',
        "target_ratio = 0.3",
    ],
)
def test_it_keeps_the_same_within_a_part_and_through_buckets(scans: Any, parameters: str):
    scans.run(RECIPE.format(parameters=parameters))
    within = kept_slices(scans)
    scans.run(RECIPE.format(parameters=parameters + "\ngroup = \"series || '/'\""))
    assert kept_slices(scans) == within
    assert 2 < sum(map(len, within.values())) < 28
    if "every_nth" in parameters:
        assert within == {f"v{n}.nii.gz": [0, 4, 8, 12] for n in (0, 1)}


def test_a_measure_without_its_threshold_stops_before_any_work(scans: Any):
    with pytest.raises(
        ConfigError, match=r'annotate\.redundancy: threshold: measure = "ssim" needs'
    ):
        scans.run(RECIPE.format(parameters='measure = "ssim"'))
    assert not scans.store.names("pool")


def test_slices_are_the_option_of_volumes_alone(scans: Any):
    recipe = RECIPE.format(parameters="")
    with pytest.raises(ConfigError, match=r"has volume and no image: slices = true in \[\[source"):
        scans.run(recipe.replace("slices = true", ""))
    scans.lines("scans/rows.jsonl", [{"id": 1, "text": "one"}])
    with pytest.raises(ConfigError, match=r"source\.slices: only volumes have slices"):
        scans.run(recipe.replace('path = "scans"', 'path = "scans/rows.jsonl"'))


def test_from_python_slices_are_asked_for_likewise(scans: Any, tmp_path: Path):
    read = winnow.ingest(scans.recipe_dir / "scans", slices=True, store=tmp_path / "store")
    assert (read["pool"], read["accepted"], read["quarantined"]) == ("scans", 28, {})


@pytest.mark.data
@pytest.mark.slow
def test_sixty_real_volumes_are_reduced_as_the_plain_rule_has_it(project: Any, data: Path):
    folder = data / "hippocampus" / "images"
    command = [
        sys.executable, "-c", "from flows.cli.app import main; main()", "ingest", str(folder),
        "--slices", "--pool", "web", "--store", str(project.recipe_dir / ".winnow"), "--json",
    ]  # fmt: skip
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    read = json.loads(done.stdout)
    assert (read["read"], read["accepted"], read["quarantined"]) == (2189, 2189, {})
    recipe = RECIPE.format(parameters="").partition("[annotate")
    project.run("".join(recipe[1:]))
    expected = {path.name: exemplars(path) for path in sorted(folder.glob("*.nii.gz"))}
    assert kept_slices(project) == expected
    kept = sum(map(len, expected.values()))
    assert 0.7 < kept / 2189 < 0.9
    notes = project.view.pool("web").frame("series", "position").collect()
    assert notes.group_by("series").len()["len"].min() > 10


@pytest.mark.data
def test_labels_of_real_volumes_keep_their_numbers(data: Path, tmp_path: Path):
    path = sorted((data / "hippocampus" / "labels").glob("*.nii.gz"))[0]
    store = winnow.open(tmp_path / "store")
    winnow.ingest(path, slices=True, pool="labels", store=tmp_path / "store")
    images = store.pool("labels")
    frame = images.frame("position").collect()
    pictures = images.images(frame["uid"].to_list()).join(frame, on="uid").sort("position")
    found = [np.asarray(Image.open(io.BytesIO(data))) for data in pictures["image"]]
    assert all(map(np.array_equal, found, slices_of(path)))
    assert pl.Series(np.unique(found)).to_list() == [0, 1, 2]
