from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from PIL import Image

import winnow

HEAVY = {
    "torch", "faiss", "prefect", "dask", "distributed", "numba", "open_clip", "transformers",
    "timm", "torchvision", "sklearn", "cv2", "datasets",
}  # fmt: skip


def _python(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )


_LOADED = """
import json, sys
{}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules}})))
"""


@pytest.mark.parametrize(
    "what",
    [
        "import winnow",
        "import winnow, contracts, curation, embeddings, storage, pretraining, evaluation, flows",
        "import flows.cli.commands",
        "import winnow; winnow.rowwise; winnow.method",
        "import flows.cli.commands; from contracts import methods; "
        "[methods.first_line(f, n) for f in methods.CURATION for n in methods.names(f)]",
    ],
)
def test_importing_loads_nothing_heavy(what: str):
    found = _python("-c", _LOADED.format(what))
    assert found.returncode == 0, found.stderr
    assert not HEAVY & set(json.loads(found.stdout))


def _seconds(*arguments: str) -> float:
    """The best of three: the machine may be busy, the code is not."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        assert _python(*arguments).returncode == 0
        best = min(best, time.perf_counter() - start)
    return best


WINDOWS = """
import sys, polars, typer  # libraries import other things on a true Windows
sys.platform, sys.modules["fcntl"], sys.modules["resource"] = "win32", None, None
"""


@pytest.mark.parametrize("what", ["import flows.cli.app", "import winnow; winnow.open('store')"])
def test_on_windows_one_sentence_names_wsl_before_anything_else_fails(what: str):
    found = _python("-c", WINDOWS + what)
    assert found.returncode == 1
    assert found.stderr == (
        "winnow runs on Linux and macOS; on Windows install and run it in WSL: "
        "https://learn.microsoft.com/windows/wsl/install\n"
    )


def test_importing_and_help_take_less_than_a_second():
    assert _seconds("-c", "import winnow") < 1
    command = "import sys; sys.argv = ['winnow', '--help']; from flows.cli.app import main; main()"
    assert _seconds("-c", command) < 1


_COMMAND = """
import atexit, json, sys
atexit.register(lambda: print("MODULES" + json.dumps([m.partition(".")[0] for m in sys.modules])))
sys.argv = ["winnow", *sys.argv[1:]]
from flows.cli.app import main
main()
"""


def _modules_of(*arguments: str, cwd: Path | None = None) -> set[str]:
    """The modules that are loaded when a command ends."""
    found = _python("-c", _COMMAND, *arguments, cwd=cwd)
    assert found.returncode == 0, found.stderr
    return set(json.loads(found.stdout.rpartition("MODULES")[2]))


def test_help_loads_nothing_heavy():
    for arguments in (["--help"], ["run", "--help"], ["methods", "--json"]):
        assert not HEAVY & _modules_of(*arguments)


def test_a_store_is_looked_at_without_its_methods_and_encoders(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    for i in range(4):
        picture = Image.effect_noise((32, 32), 20 + 30 * i)
        picture.convert("RGB").save(tmp_path / "pictures" / f"{i}.png")
    recipe = tmp_path / "winnow.toml"
    recipe.write_text(
        '[[source]]\npath = "pictures"\n[embed.net]\nencoder = "efficientnet_lite"\n'
        "[fit.kmeans]\nnum_clusters = 2\n"
        '[[select]]\nname = "sharp"\nwhere = "perceptual_hash.quality >= 0"\n'
        '[[select]]\nname = "near"\nby = "one_per_neighbourhood"\nthreshold = 0.9999\n'
    )
    winnow.run(recipe, until="select")
    loaded = {
        arguments: _modules_of(*arguments, cwd=tmp_path)
        for arguments in (
            (), ("ls",), ("why", "0.png"), ("show",), ("show", "--dropped", "near"),
        )
    }  # fmt: skip
    for arguments, modules in loaded.items():
        assert not (HEAVY | {"scipy", "pandas", "embeddings", "curation"}) & modules, arguments
    assert not {"polars", "pyarrow", "numpy", "sqlglot"} & (loaded[()] | loaded[("ls",)])


def test_the_surface_is_what_is_promised():
    for name in winnow.__all__:
        assert callable(getattr(winnow, name))
    steps = {"rowwise", "groupwise", "poolwise", "fit", "selector"}
    promised = {"open", "ingest", "run", "method", "show"} | steps
    assert promised <= set(winnow.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = winnow.nothing


@pytest.mark.parametrize("name", ["contracts.py", "storage.py", "flows.py", "curation/__init__.py"])
def test_a_file_that_hides_one_of_our_packages_is_named(tmp_path: Path, name: str):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    # The program's folder comes before what is installed, as in a notebook.
    found = _python("-c", "import winnow", cwd=tmp_path)
    assert found.returncode == 1
    package = Path(name).parts[0].removesuffix(".py")
    assert f"{path} hides winnow's own package '{package}'" in found.stderr


def test_a_method_is_called_on_a_frame_from_python():
    step = winnow.method("caption_stats")
    assert (step.kind, step.version) == ("rowwise", 2)
    assert list(step.reads) == ["text"]
    frame = pl.DataFrame({"uid": pl.Series([1, 2], dtype=pl.UInt64), "text": ["a b c", None]})
    assert step(frame)["words"].to_list() == [3, None]
    assert step(frame.lazy()).equals(step(frame))


def test_from_a_source_to_shards_in_python_alone(tmp_path: Path):
    rows = [{"id": f"r{i}", "text": f"number {i}", "n": i} for i in range(10)]
    path, store = tmp_path / "rows.jsonl", tmp_path / ".winnow"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    read = winnow.ingest(path, pool="web", id="id", store=store)
    assert (read["pool"], read["accepted"]) == ("web", 10)
    recipe = tmp_path / "web.toml"
    recipe.write_text('[[select]]\nname = "n"\nwhere = "meta.n >= 4"\n[export]\n')
    found = winnow.run(recipe, set=["select.0.where=meta.n >= 6"], until="export")
    assert (found["kept"], found["dropped"]) == (4, {"n": 6})
    opened = winnow.open(store)
    assert opened.pool("web").records == 10
    assert opened.run("web", version=1).funnel()["dropped"].to_list() == [0, 6]
