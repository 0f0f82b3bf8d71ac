"""The log of a training: a line of JSON every so many steps, which nothing is made of."""

from __future__ import annotations

import json
import re
import resource
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from pretraining.objective import Batch

EVERY = 10


class Journal:
    """Writes how a training goes; it is told each step, and each wait for a batch.

    A line has, over the steps since the line before: the mean of every scalar (`loss`, `lr`, what
    else the objective returns), `records_per_s`, and `waiting_ratio`, the share of the time spent
    waiting for batches; also `step`, the number of steps done, and `peak_memory_bytes`, the most
    that the process has held so far, on CUDA the most that its tensors have.
    """

    def __init__(
        self,
        write: Callable[[str], object],
        *,
        steps: int,
        every: int = EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin.

        Args:
            write: is handed each line, with its newline.
            steps: of the training, in all; the last has a line too.
            every: so many steps make a line.
            clock: seconds.
        """
        self.write, self.steps, self.every, self.clock = write, steps, every, clock
        self._begin()

    def timed(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Yield the batches, counting their records and the time they take to come."""
        self._begin()
        while True:
            asked = self.clock()
            batch = next(batches, None)
            self.waited += self.clock() - asked
            if batch is None:
                return
            self.records += len(next(iter(batch.values())))
            yield batch

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Count the time within as none of the training's."""
        paused = self.clock()
        yield
        self.began += self.clock() - paused

    def __call__(self, step: int, scalars: Mapping[str, float]) -> None:
        """Take the scalars of a step, the `log` of `train`."""
        self.counted += 1
        for name, value in scalars.items():
            self.sums[name] += value
        if step % self.every and step != self.steps:
            return
        elapsed = max(self.clock() - self.began, 1e-9)
        line = {
            "step": step,
            **{name: total / self.counted for name, total in self.sums.items()},
            "records_per_s": self.records / elapsed,
            "waiting_ratio": self.waited / elapsed,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        self.write(json.dumps(line) + "\n")
        self._begin()

    def _begin(self) -> None:
        self.began = self.clock()
        self.waited, self.records, self.counted = 0.0, 0, 0
        self.sums: defaultdict[str, float] = defaultdict(float)


def peak_memory_bytes() -> int:
    """Return the most memory held so far: by tensors on CUDA where it is used, else resident."""
    on_cuda = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if on_cuda:
        return on_cuda
    status = Path("/proc/self/status")
    if status.is_file():
        # ru_maxrss would count the parent's memory, from before a worker's own program began.
        found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text())
        if found:
            return int(found[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10
