from __future__ import annotations

import pickle

import pytest

from contracts import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.ConfigError, 78),
        (errors.ContractError, 78),
        (errors.DataError, 65),
        (errors.StorageError, 74),
        (errors.BusyError, 73),
        (errors.ServiceError, 69),
    ],
)
def test_every_error_has_the_exit_code_of_its_kind(kind: type[errors.CurationError], code: int):
    error = kind("found this, there; do that")
    assert error.exit_code == code
    assert isinstance(error, errors.CurationError)
    assert type(pickle.loads(pickle.dumps(error))) is kind


def test_busy_and_service_errors_are_storage_errors():
    assert issubclass(errors.BusyError, errors.StorageError)
    assert issubclass(errors.ServiceError, errors.StorageError)


def test_an_interrupted_run_exits_with_75():
    assert errors.INTERRUPTED == 75


def test_a_problem_is_shown_under_its_key():
    assert str(errors.Problem("select[0].by", "is wrong.")) == "select[0].by: is wrong."
    assert [p.key for p in errors.ConfigError("plain").problems] == [""]


def test_the_nearest_names_are_at_most_three():
    near = errors.nearest("words", ["word", "wordz", "words_", "wards"])
    assert near.count(",") == 2


@pytest.mark.parametrize(
    ("name", "legal", "hint"),
    [
        ("exact", ["exact_clusters", "kmeans"], " Nearest: exact_clusters."),
        ("words", ["sword", "caption_stats.words"], " Nearest: caption_stats.words, sword."),
        ("kmean", ["exact_clusters", "kmeans"], " Nearest: kmeans."),
        ("date", ["text", "width"], " There is: text, width."),
        ("date", [], ""),
    ],
)
def test_the_nearest_name_has_the_word_or_looks_alike(name: str, legal: list[str], hint: str):
    assert errors.nearest(name, legal) == hint
