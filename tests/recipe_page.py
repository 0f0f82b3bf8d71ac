"""The keys of docs/recipe.md, made of the schema of a recipe and its docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from contracts import methods
from contracts.params import schema_of
from curation.step import Step
from flows.answer.evaluate import EvaluateSection
from flows.look.method import parameters, roles_of, tables_of
from flows.recipe.bootstrap import BootstrapSection
from flows.recipe.sections import (
    AnnotateSection,
    CanariesSection,
    CertificateSection,
    CompareSection,
    EmbedSection,
    ExportSection,
    FileSection,
    FitSection,
    GroupsSection,
    GuardSection,
    HoldoutSection,
    PretrainSection,
    Recipe,
    SelectSection,
    SourceSection,
    StreamSection,
)
from tests import index

# Each section's own keys, and the folders whose methods may be named in it.
SECTIONS: tuple[tuple[type, tuple[str, ...]], ...] = (
    (SourceSection, ()),
    (GuardSection, ()),
    (GroupsSection, ()),
    (CertificateSection, ()),
    (HoldoutSection, ()),
    (EmbedSection, ("embeddings",)),
    (BootstrapSection, ()),
    (FileSection, ()),
    (AnnotateSection, ("curation.annotate",)),
    (FitSection, ("curation.fit",)),
    (SelectSection, ("curation.select",)),
    (CanariesSection, ()),
    (ExportSection, ()),
    (PretrainSection, ("pretraining.objectives", "pretraining.encoders")),
    (StreamSection, ()),
    (EvaluateSection, ("evaluation.protocols",)),
    (CompareSection, ()),
)
# Fields of a section that hold the method's own keys.
REST = {"own", "parameters"}
DEFAULTS = {"bind it to a column": "required", "may be left out": "none", "name one": "required"}
HEAD = ("| key | type | default | meaning |", "|---|---|---|---|")


def sentences(*of: Any) -> dict[str, str]:
    """Return what docstrings say of each name under `Args:`, `Attributes:` and `Reads:`."""
    found: dict[str, str] = {}
    for one in of:
        title, names = "", []
        for line in inspect.cleandoc(one.__doc__ or "").splitlines():
            if line and not line.startswith(" "):
                title = line
            elif line and title in ("Args:", "Attributes:", "Reads:"):
                entry = re.match(r" {4}(\w+(?:, \w+)*): (.*)", line)
                if entry:
                    names = entry[1].split(", ")
                for name in names:
                    found[name] = entry[2] if entry else f"{found[name]} {line.strip()}"
    return found


def row(key: str, kind: str, default: str, sentence: str) -> str:
    sentence = sentence[:1].upper() + sentence[1:]
    cells = [
        f"`{key}`",
        kind.replace(" | ", " or "),
        "" if default in ("none", '""') else default,
        sentence,
    ]
    cells[1:3] = [cell.replace("<", "&lt;") for cell in cells[1:3]]
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |"


def of_parameters(configured: Any, said: Mapping[str, str]) -> Iterator[str]:
    fields = schema_of(configured).model_fields
    for item in parameters(configured):
        name = item["parameter"]
        if name not in REST:
            kind = item["type"].removesuffix(" or none").replace(str(2**63), "2^63")
            sentence = said.get(name) or fields[name].description or ""
            yield row(name, kind, item["default"], sentence)


def of_method(folder: str, name: str) -> Iterator[str]:
    """Yield the rows of a method: its roles, tables, and parameters."""
    method = methods.load(folder, name)
    said = sentences(method, method.__init__) if inspect.isclass(method) else sentences(method)
    if folder.startswith("curation."):
        yield from of_inputs(method, said)
    elif folder == "embeddings":
        reads = getattr(method, "reads", None)
        reads = reads if isinstance(reads, Mapping) else dict.fromkeys(("image", "text"))
        for role, default in reads.items():
            yield row(role, "SQL", default or role, said.get(role, ""))
    yield from of_parameters(getattr(method, "function", method), said)


def of_inputs(step: Step, said: Mapping[str, str]) -> Iterator[str]:
    """Yield the rows of a step's roles, under any choice of its parameters, and of its tables."""
    fields = schema_of(step.function).model_fields
    defaults = {name: field.get_default() for name, field in fields.items()}
    choices = [
        {name: value}
        for name, schema in step.parameters.get("properties", {}).items()
        for value in schema.get("enum", ())
    ]
    roles: dict[str, dict[str, str]] = {}
    for choice in ({}, *choices):
        for item in roles_of(replace(step, bound={**defaults, **choice})):
            roles.setdefault(item["role"], item)
    for name, item in roles.items():
        kind = "SQL" if item["type"] == "any" else f"SQL: {item['type']}"
        yield row(name, kind, DEFAULTS.get(item["default"], item["default"]), said.get(name, ""))
    for item in tables_of(step):
        name = item["table"]
        yield row(
            name, item["is"], DEFAULTS.get(item["default"], item["default"]), said.get(name, "")
        )


def page() -> str:
    """Return the generated part of the page."""
    said = sentences(Recipe)
    lines = ["### Before the first section", "", *HEAD]
    lines.append(row("name", "string", "the file's name", said["name"]))
    lines.append(row("pool", "string", "`name`", said["pool"]))
    for section, folders in SECTIONS:
        head, _, does = (section.__doc__ or "").partition("\n")[0].partition(": ")
        head = re.sub(r"\[+[^]]+]+", r"`\g<0>`", head.removeprefix("One "))
        lines += ["", f"### {head}", "", f"{does[:1].upper()}{does[1:]}"]
        lines += ["", *HEAD, *of_parameters(section, sentences(section))]
        for folder in folders:
            for name in index.names(folder):
                rows = list(of_method(folder, name))
                lines += ["", f"**`{name}`** {methods.first_line(folder, name)}"]
                lines += ["", *HEAD, *rows] if rows else []
    return "\n".join(lines)
