"""Which text leaves with a record: its own, or what [export] text says instead."""

from __future__ import annotations

from collections.abc import Container

import polars as pl

from flows.recipe.expressions import Expression, evaluate_expression
from flows.recipe.sections import ExportSection

OWN = "text"


def columns(section: ExportSection) -> list[str]:
    """Return the columns that are read."""
    return list(Expression(section.text).paths)


def others(section: ExportSection) -> list[str]:
    """Return the columns that are read where the text that leaves is another than the own."""
    return [] if section.text == OWN else columns(section)


def there(schema: Container[str], section: ExportSection) -> bool:
    """Whether there may be texts: the pool has its own, or they are made of other columns."""
    return section.text != OWN or OWN in schema


def of(frame: pl.DataFrame, section: ExportSection) -> pl.Series:
    """Return the text of each row.

    Args:
        frame: holds `columns(section)`.
        section: says which.
    """
    if section.text == OWN:
        return frame[OWN]
    expression = Expression(section.text)
    values = evaluate_expression(frame, expression.polars, expression.text)
    return values.cast(pl.String).alias(OWN)
