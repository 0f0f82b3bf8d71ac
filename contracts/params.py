"""One convention for all configuration: positional is run-time, keyword-only is configuration.

A signature is the schema: `schema_of` turns the keyword-only parameters of a function, or of a
class's constructor, into a strict pydantic model. There are no config classes.
"""

from __future__ import annotations

import difflib
import inspect
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Protocol, get_type_hints, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from contracts.errors import ConfigError, Problem, nearest

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
# What several methods take has its sentence here; a docstring may say more of one.
Seed = Annotated[int, Field(ge=0, lt=2**63, description="another number makes other draws.")]
Stream = Annotated[
    str,
    Field(
        description="names the draws: uses with one stream draw alike. By itself it is the "
        "method's name, with `#2` for its second use in a recipe."
    ),
]
Budget = Annotated[Count | None, Field(description="how many are kept at most.")]
# A recipe gives the path relative to itself; a table's key holds the file's digest, not its path.
_IS_FILE = {"format": "path"}
File = Annotated[str | None, Field(json_schema_extra=_IS_FILE)]
_IS_FILE_OR_FOLDER = {"format": "path", "folder": True}
FileOrFolder = Annotated[str | None, Field(json_schema_extra=_IS_FILE_OR_FOLDER)]
BudgetRatio = Annotated[
    Ratio | None, Field(description="the share of the candidates to keep, instead of a budget.")
]


@runtime_checkable
class Scorer(Protocol):
    """What a slot is filled with: a callable over one column, with a fingerprint of its weights.

    The recipe names a file of `embeddings`; from Python one passes any such callable.
    """

    fingerprint: str

    def __call__(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return one score, or one row of scores, for each value."""
        ...


@lru_cache(maxsize=512)
def schema_of(method: Callable[..., Any]) -> type[BaseModel]:
    """Return the parameter schema of a function, or of a class's constructor."""
    target = method.__init__ if inspect.isclass(method) else method
    hints = get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {
        name: (
            hints.get(name, Any),
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    config = ConfigDict(
        extra="forbid", frozen=True, strict=True, validate_default=True, allow_inf_nan=False
    )
    name = getattr(method, "__name__", type(method).__name__)
    return create_model(f"{name}_parameters", __config__=config, **fields)


def names_of(method: Callable[..., Any]) -> list[str]:
    """Return the names of a method's keyword-only parameters, in order."""
    return list(schema_of(method).model_fields)


def files_of(method: Callable[..., Any]) -> dict[str, bool]:
    """Return the parameters that are paths: by name, whether it may be a folder's."""
    given = {n: f.json_schema_extra for n, f in schema_of(method).model_fields.items()}
    paths = {
        name: extra for name, extra in given.items() if extra in (_IS_FILE, _IS_FILE_OR_FOLDER)
    }
    return {name: extra == _IS_FILE_OR_FOLDER for name, extra in paths.items()}


def parse(method: Callable[..., Any], section: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """Return the section with every default filled in.

    Raises:
        ConfigError: with every problem of the section, each under its key.
    """
    section = {key: _plain(value) for key, value in section.items()}
    schema = schema_of(method)
    try:
        model = schema.model_validate(section)
    except ValidationError as error:
        raise ConfigError(_problem(e, schema, where) for e in error.errors()) from None
    return {name: getattr(model, name) for name in schema.model_fields}


def _problem(error: Any, schema: type[BaseModel], where: str) -> Problem:
    path = [str(part) for part in error["loc"]]
    key = ".".join([where, *path] if where else path)
    if error["type"] == "extra_forbidden":
        return Problem(key, f"unknown key.{nearest(path[-1], schema.model_fields)}")
    if error["type"] == "missing":
        return Problem(key, "is required.")
    if error["type"] in ("sequence_str", "list_type") and isinstance(error["input"], str):
        return Problem(key, f"is a list: write {path[-1]} = [{json.dumps(error['input'])}].")
    hint = ""
    if error["type"] == "literal_error":
        legal = re.findall(r"'([^']*)'", error["ctx"]["expected"])
        close = difflib.get_close_matches(str(error["input"]), legal, n=1)
        hint = f". Nearest: {close[0]}." if close else ""
    return Problem(key, f"{error['msg']} (got {error['input']!r}){hint}")


def _plain(value: Any) -> Any:
    """Unwrap NumPy scalars, which strict validation would refuse."""
    return value.item() if isinstance(value, np.generic) else value
