from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from contracts import methods
from contracts.errors import ContractError
from contracts.params import Count, Ratio, Seed
from contracts.uid import uniform
from curation.properties import cases, check, first_difference, sample
from curation.step import Role, Step, fit, groupwise, rowwise, selector

GOLDEN = Path(__file__).parent.parent / "golden"
METHODS = [(folder, name) for folder in methods.CURATION for name in methods.names(folder)]


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_every_method_has_the_properties_of_its_kind(folder: str, name: str):
    assert {"row_order", "repeat", "empty", "nulls"} <= set(check(methods.load(folder, name)))


@pytest.mark.parametrize(("folder", "name"), METHODS)
def test_a_methods_output_changes_only_with_its_version(
    folder: str, name: str, request: pytest.FixtureRequest
):
    step = methods.load(folder, name)
    found = next(cases(step)).run()
    path = GOLDEN / f"{name}.parquet"
    if request.config.getoption("golden"):
        GOLDEN.mkdir(exist_ok=True)
        found.write_parquet(path, metadata={"version": str(step.version)})
    problem = golden_problem(step, found, path)
    assert problem is None, problem


def golden_problem(step: Step, found: pl.DataFrame, path: Path) -> str | None:
    """Return what is wrong with a method's golden table, and what to do."""
    renew = "run pytest tests/curation/test_contract.py --golden and commit the table"
    if not path.is_file():
        return f"{step.name} has no golden table: {renew}"
    if pl.read_parquet_metadata(path)["version"] != str(step.version):
        return f"the golden table of {step.name} is of another version: {renew}"
    difference = first_difference(found, pl.read_parquet(path))
    return difference and f"{step.name}: {difference}; raise the version or restore the output"


def test_a_changed_output_is_told_from_a_raised_version(tmp_path: Path):
    step = doubled
    table, _ = sample(step)
    path = tmp_path / "doubled.parquet"
    step(table).write_parquet(path, metadata={"version": "1"})
    changed = step(table).with_columns(pl.col("twice") + 1e-3)
    rounded = step(table).with_columns(pl.col("twice") + 1e-6)
    assert "has no golden" in str(golden_problem(step, step(table), tmp_path / "none.parquet"))
    assert golden_problem(step, step(table), path) is None
    assert golden_problem(step, rounded, path) is None
    assert "raise the version or restore" in str(golden_problem(step, changed, path))
    assert "of another version" in str(golden_problem(replace(step, version=2), changed, path))


@rowwise(version=1, reads={"score": Role(pl.Float64)}, writes={"twice": pl.Float64})
def doubled(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(twice=pl.col("score") * 2)


@rowwise(version=1, reads={"score": Role(pl.Float64)}, writes={"centred": pl.Float64})
def centred_on_its_batch(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(centred=pl.col("score") - pl.col("score").mean())


@rowwise(version=1, reads={"score": Role(pl.Float64)}, writes={"rank": pl.UInt32})
def ranked(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(rank=pl.int_range(pl.len(), dtype=pl.UInt32))


@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"long": pl.Boolean})
def typed_by_its_values(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"long": [None if t is None else len(t) > 9 for t in rows["text"]]})


@rowwise(version=1, reads={"text": Role(pl.String)}, writes={"first": pl.String})
def blind_to_nulls(rows: pl.DataFrame) -> pl.DataFrame:
    return pl.DataFrame({"first": pl.Series([text[:1] for text in rows["text"]], dtype=pl.String)})


@groupwise(version=1, by="group", reads={"group": Role()}, writes={"groups": pl.UInt32})
def counts_all_groups(groups: pl.DataFrame) -> pl.DataFrame:
    return groups.select(groups=pl.repeat(pl.col("group").n_unique(), pl.len(), dtype=pl.UInt32))


@groupwise(version=1, by="group", reads={"group": Role()}, writes={"cluster": pl.UInt64})
def named_by_a_stranger(groups: pl.DataFrame) -> pl.DataFrame:
    return groups.select(cluster=pl.repeat(1, pl.len(), dtype=pl.UInt64))


@fit(
    version=1,
    reads={"score": Role(pl.Float64)},
    writes={"mean": pl.Float64},
    merge=lambda means: means.select(pl.col("mean").mean()),
)
def mean_of_means(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(mean=pl.col("score").mean())


@selector(version=1, reads={"score": Role(pl.Float64)})
def drawn_in_a_sequence(candidates: pl.DataFrame, *, ratio: Ratio = 0.5, seed: Seed = 0):
    draws = np.random.default_rng(seed).random(candidates.height)
    return candidates.filter(pl.Series(draws) < ratio).select("uid")


@selector(version=1, reads={"score": Role(pl.Float64)})
def drawn_by_uid(candidates: pl.DataFrame, *, ratio: Ratio = 0.5, seed: Seed = 0):
    draws = uniform(candidates["uid"].to_numpy(), seed, "drawn_by_uid")
    return candidates.filter(pl.Series(draws) < ratio).select("uid")


@selector(version=1, reads={"score": Role(pl.Float64)})
def over_its_budget(candidates: pl.DataFrame, *, budget: Count):
    return candidates.sort("score", "uid").head(budget + 1).select("uid")


@selector(version=1, reads={"score": Role(pl.Float64)})
def breaks_its_promise(candidates: pl.DataFrame, *, budget: Count):
    """Keep the best or the worst; a smaller budget is a subset of a larger one."""
    by_score = candidates.sort("score", descending=budget % 2 == 1, nulls_last=True)
    return by_score.head(budget).select("uid")


@selector(version=1, reads={"cluster": Role(pl.UInt64)})
def keeps_pairs(candidates: pl.DataFrame):
    return candidates.filter(pl.int_range(pl.len()).over("cluster") < 2).select("uid")


CALLS = iter(range(10**6))


@rowwise(version=1, reads={"score": Role(pl.Float64)}, writes={"call": pl.UInt32})
def counts_its_calls(rows: pl.DataFrame) -> pl.DataFrame:
    return rows.select(call=pl.repeat(next(CALLS), pl.len(), dtype=pl.UInt32))


@pytest.mark.parametrize(
    ("step", "broken"),
    [
        (centred_on_its_batch, "batch_split"),
        (ranked, "row_order"),
        (counts_its_calls, "row_order"),
        (counts_all_groups, "group_split"),
        (named_by_a_stranger, "cluster_names"),
        (mean_of_means, "merge"),
        (drawn_in_a_sequence, "draws_by_uid"),
        (over_its_budget, "budget"),
        (breaks_its_promise, "nested_budgets"),
        (keeps_pairs, "one_of_a_cluster"),
    ],
)
def test_a_broken_step_is_caught_by_name(step: Step, broken: str):
    with pytest.raises(ContractError, match=f"breaks {broken}: "):
        check(step)


def test_a_step_that_types_its_column_by_its_values_is_caught():
    step = replace(typed_by_its_values, writes_of={"long": None})
    with pytest.raises(ContractError, match="breaks empty: the columns are"):
        check(step)


def test_an_error_within_the_step_says_which_step_was_being_checked():
    with pytest.raises(TypeError) as caught:
        check(blind_to_nulls)
    assert caught.value.__notes__ == ["blind_to_nulls was being run on its sample: {}"]


def test_draws_that_belong_to_uids_pass():
    assert "draws_by_uid" in check(drawn_by_uid)


def test_the_sample_holds_a_row_of_nulls_ties_and_a_group_of_half_the_rows():
    table, _ = sample(replace(counts_all_groups, reads_of={"group": Role(), "score": Role()}))
    assert table.row(5) == (table["uid"][5], None, None)
    assert table["score"].n_unique() < table.height / 3
    assert table["group"].value_counts(sort=True)["count"][0] >= 0.4 * table.height
    assert {0, 2**63, 2**64 - 1} < set(table["uid"])
