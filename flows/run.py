"""A run: every stage that a recipe names, in order, each found where it was done before."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import polars as pl

from contracts import methods
from contracts.errors import ConfigError, DataError, nearest
from flows.answer import arms, columns, compare, evaluate, grid, pretrain, sets
from flows.answer.check import check_payload, check_stages
from flows.export import datacard, destination, ready_lines, redaction
from flows.export import export as exporting
from flows.export.kept import Kept
from flows.ingest import targets
from flows.ingest.sources import ingest_sources
from flows.look import report, views
from flows.measure import encoders
from flows.measure.runtime import Runtime
from flows.options import STAGES, Options
from flows.recipe import bootstrap
from flows.recipe import sections as recipes
from flows.recipe.plan import Plan
from flows.recipe.planner import plan
from flows.recipe.sections import Recipe
from flows.recipe.types import check_types, pool_schema
from flows.select import canaries, certificate, guard
from flows.select.holdout import run_reader
from flows.select.verdict import Verdict, judge
from flows.select.wanted import check_targets
from flows.workers import Workers
from storage import commit, tables
from storage.runs import commit_run, content_of, hold_run, load_run
from storage.store import Object, Store, canonical


@dataclass(kw_only=True)
class Run:
    """A run under way: what its stages hand on.

    Attributes:
        unchanged: the last version says the same, and nothing is left to do.
        checkpoint: the encoder that was trained.
        state: of that training, where another one may go on from it.
        stored: the verdict and the evidence of selectors, as objects of the store.
        content: the key of what a version rests on.
    """

    store: Store
    plan: Plan
    options: Options
    pool: tables.Pool
    runtime: Runtime
    unchanged: bool = False
    verdict: Verdict | None = None
    canaries: dict[str, dict[str, Any]] | None = None
    stored: tuple[list[Object], dict[str, Object]] = ([], {})
    content: str = ""
    checkpoint: Object | None = None
    training_log: str | None = None
    state: Object | None = None
    version: int = 0
    exported: exporting.Exported | None = None
    promised: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)

    @property
    def recipe(self) -> Recipe:
        """The recipe."""
        return self.plan.recipe


def run(recipe: Recipe, store: Store, options: Options | None = None) -> dict[str, Any]:
    """Do everything that a recipe names, up to a stage.

    Returns:
        The dict that `winnow run --json` prints. `changed` is false, and no version is made,
        where nothing is new.

    Raises:
        ConfigError: the recipe is wrong; with every problem, before anything is written.
        DataError: nothing to read, or nothing is kept.
        BusyError: another run holds the store.
    """
    options = options or Options()
    if options.until not in STAGES:
        raise ConfigError(f"--until {options.until}: is no stage.{nearest(options.until, STAGES)}")
    problems = recipes.Problems()
    with problems.at():
        recipe, folders = targets.named(bootstrap.resolved(recipe, store, encoders), store)
        planned = plan(recipe, options.given)
    with problems.at():
        check_stages(recipe, store, options.given)
    if options.unseal and (recipe.holdout is None or recipe.holdout.sealed_ratio is None):
        problems.add("holdout.sealed_ratio", "nothing is sealed: --unseal has nothing to open.")
    with problems.at("canaries"):
        if recipe.canaries is not None and not problems.found:
            canaries.check(recipe.canaries, planned)
    problems.raise_any()
    for line in bootstrap.cautions(recipe):
        options.reporter.line(line)
    with store.lease():
        if options.reaches("export"):
            destination.check(store, recipe)
        if options.at is None:
            ingest_sources(recipe, store, options)
            targets.ingest_targets(recipe, folders, store, options)
        pool = tables.load_pool(store, recipe.pool, options.at)
        if pool is None:
            raise DataError(
                f"there is no pool {recipe.pool!r}"
                + (f" of version {options.at}." if options.at else ": name a [[source]].")
            )
        if not options.reaches("embed"):
            return {"pool": pool.name, "version": pool.version, "records": pool.records}
        check_types(planned, pool_schema(store, pool))
        if options.reaches("pretrain"):
            check_payload(recipe, pool.kind)
        with Workers(options.workers, options.dask) as workers:
            runtime = run_reader(store, pool, planned, options, workers)
            check_targets(runtime)
            this = Run(store=store, plan=planned, options=options, pool=pool, runtime=runtime)
            this.result = {"pool": pool.name, "version": pool.version, "records": pool.records}
            for name, stage in STEPS:
                if options.reaches(name) and not this.unchanged:
                    stage(this)
            return this.result


def stages_of(path: Path, until: str, overrides: Sequence[str] = ()) -> list[str]:
    """Return the stages that a recipe names, up to one of them."""
    recipe = read_recipe(path, overrides)
    named = {
        "ingest": bool(recipe.sources),
        "embed": bool(recipe.embed),
        "export": recipe.export is not None,
        "pretrain": recipe.pretrain is not None,
        "evaluate": bool(recipe.evaluate),
    }
    wanted = [s for s in STAGES[: STAGES.index(until) + 1] if named.get(s, True)]
    return wanted or [until]


def _measure(this: Run) -> None:
    """Make the recipe's tables; embeddings and annotations read the payload together, once."""
    if this.options.reaches("annotate"):
        this.options.reporter.stage("annotate")
        this.runtime.make()
    else:
        this.options.reporter.stage("embed")
        embeddings = [t for t, node in this.plan.nodes.items() if node.kind == "embed"]
        this.runtime.make(embeddings)


def _select(this: Run) -> None:
    this.options.reporter.stage("select")
    this.verdict = judge(this.runtime)


def _plant_canaries(this: Run) -> None:
    section = this.recipe.canaries
    if section is not None:
        this.options.reporter.stage("canaries")
        this.canaries = canaries.plant(this.runtime, section)
        for line in canaries.lines(this.canaries):
            this.options.reporter.line(line)


def _keep_verdict(this: Run) -> None:
    """Store the verdict, and begin a version where the last one does not say the same."""
    verdict = this.verdict
    assert verdict is not None
    if not verdict.kept.height:
        raise DataError(_nothing_kept(this.pool, verdict))
    this.stored = _store_verdict(this, verdict)
    stages = [s for s in STAGES if this.options.reaches(s)]
    own_code = _own_code(this.recipe)
    if this.options.unseal:
        own_code = {**own_code, "unsealed": True}
    this.content = content_of(_facts(this), this.pool.digest, stages, own_code)
    last = load_run(this.store, this.recipe.name)
    exports = destination.folder_of(this.store, this.recipe)
    if (
        last is not None
        and last["content"] == this.content
        and _complete(this.store, last, exports)
    ):
        _publish_outputs(this.store, last, this.options.given)
        this.result = {**last["result"], "changed": False}
        this.unchanged = True
        return
    this.version = (last["version"] if last is not None else 0) + 1
    this.result = {
        "pool": this.pool.name,
        "version": this.version,
        "changed": True,
        "records": this.pool.records,
        "kept": verdict.kept.height,
        "dropped": verdict.dropped(),
    }
    if this.canaries is not None:
        this.result["canaries"] = this.canaries


def _guard(this: Run) -> None:
    """Hold the version where the guard finds something that nobody has accepted.

    Raises:
        DataError: it is held; what is wrong with it, and how it is looked at and released.
    """
    assert this.verdict is not None
    last = load_run(this.store, this.recipe.name)
    before = last["funnel"] if last is not None else None
    seen, causes = guard.look(this.runtime, this.verdict, this.recipe.guard, before)
    if seen or causes:
        this.result["guard"] = {**seen, "accepted": causes} if causes else seen
    if not causes or this.options.accept:
        return
    ref = {
        **_facts(this),
        "version": this.version,
        "content": this.content,
        "exports": {},
        "result": this.result,
        "held": causes,
    }
    hold_run(this.store, json.loads(canonical(ref)))
    name = this.recipe.name
    raise DataError(
        f"{name} version {this.version} is held, and the last accepted stays the latest: "
        + "; ".join(causes)
        + f". `winnow report {name} --version {this.version}` shows it; --accept releases it."
    )


def _certify(this: Run) -> None:
    if this.recipe.certificate is not None:
        assert this.verdict is not None
        found = certificate.of(this.runtime, this.verdict, this.recipe.certificate)
        this.result["certificate"] = found
        this.options.reporter.line(certificate.text(found))


def _facts(this: Run) -> dict[str, Any]:
    """Return what a run's ref says of what its outputs rest on."""
    assert this.verdict is not None
    parts, evidence = this.stored
    return {
        "run": this.recipe.name,
        "pool": this.pool.name,
        "pool_version": this.pool.version,
        "recipe": this.plan.resolved(),
        "recipe_dir": str(this.recipe.recipe_dir),
        "funnel": [asdict(result) for result in this.verdict.results],
        "verdict": [asdict(p) for p in parts],
        "evidence": {name: asdict(item) for name, item in evidence.items()},
        "notes": {t: [asdict(o) for o in objects] for t, objects in this.runtime.notes.items()},
        "models": {t: asdict(o) for t, o in this.runtime.models.items()},
        "manifests": this.runtime.made_by,
        "holdout": this.runtime.holdout_masks is not None,
        "result": {} if this.canaries is None else {"canaries": this.canaries},
    }


def _own_code(recipe: Recipe) -> dict[str, Any]:
    """Return digests of what no note covers: one's own code, and weights that roles begin with."""
    names = [section.get("protocol") for section in recipe.evaluate]
    weights = {}
    if recipe.pretrain is not None:
        names += pretrain.references(recipe.pretrain)
        weights = pretrain.weight_digests(recipe.pretrain)
    own = [name for name in names if isinstance(name, str) and ":" in name]
    code = [methods.source_hash(name, recipe_dir=recipe.recipe_dir) for name in own]
    return {**({"code": code} if code else {}), **({"weights": weights} if weights else {})}


def _score_clusters(this: Run) -> None:
    scored = evaluate.over_notes(this.runtime, evaluate.sections(this.recipe))
    if scored:
        this.result["duplicates"] = scored
        this.options.reporter.line(evaluate.text(scored))


def _publish(this: Run) -> None:
    """Make the version, and what its readers look at first."""
    if not this.options.publish:
        return
    assert this.verdict is not None
    if this.options.reaches("report"):
        reports = this.store.root / "reports" / this.recipe.name
        this.result["report"] = str(reports / f"v{this.version:04d}.html")
    before = bootstrap.begins_with(this.recipe)
    ref = {
        **_facts(this),
        "version": this.version,
        "content": this.content,
        # Of each arm every file of its export: what a rerun and `verify` compare with.
        "exports": this.promised,
        **({} if this.checkpoint is None else {"checkpoint": asdict(this.checkpoint)}),
        **({} if this.training_log is None else {"training_log": this.training_log}),
        **({} if this.state is None else {"state": asdict(this.state)}),
        **({"begins_with": before} if before else {}),
        "result": this.result,
    }
    # As it will be read again, so that a report does not depend on whether its run was killed.
    ref = json.loads(canonical(ref))
    commit_run(this.store, ref)
    commit.failpoint("run.version")
    _publish_outputs(this.store, ref, this.options.given)


def _publish_outputs(store: Store, ref: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Do what a version's readers look at first; again where a killed run left it undone."""
    result = ref["result"]
    if result.get("export"):
        destination.point_latest(Path(result["export"]))
    if result.get("report") and not Path(result["report"]).is_file():
        report.write(views.RunView(store, ref, given), Path(result["report"]))
        commit.failpoint("run.report")


def _store_verdict(this: Run, verdict: Verdict) -> tuple[list[Object], dict[str, Object]]:
    """Write the verdict beside the pool's parts, and each selector's evidence."""
    parts = []
    for index, part in enumerate(this.pool.parts):
        uids = this.runtime.uids(index).to_frame()
        rows = uids.join(verdict.rows, on="uid", how="left", maintain_order="left")
        table = f"verdict.{this.recipe.name}"
        parts.append(tables.put(this.store, rows, pool=this.pool.name, table=table, part=part.name))
    evidence = {
        name: tables.put(
            this.store, frame, pool=this.pool.name,
            table=f"evidence.{this.recipe.name}", part=f"{index:02d}",
        )
        for index, (name, frame) in enumerate(verdict.evidence.items())
    }  # fmt: skip
    return parts, evidence


def _export(this: Run) -> None:
    recipe, section = this.recipe, this.recipe.export
    if section is None:
        return
    assert this.verdict is not None
    this.options.reporter.stage("export")
    on_line = this.options.reporter.line
    folder = destination.folder_of(this.store, recipe) / f"v{this.version:04d}"
    last = load_run(this.store, recipe.name)
    facts = {
        "run": recipe.name,
        "version": this.version,
        "pool": this.pool.name,
        "pool_version": this.pool.version,
        "pool_digest": this.pool.digest,
        "records": this.verdict.kept.height,
    }
    verdict = this.verdict
    deep = exporting.deep_pictures(this.runtime, verdict.kept, section)
    redacted = redaction.counted(Kept.of(this.runtime, verdict.kept), section)
    text = datacard.card(
        this.runtime, verdict.kept, verdict.results, recipe.name, this.version, deep, redacted
    )
    main = exporting.export(
        this.runtime, verdict.kept, section, folder, facts=facts, card=text,
        previous=exporting.Previous.of_run(last, "recipe"), on_line=on_line,
    )  # fmt: skip
    this.exported = main
    this.promised = {"recipe": main.promised()}
    lines = [
        f"# Redacted: {spans:,} times [{kind}] in {records:,} records."
        for kind, (spans, records) in redacted.items()
    ]
    lines += _ready_lines(this, main, verdict.kept, deep)
    for arm in section.arms:
        if arm != "recipe":
            rows = sets.arm_records(this.runtime, verdict.kept, arm, section.seed)
            exported = exporting.export(
                this.runtime, rows, section, folder.parent / arm / folder.name,
                facts={**facts, "arm": arm}, previous=exporting.Previous.of_run(last, arm),
                on_line=on_line,
            )  # fmt: skip
            this.promised[arm] = exported.promised()
            deep = exporting.deep_pictures(this.runtime, rows, section)
            lines += [f"# The arm `{arm}`:", *_ready_lines(this, exported, rows, deep)]
    this.result["shards"] = main.described()
    this.result["export"] = str(folder)
    for line in lines:
        on_line(line)


def _ready_lines(
    this: Run, exported: exporting.Exported, rows: pl.DataFrame, deep: int
) -> list[str]:
    draws = int(rows["repeats"].sum())
    lines = ready_lines.ready_lines(exported, draws, this.pool.kind)
    return [*lines, *ready_lines.warnings(deep)]


def _pretrain(this: Run) -> None:
    """Train the recipe's encoder, evaluate it, and compare it with the other arms."""
    recipe, section = this.recipe, this.recipe.pretrain
    if section is None:
        return
    assert this.verdict is not None
    section = pretrain.with_tables(section, this.runtime)
    reporter, kept = this.options.reporter, this.verdict.kept
    reporter.stage("pretrain")
    comparison = recipe.compare or recipes.CompareSection(arms=("recipe",), seeds=1)
    wanted = tuple(s for s in evaluate.sections(recipe) if s.cluster is None)
    holdout = None
    drawn: dict[str, list[sets.Set]] = {}
    if this.options.reaches("evaluate") and wanted:
        assert this.runtime.holdout_masks is not None
        masks = this.runtime.holdout_masks
        holdout = evaluate.records(this.runtime, masks, wanted, unseal=this.options.unseal)
        drawn = sets.drawn(this.runtime, kept, comparison, section.seed, this.options.given)
    frames = {name: [frame for frame, _ in of] for name, of in drawn.items()}
    # Of parts the recipe's arm is another in each; what is kept of all trains the checkpoint.
    made = arms.make(
        this.runtime, {**frames, "whole": [kept]}, recipe.export, kept["uid"], this.exported,
        columns.bound(this.runtime, section, recipe.recipe_dir),
    )  # fmt: skip
    [whole] = made.pop("whole")
    whole = replace(whole, of_recipe=True)
    # A random set may be all that is kept, and is trained first.
    made = {
        name: [replace(arm, of_recipe=arm.content == whole.content) for arm in of]
        for name, of in made.items()
    }
    for name, of in {**made, "recipe": [whole]}.items():
        groups, records = of[0].passed_over
        if groups:
            what = (
                f"{groups:,} groups of [pretrain] groups are"
                if groups > 1
                else ("1 group of [pretrain] groups is")
            )
            size = section.members or section.batch
            reporter.line(
                f"{name}: {what} smaller than {size}: {records:,} records are passed over"
            )
        elif records:
            reporter.line(
                f"{name}: {records:,} records are passed over: [pretrain] draws is 0 for them, or "
                "they are of no stream"
            )
    if holdout is not None:
        reporter.stage("evaluate")
        for name, counts in holdout.passed_over.items():
            lacking = ", ".join(f"{n:,} {what}" for what, n in counts.items())
            reporter.line(f"{name}: passes over held-out records {lacking}")
        compared = compare.compare(
            this.runtime, drawn, made, section, comparison, wanted, holdout, reporter.line
        )
        for arm_name, seeds in compared["unencoded"].items():
            reporter.line(
                f"{arm_name}: held-out records without a vector, by training: {json.dumps(seeds)}"
            )
        for name, counts in compared["passed_over"].items():
            if evaluate.UNKNOWN in counts:
                n = counts[evaluate.UNKNOWN]
                reporter.line(f"{name}: passes over held-out records {n:,} {evaluate.UNKNOWN}")
        this.result["evaluation"] = compared
    training = pretrain.Training(
        root=this.store.root,
        pool=this.pool.name,
        arm=replace(whole, name="recipe"),
        section=section,
        steps=comparison.steps or section.steps,
        seed=section.seed,
        recipe_dir=recipe.recipe_dir,
        device=this.options.device,
    )
    if holdout is not None:
        # The encoder of a grid is that of the cell that answers.
        cell = grid.Cell(compared["lr"], compared["budget"], compared["steps"])
        training = grid.training(training, cell, comparison.grid)
    this.checkpoint = pretrain.trained(training)
    this.training_log = pretrain.log_of(training).name
    this.state = pretrain.state_of(training)
    if training.trunk is not None:
        pretrain.drop_states(training)
    this.result["checkpoint"] = str(this.store.path(this.checkpoint))


STEPS: tuple[tuple[str, Callable[[Run], None]], ...] = (
    ("embed", _measure),
    ("select", _select),
    ("select", _plant_canaries),
    ("select", _keep_verdict),
    ("select", _guard),
    ("select", _certify),
    ("export", _export),
    ("evaluate", _score_clusters),
    ("pretrain", _pretrain),
    ("select", _publish),
)
"""What a run does with a pool, in order, each with the stage that it belongs to."""


def _complete(store: Store, last: Mapping[str, Any], exports: Path) -> bool:
    """Whether what a version promised is still there; its bytes are for `verify` to read.

    A project that was copied with its store exports beside the copy, not into its original.
    """
    trained = [last[what] for what in ("checkpoint", "state") if what in last]
    if not all((store.root / item["path"]).is_file() for item in trained):
        return False
    if last["result"].get("export") is None:
        return True
    if Path(last["result"]["export"]).parent.resolve() != exports:
        return False
    found = [exporting.Previous.of_run(last, arm) for arm in last.get("exports", ["recipe"])]
    return all(export is not None and export.is_there() for export in found)


def _nothing_kept(pool: tables.Pool, verdict: Verdict) -> str:
    if not pool.records:
        return f"the pool {pool.name} has no record; `winnow ls` and the quarantine say why."
    lost = [f"{r.name}: {r.dropped:,} of {r.reached:,}" for r in verdict.results if r.dropped]
    return "no record is kept. " + "; ".join(lost) + ". Loosen the rule that drops the most."


def read_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file."""
    return recipes.read(path, overrides)
