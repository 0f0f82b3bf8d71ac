"""Lines to paste after an export: each opens it whole in the program that it names."""

from __future__ import annotations

import re
import shlex

from flows.export.export import Exported


def ready_lines(exported: Exported, draws: int) -> list[str]:
    """Return lines for open_clip, webdataset and datasets, over all shards."""
    folder = str(exported.folder)
    tars = [s.name for s in exported.shards if s.name.endswith(".tar")]
    lines = []
    if tars:
        span = f"{{{tars[0][:-4]}..{tars[-1][:-4]}}}" if len(tars) > 1 else tars[0][:-4]
        # Both expand braces, so those of the folder's own name are escaped.
        escaped = re.sub(r"([{}\\])", r"\\\1", folder)
        pattern = f"{escaped}/{span}.tar"
        lines += [
            f"open_clip_train --dataset-type webdataset --train-data {shlex.quote(pattern)} "
            f"--train-num-samples {draws}",
            f"webdataset.WebDataset({pattern!r}, shardshuffle=False)",
        ]
    if re.search(r"[*?\[]", folder):
        return [*lines, f"# datasets opens no folder with *, ? or [ in its path: move {folder}"]
    if tars:
        # By the README beside them, which names every column.
        lines.append(f"datasets.load_dataset({folder!r})")
    if any(s.name.endswith(".parquet") for s in exported.shards if s.name.startswith("data/")):
        lines.append(f"datasets.load_dataset('parquet', data_dir={f'{folder}/data'!r})")
    if any(s.name.endswith(".jsonl") for s in exported.shards):
        lines.append(f"datasets.load_dataset('json', data_files={f'{folder}/*.jsonl'!r})")
    return lines


def warnings(deep: int) -> list[str]:
    """Return what a reader of the pictures must know, `deep` of which have 16 bits a channel."""
    if not deep:
        return []
    return [
        f"{deep:,} pictures leave with 16 bits a channel: readers that convert to RGB by Pillow "
        '(open_clip, webdataset, datasets) show grey ones all white. `image = "png8"` in [export] '
        "writes them with 8 bits, as winnow shows them."
    ]
