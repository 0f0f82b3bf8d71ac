"""Every error this project raises on purpose, each with the exit code of the command.

* CurationError
  * ConfigError         78  a recipe, parameter or call is wrong; nothing has run yet
  * ContractError       78  a method broke what it declares; a bug in the method
  * DataError           65  the data is not what the method needs, or an artefact is damaged
    * DivergedError     65  a training led to numbers that are not finite
  * StorageError        74  a path cannot be read or written
    * BusyError         73  another run holds what this one needs
    * ServiceError      69  a service that was asked for cannot be reached

A message says what was found, where, and what to do about it, in that order.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass

INTERRUPTED = 75


class CurationError(Exception):
    """Base of all; `exit_code` is what the command returns."""

    exit_code = 1


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe: where, what, and what to write instead."""

    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.key}: {self.message}"


class ConfigError(CurationError):
    """A recipe, a parameter or a call is wrong; carries all the problems found together."""

    exit_code = 78

    def __init__(self, problems: str | Iterable[Problem]) -> None:
        self.problems = [Problem("", problems)] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(p.message if not p.key else str(p) for p in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[list[Problem]]]:
        return type(self), (self.problems,)


class ContractError(CurationError):
    """A method returned what it did not declare."""

    exit_code = 78


class DataError(CurationError):
    """The data is not what the method needs, or a stored artefact is damaged."""

    exit_code = 65


class DivergedError(DataError):
    """A training led to a loss or to weights that are not finite."""


class StorageError(CurationError):
    """A path cannot be read or written: missing, forbidden, full."""

    exit_code = 74


class BusyError(StorageError):
    """Another run holds the lease, or moved a ref first."""

    exit_code = 73


class ServiceError(StorageError):
    """A service that the call named cannot be reached."""

    exit_code = 69


def nearest(name: str, legal: Iterable[str]) -> str:
    """Return " Nearest: …" for an unknown name, or the whole list where nothing is near.

    Names that have it as one of their words come first.

    >>> nearest("minhash_cluster", ["minhash_clusters", "kmeans"])
    ' Nearest: minhash_clusters.'
    >>> nearest("exact", ["exact_clusters", "kmeans"])
    ' Nearest: exact_clusters.'
    """
    choices = sorted(set(legal))
    words = [choice for choice in choices if name.lower() in re.split("[._]", choice.lower())]
    close = [*dict.fromkeys([*words, *difflib.get_close_matches(name, choices, n=3)])]
    if close:
        return f" Nearest: {', '.join(close[:3])}."
    return f" There is: {', '.join(choices)}." if choices else ""
