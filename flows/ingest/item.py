"""One position of a unit: a record on its way into a pool, or why it is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from contracts.uid import digest_of
from flows.ingest.decoding import Seen
from storage.source import Record, Rejected


@dataclass
class Item:
    """One position of a unit: a record with what is known of it, or the reason that it is none.

    Attributes:
        unit: its number among the units read.
        position: its number among what the unit's reader gave.
        found: what the reader gave.
        row: its columns, as they are known.
        code: why it is not accepted; None for a record that is proven decodable.
    """

    unit: int
    position: int
    found: Record | Rejected
    row: dict[str, Any] = field(default_factory=dict)
    code: str | None = None
    detail: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.found, Rejected):
            self.code, self.detail = self.found.code, self.found.detail
            self.row["digest"] = self.found.digest

    @property
    def image(self) -> bytes | None:
        """The picture, which is hostile until it is checked."""
        return self.found.image if isinstance(self.found, Record) else None

    def describe(self, seen: Seen | None) -> None:
        """Write down what is known of it: its columns, or why it is not accepted."""
        record, row = self.found, self.row
        if isinstance(record, Rejected):
            return
        notes = list(record.notes)
        if seen is not None:
            row["digest"] = seen.digest
            self.code, self.detail = seen.code, seen.detail
            if seen.inspected is None:
                return
            row["width"], row["height"] = seen.inspected.width, seen.inspected.height
            notes += seen.inspected.notes
            row["text_digest"] = None if record.text is None else digest_of(record.text)
        elif record.text is not None:
            row["digest"] = row["text_digest"] = digest_of(record.text)
        else:
            self.code, self.detail = "NO_CONTENT", "neither an image nor a text"
            return
        location = record.location
        row |= {
            "text": record.text,
            "texts": record.texts,
            "series": record.series,
            "position": record.position,
            "licence": record.licence,
            "normalised": notes,
            "location": location
            and {"path": location.path, "offset": location.offset, "length": location.length},
        }
