"""What a trained objective says of records: its loss, its label, whatever it predicts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from contracts import decode
from embeddings._inference import (
    batch_rows,
    batched,
    find_device,
    fingerprint_of,
    inference,
    numerics_of,
)
from embeddings.encoder import prefetched

Item = dict[str, NDArray[Any]]
# A label as a float would be another one from 2^24 on.
TYPES = {"number": torch.float32, "label": torch.int64, "vector": torch.float32}
DTYPES = {"number": pl.Float32, "label": pl.Int64}


class Prediction:
    """An objective's `predict`, run on records as its training read them, without views.

    Writes:
        what `predicts` names; null where what it reads is null or not decodable.
    Cost: of the objective's encoders.
    """

    def __init__(
        self, objective: Any, description: Mapping[str, Any], device: str | None = None
    ) -> None:
        """Take an objective with its trained weights.

        Args:
            objective: with `predict`, `predicts` and the codecs of its columns.
            description: how the training made it.
            device: found by itself where None.
        """
        self._device = find_device(device)
        self._objective = objective.eval()
        # What was thrown away after training has no weights here.
        kept = {n: objective.get_submodule(n) for n in (*objective.exports, *objective.heads)}
        for module in kept.values():
            module.to(self._device)
        self.reads = MappingProxyType({c.reads: c.reads for c in objective.codecs.values()})
        self.writes = MappingProxyType(self._writes())
        self.fingerprint = fingerprint_of(
            {"description": json.dumps(dict(description), sort_keys=True, default=str)}
            | {"predicts": sorted(objective.predicts)},
            {f"{n}/{key}": w for n, m in kept.items() for key, w in m.state_dict().items()},
        )
        self.numerics = numerics_of(self._device, torch.float32)

    @property
    def codecs(self) -> Mapping[str, Any]:
        """The codec of each column that the objective reads."""
        return MappingProxyType(self._objective.codecs)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the predicted columns for the columns that are read."""
        at = self._of_items(self._items(rows, ahead=2 * batch_rows(self._device)))
        every = pl.DataFrame({"row": pl.arange(rows.height, eager=True, dtype=pl.UInt32)})
        return every.join(at, on="row", how="left", maintain_order="left").drop("row")

    def of(self, items: Iterable[Item]) -> pl.DataFrame:
        """Return the predicted columns of what is encoded already, a row an item."""
        return self._of_items(enumerate(items)).drop("row")

    def _of_items(self, items: Iterable[tuple[int, Item]]) -> pl.DataFrame:
        """Return `row`, the number of each item, and the predicted columns."""
        size = batch_rows(self._device)
        numbers: list[int] = []
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in self.writes}
        with inference(self._device, torch.float32):
            for batch in batched(items, size):
                # The last batch is filled up with its first item, to have the shape of all.
                filled = [item for _, item in batch] + [batch[0][1]] * (size - len(batch))
                numbers += [row for row, _ in batch]
                for name, values in self._predicted(filled).items():
                    found[name].append(values[: len(batch)])
        return pl.DataFrame({"row": pl.Series(numbers, dtype=pl.UInt32)}).with_columns(
            pl.Series(name, np.concatenate(found[name]) if numbers else [], dtype=dtype)
            for name, dtype in self.writes.items()
        )

    def _writes(self) -> dict[str, Any]:
        """Return the type of each column; how long a vector is shows in what is said of nothing."""
        kinds = self._objective.predicts
        widths = {}
        if "vector" in kinds.values():
            codecs = self._objective.codecs.items()
            nothing = {name: np.zeros(codec.shape, codec.dtype) for name, codec in codecs}
            with inference(self._device, torch.float32):
                widths = {n: values.shape[-1] for n, values in self._predicted([nothing]).items()}
        return {n: DTYPES.get(k) or pl.Array(pl.Float32, widths[n]) for n, k in kinds.items()}

    def _predicted(self, items: Sequence[Item]) -> dict[str, NDArray[Any]]:
        """Return what the objective says of a batch, a row an item."""
        columns = {
            name: torch.from_numpy(np.stack([item[name] for item in items])).to(self._device)
            for name in self._objective.codecs
        }
        out = self._objective.predict(columns)
        kinds = self._objective.predicts
        return {n: out[n].to(TYPES[k]).cpu().numpy() for n, k in kinds.items()}

    def _items(self, rows: pl.DataFrame, *, ahead: int) -> Iterator[tuple[int, Item]]:
        codecs = self._objective.codecs
        names = list(self.reads)
        whole = rows.select(pl.all_horizontal(pl.col(names).is_not_null())).to_series()

        def one(row: int) -> tuple[int, Item] | None:
            try:
                return row, {n: codec.encode(rows[codec.reads][row]) for n, codec in codecs.items()}
            except decode.Undecodable:
                return None

        known: list[int] = whole.arg_true().to_list()
        return (item for item in prefetched(one, known, ahead=ahead) if item is not None)
