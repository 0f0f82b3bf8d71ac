"""Fixtures of all tests: real data where it is, one torch thread, no network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("DO_NOT_TRACK", "1")
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

# The same examples each time; `make soak` looks for new ones. How long one takes is no property.
settings.register_profile("steady", derandomize=True, deadline=None)
settings.register_profile("soak", deadline=None)
settings.load_profile("soak" if os.environ.get("WINNOW_SOAK") else "steady")

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("WINNOW_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real test data; tests that ask for it are marked `data`."""
    return DATA


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--golden", action="store_true", help="rewrite the golden tables")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if DATA.is_dir():
        return
    absent = pytest.mark.skip(reason=f"no test data: {DATA} is absent (set WINNOW_TEST_DATA)")
    for item in items:
        if item.get_closest_marker("data"):
            item.add_marker(absent)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests have counted, such as the fault points that were survived."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, said in report.user_properties:
                if name == "says" and report.when == "call":
                    terminalreporter.write_line(str(said))


@pytest.fixture(autouse=True)
def _one_torch_thread() -> None:
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)
