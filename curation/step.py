"""The five kinds of method and what each promises.

A method is a pure function over a table keyed by `uid`; a decorator makes it a `Step`, which
checks the promise on every call, from a notebook as from a flow:

* rowwise    looks at its own row only.
* groupwise  looks at whole groups of rows (a bucket, a cluster, a series).
* poolwise   looks at all rows of a few narrow columns, never at their order.
* fit        makes a model table (centroids, counts) out of all rows.
* selector   chooses a subset of the candidates.

Positional parameters are run-time objects: the table first, then further tables and slots.
Keyword-only parameters are configuration.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_type_hints

import numpy as np
import polars as pl

from contracts.errors import ConfigError, ContractError
from contracts.packages import Needed, needed_by, require
from contracts.params import Scorer, parse, schema_of
from contracts.uid import uniform
from curation import _graph, _groups

MAX_REPEATS = 2**16 - 1
Kind = Literal["rowwise", "groupwise", "poolwise", "fit", "selector"]
Parameters = dict[str, Any]
Frame = pl.DataFrame | pl.LazyFrame


@dataclass(frozen=True)
class Role:
    """A column that a method reads under its own name; the recipe binds it to a real one.

    Attributes:
        dtype: polars type, a tuple of them, or None for any.
        default: the column bound where the recipe says nothing; None means the namesake.
        optional: the method works without it.
    """

    dtype: Any = None
    default: str | None = None
    optional: bool = False


@dataclass(frozen=True)
class Table:
    """A second table of a method, bound by the recipe.

    Attributes:
        columns: the columns that the method reads from it.
        default: such as `fit.kmeans`; None where the recipe must name one.
        optional: the method works without it.
        pool: it is a pool's records, `uid` and roles, not a model or a file.
        wanted: what is kept is to be like it, so that nothing of an evaluation may be in it.
    """

    columns: tuple[str, ...] = ()
    default: str | None = None
    optional: bool = False
    pool: bool = False
    wanted: bool = False


Check = Callable[[Parameters, Collection[str]], str | None]
# A bare polars type stands for a role of that type.
Reads = Mapping[str, Any]
Writes = Mapping[str, Any]


@dataclass(frozen=True)
class Step:
    """A method with its contract; call it as `step(frame, *tables, **parameters)`.

    Attributes:
        by: groupwise: the role whose equal values make a group; null is a group of one.
        keys: groupwise instead of `by`: gives each row a list of keys, one group a key.
        order: groupwise: roles to sort a group by before uid.
        edges: groupwise: the function returns edges `a`, `b` and this weight column; the
            larger weight is the better, except of a `distance`.
        merge: groupwise with `keys`, or fit: (partial results, **parameters) to their fold,
            associatively. Of a record that is alone in several groups the function may see but
            one of them.
        plan: fit: (rows, parameters) to (how many rows to draw or None for all, parameters).
        packages: what it needs beyond winnow's own packages: import name to what installs it.
        check: (parameters, names of the roles and tables that are bound) to what is wrong with
            them together, None where nothing is.
    """

    function: Callable[..., pl.DataFrame]
    kind: Kind
    version: int
    reads_of: Reads | Callable[[Parameters], Reads]
    writes_of: Writes | Callable[[Parameters], Writes]
    declared: Mapping[str, Table] = field(default_factory=dict)
    by: str | None = None
    keys: Callable[..., pl.Series] | None = None
    order: tuple[str, ...] = ()
    edges: str | None = None
    merge: Callable[..., pl.DataFrame] | None = None
    plan: Callable[[int, Parameters], tuple[int | None, Parameters]] | None = None
    packages: Needed | Callable[[Parameters], Needed] = field(default_factory=dict)
    check: Check | None = None
    bound: Parameters = field(default_factory=dict)

    def __post_init__(self) -> None:
        for attribute in ("__doc__", "__module__", "__name__", "__qualname__"):
            object.__setattr__(self, attribute, getattr(self.function, attribute))

    def __reduce__(self) -> Any:
        # The decorated name holds the step, so a worker finds it again by name.
        step = (_by_name, (self.function.__module__, self.function.__qualname__))
        return step if not self.bound else (_bound_by_name, (*step[1], self.bound))

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name} version {self.version}>"

    @property
    def name(self) -> str:
        """The method's name, that of its file."""
        return self.function.__name__

    @property
    def parameters(self) -> dict[str, Any]:
        """The JSON schema of the parameters."""
        return schema_of(self.function).model_json_schema()

    @property
    def reads(self) -> dict[str, Role]:
        """The roles, under the bound parameters or the defaults."""
        reads = self.reads_of(self._known()) if callable(self.reads_of) else self.reads_of
        return {role: r if isinstance(r, Role) else Role(r) for role, r in reads.items()}

    @property
    def writes(self) -> dict[str, Any]:
        """The written columns and their types, under the bound parameters or the defaults."""
        return dict(self.writes_of(self._known()) if callable(self.writes_of) else self.writes_of)

    @cached_property
    def _positional(self) -> dict[str, bool]:
        """Names of the positional parameters after the first; True where it is a slot."""
        hints = get_type_hints(self.function)
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        names = [
            name
            for name, parameter in inspect.signature(self.function).parameters.items()
            if parameter.kind in kinds
        ]
        return {name: _is_scorer(hints.get(name)) for name in names[1:]}

    @property
    def tables(self) -> dict[str, Table]:
        """The further tables that the function takes, in order."""
        names = [name for name, is_slot in self._positional.items() if not is_slot]
        return {name: self.declared.get(name, Table()) for name in names}

    @property
    def slots(self) -> list[str]:
        """The scorers that the function takes, in order."""
        return [name for name, is_slot in self._positional.items() if is_slot]

    @property
    def explain(self) -> Callable[[pl.DataFrame, pl.DataFrame], pl.DataFrame] | None:
        """The selector's `explain(candidates, kept)`: uid, twin, edge, distance."""
        return getattr(sys.modules[self.function.__module__], "explain", None)

    def bind(self, **parameters: Any) -> Step:
        """Return the step with its parameters checked and filled in."""
        given = {**self.bound, **parameters}
        return replace(self, bound=parse(self.function, given, where=self.name))

    def __call__(self, frame: Frame, *others: Any, **parameters: Any) -> pl.DataFrame:
        """Run the method on one table.

        Args:
            frame: `uid: UInt64` and the roles as columns; further columns are ignored.
            others: the further tables and slots, in order; also accepted by name.
            parameters: the configuration.

        Returns:
            Annotations: `uid` and the written columns, one row per input row, in input order.
            A fit: its model table. A selector: the kept rows, `uid` first, then evidence.

        Raises:
            ConfigError: a parameter or a column is missing or wrong.
            ContractError: the method broke what it declares.
        """
        named = {k: parameters.pop(k) for k in list(parameters) if k in self._positional}
        step = self.bind(**parameters)
        arguments = step._arguments(others, named)
        rows = step.select(frame)
        require(step.name, needed_by(step, step.bound))
        given = {n for n, one in zip(step._positional, arguments, strict=True) if one is not None}
        wrong = step.check and step.check(step.bound, {*rows.columns, *given})
        if wrong:
            raise ConfigError(f"{step.name}: {wrong}")
        if step.kind == "rowwise":
            return step._annotated(rows, step.function(rows, *arguments, **step.bound))
        if step.kind == "groupwise":
            partial = step.run_groups(rows, step.scatter(rows), *arguments)
            return step.gather(rows["uid"], [partial])
        if step.kind == "poolwise":
            ordered = rows.sort("uid")
            found = step._annotated(ordered, step.function(ordered, *arguments, **step.bound))
            return in_order(rows["uid"], found)
        if step.kind == "fit":
            return step._fit(rows, arguments)
        # Candidates that come sorted, as a run's do, are not copied: their vectors may lie on disk.
        return step._select(rows if _ascending(rows["uid"]) else rows.sort("uid"), arguments)

    def select(self, frame: Frame) -> pl.DataFrame:
        """Return `uid` and the roles of a table, nothing else.

        Raises:
            ConfigError: when a role has no column, or the uid is not unique or not UInt64.
        """
        schema = frame.collect_schema()
        wanted = [role for role, spec in self.reads.items() if not spec.optional]
        missing = [name for name in ["uid", *wanted] if name not in schema]
        if missing:
            raise ConfigError(
                f"{self.name} needs the columns {missing}; the table has {list(schema)}. "
                "Bind the role in the recipe, or select the column under the role's name."
            )
        if schema["uid"] != pl.UInt64:
            raise ConfigError(f"{self.name}: uid is {schema['uid']}; it must be UInt64.")
        for role, spec in self.reads.items():
            if schema.get(role, pl.Null) != pl.Null and not _fits(schema[role], spec.dtype):
                raise ConfigError(
                    f"{self.name}: {role} is {schema[role]}, not {_type_name(spec.dtype)}."
                )
        untyped: dict[Any, Any] = {
            role: null_type(spec.dtype)
            for role, spec in self.reads.items()
            if schema.get(role) == pl.Null
        }
        roles = [role for role in self.reads if role in schema]
        rows = frame.lazy().select("uid", *roles).cast(untyped).collect()
        if rows["uid"].null_count() or rows["uid"].n_unique() != rows.height:
            raise ConfigError(f"{self.name}: uid has nulls or repeats; it names one record.")
        return rows

    def scatter(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Groupwise: return `row`, a row's number, and `key`; a null key is a group of one."""
        number = pl.Series("row", np.arange(rows.height, dtype=np.uint32))
        if self.keys is not None:
            keyed = pl.DataFrame([number, self.keys(rows, **self.bound).alias("key")])
            return keyed.explode("key", empty_as_null=True).drop_nulls("key")
        assert self.by is not None, f"{self.name} declares neither by nor keys"
        return pl.DataFrame([number, rows[self.by].alias("key")])

    def lone_keys_to_run(self, keyed: pl.DataFrame) -> pl.Series:
        """Groupwise: return which keys of `scatter` the function must see though alone.

        Most keys are of one record. An edge needs two; of the partial rows of a record that
        `merge` folds, one of a group of its own is enough.
        """
        if self.edges is not None:
            return pl.repeat(False, keyed.height, eager=True)
        if self.merge is not None:
            return keyed["row"].is_first_distinct()
        return pl.repeat(True, keyed.height, eager=True)

    def run_groups(self, rows: pl.DataFrame, keyed: pl.DataFrame, *arguments: Any) -> pl.DataFrame:
        """Groupwise: run the function on whole groups, some `BLOCK_BYTES` of rows at a time.

        The function sees the roles and `group: UInt32`, sorted by (group, order roles, uid).

        Args:
            rows: `uid` and the roles.
            keyed: as `scatter` returns it, of whole groups.
            arguments: the further tables and slots.

        Returns:
            Rows: `uid` and the written columns (or the partial ones that `merge` folds).
            Edges: `a`, `b` and the weight.
        """
        lone = self.lone_keys_to_run(keyed)
        if not lone.all():
            keyed = keyed.filter(lone | _groups.repeated(keyed["key"]))
        long = self.keys is not None and self.merge is not None
        found = []
        for block in _groups.blocks(rows, keyed, order=self.order, by_first_row=long):
            said = self.function(block, *arguments, **self.bound)
            if self.edges is not None:
                found.append(self._edges(block, said))
            else:
                found.append(said if self.merge is not None else self._annotated(block, said))
        return pl.concat(found)

    def gather(self, uids: pl.Series, partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Groupwise: fold the results of all buckets into one row per uid, in the given order."""
        found = pl.concat(partials) if partials else None
        if self.edges is not None:
            return self._typed(_graph.fold_edges(uids, found, weight=self.edges))
        if found is None:
            return in_order(uids, self._typed(uids.clear().to_frame("uid")))
        if self.merge is not None:
            found = self.merge(found, **self.bound)
            self._check_uids(found, uids)
        return self._typed(in_order(uids, found))

    def fold(self, partials: Sequence[pl.DataFrame]) -> pl.DataFrame:
        """Fit: fold the model tables of several parts."""
        assert self.merge is not None, f"{self.name} declares no merge"
        return self._model(self.merge(pl.concat(partials), **self.bound))

    def drawn(self, uids: pl.Series, sample: int | None = None) -> tuple[pl.Series, Step]:
        """Fit: return which rows to look at, and the step with parameters that depend on rows.

        A bounded sample is the `sample` records with the smallest uniform(uid, seed, stream).
        """
        wanted, parameters = (self.plan or _all_rows)(len(uids), dict(self.bound))
        wanted = sample if sample is not None else wanted
        step = replace(self, bound=parameters)
        everyone = pl.repeat(True, len(uids), eager=True)
        if wanted is None or wanted >= len(uids):
            return everyone, step
        values = uids.to_numpy()
        draws = uniform(values, parameters.get("seed", 0), f"fit.{self.name}")
        order = np.lexsort((values, draws))[:wanted]
        chosen = np.zeros(len(uids), dtype=bool)
        chosen[order] = True
        return pl.Series(chosen), step

    def model(self, drawn: pl.DataFrame, *arguments: Any) -> pl.DataFrame:
        """Fit: return the model table of rows that were drawn."""
        return self._model(self.function(drawn.sort("uid"), *arguments, **self.bound))

    def _fit(self, rows: pl.DataFrame, arguments: list[Any]) -> pl.DataFrame:
        mask, step = self.drawn(rows["uid"])
        return step.model(rows.filter(mask), *arguments)

    def _select(self, candidates: pl.DataFrame, arguments: list[Any]) -> pl.DataFrame:
        kept = self.function(candidates, *arguments, **self.bound)
        if not kept.columns or kept.columns[0] != "uid" or kept.schema["uid"] != pl.UInt64:
            raise ContractError(
                f"{self.name} returned the columns {kept.columns}. A selector returns "
                "`uid: UInt64` first, then its evidence."
            )
        self._check_uids(kept, candidates["uid"])
        for name, dtype in self.writes.items():
            if name not in kept.columns or not _fits(kept.schema[name], dtype):
                raise ContractError(
                    f"{self.name} declares {name}: {dtype} as evidence, but returned {kept.schema}."
                )
        if "repeats" in kept.columns and not kept["repeats"].is_between(1, MAX_REPEATS).all():
            raise ContractError(f"{self.name} returned repeats out of 1 to {MAX_REPEATS}.")
        return kept.sort("uid")

    def _check_uids(self, found: pl.DataFrame, known: pl.Series) -> None:
        if found["uid"].n_unique() != found.height:
            raise ContractError(f"{self.name} returned a uid twice.")
        strangers = found.height - int(found["uid"].is_in(known.implode()).sum())
        if strangers:
            raise ContractError(f"{self.name} returned {strangers} uids that it was not given.")

    def _annotated(self, rows: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
        if found.height != rows.height:
            raise ContractError(
                f"{self.name} returned {found.height} rows for {rows.height} records. Return one "
                "row per input row, in input order, with nulls where a record has no value."
            )
        if "uid" not in found.columns:
            found = found.with_columns(uid=rows["uid"])
        elif not found["uid"].equals(rows["uid"]):
            raise ContractError(f"{self.name} returned its rows in another order than the input.")
        return self._typed(found)

    def _typed(self, found: pl.DataFrame) -> pl.DataFrame:
        """Return `uid` and the declared columns, checked against the declared types."""
        if not found.width or "uid" not in found.columns:
            raise ContractError(f"{self.name} returned no uid.")
        columns = [pl.col("uid")]
        for name, dtype in self.writes.items():
            if name not in found.columns:
                if found.height:
                    raise ContractError(f"{self.name} declares {name}, but returned no such column")
                columns.append(pl.lit(None, dtype=null_type(dtype)).alias(name))
                continue
            if found.schema[name] == pl.Null:
                columns.append(pl.col(name).cast(null_type(dtype)))
                continue
            if not _fits(found.schema[name], dtype):
                raise ContractError(
                    f"{self.name}.{name} is {found.schema[name]}; it is declared {dtype}."
                )
            columns.append(pl.col(name))
        extra = [c for c in found.columns if c != "uid" and c not in self.writes]
        if extra:
            raise ContractError(f"{self.name} returned {extra}, which it does not declare.")
        return found.select(columns)

    def _model(self, model: pl.DataFrame) -> pl.DataFrame:
        missing = [name for name in self.writes if name not in model.columns]
        if missing:
            raise ContractError(f"{self.name} returned a model table without {missing}.")
        return model.select(list(self.writes))

    def _edges(self, rows: pl.DataFrame, edges: pl.DataFrame) -> pl.DataFrame:
        assert self.edges is not None
        if edges.columns != ["a", "b", self.edges]:
            raise ContractError(
                f"{self.name} returned the columns {edges.columns}, not a, b, {self.edges}."
            )
        ends = pl.concat([edges["a"], edges["b"]]).unique()
        if not ends.is_in(rows["uid"].implode()).all():
            raise ContractError(f"{self.name} returned an edge to a uid that is not in the bucket.")
        return edges

    def _known(self) -> Parameters:
        if self.bound:
            return self.bound
        fields = schema_of(self.function).model_fields
        return {name: f.get_default() for name, f in fields.items()}

    def _arguments(self, others: tuple[Any, ...], named: Mapping[str, Any]) -> list[Any]:
        names = list(self._positional)
        if len(others) > len(names):
            raise ConfigError(f"{self.name} takes {names} after the table, got {len(others)}.")
        given = dict(zip(names, others, strict=False)) | dict(named)
        arguments = []
        for name in names:
            value = given.get(name)
            table = self.tables.get(name)
            if value is None and not (table is not None and table.optional):
                raise ConfigError(f"{self.name} needs {name} after the table.")
            if isinstance(value, pl.LazyFrame):
                value = value.collect()
            if isinstance(value, pl.DataFrame) and table is not None:
                missing = [c for c in table.columns if c not in value.columns]
                if missing:
                    raise ConfigError(
                        f"{self.name}: the table {name} has no {missing}, only {value.columns}."
                    )
            arguments.append(value)
        return arguments


def _ascending(uids: pl.Series) -> bool:
    values = uids.to_numpy()
    return bool((values[1:] > values[:-1]).all())


def as_step(found: Any, name: str) -> Step:
    """Return what a name or a reference led to as a step.

    Raises:
        ConfigError: it is none; of a plain function the message says what makes it one.
    """
    if isinstance(found, Step):
        return found
    if not inspect.isfunction(found):
        raise ConfigError(f"{name} is no method of curation, but {type(found).__name__}.")
    raise ConfigError(
        f"{name} is a function without a contract: write "
        '@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"name": pl.Float32}) above '
        "it, with the columns that it reads and writes (from winnow import Role, rowwise; or "
        "groupwise, poolwise, fit, selector)."
    )


def rowwise(
    *,
    version: int,
    reads: Reads | Callable[[Parameters], Reads],
    writes: Writes | Callable[[Parameters], Writes],
    tables: Mapping[str, Table] | None = None,
    packages: Needed | Callable[[Parameters], Needed] | None = None,
    check: Check | None = None,
) -> Callable[[Callable[..., pl.DataFrame]], Step]:
    """Make a method of its own row only: part by part, cached per part, never computed twice."""
    return lambda f: Step(
        f, "rowwise", version, reads, writes, tables or {}, packages=packages or {}, check=check
    )


def groupwise(
    *,
    version: int,
    reads: Reads | Callable[[Parameters], Reads],
    writes: Writes | Callable[[Parameters], Writes],
    by: str | None = None,
    keys: Callable[..., pl.Series] | None = None,
    order: Iterable[str] = (),
    edges: str | None = None,
    merge: Callable[..., pl.DataFrame] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> Callable[[Callable[..., pl.DataFrame]], Step]:
    """Make a method of whole groups; the runtime brings groups together and never splits one.

    The function gets the rows of any number of whole groups, with `group: UInt32`, and answers
    for each row, or with edges; what it says of a group may not depend on the other groups.
    """
    return lambda f: Step(
        f, "groupwise", version, reads, writes, tables or {}, by, keys, tuple(order), edges, merge
    )


def poolwise(
    *,
    version: int,
    reads: Reads | Callable[[Parameters], Reads],
    writes: Writes | Callable[[Parameters], Writes],
    tables: Mapping[str, Table] | None = None,
) -> Callable[[Callable[..., pl.DataFrame]], Step]:
    """Make a method of all rows, sorted by uid; over narrow columns only, bytes a row stated."""
    return lambda f: Step(f, "poolwise", version, reads, writes, tables or {})


def fit(
    *,
    version: int,
    reads: Reads | Callable[[Parameters], Reads],
    writes: Writes | Callable[[Parameters], Writes],
    plan: Callable[[int, Parameters], tuple[int | None, Parameters]] | None = None,
    merge: Callable[..., pl.DataFrame] | None = None,
    tables: Mapping[str, Table] | None = None,
) -> Callable[[Callable[..., pl.DataFrame]], Step]:
    """Make a model of all rows, sorted by uid; with `merge` part by part, with `plan` a sample."""
    return lambda f: Step(f, "fit", version, reads, writes, tables or {}, merge=merge, plan=plan)


def selector(
    *,
    version: int,
    reads: Reads | Callable[[Parameters], Reads],
    evidence: Writes | None = None,
    tables: Mapping[str, Table] | None = None,
) -> Callable[[Callable[..., pl.DataFrame]], Step]:
    """Make a rule that keeps a subset of the candidates, which it gets sorted by uid."""
    return lambda f: Step(f, "selector", version, reads, evidence or {}, tables or {})


def one_of(*roles: str) -> Check:
    """Return the check of a method that needs at least one of some optional roles."""

    def check(_parameters: Parameters, bound: Collection[str]) -> str | None:
        return None if set(roles) & set(bound) else f"bind {' or '.join(roles)} to a column."

    return check


def in_order(uids: pl.Series, found: pl.DataFrame) -> pl.DataFrame:
    """Return the rows of `found` for the given uids, in their order, nulls where it has none."""
    return uids.to_frame("uid").join(found, on="uid", how="left", maintain_order="left")


def budget_of(candidates: int, budget: int | None, budget_ratio: float | None) -> int:
    """Return how many records a budget or a share of the candidates means, rounded down.

    Raises:
        ConfigError: unless exactly one of the two is given.
    """
    if (budget is None) == (budget_ratio is None):
        raise ConfigError("give either budget or budget_ratio.")
    wanted = budget if budget is not None else int(candidates * (budget_ratio or 0.0) + 1e-9)
    return min(candidates, wanted)


def _all_rows(_rows: int, parameters: Parameters) -> tuple[int | None, Parameters]:
    return None, parameters


def _by_name(module: str, name: str) -> Step:
    __import__(module)
    step: Step = getattr(sys.modules[module], name)
    return step


def _bound_by_name(module: str, name: str, bound: Parameters) -> Step:
    return replace(_by_name(module, name), bound=bound)


def _is_scorer(hint: Any) -> bool:
    return hint is Scorer or Scorer in getattr(hint, "__args__", ())


def _fits(found: Any, declared: Any) -> bool:
    """Whether a column's type is the declared one; a class such as pl.List takes any inner."""
    if declared is None:
        return True
    if isinstance(declared, tuple):
        return any(_fits(found, one) for one in declared)
    return bool(found == declared)


def null_type(dtype: Any) -> Any:
    """Return the type of a column of nulls whose declared type may be open, at any depth.

    Of several types it is the first. A list of any inner type is one of UInt64; an array of any
    width a list of Float32.
    """
    if isinstance(dtype, tuple):
        return null_type(dtype[0])
    if isinstance(dtype, pl.List):
        return pl.List(null_type(dtype.inner))
    if isinstance(dtype, pl.Array):
        return pl.Array(null_type(dtype.inner), dtype.size)
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: null_type(field.dtype) for field in dtype.fields})
    # A list of anything equals pl.List: those with an inner type are taken above.
    open_types = {None: pl.Null, pl.List: pl.List(pl.UInt64), pl.Array: pl.List(pl.Float32)}
    return open_types.get(dtype, dtype)


def _type_name(dtype: Any) -> str:
    return " or ".join(map(str, dtype)) if isinstance(dtype, tuple) else str(dtype)
