from __future__ import annotations

import os
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from contracts.errors import DataError, StorageError
from flows import workers as working
from flows.parallel import Workers


class Poison(int):
    """A number that does something to the process that unpickles it: a worker, not this one."""

    action: tuple[Any, tuple[Any, ...]] = (os._exit, (1,))

    def __reduce__(self) -> Any:
        return self.action


class Sleeper(Poison):
    action = (time.sleep, (3600,))


class Killer(Poison):
    action = (eval, ("__import__('os').kill(__import__('os').getpid(), 9)",))


def negated(batch: list[int]) -> list[int]:
    return [-item for item in batch]


def refusing(item: int) -> int:
    if item == 3:
        raise DataError("three is refused")
    return item


def _charged(item: int, reason: str) -> tuple[int, str]:
    return int(item), reason


def _batches(items: list[int], size: int = 4) -> list[list[int]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


@pytest.mark.parametrize("count", [1, 2])
def test_results_come_in_the_order_of_the_units_whatever_the_workers(count: int):
    with Workers(count) as workers:
        units = [[i] for i in range(20)]
        assert list(workers.map(negated, units)) == [[-i] for i in range(20)]


def test_one_worker_without_isolation_is_this_process():
    with Workers() as workers:
        assert next(workers.map(lambda _: os.getpid(), [0])) == os.getpid()
    with Workers(isolated=True) as workers:
        assert next(workers.map(abs, [-os.getpid()])) == os.getpid()
        assert workers.executor().submit(os.getpid).result() != os.getpid()


def test_units_are_drawn_a_bounded_number_ahead():
    drawn: list[int] = []

    def units() -> Iterator[int]:
        for i in range(100):
            drawn.append(i)
            yield i

    with Workers() as workers:
        results = workers.map(abs, units())
        next(results)
        assert len(drawn) <= 4
        results.close()  # type: ignore[attr-defined]


def test_an_error_of_a_unit_reaches_the_caller():
    with Workers() as workers, pytest.raises(DataError, match="three is refused"):
        list(workers.map(refusing, range(5)))


@pytest.mark.parametrize(("poison", "count"), [(Poison, 2), (Killer, 1)])
def test_an_item_that_kills_its_worker_costs_itself_alone(poison: type[Poison], count: int):
    items = [*range(6), poison(6), *range(7, 12)]
    with Workers(count, isolated=True) as workers:
        found = list(workers.map_batches(negated, _batches(items), _charged))
    assert found == [(6, "DECODE_CRASH") if i == 6 else -i for i in range(12)]


def test_a_worker_that_dies_where_nothing_hostile_is_read_ends_the_run_with_advice():
    with Workers(2) as workers, pytest.raises(StorageError, match="fewer --workers"):
        list(workers.map(abs, [1, Killer(2), 3]))


def test_a_pool_that_broke_while_units_were_read_is_started_again():
    with Workers(isolated=True) as workers:

        def batches() -> Iterator[list[int]]:
            yield [Poison(0)]
            with pytest.raises(BrokenProcessPool):
                workers.executor().submit(os.getpid).result()
            yield [1, 2]

        found = list(workers.map_batches(negated, batches(), _charged))
    assert found == [(0, "DECODE_CRASH"), -1, -2]


def test_an_item_that_hangs_its_worker_costs_itself_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(working, "ITEM_S", 1.0)
    items = [0, Sleeper(1), 2]
    with Workers(isolated=True) as workers:
        found = list(workers.map_batches(negated, _batches(items, 2), _charged))
    assert found == [0, (1, "DECODE_TIMEOUT"), -2]


def test_batches_that_are_harmless_run_here():
    def here(batch: list[int]) -> list[int]:
        return [os.getpid() for _ in batch]

    with Workers(isolated=True) as workers:
        found = list(workers.map_batches(here, [[1], [2, 3]], _charged, lambda _batch: True))
        assert found == [os.getpid()] * 3
        assert workers._executor is None
