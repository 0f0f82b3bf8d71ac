from __future__ import annotations

import hashlib
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from contracts.errors import BusyError, ConfigError, DataError
from contracts.uid import uid_of
from flows.options import open_store
from flows.recipe import sections as recipes
from flows.recipe.planner import plan
from flows.reporter import Reporter
from flows.upkeep.verify import verify
from storage import parts

# ------------------------------------------------------------------ the matrix

BASE = """
name = "web"
[[source]]
path = "pictures"
payload = "{payload}"
[annotate.hash]
step = "content_hash"
payload = "image"
[annotate.same]
step = "exact_clusters"
digest = "hash.digest"
[annotate.phash]
step = "perceptual_hash"
[annotate.alike]
step = "hamming_clusters"
bits = "phash.bits"
max_distance = 2
[[select]]
name = "captioned"
where = "caption_stats.words >= 3 AND phash.quality > 0.05"
[[select]]
name = "same"
by = "one_per_cluster"
cluster = "same.cluster"
"""
# The fit is made on the final pool: it stays pinned to the version that it was made on.
SEMANTIC = """
[embed.look]
encoder = "color_layout"
[annotate.semantic]
step = "semantic_duplicates"
[fit.kmeans]
num_clusters = 6
[[select]]
name = "semantic"
by = "one_per_neighbourhood"
nearest = "semantic.nearest"
cosine = "semantic.max_cosine"
threshold = 0.99
[[select]]
name = "some"
by = "random_sample"
budget_ratio = 0.8
[export]
layout = "packed"
shard_records = 9
columns = ["semantic.max_cosine", "alike.size"]
"""


@contextmanager
def _reversed_listings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    scandir = os.scandir

    class Reversed:
        def __init__(self, *path: Any) -> None:
            with scandir(*path) as entries:
                self._entries = list(entries)[::-1]

        def __enter__(self) -> Reversed:
            return self

        def __exit__(self, *_: object) -> None:
            self.close()

        def __iter__(self) -> Iterator[Any]:
            return iter(self._entries)

        def close(self) -> None:
            pass

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", Reversed)
        yield


def _outcome(project: Any) -> tuple[dict[int, str | None], dict[str, str], list[tuple[Any, ...]]]:
    """Return the verdict, the shards' hashes, and every note by uid."""
    run = project.last()
    folder = Path(run.result["export"])
    hashes = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.glob("*.tar")}
    notes = run.runtime.frame(
        ["hash.digest", "same.cluster", "same.size", "phash.bits", "alike.cluster",
         "nearest_centroid.centroid", "semantic.max_cosine", "semantic.nearest"]
    ).sort("uid")  # fmt: skip
    fates = dict(run.verdict.select("uid", "dropped_by").iter_rows())
    return fates, hashes, notes.rows()


@pytest.fixture(scope="module")
def reference(projects: Callable[[], Any], captioned: dict[str, bytes]) -> Any:
    """What one process makes of it in one run, in one part."""
    project = projects()
    project.pictures(captioned)
    project.run(BASE.format(payload="copy") + SEMANTIC, until="export")
    fates, hashes, notes = _outcome(project)
    assert len(hashes) > 3
    assert set(fates.values()) == {None, "captioned", "same", "semantic", "some"}
    return fates, hashes, notes


CASES = list(itertools.product([1, 2, 4], ["listed", "reversed"], ["copy", "reference"], [1, 3]))
# A minute each for the processes that the others start: `make soak`.
QUICK = [(1, "reversed", "reference", 3), (2, "reversed", "copy", 1)]
SOAK = pytest.mark.skipif(not os.environ.get("WINNOW_SOAK"), reason="a minute each: make soak")


@pytest.mark.parametrize(
    ("workers", "listing", "payload", "steps"),
    [
        pytest.param(*case, marks=() if case in QUICK else SOAK)
        for case in CASES
        if case != (1, "listed", "copy", 1)
    ],
)
def test_workers_listings_payloads_and_growth_change_no_byte(
    project: Any, captioned: dict[str, bytes], reference: Any, monkeypatch: pytest.MonkeyPatch,
    workers: int, listing: str, payload: str, steps: int,
):  # fmt: skip
    monkeypatch.setattr(parts, "PART_ROWS", 25)
    base = BASE.format(payload=payload)
    names = sorted(captioned, reverse=listing == "reversed")
    stems = [name.rpartition(".")[0] for name in names]
    with _reversed_listings(monkeypatch) if listing == "reversed" else monkeypatch.context():
        for step in range(steps):
            project.pictures(
                {n: captioned[n] for n, stem in zip(names, stems, strict=True)
                 if int(stem[2:4]) % steps <= step}
            )  # fmt: skip
            last = step == steps - 1
            text = base + SEMANTIC if last else base
            project.run(text, workers=workers, until="export" if last else "select")
    assert len(project.pool().parts) >= 5
    fates, hashes, notes = _outcome(project)
    assert fates == reference[0]
    assert notes == reference[2]
    assert hashes == reference[1]
    assert verify(project.store, deep=True) == []


# ------------------------------------------------------------------ one run

ROWS = '[[source]]\npath = "rows.jsonl"\nid = "id"\n'
RULE = '[[select]]\nname = "n"\nwhere = "meta.n >= 5"\n'


@pytest.fixture
def rows(project: Any) -> Any:
    project.lines("rows.jsonl", [{"id": f"r{i}", "text": f"text {i}", "n": i} for i in range(12)])
    return project


def test_a_run_says_what_it_kept_and_where_its_shards_are(rows: Any):
    found = rows.run(ROWS + RULE + "[export]\nshard_records = 4\n", until="report")
    assert (found["pool"], found["version"], found["changed"]) == ("web", 1, True)
    assert (found["records"], found["kept"], found["dropped"]) == (12, 7, {"n": 5})
    assert [shard["records"] for shard in found["shards"]] == [4, 3]
    for shard in found["shards"]:
        path = Path(shard["path"])
        assert path.is_absolute()
        assert hashlib.sha256(path.read_bytes()).hexdigest() == shard["sha256"]
    assert Path(found["report"]).is_file()


def test_stages_that_the_recipe_lacks_are_absent(rows: Any):
    assert not {"shards", "checkpoint", "evaluation"} & set(rows.run(ROWS + RULE))


@pytest.mark.parametrize(
    ("until", "keys"),
    [
        ("ingest", {"pool", "version", "records"}),
        ("embed", {"pool", "version", "records"}),
        ("annotate", {"pool", "version", "records"}),
        ("select", {"pool", "version", "changed", "records", "kept", "dropped"}),
        (
            "export",
            {"pool", "version", "changed", "records", "kept", "dropped", "shards", "export"},
        ),
    ],
)
def test_a_run_ends_with_the_stage_that_it_was_told(rows: Any, until: str, keys: set[str]):
    found = rows.run(ROWS + RULE + "[export]\n", until=until)
    assert set(found) == keys
    assert bool(list(rows.store.root.glob("shards/web/v*"))) == (until == "export")


def test_an_unknown_stage_is_refused_with_the_nearest(rows: Any):
    with pytest.raises(ConfigError, match=r"--until exprt: is no stage\. Nearest: export"):
        rows.run(ROWS, until="exprt")


def test_a_pool_version_may_be_named(rows: Any):
    rows.run(ROWS)
    rows.lines("rows.jsonl", [{"id": f"r{i}", "text": f"text {i}", "n": i} for i in range(20)])
    assert rows.run(ROWS)["records"] == 20
    assert rows.run(ROWS, at=1)["records"] == 12
    with pytest.raises(DataError, match="no pool 'web' of version 9"):
        rows.run(ROWS, at=9)


def test_a_recipe_without_a_source_uses_the_pool_that_is_there(rows: Any):
    rows.run(ROWS)
    assert rows.run('pool = "web"\n' + RULE, "other")["kept"] == 7
    with pytest.raises(DataError, match="no pool 'none': name a") as refused:
        rows.run('pool = "none"\n', "third")
    assert refused.value.exit_code == 65


def test_pool_and_run_versions_count_separately(rows: Any):
    rows.run(ROWS)
    rows.run(ROWS + RULE)
    rows.lines("rows.jsonl", [{"id": f"r{i}", "text": f"text {i}", "n": i} for i in range(20)])
    rows.run(ROWS + RULE)
    assert rows.store.versions("pool", "web") == [1, 2]
    assert rows.store.versions("run", "web") == [1, 2, 3]
    assert [rows.view.run("web", v).pool.version for v in (1, 2, 3)] == [1, 1, 2]


def test_going_back_to_an_earlier_recipe_is_a_new_version(rows: Any):
    first = rows.run(ROWS)
    rows.run(ROWS + RULE)
    again = rows.run(ROWS)
    assert (again["changed"], again["version"], again["kept"]) == (True, 3, first["kept"])


def test_a_new_section_that_no_rule_uses_is_a_new_version_with_its_notes(rows: Any):
    rows.run(ROWS + RULE)
    found = rows.run(ROWS + RULE + "[annotate.language]\n")
    assert (found["changed"], found["version"]) == (True, 2)
    assert "annotate.language" in rows.last().runtime.notes


def test_the_stored_recipe_is_resolved_and_plans_again(rows: Any):
    rows.run(ROWS + '[[select]]\nwhere = "caption_stats.words >= 1"\n')
    stored = rows.last().recipe
    assert stored["annotate"]["caption_stats"] == {"text": "text", "step": "caption_stats"}
    planned = plan(recipes.parsed(stored, recipe_dir=rows.recipe_dir, name="web"))
    assert planned.resolved() == stored


def test_set_goes_over_the_recipe(rows: Any):
    assert rows.run(ROWS + RULE, set=["select.0.where=meta.n >= 9"])["kept"] == 3


def test_of_two_runs_one_is_told_that_the_other_holds_the_store(rows: Any):
    with rows.store.lease(), pytest.raises(BusyError, match="another run holds") as refused:
        rows.run(ROWS)
    assert refused.value.exit_code == 73
    assert rows.run(ROWS)["kept"] == 12


def test_what_a_killed_run_left_in_tmp_is_removed(rows: Any):
    litter = rows.store.root / "tmp/left"
    litter.parent.mkdir(parents=True)
    litter.write_bytes(b"x")
    rows.run(ROWS)
    assert not litter.exists()


def test_a_missing_source_of_a_recipe_is_bad_data(project: Any):
    with pytest.raises(DataError, match="no such file or folder"):
        project.run(ROWS)


def test_the_store_is_where_it_is_said_to_be(tmp_path: Path):
    recipe_dir = tmp_path / "recipe"
    environment = {"WINNOW_STORE": str(tmp_path / "env")}
    assert open_store(None, recipe_dir, {}).root == recipe_dir / ".winnow"
    assert open_store(None, recipe_dir, environment).root == tmp_path / "env"
    assert open_store(tmp_path / "given", recipe_dir, environment).root == tmp_path / "given"


def test_a_run_says_table_by_table_what_it_found_and_computed(rows: Any):
    said: list[tuple[str, int, int]] = []
    stages: list[str] = []
    reporter = Reporter(
        stage=stages.append, table=lambda t, c: said.append((t, c.found, c.computed))
    )
    text = ROWS + '[[select]]\nwhere = "caption_stats.words >= 1"\n[export]\n'
    rows.run(text, reporter=reporter)
    assert said == [("annotate.caption_stats", 0, 12)]
    assert stages[:4] == ["ingest", "annotate", "select", "export"]


def test_two_sources_of_a_recipe_make_one_pool(rows: Any):
    rows.lines("more.jsonl", [{"id": "r0", "text": "another"}])
    found = rows.run(ROWS + '[[source]]\npath = "more.jsonl"\nid = "id"\n')
    assert found["records"] == 13
    uids = {uid_of("rows", f"r{i}") for i in range(12)} | {uid_of("more", "r0")}
    assert rows.kept() == uids


def test_removed_records_are_in_no_verdict_and_no_shard(rows: Any):
    import winnow

    rows.run(ROWS + "[export]\n")
    changed = [{"id": f"r{i}", "text": f"text {i}", "n": i + (i == 3)} for i in range(12)]
    rows.lines("rows.jsonl", changed)
    winnow.ingest(rows.recipe_dir / "rows.jsonl", pool="web", id="id", update=True,
                  store=rows.store.root)  # fmt: skip
    found = rows.run(ROWS + "[export]\n")
    assert found["records"] == found["kept"] == 12
    numbers = rows.last().pool.frame("meta.n").collect()
    assert numbers.filter(pl.col("uid") == uid_of("rows", "r3"))["meta.n"].to_list() == [4]
    assert sum(shard["records"] for shard in found["shards"]) == 12
