"""The commands: each calls the room that does the work, and prints what came of it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from contracts.errors import ConfigError
from flows.cli.app import app, out, out_json, reporter_for, say, warn

if TYPE_CHECKING:
    from flows.look.views import Winnow
    from storage.store import Store

StorePath = Annotated[Path | None, typer.Option("--store", help="The store's folder.")]
WorkerCount = Annotated[int, typer.Option("--workers", min=1, help="Processes to work in.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON value, nothing else.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print results only.")]
Device = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:1; found by itself.")]
Accept = Annotated[bool, typer.Option("--accept", help="Take an ingest or a version that is held.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Go on where members of a range are missing.")
]
RunName = Annotated[str | None, typer.Option("--run", help="Which run; the last one by default.")]
Dask = Annotated[str | None, typer.Option("--dask", help="Address of a Dask scheduler.")]


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    store: StorePath = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Without a command: the last run's funnel and the next useful command."""
    if version:
        from importlib.metadata import version as version_of

        out(f"winnow {version_of('winnow')}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        return
    from flows.look.render import funnel_rows, funnel_text
    from storage.runs import held_run, held_since, load_run

    opened = _store(store, Path.cwd())
    names = opened.names("run")
    if not names and not opened.names("held"):
        out(
            "Nothing was run here yet. `winnow init FOLDER` writes a recipe, "
            "`winnow demo` shows it all."
        )
        return
    for name in names:
        last = load_run(opened, name)
        assert last is not None
        out(f"{name} version {last['version']}, pool {last['pool']}@{last['pool_version']}")
        out(funnel_text(funnel_rows(last["funnel"], last["result"]["records"])))
    for name in opened.names("held"):
        held = held_run(opened, name)
        if held is not None:
            out(f"{name} version {held['version']} is held since {held_since(opened, name)}:")
            for cause in held["held"]:
                out(f"    {cause}")
    out("Next: `winnow why KEY`, `winnow show --dropped RULE`, `winnow report`.")


_OF_SOURCE = {
    "--reference": 'payload = "reference"',
    "--payload": 'payload = "reference"',
    "--slices": "slices = true",
    "--settle": "settle = 60",
    "--label-image": 'label_image = "<column>"',
    **{
        f"--{key}": f'{key} = "<column>"'
        for key in ("id", "text", "image", "audio", "volume", "series", "position")
    },
}


class _WithSource(TyperCommand):
    """Says where it belongs what is said of a source as an option that is none here."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {option for parameter in self.params for option in parameter.opts}
        for option in (arg.partition("=")[0] for arg in args):
            if option not in known and option in _OF_SOURCE:
                do = f"write {_OF_SOURCE[option]} below [[source]] of the recipe"
                do = "give --payload reference" if "--payload" in known else do
                raise ConfigError(f"{option}: is no option of winnow {self.name}: {do}.")
        return super().parse_args(ctx, args)


@app.command(cls=_WithSource)
def init(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Folder, file, glob or brace range.")
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="A packaged recipe to take the rules of; `list` names them.")
    ] = None,
    target: Annotated[Path, typer.Option(help="The recipe to write.")] = Path("winnow.toml"),
    as_json: Json = False,
) -> None:
    """Look at some records and write a short recipe that runs as it is."""
    from flows.recipe.init import init as write
    from flows.recipe.init import packaged_recipes

    if like == "list":
        recipes = packaged_recipes()
        out_json(recipes) if as_json else out("\n".join(f"{n:24} {t}" for n, t in recipes.items()))
        return
    if not sources and like is None:
        raise ConfigError("init: name a folder, file or glob to look at, or --like NAME.")
    written = write(sources or [], target, like=like)
    if as_json:
        out_json(written)
        return
    for found in written["found"]:
        seen, noun = (found["images"], "a picture")
        if found["audio"]:
            seen, noun = found["audio"], "sound"
        elif found["volumes"]:
            seen, noun = found["volumes"], "a volume"
        out(
            f"{found['source']}: {found['kind']}; of {found['looked_at']} records looked at "
            f"{seen} have {noun}, {found['texts']} a text"
        )
        if not (seen or found["texts"]):
            out(
                f'  no column is known as one: name it in [[source]] of {target}, text = "<column>"'
            )
    out(f"{written['recipe']} is written. Next: winnow run {target}")


@app.command(cls=_WithSource)
def ingest(
    paths: Annotated[list[str], typer.Argument(help="Folder, file, glob or brace range.")],
    pool: Annotated[str | None, typer.Option(help="Default: the source's name.")] = None,
    source: Annotated[str | None, typer.Option(help="The source's name.")] = None,
    id: Annotated[
        str | None, typer.Option(help="Column that names a record; `key` in tars.")
    ] = None,
    text: Annotated[str | None, typer.Option(help="Column of the text.")] = None,
    image: Annotated[str | None, typer.Option(help="Column of the image.")] = None,
    audio: Annotated[str | None, typer.Option(help="Column of the sound.")] = None,
    volume: Annotated[str | None, typer.Option(help="Column of the volume.")] = None,
    label_image: Annotated[
        str | None, typer.Option(help="Column of a picture's labels, or where they lie.")
    ] = None,
    series: Annotated[str | None, typer.Option(help="Column of the series.")] = None,
    position: Annotated[str | None, typer.Option(help="Column of the place in a series.")] = None,
    slices: Annotated[bool, typer.Option(help="Volumes: each axial slice is a record.")] = False,
    payload: Annotated[str, typer.Option(help="copy or reference.")] = "copy",
    update: Annotated[bool, typer.Option(help="Take changed records.")] = False,
    rehash: Annotated[bool, typer.Option(help="Read unchanged files too.")] = False,
    settle: Annotated[float, typer.Option(help="Let files younger than this wait, seconds.")] = 0.0,
    follow_links: Annotated[
        Path | None, typer.Option(help="Follow links to what lies below this folder.")
    ] = None,
    allow_missing: AllowMissing = False,
    accept: Accept = False,
    max_quarantined: Annotated[
        float | None, typer.Option(help="The share of new records that may be unusable.")
    ] = None,
    store: StorePath = None,
    workers: WorkerCount = 1,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read raw sources into a pool; again adds only what is new."""
    from flows.ingest.ingest import SourceSpec
    from flows.ingest.ingest import ingest as read
    from flows.ingest.sources import report_ingest
    from flows.reporter import Reporter
    from storage import source as sources

    opened = _store(store, Path.cwd())
    results = []
    with opened.lease():
        for path in paths:
            found = sources.find(path, follow_links, allow_missing=allow_missing)
            columns = sources.Columns(
                id, text, image, series, position, slices, audio, volume, label_image
            )
            spec = SourceSpec(
                found, source or found.name, columns, payload,
                update=update, rehash=rehash, settle_s=settle,
                max_quarantined_ratio=1.0 if accept else max_quarantined,
            )  # fmt: skip
            reporter = reporter_for(quiet or as_json)
            with reporter.ingest(spec.name) as progress:
                result = read(opened, pool or spec.name, spec, workers=workers, progress=progress)
            results.append(result)
            if not as_json:
                report_ingest(result, Reporter(line=out, warning=warn))
    if as_json:
        out_json(results[0] if len(results) == 1 else results)


@app.command(cls=_WithSource)
def run(
    recipe: Annotated[Path, typer.Argument(help="The recipe.")] = Path("winnow.toml"),
    until: Annotated[str, typer.Option(help="The last stage to do.")] = "report",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="Records that a dry run measures.")] = 1000,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value over the recipe.")
    ] = None,
    at: Annotated[int | None, typer.Option(help="The pool version to use.")] = None,
    store: StorePath = None,
    workers: WorkerCount = 1,
    dask: Dask = None,
    device: Device = None,
    mixed: Annotated[
        bool, typer.Option("--mixed", help="Let a table hold vectors of several machine types.")
    ] = False,
    allow_missing: AllowMissing = False,
    accept: Accept = False,
    unseal: Annotated[
        bool, typer.Option("--unseal", help="Answer on the sealed part of the hold-out.")
    ] = False,
    stability: Annotated[
        bool, typer.Option("--stability", help="Say how much of the kept another seed changes.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Do everything a recipe names; what was done before is found, not done again."""
    from flows import run as runs
    from flows.options import Options

    read = runs.read_recipe(recipe, set_ or [])
    opened = _store(store, read.recipe_dir)
    reporter = reporter_for(quiet or as_json)
    options = Options(
        workers=workers, dask=dask, device=device, until=until, at=at, mixed=mixed,
        accept=accept, unseal=unseal, allow_missing=allow_missing, reporter=reporter,
    )  # fmt: skip
    if dry_run:
        from flows import dry

        foreseen = dry.dry_run(read, opened, options, sample)
        out_json(foreseen) if as_json else out(dry.text(foreseen))
        return
    if os.environ.get("PREFECT_API_URL"):
        from flows import deployments

        result = deployments.run(recipe, opened, options, set_ or [])
    else:
        result = runs.run(read, opened, options)
    if stability and "kept" in result:
        from flows.look import stability as churns
        from flows.look.views import Winnow

        churn = churns.stability(Winnow(opened).run(read.name))
        result = {**result, "stability": [asdict(of) for of in churn]}
        reporter.line(churns.text(churn))
    _report_run(result, opened, read.name, as_json)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo is put.")] = Path("demo"),
    workers: Annotated[
        int | None, typer.Option(min=1, help="Default: the cores, at most 4.")
    ] = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the built-in pool and recipe end to end: images in, a compared encoder out."""
    from flows import run as runs
    from flows.demo import prepare
    from flows.options import Options

    reporter = reporter_for(quiet or as_json)
    recipes = [runs.read_recipe(path) for path in prepare(folder, reporter)]
    opened = _store(None, recipes[-1].recipe_dir)
    options = Options(
        workers=workers or min(4, os.cpu_count() or 1),
        device=device,
        reporter=reporter,
    )
    for read in recipes:
        result = runs.run(read, opened, options)
    _report_run(result, opened, read.name, as_json)


@app.command()
def refit(
    alias: Annotated[str, typer.Argument(help="A [fit.ALIAS] or [embed.ALIAS] of the recipe.")],
    recipe: Annotated[Path, typer.Argument(help="The recipe.")] = Path("winnow.toml"),
    store: StorePath = None,
    workers: WorkerCount = 1,
    dask: Dask = None,
    device: Device = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Fit anew on the pool as it is now, or embed anew on this machine; the next run uses it."""
    from flows import run as runs
    from flows.options import Options
    from flows.upkeep.refit import refit as remake

    read = runs.read_recipe(recipe)
    options = Options(
        workers=workers, dask=dask, device=device, reporter=reporter_for(quiet or as_json)
    )
    result = remake(read, _store(store, read.recipe_dir), alias, options)
    if as_json:
        out_json(result)
        return
    out(f"{result['table']} is made anew on {result['pool']}@{result['version']}")


@app.command()
def forget(
    source: Annotated[str | None, typer.Option(help="The source to start anew.")] = None,
    pool: Annotated[str | None, typer.Option(help="Where several pools have it.")] = None,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Trained encoders that no version needs.")
    ] = False,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Take a source out of a pool, so that the next ingest reads it anew; or drop encoders."""
    from flows.upkeep.forget import forget as forgetting

    if (source is None) != checkpoints or (checkpoints and pool is not None):
        raise ConfigError("forget: give --source NAME, or --checkpoints alone.")
    opened = _store(store, Path.cwd())
    if source is None:
        from flows.upkeep.checkpoints import drop

        with opened.lease():
            dropped = drop(opened)
        if as_json:
            out_json(dropped)
            return
        out(f"{dropped['dropped']:,} encoders are gone, {dropped['bytes'] / 1e6:,.1f} MB.")
        return
    with opened.lease():
        result = forgetting(opened, source, pool)
    if as_json:
        out_json(result)
        return
    out(
        f"{result['pool']} version {result['version']}: {result['forgotten']:,} records of source "
        f"{result['source']} are forgotten; the next ingest reads it anew."
    )


@app.command()
def why(
    keys: Annotated[
        list[str], typer.Argument(help="uid, source id, source:id, URL, file name or a file.")
    ],
    run_name: RunName = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Say why a record is in or out: every rule with its clauses' values."""
    from flows.look import views
    from flows.look.why import left_out, why_text
    from flows.look.why import why as ask

    opened = views.Winnow(_store(store, Path.cwd()))
    runs = opened.store.names("run")
    pools = [] if runs else [opened.pool(name) for name in opened.store.names("pool")]
    if run_name is None and len(runs) > 1:
        _say_run(opened, "; --run names another")
    asked: dict[str, list[dict[str, Any]]] = {}
    for key in keys:
        # What an ingest left out is known before anything was run.
        unused = [answer for pool in pools for answer in left_out(pool.quarantine(), key)]
        asked[key] = unused or ask(opened.run(run_name), key)
    answers = [answer for found in asked.values() for answer in found]
    if as_json:
        out_json(answers[0] if len(answers) == 1 else answers)
        return
    for key, found in asked.items():
        if len(found) > 1:
            out(f"{key}: {len(found)} records have this {found[0]['found_by']}")
        for answer in found:
            out(why_text(answer))


class _Show(TyperCommand):
    """`--quarantined` may stand without a code."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        for index, arg in enumerate(args):
            following = args[index + 1 : index + 2]
            if arg == "--quarantined" and (not following or following[0].startswith("-")):
                given[index] = "--quarantined="
        return super().parse_args(ctx, given)


@app.command(cls=_Show)
def show(
    name: Annotated[
        str | None, typer.Argument(help="A run, a pool, or a key as of `why`; the last run.")
    ] = None,
    where: Annotated[str | None, typer.Option(help="SQL over the records' columns.")] = None,
    dropped: Annotated[str | None, typer.Option(help="What a rule dropped.")] = None,
    quarantined: Annotated[
        str | None,
        typer.Option(
            help="What is not in the pool, of a reason code; without one the codes with counts."
        ),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many.")] = 20,
    images: Annotated[
        Path | None, typer.Option(help="Write pictures or clips to this folder.")
    ] = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Show records: of a pool, kept or dropped by a run, or quarantined."""
    from flows.look import views
    from flows.look.show import records_as_rows

    opened = views.Winnow(_store(store, Path.cwd()))
    runs = opened.store.names("run")
    if len(runs) > 1 and name not in (*runs, *opened.store.names("pool")):
        _say_run(opened, "; winnow show RUN takes another" if name is None else "")
    rows = records_as_rows(
        opened, name, where=where, dropped=dropped, quarantined=quarantined, n=n, images=images
    )
    if as_json:
        out_json(rows)
        return
    for row in rows:
        out("  ".join(f"{k}={str(v)[:80]}" for k, v in row.items() if v not in (None, [], {})))
    if not rows:
        out(_no_hits(where, dropped, quarantined))


def _say_run(opened: Winnow, advice: str = "") -> None:
    """Say which run is asked where several recipes were run and none is named."""
    last = opened.run()
    say(f"run {last.name} version {last.version}, the last that was made{advice}")


def _no_hits(where: str | None, dropped: str | None, quarantined: str | None) -> str:
    if quarantined is not None:
        return "nothing is quarantined" + (f" as {quarantined}." if quarantined else ".")
    of = "a record" if dropped is None else f"a record that {dropped} dropped"
    if where is not None:
        return f"no hits: {where} holds of none."
    return f"no hits: there is not {of}."


@app.command()
def thresholds(
    alias: Annotated[
        str | None, typer.Argument(help="An alias or column of the notes, or a run.")
    ] = None,
    signal: Annotated[str | None, typer.Option(help="A column, or SQL over columns.")] = None,
    run_name: RunName = None,
    version: Annotated[int | None, typer.Option(help="The last by default.")] = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Say what each of 20 cuts of a number would keep, with records at it, from notes alone."""
    from flows.look import thresholds as cuts
    from flows.look import views

    run, alias = cuts.asked(views.Winnow(_store(store, Path.cwd())), alias, run_name, version)
    found = cuts.described(run, cuts.thresholds(run, alias, signal))
    out_json(found) if as_json else out(cuts.text(found))


@app.command()
def score(
    alias: Annotated[
        str | None, typer.Argument(help="An alias or column of the notes, or a run.")
    ] = None,
    signal: Annotated[str | None, typer.Option(help="A column, or SQL over columns.")] = None,
    n: Annotated[int, typer.Option("--n", "-n", min=1, help="How many answers.")] = 50,
    group: Annotated[str | None, typer.Option(help="SQL; its values are strata too.")] = None,
    question: Annotated[str | None, typer.Option(help="What is asked of each record.")] = None,
    low: Annotated[bool, typer.Option("--low", help="Small values are the good ones.")] = False,
    answers: Annotated[
        Path | None, typer.Option(help="Take answers from a file: uid or source_id, and good.")
    ] = None,
    run_name: RunName = None,
    version: Annotated[int | None, typer.Option(help="The last by default.")] = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Judge some records; say what precision and recall each cut of a signal has."""
    from flows.look import score as cards
    from flows.look import thresholds as cuts
    from flows.look import views

    run, alias = cuts.asked(views.Winnow(_store(store, Path.cwd())), alias, run_name, version)
    named = [signal] if signal is not None else cuts.of(cuts.signals(run), alias)
    if len(named) != 1:
        raise ConfigError(f"--signal: name one number: {', '.join(named)}.")
    session = cards.Session(run, named[0], n, group, question or cards.QUESTION, low)
    if answers is not None:
        _, unused = session.take(answers)
        if unused:
            say(f"{answers}: {unused:,} of its rows name no record of the pool.")
    elif not as_json:
        session.ask(_typed)
    card = session.card()
    out_json(card) if as_json else out(cards.text(card))


def _typed(question: str) -> str:
    say(question)
    return sys.stdin.readline()


@app.command()
def replay(
    path: Annotated[Path, typer.Argument(help="The step that a training left.")],
    device: Device = None,
    allow: Annotated[
        list[str] | None, typer.Option(help="A reference in it, ./own.py:Mine, that may be run.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run again the step in which a training was not finite, and say what is wrong with it."""
    from flows.answer import replay as replays

    seen = replays.replay(path, device, allow or ())
    out_json(seen) if as_json else out(replays.text(seen))


@app.command()
def report(
    name: Annotated[str | None, typer.Argument(help="The run; the last one by default.")] = None,
    version: Annotated[int | None, typer.Option(help="The last by default.")] = None,
    to: Annotated[Path | None, typer.Option(help="Where to write it.")] = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Write the HTML report of a run."""
    from flows.look import report as reports
    from flows.look import views

    view = views.Winnow(_store(store, Path.cwd())).run(name, version)
    path = to or Path(f"{view.name}-v{view.version:04d}.html")
    reports.write(view, path)
    out_json({"report": str(path.resolve())}) if as_json else out(str(path.resolve()))


@app.command()
def verify(
    deep: Annotated[bool, typer.Option(help="Read and hash every byte.")] = False,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """Check that everything that the store promises is there and unchanged."""
    from flows.upkeep.verify import unknown
    from flows.upkeep.verify import verify as check

    opened = _store(store, Path.cwd())
    damaged, strays = check(opened, deep=deep), unknown(opened)
    if as_json:
        out_json({"damaged": damaged, "unknown": strays})
    else:
        for line in (*damaged, *strays):
            out(line)
        if not damaged:
            out("everything is as it was written.")
    if damaged:
        raise typer.Exit(65)


@app.command()
def upgrade(store: StorePath = None, as_json: Json = False) -> None:
    """Bring a store of an older winnow to this one's format; nothing is measured again."""
    from flows.upkeep.upgrade import upgrade as bring

    done = bring(_store(store, Path.cwd()))
    if as_json:
        out_json(done)
        return
    if done["from"] == done["to"]:
        out(f"the store is of format {done['to']}.")
        return
    out(
        f"the store is of format {done['to']} now: {done['pools']} pool versions, "
        f"{done['runs']} run versions and {done['manifests']} manifests were rewritten."
    )


@app.command()
def ls(
    files: Annotated[bool, typer.Option(help="The Parquet files of each table.")] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="Trained encoders, and which version needs them.")
    ] = False,
    outside: Annotated[
        bool, typer.Option("--outside", help="What the store needs that does not lie in it.")
    ] = False,
    moved: Annotated[
        list[str] | None,
        typer.Option("--moved", help="OLD=NEW: with --outside, where something is now."),
    ] = None,
    store: StorePath = None,
    as_json: Json = False,
) -> None:
    """List pools, versions, runs and their sizes."""
    from flows.look import render

    opened = _store(store, Path.cwd())
    if moved and not outside:
        raise ConfigError("--moved: goes with --outside.")
    if outside:
        from flows.upkeep import outside as beyond

        if moved:
            beyond.moved(opened, moved)
        items = beyond.outside(opened)
    elif checkpoints:
        from flows.upkeep.checkpoints import listed

        items = listed(opened)
    else:
        items = render.listing(opened, files=files)
    if as_json:
        out_json(items)
        return
    out(render.table_text(items) if items else f"nothing to list in {opened.root}")


@app.command()
def methods(
    name: Annotated[str | None, typer.Argument(help="One method.")] = None,
    check: Annotated[str | None, typer.Option(help="Property tests on ./file.py:name.")] = None,
    json_schema: Annotated[bool, typer.Option(help="The parameters' JSON schema.")] = False,
    as_json: Json = False,
) -> None:
    """List the methods; describe one; check one's own."""
    if check is not None:
        from contracts.methods import find
        from curation import properties
        from curation.step import as_step

        for held in properties.check(as_step(find(check, recipe_dir=Path.cwd()), check)):
            out(f"holds: {held}")
        return
    from flows.look import method

    if name is not None and json_schema:
        out_json(method.schema(name, Path.cwd()))
    elif name is not None:
        about = method.described(name, Path.cwd())
        out_json(about) if as_json else out(method.text(about))
    elif as_json:
        out_json(method.listed())
    else:
        for row in method.listed():
            out(f"{row['folder']:24} {row['name']:24} {row['does']}")


def _report_run(result: dict[str, Any], opened: Store, name: str, as_json: bool) -> None:
    from flows.look import render, views

    if as_json:
        out_json(result)
        return
    if "kept" not in result:
        out(f"pool {result['pool']} version {result['version']}: {result['records']:,} records")
        return
    last = views.Winnow(opened).run(name, version=result["version"])
    out(render.funnel_text(last.funnel().to_dicts()))
    changed = "" if result["changed"] else " (nothing new: everything was found)"
    out(
        f"{name} version {result['version']}{changed}: {result['kept']:,} of "
        f"{result['records']:,} records kept"
    )
    answer = (result.get("evaluation") or {}).get("answer")
    if answer:
        out(answer["text"])
    for key in ("export", "checkpoint", "report"):
        if result.get(key):
            out(f"{key}: {result[key]}")


def _store(path: Path | None, recipe_dir: Path) -> Store:
    from flows.options import open_store

    return open_store(path, recipe_dir, os.environ)
