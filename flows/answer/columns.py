"""Columns of a training beyond payload and text: values of expressions over notes, a row a record.

They lie in the table of an arm's records, as `column.<name>`; nothing is written into shards.
Beside them lie the values by which batches are composed: `order.draws`, `order.group` (a digest of
the value) and `order.position`, and `stream.<name>`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from contracts import methods
from contracts.errors import ConfigError, DataError, Problem
from contracts.uid import hex_uid, uid_of, uniform
from flows.measure.runtime import Runtime
from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.sections import PretrainSection

PREFIX = "column."
STREAM = "stream."
VALIDATION = "pretrain.validation"
"""The stream of draws that take records for probes."""
DRAWS, GROUP, POSITION = "order.draws", "order.group", "order.position"


def bound(runtime: Runtime, section: PretrainSection, recipe_dir: Path) -> pl.DataFrame | None:
    """Return uid and all that is bound of every record that may be trained on; None without any.

    Texts as labels are numbered by their sorted names over the whole version of the pool, held-out
    records among them, so that every arm numbers alike.

    Raises:
        ConfigError: an expression gives something else than the objective's column, a weight or a
            condition.
        DataError: there are more classes than the objective has.
    """
    if not section.bound() and not section.orders():
        return None
    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    found = []
    for name, text in section.bound().items():
        of = objective.columns.get(name)
        kind = of.kind if of is not None else "vector"
        expression = Expression(text)
        masks = runtime.live if kind == "label" else runtime.visible
        flat = runtime.frame(expression.paths, masks)
        values = evaluate_expression(flat, expression.polars, expression.text)
        key = f"pretrain.columns.{name}"
        if section.continue_from is not None and kind == "label" and not values.dtype.is_integer():
            message = (
                "a training that goes on needs labels that are whole numbers: texts are numbered "
                "by the names of this version of the pool, which may be others than before."
            )
            raise ConfigError([Problem(key, message)])
        values = _typed(values, kind, key)
        if of is not None and of.classes is not None:
            most = _parameter(section, objective, of.classes)
            classes = int(values.max() or 0) + 1  # type: ignore[arg-type]
            if classes > most:
                raise DataError(f"{key}: has {classes} classes, but {of.classes} is {most}.")
        found.append(flat.select("uid", values.alias(f"{PREFIX}{name}")))
    found += [_of_order(runtime, key, Expression(text)) for key, text in section.orders().items()]
    first, *others = found
    for other in others:
        first = first.join(other, on="uid", how="inner")
    return first


def of_arm(
    columns: pl.DataFrame, frame: pl.DataFrame, section: PretrainSection, recipe_dir: Path
) -> pl.DataFrame:
    """Return an arm's records with their columns, in the order of the arm.

    Raises:
        DataError: a record of the arm has no value where the objective or the order needs one, or
            a weight below 0 or without limit.
    """
    objective = methods.load("pretraining.objectives", section.objective, recipe_dir=recipe_dir)
    joined = frame.join(columns, on="uid", how="left", maintain_order="left")
    for name, text in section.bound().items():
        column = f"{PREFIX}{name}"
        of = objective.columns.get(name)
        missing = joined.filter(pl.col(column).is_null())
        if not missing.height:
            continue
        if of is None or not of.optional:
            raise _lacking(f"pretrain.columns.{name}", text, missing, joined)
        joined = joined.with_columns(_filled(joined[column]))
    for key, expression in (("draws", section.draws), ("groups", section.groups)):
        if expression is None:
            continue
        missing = joined.filter(pl.col(DRAWS if key == "draws" else GROUP).is_null())
        if missing.height:
            raise _lacking(f"pretrain.{key}", expression, missing, joined)
    if section.draws is not None:
        no_weight = joined.filter((pl.col(DRAWS) < 0) | pl.col(DRAWS).is_infinite())
        if no_weight.height:
            raise DataError(
                f"pretrain.draws: is below 0 or infinite for {no_weight.height:,} of "
                f"{joined.height:,} records that are trained on, the first is "
                f"{hex_uid(no_weight['uid'][0])}. Give weights of 0 or more, such as "
                f"greatest({section.draws}, 0), and divide by nothing that is 0."
            )
    return joined


def _lacking(key: str, text: str, missing: pl.DataFrame, of: pl.DataFrame) -> DataError:
    return DataError(
        f"{key}: {missing.height:,} of {of.height:,} records that are trained on have no {text}, "
        f"the first is {hex_uid(missing['uid'][0])}. Drop them with a rule, {text} IS NOT NULL."
    )


def _of_order(runtime: Runtime, key: str, expression: Expression) -> pl.DataFrame:
    """Return uid and what one key of a composition gives each record."""
    paths = [*expression.paths, *(["position"] if key == "groups" else [])]
    flat = runtime.frame(list(dict.fromkeys(paths)), runtime.visible)
    values = evaluate_expression(flat, expression.polars, expression.text)
    if key == "draws":
        weights = _typed(values, "number", "pretrain.draws", pl.Float64)
        return flat.select("uid", weights.alias(DRAWS))
    if key == "groups":
        texts = values.cast(pl.String).to_list()
        digests = [None if text is None else uid_of("group", text) for text in texts]
        return flat.select(
            "uid",
            pl.Series(GROUP, digests, dtype=pl.UInt64),
            # In a group without positions the uid alone says the order.
            pl.col("position").fill_null(0).alias(POSITION),
        )
    if values.dtype != pl.Boolean:
        raise ConfigError([Problem(f"pretrain.{key}", f"gives {values.dtype}, no condition.")])
    name = key.removeprefix("streams.").removesuffix(".where")
    return flat.select("uid", values.fill_null(value=False).alias(f"{STREAM}{name}"))


def composition(section: PretrainSection, rows: pl.DataFrame, uids: NDArray[np.uint64]) -> Any:
    """Return how batches are composed of an arm's records; None where nothing says it.

    Args:
        section: [pretrain].
        rows: the arm's table.
        uids: in the order in which they are trained on.
    """
    from pretraining.orders import Composition

    if not section.orders():
        return None
    rows = pl.DataFrame({"uid": uids}).join(rows, on="uid", how="left", maintain_order="left")
    of = {column: rows[column].to_numpy() for column in rows.columns}
    return Composition(
        weights=of.get(DRAWS), groups=of.get(GROUP), positions=of.get(POSITION),
        members=section.members,
        streams={n: (of[f"{STREAM}{n}"], s.batch) for n, s in (section.streams or {}).items()},
    )  # fmt: skip


def of_probes(section: PretrainSection, uids: pl.Series) -> pl.Series:
    """Return which records are not trained on but of probes, the same in every arm."""
    return pl.Series(uniform(uids.to_numpy(), 0, VALIDATION) < (section.validation_ratio or 0.0))


def passed_over(section: PretrainSection, rows: pl.DataFrame) -> tuple[int, int]:
    """Return what of an arm is in no batch, records of probes apart.

    Returns:
        How many groups are smaller than what is taken of one; and how many records are in these,
        have the weight 0, or are of no stream.
    """
    rows = rows.filter(~of_probes(section, rows["uid"]))
    if section.groups is None:
        never = pl.lit(value=False)
        if section.draws is not None:
            never |= pl.col(DRAWS) == 0
        if section.streams:
            never |= ~pl.any_horizontal(f"{STREAM}{name}" for name in section.streams)
        return 0, rows.filter(never).height
    sizes = rows.group_by(GROUP).agg(pl.col("repeats").cast(pl.Int64).sum(), pl.len())
    small = sizes.filter(pl.col("repeats") < (section.members or section.batch))
    return small.height, int(small["len"].sum())


def dims(rows: pl.DataFrame) -> dict[str, int]:
    """Return how many numbers the vectors of an arm have, by the name of their column."""
    return {
        name.removeprefix(PREFIX): int(dtype.size)
        for name, dtype in rows.schema.items()
        if name.startswith(PREFIX) and isinstance(dtype, pl.Array)
    }


def codecs(section: PretrainSection, objective: Any, rows: pl.DataFrame) -> Mapping[str, Any]:
    """Return the codec of each column that the recipe binds for an objective, or its source has."""
    known = dims(rows)
    sides = [codec.shape[-1] for codec in objective.codecs.values() if codec.reads == "image"]
    labels = [name for name, of in objective.columns.items() if of.kind == "label_image"]
    known |= dict.fromkeys(labels, sides[0]) if labels else {}
    return {
        name: objective.columns[name].codec(name, known.get(name))
        for name in (*(section.columns or ()), *labels)
    }


def _typed(values: pl.Series, kind: str, key: str, number: Any = pl.Float32) -> pl.Series:
    """Return values as a column of the kind."""
    dtype = values.dtype
    if kind == "label" and dtype in (pl.String, pl.Boolean, pl.Categorical):
        return (values.cast(pl.String).rank("dense").cast(pl.Int64) - 1).alias(values.name)
    if kind == "label" and dtype.is_integer():
        if values.min() is not None and int(values.min()) < 0:  # type: ignore[arg-type]
            raise DataError(f"{key}: a label is below 0.")
        return values.cast(pl.Int64)
    if kind == "number" and (dtype.is_numeric() or dtype == pl.Boolean):
        return values.cast(number)
    if kind == "vector" and isinstance(dtype, pl.Array) and dtype.inner.is_numeric():
        return values.cast(pl.Array(pl.Float32, dtype.size))
    if kind == "vector" and isinstance(dtype, pl.List) and dtype.inner.is_numeric():
        lengths = values.drop_nulls().list.len().unique()
        if len(lengths) != 1:
            raise ConfigError(
                [Problem(key, f"gives lists of {len(lengths)} lengths, not vectors.")]
            )
        return values.cast(pl.Array(pl.Float32, int(lengths[0])))
    raise ConfigError([Problem(key, f"gives {dtype}, where a {kind} is read.")])


def _filled(values: pl.Series) -> pl.Series:
    """Return values with -1 for a label that is null, NaN for a number, and a vector of NaN."""
    if isinstance(values.dtype, pl.Array):
        nothing = [float("nan")] * int(values.dtype.size)
        return (
            pl.select(
                pl.when(values.is_null())
                .then(pl.lit([nothing], dtype=values.dtype))
                .otherwise(values)
            )
            .to_series()
            .alias(values.name)
        )
    return values.fill_null(-1 if values.dtype == pl.Int64 else float("nan"))


def _parameter(section: PretrainSection, objective: Any, name: str) -> int:
    from contracts.params import parse

    own = {name: section.own[name]} if name in section.own else {}
    return int(parse(objective, own, where="pretrain")[name])
