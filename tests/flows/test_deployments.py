"""The flows of Prefect: the same version as the plain run, with a server and without."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

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


FATAL = """
import os, signal
import polars as pl
from winnow import rowwise


@rowwise(version=1, reads={"text": pl.String}, writes={"length": pl.UInt32})
def fatal(rows):
    server = int(os.environ.get("SERVER", "0"))
    if server:
        try:
            os.kill(server, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return rows.select(length=pl.col("text").str.len_chars())
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
        [sys.executable, "-c", "from flows.cli.app import main; main()", *call],
        cwd=tmp_path, env=env, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "going on without" in done.stderr
    assert version(tmp_path / "flowed") == version(tmp_path / ".winnow")


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("WINNOW_SOAK"), reason="a minute and a half: make soak")
def test_a_server_that_dies_in_the_middle_of_a_stage_changes_nothing(project, tmp_path: Path):
    project.texts(*(f"{'word ' * (i % 5)}{i}" for i in range(60)))
    (tmp_path / "fatal.py").write_text(FATAL)
    recipe = RECIPE.replace("[[select]]", '[annotate.own]\nstep = "./fatal.py:fatal"\n[[select]]')
    recipe = recipe.replace('>= 3"', '>= 3 AND own.length > 0"')
    project.run(recipe)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = environment(tmp_path / "prefect", PREFECT_API_URL=url)
    serve = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1"]
    server = subprocess.Popen(
        [*serve, "--port", str(port), "--no-services"], env=env, cwd=tmp_path,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        _wait_for(f"{url}/health", server)
        call = ["run", "web.toml", "--store", "flowed", "--quiet"]
        done = subprocess.run(
            [sys.executable, "-c", "from flows.cli.app import main; main()", *call],
            cwd=tmp_path, env={**env, "SERVER": str(server.pid)}, capture_output=True, text=True,
        )  # fmt: skip
        assert server.wait(10) == -9
    finally:
        server.kill()
    assert done.returncode == 0, done.stderr
    assert version(tmp_path / "flowed") == version(tmp_path / ".winnow")
    assert len(Store(tmp_path / "flowed").versions("run", "web")) == 1


def _wait_for(url: str, server: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        assert server.poll() is None, "the server ended by itself"
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(url, timeout=5).raise_for_status()
            return
        time.sleep(0.2)
    raise AssertionError("the server did not start")
