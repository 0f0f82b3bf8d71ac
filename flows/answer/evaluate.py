"""Evaluate: what an encoder is worth, by protocols over records that no selection saw."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field

from contracts import decode, methods
from contracts.errors import (
    ConfigError,
    ContractError,
    DataError,
    DivergedError,
    Problem,
    nearest,
)
from contracts.params import Count, parse
from contracts.payload import KINDS
from contracts.report import Metric
from contracts.uid import uid_of, uniform
from curation._graph import components
from embeddings.encoder import prepared
from evaluation import protocol as inputs
from evaluation.features import NO_CLASS, Dense, Features, Items
from flows.answer.pretrain import Training, device_here, references, towers, trained
from flows.measure.encoders import encoder
from flows.measure.runtime import Runtime
from flows.measure.targets import pool_of
from flows.measure.tasks import MeasuredRows, Task, Work, measure, rows_of
from flows.pool_reader import Mask
from flows.recipe import bootstrap
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.plan import Method, Node
from flows.recipe.sections import Problems, Recipe
from storage import tables
from storage.store import Object, Store, key_of

STREAM = "evaluate"
OF_LABELS: frozenset[Any] = frozenset(
    {inputs.Train, inputs.Test, inputs.TrainItems, inputs.TestItems}
)
OF_GRIDS: frozenset[Any] = frozenset({inputs.TrainDense, inputs.TestDense})
HALVES: frozenset[Any] = OF_LABELS | OF_GRIDS
OF_ONE_TOWER: frozenset[Any] = HALVES | {inputs.Vectors}
OF_IMAGES: frozenset[Any] = frozenset({inputs.Labelled, inputs.Images})
OF_CHOICES: frozenset[Any] = frozenset({inputs.ChoiceNats, inputs.ChoiceBytes, inputs.Answers})
OF_PREDICTIONS: frozenset[Any] = OF_CHOICES | {inputs.Nats, inputs.Bytes}
TOLD = ("loss", "tokens", "bytes")
"""The predictions of an objective that `OF_PREDICTIONS` are made of."""
UNKNOWN = "of unknown bytes"
"""What is said of texts that `bits_per_byte` leaves out; only a model tells which they are."""
OF_TEXTS: frozenset[Any] = frozenset({inputs.Classes, inputs.Texts})
LABELS: frozenset[Any] = OF_LABELS | {inputs.Labelled, inputs.Labels, inputs.Answers}
Vectors = NDArray[np.float32]
_GRID_ITEMS = 64
LATER = ("pool", "side_px", "unscaled")
OF_ONE_PICTURE: frozenset[Any] = frozenset({inputs.Train, inputs.Test, inputs.Vectors})
"""Inputs that are vectors of pictures, which may be shown otherwise."""


@dataclass(frozen=True, kw_only=True)
class EvaluateSection:
    """One [[evaluate]]: a protocol over the hold-out, whose parameters stand here too.

    Attributes:
        protocol: a file of evaluation/protocols, or a reference to one's own.
        name: what its metrics are called by, `<name>.<metric>`; the protocol's where not given.
        pool: an earlier version of this pool, "web@1", whose held-out records alone are read; or
            another pool, all of whose records are. The hold-out where not given.
        label: SQL; gives each record its label.
        cluster: SQL; gives each record its cluster, for a protocol over clusters.
        groups: SQL; gives each record the group that it is scored in, for a protocol over groups.
        choices: SQL; gives each record what may follow its text, a JSON list of texts, for a
            protocol over choices, whose label is the place of the right one, counted from 0.
        template: how a label becomes a text, such as "a photo of a {}", for a protocol that
            compares with classes; of several a class has the mean of their vectors.
        side_px: pictures are scaled to this side in place of the encoder's own, to see what that
            costs; of protocols over vectors.
        unscaled: likewise pixels reach the encoder as 0 to 255, not divided by 255 as in training.
        tower: whose vectors are probed, by what it reads; that of the payload where not given.
        parameters: the protocol's.
    """

    protocol: str
    name: str = ""
    pool: str | None = None
    label: str | None = None
    cluster: str | None = None
    groups: str | None = None
    choices: str | None = None
    template: str | Annotated[Sequence[str], Field(min_length=1)] | None = None
    side_px: Count | None = None
    unscaled: bool | None = None
    tower: str | None = None
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """One encoder to be evaluated by every protocol.

    Attributes:
        records: table (uid, part, row, image, text, group, label.0, …), see `records`.
        parts: of the pool that holds them.
    """

    training: Training
    sections: tuple[EvaluateSection, ...]
    records: Object
    parts: tuple[tables.Part, ...]

    def made_by(self) -> dict[str, Any]:
        """Return what the metrics depend on."""
        recipe_dir = self.training.recipe_dir
        made_by = {
            "method": "evaluate",
            "version": 3,
            "training": self.training.made_by(),
            "records": self.records.sha256,
            # A key that came later is left out where it is not given, so that answers are found.
            "sections": [
                {k: v for k, v in asdict(section).items() if k not in LATER or v is not None}
                for section in self.sections
            ],
            "sources": [
                methods.source_hash(s.protocol, recipe_dir=recipe_dir) for s in self.sections
            ],
        }
        return dict(json.loads(json.dumps(made_by)))


def sections(recipe: Recipe) -> tuple[EvaluateSection, ...]:
    """Return the [[evaluate]] sections, checked against the protocols' declarations.

    Raises:
        ConfigError: with every problem found.
    """
    problems = Problems()
    found: list[EvaluateSection] = []
    taken = {str(table["name"]) for table in recipe.evaluate if "name" in table}
    given: set[str] = set()
    for i, table in enumerate(recipe.evaluate):
        where = f"evaluate[{i}]"
        if "protocol" not in table:
            continue  # Found when the recipe was read.
        with problems.at(where):
            section = _section(table, where, recipe)
            if "name" not in table:
                section = replace(section, name=_free(section.name, taken))
            elif section.name in given:
                problems.add(f"{where}.name", f"{section.name!r} is taken: give another name.")
            taken.add(section.name)
            given.add(section.name)
            found.append(section)
    if any(s.cluster is None for s in found) and "holdout" not in recipe.raw:
        problems.add("evaluate", "needs [holdout]: the records to evaluate on.")
    problems.raise_any()
    return _with_towers(found, recipe)


def _section(table: Mapping[str, Any], where: str, recipe: Recipe) -> EvaluateSection:
    known = (
        "protocol",
        "name",
        "pool",
        "label",
        "cluster",
        "groups",
        "choices",
        "template",
        "tower",
        "side_px",
        "unscaled",
    )
    name = str(table["protocol"])
    method = load(name, recipe.recipe_dir)
    parameters = parse(method, {k: v for k, v in table.items() if k not in known}, where=where)
    own = {k: v for k, v in table.items() if k in known}
    default = name.rpartition(":")[2]
    if "cluster" in own:
        # Of notes there is no name in a table of metrics: what is compared says more.
        default = f"{own['cluster']}, {own.get('label')}"
    section = EvaluateSection(
        **parse(EvaluateSection, {"name": default, **own, "parameters": parameters}, where=where)
    )
    try:
        asked = set(method.inputs)
    except ContractError as error:
        raise ConfigError(f"{where}.protocol: {error}") from None
    problems = Problems()
    if "name" in own and (not section.name or "." in section.name):
        problems.add(f"{where}.name", "is a text without a dot: metrics are <name>.<metric>.")
    if asked & LABELS and section.label is None:
        problems.add(f"{where}.label", f"{name} needs a label, such as meta.label.")
    if (inputs.Clusters in asked) != (section.cluster is not None):
        what = "vectors." if section.cluster is not None else "clusters, such as near.cluster."
        problems.add(f"{where}.cluster", f"{name} compares {what}")
    if section.pool is not None and section.cluster is not None:
        problems.add(f"{where}.pool", f"{name} compares clusters of this recipe's own pool.")
    if (inputs.TestGroups in asked) != (section.groups is not None):
        what = "no groups." if section.groups is not None else "groups, such as meta.country."
        problems.add(f"{where}.groups", f"{name} compares {what}")
    if bool(OF_CHOICES & asked) != (section.choices is not None):
        what = "no choices." if section.choices is not None else "choices, such as meta.choices."
        problems.add(f"{where}.choices", f"{name} compares {what}")
    if section.tower is not None and not asked & OF_ONE_TOWER:
        problems.add(f"{where}.tower", f"{name} has no one tower to choose.")
    for key in ("side_px", "unscaled"):
        if getattr(section, key) is not None and not asked & OF_ONE_PICTURE:
            problems.add(f"{where}.{key}", f"{name} is shown pictures as the encoder was.")
    if section.template is not None and inputs.Classes not in asked:
        problems.add(f"{where}.template", f"{name} makes no texts of labels.")
    problems.raise_any()
    return section


def _with_towers(found: Sequence[EvaluateSection], recipe: Recipe) -> tuple[EvaluateSection, ...]:
    """Return sections with the first tower of what is trained where they need one and name none."""
    lacking = [
        section.tower is None and bool(OF_ONE_TOWER & set(_inputs(section, recipe.recipe_dir)))
        for section in found
    ]
    if recipe.pretrain is None or not any(lacking):
        return tuple(found)
    tower = None
    with suppress(ConfigError):  # Found when the objective is checked.
        tower = next(iter(towers(recipe.pretrain, recipe.recipe_dir)), None)
    return tuple(
        replace(section, tower=tower) if lacks else section
        for section, lacks in zip(found, lacking, strict=True)
    )


def _free(name: str, taken: Collection[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name}#{number}"
    return free


def load(name: str, recipe_dir: Path) -> inputs.Protocol[Any]:
    """Return a protocol by name or reference.

    Raises:
        ConfigError: there is none, or it declares no metrics.
    """
    method = methods.load("evaluation.protocols", name, recipe_dir=recipe_dir)
    if not isinstance(method, inputs.Protocol):
        raise ConfigError(
            f"protocol: {name} declares no metrics: decorate it with "
            "@evaluation.protocol.protocol({'accuracy': True})."
        )
    return method


def metrics(recipe: Recipe, wanted: Sequence[EvaluateSection]) -> dict[str, bool | None]:
    """Return every metric over vectors, in order, and whether more of it is better."""
    return {
        f"{section.name}.{metric}": way
        for section in wanted
        if section.cluster is None
        for metric, way in load(section.protocol, recipe.recipe_dir)
        .metrics(section.parameters)
        .items()
    }


def check(recipe: Recipe, wanted: Sequence[EvaluateSection], objective: Any) -> None:
    """Check that an objective exports the towers that the protocols compare.

    Raises:
        ConfigError: with every problem found.
    """
    from embeddings.checkpoint import towers_of

    problems = Problems()
    with problems.at("pretrain.objective"):
        exported = towers_of({name: objective.get_submodule(name) for name in objective.exports})
        for section in wanted:
            for tower in sorted(_towers(section, recipe.recipe_dir) - set(exported)):
                problems.add(
                    "evaluate",
                    f"{section.name} compares vectors of the {tower} tower, which "
                    f"{type(objective).__name__} does not export.{nearest(tower, exported)}",
                )
            asked = set(_inputs(section, recipe.recipe_dir))
            if OF_GRIDS & asked and section.tower in exported:
                module = objective.get_submodule(exported[str(section.tower)])
                if not hasattr(module, "stages") and not hasattr(module, "tokens"):
                    problems.add(
                        "evaluate",
                        f"{section.name} compares grids of vectors, and the {section.tower} tower "
                        "shows neither stages nor tokens: vit, resnet and most of timm do.",
                    )
            if (section.side_px or section.unscaled) is not None and section.tower in exported:
                with problems.at("evaluate"):
                    module = objective.get_submodule(exported[str(section.tower)])
                    _refuse_unshown(section, module)
            if not OF_PREDICTIONS & asked:
                continue
            absent = [name for name in TOLD if name not in objective.predicts]
            if absent:
                problems.add(
                    "pretrain.objective",
                    f"{section.name} reads {absent}, which {type(objective).__name__} does not "
                    "predict: clm does.",
                )
            codecs = objective.codecs.values()
            if section.choices is not None and not all(hasattr(c, "continued") for c in codecs):
                problems.add(
                    "pretrain.objective",
                    f"{section.name} continues texts, which the encoder's codec cannot: "
                    "text_transformer does.",
                )
            for key in _without_bytes(recipe, objective):
                problems.add(
                    key,
                    f"{section.name} counts the bytes of texts, of which this vocabulary loses "
                    "some: take byte_pair_encoding, or none, which is bytes.",
                )
    problems.raise_any()


def _refuse_unshown(section: EvaluateSection, module: Any) -> None:
    """Refuse pictures in a size that an encoder does not take, or for one that takes none.

    Raises:
        ConfigError: as said.
    """
    import torch

    if module.codec.reads != "image":
        raise ConfigError(
            f"{section.name} compares vectors of the {section.tower} tower, which reads no "
            "pictures: leave out side_px and unscaled."
        )
    channels, height, width = module.codec.shape
    sides = (section.side_px or height, section.side_px or width)
    picture = np.zeros((1, channels, *sides), dtype=module.codec.dtype)
    with torch.inference_mode():
        module.eval()(torch.from_numpy(picture))


def _without_bytes(recipe: Recipe, objective: Any) -> list[str]:
    """Return the keys of vocabularies whose tokens stand for no known bytes, as WordPiece's."""
    assert recipe.pretrain is not None
    found = [
        f"pretrain.{role}.weights"
        for role, column in objective.inputs.items()
        if np.isnan(getattr(objective.codecs[column], "bytes_of", 0)).all()
    ]
    # A fit is not made yet: where it has merges, it is of byte-level pair encoding.
    for key, fit in recipe.pretrain.fits().items():
        alias = fit.removeprefix("fit.")
        name = str(recipe.fit.get(alias, {}).get("step", alias))
        with suppress(ConfigError):  # Found when the recipe is planned.
            step = methods.load("curation.fit", name, recipe_dir=recipe.recipe_dir)
            if "token" in step.writes and "merge" not in step.writes:
                found.append(key)
    return found


def _towers(section: EvaluateSection, recipe_dir: Path) -> set[str]:
    """Return the towers whose vectors a protocol compares."""
    asked = set(load(section.protocol, recipe_dir).inputs)
    towers = {tower for tower, of in (("image", OF_IMAGES), ("text", OF_TEXTS)) if asked & of}
    return towers | {section.tower} if section.tower is not None else towers


def over_notes(runtime: Runtime, wanted: Sequence[EvaluateSection]) -> dict[str, dict[str, Any]]:
    """Score the clusters of the whole pool against labels that the pool has.

    Returns:
        Metrics by the section's name, of the records that have a label.
    """
    found: dict[str, dict[str, Any]] = {}
    for section in wanted:
        if section.cluster is None or section.label is None:
            continue
        sides = {"cluster": Expression(section.cluster), "label": Expression(section.label)}
        flat = runtime.frame(list(dict.fromkeys(p for e in sides.values() for p in e.paths)))
        columns = [
            evaluate_expression(flat, e.polars, e.text).alias(side) for side, e in sides.items()
        ]
        rows = flat.select("uid", *columns).drop_nulls("label")
        # A record that is in no cluster is alone.
        alone = pl.struct("cluster", uid=pl.when(pl.col("cluster").is_null()).then("uid"))
        numbers = rows.select(cluster=alone.rank("dense"), label=pl.col("label").rank("dense"))
        sides_of = {
            inputs.Clusters: numbers["cluster"].to_numpy(),
            inputs.Labels: numbers["label"].to_numpy(),
        }
        method = load(section.protocol, runtime.plan.recipe.recipe_dir)
        measured = method(*[sides_of[i] for i in method.inputs], **section.parameters)
        found[section.name] = {metric: of.to_dict() for metric, of in measured.items()}
    return found


def text(scored: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what `over_notes` found as lines."""
    return "\n".join(
        f"  {name}: " + ", ".join(f"{metric} {of['value']:.3f}" for metric, of in metrics.items())
        for name, metrics in scored.items()
    )


@dataclass(frozen=True)
class HoldOut:
    """The held-out records that an answer rests on.

    Attributes:
        records: their table, see `records`.
        digest: of their uids.
        passed_over: for each section how many records lack what it compares.
        sealed: whether they are the sealed part.
        parts: of pools that hold them.
        others: by the reference of another pool, or of an earlier version, what reads it, and
            which rows are evaluated on.
    """

    records: Object
    digest: str
    passed_over: dict[str, dict[str, int]]
    sealed: bool
    parts: tuple[tables.Part, ...]
    others: Mapping[str, tuple[Runtime, Sequence[Mask]]]


def records(
    runtime: Runtime,
    holdout_masks: Sequence[Mask],
    wanted: Sequence[EvaluateSection],
    *,
    unseal: bool = False,
) -> HoldOut:
    """Write what the protocols must know of the held-out records, without their payload.

    With `sealed_ratio` groups of uniform(group, seed, "sealed") below it are sealed: they are read
    with `unseal`, and then alone.

    Returns:
        A table uid, part, row, image or audio and text (whether there is one), same_text (equal
        texts share it), group (records of one group, near cluster or series share it), and of
        each section that has them `label.<i>`, `groups.<i>` and `choices.<i>`.

    Raises:
        ConfigError: a training that this one begins with saw records of another pool.
        DataError: nothing is held out, or a section can use nothing of it.
    """
    section = runtime.plan.recipe.holdout
    assert section is not None
    everyone = Runtime(
        runtime.store, runtime.pool, plan=runtime.plan, workers=runtime.workers,
        device=runtime.device, mixed=runtime.mixed,
    )  # fmt: skip
    paths = _grouping(runtime)
    everyone.make([runtime.plan.columns[p] for p in paths if p in runtime.plan.columns])
    own = {i: s for i, s in enumerate(wanted) if _is_own(s.pool, runtime)}
    rows = _rows(runtime, everyone, holdout_masks, paths, own)
    if not rows.height and any(s.pool is None for s in wanted):
        raise DataError("[holdout] holds out no record: there is nothing to evaluate on.")
    if section.sealed_ratio is not None and rows.height:
        drawn = uniform(rows["group"].to_numpy(), section.seed, "sealed") < section.sealed_ratio
        rows = rows.filter(pl.Series(drawn) == unseal)
        if not rows.height:
            which = "seals no record" if unseal else "seals every held-out record"
            raise DataError(f"[holdout] sealed_ratio {which}: hold out more, or another share.")
    parts, others = runtime.pool.parts, {}
    references = dict.fromkeys(s.pool for s in wanted if s.pool is not None)
    if references:
        frames = [rows.with_columns(pool=pl.lit(""))]
        for reference in references:
            reader, masks = _of_pool(runtime, reference, rows["uid"])
            if _is_own(reference, runtime):
                more = rows.filter(rows["uid"].is_in(reader.frame([], masks)["uid"].implode()))
            else:
                of = {i: s for i, s in enumerate(wanted) if s.pool == reference}
                asked = [t for s in of.values() for t in (s.label, s.groups, s.choices) if t]
                named = {p for text in asked for p in Expression(text).paths}
                reader.make([reader.plan.columns[p] for p in named if p in reader.plan.columns])
                more = _rows(reader, reader, masks, ["series"], of, first=len(parts))
                bootstrap.refuse_trained(
                    runtime.store, runtime.plan.recipe, more["uid"], pool=reference
                )
                parts += reader.pool.parts
            if not more.height:
                raise DataError(f"[[evaluate]] pool: of {reference} there is nothing to read.")
            frames.append(more.with_columns(pool=pl.lit(reference)))
            others[reference] = reader, masks
        # Where only one of the pools has label images, say, records of the other lack them.
        rows = pl.concat(frames, how="diagonal_relaxed").with_columns(
            pl.col(pl.Boolean).fill_null(value=False)
        )
    passed_over = {}
    for i, protocol in enumerate(wanted):
        found, missing = usable(protocol, i, rows, runtime.plan.recipe.recipe_dir)
        counts = {what: int(n) for what, n in missing.items() if n}
        lacking = ", ".join(f"{n:,} {what}" for what, n in counts.items())
        if not found.any():
            raise DataError(
                f"{protocol.name}: none of the {rows.height:,} held-out records can be used: "
                f"{lacking}."
            )
        groups = rows.filter(pl.Series(found))["group"].n_unique()
        if groups < 2 and HALVES & set(_inputs(protocol, runtime.plan.recipe.recipe_dir)):
            raise DataError(
                f"{protocol.name}: the {int(found.sum()):,} held-out records that it can use are "
                "one group, which no two halves may share. Hold out more groups."
            )
        if counts:
            passed_over[protocol.name] = counts
    item = tables.put(
        runtime.store, rows, pool=runtime.pool.name,
        table=f"holdout.{runtime.plan.recipe.name}", part="records",
    )  # fmt: skip
    digest = hashlib.sha256(rows["uid"].sort().to_numpy().tobytes()).hexdigest()
    return HoldOut(item, digest, passed_over, unseal, parts, others)


def _is_own(pool: str | None, runtime: Runtime) -> bool:
    """Whether what is evaluated on is of this pool: its hold-out, or that of an earlier version."""
    return pool is None or pool.partition("@")[0] == runtime.pool.name


def _of_pool(
    runtime: Runtime, reference: str, held_out: pl.Series
) -> tuple[Runtime, Sequence[Mask]]:
    """Return what reads another pool, or an earlier version, and which of its rows are read."""
    pool = pool_of(runtime.store, reference)
    assert pool is not None, "check looked for it"
    if pool.kind not in (None, runtime.pool.kind):
        raise ConfigError(
            [Problem("evaluate", f"pool {reference} has {pool.kind}, not {runtime.pool.kind}.")]
        )
    reader = Runtime(
        runtime.store, pool, plan=runtime.plan, workers=runtime.workers, device=runtime.device,
        mixed=runtime.mixed,
    )  # fmt: skip
    if _is_own(reference, runtime):
        return reader, reader.where(held_out)
    return reader, reader.live


def _rows(
    runtime: Runtime,
    everyone: Runtime,
    masks: Sequence[Mask],
    paths: Sequence[str],
    wanted: Mapping[int, EvaluateSection],
    first: int = 0,
) -> pl.DataFrame:
    """Return what is to be known of the rows that masks let through.

    Args:
        runtime: gives labels and groups.
        everyone: gives what `paths` name.
        masks: of each part.
        paths: columns by which records belong together.
        wanted: the sections that read these rows, by their number.
        first: the number of the first part.
    """
    frames = [
        _of_part(runtime, everyone, part, masks, paths, wanted).with_columns(
            part=pl.lit(first + part, dtype=pl.UInt32)
        )
        for part in range(len(masks))
    ]
    rows = pl.concat(frames, how="vertical_relaxed") if frames else pl.DataFrame()
    if not rows.height:
        return pl.DataFrame(schema={"uid": pl.UInt64})
    rows = rows.with_columns(group=_groups(rows, [f"group.{p}" for p in paths]))
    return rows.drop([f"group.{p}" for p in paths])


def _inputs(section: EvaluateSection, recipe_dir: Path) -> tuple[Any, ...]:
    return load(section.protocol, recipe_dir).inputs


def _grouping(runtime: Runtime) -> list[str]:
    """Return the columns by which held-out records belong together."""
    holdout = runtime.plan.recipe.holdout
    assert holdout is not None
    by_group = [holdout.by_group] if holdout.by_group is not None else []
    near = [f"{holdout.near}.cluster"] if holdout.near is not None else []
    return list(dict.fromkeys([*by_group, *near, "series"]))


def _of_part(
    runtime: Runtime, everyone: Runtime, part: int, masks: Sequence[Mask],
    paths: Sequence[str], wanted: Mapping[int, EvaluateSection],
) -> pl.DataFrame:  # fmt: skip
    """Return what is to be known of the records of one part."""
    asked = {
        f"{name}.{i}": Expression(text)
        for i, section in wanted.items()
        for name, text in (
            ("label", section.label),
            ("groups", section.groups),
            ("choices", section.choices),
        )
        if text is not None
    }
    named = dict.fromkeys(p for e in asked.values() for p in e.paths)
    kind = runtime.pool.kind or "image"
    dense = any(OF_GRIDS & set(_inputs(s, runtime.plan.recipe.recipe_dir)) for s in wanted.values())
    own = [KINDS[kind].column, "text", *(["label_image"] if dense else [])]
    flat = runtime.frame(list(dict.fromkeys([*own, *named])), masks, part)
    # Only a runtime in which nothing is held out has the clusters of what is held out.
    groups = everyone.frame(paths, masks, part)
    digests = [None if t is None else uid_of("text", t) for t in flat["text"]]
    return flat.select(
        "uid",
        part=pl.lit(part, dtype=pl.UInt32),
        row=pl.Series(np.flatnonzero(masks[part]), dtype=pl.UInt32),
        # A picture has a width: it was decoded when it was read in.
        **{kind: pl.col(KINDS[kind].column).is_not_null()},
        text=pl.col("text").is_not_null(),
        **({"label_image": pl.col("label_image").is_not_null()} if dense else {}),
        same_text=pl.Series(digests, dtype=pl.UInt64),
        **{f"group.{p}": groups[p].cast(pl.String) for p in paths},
        **{
            name: evaluate_expression(flat, e.polars, e.text).cast(pl.String)
            for name, e in asked.items()
        },
    )


def _groups(rows: pl.DataFrame, keys: Sequence[str]) -> pl.Series:
    """Return for each record the smallest uid of those that keys join it to, over any of them."""
    ends = []
    for key in keys:
        first = pl.col("uid").min().over(key)
        ends.append(rows.filter(pl.col(key).is_not_null()).select(a="uid", b=first))
    edges = pl.concat(ends)
    uids = rows["uid"].sort()
    named = components(uids.to_numpy(), edges["a"].to_numpy(), edges["b"].to_numpy())
    groups = pl.DataFrame({"uid": uids, "group": named})
    return rows.select("uid").join(groups, on="uid", how="left", maintain_order="left")["group"]


_ONE = {"image": "an image", "audio": "audio", "volume": "a volume", "text": "a text"}


def usable(
    section: EvaluateSection, i: int, rows: pl.DataFrame, recipe_dir: Path
) -> tuple[NDArray[np.bool_], dict[str, int]]:
    """Return which records have what the i-th section compares, and how many lack what first."""
    predicted = {"text"} if OF_PREDICTIONS & set(_inputs(section, recipe_dir)) else set()
    needed = {
        f"without {_ONE[tower]}": rows[tower]
        for tower in sorted(_towers(section, recipe_dir) | predicted)
        # Of classes the texts are made from labels.
        if not (tower == "text" and inputs.Classes in _inputs(section, recipe_dir))
    }
    if section.label is not None:
        needed["without a label"] = rows[f"label.{i}"].is_not_null()
    if OF_GRIDS & set(_inputs(section, recipe_dir)):
        needed["without a label image"] = rows["label_image"]
    if section.groups is not None:
        needed["without a group"] = rows[f"groups.{i}"].is_not_null()
    if section.choices is not None:
        choices = [_choices(text) for text in rows[f"choices.{i}"]]
        needed["without choices"] = pl.Series([bool(of) for of in choices])
        needed["whose answer is none of the choices"] = pl.Series(
            [
                answer in map(str, range(len(of)))
                for answer, of in zip(rows[f"label.{i}"], choices, strict=True)
            ]
        )
    left = np.ones(rows.height, dtype=bool)
    if "pool" in rows.columns:
        left = (rows["pool"] == (section.pool or "")).to_numpy()
    missing = {}
    for what, present in needed.items():
        missing[what] = int((left & ~present.to_numpy()).sum())
        left &= present.to_numpy()
    return left, missing


def _choices(text: str | None) -> list[str]:
    """Return the texts of a JSON list, none where it is no such list or one of them is empty."""
    try:
        found = json.loads(text or "")
    except ValueError:
        return []
    usable = isinstance(found, list) and all(isinstance(one, str) and one for one in found)
    return found if usable else []


def halves(groups: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which records are in the first half.

    Whole groups go there in the order of uniform(group, 0, "evaluate"), as near to half of the
    records as groups allow; of two or more groups neither half is empty.
    """
    names, group_N, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.lexsort((names, uniform(names, 0, STREAM)))
    middles = np.cumsum(sizes[order]) - sizes[order] / 2
    first = np.zeros(len(names), dtype=bool)
    first[order] = middles <= len(groups) / 2
    return first[group_N]


@dataclass(frozen=True)
class Evaluated:
    """What one encoder is worth.

    Attributes:
        metrics: by `<name>.<metric>`, in the order of the sections.
        unencoded: records whose vector is zero or not finite, by tower and how it is shown.
        diverged: what the training of a cell ended with that was not finite; then there are no
            metrics.
        unknown: texts whose bytes are not known, by the section that leaves them out.
    """

    metrics: dict[str, Metric]
    unencoded: dict[str, int]
    diverged: str | None = None
    unknown: dict[str, int] = field(default_factory=dict)


def evaluated(task: Evaluation) -> Evaluated:
    """Train where that was not done, evaluate where that was not done."""
    store, made_by = Store(task.training.root), task.made_by()
    found = store.find(key_of(made_by))
    if found is None:
        measured = _measured(task, store)
        part = f"{task.training.arm.file_name}-{task.training.seed}"
        rows = _rows_of(measured.metrics)
        item = tables.put(store, rows, pool=task.training.pool, table="evaluations", part=part)
        recorded: dict[str, Any] = {"unencoded": measured.unencoded, "unknown": measured.unknown}
        if measured.diverged is not None:
            recorded["diverged"] = measured.diverged
        found = store.publish_manifest(made_by, [item], recorded)
    rows = tables.read(store, found.parts[0])
    said = found.recorded
    return Evaluated(
        _metrics_of(rows), dict(said["unencoded"]), said.get("diverged"),
        dict(said.get("unknown", {})),
    )  # fmt: skip


def _measured(task: Evaluation, store: Store) -> Evaluated:
    """Measure what a training leaves; in a grid one that diverges is an answer, not an error."""
    try:
        weights = trained(task.training)
    except DivergedError as error:
        if task.training.trunk is None:
            raise
        # Without where the step is kept: an answer is the same in every store.
        return Evaluated({}, {}, str(error.__cause__ or error))
    return _measure(task, store, weights)


_ROWS: Mapping[str, Any] = {
    "metric": pl.String, "value": pl.Float64, "n": pl.UInt64, "low": pl.Float64,
    "high": pl.Float64, "higher_is_better": pl.Boolean, "items": pl.List(pl.Float64),
    "statistic": pl.String,
}  # fmt: skip


def _rows_of(metrics: Mapping[str, Metric]) -> pl.DataFrame:
    rows = [
        {
            "metric": name, **of.to_dict(), "statistic": of.statistic,
            "items": None if of.items is None else of.items.tolist(),
        }
        for name, of in metrics.items()
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=_ROWS)


def _metrics_of(rows: pl.DataFrame) -> dict[str, Metric]:
    metrics = {}
    for row in rows.iter_rows(named=True):
        name, items = row.pop("metric"), row.pop("items")
        metrics[name] = Metric(**row, items=None if items is None else np.array(items))
    return metrics


def _measure(task: Evaluation, store: Store, weights: Object) -> Evaluated:
    recipe_dir = task.training.recipe_dir
    rows = tables.read(store, task.records)
    towers: dict[tuple[Any, ...], dict[str, Tower]] = {}
    for section in task.sections:
        known = towers.setdefault((section.side_px, section.unscaled), {})
        for name in sorted(_towers(section, recipe_dir) - set(known)):
            known[name] = Tower(
                task, store, weights, name, rows,
                side_px=section.side_px, unscaled=bool(section.unscaled),
            )  # fmt: skip
    predictions = Predictions(task, store, weights, rows)
    metrics: dict[str, Metric] = {}
    unknown: dict[str, int] = {}
    for i, section in enumerate(task.sections):
        found, _ = usable(section, i, rows, recipe_dir)
        method = load(section.protocol, recipe_dir)
        shown_so = towers[section.side_px, section.unscaled]
        arguments = _arguments(section, i, rows, found, shown_so, predictions)
        measured = method(*[arguments[asked]() for asked in method.inputs], **section.parameters)
        metrics |= {f"{section.name}.{metric}": of for metric, of in measured.items()}
        if inputs.Bytes in method.inputs:
            lacking = int(np.isnan(arguments[inputs.Bytes]()).sum())
            unknown |= {section.name: lacking} if lacking else {}
    every = [tower for known in towers.values() for tower in known.values()]
    lost = {tower.shown: tower.unencoded for tower in every if tower.unencoded}
    return Evaluated(metrics, lost, unknown=unknown)


def _arguments(
    section: EvaluateSection, i: int, rows: pl.DataFrame, found: NDArray[np.bool_],
    towers: Mapping[str, Tower], predictions: Predictions,
) -> dict[Any, Any]:  # fmt: skip
    """Return for each input how it is made of the records that can be used."""
    here = rows.filter(pl.Series(found))
    first = halves(here["group"].to_numpy())

    def texts_of(name: str) -> NDArray[Any]:
        return np.asarray(here[f"{name}.{i}"].to_list(), dtype=str)

    def vectors() -> Vectors:
        assert section.tower is not None
        return towers[section.tower].vectors[found]

    def half(chosen: NDArray[np.bool_]) -> Features:
        return Features(vectors()[chosen], texts_of("label")[chosen])

    def half_of_items(chosen: NDArray[np.bool_]) -> Items:
        assert section.tower is not None
        return Items(towers[section.tower].items[found][chosen], texts_of("label")[chosen])

    def half_of_grids(chosen: NDArray[np.bool_]) -> Dense:
        assert section.tower is not None
        grids_NHWD, labels_NHW = towers[section.tower].dense
        return Dense(grids_NHWD[found][chosen], labels_NHW[found][chosen])

    def numbered() -> Features:
        numbers = np.unique(texts_of("label"), return_inverse=True)[1]
        return Features(towers["image"].vectors[found], numbers)

    def classes() -> Vectors:
        given = section.template or "{}"
        templates = [given] if isinstance(given, str) else given
        names = np.unique(texts_of("label"))
        prompts = [towers["text"].of([one.format(name) for name in names]) for one in templates]
        # The vectors of an encoder are unit, and a protocol looks at the direction of their mean.
        mean: Vectors = np.mean(prompts, axis=0)
        return mean

    def groups() -> NDArray[Any]:
        column = f"label.{i}" if section.label is not None else "same_text"
        return np.asarray(here[column].rank("dense").to_numpy())

    def told() -> pl.DataFrame:
        return predictions.numbers.filter(pl.Series(found))

    @cache
    def choices() -> dict[str, NDArray[np.float64]]:
        return predictions.of_choices(found, [_choices(text) for text in here[f"choices.{i}"]])

    return {
        inputs.Train: lambda: half(first),
        inputs.Test: lambda: half(~first),
        inputs.Labelled: numbered,
        inputs.Classes: classes,
        inputs.Images: lambda: towers["image"].vectors[found],
        inputs.Texts: lambda: towers["text"].vectors[found],
        inputs.Groups: groups,
        inputs.Vectors: vectors,
        inputs.TestGroups: lambda: texts_of("groups")[~first],
        inputs.Labels: lambda: texts_of("label"),
        inputs.Nats: lambda: (told()["loss"] * told()["tokens"]).to_numpy(),
        inputs.Bytes: lambda: told()["bytes"].to_numpy(),
        inputs.ChoiceNats: lambda: choices()["nats"],
        inputs.ChoiceBytes: lambda: choices()["bytes"],
        inputs.Answers: lambda: here[f"label.{i}"].cast(pl.Int64).to_numpy(),
        inputs.Trainable: lambda: towers[str(section.tower)].module,
        inputs.TrainItems: lambda: half_of_items(first),
        inputs.TestItems: lambda: half_of_items(~first),
        inputs.TrainDense: lambda: half_of_grids(first),
        inputs.TestDense: lambda: half_of_grids(~first),
    }


class Tower:
    """One tower of a trained encoder, over the held-out records.

    Attributes:
        unencoded: records that it gave a vector that is zero or not finite.
        shown: its name, and how pictures are shown where not as it was trained.
    """

    def __init__(
        self, task: Evaluation, store: Store, weights: Object, name: str, rows: pl.DataFrame,
        *, side_px: int | None = None, unscaled: bool = False,
    ) -> None:  # fmt: skip
        recipe_dir = task.training.recipe_dir
        allow = tuple(references(task.training.section))
        self.name, self._task, self._rows, self._allow = name, task, rows, allow
        ways = [f"at {side_px} px"] if side_px is not None else []
        self.shown = " ".join([name, *ways, *(["unscaled"] if unscaled else [])])
        other = {"side_px": side_px, "unscaled": unscaled} if self.shown != name else {}
        self._node = Node(
            table=f"evaluate.{name}", alias=name, kind="embed",
            method=Method("embeddings", bootstrap.METHOD, recipe_dir), writes={"vector": None},
            parameters={"tower": name, "allow": allow, **other}, roles={name: Expression(name)},
            file=store.path(weights),
        )  # fmt: skip
        self._encoder = encoder(self._node, task.training.device)

    @cached_property
    def vectors(self) -> Vectors:
        """One row a record; zero where it has no such payload, or a vector that is not finite.

        A zero vector scores nothing, so all arms are scored over the same records.
        """
        vectors = np.zeros((self._rows.height, self._encoder.writes["vector"]), dtype=np.float32)
        for at, frame in _of_records(self._task, self._node, self._rows):
            vectors[at] = _filled(frame["vector"], vectors.shape[1])
        return vectors

    def module(self) -> Any:
        """Return a copy of the tower's module, with the weights of the training."""
        from embeddings.checkpoint import towers_of
        from pretraining.checkpoint import rebuild

        assert self._node.file is not None
        training, data = self._task.training, self._node.file.read_bytes()
        modules = rebuild(data, allow=self._allow, recipe_dir=training.recipe_dir)
        module = modules[towers_of(modules)[self.name]]
        return module.to(training.device or device_here())

    @cached_property
    def items(self) -> NDArray[Any]:
        """One row a record, as the module reads it; zero where it has no such payload."""
        codec = self.module().codec
        items = np.zeros((self._rows.height, *codec.shape), dtype=codec.dtype)
        for of_part, task in _by_part(self._task, self._node, self._rows):
            raw = rows_of(task).join(of_part, on="uid", how="left", maintain_order="left")
            for row, item in prepared(raw[self.name], codec.encode):
                items[raw["at"][row]] = item
        return items

    @cached_property
    def dense(self) -> tuple[Vectors, NDArray[np.uint8]]:
        """One grid of vectors a picture, and its labels as the module sees the picture.

        The grid is the last of the module's stages, or its tokens. A picture without labels, and
        one whose vectors are not finite, has zeros, and no class where it has no labels.
        """
        module = self.module().eval()
        side_px = module.codec.shape[-1]
        labels = np.full((self._rows.height, side_px, side_px), NO_CLASS, dtype=np.uint8)
        for of_part, task in _by_part(self._task, self._node, self._rows):
            encoded = tables.read(Store(task.root), task.part.records, ["uid", "label_image"])
            raw = encoded.join(of_part, on="uid", how="inner").drop_nulls("label_image")
            for at, data in zip(raw["at"], raw["label_image"], strict=True):
                labels[at] = decode.square_labels(decode.labels(data), side_px)
        return _grids(module, self.items), labels

    @property
    def unencoded(self) -> int:
        """The records that have the payload, but no vector."""
        if "vectors" not in vars(self):
            return 0  # Only class names were encoded.
        return int((self._rows[self.name].to_numpy() & ~self.vectors.any(axis=1)).sum())

    def of(self, texts: Sequence[str]) -> Vectors:
        """Return the vectors of texts that are no records; zero where there is none."""
        found = self._encoder(pl.DataFrame({"text": texts}))["vector"]
        return _filled(found, self._encoder.writes["vector"])


def _grids(module: Any, items: NDArray[Any]) -> Vectors:
    """Return (N, H, W, D): the last stage of a module, or its tokens; zero where not finite."""
    import torch

    device, found = next(module.parameters()).device, []
    with torch.inference_mode():
        for start in range(0, len(items), _GRID_ITEMS):
            x = torch.from_numpy(items[start : start + _GRID_ITEMS]).to(device)
            if hasattr(module, "stages"):
                grid_BHWD = module.stages(x)[-1].permute(0, 2, 3, 1)
            else:
                tokens_BND = module.tokens(x)[:, module.class_tokens :]
                grid_BHWD = tokens_BND.reshape(len(x), *module.grid(x), module.dim)
            found.append(torch.nan_to_num(grid_BHWD.float(), 0.0, 0.0, 0.0).cpu().numpy())
    grids: Vectors = np.concatenate(found)
    return grids


class Predictions:
    """What a trained objective predicts of the held-out texts."""

    def __init__(self, task: Evaluation, store: Store, weights: Object, rows: pl.DataFrame) -> None:
        self._task, self._rows = task, rows
        allow = tuple(references(task.training.section))
        self._device = task.training.device
        self._node = Node(
            table="evaluate.predictions", alias="predictions", kind="embed",
            method=Method("embeddings", bootstrap.METHOD, task.training.recipe_dir),
            writes=dict.fromkeys(TOLD), parameters={"predict": True, "allow": allow},
            roles={"text": Expression("text")}, file=store.path(weights),
        )  # fmt: skip

    @cached_property
    def numbers(self) -> pl.DataFrame:
        """The columns of `TOLD`, one row a record, NaN where it has no text."""
        numbers = np.full((self._rows.height, len(TOLD)), np.nan)
        for at, frame in _of_records(self._task, self._node, self._rows):
            numbers[at] = frame.select(pl.col(TOLD).cast(pl.Float64)).fill_null(np.nan).to_numpy()
        return pl.DataFrame(numbers, schema=TOLD)

    @cached_property
    def texts(self) -> list[str | None]:
        """The text of each record."""
        texts: list[str | None] = [None] * self._rows.height
        for of_part, task in _by_part(self._task, self._node, self._rows):
            for text, at in rows_of(task).join(of_part, on="uid").select("text", "at").iter_rows():
                texts[at] = text
        return texts

    def of_choices(
        self, found: NDArray[np.bool_], choices: Sequence[Sequence[str]]
    ) -> dict[str, NDArray[np.float64]]:
        """Return the nats and bytes of what may follow the texts of some records, each (N, K).

        That of a choice is what text and choice cost together less what the text does. Of a text
        that is too long the end is told, the same before all of its choices.

        Args:
            found: which records.
            choices: of each of these; where one has fewer than K, the rest is NaN.
        """
        model = encoder(self._node, self._device)
        ((column, codec),) = model.codecs.items()
        texts = [self.texts[row] for row in np.flatnonzero(found)]
        rows = (
            {column: row}
            for text, of in zip(texts, choices, strict=True)
            for row in codec.continued(text, of)
        )
        told = model.of(rows).select(pl.col(TOLD).cast(pl.Float64))
        nats, length = (told["loss"] * told["tokens"]).to_numpy(), told["bytes"].to_numpy()
        shape, begin = (len(choices), max(map(len, choices))), 0
        numbers = {name: np.full(shape, np.nan) for name in ("nats", "bytes")}
        for row, of in enumerate(choices):
            after = slice(begin + 1, begin + 1 + len(of))
            numbers["nats"][row, : len(of)] = nats[after] - nats[begin]
            numbers["bytes"][row, : len(of)] = length[after] - length[begin]
            begin = after.stop
        return numbers


def _of_records(
    task: Evaluation, node: Node, rows: pl.DataFrame
) -> Iterator[tuple[NDArray[Any], pl.DataFrame]]:
    """Yield what an encoder writes of the records, with their places among `rows`.

    They are read and encoded a part at a time, in chunks of bounded bytes.
    """
    for of_part, of_task in _by_part(task, node, rows):
        ((frames, _),) = cast(MeasuredRows, measure(of_task))
        for frame in frames:
            # One record may be read by its hold-out, and by that of an earlier version.
            placed = frame.join(of_part, on="row", how="left", maintain_order="left")
            yield placed["at"].to_numpy(), placed


def _by_part(
    task: Evaluation, node: Node, rows: pl.DataFrame
) -> Iterator[tuple[pl.DataFrame, Task]]:
    """Yield the records of each part, with their places `at` among `rows`, and how to read them."""
    for (index,), of_part in rows.with_row_index("at").group_by("part"):
        part = task.parts[int(str(index))]
        mask = np.zeros(part.rows, dtype=bool)
        mask[of_part["row"].to_numpy()] = True
        work = Work(node, (), np.packbits(mask).tobytes())
        yield (
            of_part,
            Task(
                task.training.root, task.training.pool, part, {}, (work,), task.training.device,
                (0, part.rows),
            ),
        )  # fmt: skip


def _filled(column: pl.Series, dimension: int) -> Vectors:
    """Return vectors as rows, zero where the column is null."""
    vectors = np.zeros((len(column), dimension), dtype=np.float32)
    vectors[column.is_not_null().to_numpy()] = column.drop_nulls().to_numpy()
    return vectors
