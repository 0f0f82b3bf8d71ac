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

from contracts.errors import ConfigError
from contracts.uid import uid_of, uniform
from embeddings.checkpoint import Checkpoint
from evaluation.features import Features
from evaluation.protocols.retrieval import retrieval
from evaluation.protocols.zero_shot import zero_shot
from flows.answer import compare, evaluate, pretrain
from flows.answer.pretrain import Arm
from flows.recipe.sections import parsed
from pretraining.batches import batches
from pretraining.build import build
from pretraining.checkpoint import description_of, exported, rebuild
from pretraining.train import train
from storage import shards
from storage.store import Store
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


def encoder(evidence: Evidence, objective: str, name: str, seed: int, tower: str) -> Any:
    """Train an arm by the trainer alone, and return one tower of what comes out."""
    encoders = {
        "clip": ("small_cnn", small.CNN, {"dim": 8}),
        "simclr": ("small_cnn", small.CNN, {}),
    }
    encoder_name, parameters, own = encoders.get(objective, ("small_cnn", {}, {}))
    folder = evidence.project.recipe_dir
    made = build(
        objective, own, encoder_name, parameters,
        text_encoder_section=small.WORDS, seed=seed, recipe_dir=folder,
    )  # fmt: skip
    if name != "untrained":
        samples = Samples(evidence.rows, evidence.arm(name, seed))

        def batches_from(start: int) -> Any:
            return batches(
                samples, reads=made.reads, side_px=16, batch=8, seed=seed, start=start,
                steps=STEPS, tokenize=getattr(made, "tokenize", None),
            )  # fmt: skip

        train(made, batches_from, steps=STEPS, lr=1e-3, seed=seed)
    data = exported(made, {"side_px": 16})
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
    folders: dict[str, list[dict[int, int]]] = {}
    for folder in (evidence.project.store.root / "arms" / "web").glob("*-*"):
        samples = shards.ShardSamples(folder)
        arm = dict(zip(samples.uids.tolist(), samples.repeats.tolist(), strict=True))
        folders.setdefault(folder.name.partition("-")[0], []).append(arm)
    named = set(evidence.answer["arms"])
    expected = {
        name: [evidence.arm(name, seed) for seed in SEEDS] for name in named - {"untrained"}
    }
    for name, arms in expected.items():
        wanted = {frozenset((u, n) for u, n in arm.items() if n) for arm in arms}
        assert {frozenset(arm.items()) for arm in folders[name]} == wanted, name
    draws = sum(evidence.kept.values())
    counts = {name: (arm["records"], arm["draws"]) for name, arm in evidence.answer["arms"].items()}
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


def check_differences(evidence: Evidence) -> None:
    """Paired over seeds: t(0.975, 1) = 12.7062, and less of `down` is as good as more of `up`."""
    for name, of in evidence.answer["metrics"].items():
        if of["higher_is_better"] is None:
            assert of["differences"] == {}
            continue
        assert set(of["differences"]) == {
            f"{arm} - random" for arm in ("recipe", "all", "untrained")
        }
        for arms, found in of["differences"].items():
            arm, baseline = (of["values"][a] for a in arms.split(" - "))
            d = [a - b for a, b in zip(arm, baseline, strict=True)]
            half = 12.7062 * abs(d[0] - d[1]) / 2
            assert found["value"] == pytest.approx(sum(d) / 2)
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
    assert f"over 2 seeds, 2 steps each, {draws} draws" in answer["text"]
    assert (
        answer["verdict"]
        == evidence.answer["metrics"][metric]["differences"]["recipe - random"]["verdict"]
    )
    within = evidence.answer["metrics"][metric]["within"]
    assert {arm: of["value"] for arm, of in within.items()} == {
        arm: values[0] for arm, values in evidence.values(metric).items()
    }
    assert within["recipe"]["n"] == len(evidence.held)
    assert evidence.answer["seeds"] == list(SEEDS)
    assert evidence.answer["steps"] == STEPS


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
    accuracy = zero_shot(Features(image, numbers), classes)["accuracy"].value
    assert evidence.values("zero_shot.accuracy")["recipe"][0] == accuracy


# ------------------------------------------------------------------ without a run


def _runs(*values: float, way: bool | None = True) -> list[dict[str, Any]]:
    return [
        {"m": {"value": v, "n": 9, "low": v, "high": v, "higher_is_better": way}} for v in values
    ]


def check_verdicts() -> None:
    """Arms 2 above random, give or take 0.1, are better where more is, worse where less is."""
    for recipe, way, verdict in (
        ((3.0, 3.1, 3.2), True, "better"),
        ((3.0, 3.1, 3.2), False, "worse"),
        ((-1.0, -0.9, -1.1), True, "worse"),
        ((-1.0, -0.9, -1.1), False, "better"),
        ((3.0, 0.0, 1.0), True, "no measurable difference"),
        ((math.nan, 3.1, 3.2), True, "no measurable difference"),
    ):
        found = compare._metrics(
            {"random": _runs(1.0, 1.1, 1.0, way=way), "recipe": _runs(*recipe, way=way)}
        )
        assert found["m"]["differences"]["recipe - random"]["verdict"] == verdict, (recipe, way)
        assert found["m"]["higher_is_better"] is way
    one = compare._metrics({"random": _runs(1.0), "recipe": _runs(3.0)})
    assert one["m"]["differences"] == {}
    alone = compare._metrics({"recipe": _runs(3.0, 3.0)})
    assert alone["m"]["differences"] == {}


def check_sentence() -> None:
    """The verdict's sentence is about the metric that was chosen."""
    pairs = {"random": (1.0, 1.1, 1.0), "recipe": (3.0, 3.1, 3.2)}
    by_arm = {
        arm: [{"a": of["m"], "b": {**of["m"], "value": -of["m"]["value"]}} for of in _runs(*values)]
        for arm, values in pairs.items()
    }
    metrics = compare._metrics(by_arm)
    arms = {arm: [Arm(arm, None, 7, 8, "")] for arm in pairs}
    first = compare._answer(metrics, None, arms, 5, [0, 1, 2])
    second = compare._answer(metrics, "b", arms, 5, [0, 1, 2])
    assert first is not None
    assert second is not None
    assert (first["metric"], first["verdict"]) == ("a", "better")
    assert (second["metric"], second["verdict"]) == ("b", "worse")
    assert first["text"].startswith(
        "The curated set is better than a random one of equal size: a 3.100 against 1.033, "
        "difference +2.067"
    )
    assert "over 3 seeds, 5 steps each, 8 draws). The metric is the first of" in first["text"]
    assert second["text"].startswith(
        "The curated set is worse than a random one of equal size: b -"
    )
    assert "The metric is that of [compare]." in second["text"]
    assert (
        compare._answer(compare._metrics({"recipe": by_arm["recipe"]}), None, arms, 5, [0]) is None
    )


def check_random_arm() -> None:
    """As many draws, none repeated while records last, another set for another seed."""
    everyone = pl.Series("uid", range(100, 130), dtype=pl.UInt64)
    some = compare.random_arm(everyone, 10, 0)
    assert some["repeats"].to_list() == [1] * 10
    assert some["uid"].is_in(everyone.implode()).all()
    assert set(some["uid"]) != set(compare.random_arm(everyone, 10, 1)["uid"])
    # Of one order of records: more draws are the same and some more.
    assert set(some["uid"]) < set(compare.random_arm(everyone, 11, 0)["uid"])
    again = compare.random_arm(everyone.reverse(), 10, 0)
    assert set(again["uid"]) == set(some["uid"])
    many = compare.random_arm(everyone, 70, 0)
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
        ('template = "a {}"\n', "evaluate[2].template"), ('tower = "sound"\n', "evaluate[2].tower"),
        ('cluster = "a.cluster"\n', "evaluate[2].cluster"), ("kk = 3\n", "evaluate[2].kk"),
    ):  # fmt: skip
        first = 'name = "look"\n' if key == "evaluate[2].name" else ""
        text = small.TEXTS.replace(small.LOOK, small.LOOK + first) + KNN + more
        assert key in _problems(lambda text=text: evaluate.sections(_recipe(text))), more
    clusters = _recipe(small.TEXTS + KNN + 'cluster = "a.cluster"')
    assert _problems(lambda: evaluate.sections(clusters)) == {
        "evaluate[2].cluster": "knn compares vectors."
    }
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
    compare.check(recipe, sections)
    for line, key in (
        ('metric = "look.upp"', "compare.metric"), ('metric = "halves.share"', "compare.metric"),
        ('arms = ["random", "random"]', "compare.arms"),
    ):  # fmt: skip
        wrong = _recipe(small.TEXTS.replace(f"arms = {small.ALL}", line))
        assert list(_problems(lambda wrong=wrong: compare.check(wrong, sections))) == [key]
    unknown = _recipe(small.TEXTS.replace("steps = 2", "steps = 2\nscal = 3"))
    problems = _problems(lambda: pretrain.check(unknown.pretrain, _FOLDER))
    assert "Nearest: scale" in problems["pretrain.scal"]


def check_keys() -> None:
    """A training is another where its section, arm, seed or steps are, and nowhere else."""
    section = _recipe(small.TEXTS).pretrain
    assert section is not None
    one = pretrain.Training(_FOLDER, "web", Arm("a", None, 1, 1, "x"), section, 2, 3, _FOLDER)
    others = [
        replace(one, section=replace(section, lr=0.5)), replace(one, seed=4), replace(one, steps=3),
        replace(one, arm=Arm("a", None, 1, 1, "y")),
        replace(one, section=replace(section, batch=9)),
    ]  # fmt: skip
    keys = {json.dumps(training.made_by(), sort_keys=True) for training in (one, *others)}
    assert len(keys) == 6
    # The seed and the steps are the training's, whatever the section says; so is an arm's name.
    same = replace(one, section=replace(section, seed=9, steps=9), arm=Arm("b", None, 1, 1, "x"))
    assert same.made_by() == one.made_by()
    untrained = [replace(one, steps=0, section=replace(section, lr=lr)) for lr in (0.1, 0.2)]
    assert untrained[0].made_by() == untrained[1].made_by() != one.made_by()


def check_lines() -> None:
    scored = {"same.cluster, meta.label": {"f1": {"value": 0.5}, "recall": {"value": 1.0}}}
    assert evaluate.text(scored) == "  same.cluster, meta.label: f1 0.500, recall 1.000"


def check_saving() -> None:
    """A state of a training is whole where the kill that tests its resumption comes."""
    path, log = _FOLDER / "state", _FOLDER / "passed"
    log.unlink(missing_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WINNOW_FAILPOINT_LOG", str(log))
        pretrain._save(Store(_FOLDER / "saving"), path, b"a state")
    assert path.read_bytes() == b"a state"
    assert "pretrain.saved" in log.read_text()


PLAIN: tuple[Callable[[], None], ...] = (
    check_verdicts, check_sentence, check_random_arm, check_halves_of_groups, check_groups_join,
    check_sections, check_refusals, check_keys, check_lines, check_saving,
)  # fmt: skip


def check_own_export(evidence: Evidence) -> None:
    """No arm is made of records that the recipe exports as tars."""
    made = evidence.project.store.root.glob("arms/*/*-*")
    assert {path.name.partition("-")[0] for path in made} == {"random"}


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
