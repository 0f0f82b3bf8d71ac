"""SQL over a record's columns: which columns it names, its top-level clauses, its polars form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import polars as pl
import sqlglot
from sqlglot import exp

from contracts.errors import ConfigError
from contracts.uid import parse_uid

# Limits of one expression. Beyond them parsers overflow their stacks and polars takes minutes;
# long lists of values belong into a file.
MAX_CHARACTERS = 100_000
MAX_DEPTH = 250
MAX_PADDING = 10_000

# Whose value is another one at the next run: a verdict would depend on when it was made.
_UNSTEADY = (
    exp.CurrentDate, exp.CurrentDatetime, exp.CurrentTime, exp.CurrentTimestamp,
    exp.Localtime, exp.Localtimestamp, exp.Rand, exp.Uuid,
)  # fmt: skip
_NAN = exp.cast(exp.Literal.string("NaN"), "double")
# Whose value may be NaN where every operand is a number.
_PARTIAL = (exp.Div, exp.Mod, exp.Pow, exp.Sqrt, exp.Ln, exp.Log, exp.Acos, exp.Asin)
SMALL_INTEGERS = (pl.UInt8, pl.UInt16, pl.UInt32, pl.Int8, pl.Int16, pl.Int32)


@dataclass(frozen=True)
class Expression:
    """A row-wise SQL expression such as `caption.words >= 3 AND meta.url IS NOT NULL`.

    Attributes:
        text: as the recipe has it.
    """

    text: str

    def __getstate__(self) -> dict[str, Any]:
        """Leave the parsed form behind."""
        return {"text": self.text}

    @property
    def paths(self) -> tuple[str, ...]:
        """The columns it names, as `text`, `meta.url`, `caption.words`, in order of appearance."""
        return _parsed(self.text)[1]

    @property
    def clauses(self) -> tuple[str, ...]:
        """The operands of its top-level AND, each as SQL; the whole where there is none."""
        return _parsed(self.text)[0]

    @property
    def is_column(self) -> bool:
        """Whether it is nothing but a column's name."""
        return self.paths == (self.text.strip(),)

    @cached_property
    def polars(self) -> pl.Expr:
        """The expression over flat columns that are called by their whole paths."""
        return _polars(self.text)

    def clause(self, index: int) -> pl.Expr:
        """One clause over flat columns."""
        return _polars(self.clauses[index])


def read_expression(value: Any) -> Expression:
    """Return what a recipe has where an expression belongs.

    Raises:
        ConfigError: it is no SQL expression.
    """
    if not isinstance(value, str):
        raise ConfigError(f"is an SQL expression in quotes (got {value!r}).")
    expression = Expression(value)
    _ = expression.paths
    return expression


def evaluate_expression(frame: pl.DataFrame, expression: pl.Expr, text: str) -> pl.Series:
    """Evaluate an expression over flat columns; counts are 64 bits wide and signed, NaN is null.

    `words - 5` of a UInt32 would wrap below zero otherwise, `width * height` above 2**32. A NaN
    would pass every `>`.

    Raises:
        ConfigError: the expression does not fit the columns' types.
    """
    wide = [pl.col(c).cast(pl.Int64) for c, t in frame.schema.items() if t in SMALL_INTEGERS]
    numbers = [pl.col(c).fill_nan(None) for c, t in frame.schema.items() if t.is_float()]
    try:
        found = frame.with_columns(*wide, *numbers).with_columns(value=expression)
        return nan_as_null(found["value"])
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{text!r}: {error}") from None


def clause_values(expression: Expression, rows: pl.DataFrame) -> pl.DataFrame:
    """Return for each of the rows whether each clause holds; null where it is unmeasured."""
    return pl.DataFrame(
        {
            str(i): evaluate_expression(rows, expression.clause(i), text).cast(pl.Boolean)
            for i, text in enumerate(expression.clauses)
        }
    )


def bound_roles(flat: pl.DataFrame, roles: Mapping[str, Expression]) -> list[pl.Series]:
    """Return a method's roles as columns, out of the flat columns that its expressions name."""
    return [
        (
            nan_as_null(flat[e.text.strip()])
            if e.is_column
            else evaluate_expression(flat, e.polars, e.text)
        ).alias(role)
        for role, e in roles.items()
    ]


@lru_cache(maxsize=4096)
def _parsed(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    tree = _tree(text)
    operands = list(tree.flatten()) if isinstance(tree, exp.And) else [tree]
    paths = dict.fromkeys(_path(column) for column in tree.find_all(exp.Column, bfs=False))
    _polars(text)  # An expression that polars cannot take is wrong wherever it stands.
    return tuple(o.sql(dialect="postgres") for o in operands), tuple(paths)


def _tree(text: str) -> Any:
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(
            f"{_short(text)} has {len(text):,} characters, more than {MAX_CHARACTERS:,}: bring "
            "the values by file, or keep a list of records by uid_list."
        )
    try:
        tree = sqlglot.parse_one(text, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        message = str(error).partition("\n")[0]
        raise ConfigError(f"{_short(text)} is not an SQL expression: {message[:200]}") from None
    except RecursionError:
        raise ConfigError(f"{_short(text)} is nested too deeply.") from None
    if _depth(tree) > MAX_DEPTH:
        raise ConfigError(
            f"{_short(text)} is nested more than {MAX_DEPTH} deep: write x IN (1, 2, 3) for "
            "x = 1 OR x = 2 OR x = 3, or several rules."
        )
    forbidden = tree.find(exp.Select, exp.AggFunc, exp.Window, exp.Subquery)
    if isinstance(tree, exp.Command | exp.DDL | exp.DML) or forbidden is not None:
        raise ConfigError(
            f"{_short(text)}: a rule looks at one record: no query, aggregate or window."
        )
    unsteady = tree.find(*_UNSTEADY)
    if unsteady is not None:
        raise ConfigError(
            f"{_short(text)}: {unsteady.sql(dialect='postgres')} is another value at the next "
            "run: write the date or the number that is meant."
        )
    for pad in tree.find_all(exp.Pad):
        length = pad.expression
        if not (length.is_int and int(length.this) <= MAX_PADDING):
            raise ConfigError(
                f"{_short(text)}: LPAD and RPAD take a length in figures, {MAX_PADDING:,} at most."
            )
    return tree.unnest()


def _depth(tree: Any) -> int:
    depth, level = 0, [tree]
    while level:
        depth, level = depth + 1, [child for node in level for child in node.iter_expressions()]
    return depth


def _polars(text: str) -> pl.Expr:
    def flat(node: Any) -> Any:
        if isinstance(node, exp.Column):
            return exp.column(exp.to_identifier(_path(node), quoted=True))
        if isinstance(node, exp.Literal) and node.is_string and _is_of_uid(node.parent):
            uid = parse_uid(node.name)
            return node if uid is None else exp.Literal.number(uid)
        return node

    try:
        # A root of its own, so that the tree's own root can be replaced too.
        root = exp.Paren(this=_tree(text).transform(flat))
        # The innermost first: what is replaced is copied with all that it holds.
        for node in list(root.find_all(*_PARTIAL))[::-1]:
            node.replace(exp.Nullif(this=node.copy(), expression=_NAN.copy()))
        expression: pl.Expr = pl.sql_expr(root.this.sql(dialect="postgres"))
    except RecursionError:
        raise ConfigError(f"{_short(text)} is nested too deeply.") from None
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{_short(text)}: {str(error)[:300]}") from None
    return expression


def _is_of_uid(node: Any) -> bool:
    """Whether something compares the column `uid`, which is shown as 16 hexadecimal digits."""
    compared = isinstance(node, exp.EQ | exp.NEQ | exp.In)
    return compared and isinstance(node.this, exp.Column) and node.this.name == "uid"


def nan_as_null(values: pl.Series) -> pl.Series:
    """Return values with null for NaN: what is not a number was not measured."""
    return values.fill_nan(None) if values.dtype.is_float() else values


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _path(column: exp.Column) -> str:
    return ".".join(part.name for part in column.parts)
