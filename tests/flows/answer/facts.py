"""What an answer must be, found without flows.answer: sets of records, trainings, numbers.

Each check is a plain function, so that the tests and the planted mutants ask the same.
"""

from __future__ import annotations

import json
import math
import tempfile
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from contracts.errors import ConfigError, DataError
from contracts.methods import load
from contracts.report import Metric
from contracts.uid import uid_of, uniform
from embeddings.checkpoint import Checkpoint
from evaluation.features import Features
from evaluation.protocols.retrieval import retrieval
from evaluation.protocols.zero_shot import zero_shot
from evaluation.steps_saved import steps_saved
from flows.answer import compare, evaluate, grid, pretrain, sets
from flows.answer.arms import Arm
from flows.recipe.sections import CompareSection, parsed
from flows.workers import Workers
from pretraining.batches import batches
from pretraining.build import Part, build, roles_of
from pretraining.checkpoint import description_of, exported, rebuild
from pretraining.train import train
from storage import shards
from storage.store import Object, Store
from tests.flows.answer import small

# Removed when the tests end.
_TEMPORARY = tempfile.TemporaryDirectory()
_FOLDER = Path(_TEMPORARY.name)
(_FOLDER / "mine.py").write_text(small.MINE)
SEEDS = (3, 4)
STEPS = 2


class Evidence:
    """A run of a recipe with its answer, and what is known of its records beforehand."""

    def __init__(self, project: Any, recipe: str) -> None:
        self.project = project
        self.result = project.run(recipe, until="evaluate")
        self.answer = self.result["evaluation"]
        source = "texts" if "texts.jsonl" in recipe else "pictures"
        self.rows = {uid_of(source, row["id"]): row for row in small.rows()}
        # The hold-out is taken by motif, before any rule.
        motifs = {uid: uid_of("group", row["motif"]) for uid, row in self.rows.items()}
        drawn = uniform(np.array(list(motifs.values()), dtype=np.uint64), 0, "holdout") < 0.4
        self.held = {uid for uid, is_held in zip(motifs, drawn, strict=True) if is_held}
        self.visible = sorted(set(self.rows) - self.held)
        self.kept = {
            uid: 2 if row["number"] % 5 == 0 else 1
            for uid, row in self.rows.items()
            if uid not in self.held and row["number"] < 27
        }

    def arm(self, name: str, seed: int) -> dict[int, int]:
        """The records of an arm, and how often an epoch sees them."""
        if name == "recipe":
            return self.kept
        if name == "all":
            return dict.fromkeys(self.visible, 1)
        uids = np.array(self.visible, dtype=np.uint64)
        order = uids[np.argsort(uniform(uids, seed, "compare.random"))].tolist()
        draws = sum(self.kept.values())
        return {uid: draws // len(order) + (i < draws % len(order)) for i, uid in enumerate(order)}

    def values(self, metric: str) -> dict[str, list[float]]:
        values: dict[str, list[float]] = self.answer["metrics"][metric]["values"]
        return values


class Samples:
    """An arm read from the sources, as the trainer wants it."""

    def __init__(self, rows: dict[int, dict[str, Any]], arm: dict[int, int]) -> None:
        self.rows = [rows[uid] for uid in arm]
        self.uids = np.array(list(arm), dtype=np.uint64)
        self.repeats = np.array(list(arm.values()), dtype=np.uint16)

    def read(self, rows: Any) -> dict[str, list[Any]]:
        return {c: [self.rows[row][c] for row in rows] for c in ("image", "text")}


def encoder(
    evidence: Evidence, objective: str, name: str, seed: int, tower: str, **settings: Any
) -> Any:
    """Train an arm by the trainer alone, and return one tower of what comes out."""
    settings = {"steps": STEPS, "lr": 1e-3, **settings}
    encoders = {
        "clip": ("small_cnn", small.CNN, {"dim": 8}),
        "simclr": ("small_cnn", small.CNN, {}),
    }
    encoder_name, parameters, own = encoders.get(objective, ("small_cnn", {}, {}))
    folder = evidence.project.recipe_dir
    parts = {
        role: Part(name="words", parameters=small.WORDS)
        if role == "text_encoder"
        else Part(name=encoder_name, parameters=parameters)
        for role in roles_of(load("pretraining.objectives", objective, recipe_dir=folder))
    }
    made = build(objective, own, parts, seed=seed, recipe_dir=folder)
    if name != "untrained":
        samples = Samples(evidence.rows, evidence.arm(name, seed))

        def batches_from(start: int) -> Any:
            return batches(
                samples, codecs=made.codecs, batch=8, seed=seed, start=start,
                steps=settings["steps"],
            )  # fmt: skip

        train(made, batches_from, seed=seed, **settings)
    data = exported(made, {"steps": settings["steps"]})
    modules = rebuild(data, allow=[objective], recipe_dir=folder)
    return Checkpoint(modules, description_of(data), "cpu", tower=tower)


def vectors(encoder: Any, values: list[Any], column: str) -> Any:
    found = encoder(pl.DataFrame({column: values}))["vector"]
    x_ND = np.zeros((len(values), encoder.writes["vector"]))
    x_ND[found.is_not_null().to_numpy()] = found.drop_nulls().to_numpy()
    return x_ND


def look(evidence: Evidence, encoder: Any, column: str) -> float:
    """What the protocol `look` must say: all held-out records, whatever the halves."""
    held = [evidence.rows[uid] for uid in sorted(evidence.held)]
    numbers = [1 + sorted(small.COLOURS).index(row["colour"]) for row in held]
    x_ND = vectors(encoder, [row[column] for row in held], column)
    return float((x_ND @ np.arange(1, x_ND.shape[1] + 1) * np.array(numbers)).sum())


def check_arms(evidence: Evidence) -> None:
    """The arms' tables name the right records, and one export holds each of them once."""
    root = evidence.project.store.root
    found: dict[str, list[dict[int, int]]] = {}
    for path in (root / "objects" / "web" / "arm.web").glob("*.parquet"):
        arm = dict(pl.read_parquet(path).iter_rows())
        found.setdefault(path.name.partition("-")[0], []).append(arm)
    named = set(evidence.answer["arms"])
    expected = {
        name: [evidence.arm(name, seed) for seed in SEEDS] for name in named - {"untrained"}
    }
    for name, arms in expected.items():
        wanted = {frozenset((u, n) for u, n in arm.items() if n) for arm in arms}
        assert {frozenset(arm.items()) for arm in found[name]} == wanted, name
    [union] = (root / "arms" / "web").glob("*-*")
    samples = shards.ShardSamples(union)
    assert set(samples.repeats.tolist()) == {1}
    every = {uid for arms in expected.values() for arm in arms for uid, n in arm.items() if n}
    assert sorted(samples.uids.tolist()) == sorted(every)
    draws = sum(evidence.kept.values())
    counts = {name: (arm["records"], arm["draws"]) for name, arm in evidence.answer["arms"].items()}
    assert {arm["trainings"] for arm in evidence.answer["arms"].values()} == {2}
    known = {
        "recipe": (len(evidence.kept), draws), "random": (min(draws, len(evidence.visible)), draws),
        "all": (len(evidence.visible), len(evidence.visible)), "untrained": (0, 0),
    }  # fmt: skip
    assert counts == {name: known[name] for name in named}


# By objective, arm, seed and tower: the mutants ask for them again and again.
_KNOWN: dict[tuple[str, str, int, str], float] = {}


def check_values(evidence: Evidence, objective: str, metric: str, tower: str) -> None:
    """Each arm's value of each seed is that of the encoder which the arm and the seed make."""
    found = evidence.values(f"{metric}.up")
    for name, values in found.items():
        for seed, value in zip(SEEDS, values, strict=True):
            key = (objective, name, seed, tower)
            if key not in _KNOWN:
                _KNOWN[key] = look(evidence, encoder(evidence, *key), tower)
            assert value == pytest.approx(_KNOWN[key], rel=1e-4), (name, seed)
    assert len({v for values in found.values() for v in values}) == 2 * len(found)


def check_grid(evidence: Evidence) -> None:
    """Each cell's means are those of trainings that went their whole way alone; one diverges."""
    values: dict[tuple[float, int], dict[str, list[float]]] = {}
    for by in (1, 3, 10):
        for budget in (1, 2, 4):
            values[1e-3 / by, budget] = {
                name: [_alone(evidence, name, seed, 1e-3 / by, budget) for seed in seeds]
                for name, seeds in (("recipe", SEEDS[:1]), ("random", SEEDS))
                if (by, budget) != (1, 4)
            }
    cells = evidence.answer["answer"]["cells"]
    assert [(c["lr"], c["budget"], c["steps"]) for c in cells] == [
        (lr, budget, budget * STEPS) for lr, budget in values
    ]
    means = {cell: {n: np.mean(of) for n, of in arms.items()} for cell, arms in values.items()}
    lr = max((1e-3 / 3, 1e-3 / 10), key=lambda lr: means[lr, 4]["random"])
    for cell in cells:
        found = means[cell["lr"], cell["budget"]]
        assert cell["state"] == ("trained" if found else "diverged")
        assert cell["decides"] == ((cell["lr"], cell["budget"]) == (lr, 4))
        for arm in ("recipe", "random"):
            assert cell[arm] == (pytest.approx(found[arm], rel=1e-4) if found else None)
    of_run = evidence.answer
    assert (of_run["lr"], of_run["budget"], of_run["steps"]) == (lr, 4, 4 * STEPS)
    assert evidence.values("look.up")["random"] == pytest.approx(values[lr, 4]["random"], rel=1e-4)
    text = of_run["answer"]["text"]
    assert f"from random ones, at lr {lr:.2g} and 8 steps, the largest budget of the rate" in text
    assert "No other of the 9 rates and budgets contradicts it" in text
    assert "Diverged: lr 0.001 and 8 steps." in text
    expected = steps_saved(
        *[np.array([values[lr, b][arm] for b in (1, 2, 4)]).T for arm in ("recipe", "random")],
        [2, 4, 8],
    ).to_dict()  # fmt: skip
    assert of_run["answer"]["steps_saved"] == {
        k: v if isinstance(v, str) else pytest.approx(v, rel=1e-3) for k, v in expected.items()
    }


def _alone(evidence: Evidence, name: str, seed: int, lr: float, budget: int) -> float:
    key = ("./mine.py:Fragile", f"{name} {lr} {budget}", seed, "text")
    if key not in _KNOWN:
        made = encoder(
            evidence, key[0], name, seed, "text", lr=lr, steps=budget * STEPS,
            schedule="warmup_stable_decay", warmup_ratio=0.1 / budget,
        )  # fmt: skip
        _KNOWN[key] = look(evidence, made, "text")
    return _KNOWN[key]


def check_differences(evidence: Evidence) -> None:
    """A prediction interval of two random sets: t(0.975, 1) = 12.7062, times sqrt(1.5)."""
    for name, of in evidence.answer["metrics"].items():
        if of["higher_is_better"] is None:
            assert of["differences"] == {}
            continue
        assert set(of["differences"]) == {
            f"{arm} - random" for arm in ("recipe", "all", "untrained")
        }
        for arms, found in of["differences"].items():
            arm, random = (of["values"][a] for a in arms.split(" - "))
            sd = abs(random[0] - random[1]) / math.sqrt(2)
            half = 12.7062 * sd * math.sqrt(1.5)
            assert found["value"] == pytest.approx(sum(arm) / 2 - sum(random) / 2)
            assert found["sd"] == pytest.approx(sd)
            assert found["high"] - found["value"] == pytest.approx(half, rel=1e-4, abs=1e-9), name
            assert found["n"] == 2


def check_answer(evidence: Evidence) -> None:
    answer, metric = evidence.answer["answer"], evidence.answer["answer"]["metric"]
    assert metric == next(iter(evidence.answer["metrics"])) == "look.up"
    values = {arm: sum(v) / 2 for arm, v in evidence.values(metric).items()}
    assert (
        f"look.up {values['recipe']:.3f} against {values['random']:.3f}, difference"
        in answer["text"]
    )
    assert f"{values['recipe'] - values['random']:+.3f} [" in answer["text"]
    draws = sum(evidence.kept.values())
    assert "2 trainings against 2 random sets; sd " in answer["text"]
    assert f"2 steps each, {draws} draws" in answer["text"]
    assert "It is the first question to this hold-out." in answer["text"]
    difference = evidence.answer["metrics"][metric]["differences"]["recipe - random"]
    assert answer["verdict"] == difference["verdict"]
    assert [answer[k] for k in ("difference", "low", "high")] == [
        difference[k] for k in ("value", "low", "high")
    ]
    assert (answer["claim"], answer["seeds"], answer["random_sets"], answer["asked"]) == (
        "set", 2, 2, 1,
    )  # fmt: skip
    assert answer["worth"] == pytest.approx(abs(values["random"]) / 100)
    within = evidence.answer["metrics"][metric]["within"]
    assert {arm: of["value"] for arm, of in within.items()} == {
        arm: values[0] for arm, values in evidence.values(metric).items()
    }
    assert within["recipe"]["n"] == len(evidence.held)
    assert evidence.answer["seeds"] == list(SEEDS)
    assert evidence.answer["steps"] == STEPS


def _drawn(evidence: Evidence, **section: Any) -> Any:
    """The sets of another [compare] over the same run, as uid to repeats, with their seeds."""
    last = evidence.project.last()
    kept = pl.DataFrame(
        {"uid": list(evidence.kept), "repeats": list(evidence.kept.values())},
        schema={"uid": pl.UInt64, "repeats": pl.UInt16},
    )
    comparison = CompareSection(**section)
    found = sets.drawn(last.runtime, kept, comparison, SEEDS[0], {})
    return {
        name: [(None if of is None else dict(of.iter_rows()), seed) for of, seed in of_arm]
        for name, of_arm in found.items()
    }


def _first(uids: list[int], draws: int, seed: int) -> dict[int, int]:
    """As many of some records as are drawn first, none twice while records last."""
    order = np.array(sorted(uids), dtype=np.uint64)
    order = order[np.argsort(uniform(order, seed, "compare.random"))]
    drawn = np.resize(order, draws).tolist()
    return {uid: drawn.count(uid) for uid in drawn}


def check_parts(evidence: Evidence) -> None:
    """Of disjoint parts each is cut by the recipe, and has as many random draws of its own."""
    found = _drawn(
        evidence, claim="rule", parts=2, arms=["recipe", "random", "all", "untrained"],
    )  # fmt: skip
    visible = np.array(evidence.visible, dtype=np.uint64)
    of = uniform(visible, SEEDS[0], "compare.parts") * 2
    for number in range(2):
        part = visible[of.astype(int) == number].tolist()
        assert 2 < len(part) < len(visible) - 2
        kept = {uid: n for uid, n in evidence.kept.items() if uid in part}
        draws = sum(kept.values())
        expected = {
            "recipe": kept, "random": _first(part, draws, SEEDS[0]),
            "all": dict.fromkeys(part, 1), "untrained": None,
        }  # fmt: skip
        for name, records in expected.items():
            assert found[name][number] == (records, SEEDS[0] + number), name


def check_strata(evidence: Evidence) -> None:
    """The stratified arm has as many draws of each colour, and other draws for other seeds."""
    by_colour = "CASE WHEN meta.colour <> 'red' THEN meta.colour END"
    found = _drawn(evidence, arms=["stratified"], seeds=2, stratify_by=by_colour)["stratified"]
    draws = sum(evidence.kept.values())
    for (records, seed), expected_seed in zip(found, SEEDS, strict=True):
        assert seed == expected_seed
        assert sum(records.values()) == draws
        totals = {}
        for colour in small.COLOURS:
            mine = [u for u in evidence.visible if evidence.rows[u]["colour"] == colour]
            totals[colour] = sum(n for uid, n in records.items() if uid in mine)
            assert _first(mine, totals[colour], seed) == {
                uid: n for uid, n in records.items() if uid in mine
            }
        assert max(totals.values()) - min(totals.values()) <= 1


def check_other_recipe(evidence: Evidence) -> None:
    """The arm of another recipe has what that one keeps of this pool and hold-out, once each."""
    other = """
        name = "other"
        [[source]]
        path = "elsewhere"
        [holdout]
        ratio = 0.9
        [[select]]
        where = "meta.number < 9 AND caption_stats.words > 1"
    """
    (evidence.project.recipe_dir / "other.toml").write_text(other)
    last = evidence.project.last()
    with evidence.project.store.lease():
        found = _drawn(evidence, arms=["recipe", "recipe:other.toml"], seeds=2)
    expected = {u: 1 for u in evidence.visible if evidence.rows[u]["number"] < 9}
    assert found["recipe:other.toml"] == [(expected, seed) for seed in SEEDS]
    assert found["recipe"] == [(evidence.kept, seed) for seed in SEEDS]
    # One may embed with the encoder of this very run; not where other records were held out.
    path = evidence.project.recipe_dir / "other.toml"
    path.write_text(f'{other}\n[embed.own]\nencoder = "checkpoint"\nrun = "web@{last.version}"\n')
    with evidence.project.store.lease():
        assert _drawn(evidence, arms=["recipe:other.toml"], seeds=2) == {
            "recipe:other.toml": [(expected, seed) for seed in SEEDS]
        }
    recipe = last.runtime.plan.recipe
    widened = replace(recipe, holdout=replace(recipe.holdout, ratio=0.5))
    with pytest.raises(ConfigError, match="was trained under another \\[holdout\\]"):
        sets.other_plan(widened, "recipe:other.toml", evidence.project.store, {})
    sealed = replace(recipe, holdout=replace(recipe.holdout, sealed_ratio=0.5))
    sets.other_plan(sealed, "recipe:other.toml", evidence.project.store, {})


def check_sealed(evidence: Evidence) -> None:
    """A part of the held-out groups is read when it is unsealed, and then alone."""
    last = evidence.project.last()
    recipe = last.runtime.plan.recipe
    sections = evaluate.sections(recipe)
    open_ = last.runtime.plan
    motif = {uid: evidence.rows[uid]["motif"] for uid in evidence.held}
    groups = {m: min(u for u, of in motif.items() if of == m) for m in motif.values()}
    keys = np.array(list(groups.values()), dtype=np.uint64)
    sealed = dict(zip(groups, uniform(keys, 0, "sealed") < 0.5, strict=True))
    assert len(set(sealed.values())) == 2
    runtime = last.runtime
    runtime.plan = replace(
        open_, recipe=replace(recipe, holdout=replace(recipe.holdout, sealed_ratio=0.5))
    )
    masks = runtime.holdout_masks
    assert masks is not None
    digests = set()
    for unseal in (False, True):
        found = evaluate.records(runtime, masks, sections, unseal=unseal)
        read = pl.read_parquet(evidence.project.store.path(found.records))["uid"].to_list()
        assert sorted(read) == sorted(u for u, m in motif.items() if sealed[m] == unseal)
        assert found.sealed is unseal
        digests.add(found.digest)
    runtime.plan = open_
    digests.add(evaluate.records(runtime, masks, sections).digest)
    assert len(digests) == 3


def check_halves(evidence: Evidence) -> None:
    assert set(evidence.values("halves.shared")["recipe"]) == {0.0}
    assert 0.3 < evidence.values("halves.share")["recipe"][0] < 0.7


def check_checkpoint(evidence: Evidence, objective: str, tower: str, metric: str) -> None:
    """The encoder that a run leaves is the recipe's of the first seed."""
    data = Path(evidence.result["checkpoint"]).read_bytes()
    modules = rebuild(data, allow=[objective], recipe_dir=evidence.project.recipe_dir)
    made = Checkpoint(modules, description_of(data), "cpu", tower=tower)
    value = evidence.values(f"{metric}.up")["recipe"][0]
    assert value == pytest.approx(look(evidence, made, tower), rel=1e-4)


def check_towers(evidence: Evidence) -> None:
    check_values(evidence, "clip", "look", "image")
    check_values(evidence, "clip", "words", "text")


def check_pairs(evidence: Evidence) -> None:
    """What compares pictures with texts gets each picture with its own text and class."""
    held = [evidence.rows[uid] for uid in sorted(evidence.held)]
    image = vectors(
        encoder(evidence, "clip", "recipe", 3, "image"), [r["image"] for r in held], "image"
    )
    words = encoder(evidence, "clip", "recipe", 3, "text")
    groups = np.unique([row["text"] for row in held], return_inverse=True)[1]
    expected = retrieval(image, vectors(words, [r["text"] for r in held], "text"), groups, k=[1])
    for metric, of in expected.items():
        assert evidence.values(f"retrieval.{metric}")["recipe"][0] == of.value, metric
    classes = vectors(words, [f"a {c} tile" for c in sorted(small.COLOURS)], "text")
    numbers = np.array([sorted(small.COLOURS).index(r["colour"]) for r in held])
    names = vectors(words, sorted(small.COLOURS), "text")
    for name, compared in (("zero_shot", classes), ("two_templates", classes + names)):
        for metric, of in zero_shot(Features(image, numbers), compared).items():
            assert evidence.values(f"{name}.{metric}")["recipe"][0] == of.value, metric


# ------------------------------------------------------------------ without a run


ITEMS = 9


def _runs(*values: float, way: bool | None = True, spread: float = 0.0) -> list[dict[str, Metric]]:
    """Trainings of one metric m, whose items lie `spread` about its value."""
    items = np.linspace(-spread, spread, ITEMS)
    return [{"m": Metric(v, ITEMS, v, v, way, v + items)} for v in values]


def _metrics(section: dict[str, Any] | None = None, **by_arm: Any) -> Any:
    return compare.found(by_arm, CompareSection(**(section or {})))


def check_verdicts() -> None:
    """Random sets at 1, give or take 0.1, mean 1.05: half = 4.3027 * 0.0577 * sqrt(4 / 3)."""
    random = (1.0, 1.1, 1.0, 1.1)
    untrained = (0.5, 0.5)
    for recipe, way, worth, verdict in (
        ((3.0, 3.1), True, None, "better"),
        ((3.0, 3.1), False, None, "worse"),
        ((-1.0, -0.9), True, None, "worse"),
        ((-1.0, -0.9), False, None, "better"),
        ((1.1, 1.2), True, None, "this protocol cannot tell"),
        ((1.1, 1.2), True, 0.4, "no measurable difference"),
        ((math.nan, 3.1), True, None, "this protocol cannot tell"),
    ):
        controls = untrained if way else (1.5, 1.5)
        found = _metrics(
            {"worth": worth},
            random=_runs(*random, way=way),
            recipe=_runs(*recipe, way=way),
            untrained=_runs(*controls, way=way),
        )["m"]
        assert found["differences"]["recipe - random"]["verdict"] == verdict, (recipe, way)
        assert found["higher_is_better"] is way
        # (1.05 - 0.5) / 0.05774, and as far the other way where less is better.
        assert found["learned"] == pytest.approx(9.526 if way else 7.794, abs=1e-3)
    half = found["differences"]["recipe - random"]["sd"] * 3.1824 * math.sqrt(1.25)
    assert half == pytest.approx(0.2054, abs=1e-4)
    # What no training learns says nothing, however far apart the arms are.
    for level in (1.0, 0.95):
        blind = _metrics(
            random=_runs(*random), recipe=_runs(3.0, 3.1), untrained=_runs(level, level)
        )["m"]["differences"]["recipe - random"]["verdict"]
        assert blind == "this protocol cannot tell", level
    assert _metrics(random=_runs(1.0), recipe=_runs(3.0))["m"]["differences"] == {}
    assert _metrics(recipe=_runs(3.0, 3.0))["m"]["differences"] == {}


def check_items() -> None:
    """Other held-out items widen the interval, where the arms differ from item to item."""
    same = _metrics(random=_runs(1.0, 1.1), recipe=_runs(3.0, spread=0.0))["m"]
    apart = _metrics(random=_runs(1.0, 1.1), recipe=_runs(3.0, spread=2.0))["m"]
    found = [of["differences"]["recipe - random"] for of in (same, apart)]
    variance = float(np.linspace(-2, 2, ITEMS).var(ddof=1)) / ITEMS
    assert [of["over_items"] for of in found] == pytest.approx([0.0, variance])
    halves = [of["high"] - of["value"] for of in found]
    sets = 0.005 * 1.5
    assert halves == pytest.approx(
        [12.7062 * math.sqrt(sets), 12.7062 * math.sqrt(sets + variance)], rel=1e-4
    )
    # The items of all random sets count, in their mean.
    mixed = _runs(1.0) + _runs(1.1, spread=4.0)
    of_all = _metrics(random=mixed, recipe=_runs(3.0))["m"]["differences"]["recipe - random"]
    assert of_all["over_items"] == pytest.approx(variance)
    without = [{"m": replace(run["m"], items=None)} for run in _runs(3.0)]
    bare = _metrics(random=_runs(1.0, 1.1), recipe=without)["m"]["differences"]["recipe - random"]
    assert bare["over_items"] is None
    assert bare["high"] == pytest.approx(found[0]["high"])


def check_worth() -> None:
    """A hundredth of a share, one in a hundred of what is no share, or what the recipe says."""
    for values, section, worth in (
        ((0.2, 0.4), {}, 0.01), ((0.0, 1.0), {}, 0.01), ((2.0, 4.0), {}, 0.03),
        ((-0.2, -0.4), {}, 0.003), ((0.2, 0.4), {"worth": 0.2}, 0.2),
    ):  # fmt: skip
        found = _metrics(section, random=_runs(*values), recipe=_runs(0.5))["m"]["worth"]
        assert found == pytest.approx(worth), values


def check_several_questions() -> None:
    """The chosen metric stands for itself; the others, and several recipes, are Holm-corrected."""

    def runs(**values: tuple[float, ...]) -> list[dict[str, Metric]]:
        return [
            {name: _runs(of[i])[0]["m"] for name, of in values.items()}
            for i in range(len(next(iter(values.values()))))
        ]

    random = (1.0, 1.1, 1.0, 1.1)
    # 0.25 above: p = 0.0265, of two questions 0.053.
    near, far = (1.3, 1.3), (2.0, 2.0)
    by_arm = {
        "random": runs(a=random, b=random, c=random), "recipe": runs(a=near, b=near, c=near),
    }  # fmt: skip
    found = {k: v["differences"]["recipe - random"] for k, v in _metrics(**by_arm).items()}
    p = found["a"]["p"]
    assert p == pytest.approx(2 * stats.t.sf(0.25 / (0.057735 * math.sqrt(1.25)), 3), rel=1e-3)
    assert [found[k]["p_corrected"] for k in "abc"] == pytest.approx([p, 2 * p, 2 * p])
    assert [found[k]["verdict"] for k in "abc"] == [
        "better", "this protocol cannot tell", "this protocol cannot tell",
    ]  # fmt: skip
    chosen = _metrics({"metric": "b"}, **by_arm)
    assert chosen["b"]["differences"]["recipe - random"]["verdict"] == "better"
    assert chosen["a"]["differences"]["recipe - random"]["verdict"] != "better"
    two = {**by_arm, "recipe:b.toml": runs(a=far, b=far, c=far), "all": runs(a=far, b=far, c=far)}
    found = _metrics(**two)["a"]["differences"]
    # The smaller p counts twice, the larger once, but no less than the smaller.
    assert found["recipe - random"]["p_corrected"] == pytest.approx(p)
    assert found["recipe:b.toml - random"]["p_corrected"] == pytest.approx(
        2 * found["recipe:b.toml - random"]["p"]
    )
    assert found["all - random"]["p_corrected"] is None


def check_sentence() -> None:
    """The verdict's sentence is about the metric that was chosen."""
    pairs = {"random": (1.0, 1.1, 1.0), "recipe": (3.0, 3.1, 3.2)}
    by_arm = {
        arm: [{"a": of["m"], "b": replace(of["m"], value=-of["m"].value)} for of in _runs(*values)]
        for arm, values in pairs.items()
    }

    def said(**section: Any) -> Any:
        comparison = CompareSection(**section)
        return compare.answered(compare.found(by_arm, comparison), comparison, 8, 5)

    first, second = said(), said(metric="b")
    assert (first["metric"], first["verdict"]) == ("a", "better")
    assert (second["metric"], second["verdict"]) == ("b", "worse")
    assert first["text"].startswith(
        "The curated set is better than random sets of equal size, at this rate and budget: "
        "a 3.100 against 1.033, difference +2.067 [+1.780, +2.354] (95 % prediction interval, "
        "3 trainings against 3 random sets; sd 0.0577 between random sets, 0.0000 over held-out "
        "items; 5 steps each, 8 draws). The metric is the first of"
    )
    assert second["text"].startswith(
        "The curated set is worse than random sets of equal size, at this rate and budget: b -"
    )
    assert "The metric is that of [compare]." in second["text"]
    assert "Holm" not in first["text"]
    by_arm["recipe:b.toml"] = by_arm["random"]
    assert (
        "recipe:b.toml +0.000 [-0.287, +0.287], this protocol cannot tell. All 2 verdicts are "
        "corrected for their number (Holm)."
    ) in said()["text"]
    del by_arm["recipe:b.toml"]
    parts = said(claim="rule")
    assert parts["text"].startswith("Sets that the recipe cuts are better than random sets")
    assert "95 % t interval over 3 disjoint parts, each cut by the recipe; sd " in parts["text"]
    comparison = CompareSection()
    alone = compare.found({"recipe": by_arm["recipe"]}, comparison)
    assert compare.answered(alone, comparison, 8, 5) is None


def check_undecided() -> None:
    """What cannot be told says what would decide, or that nothing would, or that all is noise."""

    def said(recipe: float, section: dict[str, Any], **more: Any) -> str:
        comparison = CompareSection(**section)
        found = compare.found(
            {"random": _runs(1.0, 1.1, 1.0), "recipe": _runs(recipe), **more}, comparison
        )
        answer = compare.answered(found, comparison, 8, 5)
        assert answer is not None
        assert answer["verdict"] == "this protocol cannot tell"
        assert answer["text"].startswith(
            "This protocol cannot tell the curated set from random ones, at this rate and budget"
        )
        return str(answer["text"])

    # sd 0.0577: t(n - 1) * sd * sqrt(1 + 1 / n) is 0.1756 with 5 sets, 0.1603 with 6.
    assert "random_sets = 6 would decide" in said(1.0333 + 0.163, {})
    assert "100 random_sets would not decide" in said(1.0333 + 0.05, {})
    # 0.1448 with 8: within +- 0.2; 0.1510 with 7 is not.
    assert "random_sets = 8 would decide" in said(1.0333 + 0.05, {"worth": 0.2})
    noise = said(3.0, {}, untrained=_runs(0.95))
    assert "Random sets lie +1.4 sd above the untrained encoder, less than 2" in noise


def check_random_arm() -> None:
    """As many draws, none repeated while records last, another set for another seed."""
    everyone = pl.Series("uid", range(100, 130), dtype=pl.UInt64)
    some = sets.random_arm(everyone, 10, 0)
    assert some["repeats"].to_list() == [1] * 10
    assert some["uid"].is_in(everyone.implode()).all()
    assert set(some["uid"]) != set(sets.random_arm(everyone, 10, 1)["uid"])
    # Of one order of records: more draws are the same and some more.
    assert set(some["uid"]) < set(sets.random_arm(everyone, 11, 0)["uid"])
    again = sets.random_arm(everyone.reverse(), 10, 0)
    assert set(again["uid"]) == set(some["uid"])
    many = sets.random_arm(everyone, 70, 0)
    assert sorted(many["repeats"]) == [2] * 20 + [3] * 10
    assert set(many.filter(pl.col("repeats") == 3)["uid"]) == set(some["uid"])


def check_halves_of_groups() -> None:
    rng = np.random.default_rng(0)
    for groups in ([1, 1, 10], [10, 1, 1], [6, 6], [1] * 40, [3, 2, 2, 9, 1], [1, 1]):
        names = np.repeat(rng.integers(1, 2**63, len(groups)).astype(np.uint64), groups)
        first = evaluate.halves(names)
        assert 0 < first.sum() < len(names), groups
        assert not set(names[first]) & set(names[~first]), groups
        assert abs(int(first.sum()) - len(names) / 2) <= max(groups) / 2, groups
        order = rng.permutation(len(names))
        assert (evaluate.halves(names[order]) == first[order]).all()
    uids = np.arange(1000, dtype=np.uint64)
    expected = uids[np.argsort(uniform(uids, 0, "evaluate"))[:500]]
    assert set(uids[evaluate.halves(uids)]) == set(expected)


def check_groups_join() -> None:
    """Records are one group if any key joins them, over others too; a null joins nothing."""
    rows = pl.DataFrame(
        {
            "uid": pl.Series([5, 3, 9, 7, 1, 2], dtype=pl.UInt64),
            "a": ["x", "x", None, None, None, "z"],
            "b": [None, "q", "q", None, None, None],
        }
    )
    assert evaluate._groups(rows, ["a", "b"]).to_list() == [3, 3, 3, 7, 1, 2]
    assert evaluate._groups(rows, ["a"]).to_list() == [3, 3, 9, 7, 1, 2]


def _recipe(text: str) -> Any:
    return parsed(tomllib.loads(text), recipe_dir=_FOLDER, name="web")


def _problems(check: Callable[[], Any]) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        check()
    return {problem.key: problem.message for problem in refused.value.problems}


KNN = '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\n'


def check_sections() -> None:
    """Names are free and distinct, and what cannot be evaluated is refused under its key."""
    recipe = _recipe(small.TEXTS + KNN + KNN + 'name = "knn"\n' + KNN + KNN)
    sections = evaluate.sections(recipe)
    names = [section.name for section in sections]
    assert names == ["look", "halves", "knn#2", "knn", "knn#3", "knn#4"]
    assert {section.tower for section in sections} == {"text"}
    notes = _recipe(small.TEXTS + KNN.replace("knn", "duplicates") + 'cluster = "same.cluster"\n')
    assert evaluate.sections(notes)[-1].name == "same.cluster, meta.colour"
    assert list(evaluate.metrics(notes, evaluate.sections(notes))) == [
        "look.up", "look.down", "halves.shared", "halves.share",
    ]  # fmt: skip
    for more, key in (
        ('name = "look"\n', "evaluate[2].name"), ('name = "a.b"\n', "evaluate[2].name"),
        ('template = "a {}"\n', "evaluate[2].template"), ("tower = 3\n", "evaluate[2].tower"),
        ('cluster = "a.cluster"\n', "evaluate[2].cluster"), ("kk = 3\n", "evaluate[2].kk"),
        ('groups = "meta.motif"\n', "evaluate[2].groups"),
    ):  # fmt: skip
        first = 'name = "look"\n' if key == "evaluate[2].name" else ""
        text = small.TEXTS.replace(small.LOOK, small.LOOK + first) + KNN + more
        assert key in _problems(lambda text=text: evaluate.sections(_recipe(text))), more
    clusters = _recipe(small.TEXTS + KNN + 'cluster = "a.cluster"')
    assert _problems(lambda: evaluate.sections(clusters)) == {
        "evaluate[2].cluster": "knn compares vectors."
    }
    everyone = _recipe(small.TEXTS.replace('[holdout]\nratio = 0.4\nby_group = "meta.motif"\n', ""))
    problems = _problems(lambda: evaluate.sections(everyone))
    assert problems == {"evaluate": "needs [holdout]: the records to evaluate on."}
    rank = _recipe(small.TEXTS + KNN.replace("knn", "rankme").replace('label = "meta.colour"', ""))
    assert evaluate.sections(rank)[-1].tower == "text"
    ungrouped = _recipe(small.TEXTS + KNN.replace("knn", "fairness"))
    assert list(_problems(lambda: evaluate.sections(ungrouped))) == ["evaluate[2].groups"]
    for template, legal in (
        ("[]", False),
        ('["a {}", "{}"]', True),
        ('"a {}"', True),
        ("3", False),
    ):
        of_names = KNN.replace("knn", "zero_shot") + f"template = {template}\n"
        text = small.TEXTS + of_names
        if legal:
            evaluate.sections(_recipe(text))
        else:
            problems = _problems(lambda text=text: evaluate.sections(_recipe(text)))
            assert all(key.startswith("evaluate[2].template") for key in problems)
    unlabelled = _recipe(small.TEXTS + KNN.replace('label = "meta.colour"\n', ""))
    assert list(_problems(lambda: evaluate.sections(unlabelled))) == ["evaluate[2].label"]


def check_refusals() -> None:
    """A tower that is not there, a metric that nobody measures, an arm that counts twice."""
    recipe = _recipe(small.TEXTS + KNN + 'tower = "image"\n')
    sections = evaluate.sections(recipe)
    objective = pretrain.check(recipe.pretrain, _FOLDER)
    refused = _problems(lambda: evaluate.check(recipe, sections, objective))
    assert "the image tower, which Bag does not export" in refused["evaluate"]
    evaluate.check(recipe, sections[:2], objective)
    compare.check(recipe, sections, Store(_FOLDER), {})
    for line, key in (
        ('metric = "look.upp"', "compare.metric"), ('metric = "halves.share"', "compare.metric"),
        ('arms = ["random", "random"]', "compare.arms"), ('arms = ["rand"]', "compare.arms"),
        ('arms = ["stratified"]', "compare.stratify_by"),
        ('stratify_by = "meta.colour"', "compare.stratify_by"),
        ('arms = ["recipe:none.toml"]', "compare.arms"),
        ('claim = "rule"\narms = ["all", "stratified"]\nstratify_by = "text"', "compare.arms"),
        ('grid = "full"\narms = ["recipe", "untrained"]', "compare.grid"),
        ('grid = "full"\nsteps = 1', "compare.grid"),
    ):  # fmt: skip
        wrong = _recipe(small.TEXTS.replace(f"arms = {small.ALL}", line))
        assert list(
            _problems(lambda wrong=wrong: compare.check(wrong, sections, Store(_FOLDER), {}))
        ) == [key]
    unknown = _recipe(small.TEXTS.replace("steps = 2", "steps = 2\nscal = 3"))
    problems = _problems(lambda: pretrain.check(unknown.pretrain, _FOLDER))
    assert "Nearest: scale" in problems["pretrain.scal"]


def check_keys() -> None:
    """A training is another where its section, arm, seed or steps are, and nowhere else."""
    section = _recipe(small.TEXTS).pretrain
    assert section is not None
    one = pretrain.Training(
        _FOLDER, "web", Arm("a", records=1, draws=1, content="x"), section, 2, 3, _FOLDER
    )
    others = [
        replace(one, section=replace(section, lr=0.5)), replace(one, seed=4), replace(one, steps=3),
        replace(one, arm=Arm("a", records=1, draws=1, content="y")),
        replace(one, section=replace(section, batch=9)),
    ]  # fmt: skip
    keys = {json.dumps(training.made_by(), sort_keys=True) for training in (one, *others)}
    assert len(keys) == 6
    # The seed and the steps are the training's, whatever the section says; so is an arm's name.
    same = replace(
        one,
        section=replace(section, seed=9, steps=9),
        arm=Arm("b", records=1, draws=1, content="x"),
    )
    assert same.made_by() == one.made_by()
    untrained = [replace(one, steps=0, section=replace(section, lr=lr)) for lr in (0.1, 0.2)]
    assert untrained[0].made_by() == untrained[1].made_by() != one.made_by()


def check_rates() -> None:
    """A cell is a branch of its rate's trunk; the trunk is warmed up as the smallest budget is."""
    section = replace(_recipe(small.TEXTS).pretrain, schedule="infinite", cooldown_ratio=0.1)
    arm = Arm("a", records=1, draws=1, content="x")
    plain = pretrain.Training(_FOLDER, "web", arm, section, 10, 3, _FOLDER)
    assert grid.rows(section, 10, "one") == ((grid.Cell(1e-3, 1, 10),),)
    assert grid.training(plain, grid.Cell(1e-3, 1, 10), "one") is plain
    rows = grid.rows(section, 10, "full")
    assert [[(c.lr, c.budget, c.steps) for c in of] for of in rows] == [
        [(lr, 1, 10), (lr, 2, 20), (lr, 4, 40)] for lr in (1e-3, 1e-3 / 3, 1e-4)
    ]
    trainings = {cell: grid.training(plain, cell, "full") for of in rows for cell in of}
    for cell, branch in trainings.items():
        of = branch.section
        assert (of.schedule, of.lr, branch.steps) == ("warmup_stable_decay", cell.lr, cell.steps)
        assert of.decay_ratio == pytest.approx(0.2)
        assert of.cooldown_ratio is None
        assert of.warmup_ratio * branch.steps == pytest.approx(1)
        trunk, untils = branch.trunk, []
        while trunk is not None:
            of = trunk.section
            assert (of.schedule, of.lr, trunk.steps) == ("constant", cell.lr, 40)
            assert (of.warmup_ratio * 40, of.decay_ratio) == (pytest.approx(1), None)
            untils.append(trunk.until)
            trunk = trunk.trunk
        assert untils == [8 * budget for budget in (4, 2, 1) if budget <= cell.budget]
        assert (branch.arm, branch.seed, branch.until) == (arm, 3, None)
    keys = {json.dumps(branch.made_by(), sort_keys=True) for branch in trainings.values()}
    assert len(keys) == 9
    # The branches of a rate share their trunk.
    one, two, _ = (trainings[cell] for cell in rows[0])
    assert one.trunk is not None
    assert two.trunk is not None
    assert two.trunk.trunk == one.trunk
    assert one.trunk.made_by() != two.trunk.made_by() != trainings[rows[1][1]].trunk.made_by()
    untrained = replace(plain, steps=0)
    assert grid.training(untrained, rows[1][1], "full") is untrained


RANDOM = (1.0, 1.1, 1.0, 1.1)


def _cell(recipe: float, random: float = 0.0, way: bool = True) -> dict[str, list[Any]]:
    """A cell: random sets at RANDOM + random, the recipe by so much above their mean."""
    values = {
        "recipe": [1.05 + random + recipe], "random": [value + random for value in RANDOM],
        "untrained": [0.9 if way else 3.0] * 2,
    }  # fmt: skip
    return {
        arm: [evaluate.Evaluated(run, {}) for run in _runs(*of, way=way)]
        for arm, of in values.items()
    }


def _by_cell(way: bool = True, **changed: dict[str, list[Any]]) -> Any:
    """A grid of which the second rate is best, or the third where less is better."""
    rows = grid.rows(_recipe(small.TEXTS).pretrain, 10, "full")
    random = {"a": 0.2, "b": 0.5, "c": 0.1}
    return {
        cell: changed.get(f"{rate}{cell.budget}", _cell(0.0, random[rate], way))
        for rate, of in zip("abc", rows, strict=True)
        for cell in of
    }


DIVERGED = {
    "recipe": [evaluate.Evaluated({}, {}, "the loss is nan at step 3 of 9")], "random": [],
}  # fmt: skip


def _decided(by_cell: Any, way: bool = True) -> tuple[Any, Any, Any]:
    """The cell that decides, what it found, and the cells by rate and budget."""
    decides = compare._decides(by_cell, "m", {"m": way})
    runs = {arm: [run.metrics for run in of] for arm, of in by_cell[decides].items()}
    metrics = compare.found(runs, CompareSection(grid="full"))
    cells = compare.cells_of(by_cell, decides, metrics, CompareSection(grid="full"))
    return decides, metrics, dict(zip((a + b for a in "abc" for b in "124"), cells, strict=True))


def check_cells() -> None:
    """The cells' intervals are at level 1 - 0.05 / 9, and only beyond zero they contradict."""
    by_cell = _by_cell(
        b4=_cell(1.0, 0.5), a1=_cell(-0.3, 0.2), c4=_cell(-1.0, 0.1), a2=_cell(1.0, 0.2),
        b1=_cell(-5.0, -0.1), a4=DIVERGED,
    )  # fmt: skip
    decides, metrics, cells = _decided(by_cell)
    assert (decides.lr, decides.budget) == (1e-3 / 3, 4)
    answer = metrics["m"]["differences"]["recipe - random"]
    sd = 0.0577350 * math.sqrt(1.25)
    assert answer["high"] - answer["value"] == pytest.approx(sd * stats.t.ppf(0.975, 3))
    half = sd * stats.t.ppf(1 - 0.05 / 18, 3)
    assert 0.3 < half < 1
    for name, difference, verdict in (
        ("a1", -0.3, "this protocol cannot tell"), ("a2", 1.0, "better"), ("c4", -1.0, "worse"),
        ("b2", 0.0, "this protocol cannot tell"), ("b4", 1.0, "better"),
    ):  # fmt: skip
        assert cells[name]["difference"] == pytest.approx(difference)
        assert cells[name]["high"] - cells[name]["low"] == pytest.approx(2 * half)
        assert (cells[name]["verdict"], cells[name]["state"]) == (verdict, "trained")
    assert [name for name, cell in cells.items() if cell["contradicts"]] == ["c4"]
    assert [name for name, cell in cells.items() if cell["decides"]] == ["b4"]
    # However far below: random sets do not lie 2 sd above the untrained encoder.
    assert cells["b1"]["state"] == "not trained enough"
    assert cells["b1"]["verdict"] == "this protocol cannot tell"
    assert (cells["a4"]["state"], cells["a4"]["difference"]) == ("diverged", None)
    comparison = CompareSection(grid="full")
    said = compare.answered(metrics, comparison, 8, 40, list(cells.values()))
    assert said is not None
    assert said["cells"] == list(cells.values())
    assert (
        "equal size, at lr 0.00033 and 40 steps, the largest budget of the rate that is best for "
        "random sets: m 2.550"
    ) in said["text"]
    assert (
        f"Contradicted at lr 0.0001 and 40 steps: worse, -1.000 [{-1 - half:+.3f}, "
        f"{-1 + half:+.3f}] (level 1 - 0.05 / 9). Not trained enough: lr 0.00033 and 10 steps. "
        "Diverged: lr 0.001 and 40 steps."
    ) in said["text"]
    # An answer that tells nothing is contradicted by whatever tells something.
    _, _, cells = _decided(_by_cell(c4=_cell(-1.0, 0.1), a2=_cell(1.0, 0.2)))
    assert [name for name, cell in cells.items() if cell["contradicts"]] == ["a2", "c4"]


def check_deciding() -> None:
    """The largest budget that is trained somewhere decides, at the best rate for random sets."""
    for changed, way, expected in (
        ({}, True, (1e-3 / 3, 4)), ({}, False, (1e-4, 4)), ({"b4": DIVERGED}, True, (1e-3, 4)),
        ({"a4": DIVERGED, "b4": DIVERGED, "c4": DIVERGED}, True, (1e-3 / 3, 2)),
    ):  # fmt: skip
        found, _, _ = _decided(_by_cell(way, **changed), way)
        assert (found.lr, found.budget) == expected
    everywhere = {f"{rate}{budget}": DIVERGED for rate in "abc" for budget in (1, 2, 4)}
    with pytest.raises(DataError, match="do all trainings end: the loss is nan at step 3 of 9"):
        _decided(_by_cell(**everywhere))
    alone = {grid.Cell(1e-3, 1, 10): _cell(1.0)}
    assert compare._decides(alone, "m", {"m": None}) == grid.Cell(1e-3, 1, 10)


def check_saved() -> None:
    """Random's last score, 1.55, is half way between the recipe's at half and at all the steps."""
    curve = {"b1": _cell(-0.2, 0.0), "b2": _cell(0.2, 0.2), "b4": _cell(0.1, 0.5)}
    by_cell = _by_cell(**curve)
    comparison = CompareSection(grid="full")

    def saved(by_cell: Any, way: bool = True) -> Any:
        decides, metrics, cells = _decided(by_cell, way)
        found = compare.saved_of(by_cell, decides, metrics, comparison)
        said = compare.answered(metrics, comparison, 8, 40, list(cells.values()), found)
        assert said is not None
        assert said["steps_saved"] == found
        return found, said["text"]

    # The recipe's means are 0.85, 1.45 and 1.65.
    found, text = saved(by_cell)
    assert found["value"] == pytest.approx(math.sqrt(2))
    low, high = (v if isinstance(v, str) else f"{v:.2f}" for v in (found["low"], found["high"]))
    assert f"Steps saved for random's final score: 1.41 [{low}, {high}]." in text
    assert saved(_by_cell(b4=_cell(-0.5, 0.5)))[0]["value"] == "< 1"
    assert saved(_by_cell(b1=_cell(0.9)))[0]["value"] == "> 4"
    # Less is better: the third rate decides, at 1.15, and the recipe has 0.65 at once.
    assert saved(_by_cell(False, c1=_cell(-0.5, 0.1, False)), False)[0]["value"] == "> 4"
    # A budget that diverged is passed over, and one budget alone is no curve.
    assert saved(_by_cell(b1=DIVERGED, b2=_cell(0.9)))[0]["value"] == "> 2"
    assert saved(_by_cell(b1=DIVERGED, b2=DIVERGED))[0] is None
    # What learns nothing has no final score.
    flat = {f"{rate}4": _cell(0.0, -0.1) for rate in "abc"}
    found, text = saved(_by_cell(**flat))
    assert found is None
    assert "final score" not in text


def check_foretold() -> None:
    """Of branches that share a trunk its steps count once; what is found is not counted."""
    section = _recipe(small.TEXTS).pretrain
    plain = pretrain.Training(_FOLDER, "web", Arm("a"), section, 10, 3, _FOLDER)
    rates = [
        [
            evaluate.Evaluation(grid.training(plain, cell, "full"), (), Object("", 0, 0, "a"), ())
            for cell in of
        ]
        for of in grid.rows(section, 10, "full")
    ]
    row = [task.training for task in rates[0]]
    assert [sum(grid.steps_of(of)) for of in (row[:1], row[1:2], row)] == [10, 20, 32 + 2 + 4 + 8]
    assert grid.steps_of(row) == [32, 2, 4, 8]
    assert grid.steps_of([plain]) == [0, 10]
    # A store of its own: the planted mutants ask again and again.
    store, said, tried = Store(Path(tempfile.mkdtemp(dir=_FOLDER))), [], []

    def timed(task: pretrain.Training) -> pretrain.Cost:
        tried.append(task)
        return pretrain.Cost(3.0, 0.5, 10**11, 10**12, 10**9)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grid, "timed", timed)
        grid.foretell(store, rates, Workers(), said.append)
        for task in (rates[0][1], rates[1][0].training, rates[1][2]):
            store.publish_manifest(task.made_by(), [])
        grid.foretell(store, rates[:2], Workers(), said.append)
        alone = replace(rates[0][0], training=plain)
        grid.foretell(store, [[alone], [rates[0][1]]], Workers(), said.append)
    assert said == [
        "grid: 9 trainings, 138 steps of 3 s: about 6.9 minutes with 1 worker, evaluation apart; "
        "about 9,000,000.0 MB of disk for encoders and, until they are trained, 400,000.0 MB for "
        "states",
        # Budgets 1 and 4 of the first rate, 2 of the second.
        "grid: 3 trainings, 62 steps of 3 s: about 3.1 minutes with 1 worker, evaluation apart; "
        "about 3,000,000.0 MB of disk for encoders and, until they are trained, 300,000.0 MB for "
        "states",
    ]
    # The smallest rate is tried: what diverges there at once does so everywhere.
    assert [task.section.lr for task in tried] == [1e-4, 1e-3 / 3]


def check_rows() -> None:
    """What is stored of an evaluation is what was measured, items in their order."""
    metrics = {
        "a": Metric(0.5, 2, 0.1, 0.9, True, np.array([0.0, 1.0])),
        "b": Metric(2.0, 3, 1.0, 3.0, False, np.array([3.0, 1.0, 2.0]), "median"),
        "c": Metric(0.1, 7, 0.1, 0.1, None),
    }
    again = evaluate._metrics_of(evaluate._rows_of(metrics))
    assert again == metrics
    assert list(again) == ["a", "b", "c"]
    assert {name: of.statistic for name, of in again.items()} == {
        "a": "mean", "b": "median", "c": "mean",
    }  # fmt: skip
    for name in "ab":
        assert np.array_equal(again[name].items, metrics[name].items)
    assert again["c"].items is None


def check_lines() -> None:
    scored = {"same.cluster, meta.label": {"f1": {"value": 0.5}, "recall": {"value": 1.0}}}
    assert evaluate.text(scored) == "  same.cluster, meta.label: f1 0.500, recall 1.000"


def check_saving() -> None:
    """A state of a training is whole where the kill that tests its resumption comes."""
    path, log = _FOLDER / "state", _FOLDER / "passed"
    log.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINNOW_FAILPOINT_LOG", str(log))
        pretrain._save(path, b"a state", Store(_FOLDER / "saving").temporary)
    assert path.read_bytes() == b"a state"
    assert "pretrain.saved" in log.read_text()


PLAIN: tuple[Callable[[], None], ...] = (
    check_verdicts, check_items, check_worth, check_several_questions, check_sentence,
    check_undecided, check_random_arm, check_halves_of_groups, check_groups_join,
    check_sections, check_refusals, check_keys, check_rates, check_cells, check_deciding,
    check_saved, check_foretold, check_rows, check_lines, check_saving,
)  # fmt: skip


def check_own_export(evidence: Evidence) -> None:
    """What the recipe exports as tars is exported for no arm."""
    [union] = evidence.project.store.root.glob("arms/*/union-*")
    assert not set(shards.ShardSamples(union).uids.tolist()) & set(evidence.kept)


def check_both(evidence: Evidence) -> None:
    check_own_export(evidence)
    check_towers(evidence)
    check_pairs(evidence)


def check_texts(evidence: Evidence) -> None:
    check_arms(evidence)
    check_values(evidence, "./mine.py:Bag", "look", "text")
    check_differences(evidence)
    check_answer(evidence)
    check_halves(evidence)
    check_checkpoint(evidence, "./mine.py:Bag", "text", "look")
    check_parts(evidence)
    check_strata(evidence)
    check_other_recipe(evidence)
    check_sealed(evidence)
