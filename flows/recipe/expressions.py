"""SQL over a record's columns: which columns it names, its top-level clauses, its polars form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import polars as pl
import sqlglot
from sqlglot import exp

from contracts.errors import ConfigError

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
# Whose value may be NaN where every operand is a number.
_PARTIAL = (exp.Div, exp.Mod, exp.Pow, exp.Sqrt, exp.Ln, exp.Log, exp.Acos, exp.Asin)


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


_NAN = exp.cast(exp.Literal.string("NaN"), "double")


def nan_as_null(values: pl.Series) -> pl.Series:
    """Return values with null for NaN: what is not a number was not measured."""
    return values.fill_nan(None) if values.dtype.is_float() else values


def _short(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")


def _path(column: exp.Column) -> str:
    return ".".join(part.name for part in column.parts)
