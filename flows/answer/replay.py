"""What can be seen of a step in which a training was not finite."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.answer.pretrain import device_here
from storage import seals

SHOWN = 5


def replay(path: Path, device: str | None, allow: Sequence[str]) -> dict[str, Any]:
    """Run the step again, as `pretraining.replay.replay` does, whose values these are.

    Numbers that are not finite are texts, since JSON has none.

    Raises:
        DataError: the file is damaged, or no such step.
        StorageError: it cannot be read.
    """
    from pretraining.replay import replay as run_again

    seen = run_again(
        seals.opened(path), device=device or device_here(), allow=allow, recipe_dir=Path.cwd()
    )
    scalars = {name: _number(value) for name, value in seen["scalars"].items()}
    return {**seen, "scalars": scalars, "gradient_norm": _number(seen["gradient_norm"])}


def text(seen: Mapping[str, Any]) -> str:
    """Return what was seen as lines."""
    records = seen["records"]
    lines = [f"step {seen['step']} of {seen['steps']}: {seen['error'] or 'is finite here.'}"]
    lines += [f"{name}: {value}" for name, value in seen["scalars"].items()]
    if seen["gradient_norm"] is not None:
        lines.append(f"norm of the gradients: {seen['gradient_norm']}")
    if seen["module"] is not None:
        lines.append(f"first not finite: what {seen['module']} returns")
    for what in ("weights", "gradients"):
        if seen[what]:
            lines.append(f"{what} not finite: {_few(seen[what])}")
    for column, rows in seen["inputs"].items():
        lines.append(f"not finite in {column}: {_few([records[r] for r in rows] or rows)}")
    lines.append(f"records of the batch: {_few(records)}")
    return "\n".join(lines)


def _few(names: Sequence[Any]) -> str:
    shown = ", ".join(map(str, names[:SHOWN]))
    return shown if len(names) <= SHOWN else f"{shown} and {len(names) - SHOWN} more (--json)"


def _number(value: float | None) -> float | str | None:
    return value if value is None or math.isfinite(value) else str(value)
