"""How toxic a text is by a scorer of texts, whose errors are one's own to measure."""

from __future__ import annotations

import polars as pl

from contracts.params import Scorer
from curation._scored import scored
from curation.step import Role, rowwise


@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"score": pl.Float32})
def toxicity(rows: pl.DataFrame, scorer: Scorer) -> pl.DataFrame:
    """Score a text; what a threshold keeps and loses is the scorer's, and is to be measured.

    There is no scorer by itself, and no recipe drops by one without saying so: those in packages
    are wrong often (docs/bench/2026-11-30-toxicity.md), most of all about dialects and about texts
    that quote or report. The slot takes `profanity_check`, or a scorer of one's own; `text_score`
    of a `text_classifier` that was fitted to one's own examples is another such score.
    `winnow score toxicity.score` measures a threshold on one's own texts.

    Reads:
        text: what is scored.
    Reference: Longpre et al. 2023, A Pretrainer's Guide, arXiv:2305.13169, section 2, for toxicity
        as a score with thresholds from both sides.
    Writes:
        score: the scorer's, of `profanity_check` in [0, 1]; null for a null text.
    Cost: of the scorer.
    """
    return pl.DataFrame({"score": scored(rows["text"], scorer)})
