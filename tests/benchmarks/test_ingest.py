"""What the benchmark of ingest prints and counts, at sizes that say nothing of speed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ingest

SIZES = ["--repeats=1", "--texts=40", "--known=40", "--updated=40", "--pictures", "16", "8"]


def rows(printed: str) -> list[list[str]]:
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in printed.splitlines()]


def in_this_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    return function(*arguments), 1.0


# The other rows start commands, and dozens of processes.
@pytest.mark.parametrize(
    ("row", "goals"),
    [
        ("json", ["at most 1.6", "", "datatrove is not installed"]),
        ("parquet", ["at most 3", ""]),
        ("tars", ["", "", "at most 2", "at most 2"] * 2 + ["at most 0.5"]),
        ("growth", ["at most 5", "at most 24"]),
        ("update", ["at most 1.3", "at most 1.3"]),
    ],
)
def test_a_row_prints_its_sizes_both_sides_their_ratio_and_the_goal(
    row: str,
    goals: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    # Processes take most of the time to start; a test below starts one.
    monkeypatch.setattr(ingest, "watched", in_this_process)
    monkeypatch.setattr(ingest, "find_spec", lambda _name: None)
    ingest.main([row, *SIZES])
    [head, rule, *found] = rows(capsys.readouterr().out)
    assert head == ["what", "size", "ours", "floor", "ratio", "goal"]
    assert rule == ["---"] * 6
    assert [len(cells) for cells in found] == [6] * len(goals)
    assert [cells[5].partition(":")[0] for cells in found] == goals


def test_a_ratio_is_the_median_of_the_pairs_and_a_missed_goal_is_said(
    capsys: pytest.CaptureFixture[str],
):
    ingest.report("a work", 1000, [2, 4, 6], [1, 4, 2], 1.6)
    # Ratios 1, 1 and 6, where the ratio of the medians would be 2.
    ingest.report("a work", 1000, [2, 4, 12], [2, 4, 2], 1.6)
    # What is left when the start of a process is taken off.
    ingest.report("a work", 10, [-0.5], [2], 1.6)
    assert rows(capsys.readouterr().out) == [
        ["a work", "1,000", "4.00", "2.00", "2.00", "at most 1.6: MISSED"],
        ["a work", "1,000", "4.00", "2.00", "1.00", "at most 1.6: met"],
        ["a work", "10", "-0.50", "2.00", "-0.25", "at most 1.6: too few records to say"],
    ]


@pytest.mark.parametrize(
    ("write", "floor"),
    [(ingest.write_tars, ingest.tars_floor), (ingest.write_hf, ingest.hf_floor)],
)
def test_ingest_and_its_floor_take_each_picture_once(
    write: Callable[..., Path], floor: Callable[..., int], tmp_path: Path
):
    source = write(tmp_path / "pictures", 11, 64)
    assert ingest.ingest(source, tmp_path / "store") == 11
    assert floor(source, tmp_path) == 11


def test_two_sides_that_take_different_numbers_of_records_are_not_compared():
    with pytest.raises(SystemExit, match="not the same work"):
        ingest.in_turn(1, lambda: ingest.Cost(1, 1, 40), lambda: ingest.Cost(1, 1, 39))


def test_the_cpu_seconds_of_child_processes_count():
    program = "import time\nwhile time.process_time() < 0.3: pass"

    def work() -> int:
        return subprocess.run([sys.executable, "-c", program], check=True).returncode

    assert ingest.cost(work).cpu >= 0.3


def test_what_is_measured_runs_in_a_process_of_its_own_whose_memory_is_watched():
    pid, peak_mb = ingest.watched(os.getpid)
    assert pid != os.getpid()
    assert peak_mb > 1
