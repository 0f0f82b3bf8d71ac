"""Run a recipe in a forked child for each line `FAILPOINT` on standard input; answer its status.

Everything is imported once, before polars is used, so that a child starts in milliseconds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from contracts.errors import CurationError  # noqa: E402
from flows import run as runs  # noqa: E402
from flows.look import report, views  # noqa: E402, F401
from storage.store import Store  # noqa: E402


def child(recipe: Path, failpoint: str) -> None:
    if failpoint.startswith("log="):
        os.environ["WINNOW_FAILPOINT_LOG"] = failpoint.removeprefix("log=")
    elif failpoint != "none":
        os.environ["WINNOW_FAILPOINT"] = failpoint
    try:
        runs.run(runs.read_recipe(recipe), Store(recipe.parent / ".winnow"))
    except CurationError as error:
        print(error, file=sys.stderr)
        os._exit(error.exit_code)
    os._exit(0)


if __name__ == "__main__":
    recipe = Path(sys.argv[1])
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            child(recipe, line.strip())
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
