"""Verify names every changed byte, every lost file, and what makes it again."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import DataError
from flows import run as runs
from flows.upkeep.refit import refit
from flows.upkeep.verify import unknown, verify
from storage import shards
from storage.store import canonical

LOCKS = ("lease", ".export.lease")


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def _flipped(path: Path) -> bytes:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def test_a_flipped_byte_is_named_whichever_file_it_is_in(original: Any, made: Any):
    """Every file of the store, of exports in it and outside, and what records refer to."""
    assert verify(made.store, deep=True) == []
    assert unknown(made.store) == []
    # The copy refers to the original's pictures: a reference is absolute.
    with made.store.lease():
        made.store.move(original.folder, made.folder)
    tree = [*_files(made.store.root), *_files(made.folder / "out")]
    told = [p for p in tree if p.name not in LOCKS]
    told += [p for p in _files(made.folder / "pictures") if p.suffix != ".txt"]
    kinds = {p.relative_to(made.folder).parts[:3] for p in told}
    assert {
        (".winnow", "refs", kind) for kind in ("pool", "run", "fit", "embed", "export")
    } <= kinds
    assert {".winnow/training", ".winnow/arms", ".winnow/reports", "out/v0001"} <= {
        "/".join(k[:2]) for k in kinds
    }
    missed = []
    # All of them in soak.
    for path in told[:: 1 if os.environ.get("WINNOW_SOAK") else 3]:
        whole = path.read_bytes()
        path.write_bytes(_flipped(path))
        if not any(str(path) in line for line in verify(made.store, deep=True)):
            missed.append(str(path.relative_to(made.folder)))
        path.write_bytes(whole)
    assert missed == []
    assert verify(made.store, deep=True) == []


def test_a_lost_file_is_named_whichever_it_is(made: Any):
    """But the last ref of what no other ref names, an arm's records, the state of a training."""
    tree = [p for p in _files(made.store.root) if p.name not in LOCKS]
    last = {made.store.root / f"refs/{p}.json" for p in _last_refs(made.store)}
    missed = []
    for path in tree:
        if path in last or {"training", "embed", "export", "arm.web"} & set(path.parts):
            continue
        whole = path.read_bytes()
        path.unlink()
        if not any(str(path) in line for line in verify(made.store)):
            missed.append(str(path.relative_to(made.folder)))
        path.write_bytes(whole)
    assert missed == []


def _last_refs(store: Any) -> list[str]:
    return [
        f"{kind}/{name}/{store.versions(kind, name)[-1]}"
        for kind in ("run", "fit", "embed")
        for name in store.names(kind)
    ]


def test_a_lost_ref_in_the_middle_is_named_and_no_other_thing(made: Any):
    path = made.store.root / "refs/run/web/1.json"
    path.unlink()
    (line,) = verify(made.store)
    assert line == (
        f"{path}: is missing. It cannot be made again from the store: put back a copy of it."
    )


def test_a_lost_last_run_is_made_again_by_the_command_that_verify_says(made: Any):
    (made.store.root / "refs/run/web/2.json").unlink()
    latest = made.store.root / "shards/web/latest.json"
    (line,) = verify(made.store)
    assert line.startswith(f"{latest}: does not say v0001. This makes it: winnow run ")
    assert any("shards/web/v0002/manifest.json" in u for u in unknown(made.store))
    assert made.run("web")["version"] == 2
    assert verify(made.store, deep=True) == []
    assert unknown(made.store) == []


def test_a_lost_pool_version_that_a_run_rests_on_is_named(made: Any):
    path = made.store.root / "refs/pool/web/2.json"
    path.unlink()
    assert any(line.startswith(f"{path}: is missing: run web rests") for line in verify(made.store))


@pytest.mark.parametrize(
    "pattern",
    [
        "manifests/*.json",
        "objects/web/embed.grams/*.parquet",
        "objects/web/fit.kmeans/*.parquet",
        "objects/web/verdict.web/*.parquet",
        "shards/web/latest.json",
    ],
)
def test_what_is_derived_and_lost_is_made_again_by_the_command_that_verify_says(
    made: Any, pattern: str
):
    paths = list(made.store.root.glob(pattern))
    for path in paths:
        path.unlink()
    lines = verify(made.store)
    recipe = made.folder / "web.toml"
    for path in paths:
        assert any(line.startswith(f"{path}: ") and "winnow run " in line for line in lines), path
    assert any(f"winnow run {recipe} --store {made.store.root}" in line for line in lines)
    if "fit" in pattern or "manifests" in pattern:
        with pytest.raises(DataError, match="--at 2 --until annotate"):
            made.run("web")
        made.run("web", at=2, until="annotate")
    made.run("web")
    made.run("pictures")
    left = verify(made.store, deep=True)
    # Of earlier versions a rerun makes nothing again.
    made_now = {o["path"] for o in made.store.ref("run", "web")["verdict"]}
    assert not [line for line in left if any(path in line for path in made_now)]
    if "latest" in pattern:
        assert left == []


def test_a_lost_model_is_made_again_on_the_version_that_it_is_pinned_to(made: Any):
    """Fitted on the pool as it is now it would be another, and records would change their fate."""
    (item,) = made.store.ref("run", "web")["models"].values()
    path = made.store.root / item["path"]
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    made.write(34)
    (line,) = verify(made.store)
    recipe = f"{made.folder}/web.toml --store {made.store.root}"
    assert line.endswith(f"without it this says how it is made again: winnow run {recipe}")
    with pytest.raises(DataError, match=f"{path}: is lost or cut.*--at 2 --until annotate"):
        made.run("web")
    made.run("web", at=2, until="annotate")
    assert path.read_bytes() == whole
    made.run("web")
    assert made.store.ref("run", "web")["models"] == {"fit.kmeans": item}
    path.unlink()
    refit(runs.read_recipe(made.folder / "web.toml"), made.store, "kmeans", runs.Options())
    assert made.run("web")["changed"]
    assert made.store.ref("run", "web")["models"] != {"fit.kmeans": item}


def test_a_damaged_measurement_is_made_again_as_verify_says(made: Any):
    (item,) = made.store.ref("run", "web")["notes"]["embed.grams"][-1:]
    path = made.store.root / item["path"]
    whole = path.read_bytes()
    path.write_bytes(_flipped(path))
    (line,) = verify(made.store, deep=True)
    assert line.startswith(
        f"{path}: is damaged: its sha256 is not the one that was written. Delete"
    )
    with pytest.raises(DataError, match="is not what was written"):
        made.store.path(_object(item))
    path.unlink()
    assert made.run("web")["changed"] is False
    assert path.read_bytes() == whole
    assert verify(made.store, deep=True) == []


def _object(item: dict[str, Any]) -> Any:
    from storage.store import Object

    return Object(**item)


def test_a_lost_report_is_made_again_by_the_command_that_verify_says(made: Any, winnow: Any):
    path = made.store.root / "reports/web/v0001.html"
    whole = path.read_bytes()
    path.unlink()
    (line,) = verify(made.store)
    command = line.partition("This makes it: winnow ")[2].split()
    assert winnow(*command)[0] == 0
    assert path.read_bytes() == whole


def test_a_shard_and_a_manifest_rewritten_together_are_found(made: Any):
    """A run's own ref holds the sha256 of each file of each arm, the manifest's too."""
    for arm in ("", "random/"):
        folder = made.store.root / f"shards/web/{arm}v0002"
        content = shards.manifest(folder)
        assert content is not None
        (item, *_) = [f for f in content["files"] if f["name"].endswith(".jsonl")]
        path = folder / item["name"]
        path.write_bytes(_flipped(path))
        item["sha256"] = shards.file_sha256(path)
        del content["sha256"]
        shards.seal(folder, [shards.Shard.of(f) for f in content.pop("files")], content)
        assert shards.damaged(folder) == []
    lines = verify(made.store, deep=True)
    assert [line.partition(": is damaged")[0] for line in lines] == [
        f"{made.store.root}/shards/web/{arm}v0002/{name}"
        for arm in ("", "random/")
        for name in ("00000.jsonl", "manifest.json")
    ]


def test_files_that_nothing_names_are_said_and_are_no_damage(made: Any, original: Any):
    with made.store.lease():
        made.store.move(original.folder, made.folder)
    stray = [
        made.store.root / "notes.txt",
        made.store.root / "objects/web/embed.grams/00000.0123456789abcdef.parquet",
        made.store.root / "shards/web/v0002/README",
        made.folder / "out/v0001/more.tar",
    ]
    for path in stray:
        path.write_bytes(b"?")
    assert verify(made.store, deep=True) == []
    lines = unknown(made.store)
    assert {line.partition(":")[0] for line in lines} == {str(p) for p in stray}
    (orphan,) = [line for line in lines if "/objects/" in line]
    assert "no manifest or ref names it" in orphan


def test_what_records_refer_to_is_read_and_counted(made: Any, original: Any):
    with made.store.lease():
        made.store.move(original.folder, made.folder)
    first, second, third = [p for p in _files(made.folder / "pictures") if p.suffix != ".txt"][:3]
    assert verify(made.store, deep=True) == []
    first.unlink()
    second.unlink()
    third.write_bytes(_flipped(third))
    gone, changed = verify(made.store, deep=True)
    assert gone.startswith(f"{first}, {second}: SOURCE_GONE; pool pictures: 2 records")
    assert changed.startswith(f"{third}: changed since it was ingested; pool pictures: 1 records")
    assert verify(made.store) == []


def test_a_file_that_may_not_be_read_is_named_and_the_others_are_looked_at(
    made: Any, monkeypatch: pytest.MonkeyPatch
):
    root, file_sha256 = made.store.root, shards.file_sha256
    forbidden, other = root / "shards/web/v0002/00000.tar", root / "shards/web/v0002/00001.tar"

    def hashed(path: Path) -> str:
        if path == forbidden:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return file_sha256(path)

    monkeypatch.setattr(shards, "file_sha256", hashed)
    other.write_bytes(_flipped(other))
    one, two = verify(made.store, deep=True)
    assert one == f"{forbidden}: Permission denied."
    assert two.startswith(f"{other}: is damaged")


def test_a_lost_mark_of_the_format_is_named_and_written_again(made: Any, winnow: Any):
    (made.store.root / "store.json").unlink()
    (line,) = verify(made.store)
    assert line.startswith(f"{made.store.root}/store.json: is missing. This makes it: winnow up")
    assert winnow("upgrade", "--store", str(made.store.root))[0] == 0
    assert verify(made.store, deep=True) == []


def test_the_command_says_65_and_both_lists(made: Any, winnow: Any):
    (made.store.root / "stray").write_bytes(b"?")
    code, out, _ = winnow("verify", "--json", "--store", str(made.store.root))
    assert code == 0
    assert json.loads(out) == {
        "damaged": [],
        "unknown": [f"{made.store.root}/stray: nothing in the store names it."],
    }
    path = made.store.root / "reports/web/v0002.html"
    path.unlink()
    code, out, _ = winnow("verify", "--store", str(made.store.root))
    assert code == 65
    assert str(path) in out


def test_a_ref_resealed_with_other_objects_is_found(made: Any):
    """The bytes of a ref may be made whole again; what it names cannot."""
    path = made.store.root / "refs/run/web/2.json"
    content = json.loads(path.read_bytes())
    del content["sha256"]
    content["verdict"][0]["sha256"] = "0" * 64
    made.store.write_sealed(path, content)
    assert canonical(content)
    assert any("verdict.web" in line for line in verify(made.store, deep=True))
