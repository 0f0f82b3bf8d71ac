from __future__ import annotations

from pathlib import Path

import pytest

from contracts import onnx_network
from contracts.errors import ConfigError


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"reads a.onnx of no-such-package: .*winnow\[quality\]"):
        onnx_network.package_file("some", "no_such_package", "a.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network")
    with pytest.raises(ConfigError, match=r"some: broken.onnx is no network of one input"):
        onnx_network.network("some", broken)
