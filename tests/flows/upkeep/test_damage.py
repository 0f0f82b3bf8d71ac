"""Whatever file of a store is damaged, a command names it or answers as if the store were whole."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import CurationError
from contracts.uid import hex_uid
from flows import run as runs
from storage import store as stores

SOAK = bool(os.environ.get("WINNOW_SOAK"))
RECIPE = """
name = "pairs"
[[source]]
path = "pictures"
[holdout]
ratio = 0.2
[embed.layout]
encoder = "color_layout"
[fit.kmeans]
vector = "layout.vector"
num_clusters = 2
[[select]]
name = "captioned"
where = "caption_stats.words >= 2 AND nearest_centroid.cosine > -2"
[[select]]
name = "one of each"
by = "one_per_cluster"
cluster = "hamming_clusters.cluster"
[export]
format = ["webdataset", "parquet"]
arms = ["recipe", "random"]
"""
READING = (
    "",
    "ls",
    "why DROPPED KEPT",
    "show --dropped captioned",
    "show --quarantined",
    "show --n 3 --images shown",
    "report --to page.html",
)
DAMAGES = ("cut in half", "emptied", "one byte flipped", "deleted", "last byte gone")
SAMPLE = (
    ("objects/pairs/records/00001.*", "cut in half"),
    ("objects/pairs/payload/00000.*", "one byte flipped"),
    ("objects/pairs/annotate.hamming_clusters/00000.*", "emptied"),
    ("objects/pairs/evidence.pairs/*", "deleted"),
    ("objects/pairs/fit.kmeans/*", "last byte gone"),
    ("objects/pairs/quarantine/*", "cut in half"),
    ("refs/pool/pairs/1.json", "deleted"),
    ("refs/pool/pairs/2.json", "deleted"),
    ("refs/run/pairs/2.json", "one byte flipped"),
    ("shards/pairs/v0002/layout.parquet", "deleted"),
    ("store.json", "deleted"),
)


def _left(whole: bytes, damage: str) -> bytes:
    middle = len(whole) // 2
    return {
        "cut in half": whole[:middle],
        "emptied": b"",
        "one byte flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "last byte gone": whole[:-1],
    }[damage]


def _codes(of: type[CurationError]) -> set[int]:
    return {of.exit_code}.union(*map(_codes, of.__subclasses__()))


CODES = _codes(CurationError) - {CurationError.exit_code}


@dataclass
class Damaged:
    """A project of two versions, and a copy of its store as it was."""

    project: Any
    copy: Path
    winnow: Callable[..., tuple[int, str, str]]
    keys: dict[str, str]

    @property
    def root(self) -> Path:
        return self.project.store.root

    def call(self, command: str) -> tuple[int, str, str, bytes]:
        """Call a command as a process that has read nothing yet; return what it wrote, too."""
        stores._VERIFIED.clear()
        page = self.project.recipe_dir / "page.html"
        page.unlink(missing_ok=True)
        words = [self.keys.get(word, word) for word in command.split()]
        code, out, err = self.winnow(*words, "--store", str(self.root))
        if command == "ls":  # It says how many bytes there are.
            out = "\n".join(line.rpartition("  ")[0] for line in out.splitlines())
        return code, out, err, page.read_bytes() if page.exists() else b""

    def put(self, path: Path, damage: str) -> None:
        """Damage a file; what has the whole one open goes on reading that."""
        whole = path.read_bytes()
        path.unlink()
        if damage != "deleted":
            path.write_bytes(_left(whole, damage))

    def restore(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self.copy, self.root)

    def kept(self) -> Any:
        return self.project.last("pairs").verdict


@pytest.fixture
def damaged(
    project: Any,
    captioned: dict[str, bytes],
    winnow: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Damaged:
    folder = project.recipe_dir / "made"
    folder.mkdir()
    project.recipe_dir = folder
    pictures = sorted(captioned.items())
    cut = next(data for name, data in pictures if name.endswith(".png"))[:60]
    project.recipe(RECIPE, "pairs")
    for some in ({**dict(pictures[:24]), "cut.png": cut}, dict(pictures[24:34])):
        project.pictures(some)
        runs.run(runs.read_recipe(folder / "pairs.toml"), project.store, runs.Options())
    last = project.last("pairs")
    monkeypatch.chdir(folder)
    shutil.copytree(project.store.root, tmp_path / "copy")
    keys = {
        "DROPPED": hex_uid(last.dropped("one of each").collect()["uid"][0]),
        "KEPT": hex_uid(last.kept().collect()["uid"][0]),
    }
    return Damaged(project, tmp_path / "copy", winnow, keys)


def test_a_command_names_what_is_damaged_or_answers_as_if_the_store_were_whole(
    damaged: Damaged, record_property: Callable[[str, object], None]
):
    """And so does a rerun, which makes again what it can, and keeps the same records."""
    root = damaged.root
    whole = {command: damaged.call(command) for command in READING}
    assert [answer[0] for answer in whole.values()] == [0] * len(READING)
    verdict = damaged.kept()
    everything = product(sorted(p for p in root.rglob("*") if p.is_file()), DAMAGES)
    some = [(next(root.glob(pattern)), damage) for pattern, damage in SAMPLE]
    counts: Counter[str] = Counter()
    faults = []
    for path, damage in everything if SOAK else some:
        # Without its last version a store says what it said before there was one.
        before = damage == "deleted" and path in _last_refs(damaged.project.store)
        damaged.put(path, damage)
        for command in (*READING, "run pairs.toml"):
            try:
                answer = damaged.call(command)
                if answer[0]:
                    outcome = "named" if _named(answer, path) else "not named"
                elif command in READING:
                    outcome = "as before" if answer == whole[command] else "another answer"
                else:
                    same = damaged.kept().equals(verdict)
                    outcome = "the same kept" if same else "others kept"
            except (Exception, BaseExceptionGroup) as error:
                outcome, answer = "failed", repr(error)
            if outcome == "another answer" and before:
                outcome = "of the version before"
            counts[f"{command.split(' ')[0]}: {outcome}"] += 1
            if outcome in ("not named", "another answer", "others kept", "failed"):
                where = path.relative_to(root)
                faults.append(f"{where} {damage}; winnow {command}: {outcome}: {answer[:3]}")
        damaged.restore()
    said = ", ".join(f"{what} {count}" for what, count in sorted(counts.items()))
    record_property("says", f"damaged files: {said}")
    assert faults == []


def _named(answer: tuple[int, str, str, bytes], path: Path) -> bool:
    code, _, err, _ = answer
    return code in CODES and str(path) in err and "Traceback" not in err


def _last_refs(store: Any) -> set[Path]:
    return {
        store.ref_path(kind, name, store.versions(kind, name)[-1])
        for kind in ("pool", "run")
        for name in store.names(kind)
    }
