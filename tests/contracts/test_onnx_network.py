from __future__ import annotations

from pathlib import Path

import pytest

from contracts import onnx_network
from contracts.errors import ConfigError


def test_a_file_that_is_no_network_is_named(tmp_path: Path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ConfigError, match=r"some: broken.onnx is no network of one input"):
        onnx_network.network("some", broken)
