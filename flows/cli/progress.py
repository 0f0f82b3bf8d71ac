"""Progress of long work on a terminal: bars with rate and time left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flows.reporter import Progress


@contextmanager
def ingest_bar(say: Callable[[str], None], source: str) -> Iterator[Progress]:
    """Say what is needed and free; show bytes done, rate and time left on a terminal only."""

    def foreseen(_todo: int, needed: int, free: int) -> None:
        say(f"  {source}: {needed:,} bytes needed, {free:,} free")

    if not sys.stderr.isatty():
        yield Progress(plan=foreseen)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(f"reading {source}", total=None)

        def plan(todo: int, needed: int, free: int) -> None:
            foreseen(todo, needed, free)
            bars.update(task, total=todo)

        def show(done: int, records: int) -> None:
            bars.update(task, completed=done, description=f"reading {source}: {records:,}")

        yield Progress(show, plan)


@contextmanager
def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how much of long work is done, its rate and the time left, on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(what[:60], total=total, rate="")

        def advance(done: int) -> None:
            bars.advance(task, done)
            speed = bars.tasks[0].finished_speed or bars.tasks[0].speed
            bars.update(task, rate=f"{speed:,.1f}/s" if speed else "")

        yield advance
