"""How likely a picture is not safe for work, by a scorer of pictures."""

from __future__ import annotations

import polars as pl

from contracts.params import Scorer
from curation._scored import scored
from curation.step import Role, rowwise


@rowwise(version=1, reads={"image": Role(pl.Binary)}, writes={"score": pl.Float32})
def nsfw(rows: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    """Score a picture; what a threshold means is the scorer's, and is to be measured on one's own.

    The slot takes `open_nsfw`, or a scorer of one's own. No model finds small figures reliably:
    a low score is no proof.

    Reads:
        image: what is scored.
    Reference: Schuhmann et al. 2022, LAION-5B, arXiv:2210.08402 (such scores as a column).
    Writes:
        score: the scorer's, of `open_nsfw` a probability; null where the picture is null or not
            decodable.
    Cost: of the scorer.
    """
    return pl.DataFrame({"score": scored(rows["image"], scorer)})
