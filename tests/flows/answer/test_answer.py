"""The answer, through flows: pretrain, evaluate and compare, for texts, images and pairs."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError, DataError
from flows.answer import evaluate
from flows.answer.evaluate import EvaluateSection
from flows.recipe.sections import parsed
from flows.reporter import Reporter
from flows.upkeep.verify import unknown, verify
from storage.shards import ShardSamples
from tests.flows.answer import facts, small
from tests.flows.answer.facts import Evidence


@pytest.fixture(scope="module")
def texts(measured: Callable[[str], Any]) -> Evidence:
    return Evidence(measured(small.TEXTS), small.TEXTS)


@pytest.fixture(scope="module")
def pairs(measured: Callable[[str], Any]) -> Evidence:
    return Evidence(measured(small.PAIRS), small.PAIRS)


@pytest.fixture(scope="module")
def images(measured: Callable[[str], Any]) -> Evidence:
    return Evidence(measured(small.IMAGES), small.IMAGES)


@pytest.mark.parametrize("check", facts.PLAIN, ids=lambda check: check.__name__)
def test_what_needs_no_run_is_as_computed_by_hand(check: Callable[[], None]):
    check()


def test_the_arms_are_the_kept_records_random_draws_and_all_but_the_hold_out(texts: Evidence):
    facts.check_arms(texts)


def test_texts_alone_an_arms_value_is_that_of_the_encoder_its_records_and_seed_make(
    texts: Evidence,
):
    facts.check_values(texts, "./mine.py:Bag", "look", "text")


def test_pairs_each_tower_is_evaluated_for_itself(pairs: Evidence):
    facts.check_towers(pairs)


def test_pairs_a_picture_is_compared_with_its_own_text_and_class(pairs: Evidence):
    facts.check_pairs(pairs)


def test_images_alone_an_arms_value_is_that_of_the_encoder_its_records_and_seed_make(
    images: Evidence,
):
    facts.check_values(images, "simclr", "look", "image")
    facts.check_arms(images)


@pytest.mark.parametrize("image", ["keep", "jpeg"])
def test_the_recipes_own_export_is_its_arm_where_it_has_tars(
    image: str, measured: Callable[[str], Any]
):
    # Other shards, in another order and with more columns, train the same weights.
    ways = {
        "shards": 'format = ["webdataset", "parquet"]\nshard_records = 5\ncolumns = ["width"]\n',
        "arms": 'format = ["parquet"]\n',
    }
    found = {}
    for way, keys in ways.items():
        project = measured(small.BARE_PAIRS)
        recipe = f'{small.BARE_PAIRS}[export]\nimage = "{image}"\n{keys}'
        result = project.run(recipe, until="evaluate")
        [union] = (project.store.root / "arms").glob("*/union-*")
        kept = project.kept()
        twice = kept & set(ShardSamples(union).uids.tolist())
        assert twice == (set() if way == "shards" else kept)
        found[way] = (result["evaluation"]["metrics"], Path(result["checkpoint"]).name)
    assert found["shards"] == found["arms"]


def test_what_an_answer_rests_on_is_verified_and_made_again_as_verify_says(
    measured: Callable[[str], Any],
):
    project = measured(small.TEXTS)
    result = project.run(small.TEXTS, until="evaluate")
    store = project.store
    assert (verify(store, deep=True), unknown(store)) == ([], [])

    checkpoint = Path(result["checkpoint"])
    checkpoint.unlink()
    [said] = verify(store)
    assert said.startswith(f"{checkpoint}: is missing. Delete it, then: winnow run ")
    again = project.run(small.TEXTS, until="evaluate")
    assert (again["changed"], again["evaluation"]) == (True, result["evaluation"])
    assert verify(store) == []

    lost = next((store.root / "objects/web/evaluations").iterdir())
    lost.unlink()
    [said] = verify(store)
    manifest = said.partition(" and ")[2].partition(": ")[0]
    assert said == (
        f"{lost}: is missing. Delete it and {manifest}: it is made again when it is needed."
    )
    Path(manifest).unlink()
    assert verify(store) == []

    [held_out] = store.root.glob("objects/web/holdout.web/*")
    held_out.write_bytes(held_out.read_bytes()[:-1])
    [said] = verify(store, deep=True)
    assert said.startswith(f"{held_out}: is damaged")


def test_questions_to_a_hold_out_are_counted_and_a_stored_answer_is_none(
    measured: Callable[[str], Any],
):
    project = measured(small.TEXTS)

    def asked(recipe: str, **options: Any) -> tuple[int, str]:
        found = project.run(recipe, until="evaluate", **options)["evaluation"]["answer"]
        return found["asked"], found["text"]

    first = small.TEXTS
    assert asked(first) == (1, asked(first)[1])
    # Another metric, other records: other questions; more trainings of one are none.
    other_metric = first.replace("seeds = 2", 'seeds = 2\nmetric = "look.down"')
    other_records = first.replace("meta.number < 27", "meta.number < 26")
    assert asked(other_metric)[0] == 2
    assert asked(other_records)[0] == 3
    count, text = asked(other_records.replace("random_sets = 2", "random_sets = 3"))
    assert count == 3
    assert "It is one of 3 different questions to this hold-out" in text
    # Other held-out records have been asked nothing yet.
    assert asked(first.replace("ratio = 0.4", "ratio = 0.5"))[0] == 1
    [refs] = [project.store.versions("asked", name) for name in project.store.names("asked")[:1]]
    assert refs
    assert (verify(project.store, deep=True), unknown(project.store)) == ([], [])


def test_the_sealed_part_is_answered_on_when_it_is_unsealed_and_that_is_counted_apart(
    measured: Callable[[str], Any],
):
    project = measured(small.TEXTS)
    with pytest.raises(ConfigError, match="nothing is sealed"):
        project.run(small.TEXTS, until="evaluate", unseal=True)
    recipe = small.TEXTS.replace("ratio = 0.4", "ratio = 0.4\nsealed_ratio = 0.5")
    closed = project.run(recipe, until="evaluate")["evaluation"]
    opened = project.run(recipe, until="evaluate", unseal=True)["evaluation"]
    assert (closed["sealed"], opened["sealed"]) == (False, True)
    n = [of["metrics"]["look.up"]["within"]["recipe"]["n"] for of in (closed, opened)]
    assert min(n) > 0
    held = project.run(small.TEXTS, until="evaluate")["evaluation"]
    assert sum(n) == held["metrics"]["look.up"]["within"]["recipe"]["n"]
    assert "the first question to this sealed part of the hold-out" in opened["answer"]["text"]
    # The same trainings: only what they are scored on is another.
    checkpoints = list((project.store.root / "objects/web/checkpoints").iterdir())
    assert len({path.name.partition(".")[0] for path in checkpoints}) == len(checkpoints)
    other = recipe.replace("meta.number < 27", "meta.number < 26")
    again = project.run(other, until="evaluate", unseal=True)["evaluation"]["answer"]
    assert (
        "2 different questions to this sealed part of the hold-out (web by look.up, web"
        in (again["text"])
    )


def test_what_a_recipe_does_is_answered_over_parts_and_the_checkpoint_is_of_all_it_keeps(
    measured: Callable[[str], Any],
):
    project = measured(small.TEXTS)
    recipe = small.TEXTS.replace("seeds = 2", 'claim = "rule"\nparts = 2')
    evidence = Evidence(project, recipe)
    answer = evidence.answer["answer"]
    assert (answer["claim"], answer["seeds"], answer["random_sets"]) == ("rule", 2, 2)
    values = evidence.values("look.up")
    d = [a - b for a, b in zip(values["recipe"], values["random"], strict=True)]
    assert answer["difference"] == pytest.approx(sum(d) / 2)
    assert answer["high"] - answer["difference"] == pytest.approx(12.7062 * abs(d[0] - d[1]) / 2)
    # The parts together keep what the recipe keeps of all.
    draws = sum(evidence.kept.values())
    assert f"2 steps each, {draws} draws in all parts" in answer["text"]
    arms = project.store.root.glob("objects/web/arm.web/recipe-*.parquet")
    parts = [dict(pl.read_parquet(path).iter_rows()) for path in arms]
    assert len(parts) == 2
    assert {**parts[0], **parts[1]} == evidence.kept
    whole = Evidence(measured(small.TEXTS), small.TEXTS)
    names = [Path(of.result["checkpoint"]).name.partition(".")[2] for of in (evidence, whole)]
    assert names[0] == names[1]
    # The question is what is kept of every part: other records of one part are another.
    other = recipe.replace("meta.number < 27", "meta.number < 26")
    assert Evidence(project, other).answer["answer"]["asked"] == 2


def test_what_can_be_told_is_said_before_the_trainings_end(measured: Callable[[str], Any]):
    project, said = measured(small.TEXTS), []
    recipe = small.TEXTS.replace("random_sets = 2", "random_sets = 3")

    def lines(text: str) -> list[str]:
        said.clear()
        reporter = Reporter(line=said.append)
        found = project.run(text, until="evaluate", reporter=reporter)["evaluation"]
        values = found["metrics"]["look.up"]["values"]["random"]
        sd = {n: float(np.std(values[:n], ddof=1)) for n in (2, len(values))}
        told = [line for line in said if "can be told" in line]
        # t(0.975, 2) = 4.3027 and t(0.975, 3) = 3.1824, times sqrt(1 + 1 / R).
        factors = {3: 4.3027 * math.sqrt(4 / 3), 4: 3.1824 * math.sqrt(5 / 4)}
        shown = {
            n: f"±{factors[len(values)] * of:.3g} can be told (sd {of:.3g}" for n, of in sd.items()
        }
        return [told[0], shown[2], shown[len(values)]]

    line, of_two, of_all = lines(recipe)
    assert f"look.up: a difference beyond {of_two}, as of the first two random sets)" == line
    before = of_all.partition("(")[2]
    line, *_ = lines(recipe.replace("random_sets = 3", "random_sets = 3\nsteps = 1"))
    assert "first two random sets" in line
    lines(recipe)
    line, *_ = lines(recipe.replace("random_sets = 3", "random_sets = 4"))
    assert f"({before}, as of version 4)" in line


def test_differences_have_the_prediction_interval_of_the_random_sets(texts: Evidence):
    facts.check_differences(texts)


def test_the_answer_says_what_the_first_metric_shows(texts: Evidence):
    facts.check_answer(texts)


@pytest.mark.parametrize(
    "check",
    [facts.check_parts, facts.check_strata, facts.check_other_recipe, facts.check_sealed],
    ids=lambda check: check.__name__,
)
def test_the_sets_of_other_comparisons_are_as_computed_by_hand(
    texts: Evidence, check: Callable[[Evidence], None]
):
    check(texts)


def test_no_group_is_in_both_halves_of_a_probe(texts: Evidence):
    facts.check_halves(texts)


def test_the_checkpoint_of_a_run_is_the_recipes_of_the_first_seed(texts: Evidence):
    facts.check_checkpoint(texts, "./mine.py:Bag", "text", "look")


def test_two_sections_of_one_protocol_keep_both(images: Evidence):
    colour, motif = (images.values(f"{name}.accuracy")["recipe"] for name in ("knn", "knn#2"))
    # A motif lies whole in one half, so none of the other half's is ever guessed.
    assert motif == [0.0, 0.0]
    assert min(colour) > 0


# ------------------------------------------------------------------ what is used, how it is read


def test_the_hold_out_is_read_and_encoded_a_few_records_at_a_time(
    measured: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
):
    from embeddings.checkpoint import Checkpoint
    from flows.measure import tasks
    from storage import tables

    project = measured(small.IMAGES)
    batches: list[int] = []
    call, put = Checkpoint.__call__, tables.put
    written: list[Any] = []

    def counted(encoder: Any, rows: Any) -> Any:
        batches.append(rows.height)
        return call(encoder, rows)

    def kept(store: Any, frame: Any, **names: Any) -> Any:
        if names["table"].startswith("holdout."):
            written.append(frame)
        return put(store, frame, **names)

    monkeypatch.setattr(tasks, "CHUNK_ROWS", 3)
    monkeypatch.setattr(Checkpoint, "__call__", counted)
    monkeypatch.setattr(tables, "put", kept)
    evidence = Evidence(project, small.IMAGES.replace(small.TWO, '["untrained"]'))
    facts.check_values(evidence, "simclr", "look", "image")
    held = len(evidence.held)
    assert max(batches[: -(-held // 3)]) <= 3
    assert sum(batches[: -(-held // 3)]) == held
    (records,) = written
    assert records.height == held
    # Neither pictures nor texts, but whether they are there.
    assert records.schema["image"] == records.schema["text"] == pl.Boolean
    assert pl.Binary not in records.schema.values()


def test_what_a_protocol_cannot_use_is_counted_and_said(measured: Callable[[str], Any]):
    project, said = measured(small.TEXTS), []
    label = "CASE WHEN meta.motif NOT IN ('m1', 'm4') THEN meta.colour END"
    recipe = small.TEXTS.replace(small.ALL, '["untrained"]').replace(
        'label = "meta.colour"', f'label = "{label}"'
    )
    recipe = recipe.replace("ratio = 0.4", "where = \"meta.motif IN ('m1', 'm2', 'm3', 'm4')\"")
    reporter = Reporter(line=said.append)
    found = project.run(recipe, until="evaluate", reporter=reporter)["evaluation"]
    assert found["passed_over"] == {"look": {"without a label": 4}}
    assert "look: passes over held-out records 4 without a label" in said
    assert found["metrics"]["look.up"]["within"]["untrained"]["n"] == 4
    assert found["metrics"]["halves.share"]["within"]["untrained"]["n"] == 8


@pytest.mark.parametrize(
    ("name", "tower", "used", "lacking"),
    [
        ("knn", "image", "abe", {"without an image": 2, "without a label": 1}),
        ("knn", "text", "ade", {"without a text": 2, "without a label": 1}),
        ("zero_shot", None, "abe", {"without an image": 2, "without a label": 1}),
        (
            "retrieval",
            None,
            "ae",
            {"without an image": 2, "without a text": 1, "without a label": 1},
        ),
    ],
)
def test_a_record_is_used_where_it_has_all_that_a_protocol_compares(
    name: str, tower: Any, used: str, lacking: dict[str, int]
):
    rows = pl.DataFrame(
        {
            "id": list("abcdef"),
            "image": [True, True, True, False, True, False],
            "text": [True, False, True, True, True, False],
            "label.0": ["x", "x", None, "y", "y", "y"],
        }
    )
    section = EvaluateSection(
        protocol=name, name=name, label="meta.label", tower=tower, parameters={}
    )
    found, missing = evaluate.usable(section, 0, rows, Path())
    assert "".join(rows["id"].filter(pl.Series(found))) == used
    assert {what: n for what, n in missing.items() if n} == lacking


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("meta.number = 100", "holds out no record"),
        ("meta.number % 20 = 10", "are one group, which no two halves may share"),
    ],
)
def test_a_hold_out_that_no_protocol_can_use_is_refused_before_anything_is_trained(
    measured: Callable[[str], Any], where: str, message: str
):
    project = measured(small.TEXTS)
    recipe = small.TEXTS.replace("ratio = 0.4", f'where = "{where}"')
    with pytest.raises(DataError, match=message):
        project.run(recipe, until="evaluate")
    assert not list(project.store.root.rglob("checkpoints"))


def test_near_records_are_one_group(measured: Callable[[str], Any]):
    near = '[annotate.like]\nstep = "exact_clusters"\ndigest = "meta.colour"\n'
    recipe = small.TEXTS.replace('by_group = "meta.motif"', 'near = "like"')
    recipe = recipe.replace("ratio = 0.4", 'where = "meta.number < 2"') + near
    recipe = recipe.replace("meta.motif", "meta.colour").replace(small.ALL, '["untrained"]')
    found = measured(small.TEXTS).run(recipe, until="evaluate")["evaluation"]["metrics"]
    assert found["halves.shared"]["values"]["untrained"] == [0.0, 0.0]
    assert found["halves.share"]["within"]["untrained"]["n"] == 28


def test_records_of_one_series_are_one_group(projects: Callable[[], Any]):
    project = projects()
    small.write(project)
    recipe = small.TEXTS.replace('id = "id"', 'id = "id"\nseries = "motif"')
    recipe = recipe.replace('ratio = 0.4\nby_group = "meta.motif"', "ratio = 0.6")
    recipe = recipe.replace("meta.motif", "series").replace(small.ALL, '["untrained"]')
    found = project.run(recipe, until="evaluate")["evaluation"]["metrics"]
    assert found["halves.shared"]["values"]["untrained"] == [0.0, 0.0]


def test_a_protocol_of_ones_own_is_asked_again_when_its_code_changes(
    measured: Callable[[str], Any],
):
    project = measured(small.TEXTS)
    recipe = small.TEXTS.replace(small.ALL, '["untrained"]')
    before = Evidence(project, recipe).values("look.up")["untrained"]
    mine = project.recipe_dir / "mine.py"
    mine.write_text(mine.read_text().replace("value = float(", "value = 1000 + float("))
    after = Evidence(project, recipe)
    assert after.result["changed"]
    assert after.values("look.up")["untrained"] == [pytest.approx(v + 1000) for v in before]


# ------------------------------------------------------------------ what is refused


def _refused(project: Any, recipe: str) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        project.run(recipe, until="evaluate")
    return {problem.key: problem.message for problem in refused.value.problems}


KNN = '[[evaluate]]\nprotocol = "knn"\nlabel = "meta.colour"\n'


@pytest.mark.parametrize(
    ("more", "key", "message"),
    [
        (KNN + 'name = "a"\n' + KNN + 'name = "a"', "evaluate[3].name", "'a' is taken"),
        (KNN + 'name = "a.b"', "evaluate[2].name", "without a dot"),
        (KNN + 'tower = "sound"', "evaluate", "the sound tower, which Bag does not export"),
        (KNN + 'tower = "image"', "evaluate", "the image tower, which Bag does not export"),
        (KNN + 'template = "a {}"', "evaluate[2].template", "makes no texts of labels"),
        (
            '[[evaluate]]\nprotocol = "retrieval"\ntower = "text"',
            "evaluate[2].tower",
            "no one tower",
        ),
        ('[[evaluate]]\nprotocol = "retrieval"', "evaluate", "the image tower, which Bag does not"),
        ('[[evaluate]]\nprotocol = "./mine.py:Bag"', "evaluate[2]", "declares no metrics"),
    ],
)
def test_a_section_that_cannot_be_evaluated_is_refused_with_its_key(
    measured: Callable[[str], Any], more: str, key: str, message: str
):
    project = measured(small.TEXTS)
    problems = _refused(project, f"{small.TEXTS}\n{more}\n")
    assert message in problems[key]
    assert not (project.store.root / "arms").exists()


@pytest.mark.parametrize(
    ("line", "key", "message"),
    [
        ('metric = "look.upp"', "compare.metric", "no [[evaluate]] measures it. Nearest: look.up"),
        ('metric = "halves.share"', "compare.metric", "is no score, but a setting"),
        (
            'arms = ["recipe", "random", "random"]',
            "compare.arms",
            "its trainings would count twice",
        ),
    ],
)
def test_a_comparison_without_an_answer_is_refused_before_anything_is_trained(
    measured: Callable[[str], Any], line: str, key: str, message: str
):
    recipe = small.TEXTS.replace(f"arms = {small.ALL}", line)
    problems = _refused(measured(small.TEXTS), recipe)
    assert message in problems[key]


def test_the_metric_that_answers_is_the_one_that_compare_names(measured: Callable[[str], Any]):
    recipe = small.TEXTS.replace(
        f"arms = {small.ALL}", 'metric = "look.down"\narms = ["recipe", "random"]'
    )
    found = Evidence(measured(small.TEXTS), recipe).answer["answer"]
    assert found["metric"] == "look.down"
    assert "look.down " in found["text"]
    assert "The metric is that of [compare]." in found["text"]


def test_a_name_is_free_where_another_section_has_taken_the_default(
    measured: Callable[[str], Any],
):
    recipe = small.TEXTS + KNN + KNN + 'name = "knn"\nk = 1\n' + KNN + "k = 2\n"
    names = [s.name for s in evaluate.sections(parsed(
        tomllib.loads(recipe), recipe_dir=measured(small.TEXTS).recipe_dir, name="web"
    ))]  # fmt: skip
    assert names == ["look", "halves", "knn#2", "knn", "knn#3"]
