"""How good recipes are beside random sets, over the demo's pool: writes docs/leaderboard.md.

    python -m benchmarks.leaderboard FOLDER [--shares 0.05 0.1 0.2 0.4 0.7 1] [--full] [--workers 2]

FOLDER is where `winnow demo` put its pool; runs are kept in its store, so that a second call finds
them. For each share a recipe keeps that share of the records with a caption, those whose captions
fit their pictures best by the demo's first encoder; the demo's own recipe stands beside them. With
--full the demo's recipe is also answered at three rates and three budgets.
"""

from __future__ import annotations

import argparse
import os
import time
from datetime import date
from pathlib import Path

from flows import run as runs
from flows.look import leaderboard
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

PAGE = Path(__file__).resolve().parents[1] / "docs" / "leaderboard.md"
SHARES = (0.05, 0.1, 0.2, 0.4, 0.7, 1.0)
RULES = """
[[select]]
name = "has a caption"
where = "caption_stats.words >= 1"

[[select]]
name = "the best captions"
by = "top"
score = "alignment.cosine"
budget_ratio = {share}

"""


def recipes(folder: Path, shares: tuple[float, ...], *, full: bool) -> list[Path]:
    """Write the recipes that the demo has not, and return all in the order in which they run.

    Args:
        folder: of the demo, with its two recipes.
        shares: of the records with a caption, one recipe each.
        full: whether the demo's recipe is answered over a grid too.
    """
    # Of all records the share 1 says enough.
    demo = (folder / "demo.toml").read_text().replace('"random", "all",', '"random",')
    head, train = demo[: demo.index("[[select]]")], demo[demo.index("[pretrain]") :]
    made = {f"best_{share:.0%}"[:-1]: head + RULES.format(share=share) + train for share in shares}
    if full:
        made["demo_full"] = demo.replace("[compare]", '[compare]\ngrid = "full"')
    for name, text in made.items():
        path = folder / f"{name}.toml"
        path.write_text(text.replace('name = "demo"', f'name = "{name}"'))
    return [folder / f"{name}.toml" for name in ("demo_boot", "demo", *made)]


def main() -> None:
    """Run the recipes, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shares", type=float, nargs="*", default=SHARES)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    store, began = Store(options.folder / ".winnow"), time.monotonic()
    given = Options(until="evaluate", workers=options.workers, reporter=Reporter(line=print))
    for path in recipes(options.folder, tuple(options.shares), full=options.full):
        runs.run(runs.read_recipe(path), store, given)
        print(f"{path.stem}: {(time.monotonic() - began) / 60:.1f} minutes so far", flush=True)
    title, _, rest = leaderboard.page(store).partition("\n")
    PAGE.write_text(f"{title}\n\nThe demo's pool, {date.today()}, {os.cpu_count()} cores.\n{rest}")


if __name__ == "__main__":
    main()
