"""The command `winnow`: its exit codes, as contracts.errors has them, and how it prints."""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from typing import Any

import typer

from contracts.errors import INTERRUPTED, CurationError, StorageError
from flows.cli import progress
from flows.reporter import Count, Reporter

CTRL_C = 130  # What typer makes of a KeyboardInterrupt.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Measure a pool of raw data, select, export shards, prove what the selection is worth.",
)


def main() -> None:
    """Run the command; an error of ours is one message and its exit code, never a traceback."""
    # Each command adds itself to `app` when it is imported; they print with what stands here.
    from flows.cli import commands  # noqa: F401

    # A scheduler's polite stop is an interruption like any other: exit 75, resumed by a rerun.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        app()
    except CurationError as error:
        print(f"winnow: {_visible(str(error))}", file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
    except OSError as error:
        if error.filename is None:
            raise
        path = _visible(os.fsdecode(error.filename))
        print(f"winnow: {path}: {error.strerror}.", file=sys.stderr)  # noqa: T201
        sys.exit(StorageError.exit_code)
    except SystemExit as end:
        if end.code != CTRL_C:
            raise
        print("winnow: interrupted; run it again and it resumes.", file=sys.stderr)  # noqa: T201
        sys.exit(INTERRUPTED)


def out(text: str) -> None:
    """Print a line of result."""
    print(_visible(text))  # noqa: T201


def out_json(value: Any) -> None:
    """Print a result as one JSON value."""
    print(json.dumps(value, ensure_ascii=False, default=str))  # noqa: T201


def say(text: str) -> None:
    """Print a line about the work, on stderr."""
    print(_visible(text), file=sys.stderr)  # noqa: T201


def warn(text: str, *, to_error: bool = False) -> None:
    """Print a line in colour where a person sees it."""
    from rich.console import Console

    console = Console(stderr=to_error, highlight=False, markup=False, soft_wrap=True)
    console.print(_visible(text), style="bold red")


def reporter_for(silent: bool) -> Reporter:
    """Return what says on stderr what a run does, or nothing."""
    if silent:
        return Reporter()
    return Reporter(
        stage=lambda stage: say(f"{stage} …"),
        table=lambda table, count: say(f"  {table}: {_counted(count)}"),
        ingest=partial(progress.ingest_bar, say),
        bar=progress.bar,
        line=say,
        warning=partial(warn, to_error=True),
    )


def _counted(count: Count) -> str:
    said = f"{count.found:,} found, {count.computed:,} to measure"
    if count.without or count.unused:
        said += f"; {count.without:,} records without a row, {count.unused:,} rows without a record"
    return said


def _visible(text: str) -> str:
    """Show control characters of data instead of sending them to the terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else repr(c)[1:-1] for c in text)
