"""Run a torch model over rows in batches of one shape, so that no bit depends on batch mates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from contracts.errors import ConfigError
from embeddings.encoder import prepared, unit_column


def find_device(name: str | None) -> torch.device:
    """Return the named device, or the accelerator that this machine has, or the CPU.

    Raises:
        ConfigError: when the named device does not exist here.
    """
    if name is None:
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(
            f"--device {name}: this machine or this torch has no such device ({reason}). "
            "Leave it out to have one found."
        ) from error
    return torch.device(name)


def numerics_of(device: torch.device, dtype: torch.dtype) -> str:
    """Return the class of machines that give the same bits, such as `cpu/float32`."""
    return f"{device.type}/{str(dtype).removeprefix('torch.')}"


def fingerprint_of(description: Mapping[str, Any], weights: Mapping[str, Tensor]) -> str:
    """Return the sha256 of the preprocessing's description and of every weight, by name."""
    digest = hashlib.sha256(json.dumps(description, sort_keys=True).encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"\0{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


@contextmanager
def inference(device: torch.device, dtype: torch.dtype) -> Iterator[None]:
    """Run without gradients, in `dtype`, by algorithms that depend on shapes alone.

    On a GPU, cuDNN would otherwise time several and take the fastest of the day.
    """
    with (
        torch.inference_mode(),
        torch.backends.cudnn.flags(benchmark=False, deterministic=True, allow_tf32=False),
        torch.autocast(device.type, dtype, enabled=dtype != torch.float32),
    ):
        yield


def batch_rows(device: torch.device) -> int:
    """Return the rows of every batch: bits depend on it, so it is no setting."""
    return 16 if device.type == "cpu" else 256


def encode_items(
    column: pl.Series,
    prepare: Callable[[Any], NDArray[Any]],
    forward: Callable[[Tensor], Tensor],
    *,
    dimension: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> pl.Series:
    """Return the vectors of whatever `prepare` makes an array of.

    Args:
        column: pictures as encoded bytes, texts.
        prepare: makes an array of one value, of the same shape for all; runs in threads, ahead of
            the model; may raise `decode.Undecodable`.
        forward: maps a batch of them, on the device, to (B, D).
        dimension: D.
        device: where `forward` computes.
        dtype: in which it computes, by autocast.
    """
    size = batch_rows(device)
    parts: list[tuple[list[int], Tensor]] = []

    def run(batch: list[tuple[int, NDArray[Any]]]) -> None:
        # The last batch is filled up with its first item, to have the shape of all.
        shown = [item for _, item in batch] + [batch[0][1]] * (size - len(batch))
        out_BD = forward(torch.from_numpy(np.stack(shown)).to(device)).float()
        parts.append(([row for row, _ in batch], out_BD[: len(batch)]))

    with inference(device, dtype):
        for batch in batched(prepared(column, prepare, ahead=2 * size), size):
            run(batch)
        # Fetched last: until here the device need not wait for anyone.
        fetched = ((rows, out.cpu().numpy()) for rows, out in parts)
        return unit_column(len(column), dimension, fetched)


def encode_images(
    images: pl.Series,
    prepare: Callable[[bytes], NDArray[np.uint8]],
    forward: Callable[[Tensor], Tensor],
    **run: Any,
) -> pl.Series:
    """Return the vectors of encoded images, as `encode_items` does.

    Args:
        images: encoded bytes.
        prepare: decodes and resizes one image to (H, W, 3).
        forward: maps a batch (B, 3, H, W) of bytes in 0..255 to (B, D).
        run: the keyword parameters of `encode_items`.
    """
    return encode_items(images, prepare, lambda x: forward(x.permute(0, 3, 1, 2)), **run)


def encode_texts(
    texts: pl.Series,
    tokens: Callable[[list[str]], list[list[int]]],
    forward: Callable[[Tensor, Tensor], Tensor],
    *,
    dimension: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    multiple: int = 16,
) -> pl.Series:
    """Return the vectors of texts, each padded to the next multiple of its own length.

    Args:
        texts: strings.
        tokens: the token numbers of each text, truncated as the model wants.
        forward: maps (B, L) token numbers and (B, L) booleans, true where there is a token, to
            (B, D).
        dimension: D.
        device: where `forward` computes.
        dtype: in which it computes, by autocast.
        multiple: L is the smallest multiple of it that holds the text.
    """
    size = batch_rows(device)
    rows: list[int] = texts.is_not_null().arg_true().to_list()
    ids = tokens(texts.drop_nulls().to_list())
    lengths = [-(-len(numbers) // multiple) * multiple for numbers in ids]
    parts: list[tuple[list[int], Tensor]] = []
    with inference(device, dtype):
        by_length = sorted(range(len(ids)), key=lengths.__getitem__)
        for length, group in groupby(by_length, key=lengths.__getitem__):
            for batch in batched(group, size):
                ids_BL = np.zeros((size, length), dtype=np.int64)
                mask_BL = np.zeros((size, length), dtype=bool)
                for place, text in enumerate(batch + [batch[0]] * (size - len(batch))):
                    ids_BL[place, : len(ids[text])] = ids[text]
                    mask_BL[place, : len(ids[text])] = True
                out_BD = forward(
                    torch.from_numpy(ids_BL).to(device), torch.from_numpy(mask_BL).to(device)
                ).float()
                parts.append(([rows[text] for text in batch], out_BD[: len(batch)]))
        fetched = ((chosen, out.cpu().numpy()) for chosen, out in parts)
        return unit_column(len(texts), dimension, fetched)


def batched(values: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Yield lists of so many values, the last of what is left."""
    batch = []
    for value in values:
        batch.append(value)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
