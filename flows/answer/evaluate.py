"""Evaluate: what an encoder is worth, by protocols over records that no selection saw."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from contracts import methods
from contracts.errors import ConfigError, DataError
from contracts.params import parse
from contracts.uid import uniform
from flows.answer.pretrain import Training, trained
from flows.measure.runtime import Runtime
from flows.pool_reader import Mask
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.sections import Problems, Recipe
from storage import tables
from storage.store import Object, Store, key_of

# What a protocol is called to compare that looks at notes of the pool, not at an encoder.
CLUSTERS = "cluster_N"
# Metrics of which less is more; of all others more is better.
LOWER_IS_BETTER = ("median_rank",)


@dataclass(frozen=True)
class Protocol:
    """One [[evaluate]]: a protocol with its parameters.

    Attributes:
        label: the expression that gives each record its label.
        cluster: the expression that gives each record its cluster, of a protocol over notes.
        template: how a label becomes a text for `classes_CD`.
    """

    name: str
    parameters: Mapping[str, Any]
    label: str | None = None
    pool: str | None = None
    template: str = "{}"
    cluster: str | None = None


@dataclass(frozen=True)
class Evaluation:
    """One encoder to be evaluated by every protocol.

    Attributes:
        records: table (uid, image, text, label.0, label.1, …), one label column a protocol.
    """

    training: Training
    protocols: tuple[Protocol, ...]
    records: Object


def protocols(recipe: Recipe) -> tuple[Protocol, ...]:
    """Return the [[evaluate]] sections, checked against the protocols' signatures.

    Raises:
        ConfigError: with every problem found.
    """
    problems = Problems()
    found = []
    for i, section in enumerate(recipe.evaluate):
        where = f"evaluate[{i}]"
        if "protocol" not in section:
            continue  # Found when the recipe was read.
        with problems.at(where):
            name = str(section["protocol"])
            method = methods.load("evaluation.protocols", name, recipe_dir=recipe.recipe_dir)
            own = ("protocol", "label", "pool", "template", "cluster")
            rest = {k: v for k, v in section.items() if k not in own}
            parameters = parse(method, rest, where=where)
            if "pool" in section:
                raise ConfigError(f"{where}.pool: evaluate on the hold-out; give [holdout].")
            if _wants_labels(method) and "label" not in section:
                raise ConfigError(f"{where}.label: {name} needs a label, such as meta.label.")
            if (CLUSTERS in inspect.signature(method).parameters) != ("cluster" in section):
                raise ConfigError(
                    f"{where}.cluster: {name} compares "
                    + ("vectors." if "cluster" in section else "clusters, such as near.cluster.")
                )
            found.append(
                Protocol(
                    name,
                    parameters,
                    section.get("label"),
                    None,
                    section.get("template", "{}"),
                    section.get("cluster"),
                )
            )
    if any(p.cluster is None for p in found) and "holdout" not in recipe.raw:
        problems.add("evaluate", "needs [holdout]: the records to evaluate on.")
    problems.raise_any()
    return tuple(found)


def over_notes(runtime: Runtime, protocols: Sequence[Protocol]) -> dict[str, dict[str, Any]]:
    """Score the clusters of the whole pool against labels that the pool has.

    Returns:
        Metrics by `near.cluster, meta.label`, of the records that have a label.
    """
    found: dict[str, dict[str, Any]] = {}
    for protocol in protocols:
        if protocol.cluster is None or protocol.label is None:
            continue
        sides = [Expression(text) for text in (protocol.cluster, protocol.label)]
        flat = runtime.frame(list(dict.fromkeys(p for e in sides for p in e.paths)))
        rows = flat.select(
            "uid",
            *[
                evaluate_expression(flat, e.polars, e.text).alias(n)
                for n, e in zip("cl", sides, strict=True)
            ],
        ).drop_nulls("l")
        # A record that is in no cluster is alone.
        alone = pl.struct("c", uid=pl.when(pl.col("c").is_null()).then("uid"))
        numbers = rows.select(alone.rank("dense"), pl.col("l").rank("dense"))
        method = methods.load(
            "evaluation.protocols", protocol.name, recipe_dir=runtime.plan.recipe.recipe_dir
        )
        measured = method(numbers["c"].to_numpy(), numbers["l"].to_numpy(), **protocol.parameters)
        name = f"{protocol.cluster}, {protocol.label}"
        found[name] = {metric: of.to_dict() for metric, of in measured.items()}
    return found


def text(scored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what `over_notes` found as lines."""
    return "\n".join(
        f"  {name}: " + ", ".join(f"{metric} {of['value']:.3f}" for metric, of in metrics.items())
        for name, metrics in scored.items()
    )


def records(runtime: Runtime, holdout_masks: list[Mask], wanted: tuple[Protocol, ...]) -> Object:
    """Write the held-out records, with their payload and labels, as one table of the store."""
    labels = {f"label.{i}": p.label for i, p in enumerate(wanted) if p.label is not None}
    paths = dict.fromkeys(p for text in labels.values() for p in Expression(text).paths)
    flat = runtime.frame(["text", *paths], holdout_masks)
    columns = [
        evaluate_expression(flat, Expression(text).polars, text).cast(pl.String).alias(name)
        for name, text in labels.items()
    ]
    rows = flat.select("uid", "text").with_columns(columns)
    images = [pl.DataFrame(schema={"uid": pl.UInt64, "image": pl.Binary})]
    for part, mask in zip(runtime.pool.parts, holdout_masks, strict=True):
        if part.payload is not None:
            groups = tables.payloads(runtime.store, part, "image", rows=mask.tolist())
            images += [group.select("uid", "image") for group in groups]
    rows = rows.join(pl.concat(images), on="uid", how="left", maintain_order="left")
    if not rows.height:
        raise DataError("[holdout] holds out no record: there is nothing to evaluate on.")
    return tables.put(
        runtime.store, rows.sort("uid"), pool=runtime.pool.name,
        table=f"holdout.{runtime.plan.recipe.name}", part="records",
    )  # fmt: skip


def evaluated(task: Evaluation) -> dict[str, dict[str, float | int]]:
    """Train where that was not done, evaluate where that was not done; return every metric."""
    store = Store(task.training.root)
    made_by = {
        "method": "evaluate",
        "version": 1,
        "training": task.training.made_by(),
        "records": task.records.sha256,
        "protocols": [{**vars(p), "parameters": dict(p.parameters)} for p in task.protocols],
    }
    made_by = json.loads(json.dumps(made_by))
    found = store.find(key_of(made_by))
    if found is None:
        weights = trained(task.training)
        metrics = _measure(task, store, weights)
        frame = pl.DataFrame({"metrics": [json.dumps(metrics)]})
        part = f"{task.training.arm.name}-{task.training.seed}"
        item = tables.put(store, frame, pool=task.training.pool, table="evaluations", part=part)
        found = store.publish_manifest(made_by, [item])
    measured: dict[str, dict[str, float | int]] = json.loads(
        tables.read(store, found.parts[0])["metrics"][0]
    )
    return measured


def _measure(task: Evaluation, store: Store, weights: Object) -> dict[str, Any]:
    from embeddings.checkpoint import Checkpoint
    from pretraining.checkpoint import description_of, rebuild

    data = store.path(weights).read_bytes()
    own = [n for n in (task.training.section.objective, task.training.encoder_name) if ":" in n]
    modules = rebuild(data, allow=own, recipe_dir=task.training.recipe_dir)
    description = description_of(data)
    rows = tables.read(store, task.records)

    def encode(tower: str, frame: pl.DataFrame) -> np.ndarray[Any, Any]:
        encoder = Checkpoint(modules, description, task.training.device, tower=tower)  # type: ignore[arg-type]
        return np.asarray(encoder(frame)["vector"].to_numpy(), dtype=np.float32)

    vectors = _Vectors(rows, encode)
    found: dict[str, Any] = {}
    for i, protocol in enumerate(task.protocols):
        method = methods.load(
            "evaluation.protocols", protocol.name, recipe_dir=task.training.recipe_dir
        )
        inputs = vectors.inputs(protocol, f"label.{i}")
        arguments = [inputs[name]() for name in _positional(method, inputs)]
        prefix = protocol.name.rpartition(":")[2]
        for metric, measured in method(*arguments, **protocol.parameters).items():
            found[f"{prefix}.{metric}"] = measured.to_dict()
    return found


class _Vectors:
    """The vectors and labels that a protocol may ask for, by the name of its parameter."""

    def __init__(
        self,
        rows: pl.DataFrame,
        encode: Callable[[str, pl.DataFrame], np.ndarray[Any, Any]],
    ) -> None:
        self._rows, self._encode = rows, encode
        self._towers: dict[str, np.ndarray[Any, Any]] = {}

    def inputs(self, protocol: Protocol, label: str) -> dict[str, Callable[[], Any]]:
        """Return for each parameter's name how its value is made.

        Records without what a protocol compares (a picture, a text, a label) are left out.
        """
        from evaluation.features import Features

        rows = self._rows
        pictured = rows["image"].is_not_null().to_numpy()
        paired = pictured & rows["text"].is_not_null().to_numpy()
        labelled = pictured
        if label in rows.columns:
            labelled = pictured & rows[label].is_not_null().to_numpy()

        def labels() -> np.ndarray[Any, Any]:
            return np.asarray(rows[label].to_numpy()[labelled])

        def groups() -> np.ndarray[Any, Any]:
            column = label if label in rows.columns else "text"
            return np.asarray(rows[column].fill_null("").rank("dense").to_numpy()[paired])

        def half(first: bool) -> Features:
            chosen = (uniform(rows["uid"].to_numpy(), 0, "evaluate") < 0.5) == first
            return Features(self._tower("image")[chosen & labelled], labels()[chosen[labelled]])

        def classes() -> np.ndarray[Any, Any]:
            texts = [protocol.template.format(name) for name in sorted(set(labels()))]
            uids = pl.int_range(len(texts), dtype=pl.UInt64, eager=True)
            return self._encode("text", pl.DataFrame({"uid": uids, "text": texts}))

        def numbered() -> Features:
            names = sorted(set(labels()))
            return Features(self._tower("image")[labelled], np.searchsorted(names, labels()))

        return {
            "image_ND": lambda: self._tower("image")[paired],
            "text_MD": lambda: self._tower("text")[paired],
            "groups_N": groups,
            "train": lambda: half(True),
            "test": lambda: half(False),
            "image": numbered,
            "classes_CD": classes,
        }

    def _tower(self, name: str) -> np.ndarray[Any, Any]:
        if name not in self._towers:
            self._towers[name] = self._encode(name, self._rows)
        return self._towers[name]


def _positional(method: Any, known: Mapping[str, Any]) -> list[str]:
    """Return the names of a protocol's positional parameters that it must be given."""
    found = []
    for name, parameter in inspect.signature(method).parameters.items():
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            continue
        if name in known:
            found.append(name)
        elif parameter.default is parameter.empty:
            raise ConfigError(f"a protocol may ask for {', '.join(known)}, not for {name!r}.")
    return found


def _wants_labels(method: Any) -> bool:
    names = inspect.signature(method).parameters
    return bool({"train", "test", "image", "classes_CD", "label_N"} & set(names))
