"""What a method asks for and gives, as `winnow methods METHOD` shows it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints

from contracts import methods
from contracts.errors import ConfigError, nearest
from contracts.params import schema_of
from flows.look.render import table_text

FOLDERS = {
    **dict.fromkeys(methods.CURATION, ""),
    "embeddings": "encoder",
    "pretraining.objectives": "objective",
    "pretraining.encoders": "encoder to train",
    "evaluation.protocols": "protocol",
    "storage.sources": "source",
}
_BOUNDS = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
# A file that holds what is common to all of its folder.
_NO_METHOD = {("embeddings", "encoder")}


def listed() -> list[dict[str, str]]:
    """Return folder, name and first line of every method, without importing any."""
    return [
        {"folder": folder, "name": name, "does": methods.first_line(folder, name)}
        for folder in FOLDERS
        for name in methods.names(folder)
        if (folder, name) not in _NO_METHOD
    ]


def described(name: str, recipe_dir: Path) -> dict[str, Any]:
    """Return what a method is, reads, takes and writes.

    Args:
        name: of its file, alone or with its folder as in `protocols.knn`, or a reference.
        recipe_dir: to which a reference `./file.py:name` is relative.

    Raises:
        ConfigError: nothing, or more than one thing, has the name; or it is a plain function.
    """
    from curation.step import as_step

    folder, method = _found(name, recipe_dir)
    kind = FOLDERS.get(folder, "")
    about: dict[str, Any] = {"name": name.rpartition(".")[2], "folder": folder, "kind": kind}
    if ":" in name:
        about["name"] = name
    if kind == "":
        step = as_step(method, name)
        about |= {"kind": step.kind, "version": step.version}
        about |= _of_step(step)
    elif kind == "encoder":
        about["version"] = method.version
        reads = getattr(method, "reads", {})
        if isinstance(reads, Mapping):
            about["roles"] = [{"role": role, "default": column} for role, column in reads.items()]
    elif kind in ("objective", "protocol"):
        about["inputs"] = list(_inputs(method))
    about["parameters"] = parameters(_configured(folder, method))
    about["doc"] = inspect.getdoc(method) or ""
    return about


def schema(name: str, recipe_dir: Path) -> dict[str, Any]:
    """Return the JSON schema of a method's parameters."""
    return schema_of(_configured(*_found(name, recipe_dir))).model_json_schema()


def text(about: Mapping[str, Any]) -> str:
    """Return what `described` says as lines."""
    version = f", version {about['version']}" if "version" in about else ""
    lines = [f"{about['name']}: {about['kind']}{version}", about["doc"].partition("\n")[0]]
    for title in ("roles", "tables", "slots", "inputs", "parameters", "writes"):
        if about.get(title):
            rows = table_text(about[title]).splitlines()
            lines += ["", title, *(f"  {row}" for row in rows)]
    return "\n".join([*lines, "", about["doc"].partition("\n")[2].strip()]).rstrip()


def _found(name: str, recipe_dir: Path) -> tuple[str, Any]:
    """Return a method and the folder that it lies in."""
    if ":" in name:
        return methods.CURATION[0], methods.find(name, recipe_dir=recipe_dir)
    known = [(item["folder"], item["name"]) for item in listed()]
    head, dot, last = name.rpartition(".")
    found = [f for f, n in known if n == last and (not dot or f.rpartition(".")[2] == head)]
    if len(found) > 1:
        named = " or ".join(f"{folder.rpartition('.')[2]}.{last}" for folder in found)
        raise ConfigError(f"{name!r} is a method of {len(found)} folders: write {named}.")
    if not found:
        hint = nearest(last, [n for _, n in known])
        raise ConfigError(f"there is no method {name!r}.{hint}")
    return found[0], methods.load(found[0], last)


def _configured(folder: str, method: Any) -> Any:
    """Return what has a method's parameters as its keyword-only ones."""
    if FOLDERS[folder] == "source":
        # A source is made of its [[source]] section, whatever its kind.
        from flows.recipe.sections import SourceSection

        return SourceSection
    return getattr(method, "function", method)


def roles_of(step: Any) -> list[dict[str, str]]:
    """Return the roles of a step under its parameters, with type and default."""
    from flows.recipe.plan import POOL_COLUMNS

    roles = []
    for role, spec in step.reads.items():
        default = spec.default or (role if role in POOL_COLUMNS and not spec.optional else None)
        default = default or ("may be left out" if spec.optional else "bind it to a column")
        roles.append({"role": role, "type": _dtype(spec.dtype), "default": default})
    return roles


def tables_of(step: Any) -> list[dict[str, str]]:
    """Return the further tables of a step, with what each may be and its default."""
    tables = []
    for name, spec in step.tables.items():
        default = spec.default or ("may be left out" if spec.optional else "name one")
        of = "pool:<name>" if spec.pool else "fit.<alias>, file:<path> or pool:<name>"
        columns = ", ".join(spec.columns)
        tables.append({"table": name, "columns": columns, "is": of, "default": default})
    return tables


def _of_step(step: Any) -> dict[str, Any]:
    slots = [{"slot": name, "is": "a file of embeddings"} for name in step.slots]
    writes = [{"column": column, "type": _dtype(dtype)} for column, dtype in step.writes.items()]
    return {"roles": roles_of(step), "tables": tables_of(step), "slots": slots, "writes": writes}


def _inputs(method: Any) -> Iterator[dict[str, str]]:
    """Yield the positional parameters: an objective's encoders, what a protocol asks for."""
    target = method.__init__ if inspect.isclass(method) else method.function
    hints = get_type_hints(target, include_extras=True)
    for name, parameter in inspect.signature(target).parameters.items():
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name != "self":
            hint = hints.get(name)
            is_ = getattr(hint, "__metadata__", [getattr(hint, "__name__", str(hint))])[0]
            yield {"input": name, "is": is_}


def parameters(configured: Any) -> list[dict[str, str]]:
    """Return name, type and default of each keyword-only parameter."""
    model = schema_of(configured)
    types = model.model_json_schema()["properties"] if model.model_fields else {}
    return [
        {
            "parameter": name,
            "type": _type(types[name]),
            "default": "required" if field.is_required() else _value(field.default),
        }
        for name, field in model.model_fields.items()
    ]


def _value(default: Any) -> str:
    return "none" if default is None else json.dumps(default)


def _dtype(dtype: Any) -> str:
    if dtype is None:
        return "any"
    return " or ".join(map(str, dtype)) if isinstance(dtype, tuple) else str(dtype)


def _type(schema: Mapping[str, Any]) -> str:
    """Return what a JSON schema allows, in words."""
    if "anyOf" in schema:
        return " or ".join(_type(choice) for choice in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if "const" in schema:
        return json.dumps(schema["const"])
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema['items'])}" if schema.get("items") else "list"
    bounds = [f"{sign} {schema[key]}" for key, sign in _BOUNDS.items() if key in schema]
    return " ".join([{"null": "none", "object": "section"}.get(kind, kind), *bounds])
