"""Read a store in every way, then try to write it; print code, output and errors as JSON lines.

An exception that is no error of ours ends the program with its traceback.
"""

from __future__ import annotations

import io
import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT))

import winnow  # noqa: E402
from flows.cli import app  # noqa: E402


def call(*words: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["winnow", *words]
    code = 0
    with redirect_stdout(out), redirect_stderr(err):
        try:
            app.main()
        except SystemExit as end:
            code = int(end.code or 0)
    return code, out.getvalue(), err.getvalue()


def kept(store: str) -> list[int]:
    """Return what a run keeps, and what it would keep by a selector that maps vectors."""
    run = winnow.open(store).run("web")
    looser = run.recut({"some": {"by": "k_center", "vector": "grams.vector", "budget_ratio": 0.5}})
    return [run.kept().collect().height, looser.kept().height]


if __name__ == "__main__":
    store = sys.argv[1]
    for line in sys.stdin:
        print(json.dumps(call(*line.split(), "--store", store)), flush=True)
    print(json.dumps(kept(store)), flush=True)
