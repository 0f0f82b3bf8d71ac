"""How one record becomes one row of a batch: what an encoder reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts import decode
from contracts.errors import DataError
from contracts.uid import hex_uid


class Codec(Protocol):
    """A frozen dataclass: encoders with equal codecs share a column of the batch.

    Attributes:
        reads: what of a sample it takes: the kind of its payload, `text`, or `column.<name>`, a
            bound column.
        shape: of one item, the same for every batch.
        dtype: of one item.
    """

    @property
    def reads(self) -> str: ...  # noqa: D102
    @property
    def shape(self) -> tuple[int, ...]: ...  # noqa: D102
    @property
    def dtype(self) -> np.dtype[Any]: ...  # noqa: D102

    def encode(self, raw: Any) -> NDArray[Any]:
        """Return one item.

        Raises:
            Undecodable: the payload is damaged.
        """
        ...


@dataclass(frozen=True)
class ImageCodec:
    """The middle square of a picture, scaled: uint8 (3, side_px, side_px)."""

    side_px: int
    reads: ClassVar[str] = "image"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (3, side_px, side_px)."""
        return 3, self.side_px, self.side_px

    def encode(self, raw: bytes) -> NDArray[Any]:
        """Return the pixels of an encoded picture."""
        pixels_HWC = decode.square(decode.reduced(raw, self.side_px), self.side_px)
        return pixels_HWC.transpose(2, 0, 1)


@dataclass(frozen=True)
class LabelCodec:
    """The classes of the pixels of `ImageCodec`, none interpolated: uint8 (side_px, side_px).

    255 is no class.
    """

    side_px: int
    reads: ClassVar[str] = "label_image"
    dtype: ClassVar[np.dtype[Any]] = np.dtype(np.uint8)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (side_px, side_px)."""
        return self.side_px, self.side_px

    def encode(self, raw: bytes) -> NDArray[Any]:
        """Return the classes of an encoded label image."""
        return decode.square_labels(decode.labels(raw), self.side_px)


@dataclass(frozen=True)
class ValueCodec:
    """A bound column as it is: a number, a label, or a vector."""

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def reads(self) -> str:
        """Return `column.<name>`."""
        return f"column.{self.name}"

    def encode(self, raw: Any) -> NDArray[Any]:
        """Return the value as an array."""
        return np.asarray(raw, dtype=self.dtype)


def lacking(uid: int, codec: Codec) -> DataError:
    """Return the error of a record that has not what a codec reads."""
    return DataError(
        f"record {hex_uid(uid)} has no {codec.reads}: drop such records with a rule, "
        f"{codec.reads} IS NOT NULL."
    )


def column(codec: Codec, values: Sequence[Any]) -> Tensor:
    """Return values as a column of a batch: (B, *shape)."""
    items = np.empty((len(values), *codec.shape), dtype=codec.dtype)
    for item, value in zip(items, values, strict=True):
        item[...] = codec.encode(value)
    return torch.from_numpy(items)
