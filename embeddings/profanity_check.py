"""Offensive English words by alt-profanity-check, for the slot of `toxicity`; a weak scorer."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.packages import file_of, require

FILES = ("data/model.joblib", "data/vectorizer.joblib")


class ProfanityCheck:
    """A linear model of English words that were called offensive in tweets and in comments.

    It knows words, not what is said with them: threats in plain words pass, and slurs that are
    quoted do not. How often it is wrong stands in docs/bench/2026-11-30-toxicity.md.

    Reads:
        text: what is scored.
    Reference: Zhou 2019, Building a better profanity detection library with scikit-learn; the
        package alt-profanity-check, which reads pickles of its own. Another release of
        scikit-learn than the one that it was made by may refuse them.
    Writes:
        Nothing by itself: `toxicity` writes its score.
    Cost: some 0.15 ms a text of a sentence.
    Raises:
        ConfigError: the package is not installed.
    """

    version = 1
    reads = MappingProxyType({"text": "text"})
    writes: MappingProxyType[str, int] = MappingProxyType({})
    packages = MappingProxyType({"profanity_check": "pip install --no-deps alt-profanity-check"})

    def __init__(self, device: str | None = None) -> None:
        del device  # It runs on the CPU wherever the others run.
        require("profanity_check", self.packages)
        from profanity_check import predict_prob

        self._predict: Any = predict_prob
        files = [file_of("profanity_check", "profanity_check", name) for name in FILES]
        digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
        name = " ".join(["profanity_check", str(self.version), *digests])
        self.fingerprint = hashlib.sha256(name.encode()).hexdigest()
        self.numerics = "cpu/float64"

    def __call__(self, values: Sequence[Any]) -> NDArray[np.float32]:
        """Return (n,): the probability that a text is offensive, in [0, 1]."""
        return np.asarray(self._predict(list(values)), dtype=np.float32)
