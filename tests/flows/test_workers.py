from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.errors import ConfigError, DataError, StorageError
from contracts.uid import digest_of
from flows import workers as working
from flows.workers import Processes, Workers
from storage import block, shards
from tests.flows import worked
from tests.flows.worked import Killer, Poison, Sleeper, negated, refusing

ROOT = Path(__file__).resolve().parents[2]
SOAK = bool(os.environ.get("WINNOW_SOAK"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def _charged(item: int, reason: str) -> tuple[int, str]:
    return int(item), reason


def _batches(items: list[int], size: int = 4) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _looked(workers: Workers, batches: Any) -> list[Any]:
    found = workers.map_batches(negated, batches, lambda batch: batch, _charged)
    return [result for _, results in found for result in results]


def _lives(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _until(holds: Callable[[], Any], limit_s: float = 60.0) -> Any:
    end = time.monotonic() + limit_s
    while not (found := holds()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a script with what the tests of workers use."""

    def start(script: str) -> subprocess.Popen[str]:
        head = "import signal, time\nfrom pathlib import Path\nfrom tests.flows import worked\n"
        head += f"from flows.workers import Workers\nfolder = Path({str(tmp_path)!r})\n"
        (tmp_path / "script.py").write_text(head + script)
        return subprocess.Popen(
            [sys.executable, str(tmp_path / "script.py")], env=ENVIRONMENT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return start


# ------------------------------------------------------------------ results


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_units_whatever_the_workers(count: int):
    with Workers(count) as workers:
        assert list(workers.map(negated, range(20))) == [-i for i in range(20)]


def test_one_worker_without_isolation_is_this_process():
    with Workers() as workers:
        assert next(workers.map(lambda _: os.getpid(), [0])) == os.getpid()
    with Workers(isolated=True) as workers:
        assert next(workers.map(abs, [-os.getpid()])) == os.getpid()
        assert workers.executor().submit(os.getpid).result() != os.getpid()


def test_units_are_drawn_a_bounded_number_ahead():
    drawn: list[int] = []

    def units() -> Iterator[int]:
        for i in range(100):
            drawn.append(i)
            yield i

    with Workers() as workers:
        results = workers.map(abs, units())
        next(results)
        assert len(drawn) <= 4
        results.close()  # type: ignore[attr-defined]


def test_an_error_of_a_unit_reaches_the_caller():
    for count in (1, 2):
        with Workers(count) as workers, pytest.raises(DataError, match="three is refused"):
            list(workers.map(refusing, range(5)))


def test_batches_of_which_nothing_is_hostile_start_no_worker():
    with Workers(isolated=True) as workers:
        found = workers.map_batches(negated, [[1], [2, 3]], lambda _batch: [], _charged)
        assert list(found) == [([1], []), ([2, 3], [])]
        assert workers._executor is None


def test_only_what_is_sent_of_a_batch_meets_a_worker():
    with Workers(isolated=True) as workers:
        batches = [[Poison(1), 2], [Poison(3), 4, 6], [Poison(5)]]
        found = workers.map_batches(
            negated, batches, lambda batch: [item for item in batch if item % 2 == 0], _charged
        )
        assert [results for _, results in found] == [[-2], [-4, -6], []]


# ------------------------------------------------------------------ a worker that dies


@pytest.mark.parametrize(("poison", "count"), [(Poison, 2), (Killer, 1)])
def test_an_item_that_kills_its_worker_costs_itself_alone(poison: type[Poison], count: int):
    items = [*range(6), poison(6), *range(7, 12)]
    with Workers(count, isolated=True) as workers:
        found = _looked(workers, _batches(items))
    assert found == [(6, "DECODE_CRASH") if i == 6 else -i for i in range(12)]


def test_an_item_that_hangs_its_worker_costs_itself_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working, "ITEM_S", 0.5)
    with Workers(isolated=True) as workers:
        found = _looked(workers, _batches([0, Sleeper(1), 2], 3))
    assert found == [0, (1, "DECODE_TIMEOUT"), -2]


def test_a_worker_that_dies_where_nothing_hostile_is_read_ends_the_run_with_advice():
    with Workers(2) as workers, pytest.raises(StorageError, match="fewer --workers"):
        list(workers.map(abs, [1, Killer(2), 3]))


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(
    "dying",
    [
        worked.dying_at_work,
        worked.dying_half_way_through_the_answer,
        worked.dying_after_the_answer,
    ],
)
def test_a_worker_killed_once_at_any_moment_changes_no_result(
    tmp_path: Path, count: int, dying: Callable[[tuple[Path, int]], bytes]
):
    units = [(tmp_path, item) for item in range(4)]
    with Processes(count) as processes:
        found = [future.result(60) for future in [processes.submit(dying, unit) for unit in units]]
    assert len(list(tmp_path.iterdir())) == len(units)
    assert found == [dying(unit) for unit in units]


def test_a_child_of_a_dead_worker_that_holds_its_pipe_does_not_keep_the_run(tmp_path: Path):
    units = [(tmp_path, item) for item in range(5)]
    with Workers(2) as workers:
        found = list(workers.map(worked.dying_with_a_child_that_holds_the_pipe, units))
    os.kill(int((tmp_path / "child").read_text()), signal.SIGKILL)
    assert found == [bytes([item]) for item in range(5)]


def test_a_worker_killed_at_its_start_is_started_again(monkeypatch: pytest.MonkeyPatch):
    started = _killed_at_start(monkeypatch, range(3))
    with Workers(isolated=True) as workers:
        assert _looked(workers, [[1, 2]]) == [-1, -2]
    assert len(started) == 4


def test_workers_that_never_start_end_the_run_with_advice(monkeypatch: pytest.MonkeyPatch):
    started = _killed_at_start(monkeypatch, range(100))
    with Workers(2) as workers, pytest.raises(StorageError, match=r"signal 9.*fewer --workers"):
        list(workers.map(abs, [1]))
    assert len(started) == working.STARTS


def _killed_at_start(monkeypatch: pytest.MonkeyPatch, numbers: range) -> list[int]:
    started: list[int] = []
    start = subprocess.Popen

    def killed(*arguments: Any, **options: Any) -> Any:
        process = start(*arguments, **options)
        if len(started) in numbers:
            process.kill()
        started.append(process.pid)
        return process

    monkeypatch.setattr(working.subprocess, "Popen", killed)
    return started


def test_an_idle_worker_that_died_costs_nothing():
    with Workers(isolated=True) as workers:

        def batches() -> Iterator[list[int]]:
            yield [1]
            pid = workers.executor().submit(os.getpid).result()
            os.kill(pid, signal.SIGKILL)
            yield [2, 3]

        assert _looked(workers, batches()) == [-1, -2, -3]


def test_keys_of_a_bucket_that_a_worker_died_over_are_counted_once(tmp_path: Path):
    import polars as pl

    from flows.measure import buckets

    for name, keys in (("a", [1, 2]), ("b", [2, 3])):
        buckets._write(pl.DataFrame({"key": keys}), tmp_path / f"{name}.key")
    buckets._keep_repeated(tmp_path)
    buckets._write(pl.DataFrame({"key": [2, 3]}), tmp_path / "b.key")
    buckets._keep_repeated(tmp_path)
    assert pl.read_ipc(tmp_path / "repeated")["key"].to_list() == [2]
    assert [path.name for path in tmp_path.iterdir()] == ["repeated"]


def test_a_shard_whose_worker_died_over_it_leaves_nothing_else_in_the_export(
    project: Any, monkeypatch: pytest.MonkeyPatch
):
    from flows.export import export

    monkeypatch.setattr(export, "_write_piece", worked.writing_a_shard_until_killed)
    project.texts(*(f"text {number}" for number in range(8)))
    recipe = 'name = "web"\n[[source]]\npath = "texts.jsonl"\n[export]\nshard_records = 4\n'
    project.run(recipe, workers=2)
    folder = project.store.root / "shards/web/v0001"
    assert (folder.parent / "killed").exists()
    named = {item["name"] for item in shards.manifest(folder)["files"]}
    assert {path.name for path in folder.iterdir()} == {*named, "manifest.json"}


# ------------------------------------------------------------------ kills while a source is read


MOMENTS = ("start", "work", "answer", "close")
PICTURES = 24


class Killing:
    """Ingests one source of pictures again and again, a worker killed each time."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from flows.ingest import ingest

        self.folder, self.monkeypatch, self.ingest = folder, monkeypatch, ingest
        self.images = [_noise(number) for number in range(PICTURES)]
        (folder / "pictures").mkdir()
        for number, image in enumerate(self.images):
            (folder / f"pictures/{number:02d}.png").write_bytes(image)
        monkeypatch.setattr(block, "BLOCK_RECORDS", 4)
        self.want = self.run("undisturbed", 1)
        begun = time.monotonic()
        with Workers(isolated=True) as workers:
            workers.executor().submit(os.getpid).result()
        self.start_s = time.monotonic() - begun
        monkeypatch.setattr(ingest.decoding, "seen", worked.seen_until_killed)

    def run(self, name: str, count: int) -> dict[str, str]:
        from storage.source import find
        from storage.store import Store

        store = Store(self.folder / name)
        spec = self.ingest.SourceSpec(find(self.folder / "pictures"), "pictures")
        with store.lease():
            self.ingest.ingest(store, "web", spec, workers=count)
        tree = {
            str(path.relative_to(store.root)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in store.root.rglob("*")
            if path.is_file() and "lease" not in path.name
        }
        shutil.rmtree(store.root)
        return tree

    def survives(self, number: int, moment: str, count: int) -> bool:
        """Ingest while a worker is killed; say whether it was and the store is as without."""
        draws = random.Random(number)
        plan = self.folder / f"plan-{number}"
        digest = digest_of(draws.choice(self.images)).hex()
        plan.write_text(
            f"{moment} {digest if moment in ('work', 'answer') else '-'} {draws.random()}"
        )
        with self.monkeypatch.context() as patched:
            patched.setenv("WINNOW_TEST_PLAN", str(plan))
            killed: list[int] = []
            if moment == "start":
                killed = self._at_start(patched, draws)
            if moment == "close":
                killed = self._at_close(patched, draws)
            same = self.run(f"{number}", count) == self.want
        return same and (bool(killed) or plan.with_name(f"{plan.name}.killed").exists())

    def _at_start(self, patched: pytest.MonkeyPatch, draws: random.Random) -> list[int]:
        killed: list[int] = []
        start = subprocess.Popen

        def starting(*arguments: Any, **options: Any) -> Any:
            process = start(*arguments, **options)
            if not killed:
                killed.append(process.pid)
                threading.Timer(draws.random() * self.start_s, process.kill).start()
            return process

        patched.setattr(working.subprocess, "Popen", starting)
        return killed

    def _at_close(self, patched: pytest.MonkeyPatch, draws: random.Random) -> list[int]:
        killed: list[int] = []
        shutdown = Processes.shutdown

        def closing(self: Processes, *arguments: Any, **options: Any) -> None:
            worker = draws.choice(sorted(self._alive, key=lambda one: one.process.pid))
            killed.append(worker.process.pid)
            threading.Timer(draws.random() * 0.005, worker.process.kill).start()
            shutdown(self, *arguments, **options)

        patched.setattr(Processes, "shutdown", closing)
        return killed


def _noise(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.timeout(7200 if SOAK else 300)
def test_an_ingest_whose_workers_are_killed_at_any_moment_makes_the_same_bytes(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
):
    killing = Killing(tmp_path, monkeypatch)
    kills = [
        (number, MOMENTS[number % 4], 1 + (number // 4 + number) % 2)
        for number in range(200 if SOAK else 4)
    ]
    faults = [kill for kill in kills if not killing.survives(*kill)]
    survived = len(kills) - len(faults)
    record_property("says", f"{survived}/{len(kills)} kills of a worker survived, same bytes")
    assert not faults


# ------------------------------------------------------------------ the end


@pytest.mark.parametrize("stopped", [False, True])
def test_workers_at_work_do_not_keep_a_run_from_its_end(tmp_path: Path, stopped: bool):
    with Workers(2) as workers:
        results = workers.map(worked.standing_still, [(tmp_path, 0), *[(tmp_path, 1)] * 4])
        assert next(results) == 0
        pids = _until(lambda: len(found := _pids(tmp_path)) == 2 and found)
        if stopped:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
        begun = time.monotonic()
    assert time.monotonic() - begun < working.END_S
    assert not [pid for pid in pids if _lives(pid)]


def test_what_ends_its_step_when_it_is_asked_to_stop_is_waited_for(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path
):
    parent = program(
        "signal.signal(signal.SIGTERM, signal.default_int_handler)\n"
        "with Workers(2) as workers:\n"
        "    list(workers.map(worked.ending_its_step, [folder] * 4))\n"
    )
    pids = _until(lambda: len(found := _pids(tmp_path)) == 2 and found)
    parent.send_signal(signal.SIGTERM)
    _, said = parent.communicate(timeout=20)
    assert sorted(int(path.stem) for path in tmp_path.glob("*.kept")) == sorted(pids)
    assert said.count("Traceback") == 1
    assert not [pid for pid in pids if _lives(pid)]


def test_what_does_not_stop_in_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working, "STOP_S", 0.02)
    with Workers(2) as workers:
        workers.executor().submit(worked.ending_its_step, tmp_path)
        [pid] = _until(lambda: _pids(tmp_path))
    assert not _lives(pid)
    assert not list(tmp_path.glob("*.kept"))


def _pids(folder: Path) -> list[int]:
    return [int(path.stem) for path in folder.glob("*.pid")]


AT_WORK = """
with Workers(2) as workers:
    list(workers.map(worked.standing_still, [(folder, n) for n in range(1, 7)]))
"""
IDLE = """
with Workers(2) as workers:
    list(workers.map(worked.standing_still, [(folder, 0)] * 9))
    time.sleep(3600)
"""
HOLDING = """
with Workers(2) as workers:
    list(workers.map(worked.holding_the_interpreter, [folder] * 2))
"""


@pytest.mark.parametrize("script", [AT_WORK, IDLE, HOLDING], ids=["work", "idle", "holding"])
def test_no_worker_outlives_a_killed_parent(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path, script: str
):
    parent = program(script)
    wanted = 1 if script is IDLE else 2
    pids = _until(lambda: len(found := _pids(tmp_path)) >= wanted and found)
    parent.kill()
    parent.communicate()
    assert _until(lambda: not [pid for pid in pids if _lives(pid)], 5.0)


@pytest.mark.parametrize("script", [AT_WORK, IDLE], ids=["work", "idle"])
def test_where_no_kernel_kills_it_a_worker_ends_with_its_parent_too(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path, script: str
):
    elsewhere = "workers.sys = type(sys)('sys'); workers.sys.platform = 'darwin'; workers.serve"
    parent = program(
        "from flows import workers\n"
        f"workers._PROGRAM = workers._PROGRAM.replace('workers.serve', {elsewhere!r})\n{script}"
    )
    wanted = 1 if script is IDLE else 2
    pids = _until(lambda: len(found := _pids(tmp_path)) >= wanted and found)
    parent.kill()
    parent.communicate()
    assert _until(lambda: not [pid for pid in pids if _lives(pid)], 5.0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_parent_that_is_told_to_stop_does_so_with_its_workers(
    program: Callable[[str], subprocess.Popen[str]], tmp_path: Path, number: signal.Signals
):
    # What is started in the background by a shell without job control ignores SIGINT.
    listens = "".join(
        f"signal.signal(signal.{name}, signal.default_int_handler)\n"
        for name in ("SIGINT", "SIGTERM")
    )
    parent = program(listens + AT_WORK)
    pids = _until(lambda: len(found := _pids(tmp_path)) == 2 and found)
    parent.send_signal(number)
    _, said = parent.communicate(timeout=10)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert said.count("Traceback") == 1
    assert not [pid for pid in pids if _lives(pid)]


# ------------------------------------------------------------------ the main script


def test_a_script_needs_no_guard_and_no_file():
    script = "from flows.workers import Workers\nwith Workers(2) as workers:\n"
    script += "    print(list(workers.map(abs, [-1, -2])))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=script, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[1, 2]\n", "")


def test_a_function_of_the_main_script_is_refused_with_advice():
    script = "from flows.workers import Workers\ndef own(item): return item\n"
    script += "with Workers(2) as workers:\n    list(workers.map(own, [1]))\n"
    done = subprocess.run(
        [sys.executable, "-"], input=script, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert f"{ConfigError.__name__}: a worker process cannot import from the main" in done.stderr
    assert "Put it into a module." in done.stderr


@pytest.mark.parametrize(
    "said",
    [
        "Can't get attribute 'own' on <module '__main__' (built-in)>",  # until Python 3.13
        "module '__main__' has no attribute 'own'",
    ],
)
def test_the_advice_is_given_in_the_words_of_every_python(said: str):
    _, error = pickle.loads(working._packed_error(AttributeError(said)))
    assert isinstance(error, ConfigError)
