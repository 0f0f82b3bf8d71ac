"""What long work says while it goes on: the command prints it, a notebook may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass

ProgressBar = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
"""Wraps long work, described and with its total; gives a function that advances it."""


@contextmanager
def no_bar(_what: str, _rows: int) -> Iterator[Callable[[int], None]]:
    """Show nothing."""
    yield lambda _done: None


@dataclass
class Count:
    """Records of one table: found measured before, and measured now.

    Attributes:
        without: of a file: live records to which it brings nothing.
        unused: of a file: its rows that no live record has the key of.
    """

    found: int = 0
    computed: int = 0
    without: int = 0
    unused: int = 0


@dataclass
class Progress:
    """What a caller may show of an ingest.

    Attributes:
        show: called with bytes of the source done and records read.
        plan: called before the work with the bytes to read, the bytes that the store will need
            for them and the bytes that are free there; None where nobody asks, which saves
            listing the source twice.
    """

    show: Callable[[int, int], None] = lambda _bytes, _records: None
    plan: Callable[[int, int, int], None] | None = None


@dataclass
class Reporter:
    """What a run says while it works.

    Attributes:
        stage: called when a stage begins.
        table: called with a table and what of it was found and is computed, before the work.
        ingest: called with a source's name; gives the progress of its ingest.
        bar: wraps long work in a progress bar.
        line: called with a line of result.
        warning: called with a line of result that asks for a look.
    """

    stage: Callable[[str], None] = lambda _stage: None
    table: Callable[[str, Count], None] = lambda _table, _count: None
    ingest: Callable[[str], AbstractContextManager[Progress]] = lambda _name: nullcontext(
        Progress()
    )
    bar: ProgressBar = no_bar
    line: Callable[[str], None] = lambda _line: None
    warning: Callable[[str], None] = lambda _line: None
