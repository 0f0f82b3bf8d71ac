"""The pins of constraints.txt: what every Python and platform installs, by wheels alone.

python tests/pins.py        rewrites it; a pin whose line was deleted before moves to the newest
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# The extra `gpu` has no wheels but for Linux. No torch has wheels for older machines of Apple.
PLATFORMS: Mapping[str, tuple[str, ...]] = {
    "x86_64-manylinux_2_28": ("audio", "cpu", "demo", "dev", "gpu", "quality", "s3", "volumes"),
    "aarch64-apple-darwin": ("audio", "cpu", "demo", "dev", "quality", "s3", "volumes"),
}


def pins() -> dict[str, str]:
    """Return each pinned package with its version."""
    lines = CONSTRAINTS.read_text(encoding="utf-8").split()
    return dict(line.split("==") for line in lines)


def resolved(python: str, platform: str) -> dict[str, str]:
    """Return what is installed under the constraints: each package with its version.

    Raises:
        subprocess.CalledProcessError: nothing fits; `stderr` says what does not.
    """
    extras = [word for name in PLATFORMS[platform] for word in ("--extra", name)]
    asked = ["--python-version", python, "--python-platform", platform, "-c", str(CONSTRAINTS)]
    lines = compiled("pyproject.toml", *asked, *extras).splitlines()
    return dict(line.split(" ;")[0].split("==") for line in lines)


def compiled(*arguments: str) -> str:
    """Return what uv makes of requirements, only wheels being looked at."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--python", sys.executable]
    command += ["--quiet", "--no-header", "--no-annotate", "--only-binary", ":all:", *arguments]
    environment = {**os.environ, "MACOSX_DEPLOYMENT_TARGET": "14.0"}
    found = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return found.stdout


if __name__ == "__main__":
    union: dict[str, str] = {}
    for platform in PLATFORMS:
        for python in PYTHONS:
            for name, version in resolved(python, platform).items():
                if union.setdefault(name, version) != version:
                    sys.exit(f"{name}: {union[name]}, but {version} for {python} on {platform}")
    CONSTRAINTS.write_text("".join(f"{name}=={union[name]}\n" for name in sorted(union)))
