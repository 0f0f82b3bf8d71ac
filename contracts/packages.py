"""Packages that a method needs beyond those of winnow, and how each is installed."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError, Problem

QUALITY = "pip install 'winnow[quality]'"
# The name by which it is imported, to what installs it.
Needed = Mapping[str, str]


def needed_by(method: Any, parameters: Mapping[str, Any]) -> Needed:
    """Return what a step or an encoder declares as `packages`.

    That is a mapping, or a function of the parameters where these decide.
    """
    declared = getattr(method, "packages", {})
    needed: Needed = declared(parameters) if callable(declared) else declared
    return needed


def missing(needed: Needed) -> list[str]:
    """Return a sentence for each package that is not installed."""
    return [
        f"needs {name.replace('_', '-')}, which is not installed: {install}."
        for name, install in needed.items()
        if find_spec(name) is None
    ]


def require(method: str, needed: Needed) -> None:
    """Refuse to go on without packages.

    Raises:
        ConfigError: naming each that is not installed, and what installs it.
    """
    lacks = missing(needed)
    if lacks:
        raise ConfigError(Problem(method, sentence) for sentence in lacks)


def file_of(method: str, package: str, name: str) -> Path:
    """Return a file of an installed package, which is not imported.

    Raises:
        ConfigError: the package has no such file.
    """
    found = find_spec(package)
    folders = (found and found.submodule_search_locations) or []
    for folder in folders:
        if Path(folder, name).is_file():
            return Path(folder, name)
    raise ConfigError(f"{method}: {package.replace('_', '-')} has no file {name}.")
