"""What a run would keep under other rules, from its notes alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from contracts import methods
from contracts.errors import ConfigError, nearest
from flows.look.render import FUNNEL, funnel_rows
from flows.recipe.plan import Plan
from flows.recipe.toml import dumps
from flows.select.verdict import Verdict, judge

if TYPE_CHECKING:
    from flows.look.views import RunView


@dataclass(frozen=True)
class Recut:
    """What a run would keep under other rules; nothing is written until `save`."""

    run: RunView
    plan: Plan
    verdict: Verdict

    def funnel(self) -> pl.DataFrame:
        """Return what `RunView.funnel` does."""
        results = [asdict(result) for result in self.verdict.results]
        return pl.DataFrame(funnel_rows(results, self.verdict.rows.height), schema=FUNNEL)

    def kept(self) -> pl.DataFrame:
        """Return uid and repeats of what would be kept."""
        return self.verdict.kept

    def diff(self, other: RunView | Recut) -> pl.DataFrame:
        """Return the records whose fate differs: uid, before, after (null: kept)."""
        before = other.verdict.rows if isinstance(other, Recut) else other.verdict
        both = before.select("uid", before="dropped_by").join(
            self.verdict.rows.select("uid", after="dropped_by"), on="uid", maintain_order="left"
        )
        return both.filter(pl.col("before").ne_missing(pl.col("after")))

    def save(self, path: str | Path) -> None:
        """Write the changed recipe as a TOML file."""
        target = Path(path).resolve()
        content = self.plan.resolved()
        if target.parent != self.plan.recipe.recipe_dir:
            content = _anchored(content, self.plan.recipe.recipe_dir)
        target.write_text(dumps(content), encoding="utf-8")

    def __repr__(self) -> str:
        kept, total = self.verdict.kept.height, self.verdict.rows.height
        return f"recut of {self.run.name} version {self.run.version}: {kept:,} of {total:,} kept"


def recut(run: RunView, rules: Mapping[str, Any]) -> Recut:
    """Judge a run's records by other rules, in memory.

    Args:
        run: the run.
        rules: rule name to its new SQL, or for a selector to its changed keys.

    Raises:
        ConfigError: there is no such rule, or it needs notes that this run has not.
    """
    planned = run.planned(_changed(run.recipe["select"], rules))
    runtime = run.runtime_of(planned)
    missing = [t for t in planned.nodes if t not in runtime.notes and t not in runtime.models]
    if missing:
        raise ConfigError(f"{', '.join(missing)} was not measured: write it into a recipe and run.")
    return Recut(run, planned, judge(runtime))


def _anchored(content: Any, recipe_dir: Path, key: str = "") -> Any:
    """Return a recipe whose relative paths are absolute: it may be read from another folder."""
    if isinstance(content, Mapping):
        return {k: _anchored(v, recipe_dir, k) for k, v in content.items()}
    if isinstance(content, list | tuple):
        return [_anchored(v, recipe_dir, key) for v in content]
    if not isinstance(content, str):
        return content
    if key in ("path", "recipe", "file", "ids"):
        return content if "://" in content else str(recipe_dir / content)
    if content.startswith("file:"):
        return f"file:{recipe_dir / content.removeprefix('file:')}"
    named = re.fullmatch(r"[^:]{1,200}:(\w+)", content)
    if named and (file := methods.file_of(content, recipe_dir)):
        return f"{file}:{named[1]}"
    return content


def _changed(
    select: Sequence[Mapping[str, Any]], changes: Mapping[str, Any]
) -> list[dict[str, Any]]:
    names = [str(rule["name"]) for rule in select]
    for name in changes:
        if name not in names:
            raise ConfigError(f"no rule is called {name!r}.{nearest(name, names)}")
    found = []
    for rule in select:
        change = changes.get(rule["name"])
        if isinstance(change, Mapping):
            found.append({**rule, **change})
        elif change is not None:
            found.append({"name": rule["name"], "where": change})
        else:
            found.append(dict(rule))
    return found
