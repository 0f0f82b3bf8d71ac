"""winnow: measure a pool of raw data, select, export shards, and prove the selection's worth.

The public surface. Everything is imported when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    import polars as pl

    from curation.step import Role, Step, Table, fit, groupwise, poolwise, rowwise, selector
    from flows.look.views import RunView, Winnow
    from storage.store import Store

__all__ = [
    "Role", "Table", "fit", "groupwise", "ingest", "load_encoder", "method", "open", "poolwise",
    "pretrain", "rowwise", "run", "selector", "show", "thresholds",
]  # fmt: skip

_PACKAGES = ("contracts", "curation", "embeddings", "storage", "pretraining", "evaluation", "flows")
_OF_STEPS = ("rowwise", "groupwise", "poolwise", "fit", "selector", "Role", "Table")


def open(store: str | Path = ".winnow", *, methods: Sequence[Any] = ()) -> Winnow:
    """Open a store for reading: its pools, runs and versions.

    Args:
        store: the store's folder.
        methods: the steps of a notebook that its runs were given.
    """
    from flows.look.views import Winnow

    return Winnow(_store(store), {step.name: step for step in methods})


def method(name: str) -> Step:
    """Return a method by name, such as `minhash_clusters`, `protocols.knn`, `./mine.py:blur`."""
    from contracts import methods

    found: Step = methods.find(name)
    return found


def ingest(
    path: str | Path,
    *,
    pool: str | None = None,
    source: str | None = None,
    store: str | Path = ".winnow",
    workers: int = 1,
    payload: str = "copy",
    update: bool = False,
    rehash: bool = False,
    settle: float = 0.0,
    follow_links: str | Path | None = None,
    allow_missing: bool = False,
    accept: bool = False,
    max_quarantined: float | None = None,
    id: str | None = None,
    text: str | None = None,
    image: str | None = None,
    audio: str | None = None,
    volume: str | None = None,
    label_image: str | None = None,
    series: str | None = None,
    position: str | None = None,
    slices: bool = False,
) -> dict[str, Any]:
    """Read a source into a pool; return what `winnow ingest --json` prints.

    The parameters are those of the command.
    """
    from flows.ingest import ingest as ingesting
    from storage import source as sources

    found = sources.find(path, follow_links, allow_missing=allow_missing)
    spec = ingesting.SourceSpec(
        found,
        source or found.name,
        sources.Columns(id, text, image, series, position, slices, audio, volume, label_image),
        payload,
        update=update,
        rehash=rehash,
        settle_s=settle,
        max_quarantined_ratio=1.0 if accept else max_quarantined,
    )
    opened = _store(store)
    with opened.lease():
        return ingesting.ingest(opened, pool or spec.name, spec, workers=workers)


def run(
    recipe: str | Path,
    *,
    store: str | Path | None = None,
    methods: Sequence[Any] = (),
    until: str = "report",
    workers: int = 1,
    set: Sequence[str] = (),
    at: int | None = None,
) -> dict[str, Any]:
    """Do everything a recipe names; return what `winnow run --json` prints.

    Args:
        recipe: the TOML file.
        store: the store's folder; `.winnow` beside the recipe by default.
        methods: steps decorated here, which the recipe names by their functions' names.
        until: the last stage to do.
        workers: processes.
        set: `key=value` over the recipe.
        at: the pool version to use.
    """
    import os

    from flows import run as runs
    from flows.options import Options, open_store

    read = runs.read_recipe(Path(recipe), set)
    opened = open_store(Path(store) if store else None, read.recipe_dir, os.environ)
    given = {step.name: step for step in methods}
    options = Options(workers=workers, until=until, at=at, given=given)
    return runs.run(read, opened, options)


def thresholds(run: RunView, alias: str | None = None) -> pl.DataFrame:
    """Return what 20 cuts of each number would keep, from notes alone.

    Args:
        run: of a store that was opened.
        alias: of its notes, or one column of them; the numbers that rules name where not given.

    Returns:
        A row a cut: signal, quantile, value, at_least and at_most (the shares of the records
        that `>=` and `<=` keep), examples.
    """
    from flows.look import thresholds as cuts

    return cuts.frame(cuts.thresholds(run, alias))


def load_encoder(path: str | Path, *, tower: str | None = None) -> Any:
    """Return an encoder that a run trained: a torch module with `dim` and `codec`.

    Args:
        path: of the safetensors file, a run's `checkpoint`.
        tower: `image` or `text`, where the file has both.
    """
    from pretraining import checkpoint

    return checkpoint.load_encoder(path, tower=tower)


def pretrain(
    shards: str | Path | Sequence[str | Path],
    out: str | Path,
    *,
    objective: str,
    seed: int = 0,
    steps: int = 1000,
    device: str | None = None,
    **section: Any,
) -> dict[str, Any]:
    """Train on exported tars, as [pretrain] of a recipe does; resumed where it was stopped.

    Args:
        shards: folders of exports, a run's `export`.
        out: the safetensors file that the encoder is written to. Beside it lie a log, and the
            state while the training is not done.
        objective: a file of `pretraining/objectives`, or a reference.
        seed: of the weights, the order and the augmentation.
        steps: of the optimizer.
        device: found by itself where not given.
        section: further keys of [pretrain], such as `encoder={"name": "vit"}`.

    Returns:
        `path`, `steps`, and `losses`, one of each step.
    """
    from flows.answer import from_python

    folders = [shards] if isinstance(shards, (str, Path)) else shards
    given = {"objective": objective, "seed": seed, "steps": steps, **section}
    return from_python.pretrain([Path(f) for f in folders], Path(out), given, device)


def show(records: Any, n: int = 24) -> Any:
    """Show pictures and captions of records in a notebook."""
    from flows.look.show import show as shown

    return shown(records, n)


def _store(path: str | Path) -> Store:
    from storage.store import Store

    return Store(Path(path).resolve())


def __getattr__(name: str) -> Any:
    if name in _OF_STEPS:
        return getattr(importlib.import_module("curation.step"), name)
    raise AttributeError(f"module 'winnow' has no attribute {name!r}")


def _check_shadows() -> None:
    """Refuse to start where a file of the working directory hides one of our packages."""
    home = Path(__file__).resolve().parent.parent
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        origin = Path(spec.origin).resolve() if spec is not None and spec.origin else None
        if origin is None or not origin.is_relative_to(home):
            raise ImportError(
                f"{origin or package} hides winnow's own package {package!r}: rename it, or run "
                "from another folder."
            )


_check_shadows()
