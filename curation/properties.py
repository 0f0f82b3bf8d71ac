"""What every method of a kind must hold, as plain functions over a small hostile sample.

`check(step)` runs the properties of the step's kind; `winnow methods --check` and the tests of
every method call it. A property raises ContractError with the smallest evidence it has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np
import polars as pl

from contracts.errors import ConfigError, ContractError, DataError
from contracts.params import schema_of
from contracts.uid import mix
from curation import _sample
from curation.step import Parameters, Step

NESTED = "a smaller budget is a subset of a larger one"
EXPECTED = "budget is the expected size"
"""Promises that a method makes in its docstring, and is then held to, or excused by."""


@dataclass(frozen=True)
class Case:
    """A step with its parameters, a table, and the further tables and slots that it takes."""

    step: Step
    table: pl.DataFrame
    others: Mapping[str, Any]

    def run(self, table: pl.DataFrame, **parameters: Any) -> pl.DataFrame:
        """Run the step on a table in place of the case's own."""
        return self.step(table, **self.others, **parameters)

    def promises(self, phrase: str) -> bool:
        """Whether the docstring says so."""
        return phrase in " ".join((self.step.__doc__ or "").lower().split())


Property = Callable[[Case], bool | None]


def check(step: Step) -> list[str]:
    """Run every property of the step's kind, under its defaults and each other mode.

    Returns:
        The names of the properties that held; those that do not apply are left out.

    Raises:
        ContractError: a property does not hold; names it and shows where.
    """
    held: dict[str, None] = {}
    for case in cases(step):
        for holds in PROPERTIES[step.kind]:
            with _Noted(f"while {step.name} was checked for {holds.__name__}, {case.step.bound}"):
                if holds(case) is not False:
                    held[holds.__name__] = None
    return list(held)


def cases(step: Step) -> Iterator[Case]:
    """Yield the step under its default parameters, then with each other mode and switch.

    A parameter without a default gets a usual value; a mode that the method refuses beside the
    defaults (ConfigError) is left out.
    """
    defaults = {**_required(step), **step.bound}
    yield _case(step, defaults)
    for name, field in schema_of(step.function).model_fields.items():
        literal = _sample.literals(field.annotation)
        for value in literal:
            if name in step.bound or value == field.default:
                continue
            try:
                case = _case(step, {**defaults, name: value})
                case.run(case.table)
            except ConfigError:
                continue
            yield case


def sample(step: Step, rows: int = 64) -> tuple[pl.DataFrame, dict[str, Any]]:
    """Return a table made for the step's roles, and its further tables and slots.

    Nulls, empty values, ties, several scripts, broken images, near-duplicates, and one group
    that holds half of the rows; the same on every machine.
    """
    return _sample.sample(step, rows)


def _case(step: Step, parameters: Parameters) -> Case:
    bound = step.bind(**parameters)
    table, others = sample(bound)
    return Case(bound, table, others)


def _required(step: Step) -> Parameters:
    """Return values for the parameters without a default, and a budget where there is one."""
    fields = schema_of(step.function).model_fields
    usual = {"budget": 16, "threshold": 0.9, "cap": 4, "num_clusters": 4, "levels": [8, 2]}
    values = {name: usual[name] for name in fields if name in usual and fields[name].is_required()}
    return values | {"budget": usual["budget"]} if "budget" in fields else values


# ---- properties of every kind -----------------------------------------------------------------


def repeat(case: Case) -> None:
    """The same input gives the same output, whatever was computed between."""
    first = case.run(case.table)
    case.run(case.table.reverse().head(case.table.height // 2))
    _same(case, "repeat", case.run(case.table), first, "a second run")


def row_order(case: Case) -> None:
    """The order of the input's rows changes nothing but the order of the output's."""
    keyed = case.step.kind != "fit"
    expected = case.run(case.table)
    for name, order in _orders(case.table.height).items():
        found = case.run(case.table[order])
        if keyed:
            found, expected = found.sort("uid"), expected.sort("uid")
        _same(case, "row_order", found, expected, f"{name} input")


def empty(case: Case) -> None:
    """No rows give no rows, of the same columns and types; a fit may refuse them clearly."""
    try:
        found = case.run(case.table.clear())
    except DataError:
        if case.step.kind == "fit":
            return
        raise
    if case.step.kind == "fit":
        return
    if found.height:
        _fail(case, "empty", f"no rows in, {found.height} rows out")
    _same_types(case, "empty", found, case.run(case.table))


def nulls(case: Case) -> None:
    """Rows of nothing but null roles are no error, and get columns of the same types."""
    roles = [name for name in case.table.columns if name != "uid"]
    nothing = [pl.lit(None, dtype=case.table.schema[role]).alias(role) for role in roles]
    try:
        found = case.run(case.table.with_columns(nothing))
    except DataError:
        if case.step.kind == "fit":
            return
        raise
    if case.step.kind != "fit":
        _same_types(case, "nulls", found, case.run(case.table))


def optional_roles(case: Case) -> bool | None:
    """Without its optional roles the method works, or says by ConfigError which it needs."""
    optional = [name for name, role in case.step.reads.items() if role.optional]
    if not optional:
        return False
    try:
        case.run(case.table.drop(optional))
    except ConfigError:
        return False
    return None


# ---- annotations ------------------------------------------------------------------------------


def one_row_per_uid(case: Case) -> None:
    """The output's uids are the input's, in the input's order, whatever that is."""
    for name, order in _orders(case.table.height).items():
        table = case.table[order]
        found = case.run(table)["uid"]
        if not found.equals(table["uid"]):
            first = next((i for i in range(table.height) if found[i] != table["uid"][i]), 0)
            _fail(case, "one_row_per_uid", f"{name} input: row {first} is another record's")


def declared_types(case: Case) -> None:
    """The output has `uid` and the declared columns, in the declared order."""
    found = case.run(case.table)
    if found.columns != ["uid", *case.step.writes]:
        _fail(case, "declared_types", f"writes {list(case.step.writes)}, wrote {found.columns}")


def batch_split(case: Case) -> None:
    """A rowwise method says of a row the same whatever rows are beside it."""
    expected = case.run(case.table)
    for size in (1, 7, 40):
        parts = [case.run(case.table[i : i + size]) for i in range(0, case.table.height, size)]
        _same(case, "batch_split", pl.concat(parts), expected, f"parts of {size} rows")


def group_split(case: Case) -> None:
    """A groupwise method says the same whatever the parts, the buckets and their order."""
    rows = case.step.select(case.table)
    arguments = [case.others.get(name) for name in case.step.positional]
    expected = case.run(case.table)
    keyed = pl.concat([case.step.scatter(rows[:11]), case.step.scatter(rows[11:])])
    for count in (1, 2, 3, 7):
        bucket = keyed["key"].rank("dense") if keyed["key"].dtype.is_numeric() else None
        partials = [case.step.run_groups(part, *arguments) for part in _buckets(keyed, count)]
        assert bucket is None or bucket.len() == keyed.height
        found = case.step.gather(rows["uid"], partials[::-1])
        _same(case, "group_split", found, expected, f"{count} buckets")


def cluster_names(case: Case) -> bool | None:
    """A cluster is named by one of its records, and its size is the number of its records."""
    if "cluster" not in case.step.writes:
        return False
    found = case.run(case.table)
    named = dict(found.select("uid", "cluster").iter_rows())
    for uid, cluster in named.items():
        if cluster is not None and named.get(cluster) != cluster:
            _fail(case, "cluster_names", f"uid {uid}: {cluster}, no record of the cluster")
    if "size" in case.step.writes:
        counted = found.with_columns(records=pl.len().over("cluster"))
        wrong = counted.filter((pl.col("size") != pl.col("records")) & pl.col("cluster").is_not_null())
        if wrong.height:
            _fail(case, "cluster_names", f"size is not the number of records: {wrong.row(0)}")
    return None
