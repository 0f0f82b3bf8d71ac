from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import winnow
from tests.flows.look.small import RECIPE


@pytest.fixture(scope="module")
def rows(projects: Callable[[], Any]) -> Any:
    """Twenty records; 2i and 2i + 1 have one text; every fifth pair has a single word."""
    project = projects()
    project.lines(
        "rows.jsonl",
        [
            {"id": f"r{i}", "text": f"text number {i // 2}" if i // 2 % 5 else f"text{i // 2}",
             "n": i, "url": f"http://x/{i}"}
            for i in range(20)
        ],
    )  # fmt: skip
    project.run(RECIPE)
    return project


@pytest.fixture(scope="module")
def run(rows: Any) -> Any:
    return winnow.open(rows.store.root).run("web")


@pytest.fixture(scope="module")
def pictures(projects: Callable[[], Any], captioned: dict[str, bytes]) -> Any:
    project = projects()
    project.pictures({n: d for n, d in captioned.items() if n.startswith("0/")})
    project.run(
        '[[source]]\npath = "pictures"\n[[select]]\nwhere = "perceptual_hash.quality > 0.1"\n'
    )
    return project
