from __future__ import annotations

import linecache
import sys
from pathlib import Path

import pytest

from contracts import methods
from contracts.errors import ConfigError

STEP = '''"""{does}"""
import polars as pl
from curation.step import Role, rowwise

@rowwise(version=1, reads={{"text": Role(pl.String)}}, writes={{"n": pl.UInt32}})
def length(rows):
    return rows.select(n=pl.col("text").str.len_chars())
'''


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(STEP.format(does="Lengths."))
    return path


def test_the_folder_is_the_registry():
    found = methods.names("curation.annotate")
    files = Path(methods.__file__).parents[1].joinpath("curation/annotate").glob("*.py")
    assert found == tuple(sorted(f.stem for f in files if not f.stem.startswith("_")))
    assert methods.load("curation.annotate", "caption_stats").name == "caption_stats"


def test_a_class_carries_the_letters_of_its_file():
    assert methods.load("embeddings", "color_layout").__name__ == "ColorLayout"


def test_every_method_of_every_folder_is_found_by_its_name_and_has_a_first_line():
    for folder in methods.CURATION:
        for name in methods.names(folder):
            assert methods.load(folder, name).name == name
            assert methods.first_line(folder, name).endswith(".")


def test_a_first_line_is_read_without_importing_the_method():
    sys.modules.pop("embeddings.open_clip", None)
    assert methods.first_line("embeddings", "open_clip")
    assert "embeddings.open_clip" not in sys.modules


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minhash_cluster", "there is no method 'minhash_cluster'. Nearest: minhash_clusters"),
        ("protocol.knn", "no methods are called protocol.*. Nearest: protocols."),
        ("protocols.knnn", "evaluation.protocols has no method 'knnn'. Nearest: knn."),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest(name: str, message: str):
    with pytest.raises(ConfigError) as refused:
        methods.find(name)
    assert message in str(refused.value)


def test_a_bare_name_is_searched_in_curation_alone_and_a_prefix_elsewhere():
    assert methods.find("kmeans").kind == "fit"
    assert methods.find("select.top") is methods.find("top")
    assert methods.find("protocols.knn").__module__ == "evaluation.protocols.knn"
    with pytest.raises(ConfigError):
        methods.find("knn")


def test_a_name_in_two_folders_is_refused_and_both_are_named(monkeypatch: pytest.MonkeyPatch):
    known = methods.names

    def twice(folder: str) -> tuple[str, ...]:
        return (*known(folder), "top") if folder == "curation.annotate" else known(folder)

    monkeypatch.setattr(methods, "names", twice)
    with pytest.raises(ConfigError, match=r"curation\.annotate and of curation\.select"):
        methods.find("top")


def test_a_file_beside_the_recipe_is_loaded_by_reference(mine: Path):
    step = methods.load("curation.annotate", "./mine.py:length", recipe_dir=mine.parent)
    assert step.name == "length"
    assert methods.load("curation.annotate", f"{mine}:length").name == "length"


def test_a_module_beside_the_recipe_is_loaded_by_its_name_and_hashed_as_its_file(mine: Path):
    step = methods.load("curation.annotate", "mine:length", recipe_dir=mine.parent)
    assert step.name == "length"
    found = methods.source_hash("mine:length", recipe_dir=mine.parent)
    assert found == methods.source_hash("./mine.py:length", recipe_dir=mine.parent)


def test_a_module_of_the_working_directory_alone_is_refused(
    mine: Path, monkeypatch: pytest.MonkeyPatch
):
    (mine.parent / "recipes").mkdir()
    recipe_dir = mine.parent / "recipes"
    mine.rename(mine.with_name("only_here.py"))
    monkeypatch.chdir(mine.parent)
    # As in a notebook, where the first entry is the working directory.
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    with pytest.raises(ConfigError, match=r"only_here\.py lies in the working directory"):
        methods.load("curation.annotate", "only_here:length", recipe_dir=recipe_dir)
    assert "only_here" not in sys.modules
    # What PYTHONPATH names was meant.
    monkeypatch.setattr(sys, "path", [*sys.path, str(mine.parent)])
    assert methods.load("curation.annotate", "only_here:length", recipe_dir=recipe_dir)
    monkeypatch.delitem(sys.modules, "only_here")


def test_a_module_is_loaded_by_reference():
    step = methods.find("curation.annotate.caption_stats:caption_stats")
    assert step is methods.find("caption_stats")


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("./mine.py:lengt", "has no 'lengt'. Nearest: length"),
        ("./none.py:length", "there is no file"),
        ("./broken.py:length", "cannot import"),
        ("./needs.py:length", "cannot import"),
        ("no.such.module:length", "cannot import no.such.module"),
        ("none:length", "No module named 'none', and no none.py lies beside the recipe"),
        ("mine.length", "no method 'mine.length'. length of a module mine is mine:length.$"),
        ("annotate.language", "no method 'annotate.language'. Nearest: language.$"),
    ],
)
def test_a_reference_to_nothing_says_what_is_missing(mine: Path, reference: str, message: str):
    (mine.parent / "broken.py").write_text("def length(:")
    (mine.parent / "needs.py").write_text("import no_such_module_at_all")
    with pytest.raises(ConfigError, match=message):
        methods.load("curation.annotate", reference, recipe_dir=mine.parent)


def test_the_source_hash_is_that_of_the_file_and_ours_have_none(mine: Path):
    first = methods.source_hash("./mine.py:length", recipe_dir=mine.parent)
    assert first == methods.source_hash(f"{mine}:length")
    mine.write_text(STEP.format(does="Other lengths."))
    assert methods.source_hash("./mine.py:length", recipe_dir=mine.parent) != first
    assert methods.source_hash("caption_stats") is None
    assert methods.source_hash("contracts.uid:uid_of") is not None


def test_the_code_hash_of_a_function_is_that_of_its_text():
    def one() -> int:
        return 1

    first = methods.code_hash(one)

    def one() -> int:
        return 2

    assert methods.code_hash(one) != first


@pytest.mark.parametrize("program", [None, "import sys\n"])
def test_a_function_without_a_source_is_refused(
    monkeypatch: pytest.MonkeyPatch, program: str | None
):
    # Where Python 3.13 keeps the program of `python -c`.
    lines = {} if program is None else {"<string>": (len(program), None, [program], "<string>")}
    monkeypatch.setattr(linecache, "cache", lines)
    space: dict[str, object] = {}
    exec("def ghost():\n    return 1", space)
    with pytest.raises(ConfigError, match="ghost: its source cannot be read"):
        methods.code_hash(space["ghost"])  # type: ignore[arg-type]
