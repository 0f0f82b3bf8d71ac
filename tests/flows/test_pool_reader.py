"""Reading a pool: live rows, masks, pictures; and at a cost that grows with its parts alone."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from contracts.uid import uid_of
from flows.ingest.ingest import SourceSpec, ingest
from flows.measure.runtime import Runtime
from flows.pool_reader import PoolReader
from flows.recipe import sections as recipes
from flows.recipe.expressions import Expression
from flows.recipe.planner import plan
from flows.select.holdout import holdout
from storage import parts, tables
from storage.source import Columns, find

LINES = Columns(id="id", text="text")


@pytest.fixture
def lines(project: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., PoolReader]:
    """Ingest texts with `x` as their number, a few to a part; give what reads the pool."""

    def read(*texts: str, part_rows: int = 3, update: bool = False) -> PoolReader:
        monkeypatch.setattr(parts, "PART_ROWS", part_rows)
        rows = [{"id": f"r{i}", "text": text, "x": i} for i, text in enumerate(texts)]
        path = project.lines("a.jsonl", rows)
        spec = SourceSpec(find(str(path)), "a", LINES, update=update)
        ingest(project.store, "web", spec)
        return PoolReader(project.store, project.pool())

    return read


def _uid(number: int) -> int:
    return uid_of("a", f"r{number}")


def test_a_replaced_record_is_read_where_it_now_lies(lines: Any):
    lines("zero", "one", "two", "three")
    reader = lines("zero", "changed", "two", "three", update=True)
    assert [mask.tolist() for mask in reader.live] == [[True, False, True], [True], [True]]
    assert [mask.tolist() for mask in reader.where([_uid(1), _uid(3), 7])] == [
        [False, False, False], [True], [True]
    ]  # fmt: skip
    assert reader.uids(0).to_list() == [_uid(0), _uid(1), _uid(2)]
    frame = reader.frame(["text", "meta.x"])
    assert frame.rows() == [
        (_uid(0), "zero", 0), (_uid(2), "two", 2), (_uid(3), "three", 3), (_uid(1), "changed", 1)
    ]  # fmt: skip


def test_masks_over_live_rows_and_masks_over_parts_say_the_same(lines: Any):
    lines("zero", "one", "two", "three")
    reader = lines("zero", "changed", "two", "three", update=True)
    live = np.array([False, True, True, True])
    masks = reader.by_part(live)
    assert [mask.tolist() for mask in masks] == [[False, False, True], [True], [True]]
    assert reader.flat(masks).tolist() == live.tolist()
    assert reader.frame([], masks)["uid"].to_list() == [_uid(2), _uid(3), _uid(1)]


def test_the_payload_of_a_part_without_one_is_its_text(lines: Any):
    reader = lines("zero", "one")
    roles = {"payload": Expression("payload"), "next": Expression("meta.x + 1")}
    frame = reader.roles(roles, reader.live)
    assert frame.rows() == [(_uid(0), "zero", 1), (_uid(1), "one", 2)]


def test_held_out_records_are_not_visible(lines: Any):
    reader = lines("zero", "one", "two", "three")
    reader.holdout_masks = reader.where([_uid(2)])
    assert reader.frame([], reader.visible)["uid"].to_list() == [_uid(0), _uid(1), _uid(3)]


# ------------------------------------------------------------------ pictures


def _with_vectors(reader: PoolReader, *parts: pl.Series) -> PoolReader:
    notes = [
        tables.put(reader.store, pl.DataFrame({"uid": reader.uids(i), "vector": of}), pool="web",
                   table="embed.v", part=f"{i:05d}")
        for i, of in enumerate(parts)
    ]  # fmt: skip
    columns = {"v.vector": "embed.v"}
    return PoolReader(reader.store, reader.pool, notes={"embed.v": tuple(notes)}, columns=columns)


ROLES = {"vector": Expression("v.vector"), "x": Expression("meta.x")}
HALF = pl.Array(pl.Float16, 2)


def test_candidates_come_sorted_by_uid_and_their_vectors_lie_on_disk(lines: Any):
    reader = _with_vectors(
        lines(*"abcdefg"),
        pl.Series([None, None, None]),
        pl.Series([[1.0, 2.0], None, [5.0, 6.0]], dtype=HALF),
        pl.Series([[7.0, 8.0]], dtype=HALF),
    )
    masks = [np.array(m, dtype=bool) for m in ([1, 1, 0], [1, 1, 1], [1])]
    found = reader.candidates(ROLES, masks)
    values = {0: None, 1: None, 3: [1.0, 2.0], 4: None, 5: [5.0, 6.0], 6: [7.0, 8.0]}
    order = sorted(values, key=_uid)
    assert found["uid"].to_list() == [_uid(i) for i in order]
    assert found["x"].to_list() == order
    assert found["vector"].to_list() == [values[i] for i in order]
    assert found.schema["vector"] == HALF
    mapped = [
        line for line in Path("/proc/self/maps").read_text().splitlines() if "(deleted)" in line
    ]
    assert any(str(reader.store.temporary) in line for line in mapped)
    narrow = reader.candidates({"x": ROLES["x"]}, masks)
    assert narrow.equals(found.select("uid", "x"))
    nobody = reader.candidates(ROLES, [np.zeros(len(m), dtype=bool) for m in masks])
    assert nobody.height == 0


def test_candidates_read_each_part_and_make_a_file_of_vectors_once(
    lines: Any, monkeypatch: pytest.MonkeyPatch
):
    vectors = [pl.Series([[1.0, 2.0]] * rows, dtype=HALF) for rows in (3, 3, 1)]
    reader = _with_vectors(lines(*"abcdefg"), *vectors)
    read, made = PoolReader.roles, tempfile.TemporaryFile
    parts: list[int | None] = []
    files: list[Any] = []
    monkeypatch.setattr(
        PoolReader, "roles",
        lambda self, roles, masks, part=None: parts.append(part) or read(self, roles, masks, part),
    )  # fmt: skip
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **at: files.append(at) or made(**at))
    reader.candidates(ROLES, reader.live)
    assert (parts, len(files)) == ([0, 1, 2], 1)
    reader.candidates({"x": ROLES["x"]}, reader.live)
    assert (parts[3:], len(files)) == ([0, 1, 2], 1)


def test_vectors_of_two_lengths_are_no_column(lines: Any):
    reader = _with_vectors(
        lines(*"abcd"),
        pl.Series([[1.0, 2.0]] * 3, dtype=HALF),
        pl.Series([[1.0, 2.0, 3.0]], dtype=pl.Array(pl.Float16, 3)),
    )
    with pytest.raises(DataError, match=r"vector: .* in one part and"):
        reader.candidates(ROLES, reader.live)


@pytest.fixture(scope="module", params=["copy", "reference"])
def pictures(request: Any, projects: Any, captioned: dict[str, bytes]) -> Any:
    """A pool of six pictures, by copy and by reference; its folder and what reads it."""
    project = projects()
    names = sorted(name for name in captioned if name.endswith(".png"))[:6]
    project.pictures({name: captioned[name] for name in names})
    spec = SourceSpec(find(str(project.recipe_dir / "pictures")), "p", payload=request.param)
    ingest(project.store, "web", spec)
    return project.recipe_dir / "pictures", PoolReader(project.store, project.pool())


def test_pictures_come_encoded_in_pool_order(pictures: Any, captioned: Any):
    _, reader = pictures
    wanted = reader.frame(["source_id"])[[4, 1]]
    found = pl.concat(reader.pictures(wanted["uid"]))
    assert found["uid"].to_list() == wanted["uid"].to_list()[::-1]
    assert found.select("part", "row").rows() == [(0, 1), (0, 4)]
    names = wanted["source_id"].reverse()
    assert found["image"].to_list() == [captioned[name] for name in names]


def test_pictures_are_no_narrow_column(pictures: Any):
    for path in ("image", "payload"):
        with pytest.raises(ConfigError, match="measure it first"):
            pictures[1].frame([path])


def test_a_picture_whose_file_is_gone_is_an_error_or_null(pictures: Any):
    folder, reader = pictures
    uids = reader.frame([])["uid"]
    next(folder.rglob("*.png")).unlink()
    found = pl.concat(reader.pictures(uids, gone="null"))
    if reader.frame(["location.path"])["location.path"].null_count():
        assert found["image"].null_count() == 0  # Copies lie in the pool.
        return
    assert (found.height, found["image"].null_count()) == (6, 1)
    with pytest.raises(DataError, match="SOURCE_GONE"):
        list(reader.pictures(uids))


# ------------------------------------------------------------------ cost


def _looks(reader: PoolReader, monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> int:
    """Count how often the parts of a pool are looked at."""
    looks = 0
    rows = tables.Part.rows.fget  # type: ignore[attr-defined]

    def counted(part: tables.Part) -> int:
        nonlocal looks
        looks += 1
        return int(rows(part))

    with monkeypatch.context() as patch:
        patch.setattr(tables.Part, "rows", property(counted))
        do()
    return looks


@pytest.mark.parametrize("parts", [4, 8])
def test_a_gate_and_a_holdout_look_at_each_part_a_fixed_number_of_times(
    lines: Any, monkeypatch: pytest.MonkeyPatch, parts: int
):
    reader = lines(*[f"text {n}" for n in range(parts)], part_rows=1)
    assert len(reader.pool.parts) == parts
    x = Expression("meta.x >= 2")

    def gate() -> None:
        assert sum(reader.mask(x, part).sum() for part in range(parts)) == parts - 2

    section = recipes.HoldoutSection(where="meta.x < 2")
    recipe = recipes.parsed({"name": "web", "pool": "web"}, recipe_dir=Path(), name="web")
    everyone = Runtime(reader.store, reader.pool, plan=plan(recipe))

    def hold_out() -> None:
        assert sum(mask.sum() for mask in holdout(everyone, section)) == 2

    assert _looks(reader, monkeypatch, gate) <= 2 * parts
    assert _looks(reader, monkeypatch, hold_out) <= 2 * parts
