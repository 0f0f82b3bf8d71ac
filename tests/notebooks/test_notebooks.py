from __future__ import annotations

import ast
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# What a cell must show, by the cell's id. Of 40 motifs, five (7, 15, ... 39) have a caption of one
# word, and 15 is also there recompressed; 10 are copied, 8 recompressed (0, 5, ... 35).
SHOWN = {
    "01_look_at_a_pool": {
        "ingest": "'accepted': 58,\n 'known': 0,\n 'quarantined': {'TRUNCATED': 1}",
        "quarantine": "broken.png",
        "run": "(35, {'captioned': 6, 'one of each picture': 10, 'one of each look': 7})",
        "dropped": "35-small.jpg",
        "why": "'clause': 'caption_stats.words >= 2',\n  'value': {'caption_stats.words': 4},"
        "\n  'passed': True}",
        "recut": "caption_stats.words &gt;= 1",
        "diff": "shape: (6, 3)",
        "saved": "40",
        "gallery-dropped": "coloured discs, motif 35",
        "gallery-kept": 'src="data:image/jpeg;base64,',
    }
}


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def text(cell: nbformat.NotebookNode) -> str:
    shown = [o.data for o in cell.outputs if o.output_type in ("execute_result", "display_data")]
    return "".join(data.get("text/html", data.get("text/plain", "")) for data in shown)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_is_kept_without_its_outputs(path: Path):
    for cell in code(read(path)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_imports_nothing_of_ours_but_winnow(path: Path):
    tree = ast.parse("\n".join(cell.source for cell in code(read(path))))
    named = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    named |= {n.module or "" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    ours = {p.parent.name for p in ROOT.glob("*/__init__.py")} - {"winnow"}
    assert "winnow" in named
    assert not {name.partition(".")[0] for name in named} & ours


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_in_an_empty_folder_and_shows_what_it_says(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix) / "share" / "jupyter"))
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    work = tmp_path / "work"
    work.mkdir()
    resources = {"metadata": {"path": str(work)}}
    done = NotebookClient(read(path), timeout=300, resources=resources).execute()
    shown = {cell.id: text(cell) for cell in code(done)}
    for cell, part in SHOWN[path.stem].items():
        assert part in shown[cell], f"{cell}: {shown[cell]}"
