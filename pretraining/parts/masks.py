"""Which tokens of each item are hidden: bool (B, N), as many in every row."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.objective import Moment

LEAST, MOST = 3, 5


def hidden_count(number: int, mask_ratio: float) -> int:
    """Return how many of `number` tokens are hidden: never none, never all.

    >>> hidden_count(64, 0.75), hidden_count(4, 0.95)
    (48, 3)
    """
    return min(max(round(number * mask_ratio), 1), number - 1)


def random_mask(batch: int, number: int, hidden: int, moment: Moment) -> Tensor:
    """Hide `hidden` of `number` tokens, every choice of them equally likely.

    Reference: He et al. 2021, arXiv:2111.06377, section 3 (those of the least noise are kept).
    """
    kept_BK = moment.rand(batch, number).argsort(1)[:, : number - hidden]
    mask_BN = torch.ones(batch, number, dtype=torch.bool, device=kept_BK.device)
    return mask_BN.scatter(1, kept_BK, False)


def clustered_mask(batch: int, grid: tuple[int, int], hidden: int, moment: Moment) -> Tensor:
    """Hide squares of a grid until `hidden` tokens are covered; of the last square only a part.

    Each item has one length of side, uniform in 3 to 5. Squares may reach over the edges, so that
    no token is spared: of 48 in a grid of 8 x 8 each is hidden 0.73 to 0.77 of the time. The
    authors' code lets a square begin inside the grid only, run on into the next row, and never
    hide the first token.

    Reference: Gong et al. 2022, arXiv:2110.09784, section 2.2.
    """
    height, width = grid
    side_B = LEAST + (moment.rand(batch) * (MOST - LEAST + 1)).long()
    # The time at which a square is laid down, by its lower right corner; a token is covered at
    # the first of those of the squares that hold it.
    laid_B1HW = moment.rand(batch, 1, height + MOST - 1, width + MOST - 1)
    covered_BN = laid_B1HW.new_empty(batch, height * width)
    for side in range(LEAST, MOST + 1):
        corners_B1HW = laid_B1HW[:, :, : height + side - 1, : width + side - 1]
        first_B1HW = -F.max_pool2d(-corners_B1HW, side, stride=1)
        covered_BN = torch.where(side_B[:, None] == side, first_B1HW.flatten(1), covered_BN)
    # Tokens of one square are covered at the same time: a shuffle decides among them.
    shuffled_BN = moment.rand(batch, height * width).argsort(1)
    order_BN = covered_BN.gather(1, shuffled_BN).argsort(dim=1, stable=True)
    chosen_BK = shuffled_BN.gather(1, order_BN[:, :hidden])
    return torch.zeros_like(covered_BN, dtype=torch.bool).scatter(1, chosen_BK, True)


def places(chosen_BN: Tensor, count: int) -> Tensor:
    """Return int64 (B, count), in rising order, where each row is true `count` times."""
    return (~chosen_BN).byte().argsort(dim=1, stable=True)[:, :count]


def rows_of(chosen_B: Tensor) -> Tensor | slice:
    """Return an index of the rows that are chosen; on CUDA of all.

    How many are chosen is known there on the device alone, and to wait for it costs more than to
    compute rows that are not used.
    """
    return chosen_B if chosen_B.device.type == "cpu" else slice(None)
