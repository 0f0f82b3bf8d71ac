"""Classify by the whole encoder, trained together with a linear head."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from contracts.errors import DataError
from contracts.params import Count, Positive, Seed
from contracts.report import Metric
from contracts.uid import uniform
from evaluation.features import put_aside
from evaluation.interval import bootstrap
from evaluation.protocol import TestItems, Trainable, TrainItems, protocol

_RATES = (1e-4, 3e-4, 1e-3, 3e-3)
_BLOCK = 256


@protocol({"accuracy": True, "lr": None})
def finetune(
    encoder: Trainable,
    train: TrainItems,
    test: TestItems,
    *,
    lr: Positive | None = None,
    steps: Count = 100,
    batch: Annotated[int, Field(ge=2)] = 64,
    seed: Seed = 0,
) -> dict[str, Metric]:
    """Score a test set by a classifier whose encoder goes on from the weights that it has.

    The vectors of the encoder, less their mean over the training half and divided by their root
    mean square, as they are before the first step, go through a linear head that begins at zero.
    Encoder and head are trained together by AdamW on the cross entropy; the rate rises over the
    first tenth of the steps and falls to nothing as a cosine. The draws of a batch are a function
    of the set of training items and the seed, so neither half's order has an effect.

    Without lr a fifth of each class is put aside, as `linear_probe` does; the rate of 1e-4, 3e-4,
    1e-3 and 3e-3 with the smallest cross entropy there is taken, and a fresh encoder is trained on
    the whole training half. The test half is read once, for the score.

    Args:
        lr: the largest rate; chosen on the training half where not given.
        steps: of the optimizer, in each of the trainings.
        batch: items of a step; the whole half where it has fewer.
        seed: of what is put aside and drawn, and of the encoder's own randomness.
    Reference: Radford et al. 2018, Improving language understanding by generative pre-training,
        section 3.2 (the whole encoder, a linear head); Loshchilov and Hutter 2019, AdamW,
        arXiv:1711.05101.
    Returns:
        accuracy: share of test items whose predicted label is theirs.
        lr: the one that was used, without an interval.
    Cost: five trainings, of a given lr one; each takes steps x batch items forwards and backwards,
        6,400 by default: 8 seconds in all on one core for `small_cnn` at 32 px and halves of 1,000.
    Raises:
        DataError: the training half has fewer than two classes, none of its classes has the five
            items that choosing lr needs, or the training diverged.
    """
    labels_C, class_N = np.unique(np.asarray(train.y_N), return_inverse=True)
    if len(labels_C) < 2:
        raise DataError(f"finetune: the training half has only the label {labels_C[0]}.")
    order = np.lexsort((_draws(train.x_N, seed), class_N))
    x_N, class_N = train.x_N[order], class_N[order]

    def logits(rows: NDArray[np.bool_], rate: float, asked_N: NDArray[Any]) -> NDArray[np.float64]:
        return _logits(
            encoder, x_N[rows], class_N[rows], asked_N,
            classes=len(labels_C), lr=rate, steps=steps, batch=batch, seed=seed,
        )  # fmt: skip

    if lr is None:
        aside = put_aside(class_N, "finetune: lr")
        losses = [
            _cross_entropy(logits(~aside, rate, x_N[aside]), class_N[aside]) for rate in _RATES
        ]
        lr = _RATES[int(np.argmin(losses))]
    found_NC = logits(np.ones(len(x_N), dtype=bool), lr, test.x_N)
    if not np.isfinite(found_NC).all():
        raise DataError(f"finetune: a training at lr = {lr:g} diverged. Set a smaller lr.")
    accuracy = bootstrap(labels_C[found_NC.argmax(axis=1)] == np.asarray(test.y_N))
    return {"accuracy": accuracy, "lr": Metric(lr, len(train), lr, lr)}


def _draws(x_N: NDArray[Any], seed: int) -> NDArray[np.float64]:
    """Return a number in [0, 1) for each item, a function of what it is and the seed."""
    digests = [hashlib.blake2b(x.tobytes(), digest_size=8).digest() for x in x_N]
    return uniform(np.frombuffer(b"".join(digests), dtype=np.uint64), seed, "finetune")


def _logits(
    encoder: Callable[[], Any],
    x_N: NDArray[Any],
    class_N: NDArray[np.intp],
    asked_N: NDArray[Any],
    *,
    classes: int,
    lr: float,
    steps: int,
    batch: int,
    seed: int,
) -> NDArray[np.float64]:
    """Return what a classifier, trained on x, says of the items that are asked for: (N, C)."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    rng, batch = np.random.default_rng(seed), min(batch, len(x_N))
    epochs = math.ceil(steps * batch / len(x_N))
    rows_SB = np.concatenate([rng.permutation(len(x_N)) for _ in range(epochs)])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = encoder()
        weights = list(model.parameters())
        device = weights[0].device

        def vectors_of(items_N: NDArray[Any]) -> Any:
            return model(torch.from_numpy(np.ascontiguousarray(items_N)).to(device))

        def in_blocks(of: Callable[[Any], Any], items_N: NDArray[Any]) -> Any:
            model.eval()
            with torch.no_grad():
                blocks = np.split(items_N, range(_BLOCK, len(items_N), _BLOCK))
                return torch.cat([of(vectors_of(block)) for block in blocks])

        before_ND = in_blocks(lambda z: z, x_N)
        mean = before_ND.mean(0)
        scale = (before_ND - mean).square().mean().sqrt().clamp(min=1e-6)
        head = nn.Linear(before_ND.shape[1], classes, device=device)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        for weight in weights:
            weight.requires_grad_(True)
        optimizer = torch.optim.AdamW([*weights, *head.parameters()], lr=lr, fused=True)
        model.train()
        for step, rows in enumerate(rows_SB[: steps * batch].reshape(steps, batch)):
            optimizer.param_groups[0]["lr"] = lr * _schedule(step, steps)
            logits_BC = head((vectors_of(x_N[rows]) - mean) / scale)
            optimizer.zero_grad()
            loss = F.cross_entropy(logits_BC, torch.from_numpy(class_N[rows]).to(device))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        found = in_blocks(lambda z: head((z - mean) / scale), asked_N)
        numbers: NDArray[np.float64] = found.double().cpu().numpy()
        return numbers


def _schedule(step: int, steps: int) -> float:
    """Return what the rate is multiplied by: a warm-up, then a cosine."""
    return min((step + 1) / max(1, steps // 10), (1 + math.cos(math.pi * step / steps)) / 2)


def _cross_entropy(logits_NC: NDArray[np.float64], class_N: NDArray[np.intp]) -> float:
    """Return the mean of -log p of the class; infinity where a training diverged."""
    from scipy.special import log_softmax

    loss = -log_softmax(logits_NC, axis=1)[np.arange(len(class_N)), class_N].mean()
    return float(loss) if np.isfinite(loss) else math.inf
