"""Map a function over units of work: in this process, in child processes, or on a Dask cluster.

Results come in the order of the units, whatever the workers. The items of a unit whose worker dies
or hangs are run again one by one, and the one that does it again is charged with it.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

from contracts import decode
from contracts.errors import ConfigError, ServiceError, StorageError

Item = TypeVar("Item")
Result = TypeVar("Result")

# A worker that decodes hostile bytes may hold this much, and each item this long.
MEMORY_BYTES = 2 << 30
ITEM_S = 10.0


def one_thread() -> None:
    """Compute with one thread in this process; parallelism comes from parts and seeds.

    Sums of floats depend on how threads split them, so the bits of a vector or of a training
    would otherwise depend on the machine's cores and on the number of workers.
    """
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


class InProcess(Executor):
    """Run each call at once, here: the executor of one worker without isolation."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Return a finished future."""
        future: Future[Result] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:  # the worker boundary: the caller sees it from result()
            future.set_exception(error)
        return future


@dataclass
class Workers:
    """Where units run.

    Attributes:
        count: processes; 1 runs in this one, except what asks for isolation.
        dask: address of a Dask scheduler, instead of processes of our own.
        isolated: units meet hostile bytes: always another process, with resource limits.
    """

    count: int = 1
    dask: str | None = None
    isolated: bool = False
    _executor: Executor | None = field(default=None, repr=False)
    _client: Any = field(default=None, repr=False)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop the workers."""
        if self._executor is not None:
            # Dask's executor knows no cancel_futures; its client is closed instead.
            if self.dask is None:
                self._executor.shutdown(wait=True, cancel_futures=True)
            elif self._client is not None:
                self._client.close()
            self._executor = self._client = None

    def map(self, function: Callable[[Item], Result], units: Iterable[Item]) -> Iterator[Result]:
        """Yield function(unit) for each unit, in order, a bounded number ahead.

        Raises:
            StorageError: a worker process died.
        """
        pending: deque[Future[Result]] = deque()
        try:
            for unit in units:
                pending.append(self.executor().submit(function, unit))
                if len(pending) > 2 * self.count:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BrokenProcessPool as error:
            raise StorageError(
                "a worker process died, as a rule for want of memory. Run again with fewer "
                "--workers: what is done is kept."
            ) from error

    def map_batches(
        self,
        function: Callable[[list[Item]], list[Result]],
        batches: Iterable[list[Item]],
        charge: Callable[[Item, str], Result],
        harmless: Callable[[list[Item]], bool] = lambda _batch: False,
    ) -> Iterator[Result]:
        """Yield the results of function(batch) item by item, in order.

        Args:
            function: gives one result an item.
            batches: lists of items.
            charge: the result of an item that kills its worker (DECODE_CRASH) or hangs it
                (DECODE_TIMEOUT).
            harmless: whether a batch may run in this process, where that is as fast.
        """
        here = InProcess()
        pending: deque[tuple[list[Item], Future[list[Result]]]] = deque()
        for batch in batches:
            executor = here if harmless(batch) else self.executor()
            pending.append((batch, _submitted(executor, function, batch)))
            if len(pending) > 2 * self.count:
                yield from self._settle(pending, function, charge)
        while pending:
            yield from self._settle(pending, function, charge)

    def executor(self) -> Executor:
        """Return the executor, started when first asked for."""
        if self._executor is None:
            self._executor = self._start()
        return self._executor

    def _start(self) -> Executor:
        if self.dask is not None:
            self._client = _dask(self.dask)
            executor: Executor = self._client.get_executor()
            return executor
        if self.count == 1 and not self.isolated:
            return InProcess()
        # Forked children hang once the parent has used polars: spawn.
        processes = ProcessPoolExecutor(
            self.count,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_limited if self.isolated else None,
        )
        try:
            processes.submit(os.getpid).result()
        except BrokenProcessPool:
            raise ConfigError(
                "worker processes cannot start: they import the main script again. Put the call "
                "under `if __name__ == '__main__':`, in a file, not on standard input."
            ) from None
        return processes

    def _settle(
        self,
        pending: deque[tuple[list[Item], Future[list[Result]]]],
        function: Callable[[list[Item]], list[Result]],
        charge: Callable[[Item, str], Result],
    ) -> Iterator[Result]:
        batch, future = pending.popleft()
        try:
            results = future.result(timeout=ITEM_S * len(batch) if self.isolated else None)
        except (BrokenProcessPool, FutureTimeout):
            # A dead worker breaks every unit under way: all are run again, this one alone first.
            again = [unit for unit, _ in pending]
            self._kill()
            yield from self._one_by_one(batch, function, charge)
            pending.clear()
            executor = self.executor()
            pending.extend((unit, _submitted(executor, function, unit)) for unit in again)
        else:
            yield from results

    def _one_by_one(
        self,
        batch: Sequence[Item],
        function: Callable[[list[Item]], list[Result]],
        charge: Callable[[Item, str], Result],
    ) -> Iterator[Result]:
        for item in batch:
            executor = self.executor()
            # What a new process imports for the function is not the item's time.
            executor.submit(_imported, function).result()
            try:
                results = executor.submit(function, [item]).result(ITEM_S)
            except (BrokenProcessPool, FutureTimeout) as error:
                self._kill()
                hung = isinstance(error, FutureTimeout)
                yield charge(item, "DECODE_TIMEOUT" if hung else "DECODE_CRASH")
            else:
                yield from results

    def _kill(self) -> None:
        executor, self._executor = self._executor, None
        if isinstance(executor, ProcessPoolExecutor):
            for process in list((executor._processes or {}).values()):
                with suppress(ProcessLookupError):
                    process.kill()
            executor.shutdown(wait=True, cancel_futures=True)


def _imported(_function: Callable[..., Any]) -> None:
    """Do nothing: the function's module was imported to get here."""


def _submitted(
    executor: Executor, function: Callable[[Item], Result], unit: Item
) -> Future[Result]:
    """Submit a unit; where an earlier one has broken the pool, the future says so."""
    try:
        return executor.submit(function, unit)
    except BrokenProcessPool as error:
        future: Future[Result] = Future()
        future.set_exception(error)
        return future


def _limited() -> None:
    decode.limit_process(MEMORY_BYTES, cpu_s=24 * 3600)


def _dask(address: str) -> Any:
    try:
        from distributed import Client

        client: Any = Client
        return client(address, timeout="30s")
    except ImportError as error:
        raise ConfigError("--dask needs dask: pip install 'dask[distributed]'.") from error
    except (OSError, TimeoutError) as error:
        raise ServiceError(f"{address}: no Dask scheduler answers: {error}") from error
