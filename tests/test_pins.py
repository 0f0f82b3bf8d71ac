"""What a newcomer installs: on every Python, on Linux and macOS, one version of each package."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests import pins

PROJECT = tomllib.loads((pins.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
]
SOAK = bool(os.environ.get("WINNOW_SOAK"))
# The others take half a minute together.
every_python = pytest.mark.parametrize("python", list(pins.PYTHONS)[: None if SOAK else 1])
every_platform = pytest.mark.parametrize("platform", list(pins.PLATFORMS)[: None if SOAK else 1])

resolved = cache(pins.resolved)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip where no registry answers."""
    file = tmp_path_factory.mktemp("asked") / "requirements.txt"
    file.write_text("typing-extensions\n")
    try:
        pins.compiled(str(file), "--refresh")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no package registry answers: {error.stderr.strip().splitlines()[-1]}")


def test_the_project_asks_for_no_older_python():
    asked = SpecifierSet(PROJECT["requires-python"])
    assert [v for v in ("3.10", *pins.PYTHONS, "3.15") if v in asked] == [*pins.PYTHONS, "3.15"]


def test_every_requirement_is_pinned_to_a_version_that_it_takes():
    pinned = pins.pins()
    for requirement in REQUIREMENTS:
        version = pinned[canonicalize_name(requirement.name)]
        assert version in requirement.specifier, requirement


def test_pins_are_sorted_and_in_the_names_of_the_registry():
    names = list(pins.pins())
    assert names == sorted(canonicalize_name(name) for name in names)


@every_platform
@every_python
@pytest.mark.registry
@pytest.mark.usefixtures("registry")
def test_all_that_is_installed_has_a_wheel_and_a_pin(python: str, platform: str):
    found = resolved(python, platform)
    assert found.keys() <= pins.pins().keys(), "run: python tests/pins.py"
    assert found == {name: pins.pins()[name] for name in found}


@pytest.mark.skipif(not SOAK, reason="resolves for every Python and platform: make soak")
@pytest.mark.registry
@pytest.mark.usefixtures("registry")
def test_no_pin_is_stale():
    used = {name for v in pins.PYTHONS for p in pins.PLATFORMS for name in resolved(v, p)}
    assert used == pins.pins().keys(), "run: python tests/pins.py"


# ------------------------------------------------------------------ make


def _said_by_make(folder: Path, **versions: tuple[int, int]) -> str:
    """Return what make would run where these Pythons are all there are."""
    for name, version in versions.items():
        path = folder / name.replace("_", ".")
        path.write_text(
            f'#!/bin/sh\nexec {sys.executable} -c "import sys; sys.version_info = {version}; $2"\n'
        )
        path.chmod(0o755)
    for tool in ("sh", "test", "echo"):
        (folder / tool).symlink_to(f"/bin/{tool}")
    command = ["/usr/bin/make", "-n", "-B", ".venv/.ready"]
    found = subprocess.run(
        command,
        cwd=pins.ROOT,
        env={"PATH": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    return found.stdout


@pytest.mark.parametrize(
    ("versions", "chosen"),
    [
        ({"python3_11": (3, 11), "python3_14": (3, 14), "python3": (3, 14)}, "python3.11"),
        ({"python3_14": (3, 14), "python3": (3, 10)}, "python3.14"),
        ({"python3": (3, 15)}, "python3"),
        ({"python3": (3, 10)}, ""),
    ],
)
def test_make_takes_the_first_python_that_the_project_runs_on(
    tmp_path: Path, versions: dict[str, tuple[int, int]], chosen: str
):
    assert f'test -n "{chosen}"' in _said_by_make(tmp_path, **versions)
