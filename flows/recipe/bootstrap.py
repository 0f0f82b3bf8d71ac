"""Bootstrap encoders: a recipe embeds with what another recipe's run trained, or trains it on.

Which towers such an encoder has, and which records it was trained on, no section says: the weights
and the store do. So `resolved` looks before a recipe is planned, and writes what it found into
the section: `path`, `run`, `reads`, `allow`. A plan needs neither store nor weights then. Nothing
is built here: what looks into the weights is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import polars as pl

from contracts.errors import ConfigError, Problem, nearest
from contracts.params import names_of, parse
from contracts.payload import KINDS
from flows.recipe import sections
from flows.recipe.sections import HoldoutSection, Problems, Recipe
from storage import tables
from storage.runs import load_run
from storage.store import Object, Store

METHOD = "checkpoint"
PREDICT = "predict"
"""The step of [annotate] that runs what a training exported for predictions."""


@dataclass(frozen=True, kw_only=True)
class BootstrapSection:
    """[embed.<alias>] with `encoder = "checkpoint"`: one that another recipe's run trained.

    Attributes:
        recipe: a recipe whose last run trained the encoder, relative to this one.
        run: instead, a run by name and version, `boot@3`.
        path: instead, the file of an exported encoder.
        allow: with `path`, the references of one's own code that it may be built of.
    """

    recipe: str | None = None
    run: str | None = None
    path: str | None = None
    allow: Sequence[str] = ()


OWN = ("encoder", "reads", *names_of(BootstrapSection))


class Weights(Protocol):
    """What looks into weights: the module `flows.measure.encoders`."""

    def towers(
        self, path: Path, tower: Any, *, allow: Sequence[str], code_dir: Path, where: str
    ) -> list[str]:
        """Return which of `image` and `text` an exported encoder reads."""
        ...

    def predictions(
        self, path: Path, *, allow: Sequence[str], code_dir: Path
    ) -> tuple[list[str], dict[str, str]]:
        """Return what a trained objective reads to predict, and what it predicts."""
        ...


def resolved(recipe: Recipe, store: Store, weights: Weights) -> Recipe:
    """Return a recipe whose bootstrap encoders are found, with the hold-out that it inherits.

    What is wrong with a section is added to the recipe's problems, under its key.

    Raises:
        DataError: weights are damaged, or none of this trainer.
    """
    problems = Problems()
    embed = dict(recipe.embed)
    for alias, section in recipe.embed.items():
        if section.get("encoder", alias) != METHOD:
            continue
        with problems.at(f"embed.{alias}"):
            embed[alias], trained = _found(section, f"embed.{alias}", recipe, store, weights)
            if trained is not None:
                recipe = _with_holdout(recipe, trained, f"embed.{alias}.recipe")
    recipe = replace(recipe, embed=embed)
    annotate = dict(recipe.annotate)
    for alias, section in recipe.annotate.items():
        if section.get("step", alias) != PREDICT:
            continue
        where = f"annotate.{alias}"
        with problems.at(where):
            annotate[alias], trained = _predicting(section, where, recipe, store, weights)
            if trained is not None:
                recipe = _with_holdout(recipe, trained, f"{where}.weights")
    recipe = replace(recipe, annotate=annotate)
    if recipe.pretrain is not None:
        given = {"encoder": recipe.pretrain.encoder, **recipe.pretrain.own}
        for role, section in given.items():
            if not isinstance(section, Mapping) or "weights" not in section:
                continue
            where = f"pretrain.{role}.weights"
            with problems.at(where):
                found, trained = _weights(section["weights"], where, recipe, store)
                given[role] = {**section, **found}
                if trained is not None:
                    recipe = _with_holdout(recipe, trained, where)
        assert recipe.pretrain is not None
        going_on = recipe.pretrain.continue_from
        if going_on is not None:
            where = "pretrain.continue_from"
            with problems.at(where):
                found, trained = _weights(going_on, where, recipe, store, _state_of)
                going_on = {"from": going_on, **found}
                if trained is not None:
                    recipe = _with_holdout(recipe, trained, where)
        assert recipe.pretrain is not None
        encoder = given.pop("encoder")
        pretrain = replace(recipe.pretrain, encoder=encoder, own=given, continue_from=going_on)
        recipe = replace(recipe, pretrain=pretrain)
    return replace(recipe, problems=(*recipe.problems, *problems.found))


def cautions(recipe: Recipe) -> list[str]:
    """Return a line for each encoder of which nobody knows what it was trained on."""
    return [
        f"{where}: on which records {section['path']} was trained is not known here: held-out "
        "records may be among them"
        for where, section in _trained_before(recipe).items()
        if recipe.holdout is not None and "run" not in section
    ]


def refuse_trained(
    store: Store, recipe: Recipe, held_out: pl.Series, pool: str | None = None
) -> None:
    """Refuse weights of a training that saw records on which this recipe evaluates.

    Equal [holdout] sections are not enough: `near` may name another annotation, and a pool that
    grew may bring a new record to an old one's group. Looked at are the training that is named,
    and all that it began with.

    Args:
        store: of the runs.
        recipe: resolved.
        held_out: uids of what is held out, or of all records of `pool`.
        pool: another pool that an [[evaluate]] reads.

    Raises:
        ConfigError: with how many there are.
    """
    what, advice = (
        "that are held out here: its vectors would know them",
        "Run that recipe again on the pool as it is, with the same [holdout].",
    )
    if pool is not None:
        what = f"of the pool {pool}, on which [[evaluate]] measures: its vectors know them"
        advice = "Evaluate on a pool of records that no training saw."
    for where, section in _trained_before(recipe).items():
        names = [section["run"]] if "run" in section else []
        while names:
            name = names.pop()
            ref = _run(store, name)
            if ref is None:
                continue  # A dry run's own small store has no runs.
            seen = sum(
                int(held_out.is_in(kept.implode()).sum()) for kept in _kept(store, ref["verdict"])
            )
            if seen:
                raise _refused(
                    where,
                    f"{name} was trained on {seen:,} of the {len(held_out):,} records {what}. "
                    f"{advice}",
                )
            # What it began with was trained on other records.
            names += ref.get("begins_with", ())


def begins_with(recipe: Recipe) -> list[str]:
    """Return the runs whose weights or state a resolved recipe's training begins with."""
    before = _trained_before(recipe).items()
    runs = {of["run"] for key, of in before if key.startswith("pretrain.") and "run" in of}
    return sorted(runs)


def _trained_before(recipe: Recipe) -> dict[str, Mapping[str, Any]]:
    """Return what names the weights of an earlier training, resolved, by its key."""
    found = {f"embed.{a}.recipe": s for a, s in recipe.embed.items() if "reads" in s}
    found |= {f"annotate.{a}.weights": s for a, s in recipe.annotate.items() if "reads" in s}
    if recipe.pretrain is not None:
        given = {"encoder": recipe.pretrain.encoder, **recipe.pretrain.own}
        for role, section in given.items():
            if isinstance(section, Mapping) and "path" in section:
                found[f"pretrain.{role}.weights"] = section
        if isinstance(recipe.pretrain.continue_from, Mapping):
            found["pretrain.continue_from"] = recipe.pretrain.continue_from
    return found


def _weights(
    given: Any,
    where: str,
    recipe: Recipe,
    store: Store,
    of: Callable[[Mapping[str, Any], Store], Path] | None = None,
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return where weights lie, and the run that trained them.

    Args:
        given: as the recipe names them.
        where: the key.
        recipe: that is read.
        store: in which runs are looked for.
        of: returns the file of a run; that of its encoder where not given.
    """
    kind, _, name = str(given).partition(":")
    if kind not in ("recipe", "run", "file") or not name:
        raise _refused(
            where, f'is "recipe:boot.toml", "run:boot@3" or "file:x.safetensors" (got {given!r}).'
        )
    if kind == "file":
        path, trained = (recipe.recipe_dir / name).resolve(), None
        found: dict[str, Any] = {"path": str(path)}
    else:
        trained = _trained({kind: name}, where, recipe, store)
        path = (of or _checkpoint_of)(trained, store)
        allow = _references(trained["recipe"]["pretrain"])
        found = {"path": str(path), "run": f"{trained['run']}@{trained['version']}"}
        found |= {"allow": allow} if allow else {}
    if not path.is_file():
        raise _refused(where, f"there is no {path}.")
    return found, trained


def _predicting(
    section: Mapping[str, Any], where: str, recipe: Recipe, store: Store, weights: Weights
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return a section of predictions with what was found, and the run that trained them."""
    own = ("step", "weights", "only", "text", *KINDS)
    unknown = [k for k in section if k not in (*own, "path", "run", "allow", "reads", "writes")]
    if unknown:
        raise _refused(f"{where}.{unknown[0]}", f"unknown key.{nearest(unknown[0], own)}")
    if "weights" not in section:
        raise _refused(f"{where}.weights", 'is required, such as "recipe:boot.toml".')
    found, trained = _weights(section["weights"], f"{where}.weights", recipe, store)
    allow = found.get("allow", section.get("allow", ()))
    code_dir_ = code_dir(named(section), recipe.recipe_dir)
    reads, writes = weights.predictions(Path(found["path"]), allow=allow, code_dir=code_dir_)
    return {**section, **found, "step": PREDICT, "reads": reads, "writes": writes}, trained


def named(section: Mapping[str, Any]) -> dict[str, str]:
    """Return `weights` as [embed] says it: `recipe`, `run` or `path`."""
    kind, _, name = str(section["weights"]).partition(":")
    return {kind: name}


def _checkpoint_of(trained: Mapping[str, Any], store: Store) -> Path:
    # Runs of before said where the weights lie, not which object they are.
    known = trained.get("checkpoint")
    return store.path(Object(**known)) if known else Path(trained["result"]["checkpoint"])


def _state_of(trained: Mapping[str, Any], store: Store) -> Path:
    if "state" not in trained:
        raise ConfigError(
            f"{trained['run']}@{trained['version']} kept no state to go on from: its training was "
            "that of an arm of another recipe, or done before states were kept. Give its "
            "[pretrain] another seed, and run it again."
        )
    return store.path(Object(**trained["state"]))


def _found(
    section: Mapping[str, Any], where: str, recipe: Recipe, store: Store, weights: Weights
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """Return the section with what was found, and the run that trained the encoder."""
    legal = (*OWN, "only", "tower", "text", *KINDS)
    unknown = [key for key in section if key not in legal]
    if unknown:
        raise _refused(f"{where}.{unknown[0]}", f"unknown key.{nearest(unknown[0], legal)}")
    given = [key for key in ("recipe", "run", "path") if key in section]
    if not given:
        raise ConfigError(
            'give recipe = "boot.toml", whose last run trained the encoder, or path = "<file>", '
            "an exported checkpoint."
        )
    for key in given:
        if not isinstance(section[key], str):
            raise _refused(f"{where}.{key}", f"is a text (got {section[key]!r}).")
    trained: Mapping[str, Any] | None = None
    if "recipe" in section or "run" in section:
        named = "run" if "run" in section else "recipe"
        trained = _trained(section, f"{where}.{named}", recipe, store)
        path = _checkpoint_of(trained, store)
        allow = _references(trained["recipe"]["pretrain"])
    else:
        path = (recipe.recipe_dir / str(section["path"])).resolve()
        allow = list(section.get("allow", ()))
    if not path.is_file():
        raise _refused(f"{where}.path", f"there is no {path}.")
    reads = weights.towers(
        path,
        section.get("tower"),
        allow=allow,
        code_dir=code_dir(section, recipe.recipe_dir),
        where=where,
    )
    found = {k: v for k, v in section.items() if k not in OWN or k == "recipe"}
    found |= {"encoder": METHOD, "path": str(path), "reads": reads}
    found |= {"allow": allow} if allow else {}
    if trained is not None:
        found["run"] = f"{trained['run']}@{trained['version']}"
    return found, trained


def code_dir(section: Mapping[str, Any], recipe_dir: Path) -> Path:
    """Return the folder to which the references of the encoder's own code are relative."""
    return (recipe_dir / str(section["recipe"])).parent if "recipe" in section else recipe_dir


def _trained(
    section: Mapping[str, Any], where: str, recipe: Recipe, store: Store
) -> Mapping[str, Any]:
    """Return the run that is named, or the last of a recipe that trained an encoder."""
    if "run" in section:
        ref = _run(store, str(section["run"]))
        if ref is None or "checkpoint" not in ref["result"]:
            raise _refused(
                where,
                f"there is no run {section['run']!r} that trained an encoder in {store.root}.",
            )
        return ref
    what = str(section["recipe"])
    with _under(where):
        other = sections.read((recipe.recipe_dir / what).resolve())
    if other.name == recipe.name:
        raise _refused(where, f"{what} has the name of this recipe: it would embed with itself.")
    if "pretrain" not in other.raw:
        raise _refused(where, f"{what} trains no encoder: it has no [pretrain].")
    for version in reversed(store.versions("run", other.name)):
        ref = load_run(store, other.name, version)
        if ref is not None and "checkpoint" in ref["result"]:
            return ref
    raise _refused(
        where, f"{what} has trained no encoder in {store.root}: winnow run {what} first."
    )


def _with_holdout(recipe: Recipe, trained: Mapping[str, Any], where: str) -> Recipe:
    """Return the recipe with the hold-out under which an encoder was trained."""
    theirs, name = trained["recipe"].get("holdout"), trained["run"]
    if "holdout" not in recipe.raw:
        if theirs is None:
            return recipe
        raw = {**recipe.raw, "holdout": theirs}
        return replace(recipe, raw=raw, holdout=_section(theirs))
    if recipe.holdout is None or (theirs is not None and _section(theirs) == recipe.holdout):
        return recipe
    under = f"under another [holdout], {dict(theirs)}" if theirs else "without a [holdout]"
    advice = "Leave [holdout] out here to inherit it, or give" if theirs else "Give"
    raise _refused(
        where,
        f"{name} was trained {under}: on records that this recipe holds out. "
        f"{advice} {name} the same and run it again.",
    )


def _refused(key: str, message: str) -> ConfigError:
    return ConfigError([Problem(key, message)])


@contextmanager
def _under(key: str) -> Iterator[None]:
    """Give what another file has wrong the key that names the file."""
    try:
        yield
    except ConfigError as error:
        raise _refused(key, str(error)) from None


def _section(raw: Mapping[str, Any]) -> HoldoutSection:
    return HoldoutSection(**parse(HoldoutSection, raw, where="holdout"))


def _references(pretrain: Mapping[str, Any]) -> list[str]:
    """Return what of one's own code a training was built of."""
    roles = [section.get("name") for section in pretrain.values() if isinstance(section, Mapping)]
    names = [pretrain["objective"], pretrain.get("encoder"), *roles]
    return [name for name in names if isinstance(name, str) and ":" in name]


def _run(store: Store, reference: str) -> Mapping[str, Any] | None:
    name, _, version = reference.partition("@")
    return load_run(store, name, int(version)) if version.isdigit() else None


def _kept(store: Store, verdict: Sequence[Mapping[str, Any]]) -> Iterator[pl.Series]:
    for part in verdict:
        rows = tables.read(store, Object(**part), ["uid", "dropped_by"])
        yield rows.filter(pl.col("dropped_by").is_null())["uid"]
