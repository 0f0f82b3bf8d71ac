"""Kill a whole run at every failpoint: nothing half visible, a rerun ends with the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from flows.upkeep.verify import verify
from storage.store import Store

PROGRAM = Path(__file__).with_name("failpoint_program.py")
# The failpoints are parted into so many tests, none of them too long beside others.
SHARES = 2
RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
[holdout]
ratio = 0.2
near = "same"
[annotate.digest_of_text]
step = "content_hash"
payload = "text"
mode = "text"
[annotate.same]
step = "exact_clusters"
digest = "digest_of_text.digest"
[[select]]
name = "words"
where = "caption_stats.words >= 2"
[[select]]
name = "same"
by = "one_per_cluster"
cluster = "same.cluster"
[export]
format = ["webdataset", "jsonl"]
shard_records = 10
"""


class Runner:
    """A pre-imported program that runs the recipe, killed where it is told to be."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.store = folder, folder / ".winnow"
        (folder / "web.toml").write_text(RECIPE)
        texts = [f"{'word ' * (i % 4)}number {i % 25}" for i in range(40)]
        lines = [json.dumps({"text": text, "n": i}) + "\n" for i, text in enumerate(texts)]
        (folder / "texts.jsonl").write_text("".join(lines) + "{broken\n")
        self.process = subprocess.Popen(
            [sys.executable, "-B", str(PROGRAM), str(folder / "web.toml")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "POLARS_MAX_THREADS": "1"},
        )  # fmt: skip

    def run(self, failpoint: str = "none") -> int:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{failpoint}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def wipe(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)

    def tree(self) -> dict[str, str]:
        """Return the sha256 of each file; a rerun may leave no other file and no other byte."""
        files = [p for p in self.store.rglob("*") if p.is_file() and "lease" not in p.name]
        return {
            str(p.relative_to(self.store)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in files
        }

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def runner(tmp_path: Path):
    made = Runner(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("share", range(SHARES))
def test_a_run_killed_at_any_failpoint_shows_nothing_half_and_ends_with_the_same_bytes(
    runner: Runner, tmp_path: Path, record_property: Callable[[str, object], None], share: int
):
    log = tmp_path / "passed"
    assert runner.run(f"log={log}") == 0
    want = runner.tree()
    passed = log.read_text().split()
    names = {name.partition("@")[0] for name in passed}
    assert {"ingest.part", "runtime.part", "export.shard", "export.shown", "run.version"} <= names
    faults = []
    wanted = (passed if os.environ.get("WINNOW_SOAK") else _some(passed))[share::SHARES]
    for failpoint in wanted:
        runner.wipe()
        if runner.run(failpoint) != -signal.SIGKILL:
            faults.append(f"{failpoint} was not hit")
            continue
        # A report or `latest.json` not written yet is as one that was lost: a rerun makes it.
        found = verify(Store(runner.store), deep=True)
        if damage := [line for line in found if "This makes it" not in line]:
            faults.append(f"{failpoint}: {damage}")
        if runner.run() != 0 or runner.tree() != want:
            faults.append(f"{failpoint}: another end than without the kill")
    survived = len(wanted) - len(faults)
    record_property("says", f"{survived}/{len(wanted)} failpoints of a run survived")
    assert not faults, "\n".join(faults)


def _some(passed: list[str]) -> list[str]:
    """Return every failpoint at its last pass, and one that is passed often at its first too."""
    by_name: dict[str, list[str]] = {}
    for point in passed:
        by_name.setdefault(point.partition("@")[0], []).append(point)
    chosen = [{p[0], p[-1]} if len(p) > 8 else {p[-1]} for p in by_name.values()]
    return sorted(set().union(*chosen), key=passed.index)


def test_verify_finds_every_kind_of_damage(runner: Runner):
    assert runner.run() == 0
    store = Store(runner.store)
    assert verify(store, deep=True) == []
    told = [p for p in runner.store.rglob("*") if p.is_file() and "lease" not in p.name]
    assert len(told) > 20
    missed = []
    for path in told:
        whole = path.read_bytes()
        middle = len(whole) // 2
        damages = {
            "a flipped bit": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "a cut": whole[:-1],
            "zeros": bytes(len(whole)),
        }
        for what, damaged in damages.items():
            path.write_bytes(damaged)
            if not verify(store, deep=True):
                missed.append(f"{path.relative_to(runner.store)}: {what}")
        path.unlink()
        # What the last ref of its name promised is not known once it is gone itself, nor is a
        # manifest that no run names: the hold-out is taken by tables of its own.
        promised = not {"run", "fit", "export", "manifests"} & set(path.parts)
        if promised and not verify(store, deep=True):
            missed.append(f"{path.relative_to(runner.store)}: gone")
        path.write_bytes(whole)
    assert not missed, "\n".join(missed)


def test_a_full_disk_ends_with_74_and_a_rerun_with_the_same_bytes(runner: Runner, tmp_path: Path):
    assert runner.run() == 0
    want = runner.tree()
    runner.wipe()
    limited = [
        sys.executable, "-c",
        "import resource, runpy, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (6000, 6000));"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "sys.argv = ['winnow', 'run', 'web.toml']; from flows.cli.app import main; main()",
    ]  # fmt: skip
    env = {**os.environ, "PYTHONPATH": str(PROGRAM.parents[2])}
    full = subprocess.run(limited, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert full.returncode == 74, full.stderr
    assert "bytes needed so far" in full.stderr
    assert verify(Store(runner.store), deep=True) == []
    assert runner.run() == 0
    assert runner.tree() == want
