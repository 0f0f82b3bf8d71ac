from __future__ import annotations

import errno
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from flows.look import render
from tests.flows.cli.small import RECIPE
from tests.flows.command import Command


def test_a_bad_recipe_is_78_and_names_every_key(rows: Any, winnow: Command):
    rows.recipe(RECIPE + '[exprt]\nx = 1\n[[select]]\nby = "tip"\n', "winnow")
    code, out, err = winnow("run", "--json")
    assert (code, out) == (78, "")
    assert "exprt: unknown section. Nearest: export." in err
    assert "select[2]: curation.select has no method 'tip'. Nearest: top." in err
    assert "Traceback" not in err
    assert not (rows.recipe_dir / ".winnow").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", "none.toml"), 78, "there is no such recipe"),
        (("run", "."), 78, "is a folder, not a recipe: `winnow run winnow.toml`"),
        (("run", "rows.jsonl"), 78, "If it is data, `winnow init rows.jsonl` writes one"),
        (("run", "--set", 'export.format="parquet"'), 78, 'write format = ["parquet"]'),
        (("run", "--until", "exprt"), 78, "Nearest: export"),
        (("run", "--set", "x"), 78, "write key=value"),
        (("ingest", "nowhere"), 65, "no such file or folder"),
        (("ingest", "rows.jsonl", "--payload", "move"), 78, "is copy or reference"),
        (("ingest", "rows.jsonl", "--id", "idd"), 78, "Nearest: id"),
        (("ingest", "rows.jsonl", "--pool", "../x"), 78, "use letters"),
        (("why", "r1"), 78, "nothing was run here yet: `winnow run` first"),
        (("methods", "caption_stat"), 78, "Nearest: caption_stats"),
        (("run", "--no-such-option"), 2, "No such option"),
        (("ingest", "rows.jsonl", "--reference"), 78, "give --payload reference"),
        (("init", "rows.jsonl", "--slices"), 78, "write slices = true below [[source]] of the"),
        (("run", "--id=id"), 78, 'write id = "<column>" below [[source]] of the recipe'),
    ],
)
def test_what_cannot_be_done_has_its_exit_code_and_one_message(
    rows: Any, winnow: Command, arguments: tuple[str, ...], code: int, message: str
):
    found, _, err = winnow(*arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_nothing_kept_and_nothing_found_are_65(done: Any, winnow: Command):
    assert winnow("run", "--set", "select.0.where=meta.n > 99")[0] == 65
    assert winnow("why", "nobody")[0] == 65


def test_a_store_that_another_holds_is_73(rows: Any, winnow: Command):
    with rows.store.lease():
        code, _, err = winnow("run")
    assert code == 73
    assert "another run holds the store" in err


def test_an_interrupted_run_is_75(done: Any, winnow: Command, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(render, "listing", interrupted)
    code, _, err = winnow("ls")
    assert code == 75
    assert "run it again and it resumes" in err


def test_a_file_that_may_not_be_looked_at_is_74(
    done: Any, winnow: Command, monkeypatch: pytest.MonkeyPatch
):
    def forbidden(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "/out/\x1bv0001")

    monkeypatch.setattr(render, "listing", forbidden)
    assert winnow("ls") == (74, "", "winnow: /out/\\x1bv0001: Permission denied.\n")


def test_control_characters_of_data_do_not_reach_the_terminal(rows: Any, winnow: Command):
    code, _, err = winnow("ingest", "no\x1b[31mwhere")
    assert code == 65
    assert "\x1b" not in err
    assert "\\x1b[31m" in err


def test_the_command_is_installed(rows: Any):
    script = Path(sys.executable).with_name("winnow")
    found = subprocess.run(
        [script, "ls", "--json"], cwd=rows.recipe_dir, capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout) == []


def test_the_version_is_that_of_the_package(rows: Any, winnow: Command):
    assert winnow("--version") == (0, f"winnow {importlib.metadata.version('winnow')}\n", "")
