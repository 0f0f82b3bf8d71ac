"""A vocabulary of WordPiece: frequent words whole, the others in pieces."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import polars as pl
from pydantic import Field
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from contracts import tokens
from contracts.errors import DataError
from contracts.tokens import CONTINUED, MAX_CHARACTERS, SPECIALS, UNKNOWN
from curation.fit.byte_pair_encoding import plan
from curation.step import Role, fit


@fit(version=1, reads={"text": Role(pl.String)}, writes={"token": pl.String}, plan=plan)
def word_piece(
    rows: pl.DataFrame, *, num_tokens: Annotated[int, Field(ge=16)] = 8_192
) -> pl.DataFrame:
    """Begin with the characters and join, again and again, the most frequent pair of tokens.

    A text is folded to lower case without accents; its words end at white space and around
    punctuation and ideographs. A character has a token, and another where it continues a
    word; these are at most half of the tokens, and the rarest characters have none, so that a
    word with one of them is unknown. Of pairs that are as frequent the one with smaller
    ids comes first; one that is there only once is not joined.

    Reads:
        text: what is learned from; null takes no part.
    Args:
        num_tokens: the most there are, the four special ones and the unknown one among them.
    Reference: Devlin et al. 2018, arXiv:1810.04805, section 3, and Schuster and Nakajima 2012,
    ICASSP. Which pair is joined was never published; by frequency, as in pair encoding, is what
    the tokenizers library does.
    Writes:
        token: in the order of the ids, which count from 0: padding, start, separator, mask,
            unknown, the characters, then what was joined; ## is in front of what continues.
    Cost: one pass over the texts of the sample, a word at a time in Python; memory for them and
        for their different words.
    Raises:
        DataError: there is no word to learn from.
    """
    tokenizer = tokens.word_piece({})
    words: Counter[str] = Counter()
    for text in rows["text"].drop_nulls():
        split = tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
        words.update(word for word, _ in split if len(word) <= MAX_CHARACTERS)
    characters: Counter[str] = Counter()
    for word, count in words.items():
        for character in word:
            characters[character] += count
    by_count = sorted(characters, key=lambda character: (-characters[character], character))
    frequent = set(by_count[: (num_tokens - len(SPECIALS) - 1) // 4])
    known = {word: count for word, count in words.items() if frequent.issuperset(word)}
    if not known:
        raise DataError("there is no word in the texts: a vocabulary of them would know nothing.")
    letters = {character for word in known for character in word}
    later = {CONTINUED + character for word in known for character in word[1:]}
    trainer = trainers.WordPieceTrainer(
        vocab_size=num_tokens,
        min_frequency=2,
        # The trainer would add the characters in the order of a hash map.
        special_tokens=[*SPECIALS, UNKNOWN, *sorted(letters), *sorted(later)],
        show_progress=False,
    )
    of_words = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    of_words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    of_words.train_from_iterator((f"{word} " * known[word] for word in known), trainer)
    ids = of_words.get_vocab()
    return pl.DataFrame({"token": sorted(ids, key=ids.__getitem__)})
