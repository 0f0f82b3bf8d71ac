"""Golden values are those of fasttext-predict 0.9.2.4 on 2026-11-30, on the same files."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts.errors import ConfigError
from curation import _fasttext

WORDS = ["</s>", "hello", "world", "a", "b", "你好"]
LABELS = [("__label__one", 9), ("__label__two", 5), ("__label__three", 4), ("__label__four", 1)]
DIM, BUCKETS = 5, 50


def made(kind: str) -> bytes:
    """Return a small classifier in fastText's format, its numbers the sines of 0, 1, 2, ..."""
    buckets, longest = (0, 0) if kind == "no_ngrams" else (BUCKETS, 4)
    quantised = kind in ("quantised", "pruned")
    word_ngrams = 3 if kind in ("words", "pruned") else 1
    loss = 1 if kind in ("tree", "pruned") else 3
    kept = [(bucket, i) for i, bucket in enumerate(range(0, BUCKETS, 3))]
    height = len(WORDS) + (len(kept) if kind == "pruned" else buckets)
    head = struct.pack("<2i", 793712314, 12)
    head += struct.pack(
        "<12id", DIM, 5, 5, 1, 5, word_ngrams, loss, 3, buckets, 2, longest, 100, 1e-4
    )
    size = len(WORDS) + len(LABELS)
    count = len(kept) if kind == "pruned" else -1
    head += struct.pack("<3i2q", size, len(WORDS), len(LABELS), 99, count)
    for word in WORDS:
        head += word.encode() + b"\0" + struct.pack("<qb", 7, 0)
    for label, seen in LABELS:
        head += label.encode() + b"\0" + struct.pack("<qb", seen, 1)
    if kind == "pruned":
        head += b"".join(struct.pack("<2i", *pair) for pair in kept)
    rows = _product(height, norms=kind == "pruned") if quantised else _matrix(height)
    out = _product(len(LABELS), norms=False) if kind == "quantised" else _matrix(len(LABELS))
    return head + struct.pack("<?", quantised) + rows + struct.pack("<?", kind == "quantised") + out


def _sines(count: int) -> bytes:
    return (3 * np.sin(np.arange(count))).astype("<f4").tobytes()


def _matrix(height: int) -> bytes:
    return struct.pack("<2q", height, DIM) + _sines(height * DIM)


def _product(height: int, *, norms: bool) -> bytes:
    """Two columns share a centroid, the last has its own."""
    codes = bytes(i * 7 % 256 for i in range(height * 3))
    found = struct.pack("<?2qi", norms, height, DIM, len(codes)) + codes
    found += struct.pack("<4i", DIM, 3, 2, 1) + _sines(256 * DIM)
    if norms:
        found += bytes(i * 5 % 256 for i in range(height))
        found += struct.pack("<4i", 1, 1, 1, 1) + _sines(256)
    return found


GOLDEN = {
    "no_ngrams": [
        ("hello world", "two", 0.997842),
        ("a b c", "one", 0.822840),
        ("hello hello", "two", 0.999809),
        ("你好 world", "one", 0.617981),
        ("unseen", "one", 1.000010),
        ("the </s> end", "one", 1.000010),
        ("élan vital", "one", 1.000010),
        ("__label__zz word", "one", 1.000010),
        ("", "one", 1.000010),
    ],
    "softmax": [
        ("hello world", "two", 0.733792),
        ("a b c", "three", 0.525624),
        ("hello hello", "two", 0.817268),
        ("你好 world", "two", 0.484640),
        ("unseen", "four", 0.885278),
        ("the </s> end", "three", 0.769394),
        ("élan vital", "one", 0.979843),
        ("__label__zz word", "one", 0.998106),
        ("", "one", 1.000010),
    ],
    "words": [
        ("hello world", "two", 0.560884),
        ("a b c", "three", 0.892382),
        ("hello hello", "two", 0.874585),
        ("你好 world", "two", 0.506378),
        ("unseen", "four", 0.921957),
        ("the </s> end", "three", 0.941214),
        ("élan vital", "one", 0.984435),
        ("__label__zz word", "one", 0.985720),
        ("", "one", 1.000010),
    ],
    "tree": [
        ("hello world", "two", 0.547728),
        ("a b c", "two", 0.509542),
        ("hello hello", "two", 0.747574),
        ("你好 world", "one", 0.482682),
        ("unseen", "one", 0.666307),
        ("the </s> end", "two", 0.999851),
        ("élan vital", "one", 0.985897),
        ("__label__zz word", "one", 0.998532),
        ("", "one", 1.000010),
    ],
    "quantised": [
        ("hello world", "four", 0.586828),
        ("a b c", "four", 0.572263),
        ("hello hello", "four", 0.326195),
        ("你好 world", "four", 0.489375),
        ("unseen", "two", 0.472344),
        ("the </s> end", "one", 0.567380),
        ("élan vital", "one", 0.543286),
        ("__label__zz word", "four", 0.643394),
        ("", "one", 0.573772),
    ],
    "pruned": [
        ("hello world", "one", 0.725317),
        ("a b c", "two", 0.844608),
        ("hello hello", "one", 0.971213),
        ("你好 world", "two", 0.992542),
        ("unseen", "two", 0.859522),
        ("the </s> end", "four", 0.781869),
        ("élan vital", "two", 0.578924),
        ("__label__zz word", "four", 0.503781),
        ("", "one", 0.500010),
    ],
}


@pytest.fixture(params=list(GOLDEN))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def classifier(folder: Path, data: bytes) -> _fasttext.Classifier:
    path = folder / "made.bin"
    path.write_bytes(data)
    return _fasttext.read(path)


def test_labels_and_probabilities_are_those_of_fasttext(tmp_path: Path, kind: str):
    texts, labels, sure = zip(*GOLDEN[kind], strict=True)
    found, probabilities = (made_one := classifier(tmp_path, made(kind)))(pl.Series(texts))
    assert made_one.labels == ["one", "two", "three", "four"]
    assert [made_one.labels[number] for number in found] == list(labels)
    np.testing.assert_allclose(probabilities, sure, rtol=0, atol=1e-5)


def test_a_text_is_told_alike_whatever_stands_beside_it_and_null_as_an_empty_one(tmp_path: Path):
    made_one = classifier(tmp_path, made("pruned"))
    texts = pl.Series([*(text for text, *_ in GOLDEN["pruned"]), None, "x" * 2_000_000])
    together = list(zip(*made_one(texts), strict=True))
    assert together == [(n[0], p[0]) for n, p in (made_one(texts[i : i + 1]) for i in range(11))]
    assert together[8] == together[9]


def test_white_space_of_ascii_parts_words_and_no_other(tmp_path: Path):
    made_one = classifier(tmp_path, made("words"))
    parted = ["a b", "a\nb", "\ta\r\v\fb\0", "a\u00a0b", "a\u2003b"]
    _, sure = made_one(pl.Series(parted))
    assert sure[0] == sure[1] == sure[2]
    assert sure[0] not in sure[3:]


def test_a_text_of_which_no_row_knows_a_part_has_no_label(tmp_path: Path):
    data = made("softmax").replace(b"</s>\0", b"<.s>\0")
    numbers, _ = classifier(tmp_path, data)(pl.Series(["", "a"]))
    assert numbers.tolist() == [-1, numbers[1]]
    assert numbers[1] >= 0


@pytest.mark.parametrize("kept", [0, 4, 60, 90, 200, -1])
def test_a_file_cut_short_is_refused(tmp_path: Path, kind: str, kept: int):
    with pytest.raises(ConfigError, match="cut short"):
        classifier(tmp_path, made(kind)[:kept])


def test_what_is_no_classifier_is_refused(tmp_path: Path):
    data = made("softmax")
    other_loss = data[: 8 + 24] + struct.pack("<i", 2) + data[8 + 28 :]
    with pytest.raises(ConfigError, match="softmax"):
        classifier(tmp_path, other_loss)
    with pytest.raises(ConfigError, match="no classifier"):
        classifier(tmp_path, b"PK\3\4" + data)
    pruned = made("pruned")
    at = pruned.index(struct.pack("<4i", 0, 0, 3, 1))
    with pytest.raises(ConfigError, match="no classifier"):
        classifier(tmp_path, pruned[:at] + struct.pack("<2i", 0, 10**6) + pruned[at + 8 :])
    with pytest.raises(ConfigError, match="No such file"):
        _fasttext.read(tmp_path / "none.bin")
