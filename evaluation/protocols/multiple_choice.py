"""Answer questions by the choice that a language model finds likeliest after their text."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from contracts.errors import DataError
from contracts.report import Metric
from evaluation.interval import bootstrap
from evaluation.protocol import Answers, ChoiceBytes, ChoiceNats, protocol
from evaluation.protocols.bits_per_byte import bits_per_byte


@protocol({"accuracy": True, "accuracy_per_byte": True, "bits_per_byte": False})
def multiple_choice(
    nats_NK: ChoiceNats, bytes_NK: ChoiceBytes, answer_N: Answers
) -> dict[str, Metric]:
    """Measure how often the right choice is the likeliest, and what it costs.

    A choice costs -log p(choice | text), the sum over its tokens; a long one costs more, so the
    cost is also taken by its bytes. Of m choices that are the cheapest together each counts 1 / m.
    A question with one choice, such as the last word of a passage, is always right, but its cost
    says something.

    Reference: Brown et al. 2020, GPT-3, arXiv:2005.14165, section 2.4 (both likelihoods); bytes as
        the length as in Gao et al., EleutherAI's lm-evaluation-harness.
    Args:
        nats_NK: of each choice.
        bytes_NK: of each choice.
        answer_N: of each question.
    Returns:
        accuracy: share of questions whose right choice costs least.
        accuracy_per_byte: the same of the cost by bytes.
        bits_per_byte: of the right choices, as the protocol of that name.
    Cost: O(N x K).
    Raises:
        DataError: when shapes differ, an answer is none of a question's choices, or a choice has
            no byte.
    """
    nats, length = (np.asarray(of, dtype=np.float64) for of in (nats_NK, bytes_NK))
    answer = np.asarray(answer_N)
    rows = np.arange(len(answer))
    if nats.ndim != 2 or nats.shape != length.shape or len(nats) != len(answer):
        raise DataError(
            f"multiple_choice: {nats.shape} nats, {length.shape} bytes and {len(answer)} answers "
            "do not fit."
        )
    there = np.isfinite(nats)
    if not ((answer >= 0) & (answer < nats.shape[1])).all() or not there[rows, answer].all():
        raise DataError("multiple_choice: an answer is none of its question's choices.")
    if not (length[there] > 0).all():
        raise DataError("multiple_choice: a choice has no byte, or their number is not known.")
    return {
        "accuracy": bootstrap(_right(nats, answer)),
        "accuracy_per_byte": bootstrap(_right(nats / length, answer)),
        **bits_per_byte(nats[rows, answer], length[rows, answer]),
    }


def _right(cost_NK: NDArray[np.float64], answer_N: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return for each question 1 where the answer is cheapest, a share where it is with others."""
    least_NK = cost_NK == np.nanmin(cost_NK, axis=1, keepdims=True)
    share: NDArray[np.float64] = least_NK[np.arange(len(answer_N)), answer_N] / least_NK.sum(1)
    return share
