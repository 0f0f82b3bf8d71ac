"""The losses of the first steps of every objective, by which a change of the trainer is seen.

    python -m tests.pretraining.traces

writes them anew; `pretraining.train.VERSION` is raised then, since what was trained before is found
by it.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch

from contracts.methods import names
from pretraining.train import VERSION, train
from tests.pretraining.made import batch_of, fitting, made

FILE = Path(__file__).with_suffix(".json")
STEPS = 4


def pairs() -> list[tuple[str, str]]:
    """Return every objective with each encoder that its first role takes."""
    return [(name, e) for name in names("pretraining.objectives") for e in fitting(name)]


def losses(objective: str, encoder: str) -> list[float]:
    """Return the losses of the first steps, of batches and weights that are always the same."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    fresh = made(objective, first=encoder)
    batches = [batch_of(fresh, seed=step) for step in range(STEPS)]
    try:
        done = train(fresh, lambda start: iter(batches[start:]), steps=STEPS, lr=1e-3)
    finally:
        torch.set_num_threads(threads)
    return [float(loss) for loss in done.losses]


def main() -> None:
    """Write the file."""
    found = {f"{o}, {e}": [float(f"{x:.6g}") for x in losses(o, e)] for o, e in pairs()}
    FILE.write_text(json.dumps({"version": VERSION, "losses": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
