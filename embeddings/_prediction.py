"""What a trained objective says of records: its loss, its label, whatever it predicts."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
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
        self.writes = MappingProxyType({n: DTYPES.get(k) for n, k in objective.predicts.items()})
        self.fingerprint = fingerprint_of(
            {"description": json.dumps(dict(description), sort_keys=True, default=str)}
            | {"predicts": sorted(objective.predicts)},
            {f"{n}/{key}": w for n, m in kept.items() for key, w in m.state_dict().items()},
        )
        self.numerics = numerics_of(self._device, torch.float32)

    def __call__(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return the predicted columns for the columns that are read."""
        size = batch_rows(self._device)
        numbers: list[int] = []
        found: dict[str, list[NDArray[Any]]] = {name: [] for name in self.writes}
        with inference(self._device, torch.float32):
            for batch in batched(self._items(rows, ahead=2 * size), size):
                # The last batch is filled up with its first item, to have the shape of all.
                shown = [item for _, item in batch] + [batch[0][1]] * (size - len(batch))
                columns = {
                    name: torch.from_numpy(np.stack([item[name] for item in shown]))
                    for name in self._objective.codecs
                }
                here = {name: values.to(self._device) for name, values in columns.items()}
                out = self._objective.predict(here)
                numbers += [row for row, _ in batch]
                for name, values in found.items():
                    values.append(out[name][: len(batch)].float().cpu().numpy())
        return pl.DataFrame([self._column(n, rows.height, numbers, v) for n, v in found.items()])

    def _items(
        self, rows: pl.DataFrame, *, ahead: int
    ) -> Iterator[tuple[int, dict[str, NDArray[Any]]]]:
        codecs = self._objective.codecs
        names = list(self.reads)
        whole = rows.select(pl.all_horizontal(pl.col(names).is_not_null())).to_series()

        def one(row: int) -> tuple[int, dict[str, NDArray[Any]]] | None:
            try:
                return row, {n: codec.encode(rows[codec.reads][row]) for n, codec in codecs.items()}
            except decode.Undecodable:
                return None

        known: list[int] = whole.arg_true().to_list()
        return (item for item in prefetched(one, known, ahead=ahead) if item is not None)

    def _column(
        self, name: str, height: int, numbers: list[int], parts: list[NDArray[Any]]
    ) -> pl.Series:
        dtype: Any = self.writes[name]
        if dtype is None:
            values = np.concatenate(parts) if parts else np.empty((0, 1), dtype=np.float32)
            column = pl.Series(name, values, dtype=pl.Array(pl.Float32, values.shape[1]))
        else:
            column = pl.Series(name, np.concatenate(parts) if parts else []).cast(dtype)
        at = pl.DataFrame({"row": pl.Series(numbers, dtype=pl.UInt32), name: column})
        every = pl.DataFrame({"row": pl.arange(height, eager=True, dtype=pl.UInt32)})
        return every.join(at, on="row", how="left", maintain_order="left")[name]
