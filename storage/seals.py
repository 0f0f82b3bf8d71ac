"""Files that carry the sha256 of their own other bytes in their last line, as a comment of HTML.

So have reports and states of unfinished trainings: no ref tells what is in them.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from contracts.errors import DataError
from storage import commit

_LAST_LINE = re.compile(rb"\n<!-- sha256 ([0-9a-f]{64}) -->\n\Z")
_LENGTH = len(b"\n<!-- sha256 -->\n") + 65


def sealed(data: bytes) -> bytes:
    """Return bytes with their seal."""
    return data + f"\n<!-- sha256 {hashlib.sha256(data).hexdigest()} -->\n".encode()


def opened(path: Path) -> bytes:
    """Return the bytes of a sealed file without the seal.

    Raises:
        DataError: they are not what was sealed.
    """
    with commit.reporting(path):
        data = path.read_bytes()
    seal = _LAST_LINE.search(data, max(0, len(data) - _LENGTH))
    body = data[:-_LENGTH]
    if seal is None or hashlib.sha256(body).hexdigest() != seal[1].decode():
        raise DataError(f"{path}: is damaged: its content does not match its own sha256.")
    return body


def seal(path: Path, *, temporary: Path) -> None:
    """Seal a file that was written before files were sealed."""
    data = path.read_bytes()
    if _LAST_LINE.search(data, max(0, len(data) - _LENGTH)) is None:
        commit.write(path, sealed(data), temporary=temporary)
