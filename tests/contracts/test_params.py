from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
import pytest
from pydantic import Field

from contracts.errors import ConfigError, Problem, nearest
from contracts.params import Count, Ratio, Scorer, Seed, names_of, parse, schema_of


def method(
    rows: object,
    table: object = None,
    *,
    budget: Count | None = None,
    threshold: Annotated[float, Field(ge=0, le=1)] = 0.8,
    seed: Seed = 0,
    mode: Literal["fast", "exact"] = "fast",
    verbose: bool = False,
) -> None:
    """Do nothing."""


def _problems(**section: object) -> dict[str, str]:
    with pytest.raises(ConfigError) as refused:
        parse(method, section, where="annotate.x")
    return {problem.key: problem.message for problem in refused.value.problems}


def test_only_keyword_only_parameters_are_configuration():
    assert names_of(method) == ["budget", "threshold", "seed", "mode", "verbose"]
    assert "annotate.x.table" in _problems(table=1)


def test_every_default_is_filled_in():
    assert parse(method, {"budget": 3}, where="") == {
        "budget": 3, "threshold": 0.8, "seed": 0, "mode": "fast", "verbose": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("budget", "3"), ("budget", 3.0), ("budget", True), ("budget", 0), ("seed", -1),
        ("seed", 2**63), ("threshold", "0.5"), ("threshold", float("nan")), ("threshold", 1.01),
        ("mode", "slow"), ("verbose", 1), ("verbose", "yes"), ("threshold", None),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_out_of_range_is_refused_not_converted(key: str, value: object):
    found = _problems(**{key: value})
    assert list(found) == [f"annotate.x.{key}"]
    assert repr(value) in found[f"annotate.x.{key}"]


def test_an_integer_is_a_number():
    assert parse(method, {"threshold": 1}, where="")["threshold"] == 1.0


def test_numpy_scalars_are_unwrapped():
    given = {"budget": np.int64(3), "threshold": np.float32(0.5), "verbose": np.bool_(True)}
    found = parse(method, given, where="")
    assert [found[key] for key in given] == [3, 0.5, True]
    assert [type(found[key]) for key in given] == [int, float, bool]
    assert "annotate.x.budget" in _problems(budget=np.float64(3))


def test_all_problems_come_together_each_with_its_key_and_the_nearest_legal_name():
    found = _problems(budgt=3, mode="fsat", seed="x", threshold=2)
    assert set(found) == {f"annotate.x.{key}" for key in ("budgt", "mode", "seed", "threshold")}
    assert found["annotate.x.budgt"] == "unknown key. Nearest: budget."
    assert "'fast' or 'exact'" in found["annotate.x.mode"]


def test_a_text_where_a_list_belongs_is_answered_with_the_list():
    def lists(*, format: Sequence[str] = (), columns: list[str] | None = None) -> None: ...

    with pytest.raises(ConfigError) as refused:
        parse(lists, {"format": "webdataset", "columns": 'a"b'}, where="export")
    assert str(refused.value).splitlines() == [
        'export.format: is a list: write format = ["webdataset"].',
        'export.columns: is a list: write columns = ["a\\"b"].',
    ]


def test_a_required_parameter_is_asked_for():
    def needs(*, threshold: float) -> None: ...

    with pytest.raises(ConfigError, match=r"^select\[0\]\.threshold: is required\.$"):
        parse(needs, {}, where="select[0]")


def test_a_class_is_configured_by_its_constructor():
    class Encoder:
        def __init__(self, device: str | None = None, *, side_px: Count = 224) -> None: ...

    assert names_of(Encoder) == ["side_px"]
    assert schema_of(Encoder).model_json_schema()["properties"]["side_px"]["minimum"] == 1


def test_a_wrong_default_is_found_too():
    def wrong(*, share: Ratio = 1.5) -> None: ...

    with pytest.raises(ConfigError, match="share"):
        parse(wrong, {}, where="")


def test_a_callable_with_a_fingerprint_is_a_scorer():
    def scores(values: object) -> None: ...

    assert not isinstance(scores, Scorer)
    scores.fingerprint = "f"  # type: ignore[attr-defined]
    assert isinstance(scores, Scorer)


def test_a_config_error_keeps_its_problems_through_a_worker_process():
    error = ConfigError([Problem("a.b", "is wrong."), Problem("", "is odd.")])
    again = pickle.loads(pickle.dumps(error))
    assert again.problems == error.problems
    assert str(again) == "a.b: is wrong.\nis odd."
    assert again.exit_code == 78


def test_where_no_name_is_near_all_are_listed():
    assert nearest("zzz", ["b", "a"]) == " There is: a, b."
    assert nearest("zzz", []) == ""
