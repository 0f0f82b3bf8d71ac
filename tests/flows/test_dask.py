"""A Dask cluster makes the same bytes as one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[[select]]
name = "words"
where = "caption_stats.words >= 2"
[[select]]
by = "one_per_cluster"
cluster = "minhash_clusters.cluster"
[export]
shard_records = 20
"""
PROGRAM = """
import json
from pathlib import Path

if __name__ == "__main__":
    from distributed import LocalCluster
    from flows import run as runs
    from storage.store import Store

    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with LocalCluster(host="127.0.0.1", **options) as cluster:
        recipe = runs.read_recipe(Path("web.toml"))
        dask = runs.Options(workers=2, dask=cluster.scheduler_address)
        result = runs.run(recipe, Store(Path("dask").resolve()), dask)
    print(json.dumps([shard["sha256"] for shard in result["shards"]]))
"""


@pytest.mark.slow
def test_a_cluster_makes_the_same_shards_as_one_process(project, tmp_path: Path):
    project.texts(
        *(" ".join(f"w{(i // 2 * 7 + k) % 97}" for k in range(i % 9)) for i in range(200))
    )
    plain = [shard["sha256"] for shard in project.run(RECIPE)["shards"]]
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == plain
    assert len(plain) > 1
