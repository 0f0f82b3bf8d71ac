"""A store as an older winnow wrote it is read, refused for writing, and brought up to date."""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError, DataError
from curation.annotate.caption_stats import caption_stats
from flows import run as runs
from flows.look.views import Winnow
from flows.look.why import why
from flows.upkeep import upgrade as upgrading
from flows.upkeep.outside import moved
from flows.upkeep.upgrade import upgrade
from flows.upkeep.verify import unknown, verify
from storage import commit, tables
from storage.store import Store

GOLDEN = Path(__file__).parents[2] / "golden/store-format-1.tar.xz"
# Where the golden store was made: its refs lead there.
MADE = "/tmp/winnow-golden"
COMMANDS = ("ls", "show web --n 3", "why r3 --run web", "report web --to r.html", "verify")


@pytest.fixture(scope="session")
def _unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(folder, filter="data")
    return folder / "winnow-golden"


@pytest.fixture
def golden(_unpacked: Path, tmp_path: Path) -> Path:
    """The project of format 1, its sources with the times that its store knows."""
    shutil.copytree(_unpacked, tmp_path / "golden")
    return tmp_path / "golden"


@pytest.fixture
def _versions_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods at the versions by which the store was measured: a raised one measures anew."""
    for method, version in ((caption_stats, 1),):
        module = sys.modules[method.__module__]
        monkeypatch.setattr(module, method.name, replace(method, version=version))


def _tree(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "lease" not in p.name
    }


def _run(folder: Path, name: str) -> dict[str, Any]:
    recipe = runs.read_recipe(folder / f"{name}.toml")
    return runs.run(recipe, Store(folder / ".winnow"))


def test_an_older_store_is_read_where_it_lies_now(golden: Path, winnow: Any):
    before = _tree(golden)
    for command in COMMANDS:
        code, out, error = winnow(*command.split(), "--store", str(golden / ".winnow"))
        # Of what lay outside, verify finds nothing: it is elsewhere now.
        assert code == (65 if command == "verify" else 0), error
        assert out
    result = Winnow(Store(golden / ".winnow")).run("web").result
    assert result["export"] == str(golden / ".winnow/shards/web/v0002")
    assert all(Path(s["path"]).is_file() for s in result["shards"])
    assert _tree(golden) == before


def test_an_older_store_is_refused_for_writing_with_advice(golden: Path, winnow: Any):
    before = _tree(golden)
    code, _, error = winnow("run", str(golden / "web.toml"))
    assert code == 78
    assert f"winnow upgrade --store {golden / '.winnow'}" in error
    assert _tree(golden) == before


@pytest.mark.usefixtures("_versions_of_then")
def test_an_upgraded_store_measures_nothing_and_finds_its_runs_unchanged(golden: Path, watch: Any):
    store = Store(golden / ".winnow")
    done = upgrade(store)
    assert (done["from"], done["to"], done["pools"], done["runs"]) == (1, 2, 5, 3)
    assert unknown(store) == []
    moved(store, [f"{MADE}={golden}"])
    assert verify(store, deep=True) == []
    for name in ("web", "pics"):
        assert _run(golden, name)["changed"] is False
        assert watch.computed == set()
        watch.reset()
    assert {n: store.versions("fit", n) for n in store.names("fit")} == {
        name: [1] for name in store.names("fit")
    }
    assert verify(store, deep=True) == []
    assert upgrade(store)["manifests"] == 0


@pytest.mark.usefixtures("_versions_of_then")
def test_a_source_read_again_after_an_upgrade_has_no_changed_record(golden: Path):
    """Numbers in a column of floats, values of several kinds in one, nested ones, dates."""
    store = Store(golden / ".winnow")
    upgrade(store)
    moved(store, [f"{MADE}={golden}"])
    for path in (golden / "texts").iterdir():
        os.utime(path, (1, 1))
    for path in (golden / "pictures").iterdir():
        os.utime(path, (1, 1))
    for name, records in (("web", 40), ("pics", 9)):
        assert _run(golden, name)["changed"] is False
        pool = tables.load_pool(store, name)
        assert pool is not None
        assert (pool.records, len(pool.parts)) == (records, len({p.name for p in pool.parts}))
        codes = [
            code for item in pool.quarantine for code in tables.read(store, item)["code"].to_list()
        ]
        assert set(codes) <= {"JSON_INVALID", "NOT_AN_IMAGE"}


def test_an_upgraded_pool_has_the_digest_of_one_that_is_ingested_anew(golden: Path):
    store = Store(golden / ".winnow")
    upgrade(store)
    for name in ("web", "pics"):
        again = Store(golden / "anew")
        recipe = runs.read_recipe(golden / f"{name}.toml")
        runs.run(recipe, again, runs.Options(until="ingest"))
        old, new = tables.load_pool(store, name), tables.load_pool(again, name)
        assert old is not None
        assert new is not None
        assert old.digest == new.digest


def test_paths_of_an_upgraded_store_are_relative(golden: Path):
    store = Store(golden / ".winnow")
    upgrade(store)
    ref = store.ref("run", "web", 2)
    assert ref is not None
    assert ref["format"] == 2
    assert ref["result"]["export"] == "shards/web/v0002"
    assert ref["result"]["report"] == "reports/web/v0002.html"
    assert {s["path"] for s in ref["result"]["shards"]} >= {"shards/web/v0002/00000.tar"}
    assert set(ref["exports"]) == {"recipe", "random"}
    assert {"held", "beside"} & set(ref) == set()
    pics = store.ref("run", "pics", 1)
    assert pics is not None
    assert pics["recipe"]["annotate"]["mine"]["file"] == "values.csv"
    canaries = store.ref("pool", "web.canaries")
    assert canaries is not None
    assert canaries["sources"]["canaries"]["roots"] == ["."]


class Killed(BaseException):
    """In place of SIGKILL."""


@pytest.fixture
def kill(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str | None], list[str]]]:
    """Stop at a failpoint `name@n`; return the list in which all that are passed are noted."""

    def at(point: str | None) -> list[str]:
        seen: Counter[str] = Counter()
        passed: list[str] = []

        def failpoint(name: str) -> None:
            seen[name] += 1
            passed.append(f"{name}@{seen[name]}")
            if passed[-1] == point:
                raise Killed

        monkeypatch.setattr(commit, "failpoint", failpoint)
        monkeypatch.setattr(upgrading, "failpoint", failpoint)
        return passed

    return at


# A file that SIGKILL would have closed is left open by what stands for it here.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_upgrade_killed_at_any_failpoint_and_run_again_ends_with_the_same_bytes(
    golden: Path, tmp_path: Path, kill: Any, record_property: Callable[[str, object], None]
):
    store = golden / ".winnow"
    shutil.copytree(store, tmp_path / "want/.winnow")
    passed = kill(None)
    upgrade(Store(tmp_path / "want/.winnow"))
    want = _tree(tmp_path / "want/.winnow")
    by_name: dict[str, list[str]] = {}
    for point in passed:
        by_name.setdefault(point.partition("@")[0], []).append(point)
    assert {"records", "noted", "manifest", "ref", "sealed", "marked", "removed"} <= {
        name.removeprefix("upgrade.") for name in by_name
    }
    last = [of[-1] for of in by_name.values()]
    chosen = passed if os.environ.get("WINNOW_SOAK") else last[::2]
    faults = []
    for number, point in enumerate(chosen):
        root = tmp_path / f"{number}/.winnow"
        shutil.copytree(store, root)
        kill(point)
        with pytest.raises(Killed):
            upgrade(Store(root))
        # It can be read at any moment.
        shown = Winnow(Store(root)).run("web")
        if why(shown, "r3")[0]["kept"] is not True or shown.kept().collect().height != 28:
            faults.append(f"{point}: is not read")
        kill(None)
        upgrade(Store(root))
        if _tree(root) != want:
            faults.append(f"{point}: another end than without the kill")
        shutil.rmtree(root.parent)
    record_property("says", f"{len(chosen)} failpoints of an upgrade, {len(faults)} faults")
    assert faults == []


def test_a_damaged_store_is_not_upgraded_but_named(golden: Path):
    store = Store(golden / ".winnow")
    (path,) = (golden / ".winnow/objects/pics/records").glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(DataError, match=str(path)):
        upgrade(store)
    assert store.format == 1
    ref = store.ref("pool", "web", 1)
    assert ref is not None
    assert ref["format"] == 1


def test_a_newer_store_is_refused(golden: Path):
    store = Store(golden / ".winnow")
    upgrade(store)
    store.write_sealed(store.root / "store.json", {"format": 3})
    with pytest.raises(ConfigError, match="needs a newer winnow"), store.lease():
        pass
