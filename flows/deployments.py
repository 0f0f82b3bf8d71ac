"""The Prefect flows: one a stage and one for all, with a task a stage.

Prefect triggers, shows and schedules; the store alone knows what is done. A task does its stage
by running the recipe up to it, finds what the tasks before it made, and hands on a small dict, so
a flow that dies anywhere is run again and resumes, and a server that is down or dying changes
neither the bytes nor the exit code.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

# Read by prefect when it is imported: no telemetry, no minutes of retries to a dead server, and
# on a busy machine more than 20 s for a server of its own to start.
for _name, _value in {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_API_REQUEST_TIMEOUT": "10",
    "PREFECT_CLIENT_MAX_RETRIES": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
}.items():
    os.environ.setdefault(_name, _value)

import httpx
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import PrefectException

from contracts.errors import CurationError
from flows import run as runs
from flows.options import STAGES, Options, open_store
from storage.store import Store


@task(name="stage", task_run_name="{stage}", cache_policy=NO_CACHE, persist_result=False)
def stage_task(recipe: str, stage: str, last: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Run a recipe up to a stage; the last one makes the version."""
    given = dict(options)
    store = given.pop("store", None)
    overrides = given.pop("set", [])
    read = runs.read_recipe(Path(recipe), overrides)
    opened = open_store(Path(store) if store else None, read.recipe_dir, os.environ)
    return runs.run(read, opened, Options(until=stage, publish=last, **given))


@flow(name="winnow", flow_run_name="{recipe}", validate_parameters=False)
def curate(recipe: str, until: str = "report", **options: Any) -> dict[str, Any]:
    """Do everything a recipe names, a task a stage; return what `winnow run --json` prints.

    Args:
        recipe: path of the recipe.
        until: the last stage.
        options: store, set, workers, dask, device, at, mixed, accept, unseal, allow_missing; as
            those of `winnow run`.
    """
    stages = runs.stages_of(Path(recipe), until, options.get("set", []))
    result: dict[str, Any] = {}
    for stage in stages:
        result = stage_task(recipe, stage, stage == stages[-1], options)
    return result


def stage_flow(stage: str) -> Any:
    """Return the flow that ends with one stage, for a deployment of its own."""

    @flow(name=f"winnow-{stage}", flow_run_name="{recipe}", validate_parameters=False)
    def one(recipe: str, **options: Any) -> dict[str, Any]:
        return stage_task(recipe, stage, True, options)

    return one


STAGE_FLOWS = {stage: stage_flow(stage) for stage in STAGES}


def run(recipe: Path, store: Store, options: Options, overrides: list[str]) -> dict[str, Any]:
    """Run a recipe as a flow of the server that PREFECT_API_URL names, or without it.

    Whatever the server does, the result is that of the plain run: when it cannot be reached, or
    dies under way, the rest is done here and now.

    Raises:
        CurationError: as the plain run.
    """
    given = {
        "store": str(store.root),
        "set": overrides,
        "workers": options.workers,
        "dask": options.dask,
        "device": options.device,
        "at": options.at,
        "mixed": options.mixed,
        "accept": options.accept,
        "unseal": options.unseal,
        "allow_missing": options.allow_missing,
    }
    try:
        httpx.get(f"{os.environ['PREFECT_API_URL']}/health", timeout=3).raise_for_status()
        return curate(str(recipe), options.until, **given)
    except (httpx.HTTPError, PrefectException, RuntimeError) as error:
        if isinstance(error, CurationError):
            raise
        print(f"winnow: Prefect cannot be reached, going on without: {error}", file=sys.stderr)  # noqa: T201
    return runs.run(runs.read_recipe(recipe, overrides), store, options)
