from __future__ import annotations

import collections
import copy
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import winnow
from contracts.errors import ConfigError, DataError, StorageError
from contracts.uid import uid_of
from curation.step import Role, rowwise
from flows import run as runs
from flows.measure import runtime as runtimes
from flows.measure import tasks as measure
from flows.measure.runtime import Runtime
from flows.reporter import Reporter
from flows.upkeep.refit import refit
from storage import parts, store, tables
from tests.curation.test__fasttext import made

TEXTS = """
[[source]]
path = "texts"
name = "texts"
id = "id"
"""
WORDS = [f"{'word ' * (i % 5)}number {i}" for i in range(20)]
RULE = '[[select]]\nname = "words"\nwhere = "caption_stats.words >= {}"\n'


def _write(project: Any, *numbers: range, **more: Callable[[int], Any]) -> None:
    for n, span in enumerate(numbers):
        rows = [
            {"id": f"r{i}", "text": WORDS[i]} | {k: of(i) for k, of in more.items()} for i in span
        ]
        project.lines(f"texts/{n}.jsonl", rows)


def _uids(*numbers: int) -> set[int]:
    return {uid_of("texts", f"r{n}") for n in numbers}


def _notes(project: Any, *columns: str) -> dict[str, tuple[Any, ...]]:
    """Return the columns by source id, of the last run."""
    frame = project.last().runtime.frame(["source_id", *columns])
    return {row[1]: row[2:] for row in frame.iter_rows()}


# ------------------------------------------------------------------ nothing is computed twice


def test_a_second_run_computes_nothing_and_makes_no_version(project: Any, watch: Any):
    _write(project, range(20))
    first = project.run(TEXTS + RULE.format(3))
    assert watch.counts == {"annotate.caption_stats": (0, 20)}
    files = {p for p in project.store.root.rglob("*") if p.is_file()}
    watch.reset()
    second = project.run(TEXTS + RULE.format(3))
    assert watch.counts == {"annotate.caption_stats": (20, 0)}
    assert second == {**first, "changed": False}
    assert {p for p in project.store.root.rglob("*") if p.is_file()} == files
    assert project.view.store.versions("run", "web") == [1]


PICTURES = """
[[source]]
path = "pictures"
[annotate.hash]
step = "content_hash"
payload = "image"
[annotate.pixels]
step = "exact_clusters"
digest = "hash.digest"
[embed.look]
encoder = "color_layout"
[[select]]
name = "clear"
where = "perceptual_hash.quality >= {} AND look.vector IS NOT NULL"
[[select]]
name = "one"
by = "one_per_cluster"
cluster = "pixels.cluster"
"""


def test_another_threshold_measures_nothing_and_reads_no_payload(
    project: Any, captioned: dict[str, bytes], watch: Any
):
    project.pictures(captioned)
    first = project.run(PICTURES.format(0.3), until="select")
    assert watch.payloads
    watch.reset()
    second = project.run(PICTURES.format(0.5), until="select")
    assert watch.computed == set()
    assert watch.payloads == []
    assert second["version"] == 2
    assert second["kept"] < first["kept"]


def test_steps_on_the_payload_read_it_once_together(
    project: Any, captioned: dict[str, bytes], watch: Any
):
    project.pictures(captioned)
    project.run(PICTURES.format(0.3), until="select")
    assert len(watch.payloads) == 1


def test_a_grown_pool_measures_the_records_of_its_new_parts_only(project: Any, watch: Any):
    _write(project, range(12))
    project.run(TEXTS + RULE.format(3))
    _write(project, range(12), range(12, 20))
    watch.reset()
    project.run(TEXTS + RULE.format(3))
    assert watch.counts == {"annotate.caption_stats": (12, 8)}


def test_a_new_section_measures_itself_alone(project: Any, watch: Any):
    _write(project, range(20))
    project.run(TEXTS + RULE.format(3))
    watch.reset()
    project.run(TEXTS + RULE.format(3) + "[annotate.language]\n")
    assert watch.counts == {"annotate.caption_stats": (20, 0), "annotate.language": (0, 20)}


def test_a_file_that_a_parameter_names_is_known_by_its_content(project: Any, watch: Any):
    _write(project, range(20))
    for name, kind in (("a.bin", "softmax"), ("b.bin", "softmax"), ("c.bin", "tree")):
        (project.recipe_dir / name).write_bytes(made(kind))
    for name, computed in (("a.bin", (0, 20)), ("b.bin", (20, 0)), ("c.bin", (0, 20))):
        watch.reset()
        project.run(TEXTS + RULE.format(3) + f'[annotate.language]\nweights = "{name}"\n')
        assert watch.counts["annotate.language"] == computed
    with pytest.raises(
        ConfigError, match=r"annotate\.language\.weights: there is no file .*d\.bin"
    ):
        project.run(TEXTS + '[annotate.language]\nweights = "d.bin"\n')
    (project.recipe_dir / "c.bin").unlink()
    assert project.last().plan.nodes["annotate.language"].parameters["weights"].endswith("c.bin")


def test_another_parameter_or_role_is_another_measurement(project: Any, watch: Any):
    _write(project, range(20), alt=lambda i: f"alt {i}")
    section = '[annotate.same]\nstep = "content_hash"\npayload = "{}"\nmode = "{}"\n'
    for payload, mode in (("text", "text"), ("text", "bytes"), ("meta.alt", "text")):
        watch.reset()
        project.run(TEXTS + section.format(payload, mode))
        assert watch.computed == {"annotate.same"}
    watch.reset()
    project.run(TEXTS + section.format("text", "text"))
    assert watch.computed == set()


VECTORS = """
[embed.bag]
encoder = "hashed_ngrams"
dimension = 16
[fit.kmeans]
num_clusters = 3
seed = {}
[[select]]
where = "nearest_centroid.cosine > -1"
"""


def test_a_fit_stays_pinned_while_the_pool_grows(project: Any, watch: Any):
    _write(project, range(12))
    project.run(TEXTS + VECTORS.format(0))
    before = _notes(project, "nearest_centroid.centroid", "nearest_centroid.cosine")
    model = project.last().runtime.models["fit.kmeans"]
    _write(project, range(12), range(12, 20))
    watch.reset()
    project.run(TEXTS + VECTORS.format(0))
    after = _notes(project, "nearest_centroid.centroid", "nearest_centroid.cosine")
    assert watch.counts["fit.kmeans"] == (1, 0)
    assert watch.counts["annotate.nearest_centroid"] == (12, 8)
    assert {key: after[key] for key in before} == before
    assert project.last().runtime.models["fit.kmeans"] == model
    watch.reset()
    project.run(TEXTS + VECTORS.format(1))
    assert {"fit.kmeans", "annotate.nearest_centroid"} <= watch.computed


def _refit(project: Any, alias: str, text: str) -> dict[str, Any]:
    recipe = runs.read_recipe(project.recipe(text))
    return refit(recipe, project.store, alias, runs.Options())


def test_a_refit_takes_the_pool_as_it_is_and_older_versions_keep_their_fit(
    project: Any, watch: Any
):
    _write(project, range(12))
    text = TEXTS + VECTORS.format(0)
    project.run(text)
    old = project.last().runtime.models["fit.kmeans"]
    _write(project, range(12), range(12, 20))
    project.run(text)
    assert project.last().runtime.models["fit.kmeans"] == old
    assert _refit(project, "kmeans", text) == {"table": "fit.kmeans", "pool": "web", "version": 2}
    watch.reset()
    project.run(text)
    new = project.last().runtime.models["fit.kmeans"]
    assert watch.counts["fit.kmeans"] == (1, 0)
    assert watch.counts["annotate.nearest_centroid"] == (0, 20)
    sizes = [tables.read(project.store, model)["size"].sum() for model in (old, new)]
    assert sizes == [12, 20]
    with pytest.raises(
        ConfigError, match=r"kmean: is no fit or embedding of the recipe web. Nearest: kmeans"
    ):
        _refit(project, "kmean", text)


def test_vectors_of_another_numerics_class_are_not_added_unless_asked_for(
    project: Any, watch: Any, monkeypatch: pytest.MonkeyPatch
):
    _write(project, range(12))
    text = TEXTS + VECTORS.format(0)
    project.run(text)
    built = measure.encoder

    def elsewhere(node: Any, device: str | None) -> Any:
        found = copy.copy(built(node, device))
        found.numerics = "cuda/float16"
        return found

    for module in (measure, runtimes):
        monkeypatch.setattr(module, "encoder", elsewhere)
    # What is there is used, whatever machine made it.
    assert project.run(text)["changed"] is False
    _write(project, range(12), range(12, 20))
    with pytest.raises(ConfigError, match=r"embed.bag: .* cpu/float64, this machine makes cuda"):
        project.run(text)
    watch.reset()
    project.run(text, mixed=True)
    assert watch.counts["embed.bag"] == (12, 8)
    _refit(project, "bag", text)
    watch.reset()
    project.run(text)
    assert watch.counts["embed.bag"] == (20, 0)
    assert watch.counts["fit.kmeans"] == (0, 1)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_pieces_of_a_part_give_the_object_of_the_whole(
    project: Any, monkeypatch: pytest.MonkeyPatch, workers: int
):
    _write(project, range(20))
    text = TEXTS + '[embed.bag]\nencoder = "hashed_ngrams"\n'
    project.run(text)
    whole = project.last().runtime.notes["embed.bag"]
    project.recipe_dir /= "again"
    _write(project, range(20))
    monkeypatch.setattr(measure, "PIECE_ROWS", 7)
    shown: list[tuple[str, int]] = []

    @contextmanager
    def bar(what: str, total: int) -> Iterator[Callable[[int], None]]:
        shown.append((what, total))
        yield lambda done: shown.append(("done", done))

    project.run(text, workers=workers, reporter=Reporter(bar=bar))
    assert [o.sha256 for o in project.last().runtime.notes["embed.bag"]] == [
        o.sha256 for o in whole
    ]
    assert shown == [("measuring embed.bag", 20), ("done", 7), ("done", 7), ("done", 6)]


def test_the_pieces_of_a_part_hash_its_payload_once(
    project: Any, captioned: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
):
    names = sorted(name for name in captioned if name.endswith(".png"))[:12]
    project.pictures({name: captioned[name] for name in names})
    text = '[[source]]\npath = "pictures"\n'
    project.run(text, until="ingest")
    monkeypatch.setattr(measure, "PIECE_ROWS", 3)
    hashed: collections.Counter[str] = collections.Counter()
    sha256, task = store._sha256, measure.measure
    pieces: list[Any] = []

    def counting(path: Path) -> str:
        hashed[path.parent.name] += 1
        return sha256(path)

    monkeypatch.setattr(store, "_sha256", counting)
    monkeypatch.setattr(runtimes, "measure", lambda piece: (pieces.append(piece), task(piece))[1])
    project.run(text + '[annotate.bytes]\nstep = "content_hash"\n', until="annotate")
    assert len(pieces) == 4
    assert (hashed["payload"], hashed["records"]) == (1, 1)


CLOCK = """
import polars as pl, time
from curation.step import Role, rowwise

@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"at": pl.Int64})
def clock(rows):
    return pl.DataFrame({"at": [time.perf_counter_ns() for _ in range(rows.height)]})
"""


def test_a_method_that_is_not_deterministic_is_caught_when_its_notes_are_made_again(project: Any):
    _write(project, range(4))
    (project.recipe_dir / "mine.py").write_text(CLOCK)
    text = TEXTS + '[annotate.mine]\nstep = "./mine.py:clock"\n'
    project.run(text)
    (note,) = project.store.root.glob("objects/web/annotate.mine/*.parquet")
    note.unlink()
    with pytest.raises(StorageError, match="clock was made before with other content"):
        project.run(text)


# ------------------------------------------------------------------ gates


def test_records_behind_a_gate_are_null_and_not_measured(project: Any, watch: Any):
    _write(project, range(20))
    text = TEXTS + '[annotate.speech]\nstep = "language"\nonly = "caption_stats.words {}"\n'
    project.run(text.format(">= 4"))
    long = {i for i in range(20) if i % 5 + 2 >= 4}
    assert watch.counts["annotate.speech"] == (0, len(long))
    notes = _notes(project, "speech.label")
    assert {key for key, (label,) in notes.items() if label is not None} == {f"r{i}" for i in long}
    # The key covers the rows that the gate lets through, not its wording.
    watch.reset()
    project.run(text.format("> 3"))
    assert watch.counts["annotate.speech"] == (len(long), 0)


def test_a_part_of_which_a_gate_lets_nothing_through_has_the_types_of_the_others(project: Any):
    writes = {"spans": pl.List(pl.Struct({"start": pl.UInt32, "end": pl.UInt32}))}

    @rowwise(version=1, reads={"text": Role(pl.String)}, writes=writes)
    def whole(rows: pl.DataFrame) -> pl.DataFrame:
        one = pl.struct(start=pl.lit(0, pl.UInt32), end=pl.col("text").str.len_chars())
        return rows.select(spans=pl.concat_list(one))

    _write(project, range(5), n=lambda i: i)
    text = TEXTS + '[annotate.whole]\nonly = "meta.n >= 5"\n'
    winnow.run(project.recipe(text), methods=[whole])
    _write(project, range(5), range(5, 8), n=lambda i: i)
    winnow.run(project.recipe(text), methods=[whole])
    paths = project.store.root.glob("objects/web/annotate.whole/*.parquet")
    assert [pl.read_parquet_schema(path)["spans"] for path in paths] == [writes["spans"]] * 2


def test_a_groupwise_step_sees_what_its_gate_lets_through(project: Any):
    rows = [{"id": f"r{i}", "text": "same", "n": i} for i in range(6)]
    project.lines("texts/0.jsonl", rows)
    project.run(
        TEXTS + '[annotate.d]\nstep = "content_hash"\npayload = "text"\n'
        '[annotate.same]\nstep = "exact_clusters"\ndigest = "d.digest"\nonly = "meta.n >= 2"\n'
    )
    sizes = {key: size for key, (size,) in _notes(project, "same.size").items()}
    assert sizes == {"r0": None, "r1": None, "r2": 4, "r3": 4, "r4": 4, "r5": 4}


def test_a_fit_sees_what_its_gate_lets_through(project: Any):
    _write(project, range(20), n=lambda i: i)
    project.run(
        TEXTS + '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 16\n'
        '[fit.kmeans]\nnum_clusters = 2\nonly = "meta.n >= 15"\n[annotate.nearest_centroid]\n'
    )
    model = tables.read(project.store, project.last().runtime.models["fit.kmeans"])
    assert model["size"].sum() == 5


# ------------------------------------------------------------------ values that one brings


def _brought(project: Any, key: str, file: str) -> dict[str, Any]:
    text = TEXTS + f'[annotate.mine]\nfile = "{file}"\nkey = "{key}"\n'
    return project.run(text + '[[select]]\nname = "taste"\nwhere = "mine.taste >= 5"\n')


VALUES = pl.DataFrame({"n": [3, 1, 99], "taste": [9.0, 4.0, 7.0]})


@pytest.mark.parametrize("key", ["uid", "source_id", "meta.n", "meta.url"])
@pytest.mark.parametrize("suffix", ["parquet", "csv", "jsonl"])
def test_values_of_a_file_are_matched_by_their_key(project: Any, key: str, suffix: str):
    _write(project, range(5), n=lambda i: i, url=lambda i: f"http://x/{i}")
    columns = {
        "uid": pl.Series("uid", [uid_of("texts", f"r{n}") for n in VALUES["n"]], dtype=pl.UInt64),
        "source_id": ("r" + VALUES["n"].cast(pl.String)).alias("source_id"),
        "meta.n": VALUES["n"],
        "meta.url": ("http://x/" + VALUES["n"].cast(pl.String)).alias("url"),
    }
    frame = pl.DataFrame([columns[key], VALUES["taste"]])
    path = project.recipe_dir / f"mine.{suffix}"
    {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    result = _brought(project, key, path.name)
    assert _notes(project, "mine.taste") == {
        "r0": (None,), "r1": (4.0,), "r2": (None,), "r3": (9.0,), "r4": (None,),
    }  # fmt: skip
    assert result["dropped"] == {"taste": 4}
    assert project.kept() == _uids(3)


def test_values_may_come_in_the_order_of_the_rows(project: Any):
    _write(project, range(3), range(3, 5))
    tastes = [1.0, 9.0, 2.0, 8.0, 3.0]
    pl.DataFrame({"taste": tastes}).write_parquet(project.recipe_dir / "mine.parquet")
    _brought(project, "row", "mine.parquet")
    assert [v for (v,) in _notes(project, "mine.taste").values()] == tastes
    pl.DataFrame({"row": [4, 1], "taste": [5.0, 6.0]}).write_parquet(
        project.recipe_dir / "some.parquet"
    )
    _brought(project, "row", "some.parquet")
    assert [v for (v,) in _notes(project, "mine.taste").values()] == [None, 6.0, None, None, 5.0]


def test_unmatched_keys_are_counted_on_both_sides(project: Any, monkeypatch: pytest.MonkeyPatch):
    _write(project, range(5), n=lambda i: i)
    VALUES.write_parquet(project.recipe_dir / "mine.parquet")
    seen: list[tuple[int, int]] = []

    def table(name: str, count: Any) -> None:
        if name == "annotate.mine":
            seen.append((count.without, count.unused))

    recipe = TEXTS + '[annotate.mine]\nfile = "mine.parquet"\nkey = "meta.n"\n'
    for _ in range(2):
        project.run(recipe, reporter=Reporter(table=table))
    assert seen == [(3, 1), (3, 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"n": [50, 60], "taste": [1.0, 2.0]}, "none of its 2 n is among the 5 of the pool"),
        ({"n": [1, 1], "taste": [1.0, 2.0]}, "n repeats: it must name one record"),
    ],
)
def test_a_file_that_matches_nothing_or_twice_is_bad_data(
    project: Any, rows: dict[str, Any], message: str
):
    _write(project, range(5), n=lambda i: i)
    pl.DataFrame(rows).write_parquet(project.recipe_dir / "mine.parquet")
    with pytest.raises(DataError, match=message) as refused:
        _brought(project, "meta.n", "mine.parquet")
    assert refused.value.exit_code == 65


def test_another_content_of_the_file_is_read_anew(project: Any, watch: Any):
    _write(project, range(5), n=lambda i: i)
    for taste in (9.0, 1.0):
        VALUES.with_columns(taste=pl.lit(taste)).write_parquet(project.recipe_dir / "mine.parquet")
        watch.reset()
        if taste < 5:
            with pytest.raises(DataError, match="no record is kept"):
                _brought(project, "meta.n", "mine.parquet")
        else:
            assert _brought(project, "meta.n", "mine.parquet")["kept"] == 2
        assert "annotate.mine" in watch.computed


def test_values_stay_beside_a_record_that_was_updated(project: Any):
    _write(project, range(5), n=lambda i: i)
    project.run(TEXTS)
    _write(project, range(5), n=lambda i: i + (i == 2))
    winnow.ingest(project.recipe_dir / "texts", pool="web", source="texts", id="id", update=True,
                  store=project.store.root)  # fmt: skip
    frame = pl.DataFrame({"source_id": [f"r{n}" for n in range(5)], "taste": [9.0] * 5})
    frame.write_parquet(project.recipe_dir / "mine.parquet")
    assert _brought(project, "source_id", "mine.parquet")["kept"] == 5


def test_vectors_that_one_brings_are_vectors(project: Any):
    _write(project, range(12))
    vectors = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    np.save(project.recipe_dir / "v.npy", vectors)
    (project.recipe_dir / "ids.txt").write_text("".join(f"r{i}\n" for i in range(12)))
    project.run(
        TEXTS + '[embed.mine]\nfile = "v.npy"\nids = "ids.txt"\nkey = "source_id"\n'
        '[fit.kmeans]\nnum_clusters = 2\n[[select]]\nwhere = "nearest_centroid.cosine > -1"\n'
    )
    found = _notes(project, "mine.vector", "nearest_centroid.centroid")
    assert found["r3"][0] == pytest.approx(vectors[3].tolist())
    assert {centroid for _, centroid in found.values()} == {0, 1}


# ------------------------------------------------------------------ another pool as a target


def test_a_target_pool_is_measured_by_the_same_sections(project: Any, watch: Any):
    _write(project, range(20))
    project.lines("wanted.jsonl", [{"id": f"t{i}", "text": WORDS[i * 5 + 4]} for i in range(3)])
    winnow.ingest(project.recipe_dir / "wanted.jsonl", id="id", store=project.store.root)
    text = (
        TEXTS + '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 64\n'
        'only = "caption_stats.words >= 4"\n'
        '[[select]]\nname = "core"\nby = "simcore"\ntarget = "pool:wanted"\nbudget = 3\n'
    )
    project.run(text)
    # Each target has its own text in the pool, at cosine 1.
    assert project.kept() == _uids(4, 9, 14)
    evidence = project.last().evidence("core")
    assert evidence["cosine"].to_list() == pytest.approx([1.0] * 3, abs=1e-3)
    assert (project.store.root / "objects/wanted/embed.bag").is_dir()
    watch.reset()
    project.run(text)
    assert watch.computed == set()


def test_a_target_pool_that_is_not_there_is_a_config_error(project: Any):
    _write(project, range(4))
    with pytest.raises(ConfigError, match="pool:nowhere: there is no such pool"):
        project.run(
            TEXTS + '[embed.bag]\nencoder = "hashed_ngrams"\n[[select]]\nby = "simcore"\n'
            'target = "pool:nowhere"\nbudget = 3\n'
        )


NEAREST = """
import polars as pl
from curation.step import Role, Table, rowwise

@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"among": pl.Boolean},
         tables={"target": Table(columns=("text",))})
def among(rows, target):
    return rows.select(among=pl.col("text").is_in(target["text"].implode()))
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_a_rowwise_step_may_have_a_target_pool(project: Any, workers: int):
    (project.recipe_dir / "mine.py").write_text(NEAREST)
    _write(project, range(6))
    project.lines("wanted.jsonl", [{"id": "t", "text": WORDS[3]}])
    winnow.ingest(project.recipe_dir / "wanted.jsonl", id="id", store=project.store.root)
    project.run(
        TEXTS + '[annotate.mine]\nstep = "./mine.py:among"\ntarget = "pool:wanted"\n'
        '[[select]]\nwhere = "mine.among"\n',
        workers=workers,
    )
    assert project.kept() == _uids(3)


# ------------------------------------------------------------------ one's own methods

OWN = """
import os
import polars as pl
from curation.step import Role, groupwise, rowwise

@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"length": pl.UInt32, "pid": pl.UInt32})
def lengths(rows):
    length = pl.col("text").str.len_chars()
    return rows.select(length=length, pid=length * 0 + os.getpid())

@groupwise(version=1, by="key", reads={"key": Role(pl.Int64)}, writes={"members": pl.UInt32})
def members(groups):
    return groups.select(members=pl.len().over("group").cast(pl.UInt32))
"""


@pytest.fixture
def own(project: Any) -> Path:
    path: Path = project.recipe_dir / "mine.py"
    path.write_text(OWN)
    return path


@pytest.mark.usefixtures("own")
def test_steps_of_a_file_beside_the_recipe_run_in_worker_processes(
    project: Any, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(parts, "PART_ROWS", 10)
    _write(project, range(20), g=lambda i: i % 3)
    project.run(
        TEXTS + '[annotate.mine]\nstep = "mine:lengths"\n[annotate.ours]\n'
        'step = "./mine.py:members"\nkey = "meta.g"\n[[select]]\nwhere = "mine.length > 9"\n',
        workers=2,
    )
    notes = _notes(project, "mine.length", "mine.pid", "ours.members")
    assert [length for length, _, _ in notes.values()] == [len(text) for text in WORDS]
    assert os.getpid() not in {pid for _, pid, _ in notes.values()}
    assert [members for _, _, members in notes.values()] == [
        7 if i % 3 < 2 else 6 for i in range(20)
    ]


@pytest.mark.parametrize("reference", ["./mine.py:lengths", "mine:lengths"])
def test_another_content_of_ones_own_file_is_another_method(
    project: Any, own: Path, watch: Any, reference: str
):
    _write(project, range(4))
    text = TEXTS + f'[annotate.mine]\nstep = "{reference}"\n'
    project.run(text)
    watch.reset()
    project.run(text)
    assert watch.computed == set()
    own.write_text(own.read_text().replace("str.len_chars()", "str.len_chars() + 1"))
    project.run(text)
    assert watch.computed == {"annotate.mine"}
    assert _notes(project, "mine.length")["r0"] == (len(WORDS[0]) + 1,)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_step_of_a_notebook_runs_and_its_run_is_read_with_it(project: Any, workers: int):
    @rowwise(version=1, reads={"text": Role(pl.String)}, writes={"odd": pl.Boolean})
    def parity(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(odd=pl.col("text").str.ends_with("1"))

    _write(project, range(20))
    recipe = project.recipe(TEXTS + '[[select]]\nname = "odd"\nwhere = "parity.odd"\n')
    found = winnow.run(recipe, methods=[parity], workers=workers)
    assert (found["kept"], found["dropped"]) == (2, {"odd": 18})
    run = winnow.open(project.store.root, methods=[parity]).run("web")
    assert set(run.kept().collect()["uid"]) == _uids(1, 11)
    assert run.funnel()["dropped"].to_list() == [0, 18]
    # What is there is read without the step; another cut is judged with it.
    without = winnow.open(project.store.root).run("web")
    assert without.kept().collect().equals(run.kept().collect())
    with pytest.raises(ConfigError, match="parity"):
        without.recut({})


def test_another_text_of_a_notebooks_function_is_another_method(project: Any):
    _write(project, range(20))
    recipe = project.recipe(TEXTS + '[[select]]\nname = "last"\nwhere = "last.yes"\n')

    @rowwise(version=1, reads={"text": Role(pl.String)}, writes={"yes": pl.Boolean})
    def last(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(yes=pl.col("text").str.ends_with("1"))

    assert winnow.run(recipe, methods=[last])["kept"] == 2

    @rowwise(version=1, reads={"text": Role(pl.String)}, writes={"yes": pl.Boolean})
    def last(rows: pl.DataFrame) -> pl.DataFrame:
        return rows.select(yes=pl.col("text").str.ends_with("19"))

    assert winnow.run(recipe, methods=[last])["kept"] == 1


# ------------------------------------------------------------------ glue


def test_notes_lie_beside_the_rows_of_the_pool(project: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(parts, "PART_ROWS", 7)
    _write(project, range(20))
    project.run(TEXTS + RULE.format(3))
    runtime: Runtime = project.last().runtime
    notes = runtime.notes["annotate.caption_stats"]
    assert [note.rows for note in notes] == [part.rows for part in runtime.pool.parts] == [7, 7, 6]
    for part, note in zip(runtime.pool.parts, notes, strict=True):
        uids = [tables.read(project.store, item, ["uid"])["uid"] for item in (part.records, note)]
        assert uids[0].equals(uids[1])


def test_a_record_without_a_value_in_its_source_has_null(project: Any):
    project.lines("texts/0.jsonl", [{"id": "r0", "text": "a", "x": 1}, {"id": "r1", "text": "b"}])
    project.lines("other.jsonl", [{"id": "r0", "text": "c"}])
    text = TEXTS + '[[source]]\npath = "other.jsonl"\nid = "id"\n'
    result = project.run(text + '[[select]]\nname = "x"\nwhere = "meta.x = 1"\n')
    assert (result["kept"], result["dropped"]) == (1, {"x": 2})
    assert project.last().funnel()["unmeasured"].to_list() == [0, 2]


def test_a_column_of_meta_that_no_source_has_is_refused_before_anything_is_measured(
    project: Any, watch: Any
):
    _write(project, range(4), url=lambda _: "u")
    with pytest.raises(ConfigError, match=r"no column 'meta\.urll'\. Nearest: meta\.url"):
        project.run(TEXTS + RULE.format(1) + '[[select]]\nwhere = "meta.urll = 1"\n')
    assert watch.counts == {}


def test_a_damaged_note_is_told_not_used(project: Any):
    _write(project, range(20))
    project.run(TEXTS + RULE.format(3))
    (note,) = project.store.root.glob("objects/web/annotate.caption_stats/*.parquet")
    data = bytearray(note.read_bytes())
    data[len(data) // 2] ^= 1
    note.write_bytes(data)
    with pytest.raises(DataError, match="is not what was written"):
        project.run(TEXTS + RULE.format(4))
    note.unlink()
    assert project.run(TEXTS + RULE.format(4))["kept"] == 12


def test_the_manifests_of_notes_say_what_they_were_made_of(project: Any):
    _write(project, range(4))
    project.run(TEXTS + RULE.format(1))
    (path,) = (project.store.root / "manifests").glob("*.json")
    content = json.loads(path.read_text())
    made_by = content["made_by"]
    assert (made_by["method"], made_by["version"]) == ("caption_stats", 2)
    assert made_by["roles"] == {"text": "text"}
    assert {"polars", "numpy", "numerics"} <= set(content["recorded"])
