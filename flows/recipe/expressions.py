"""SQL over a record's columns: which columns it names, its top-level clauses, its polars form."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import polars as pl
import sqlglot
from sqlglot import exp

from contracts.errors import ConfigError


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
    try:
        tree = sqlglot.parse_one(text, dialect="postgres")
    except sqlglot.errors.SqlglotError as error:
        message = str(error).partition("\n")[0]
        raise ConfigError(f"{text!r} is not an SQL expression: {message}") from None
    forbidden = tree.find(exp.Select, exp.AggFunc, exp.Window, exp.Subquery)
    if isinstance(tree, exp.Command | exp.DDL | exp.DML) or forbidden is not None:
        raise ConfigError(f"{text!r}: a rule looks at one record: no query, aggregate or window.")
    return tree.unnest()


def _polars(text: str) -> pl.Expr:
    def flat(node: Any) -> Any:
        if isinstance(node, exp.Column):
            return exp.column(exp.to_identifier(_path(node), quoted=True))
        return node

    sql = _tree(text).transform(flat).sql(dialect="postgres")
    try:
        expression: pl.Expr = pl.sql_expr(sql)
    except pl.exceptions.PolarsError as error:
        raise ConfigError(f"{text!r}: {error}") from None
    return expression


def _path(column: exp.Column) -> str:
    return ".".join(part.name for part in column.parts)
