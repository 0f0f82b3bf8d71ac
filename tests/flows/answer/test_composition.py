"""Batches by weight, by group and of streams, from a recipe to the weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows.answer import columns, pretrain
from flows.recipe import sections
from flows.reporter import Reporter
from flows.upkeep import checkpoints
from pretraining import batches
from tests.flows.answer import small
from tests.flows.answer.test_roles import HEAD, _refused, _weights

TRAIN = '[pretrain]\nobjective = "simclr"\nsteps = 3\nencoder = { width = 4, side_px = 16 }\n'
PAIRS = (
    f'[pretrain]\nobjective = "siglip"\nsteps = 3\nbatch = 4\n{small.TINY_WORDS}\n'
    "image_encoder = { width = 4, side_px = 16 }\n"
)
DRAWS = "batch = 8\ndraws = \"CASE meta.colour WHEN 'red' THEN 0 ELSE meta.number END\"\n"
GROUPS = 'groups = "meta.colour"\n'
STREAMS = (
    "[pretrain.streams.labelled]\nwhere = \"meta.colour = 'red'\"\nbatch = 2\n"
    '[pretrain.streams.all]\nwhere = "meta.number >= 0"\nbatch = 6\n'
)
OWN = '''
from typing import ClassVar

from pretraining.objective import Encoder, Objective


class Two(Objective):
    """Rows of the first stream should be long."""

    streams: ClassVar = ("labelled", "all")

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, batch, moment):
        first_B = batch["stream"] == self.streams.index("labelled")
        return {"loss": -self.encoder(batch["image"])[first_B].square().mean()}
'''


@pytest.fixture(scope="module")
def ingested(projects: Callable[[], Any]) -> Any:
    made = projects()
    small.write(made)
    (made.recipe_dir / "own.py").write_text(OWN)
    return made


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Return the uids of every batch that is trained on."""
    found: list[list[int]] = []
    made = batches._Records.batch

    def batch(records: Any, rows: Any) -> Any:
        found.append(records.samples.uids[rows].tolist())
        return made(records, rows)

    monkeypatch.setattr(batches._Records, "batch", batch)
    return found


def _meta(project: Any) -> dict[int, Mapping[str, Any]]:
    """Return colour and number of each record by its uid."""
    kept = project.last().kept().select("uid")
    rows = project.view.pool("web").frame("meta.colour").join(kept, on="uid").collect()
    return {row["uid"]: row for row in rows.iter_rows(named=True)}


def test_a_record_without_weight_is_never_drawn_and_equal_weights_are_one_training(
    ingested: Any, seen: Any
):
    lines: list[str] = []
    reporter = Reporter()
    reporter.line = lines.append  # type: ignore[method-assign]
    ingested.run(HEAD + TRAIN + DRAWS, "web", until="pretrain", reporter=reporter)
    red = sum(row["meta.colour"] == "red" for row in _meta(ingested).values())
    assert any(line.startswith(f"recipe: {red} records are passed over") for line in lines)
    colours = [_meta(ingested)[uid]["meta.colour"] for uids in seen for uid in uids]
    assert len(colours) == 24
    assert "red" not in colours
    first, _ = _weights(ingested, "web"), seen.clear()
    ingested.run(HEAD + TRAIN + DRAWS.replace("THEN 0", "THEN 0.0"), "web", until="pretrain")
    assert _weights(ingested, "web") == first
    assert not seen
    ingested.run(HEAD + TRAIN + "batch = 8\n", "web", until="pretrain")
    assert _weights(ingested, "web") != first


@pytest.mark.parametrize("train", [TRAIN + "batch = 4\n", PAIRS])
def test_a_batch_is_of_one_group_and_what_is_too_small_is_counted(
    ingested: Any, seen: Any, train: str
):
    lines: list[str] = []
    reporter = Reporter()
    reporter.line = lines.append  # type: ignore[method-assign]
    ingested.run(HEAD + train + GROUPS, "web", until="pretrain", reporter=reporter)
    meta = _meta(ingested)
    assert len(seen) == 3
    for uids in seen:
        assert len({meta[uid]["meta.colour"] for uid in uids}) == 1
        assert len(set(uids)) == 4
    assert {meta[uid]["meta.colour"] for uids in seen for uid in uids} == {"green", "red"}
    assert Counter(row["meta.colour"] for row in meta.values())["blue"] == 3
    assert [line for line in lines if "passed over" in line] == [
        "recipe: 1 group of [pretrain] groups is smaller than 4: 3 records are passed over"
    ]
    seen.clear()
    ingested.run(
        HEAD + train + GROUPS + "members = 2\n", "web", until="pretrain", reporter=reporter
    )
    for uids in seen:
        colours = np.array([meta[uid]["meta.colour"] for uid in uids]).reshape(-1, 2)
        assert (colours[:, 0] == colours[:, 1]).all()


@pytest.mark.parametrize("objective", ["simclr", "./own.py:Two"])
def test_every_batch_has_rows_of_each_stream(ingested: Any, seen: Any, objective: str):
    text = HEAD + TRAIN.replace("simclr", objective) + STREAMS
    ingested.run(text, "web", until="pretrain")
    meta = _meta(ingested)
    assert [len(uids) for uids in seen] == [8, 8, 8]
    assert all(meta[uid]["meta.colour"] == "red" for uids in seen for uid in uids[:2])
    assert len({meta[uid]["meta.colour"] for uids in seen for uid in uids[2:]}) == 3
    first = _weights(ingested, "web")
    turned = HEAD + TRAIN.replace("simclr", objective) + STREAMS.replace("= 'red'", "= 'blue'")
    ingested.run(turned, "web", until="pretrain")
    assert _weights(ingested, "web") != first


SECTION = sections.PretrainSection(objective="simclr", own={}, batch=4)
ROWS = pl.DataFrame(
    {
        "uid": np.arange(40, dtype=np.uint64),
        "repeats": np.ones(40, dtype=np.uint16),
        columns.GROUP: np.arange(40, dtype=np.uint64) // 4,
        columns.DRAWS: np.arange(40, dtype=np.float64) // 3,
        "stream.one": np.arange(40) < 10,
        "stream.other": np.arange(40) > 14,
    }
)


def test_records_in_no_batch_are_counted_without_those_of_probes():
    groups = replace(SECTION, groups="meta.colour")
    assert columns.passed_over(groups, ROWS) == (0, 0)
    probing = replace(groups, validation_ratio=0.2, probe_every=1)
    trained, apart = pretrain._parted(probing, ROWS)
    assert apart is not None
    small_groups = [n for n in trained[columns.GROUP].value_counts()["count"] if n < 4]
    assert 0 < len(small_groups) < 10
    assert columns.passed_over(probing, ROWS) == (len(small_groups), sum(small_groups))
    assert columns.passed_over(replace(SECTION, draws="meta.number"), ROWS) == (0, 3)
    of = sections.StreamSection(where="true", batch=2)
    streams = replace(SECTION, streams={"one": of, "other": of})
    assert columns.passed_over(streams, ROWS) == (0, 5)


def test_a_training_that_was_stopped_ends_with_the_same_weights(
    ingested: Any, monkeypatch: pytest.MonkeyPatch
):
    text = HEAD + TRAIN.replace("steps = 3", "steps = 4") + STREAMS
    ingested.run(text, "web", until="pretrain")
    whole = _weights(ingested, "web")
    for manifest, _, item in checkpoints._trained(ingested.store):
        manifest.unlink(missing_ok=True)
        ingested.store.path(item).unlink(missing_ok=True)
    with monkeypatch.context() as stopping:
        stopping.setattr(pretrain.stopping, "asked", contextmanager(lambda: iter([lambda: True])))
        with pytest.raises(KeyboardInterrupt):
            ingested.run(text, "web", until="pretrain")
    ingested.run(text, "web", until="pretrain")
    assert _weights(ingested, "web") == whole


@pytest.mark.parametrize(
    ("text", "key", "message"),
    [
        (TRAIN + DRAWS + GROUPS, "pretrain.groups", "goes with no draws: leave one"),
        (TRAIN + GROUPS + STREAMS, "pretrain.groups", "goes with no streams: leave one"),
        (TRAIN + "members = 2\n", "pretrain.members", "of one of the `groups`"),
        (TRAIN + GROUPS + "batch = 8\nmembers = 3\n", "pretrain.members", "no multiple of 3"),
        (TRAIN + "batch = 9\n" + STREAMS, "pretrain.batch", "is 8, that of all streams"),
        (TRAIN + STREAMS.partition("[pretrain.streams.all]")[0], "pretrain.streams", "two or more"),
        (
            TRAIN + STREAMS.replace("batch = 2", "rows = 2"),
            "pretrain.streams.labelled.rows",
            "unknown",
        ),
        (
            TRAIN.replace("simclr", "./own.py:Two")
            + STREAMS.replace("streams.all", "streams.rest"),
            "pretrain.streams",
            "Two reads [pretrain.streams.labelled], [pretrain.streams.all], not",
        ),
        (
            TRAIN + "accumulate = 3\n" + STREAMS,
            "pretrain.streams.labelled.batch",
            "2 is not 3 equal parts",
        ),
        (TRAIN + 'draws = "no.such"\n', "pretrain.draws", "no.such"),
    ],
)
def test_what_composes_no_batch_is_refused_with_its_key(
    ingested: Any, text: str, key: str, message: str
):
    assert message in _refused(ingested, HEAD + text)[key]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (
            'groups = "CASE WHEN meta.number > 3 THEN meta.colour END"\nbatch = 4\n',
            DataError,
            r"pretrain.groups: \d of \d+ records .*have no CASE.*Drop them with a rule",
        ),
        (
            'draws = "meta.number - 3"\nbatch = 4\n',
            DataError,
            r"pretrain.draws: is below 0 or infinite for \d of \d+ records .*such as greatest\(",
        ),
        (
            'draws = "(meta.number + 1) / CAST(meta.number % 5 AS DOUBLE)"\nbatch = 4\n',
            DataError,
            r"pretrain.draws: is below 0 or infinite for \d of \d+ records .*divide by nothing",
        ),
        (
            'groups = "meta.number"\nbatch = 4\n',
            DataError,
            "pretrain.groups: no group has 4 records that are trained on. Give groups",
        ),
        ('draws = "meta.colour"\nbatch = 4\n', ConfigError, "pretrain.draws: gives String"),
        (
            STREAMS.replace("= 'red'", "= 'pink'"),
            DataError,
            "pretrain.streams.labelled.where: is true for none of the",
        ),
        (
            STREAMS.replace("meta.colour = 'red'", "meta.number"),
            ConfigError,
            "pretrain.streams.labelled.where: gives Int64, no condition",
        ),
    ],
)
def test_values_of_which_no_batch_can_be_composed_are_said(
    ingested: Any, given: str, error: type[Exception], message: str
):
    with pytest.raises(error, match=message):
        ingested.run(HEAD + TRAIN + given, "web", until="pretrain")
