from __future__ import annotations

import pytest

from contracts import packages
from contracts.errors import ConfigError


class Measured:
    @staticmethod
    def packages(parameters: dict[str, str | None]) -> packages.Needed:
        return {} if parameters["weights"] else {"no_such_package": "pip install such"}


def test_what_is_missing_is_named_with_what_installs_it() -> None:
    needed = {"numpy": "never said", "no_such_package": "pip install such"}
    assert packages.missing(needed) == [
        "needs no-such-package, which is not installed: pip install such."
    ]
    with pytest.raises(ConfigError, match=r"^some: needs no-such-package.*: pip install such\.$"):
        packages.require("some", needed)
    packages.require("some", {"numpy": "never said"})


def test_parameters_may_decide_what_is_needed() -> None:
    assert list(packages.needed_by(Measured, {"weights": None})) == ["no_such_package"]
    assert packages.needed_by(Measured, {"weights": "a.bin"}) == {}
    assert packages.needed_by(object(), {}) == {}


def test_a_file_of_a_package_is_found_or_missed() -> None:
    assert packages.file_of("some", "numpy", "version.py").is_file()
    with pytest.raises(ConfigError, match=r"some: no-such-package has no file a\.onnx"):
        packages.file_of("some", "no_such_package", "a.onnx")
