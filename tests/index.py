"""What is made of code and recipes in README.md and in pages of docs.

python tests/index.py        rewrites it
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from contracts import methods  # noqa: E402

FOLDERS = {
    "curation.annotate": "Measure",
    "curation.fit": "Fit a model",
    "curation.select": "Select",
    "embeddings": "Embed",
    "pretraining.objectives": "Pretrain",
    "evaluation.protocols": "Evaluate",
    "storage.sources": "Read",
}
# In the order in which architecture.md reads them; folders of methods stand after what uses them.
PACKAGES = (
    "flows", "flows/cli", "flows/recipe", "flows/ingest", "flows/measure", "flows/select",
    "flows/export", "flows/answer", "flows/look", "flows/upkeep", "contracts", "curation",
    "curation/annotate", "curation/fit", "curation/select", "embeddings", "storage",
    "storage/sources", "pretraining", "pretraining/objectives", "pretraining/encoders",
    "pretraining/parts", "evaluation", "evaluation/protocols",
)  # fmt: skip
NO_METHOD = {("embeddings", "encoder")}


def names(folder: str) -> list[str]:
    return [name for name in methods.names(folder) if (folder, name) not in NO_METHOD]


def kind(folder: str, name: str) -> str:
    """Return the decorator of a method of curation, read without importing it."""
    tree = ast.parse((ROOT / folder.replace(".", "/") / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name == name and node.decorator_list:
            decorator = node.decorator_list[0]
            assert isinstance(decorator, ast.Call)
            assert isinstance(decorator.func, ast.Name)
            return decorator.func.id
    return ""


def table() -> str:
    lines = ["| | method | kind | what it does |", "|---|---|---|---|"]
    for folder, title in FOLDERS.items():
        for i, name in enumerate(names(folder)):
            head = title if i == 0 else ""
            does = methods.first_line(folder, name)
            lines.append(f"| {head} | `{name}` | {kind(folder, name)} | {does} |")
    return "\n".join(lines)


def modules() -> str:
    """Return a table of the modules of each package: its name, and its first line."""
    lines = []
    for package in PACKAGES:
        dotted = package.replace("/", ".")
        lines += ["", f"### `{package}`", "", methods.first_line(dotted, "__init__"), ""]
        lines += ["| file | what it does |", "|---|---|"]
        for path in sorted((ROOT / package).glob("*.py")):
            if path.stem != "__init__":
                lines.append(f"| `{path.name}` | {methods.first_line(dotted, path.stem)} |")
    return "\n".join(lines[1:])


def recipes() -> str:
    """Return what the comments of each recipe say: its title and source, and where it departs."""
    lines = []
    for path in sorted((ROOT / "recipes").glob("*.toml")):
        comments = re.findall(r"(?:^#.*\n)+", path.read_text(encoding="utf-8"), re.MULTILINE)
        texts = [" ".join(line[1:].strip() for line in each.splitlines()) for each in comments]
        departures = [text for text in texts[1:] if "Departures: " in text]
        lines += [f"\n### `{path.stem}`", *(f"\n{text}" for text in texts[:1] + departures)]
    return "\n".join(lines)[1:]


def rewritten(page: str, mark: str, content: str) -> str:
    """Return a page with new content between the comments `<!-- mark -->`, `<!-- /mark -->`."""
    before, _, rest = page.partition(f"<!-- {mark} -->")
    _, _, after = rest.partition(f"<!-- /{mark} -->")
    return f"{before}<!-- {mark} -->\n{content}\n<!-- /{mark} -->{after}"


def pages() -> dict[Path, tuple[str, Callable[[], str]]]:
    """Return for each page that has a made part its mark, and what makes it."""
    from tests import recipe_page

    return {
        ROOT / "README.md": ("methods", table),
        ROOT / "docs" / "recipe.md": ("keys", recipe_page.page),
        ROOT / "docs" / "recipes.md": ("recipes", recipes),
        ROOT / "docs" / "architecture.md": ("modules", modules),
    }


def renewed(path: Path) -> str:
    """Return a page as it should be."""
    mark, make = pages()[path]
    return rewritten(path.read_text(encoding="utf-8"), mark, make())


if __name__ == "__main__":
    for page in pages():
        page.write_text(renewed(page), encoding="utf-8")
