"""The tokens of texts: what a fit learns, and by what an encoder of texts reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

from contracts.errors import ConfigError

SPECIALS = ("[PAD]", "[CLS]", "[SEP]", "[MASK]")
"""The first tokens of every vocabulary; no text is split into one of them."""
PADDING, START, SEPARATOR, MASK = range(len(SPECIALS))
UNKNOWN = "[UNK]"
CONTINUED = "##"
MAX_CHARACTERS = 100
"""Longer words are unknown to WordPiece."""


@dataclass(frozen=True)
class Vocabulary:
    """Tokens in the order of their ids: the specials first; equal ones split texts alike.

    Byte-level pair encoding loses nothing: `decode` gives the text back. Its tokens are written
    with a visible character for each byte, as GPT-2's are. WordPiece folds case and accents,
    separates punctuation and ideographs, and knows no word with a character it lacks.

    Attributes:
        tokens: those that continue a word begin with ## in WordPiece.
        merges: "left right", in the order of training, of byte-level pair encoding; None of
            WordPiece.
    Reference: Sennrich et al. 2016, arXiv:1508.07909; its bytes: Radford et al. 2019, Language
        models are unsupervised multitask learners; WordPiece as in Devlin et al. 2018,
        arXiv:1810.04805.
    Raises:
        ConfigError: the specials are not in front, a token is empty or there twice, the unknown
            one, one of the 256 bytes or a part of a merge is not there.
    """

    tokens: tuple[str, ...]
    merges: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        known = set(self.tokens)
        needed = {UNKNOWN} if self.merges is None else set(BYTES)
        if self.tokens[: len(SPECIALS)] != SPECIALS or len(known) < len(self.tokens):
            raise ConfigError(f"a vocabulary has {SPECIALS} in front, and no token twice.")
        if not all(self.tokens):
            raise ConfigError("the vocabulary has a token without a character.")
        if not needed <= known:
            raise ConfigError(f"the vocabulary lacks {sorted(needed - known)[:3]}.")
        for left, right in self._pairs:
            if not {left, right, left + right} <= known:
                raise ConfigError(f"the vocabulary lacks what {left!r} and {right!r} are, or give.")

    @classmethod
    def of_bytes(cls) -> Vocabulary:
        """Return the vocabulary of single bytes, which needs no training."""
        return cls((*SPECIALS, *BYTES), ())

    @classmethod
    def of(cls, columns: Mapping[str, Sequence[Any]]) -> Vocabulary:
        """Return what the table of a fit holds, given by its columns `token` and `merge`."""
        if "token" not in columns:
            raise ConfigError(
                f"a vocabulary has the column `token`, as that of byte_pair_encoding: there are "
                f"only {sorted(columns)}."
            )
        merges = columns.get("merge")
        return cls(
            tuple(columns["token"]),
            None if merges is None else tuple(merge for merge in merges if merge is not None),
        )

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special ones."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of ids; what is no UTF-8 is replaced."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=False))

    @cached_property
    def starts(self) -> NDArray[np.bool_]:
        """Which tokens begin a word; so does, whatever it is, one after a special token.

        In byte-level pair encoding a word begins at white space and at ASCII punctuation, so a
        run of a script without spaces is one.
        """
        if self.merges is None:
            return np.array([not token.startswith(CONTINUED) for token in self.tokens])
        ascii_bytes = "".join(map(chr, range(128)))
        written = dict(zip(_visible(ascii_bytes), ascii_bytes, strict=True))
        return np.array([not written.get(token[0], "a").isalnum() for token in self.tokens])

    @cached_property
    def bytes_of(self) -> NDArray[np.float32]:
        """How many bytes of a text each token stands for; NaN in WordPiece, which loses some."""
        if self.merges is None:
            return np.full(len(self.tokens), np.nan, dtype=np.float32)
        # Each byte is written as one character.
        lengths = np.array([len(token) for token in self.tokens], dtype=np.float32)
        lengths[: len(SPECIALS)] = 0
        return lengths

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        ids = {token: place for place, token in enumerate(self.tokens)}
        if self.merges is None:
            return word_piece(ids)
        return byte_level(ids, self._pairs)

    @property
    def _pairs(self) -> list[tuple[str, str]]:
        split = [merge.partition(" ") for merge in self.merges or ()]
        return [(left, right) for left, _, right in split]


BYTES: tuple[str, ...] = tuple(sorted(pre_tokenizers.ByteLevel.alphabet()))
"""How the 256 bytes are written, each as a visible character."""


def byte_level(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Tokenizer:
    """Return a tokeniser of byte-level pair encoding; an empty one is to be trained."""
    made = Tokenizer(models.BPE(dict(ids), list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return made


def word_piece(ids: Mapping[str, int]) -> Tokenizer:
    """Return a WordPiece tokeniser; an empty one is to be trained."""
    made = Tokenizer(
        models.WordPiece(
            dict(ids),
            unk_token=UNKNOWN,
            continuing_subword_prefix=CONTINUED,
            max_input_chars_per_word=MAX_CHARACTERS,
        )
    )
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(prefix=CONTINUED)
    return made


def _visible(text: str) -> str:
    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return str(splitter.pre_tokenize_str(text)[0][0])
