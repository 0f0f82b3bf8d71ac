"""The flows of Prefect: the same version as the plain run, with a server and without."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from storage.store import Store

ROOT = Path(__file__).resolve().parents[2]
RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[[select]]
name = "words"
where = "caption_stats.words >= 3"
[export]
shard_records = 10
"""
PROGRAM = """
from flows.deployments import STAGE_FLOWS, curate
if __name__ == "__main__":
    STAGE_FLOWS["annotate"]("web.toml", store="flowed")
    print(curate("web.toml", store="flowed")["kept"])
"""


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT")}
    quiet = {"PREFECT_LOGGING_LEVEL": "ERROR", "DO_NOT_TRACK": "1"}
    return {**kept, **quiet, "PREFECT_HOME": str(home), "PYTHONPATH": str(ROOT), **more}


def version(store: Path) -> tuple[object, list[str]]:
    ref = Store(store).ref("run", "web")
    assert ref is not None
    shards = sorted((store / "shards/web/v0001").glob("*.tar"))
    return ref["verdict"], [path.read_bytes().hex() for path in shards]


def test_a_real_flow_makes_the_same_version_as_the_plain_run(project, tmp_path: Path):
    project.texts(*(f"{'word ' * (i % 5)}{i}" for i in range(60)))
    project.run(RECIPE)
    (tmp_path / "flow.py").write_text(PROGRAM)
    flowed = subprocess.run(
        [sys.executable, "flow.py"], cwd=tmp_path, env=environment(tmp_path / "prefect"),
        capture_output=True, text=True,
    )  # fmt: skip
    assert flowed.returncode == 0, flowed.stderr
    assert flowed.stdout.split()[-1] == "36"
    assert version(tmp_path / "flowed") == version(tmp_path / ".winnow")
    assert len(Store(tmp_path / "flowed").versions("run", "web")) == 1


def test_a_server_that_is_down_changes_nothing_but_a_line(project, tmp_path: Path):
    project.texts(*(f"{'word ' * (i % 5)}{i}" for i in range(60)))
    project.run(RECIPE)
    env = environment(tmp_path / "prefect", PREFECT_API_URL="http://127.0.0.1:9/api")
    call = ["run", "web.toml", "--store", "flowed", "--quiet"]
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *call],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "going on without" in done.stderr
    assert version(tmp_path / "flowed") == version(tmp_path / ".winnow")
