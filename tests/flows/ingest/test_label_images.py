"""Label images that change after they were read."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image
from typer.testing import CliRunner

import winnow
from flows.cli.commands import app

PLACE = "masks/{stem}.png"


def _png(mode: str, value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_label_image_that_changed_is_taken_by_update_as_any_change_is(project: Any):
    project.pictures({"1.png": _png("RGB", 9), "masks/1.png": _png("L", 2)})
    folder, store = project.recipe_dir / "pictures", project.store.root
    given = ["ingest", str(folder), "--label-image", PLACE, "--store", str(store)]
    read = CliRunner().invoke(app, given)
    assert read.exit_code == 0, read.output
    project.pictures({"masks/1.png": _png("L", 3)})
    again = winnow.ingest(folder, label_image=PLACE, update=True, store=store)
    assert again["version"] == 2
    records = winnow.open(store).pool("pictures").reader.frame(["label_image"])
    assert records["label_image"].to_list() == [_png("L", 3)]
