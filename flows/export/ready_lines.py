"""Lines to paste after an export: each opens it whole in the program that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from contracts.payload import kind_of
from flows.export.export import Exported
from storage.shards import Shard

# The pictures that open_clip reads. It passes over other members without a word.
_OPEN_CLIP = {"jpg", "png", "webp"}
# Its own default of records a step, and of processes that read.
_BATCH, _WORKERS = 64, 4


def ready_lines(exported: Exported, draws: int, kind: str | None) -> list[str]:
    """Return lines for open_clip, webdataset, datasets and DataComp, over all shards.

    Where one cannot serve, a line beginning with `#` says why.

    Args:
        exported: the shards.
        draws: records of an epoch.
        kind: of the payloads.
    """
    folder = str(exported.folder)
    names = [shard.name for shard in exported.shards]
    tars = [shard for shard in exported.shards if shard.name.endswith(".tar")]
    lines = _tar_lines(folder, tars, draws)
    if "subset.npy" in names:
        path = f"{folder}/subset.npy"
        lines += [
            "# DataComp's resharder.py takes the uid list as --subset-file.",
            f"numpy.load({path!r})",
        ]
    if re.search(r"[*?\[]", folder):
        return [*lines, f"# datasets opens no folder with *, ? or [ in its path: move {folder}"]
    if kind == "audio":
        lines.append(
            "# datasets gives the clips of tars as bytes, and decodes those of Parquet by "
            "torchcodec: pip install 'datasets[audio]'."
        )
    if kind == "volume":
        lines.append(
            "# datasets gives volumes as bytes: nibabel.Nifti1Image.from_bytes reads them."
        )
    if tars:
        # By the README beside them, which names every column.
        lines.append(f"datasets.load_dataset({folder!r})")
    if any(name.startswith("data/") for name in names):
        lines.append(f"datasets.load_dataset('parquet', data_dir={f'{folder}/data'!r})")
    if any(name.endswith(".jsonl") for name in names):
        lines.append(f"datasets.load_dataset('json', data_files={f'{folder}/*.jsonl'!r})")
    if "uids.parquet" in names:
        lines += [
            "# DataComp's resharder.py takes ids of 32 hexadecimal digits, which not all of these "
            "records have.",
            f"datasets.load_dataset('parquet', data_files={f'{folder}/uids.parquet'!r})",
        ]
    return lines


def _tar_lines(folder: str, tars: Sequence[Shard], draws: int) -> list[str]:
    if not tars:
        return ['# open_clip and webdataset read tars: [export] format lacks "webdataset".']
    first, last = tars[0].name[:-4], tars[-1].name[:-4]
    span = f"{{{first}..{last}}}" if len(tars) > 1 else first
    # Both expand braces, so those of the folder's own name are escaped.
    escaped = re.sub(r"([{}\\])", r"\\\1", folder)
    pattern = f"{escaped}/{span}.tar"
    return [
        *_open_clip(pattern, tars, draws),
        f"webdataset.WebDataset({pattern!r}, shardshuffle=False)",
    ]


def _open_clip(pattern: str, tars: Sequence[Shard], draws: int) -> list[str]:
    members = {member for tar in tars for member in tar.members}
    pictures = {member for member in members if kind_of(member) == "image"}
    if not pictures or "txt" not in members:
        lacking = "pictures" if not pictures else "captions"
        return [f"# open_clip trains on pictures with captions: these records have no {lacking}."]
    if others := sorted(pictures - _OPEN_CLIP):
        return [
            f"# open_clip passes over pictures in {' and '.join(others)}: "
            '`image = "jpeg"` in [export] writes what it reads.'
        ]
    workers, batch = _loader([tar.records for tar in tars])
    return [
        "# open_clip 3.3 trains under webdataset 0.2.86 (pip install 'open_clip_torch[training]'); "
        "under 1.0 its reader ends in KeyError 'fname'.",
        f"python -m open_clip_train.main --dataset-type webdataset --train-data "
        f"{shlex.quote(pattern)} --train-num-samples {draws} --workers {workers} "
        f"--batch-size {batch}",
    ]


def _loader(records: Sequence[int]) -> tuple[int, int]:
    """Return processes that read and records a step.

    open_clip refuses more processes than shards, and waits for ever where the shards of one hold
    less than a step: which shards it has changes with each epoch.
    """
    smallest = sorted(records)
    for workers in range(min(_WORKERS, len(records)), 1, -1):
        if sum(smallest[: len(records) // workers]) >= _BATCH:
            return workers, _BATCH
    return 1, min(_BATCH, sum(records))


def warnings(deep: int) -> list[str]:
    """Return what a reader of the pictures must know, `deep` of which have 16 bits a channel."""
    if not deep:
        return []
    return [
        f"{deep:,} pictures leave with 16 bits a channel: readers that convert to RGB by Pillow "
        '(open_clip, webdataset, datasets) show grey ones all white. `image = "png8"` in [export] '
        "writes them with 8 bits, as winnow shows them."
    ]
