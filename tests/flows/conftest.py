"""Small pools made through real sources: JSON lines of texts, folders of pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from contracts.uid import uid_of
from flows import run as runs
from flows.look.views import RunView, Winnow
from flows.reporter import Reporter
from storage import tables
from storage.store import Object, Store


@dataclass
class Project:
    """A folder with sources and recipes, and its store.

    Attributes:
        recipe_dir: the folder; recipes and sources lie in it.
    """

    recipe_dir: Path

    @property
    def store(self) -> Store:
        return Store(self.recipe_dir / ".winnow")

    @property
    def view(self) -> Winnow:
        return Winnow(self.store)

    def lines(self, path: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write JSON lines."""
        target = self.recipe_dir / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return target

    def texts(self, *texts: str | None, path: str = "texts.jsonl") -> list[int]:
        """Write texts as JSON lines with ids `r0`, `r1`, ... for `id = "id"`; return their uids."""
        self.lines(path, [{"id": f"r{i}", "text": text} for i, text in enumerate(texts)])
        return [uid_of(Path(path).stem, f"r{i}") for i in range(len(texts))]

    def pictures(self, files: Mapping[str, bytes], folder: str = "pictures") -> None:
        """Write an image folder."""
        for name, data in files.items():
            target = self.recipe_dir / folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)

    def recipe(self, text: str, name: str = "web") -> Path:
        """Write a recipe file."""
        path = self.recipe_dir / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def run(
        self,
        text: str,
        name: str = "web",
        *,
        set: Sequence[str] = (),
        until: str = "export",
        **options: Any,
    ) -> dict[str, Any]:
        """Run a recipe, its report left out; return what `winnow run --json` prints."""
        recipe = runs.read_recipe(self.recipe(text, name), set)
        return runs.run(recipe, self.store, runs.Options(until=until, **options))

    def last(self, name: str = "web") -> RunView:
        """The last run."""
        return self.view.run(name)

    def kept(self, name: str = "web") -> set[int]:
        """The uids that the last run kept."""
        return set(self.last(name).kept().collect()["uid"])

    def pool(self, name: str = "web") -> tables.Pool:
        """The last version of a pool."""
        pool = tables.load_pool(self.store, name)
        assert pool is not None
        return pool


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


@pytest.fixture(scope="session")
def projects(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Project]:
    """Make further projects, also for fixtures that several tests share."""
    return lambda: Project(tmp_path_factory.mktemp("project"))


@cache
def _captioned() -> dict[str, bytes]:
    """120 pictures: 30 motifs, each as PNG, copied, as JPEG and slightly brighter; captions."""
    files: dict[str, bytes] = {}
    rng = np.random.default_rng(7)
    for motif in range(30):
        small = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((24, 24), Image.Resampling.NEAREST)
        brighter = Image.fromarray(
            np.minimum(np.asarray(picture).astype(int) + 3, 255).astype("u1")
        )
        variants = {
            "a.png": _encoded(picture, "PNG"),
            "b.png": _encoded(picture, "PNG"),
            "c.jpg": _encoded(picture, "JPEG"),
            "d.png": _encoded(brighter, "PNG"),
        }
        for number, (suffix, data) in enumerate(variants.items()):
            stem = f"{motif % 3}/{motif:02d}{suffix[0]}"
            files[f"{stem}{suffix[1:]}"] = data
            words = ["tile"] * (1 + (motif + number) % 5)
            if (motif + number) % 7:
                files[f"{stem}.txt"] = f"{' '.join(words)} number {motif}".encode()
    return files


def _encoded(picture: Image.Image, format_: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_, quality=85)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def captioned() -> dict[str, bytes]:
    """Files of an image folder: 120 pictures of 30 motifs, most with a caption beside them."""
    return dict(_captioned())


@dataclass
class Watch:
    """What a run found and computed, table by table, and which objects it opened.

    Attributes:
        counts: table to (records found, records computed).
        opened: paths of objects below the store.
    """

    counts: dict[str, tuple[int, int]]
    opened: list[str]

    @property
    def computed(self) -> set[str]:
        """The tables of which something was computed."""
        return {table for table, (_, computed) in self.counts.items() if computed}

    @property
    def payloads(self) -> list[str]:
        """The payload objects that were opened."""
        return [path for path in self.opened if "/payload/" in path]

    def reset(self) -> None:
        self.counts.clear()
        self.opened.clear()


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """Watch the runs of this process: what is measured, and which objects are opened."""
    seen = Watch({}, [])
    path, say = Store.path, Reporter.__init__

    def opening(store: Store, item: Object) -> Path:
        seen.opened.append(item.path)
        return path(store, item)

    def saying(reporter: Reporter, *args: Any, **options: Any) -> None:
        say(reporter, *args, **options)
        reporter.table = lambda table, count: seen.counts.update(
            {table: (count.found, count.computed)}
        )

    monkeypatch.setattr(Store, "path", opening)
    monkeypatch.setattr(Reporter, "__init__", saying)
    return seen
