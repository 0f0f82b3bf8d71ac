from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest

from contracts.errors import ConfigError
from embeddings.profanity_check import ProfanityCheck


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "profanity_check", None)
    with pytest.raises(ConfigError, match="pip install --no-deps alt-profanity-check"):
        ProfanityCheck()


@pytest.mark.skipif(
    find_spec("profanity_check") is None, reason="pip install --no-deps alt-profanity-check"
)
def test_an_insult_scores_above_a_greeting_whatever_stands_beside_it() -> None:
    scorer = ProfanityCheck()
    insult, greeting = scorer(["you are a fucking idiot", "good morning to you"])
    assert insult > 0.9 > 0.1 > greeting
    assert np.array_equal(scorer(["good morning to you"]), [greeting])
