"""Find a method by its file: the folder is the registry.

`curation/annotate/minhash_clusters.py` is the method `minhash_clusters`; a class carries the
same letters (`open_clip.py` holds `OpenClip`). One's own code is named by reference instead:
`./file.py:name` or `module:name` beside the recipe, or `package.module:name` of what is installed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError, nearest

CURATION = ("curation.annotate", "curation.fit", "curation.select")


@cache
def names(folder: str) -> tuple[str, ...]:
    """Return the methods of a dotted folder, sorted, without importing any."""
    return tuple(sorted(path.stem for path in _folder(folder).glob("[!_]*.py")))


@cache
def first_line(folder: str, name: str) -> str:
    """Return the first line of a method's module docstring, read without importing it."""
    source = (_folder(folder) / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]


def load(folder: str, name: str, *, recipe_dir: Path | None = None) -> Any:
    """Return the method of that name in a folder, or the object that a reference names.

    Args:
        folder: such as `curation.annotate`.
        name: a file of the folder, or a reference.
        recipe_dir: the folder in which `./file.py` and `module` are looked for, that of the recipe.

    Raises:
        ConfigError: when there is no such method; names the nearest.
    """
    if ":" in name:
        return _by_reference(name, recipe_dir or Path.cwd())
    if name not in names(folder):
        elsewhere = [
            f"{other}.{method}"
            for other in CURATION
            for method in names(other)
            if other != folder and (name == method or name in method.split("_"))
        ]
        module, dot, last = name.rpartition(".")
        if dot and last not in names(folder):
            hint = f" {last} of a module {module} is {module}:{last}."
        elif elsewhere and folder in CURATION:
            hint = f"{nearest(last, names(folder))} Elsewhere: {', '.join(elsewhere)}."
        else:
            near = nearest_or_given if folder in CURATION else nearest
            hint = near(last, names(folder))
        raise ConfigError(f"{folder} has no method {name!r}.{hint}")
    return _named(importlib.import_module(f"{folder}.{name}"), name)


def nearest_or_given(name: str, legal: Iterable[str]) -> str:
    """Return `nearest`; where nothing is near, where a method may come from."""
    hint = nearest(name, legal)
    if hint.startswith(" Nearest"):
        return hint
    return (
        " `winnow methods` lists what there is; a function of a notebook comes in by "
        f"winnow.run(..., methods=[{name}])."
    )


def find(name: str, *, recipe_dir: Path | None = None) -> Any:
    """Return a method of curation by its bare name, or of another package as `protocols.knn`.

    Raises:
        ConfigError: when nothing has the name, or two folders have it.
    """
    if ":" in name:
        return load("curation.annotate", name, recipe_dir=recipe_dir)
    head, dot, tail = name.rpartition(".")
    if dot:
        folders = {
            "embeddings": "embeddings",
            "objectives": "pretraining.objectives",
            "protocols": "evaluation.protocols",
            "encoders": "pretraining.encoders",
            "sources": "storage.sources",
            "annotate": "curation.annotate",
            "fit": "curation.fit",
            "select": "curation.select",
        }
        if head not in folders:
            raise ConfigError(f"no methods are called {head}.*.{nearest(head, folders)}")
        return load(folders[head], tail)
    found = [folder for folder in CURATION if name in names(folder)]
    if len(found) > 1:
        raise ConfigError(f"{name!r} is a method of {' and of '.join(found)}: name the folder.")
    if not found:
        everything = [n for folder in CURATION for n in names(folder)]
        raise ConfigError(f"there is no method {name!r}.{nearest(name, everything)}")
    return load(found[0], name)


def source_hash(name: str, *, recipe_dir: Path | None = None) -> str | None:
    """Return the sha256 of the file behind a reference, None for a method of ours.

    Our methods carry a version, guarded by golden tables; one's own code is hashed instead.
    """
    if ":" not in name:
        return None
    path = file_of(name, recipe_dir or Path.cwd())
    if path is None:
        spec = importlib.util.find_spec(name.rpartition(":")[0])
        if spec is None or spec.origin is None:
            return None
        path = Path(spec.origin)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def file_of(reference: str, recipe_dir: Path) -> Path | None:
    """Return the file that a reference names beside a recipe; None where it is of a package."""
    module = reference.rpartition(":")[0]
    if module.endswith(".py"):
        return (recipe_dir / module).resolve()
    path = (recipe_dir / f"{module}.py").resolve()
    return path if path.is_file() else None


def code_hash(function: Callable[..., Any]) -> str:
    """Return the sha256 of a function's source text, as a notebook's cell has it.

    Raises:
        ConfigError: Python does not know its source, so nothing would tell two versions apart.
    """
    try:
        source = inspect.getsource(function)
    except (OSError, TypeError):
        source = ""
    # Of what `exec` made Python 3.13 returns lines of the program of `python -c`.
    if f"def {function.__name__}" not in source:
        raise ConfigError(
            f"{function.__name__}: its source cannot be read: write it into a file or a cell."
        )
    return hashlib.sha256(source.encode()).hexdigest()


def _folder(folder: str) -> Path:
    return Path(__file__).resolve().parent.parent.joinpath(*folder.split("."))


def _by_reference(reference: str, recipe_dir: Path) -> Any:
    module_name, _, name = reference.rpartition(":")
    path = file_of(reference, recipe_dir)
    if path is None:
        module = _installed(module_name, reference)
    else:
        if not path.is_file():
            raise ConfigError(f"{reference}: there is no file {path}")
        # The name is a function of the path, so that a worker process imports it alike.
        alias = f"winnow_file_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(alias, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[alias] = module
        try:
            spec.loader.exec_module(module)
        except (ImportError, SyntaxError) as error:
            raise ConfigError(f"{reference}: cannot import {path}: {error}") from error
    if not hasattr(module, name):
        public = [n for n in vars(module) if not n.startswith("_")]
        raise ConfigError(f"{reference}: {module_name} has no {name!r}.{nearest(name, public)}")
    return getattr(module, name)


def _installed(name: str, reference: str) -> Any:
    """Import a module of what is installed, or of what PYTHONPATH names.

    Notebooks import from the working directory too, the first of `sys.path`: of a loose file there
    a recipe would mean something else by where it is run.
    """
    try:
        spec = importlib.util.find_spec(name.partition(".")[0])
        file = Path((spec and spec.origin) or "")
        package = file.name == "__init__.py"
        if file.parent == Path.cwd() and not package and str(file.parent) not in sys.path[1:]:
            raise ConfigError(
                f"{reference}: {file} lies in the working directory, not beside the recipe: put it "
                "there, or install it."
            )
        return importlib.import_module(name)
    except (ImportError, SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{reference}: cannot import {name}: {error}"
            + ("" if "." in name else f", and no {name}.py lies beside the recipe")
        ) from error


def _named(module: Any, name: str) -> Any:
    letters = name.replace("_", "")
    for attribute, value in vars(module).items():
        here = getattr(value, "__module__", None) == module.__name__
        if here and attribute.replace("_", "").lower() == letters:
            return value
    raise ConfigError(f"{module.__name__} defines no {name!r}: name the method after its file.")
