"""The dry run: nothing is written, and what it foresees is what happens."""

from __future__ import annotations

import os
from math import comb

import pytest
from scipy.stats import beta

from flows import dry
from flows import run as runs
from flows.dry import share_interval
from flows.recipe.planner import plan

RECIPE = """
name = "web"
[[source]]
path = "texts.jsonl"
id = "id"
[[select]]
name = "words"
where = "caption_stats.words >= 3"
"""
TEXTS = [f"{'word ' * (i % 5)}{i}" for i in range(60)]


def foresee(project, sample: int):
    recipe = runs.read_recipe(project.recipe(RECIPE))
    return dry.dry_run(recipe, project.store, runs.Options(), sample)


def test_before_the_first_run_the_sources_are_looked_at_and_nothing_is_written(project):
    project.texts(*TEXTS)
    foreseen = foresee(project, 30)
    assert foreseen["records"] is None
    assert foreseen["sample"] == 30
    assert foreseen["rules"][0]["kept_ratio"] == pytest.approx(0.6)
    assert "of the sample alone:" in dry.text(foreseen)
    assert not (project.recipe_dir / ".winnow").exists()


def test_after_a_run_everything_is_found(project):
    project.texts(*TEXTS)
    project.run(RECIPE)
    before = sorted(p.name for p in (project.recipe_dir / ".winnow").rglob("*"))
    table = foresee(project, 20)["tables"]["annotate.caption_stats"]
    assert (table["found"], table["computed"]) == (60, 0)
    assert sorted(p.name for p in (project.recipe_dir / ".winnow").rglob("*")) == before


def test_what_was_not_measured_is_counted(project):
    project.texts(*TEXTS)
    project.run(RECIPE, until="ingest")
    table = foresee(project, 20)["tables"]["annotate.caption_stats"]
    assert (table["found"], table["computed"]) == (0, 60)
    assert "foreseen:" in dry.text(foresee(project, 20))


def test_what_is_not_ingested_yet_is_foreseen_exactly_where_the_sample_is_all(project):
    project.texts(*TEXTS)
    foreseen = foresee(project, 60)
    assert (foreseen["exact"], foreseen["sample"]) == (True, 60)
    assert foresee(project, 59)["exact"] is False
    assert foresee(project, 59)["rules"][0]["high"] is None
    assert "of the first 59 records; the others may differ" in dry.text(foresee(project, 59))


# ------------------------------------------------------------------ what a run leaves


CHOOSING = (
    '[annotate.same]\nstep = "exact_clusters"\ndigest = "hash.digest"\n'
    '[annotate.hash]\nstep = "content_hash"\npayload = "text"\nmode = "text"\n'
    '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 16\n'
    '[[select]]\nname = "one of each"\nby = "one_per_cluster"\ncluster = "same.cluster"\n'
    '[[select]]\nname = "far apart"\nby = "k_center"\nvector = "bag.vector"\nbudget = 20\n'
)


def test_where_everything_is_measured_the_funnel_is_that_of_the_run(project):
    project.texts(*TEXTS, *TEXTS[:20])
    result = project.run(RECIPE + CHOOSING)
    before = sorted((p, p.stat().st_mtime_ns) for p in project.store.root.rglob("*"))
    recipe = runs.read_recipe(project.recipe(RECIPE + CHOOSING))
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 10)
    assert sorted((p, p.stat().st_mtime_ns) for p in project.store.root.rglob("*")) == before
    assert (foreseen["exact"], foreseen["sample"]) == (True, 0)
    assert {rule["rule"]: rule["dropped"] for rule in foreseen["rules"]} == result["dropped"]
    assert foreseen["rules"][-1]["kept_ratio"] == result["kept"] / 80
    assert all(rule["low"] is rule["high"] is None for rule in foreseen["rules"])
    assert "what a run leaves of the pool as it is:" in dry.text(foreseen)
    # Another threshold needs no measurement either.
    looser = runs.read_recipe(project.recipe(RECIPE + CHOOSING), ['select.0.where="true"'])
    assert dry.dry_run(looser, project.store, runs.Options(), 10)["rules"][0]["dropped"] == 0


def test_a_sample_as_large_as_the_pool_foresees_the_run_exactly(project, projects):
    for place in (project, other := projects()):
        place.texts(*TEXTS, *TEXTS[:20])
        place.run(RECIPE, until="ingest")
    recipe = runs.read_recipe(project.recipe(RECIPE + CHOOSING))
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 80)
    assert (foreseen["exact"], foreseen["sample"]) == (True, 80)
    dropped = other.run(RECIPE + CHOOSING)["dropped"]
    assert {rule["rule"]: rule["dropped"] for rule in foreseen["rules"]} == dropped


def test_a_fit_that_is_pinned_is_not_foreseen_by_one_that_is_made_anew(project):
    fitted = RECIPE + (
        '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 16\n[fit.kmeans]\nnum_clusters = 2\n'
        '[[select]]\nname = "near"\nwhere = "nearest_centroid.cosine > 0.5"\n'
    )
    project.texts(*TEXTS[:20])
    project.run(fitted)
    project.texts(*TEXTS)
    project.run(RECIPE, until="ingest")
    recipe = runs.read_recipe(project.recipe(fitted))
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 60)
    assert foreseen["exact"] is False
    assert foreseen["tables"]["fit.kmeans"]["found"] == 1
    words, near = foreseen["rules"]
    assert words["low"] == words["high"] == words["kept_ratio"]
    assert (near["low"], near["high"]) == (None, words["high"])


def test_another_pool_that_a_rule_reads_comes_along_and_nothing_is_written_of_it(project):
    project.texts(*TEXTS, path="wanted.jsonl")
    project.texts(*TEXTS)
    wanted = 'name = "wanted"\n[[source]]\npath = "wanted.jsonl"\nid = "id"\n'
    project.run(wanted, "wanted", until="ingest")
    text = RECIPE + (
        '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 16\n'
        '[[select]]\nname = "core"\nby = "simcore"\nvector = "bag.vector"\n'
        'target = "pool:wanted"\nbudget = 10\n'
    )
    project.run(text, until="annotate")
    before = sorted(project.store.root.rglob("*"))
    recipe = runs.read_recipe(project.recipe(text))
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 30)
    assert sorted(project.store.root.rglob("*")) == before
    # The target is not measured yet, so the pool's own notes do not suffice.
    assert (foreseen["exact"], foreseen["sample"]) == (False, 30)
    left = project.run(text)["kept"]
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 30)
    assert (foreseen["exact"], foreseen["rules"][-1]["kept_ratio"]) == (True, left / 60)


def test_a_folder_that_a_rule_reads_is_looked_at_before_it_is_a_pool(project):
    project.texts(*TEXTS)
    (project.recipe_dir / "wanted").mkdir()
    for n in (3, 5):
        (project.recipe_dir / "wanted" / f"{n}.txt").write_text(TEXTS[n])
    project.run(RECIPE, until="annotate")
    text = RECIPE + (
        '[embed.bag]\nencoder = "hashed_ngrams"\ndimension = 16\n'
        '[[select]]\nname = "core"\nby = "simcore"\ntarget = "pool:./wanted"\nbudget = 10\n'
    )
    recipe = runs.read_recipe(project.recipe(text))
    before = sorted(project.store.root.rglob("*"))
    foreseen = dry.dry_run(recipe, project.store, runs.Options(), 60)
    assert sorted(project.store.root.rglob("*")) == before
    assert foreseen["exact"]
    assert foreseen["rules"][-1]["kept_ratio"] == project.run(text)["kept"] / 60


# ------------------------------------------------------------------ what follows from a draw

ORDERED = (
    'name = "web"\n[[source]]\npath = "texts"\nid = "id"\n'
    "[holdout]\nratio = 0.1\n"
    '[[select]]\nname = "words"\nwhere = "caption_stats.words >= 3"\n'
    '[[select]]\nname = "short"\nwhere = "caption_stats.characters < 25"\n'
    '[annotate.same]\nstep = "exact_clusters"\ndigest = "hash.digest"\n'
    '[annotate.hash]\nstep = "content_hash"\npayload = "text"\nmode = "text"\n'
    '[[select]]\nname = "one of each"\nby = "one_per_cluster"\ncluster = "same.cluster"\n'
    '[[select]]\nname = "balanced"\nby = "top"\nscore = "caption_stats.characters"\n'
    "budget = 150\n"
    '[[select]]\nname = "fifth"\nwhere = "meta.n % 5 = 0"\n'
    '[[select]]\nname = "few"\nby = "top"\nscore = "caption_stats.characters"\nbudget = 20\n'
    '[[select]]\nname = "repeated"\nwhere = "same.size >= 2"\n'
)
DRAWS = 100 if os.environ.get("WINNOW_SOAK") else 40
TOTAL = 1000


def _write_ordered(project) -> None:
    """Write texts that grow from the first to the last, four of each in the second part."""
    half = TOTAL // 2
    rows = [
        {"id": f"r{i}", "text": f"{'word ' * (6 * i // TOTAL)}{i if i < half else i // 4}", "n": i}
        for i in range(TOTAL)
    ]
    for part in range(2):
        project.lines(f"texts/{part}.jsonl", rows[part * half : (part + 1) * half])
        project.run(ORDERED, until="ingest")


@pytest.fixture(scope="module")
def drawn(projects) -> tuple[list[float], list[list[dict]]]:
    """What a run leaves after each rule, and what the draws say of it."""
    asked, true = projects(), projects()
    _write_ordered(asked)
    _write_ordered(true)
    true.run(ORDERED)
    left = [row["kept_ratio"] for row in true.last().funnel().to_dicts() if row["clause"] is None]
    recipe = runs.read_recipe(asked.recipe(ORDERED))
    said = [
        dry.dry_run(recipe, asked.store, runs.Options(), 100, seed)["rules"]
        for seed in range(DRAWS)
    ]
    return left[1:], said


def _holding(drawn, number: int) -> tuple[int, str]:
    """Return in how many draws what is said of a rule holds, and a line on it."""
    left, said = drawn
    rules = [rules[number] for rules in said]
    held = sum((r["low"] or 0.0) <= left[number] <= r["high"] for r in rules)
    name, shares = rules[0]["rule"], sorted(r["kept_ratio"] for r in rules)
    return held, (
        f"{name}: {held} of {DRAWS} draws hold {left[number]:.3f}; "
        f"samples keep {shares[0]:.3f} to {shares[-1]:.3f}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("number", range(8))
def test_what_a_draw_says_of_an_ordered_pool_holds_in_nine_of_ten(drawn, number: int):
    held, line = _holding(drawn, number)
    assert held >= 0.9 * DRAWS, line


@pytest.mark.slow
def test_an_interval_stands_beside_rules_that_look_at_a_record_by_itself_alone(drawn):
    for rules in drawn[1]:
        names = [rule["rule"] for rule in rules if rule["low"] is not None]
        assert names == ["holdout", "words", "short"]
        highs = [rule["high"] for rule in rules]
        assert highs == sorted(highs, reverse=True)
        # `few` chooses behind `fifth`, and `repeated` looks at the sizes of clusters.
        assert highs[5] == highs[6] == highs[7]
    # `fifth` looks at a record by itself, so it may lower what a selector left.
    assert sum(rules[5]["high"] < rules[4]["high"] for rules in drawn[1]) > DRAWS / 2


@pytest.mark.slow
def test_a_sample_has_its_part_of_a_budget(drawn):
    for rules in drawn[1]:
        balanced = rules[4]
        assert balanced["kept_ratio"] == pytest.approx(0.15, abs=0.01)
        assert 0.15 <= balanced["high"] < 0.25


@pytest.mark.slow
def test_what_is_said_is_no_wider_than_a_draw_of_a_hundred_needs(drawn):
    for rule in range(3):
        widths = [rules[rule]["high"] - rules[rule]["low"] for rules in drawn[1]]
        assert max(widths) < 0.21


@pytest.mark.parametrize(
    ("holdout", "where", "kind"),
    [
        ("", "caption_stats.words > 1", "alone"),
        ("", "bag.vector IS NOT NULL", "alone"),
        ("", "same.size = 1", "relates"),
        ("", "later.words > 1", "relates"),  # its gate reads the size of a cluster
        ("", "nearest_centroid.cosine > 0", "relates"),
        ("", "meta.n > 1 AND same.size = 1", "relates"),
        ('ratio = 0.1\nby_group = "meta.n"', None, "alone"),
        ('where = "meta.n = 1"', None, "alone"),
        ('where = "meta.n = 1"\nby_group = "meta.n"', None, "chooses"),
        ('ratio = 0.1\nnear = "same"', None, "chooses"),
        ('where = "same.size = 1"', None, "relates"),
    ],
)
def test_a_rule_relates_records_by_whatever_it_rests_on(project, holdout, where, kind):
    text = ORDERED.partition("[holdout]")[0] + (f"[holdout]\n{holdout}\n" if holdout else "") + (
        '[annotate.same]\nstep = "exact_clusters"\n'
        '[annotate.later]\nstep = "caption_stats"\nonly = "same.size > 1"\n'
        '[embed.bag]\nencoder = "hashed_ngrams"\n[fit.kmeans]\nnum_clusters = 2\n'
    )  # fmt: skip
    text += f'[[select]]\nwhere = "{where}"\n' if where else ""
    planned = plan(runs.read_recipe(project.recipe(text)))
    assert dry._kinds(planned) == [kind]


# ------------------------------------------------------------------ the interval of a share


@pytest.mark.parametrize(("drawn", "total"), [(1, 7), (5, 12), (10, 40), (39, 40)])
def test_an_interval_holds_every_share_in_at_least_95_of_100_draws(drawn: int, total: int):
    """Counted over all draws, whatever the share."""
    for having in range(total + 1):
        holding = 0
        for kept in range(max(0, drawn - total + having), min(drawn, having) + 1):
            low, high = share_interval(kept, drawn, total)
            if low <= having / total <= high:
                holding += comb(having, kept) * comb(total - having, drawn - kept)
        assert holding >= 0.95 * comb(total, drawn), having


def test_an_interval_is_a_point_where_all_are_drawn_and_clopper_and_pearsons_where_few_are():
    assert share_interval(3, 10, 10) == (0.3, 0.3)
    assert share_interval(0, 0, 0) == (0.0, 0.0)
    # Of 20 tosses none: 1 - 0.025 ** (1 / 20). The draws of a large pool are tosses.
    assert share_interval(0, 20, 10**9) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)), abs=1e-6)
    # 81 of 263, by the beta distribution.
    exact = beta.ppf(0.025, 81, 183), beta.ppf(0.975, 82, 182)
    assert share_interval(81, 263, 10**9) == pytest.approx(exact, abs=1e-6)
