from __future__ import annotations

import pickle

import polars as pl
import pytest

from contracts.errors import ConfigError
from flows.recipe.expressions import Expression, evaluate_expression


def _value(text: str, **columns: pl.Series) -> list[object]:
    frame = pl.DataFrame({name.replace("__", "."): values for name, values in columns.items()})
    return evaluate_expression(frame, Expression(text).polars, text).to_list()


@pytest.mark.parametrize(
    ("text", "clauses"),
    [
        ("a.x > 1", ["a.x > 1"]),
        ("a.x > 1 AND a.y < 2", ["a.x > 1", "a.y < 2"]),
        ("a.x > 1 and a.y < 2 AND b.z = 3", ["a.x > 1", "a.y < 2", "b.z = 3"]),
        ("a.x BETWEEN 1 AND 5", ["a.x BETWEEN 1 AND 5"]),
        ("a.x BETWEEN 1 AND 5 AND a.y > 2", ["a.x BETWEEN 1 AND 5", "a.y > 2"]),
        ("a.x > 1 OR a.y < 2 AND b.z = 3", ["a.x > 1 OR a.y < 2 AND b.z = 3"]),
        ("(a.x > 1 OR a.y < 2) AND b.z = 3", ["a.x > 1 OR a.y < 2", "b.z = 3"]),
        ("NOT (a.x > 1 AND a.y < 2)", ["NOT (a.x > 1 AND a.y < 2)"]),
        ("(a.x > 1 AND a.y < 2)", ["a.x > 1", "a.y < 2"]),
        ("a.x = 'salt AND pepper'", ["a.x = 'salt AND pepper'"]),
        ("CASE WHEN a.x > 1 AND a.y > 2 THEN TRUE ELSE FALSE END",
         ["CASE WHEN a.x > 1 AND a.y > 2 THEN TRUE ELSE FALSE END"]),
    ],
)  # fmt: skip
def test_a_rule_is_split_at_its_top_level_and_only(text: str, clauses: list[str]):
    assert list(Expression(text).clauses) == clauses


def test_the_clauses_together_say_what_the_rule_says():
    text = "(a.x > 1 OR a.y < 2) AND a.x BETWEEN 0 AND 4 AND NOT a.y = 3"
    frame = pl.DataFrame(
        {"a.x": [x for x in range(6) for _ in range(6)], "a.y": list(range(6)) * 6}
    )
    expression = Expression(text)
    whole = evaluate_expression(frame, expression.polars, text)
    parts = [
        evaluate_expression(frame, expression.clause(i), text)
        for i in range(len(expression.clauses))
    ]
    assert len(parts) == 3
    assert whole.to_list() == [all(row) for row in zip(*parts, strict=True)]
    assert 0 < whole.sum() < len(whole)


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("text", ["text"]),
        ("caption.words >= 3", ["caption.words"]),
        ("meta.url IS NOT NULL AND text LIKE 'a%'", ["meta.url", "text"]),
        ("(b.x > 1 AND a.y > 1) AND c.z > 1", ["b.x", "a.y", "c.z"]),
        ('meta."Odd name" > 1', ["meta.Odd name"]),
        ("width * height", ["width", "height"]),
        ("a.x + a.x > a.y", ["a.x", "a.y"]),
        ("meta.date", ["meta.date"]),
        ("TRUE", []),
    ],
)
def test_the_columns_that_a_rule_names_come_in_order_of_appearance(text: str, paths: list[str]):
    assert list(Expression(text).paths) == paths


def test_a_bare_column_is_told_from_an_expression():
    assert Expression(" caption.words ").is_column
    assert not Expression("caption.words + 0").is_column


def test_counts_do_not_wrap_below_zero_or_above_32_bits():
    words = pl.Series([3, 7, None], dtype=pl.UInt32)
    assert _value("c.words - 5", c__words=words) == [-2, 2, None]
    side = pl.Series([70_000], dtype=pl.UInt32)
    assert _value("width * height", width=side, height=side) == [4_900_000_000]
    assert _value("a.size - 1", a__size=pl.Series([0], dtype=pl.UInt8)) == [-1]


def test_sixty_four_bits_keep_their_bits():
    bits = pl.Series([2**64 - 1, 0], dtype=pl.UInt64)
    found = _value("CASE WHEN h.quality >= 0.5 THEN h.bits END", h__bits=bits,
                   h__quality=pl.Series([0.6, 0.4]))  # fmt: skip
    assert found == [2**64 - 1, None]


def test_a_uid_may_be_written_as_it_is_shown():
    uid = pl.Series([2**64 - 3, 5, None], dtype=pl.UInt64)
    assert _value("uid = 'fffffffffffffffd'", uid=uid) == [True, False, None]
    assert _value("uid <> 'FFFFFFFFFFFFFFFD'", uid=uid) == [False, True, None]
    assert _value("uid IN ('fffffffffffffffd', '0000000000000005')", uid=uid)[:2] == [True, True]
    # A text of the source is one.
    own = pl.Series(["fffffffffffffffd", "5"])
    assert _value("meta.uid = 'fffffffffffffffd'", meta__uid=own) == [True, False]


def test_a_null_is_neither_true_nor_false():
    x = pl.Series([1, None, 5])
    assert _value("a.x > 2", a__x=x) == [False, None, True]
    assert _value("a.x > 2 OR a.x IS NULL", a__x=x) == [False, True, True]
    assert _value("COALESCE(a.x, 9) > 2", a__x=x) == [False, True, True]


def test_a_condition_without_a_column_holds_for_every_record():
    assert _value("1 = 1", uid=pl.Series([4, 5, 6], dtype=pl.UInt64)) == [True] * 3


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a.x >", "a.x > 1; DROP TABLE b", "SELECT 1", "(SELECT 1) > 0", "COUNT(*) > 1",
        "AVG(a.x) > 1", "RANK() OVER () > 1", "DROP TABLE x", "a.x > 1 AND", "no_such(a.x) > 1",
        "*",
    ],
)  # fmt: skip
def test_what_is_no_row_wise_expression_is_refused_when_it_is_read(text: str):
    with pytest.raises(ConfigError) as refused:
        _ = Expression(text).paths
    assert repr(text) in str(refused.value)


def test_an_expression_that_does_not_fit_the_columns_is_a_config_error():
    with pytest.raises(ConfigError, match=r"'LENGTH\(a\.x\) > 1'"):
        _value("LENGTH(a.x) > 1", a__x=pl.Series([True]))


def test_an_expression_travels_to_a_worker_as_its_text():
    expression = Expression("a.x > 1")
    _ = expression.polars
    again = pickle.loads(pickle.dumps(expression))
    assert again == expression
    assert again.__dict__ == {"text": "a.x > 1"}


def test_what_is_not_a_number_was_not_measured():
    x = pl.Series([0.9, float("nan"), 0.1, None])
    assert _value("a.x > 0.5", a__x=x) == [True, None, False, None]
    assert _value("a.x", a__x=x) == [0.9, None, 0.1, None]
    zero = pl.Series([0.0, 1.0, -1.0])
    assert _value("a.x / a.x > 0.5", a__x=zero) == [None, True, True]
    assert _value("SQRT(a.x) >= 0 OR LN(a.x) < 9", a__x=zero) == [True, True, None]
    assert _value("1 / (a.x / a.x) > 0.5", a__x=zero) == [None, True, True]
    assert _value("a.x % 2 = 1", a__x=pl.Series([4, 2**62 + 1])) == [False, True]


@pytest.mark.parametrize(
    "text",
    ["meta.date < now()", "meta.date < CURRENT_DATE", "a.x > random()", "LOCALTIMESTAMP > meta.t"],
)
def test_what_is_another_value_at_the_next_run_is_no_rule(text: str):
    with pytest.raises(ConfigError, match="another value at the next run"):
        _ = Expression(text).paths


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.x IN (" + ", ".join(map(str, range(30_000))) + ")", "bring the values by file"),
        (" OR ".join(["a.x = 1"] * 1_000), "write x IN"),
        ("(" * 9_999 + "a.x > 1" + ")" * 9_999, "nested too deeply"),
        ("NOT " * 9_999 + "a.x > 1", "nested too deeply"),
        ("LPAD(a.x, 2000000000, 'x') = ''", "10,000 at most"),
        ("RPAD(a.x, a.y * 100000, 'x') = ''", "10,000 at most"),
    ],
)
def test_an_expression_has_limits_and_its_error_is_short(text: str, message: str):
    with pytest.raises(ConfigError, match=message) as refused:
        _ = Expression(text).paths
    assert len(str(refused.value)) < 1_000


def test_an_expression_within_the_limits_is_taken():
    numbers = ", ".join(map(str, range(10_000)))
    assert _value(f"a.x IN ({numbers})", a__x=pl.Series([9_999, 10_000])) == [True, False]
    chain = " OR ".join(f"a.x = {i}" for i in range(200))
    assert _value(chain, a__x=pl.Series([199, 200])) == [True, False]
