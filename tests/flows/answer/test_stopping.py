"""A training that is asked to stop ends a step, keeps its state, and goes on from there."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.answer.stopping import SIGNALS, asked
from pretraining.checkpoint import Checkpoint
from storage import seals
from tests.flows.answer import small

MINE = '''
import os
import signal

import torch

from pretraining.objective import Encoder, Objective


class Stopping(Objective):
    """Sends its own process a signal in the third step, where a file says so."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder
        self.register_buffer("steps_done", torch.zeros((), dtype=torch.int64))

    def forward(self, batch, moment):
        if int(self.steps_done) == 2 and os.environ.get("WINNOW_TEST_STOP"):
            os.kill(os.getpid(), signal.SIGTERM)
        return {"loss": self.encoder(batch["image"]).square().mean()}

    def after_step(self, moment):
        self.steps_done += 1
'''
RECIPE = (
    'name = "web"\n[[source]]\npath = "pictures"\n[pretrain]\nobjective = "./own.py:Stopping"\n'
    "steps = 5\nbatch = 8\nencoder = { width = 4, side_px = 16 }\n"
)


@pytest.fixture
def listening() -> Iterator[None]:
    """A shell without job control starts its background jobs with SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("listening")
def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with asked() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("listening")
def test_a_signal_is_noted_once_and_the_handlers_come_back():
    before = [signal.getsignal(number) for number in SIGNALS]
    with asked() as stop:
        assert not stop()
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_beside_the_main_thread_no_signal_is_taken():
    said: list[bool] = []

    def work() -> None:
        with asked() as stop:
            said.append(stop())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert said == [False]


def test_a_stopped_training_keeps_its_state_and_ends_with_the_same_bytes(
    projects: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
):
    stopped, straight = projects(), projects()
    for project in (stopped, straight):
        small.write(project)
        (project.recipe_dir / "own.py").write_text(MINE)
    monkeypatch.setenv("WINNOW_TEST_STOP", "1")
    with pytest.raises(KeyboardInterrupt):
        stopped.run(RECIPE, "web", until="pretrain")
    [state] = (stopped.store.root / "training").glob("*.safetensors")
    assert Checkpoint.from_bytes(seals.opened(state)).step == 3
    monkeypatch.delenv("WINNOW_TEST_STOP")
    files = [
        Path(project.run(RECIPE, "web", until="pretrain")["checkpoint"]).read_bytes()
        for project in (stopped, straight)
    ]
    assert files[0] == files[1]
