"""A store is one movable thing: copied, moved or mounted read-only it is read as it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import ConfigError
from flows.look.views import Winnow
from flows.upkeep.outside import moved, outside
from flows.upkeep.verify import verify
from storage.store import Store

READING = (
    "ls", "ls --files", "ls --outside", "show web --n 3", "show pictures --n 3 --images shown",
    "why r3 --run web", "report web --to web.html", "verify --deep",
)  # fmt: skip
MOUNT = 'mount --bind "$1" "$1" && mount -o remount,ro,bind "$1" && shift && exec "$@"'
_watched: list[Path] = []
_writes: list[str] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    """Note what would change a watched folder."""
    if not _watched:
        return
    named = [os.fsdecode(a) for a in arguments if isinstance(a, str | bytes | os.PathLike)]
    if not any(Path(n).is_relative_to(w) for n in named for w in _watched):
        return
    writes = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
    changing = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.truncate")
    if (event == "open" and arguments[2] & writes) or event in changing:
        _writes.append(f"{event} {named}")


sys.addaudithook(_hook)


@contextmanager
def _watching(folder: Path) -> Iterator[list[str]]:
    _writes.clear()
    _watched.append(folder)
    try:
        yield _writes
    finally:
        _watched.clear()


def _tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(p): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in sorted([folder, *folder.rglob("*")])
    }


def _read_all(winnow: Any, store: Path) -> None:
    for command in READING:
        code, out, error = winnow(*command.split(), "--store", str(store))
        assert code == 0, (command, out, error)
        assert out


def test_reading_writes_nothing_into_a_store(made: Any, winnow: Any):
    """So one that is mounted read-only is read like any other."""
    before = _tree(made.folder)
    with _watching(made.folder) as writes:
        _read_all(winnow, made.store.root)
        assert writes == []
        (made.folder / "a").touch()
        assert len(writes) == 1
    (made.folder / "a").unlink()
    after = _tree(made.folder)
    assert {p for p in after if after[p] != before[p]} <= {str(made.folder)}


@pytest.mark.parametrize("how", ["mounted read-only", "by its permissions"])
def test_a_store_that_may_not_be_written_is_read_and_refused_for_writing(
    made: Any, tmp_path: Path, how: str
):
    """In a namespace of its own: of mounts, or one in which root is nobody in particular."""
    store, program = made.store.root, Path(__file__).with_name("read_only_program.py")
    mounted = how == "mounted read-only"
    if mounted:
        within = ["unshare", "--mount", "--map-root-user", "sh", "-c", MOUNT, "sh", str(store)]
    else:
        within = ["unshare", "--user"]
    if not shutil.which("unshare") or _run([*within, "true"])[0]:
        pytest.skip(f"no store can be made here that may not be written, {how}")
    paths = [store, *store.rglob("*")]
    if not mounted:
        for path in paths:
            path.chmod(path.stat().st_mode & 0o555)
    before = _tree(made.folder)
    web = made.folder / "web.toml"
    writing = (f"run {web}", f"refit kmeans {web}", "forget --source texts --pool web", "upgrade")
    lines = "".join(f"{command}\n" for command in (*READING, f"run {web} --dry-run", *writing))
    code, out, err = _run([*within, sys.executable, str(program), str(store)], lines, tmp_path)
    assert code == 0, err
    *answers, kept = [json.loads(line) for line in out.splitlines()]
    read, written = answers[: -len(writing)], answers[-len(writing) :]
    assert [code for code, _, _ in read] == [0] * (len(READING) + 1), read
    why = "Read-only file system" if mounted else "Permission denied"
    assert written == [[74, "", f"winnow: {store}/lease: {why}.\n"]] * len(writing)
    assert kept == [18, 10]
    assert _tree(made.folder) == before
    for path in paths:
        path.chmod(path.stat().st_mode | 0o200)


def _run(words: list[str], lines: str = "", cwd: Path | None = None) -> tuple[int, str, str]:
    done = subprocess.run(
        words, input=lines, cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_copy_is_read_and_run_and_the_original_stays_as_it_is(
    made: Any, original: Any, winnow: Any
):
    before = _tree(original.folder)
    _read_all(winnow, made.store.root)
    made.write(34)
    for name in ("web", "pictures"):
        result = made.run(name)
        paths = [result["export"], result["report"], *(s["path"] for s in result["shards"])]
        assert result["version"] == {"web": 3, "pictures": 2}[name]
        assert all(Path(p).is_relative_to(made.folder) for p in paths)
    latest = json.loads((made.store.root / "shards/web/latest.json").read_bytes())
    assert latest["version"] == "v0003"
    assert _tree(original.folder) == before


def test_what_is_damaged_in_a_copy_is_found_in_the_copy(made: Any):
    path = made.store.root / "shards/web/v0002/00000.tar"
    path.write_bytes(b"junk")
    (line,) = verify(made.store)
    assert line.startswith(f"{path}: has 4 bytes")


def test_a_moved_project_is_found_as_it_was(made: Any, winnow: Any, tmp_path: Path, watch: Any):
    """Its sources by what the store is told; the recipe's folder by itself."""
    place = tmp_path / "further/away"
    place.parent.mkdir()
    made.folder.rename(place)
    _read_all(winnow, place / ".winnow")
    made.folder = place
    moved(made.store, [f"{made.origin}={place}"])
    for name in ("web", "pictures"):
        assert made.run(name)["changed"] is False
        assert watch.computed == set()
        watch.reset()
    assert made.store.versions("pool", "web") == [1, 2]
    assert verify(made.store, deep=True) == []


def test_a_store_alone_is_read_without_its_recipe_and_files(made: Any, winnow: Any, tmp_path: Path):
    before = Winnow(made.store).run("web")
    funnel, kept = before.funnel(), before.kept().collect()
    shutil.move(made.store.root, tmp_path / "store")
    shutil.rmtree(made.folder)
    _read_all(winnow, tmp_path / "store")
    after = Winnow(Store(tmp_path / "store")).run("web")
    assert after.funnel().equals(funnel)
    assert after.kept().collect().equals(kept)


def test_no_path_of_the_machine_is_in_a_ref_or_a_manifest_but_what_leads_outside(original: Any):
    root = original.store.root
    found = set()
    for path in (*root.glob("refs/*/*/*.json"), *root.glob("manifests/*.json")):
        for text in _texts(json.loads(path.read_bytes())):
            if str(original.folder) in text:
                found.add(text.replace(str(original.folder), ""))
    # Roots of sources, that of a file being its folder, and an export elsewhere.
    assert found == {"", "/pictures", "/out/v0001", "/out/v0001/00000.tar"}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for inner in value.values() if isinstance(value, dict) else ():
        yield from _texts(inner)
    for inner in value if isinstance(value, list) else ():
        yield from _texts(inner)


def test_what_leads_outside_is_listed_and_followed_where_it_went(
    made: Any, winnow: Any, tmp_path: Path
):
    listed = json.loads(winnow("ls", "--outside", "--json", "--store", str(made.store.root))[1])
    assert {(i["kind"], i["of"], i["there"]) for i in listed} == {
        ("source", "web:texts", True),
        ("source", "pictures:pictures", True),
        ("references", "pictures", True),
        ("export", "pictures", True),
    }
    assert {i["records"] for i in listed if i["kind"] == "references"} == {6 - _captions(made)}
    rule = f"{made.origin}={made.folder}"
    code, out, _ = winnow("ls", "--outside", "--moved", rule, "--store", str(made.store.root))
    assert code == 0
    assert str(made.origin) + "/" not in out
    pictures = made.folder / "pictures"
    pictures.rename(tmp_path / "album")
    (line,) = verify(made.store, deep=True)
    assert "SOURCE_GONE" in line
    moved(made.store, [f"{pictures}={tmp_path / 'album'}"])
    assert verify(made.store, deep=True) == []
    assert {i["path"] for i in outside(made.store) if i["kind"] == "references"} == {
        str(tmp_path / "album")
    }


def _captions(made: Any) -> int:
    return sum(p.suffix == ".txt" for p in (made.folder / "pictures").rglob("*"))


@pytest.mark.parametrize("rule", ["/only/one", "=/tmp", "/a=/nowhere/at/all"])
def test_a_rule_that_leads_nowhere_is_refused(made: Any, rule: str):
    with pytest.raises(ConfigError, match="--moved"):
        moved(made.store, [rule])
    assert not (made.store.root / "moved.json").exists()


def test_a_source_where_something_is_said_to_have_left_is_refused(made: Any, tmp_path: Path):
    (tmp_path / "album").mkdir()
    moved(made.store, [f"{made.folder}={tmp_path / 'album'}"])
    with pytest.raises(ConfigError, match="the store was told that it is now"):
        made.run("web")
    assert Store(made.store.root).moved == {str(made.folder): str(tmp_path / "album")}
