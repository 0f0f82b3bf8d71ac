"""The README's table of methods, made of the methods' own first lines.

python tests/index.py        rewrites it
"""

from __future__ import annotations

import ast
import sys
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
BEGIN, END = "<!-- methods -->", "<!-- /methods -->"
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


def rewritten(readme: str) -> str:
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    path = ROOT / "README.md"
    path.write_text(rewritten(path.read_text(encoding="utf-8")), encoding="utf-8")
