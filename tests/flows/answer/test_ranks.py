"""Training from Python under torchrun: two processes write what one does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import winnow
from tests.flows.answer import small
from tests.flows.answer.test_from_python import RECIPE, SECTION

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = """
import json
import sys

import winnow

shards, out, section = json.loads(sys.argv[1])
done = winnow.pretrain(shards, out, **section)
winnow.load_encoder(out, tower="image")
print(json.dumps(done["losses"]))
"""


@pytest.mark.skipif(not os.environ.get("WINNOW_SOAK"), reason="is run by make soak")
def test_two_processes_of_torchrun_train_as_one_and_one_of_them_writes(
    projects: Callable[[], Any], tmp_path: Path
):
    project = projects()
    small.write(project)
    shards = project.run(RECIPE, "web", until="export")["export"]
    alone = winnow.pretrain(shards, tmp_path / "alone.safetensors", steps=3, **SECTION)
    folder = tmp_path / "together"
    folder.mkdir()
    script = folder / "train.py"
    script.write_text(SCRIPT)
    given = json.dumps([str(shards), str(folder / "out.safetensors"), {**SECTION, "steps": 3}])
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port",
         "0", "--standalone", str(script), given],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    losses = [json.loads(line) for line in done.stdout.splitlines()]
    assert losses[0] == losses[1] == pytest.approx(alone["losses"], rel=1e-4)
    assert len(losses) == 2
    assert sorted(path.suffix for path in folder.iterdir()) == [".jsonl", ".py", ".safetensors"]
    [log] = folder.glob("*.jsonl")
    assert len(log.read_text().splitlines()) == 1
