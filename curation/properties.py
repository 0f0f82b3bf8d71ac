"""What every method of a kind must hold, as plain functions over a small hostile sample.

`check(step)` runs the properties of the step's kind; `winnow methods --check` and the tests of
every method call it. A property raises ContractError with the smallest evidence that it has.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, NoReturn

import numpy as np
import polars as pl

from contracts.errors import ConfigError, ContractError, DataError
from contracts.uid import mix
from curation._sample import parameters, sample
from curation.step import Kind, Step

# Words of a docstring by which a selector promises more than its kind, or less.
NESTED = "a smaller budget is a subset of a larger one"
EXPECTED = "budget is the expected size"


@dataclass(frozen=True)
class Case:
    """A step with its parameters bound, a table for it, its further tables and slots."""

    step: Step
    table: pl.DataFrame
    others: Mapping[str, Any]

    def run(self, table: pl.DataFrame | None = None, **parameters: Any) -> pl.DataFrame:
        """Run the step, on another table or with another parameter where given."""
        return self.step(self.table if table is None else table, **self.others, **parameters)

    def promises(self, words: str) -> bool:
        """Whether the docstring says so."""
        return words in " ".join((self.step.__doc__ or "").lower().split())


def check(step: Step) -> list[str]:
    """Run every property of the step's kind, under its defaults and in each other mode.

    Returns:
        The names of the properties that held; those that say nothing of the step are left out.

    Raises:
        ContractError: a property does not hold; names it, and shows where.
    """
    held: dict[str, None] = {}
    for case in cases(step):
        for holds in PROPERTIES[step.kind]:
            with _Noted(f"{step.name} was being checked for {holds.__name__}: {case.step.bound}"):
                if holds(case) is not False:
                    held[holds.__name__] = None
    return list(held)


def cases(step: Step) -> Iterator[Case]:
    """Yield the step with its defaults in every form, then in each other mode and switch.

    A form is a choice of the optional roles and tables: all, no table, none, one role alone.
    What the step refuses by ConfigError is left out.

    Raises:
        ConfigError: it refuses its defaults in every form.
    """
    defaults, *modes = parameters(step)
    refusals = [(form, _refusal(form)) for form in _forms(step.bind(**defaults))]
    accepted = [form for form, refusal in refusals if refusal is None]
    if not accepted:
        assert refusals[0][1] is not None
        raise refusals[0][1]
    yield from accepted
    for mode in modes:
        forms = _forms(step.bind(**mode))
        yield from [form for form in forms if _refusal(form) is None][:1]


def _forms(step: Step) -> list[Case]:
    table, others = sample(step)
    roles = [name for name, role in step.reads.items() if role.optional]
    tables = [name for name, further in step.tables.items() if further.optional]
    required = {name: value for name, value in others.items() if name not in tables}
    forms = [Case(step, table, others)]
    if tables:
        forms.append(Case(step, table, required))
    if roles:
        forms.append(Case(step, table.drop(roles), required))
    if len(roles) > 1:
        forms += [Case(step, table.drop(set(roles) - {one}), required) for one in roles]
    return forms


def _refusal(case: Case) -> ConfigError | None:
    try:
        with _Noted(f"{case.step.name} was being run on its sample: {case.step.bound}"):
            case.run()
    except ConfigError as error:
        return error
    return None


# Every kind.


def repeat(case: Case) -> None:
    """The same input gives the same output, whatever was computed between."""
    first = case.run()
    case.run(case.table.reverse().head(40))
    _expect(case, "repeat", case.run(), first, "a second run")


def row_order(case: Case) -> None:
    """The order of the rows changes nothing but, of annotations, the order of the output."""
    key = [] if case.step.kind == "fit" else ["uid"]
    expected = _sorted(case.run(), key)
    for name, table in _orders(case.table):
        _expect(case, "row_order", _sorted(case.run(table), key), expected, f"{name} rows")


def empty(case: Case) -> None:
    """No rows give no rows, typed as ever; a fit and a selector may refuse them by DataError."""
    _nothing(case, "empty", case.table.clear(), rows=0)


def nulls(case: Case) -> None:
    """Rows whose every role is null are no error and give the same columns and types."""
    schema = {name: dtype for name, dtype in case.table.schema.items() if name != "uid"}
    nothing = case.table.with_columns(pl.lit(None, dtype=t).alias(n) for n, t in schema.items())
    _nothing(case, "nulls", nothing, rows=None if case.step.kind == "selector" else nothing.height)


# Annotations.


def one_row_per_uid(case: Case) -> None:
    """The output has the uids of the input in the order of the input."""
    for name, table in _orders(case.table):
        found = case.run(table)["uid"]
        if not found.equals(table["uid"]):
            wrong = next(
                n for n in range(table.height) if found[n : n + 1].to_list() != [table["uid"][n]]
            )
            _fail(case, "one_row_per_uid", f"{name} rows: row {wrong} is of another record")


def declared_types(case: Case) -> None:
    """The output has `uid` and the declared columns in the declared order, of no null type."""
    schema = case.run().schema
    if list(schema) != ["uid", *case.step.writes]:
        _fail(case, "declared_types", f"it wrote {list(schema)}, not uid, {[*case.step.writes]}")
    untyped = [name for name, dtype in schema.items() if dtype == pl.Null]
    if untyped:
        _fail(case, "declared_types", f"{untyped} hold nothing but nulls on a sample with values")


def batch_split(case: Case) -> None:
    """Of a row it says the same whatever rows are beside it."""
    expected = case.run()
    for size in (1, 7, 40):
        parts = [case.run(case.table[n : n + size]) for n in range(0, case.table.height, size)]
        _expect(case, "batch_split", pl.concat(parts), expected, f"batches of {size}")


def group_split(case: Case) -> None:
    """It says the same whatever the parts, the buckets and the order of the buckets."""
    rows = case.step.select(case.table)
    arguments = case.step._arguments((), case.others)
    expected = case.run()
    later = case.step.scatter(rows[23:]).with_columns(pl.col("row") + 23)
    keyed = pl.concat([case.step.scatter(rows[:23]), later])
    for count in (1, 2, 3, 7):
        partials = [case.step.run_groups(rows, b, *arguments) for b in _buckets(keyed, count)]
        found = case.step.gather(rows["uid"], partials[::-1])
        _expect(case, "group_split", found, expected, f"{count} buckets")
        if case.step.merge is not None:
            halves = [
                case.step.merge(pl.concat(half), **case.step.bound)
                for half in (partials[:1], partials[1:])
                if half
            ]
            found = case.step.gather(rows["uid"], halves)
            _expect(case, "group_split", found, expected, f"{count} buckets, merged by halves")


def cluster_names(case: Case) -> bool | None:
    """A cluster is named by one of its own records, and size is the number of its records."""
    if "cluster" not in case.step.writes:
        return False
    found = case.run()
    cluster = dict(found.select("uid", "cluster").iter_rows())
    for uid, name in cluster.items():
        if name is not None and cluster.get(name) != name:
            _fail(case, "cluster_names", f"uid {uid} has cluster {name}, which is not in it")
    if "size" in case.step.writes:
        records = pl.len().over("cluster")
        wrong = found.filter(pl.col("cluster").is_not_null() & (pl.col("size") != records))
        if wrong.height:
            _fail(case, "cluster_names", f"size is not the number of records at {wrong.row(0)}")
    return None


# Fits.


def declared_model(case: Case) -> None:
    """The model table has the declared columns, of the declared types."""
    schema = case.run().schema
    for name, dtype in case.step.writes.items():
        allowed = dtype if isinstance(dtype, tuple) else (dtype,)
        if None not in allowed and not any(schema[name] == one for one in allowed):
            _fail(case, "declared_model", f"{name} is {schema[name]}, declared {dtype}")


def merge(case: Case) -> bool | None:
    """The tables of parts fold to that of all rows, however the parts are taken together."""
    if case.step.merge is None:
        return False
    expected = case.run()
    cuts = [0, 5, 23, 40, case.table.height]
    a, b, c, d = (case.run(case.table[i:j]) for i, j in itertools.pairwise(cuts))
    fold = case.step.fold
    ways = {
        "four parts": fold([a, b, c, d]),
        "the parts in reverse": fold([d, c, b, a]),
        "from the left": fold([fold([fold([a, b]), c]), d]),
        "from the right": fold([a, fold([b, fold([c, d])])]),
    }
    for name, found in ways.items():
        _expect(case, "merge", found, expected, name)
    return None


# Selectors.


def subset(case: Case) -> None:
    """It keeps candidates, each once, and gives them no columns but `repeats` and its evidence."""
    found = case.run()
    strangers = found.join(case.table, on="uid", how="anti").height
    if strangers or found["uid"].n_unique() != found.height:
        _fail(case, "subset", f"it kept a uid twice, or {strangers} that are no candidates")
    declared = {"uid": pl.UInt64, "repeats": pl.UInt16, **case.step.writes}
    for name, dtype in found.schema.items():
        if name not in declared:
            _fail(case, "subset", f"it returned {name}, which is no declared evidence")
        if declared[name] is not None and dtype != declared[name]:
            _fail(case, "subset", f"{name} is {dtype}, declared {declared[name]}")


def budget(case: Case) -> bool | None:
    """It keeps at most the budget, and everything where the budget exceeds the candidates."""
    if case.step.bound.get("budget") is None or case.promises(EXPECTED):
        return False
    for size in (1, 5, 16):
        kept = case.run(budget=size).height
        if kept > size:
            _fail(case, "budget", f"it kept {kept} for a budget of {size}")
    whole = case.table.drop_nulls()
    kept = case.run(whole, budget=10**6).height
    if kept != whole.height:
        _fail(case, "budget", f"it kept {kept} of {whole.height} for a budget of a million")
    return None


def nested_budgets(case: Case) -> bool | None:
    """Where the docstring promises it, a smaller budget is a subset of a larger one."""
    if case.step.bound.get("budget") is None or not case.promises(NESTED):
        return False
    smaller: set[int] = set()
    for size in (1, 5, 16, 30):
        kept = set(case.run(budget=size)["uid"])
        if not smaller <= kept:
            lost = min(smaller - kept)
            _fail(case, "nested_budgets", f"uid {lost} is kept below a budget of {size}, not at it")
        smaller = kept
    return None


def draws_by_uid(case: Case) -> bool | None:
    """What a seed changes, other uids change too: a draw belongs to a uid, not to a position."""
    if "seed" not in case.step.bound:
        return False
    expected = _positions(case.table, case.run())
    if all(_positions(case.table, case.run(seed=seed)) == expected for seed in range(1, 5)):
        return False
    renamed = [_renamed(case.table, salt) for salt in range(1, 5)]
    if all(_positions(table, case.run(table)) == expected for table in renamed):
        _fail(
            case,
            "draws_by_uid",
            "another seed changes what it keeps, but other uids in the same order do not: it "
            "draws from a sequence. Draw by contracts.uid.uniform(uid, seed, stream).",
        )
    return None


def one_of_a_cluster(case: Case) -> bool | None:
    """A cluster with a candidate keeps exactly one candidate."""
    if "cluster" not in case.step.reads:
        return False
    clustered = case.table.filter(pl.col("cluster").is_not_null())
    kept = pl.col("uid").is_in(case.run()["uid"].implode()).sum()
    for cluster, count in clustered.group_by("cluster", maintain_order=True).agg(kept).iter_rows():
        if count != 1:
            _fail(case, "one_of_a_cluster", f"cluster {cluster} keeps {count} candidates")
    return None


def beside_a_kept_one(case: Case) -> bool | None:
    """A record is dropped only beside a kept one; the paper's rule, a mode, does not hold this."""
    if "nearest" not in case.step.reads or case.step.bound.get("mode") == "semdedup":
        return False
    kept = set(case.run()["uid"])
    near = dict(case.table.select("uid", "nearest").iter_rows())
    of_kept = {near[uid] for uid in kept}
    for uid, other in near.items():
        if uid not in kept and other not in kept and uid not in of_kept:
            _fail(case, "beside_a_kept_one", f"uid {uid} is dropped, and so is its nearest {other}")
    return None


def explanation(case: Case) -> bool | None:
    """`explain` names a kept twin, by which edge and how far, and for dropped records alone."""
    if case.step.explain is None:
        return False
    kept = case.run()
    candidates = case.step.select(case.table)
    found = case.step.explain(candidates, kept)
    if found.columns != ["uid", "twin", "edge", "distance"]:
        _fail(case, "explanation", f"it has the columns {found.columns}")
    here = kept["uid"].implode()
    wrong = found.filter(pl.col("uid").is_in(here) | ~pl.col("twin").is_in(here))
    if wrong.height:
        _fail(case, "explanation", f"{wrong.row(0)}: uid must be dropped and its twin kept")
    return None


_ANNOTATION = (one_row_per_uid, declared_types, row_order, repeat, empty, nulls)
PROPERTIES: Mapping[Kind, tuple[Callable[[Case], bool | None], ...]] = {
    "rowwise": (*_ANNOTATION, batch_split),
    "groupwise": (*_ANNOTATION, group_split, cluster_names),
    "poolwise": (*_ANNOTATION, cluster_names),
    "fit": (declared_model, row_order, repeat, empty, nulls, merge),
    "selector": (
        subset,
        row_order,
        repeat,
        empty,
        nulls,
        budget,
        nested_budgets,
        draws_by_uid,
        one_of_a_cluster,
        beside_a_kept_one,
        explanation,
    ),
}


class _Noted:
    """Add to whatever error passes which property was being checked."""

    def __init__(self, note: str) -> None:
        self.note = note

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        if error is not None:
            error.add_note(self.note)


def _fail(case: Case, holds: str, evidence: str) -> NoReturn:
    raise ContractError(f"{case.step.name} breaks {holds}: {evidence}.")


def _expect(
    case: Case, holds: str, found: pl.DataFrame, expected: pl.DataFrame, where: str
) -> None:
    difference = first_difference(found, expected)
    if difference:
        _fail(case, holds, f"{where}: {difference}")


def first_difference(
    found: pl.DataFrame, expected: pl.DataFrame, *, tolerance: float = 1e-5
) -> str | None:
    """Return in words the first cell in which two tables differ, None where they agree.

    Floats agree within the tolerance, relative or absolute; NaN agrees with NaN.
    """
    if found.schema != expected.schema:
        return f"the columns are {dict(found.schema)}, not {dict(expected.schema)}"
    if found.height != expected.height:
        return f"there are {found.height} rows, not {expected.height}"
    for name in found.columns:
        for row, (here, there) in enumerate(zip(found[name], expected[name], strict=True)):
            if not _agree(_plain(here), _plain(there), tolerance):
                first = f"{found.columns[0]} {found[row, 0]!r}"
                return f"at row {row} ({first}) {name} is {here!r}, not {there!r}"
    return None


def _plain(value: Any) -> Any:
    return value.to_list() if isinstance(value, pl.Series) else value


def _agree(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, float) and isinstance(b, float):
        same = math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
        return same or (math.isnan(a) and math.isnan(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_agree, a, b, [tolerance] * len(a)))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_agree(a[key], b[key], tolerance) for key in a)
    return bool(a == b)


def _nothing(case: Case, holds: str, table: pl.DataFrame, *, rows: int | None) -> None:
    """Expect a run on a table without a value to give so many rows, typed as on the sample."""
    try:
        found = case.run(table)
    except DataError:
        if case.step.kind in ("fit", "selector"):
            return
        raise
    if case.step.kind == "fit":
        return
    if rows is not None and found.height != rows:
        _fail(case, holds, f"{table.height} rows in, {found.height} rows out")
    expected = case.run().schema
    if found.schema != expected:
        _fail(case, holds, f"the columns are {dict(found.schema)}, not {dict(expected)}")


def _sorted(table: pl.DataFrame, key: list[str]) -> pl.DataFrame:
    return table.sort(key) if key else table


def _orders(table: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """Yield the rows in several orders; a polars sample would depend on its version."""
    order = np.argsort(mix(np.arange(table.height, dtype=np.uint64) + np.uint64(1)))
    yield "sorted", table.sort("uid")
    yield "reversed", table.reverse()
    yield "shuffled", table[order]


def _buckets(keyed: pl.DataFrame, count: int) -> list[pl.DataFrame]:
    """Return the keyed rows in buckets that split no key, rows without a key in any of them."""
    number = keyed["key"].rank("dense").fill_null(pl.int_range(keyed.height, eager=True))
    return [keyed.filter(number % count == bucket) for bucket in range(count)]


def _positions(table: pl.DataFrame, kept: pl.DataFrame) -> list[int]:
    """Return which of the sorted uids were kept."""
    return table["uid"].sort().is_in(kept["uid"].implode()).arg_true().to_list()


def _renamed(table: pl.DataFrame, salt: int) -> pl.DataFrame:
    """Return the table with other uids in the same order, in every column that holds uids."""
    old = table["uid"].sort()
    new = pl.Series(np.sort(mix(old.to_numpy() + np.uint64(salt))))
    holders = [name for name in ("uid", "cluster", "nearest") if name in table.columns]
    return table.with_columns(pl.col(holders).replace(old, new))
