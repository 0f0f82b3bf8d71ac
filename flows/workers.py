"""Map a function over units of work: in this process, in processes of its own, or on Dask.

Results come in the order of the units, whatever the workers. Each worker has a pipe of its own:
one that dies, half way through an answer too, costs the item that it had in hand and no other.
It is started again, the item too, and what goes on killing is charged or ends the run. Nothing
waits for a worker without a limit but its work, and no worker outlives this process.
"""

from __future__ import annotations

import math
import os
import pickle
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NoReturn, TypeVar

from contracts.errors import ConfigError, ServiceError, StorageError

Item = TypeVar("Item")
Sent = TypeVar("Sent")
Result = TypeVar("Result")

# A worker that decodes hostile bytes may hold this much, and each item this long.
MEMORY_BYTES = 2 << 30
ITEM_S = 10.0
# A worker may take so long to start and import, to move on with a message, to stop, and to die.
START_S = 120.0
STALL_S = 60.0
STOP_S = 30.0
END_S = 5.0
LOOK_S = 0.2
# How often in a row a worker may die before it works, and with one unit that is not hostile.
STARTS = 4
DEATHS = 3

_SIZE = struct.Struct("!Q")
_PROGRAM = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); "
    "signal.signal(signal.SIGTERM, signal.SIG_DFL); sys.path[:] = {path!r}; "
    "from flows import workers; workers.serve({descriptor}, isolated={isolated})"
)
_ADVICE = "as a rule for want of memory. Run again with fewer --workers: what is done is kept."


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
        """Stop the workers, also those that are at work."""
        executor, self._executor = self._executor, None
        if self._client is not None:
            # Dask's executor knows no cancel_futures; its client is closed instead.
            self._client.close()
            self._client = None
        elif executor is not None:
            executor.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], units: Iterable[Item]) -> Iterator[Result]:
        """Yield function(unit) for each unit, in order, a bounded number ahead.

        Args:
            function: may be called again with a unit whose worker died.
            units: what to call it with.

        Raises:
            StorageError: worker processes died, again and again.
        """
        pending: deque[Future[Result]] = deque()
        for unit in units:
            pending.append(self.executor().submit(function, unit))
            if len(pending) > 2 * self.count:
                yield _result(pending.popleft())
        while pending:
            yield _result(pending.popleft())

    def map_batches(
        self,
        function: Callable[[Sent], Result],
        batches: Iterable[Item],
        sent: Callable[[Item], Sequence[Sent]],
        charge: Callable[[Sent, str], Result],
    ) -> Iterator[tuple[Item, list[Result]]]:
        """Yield each batch with function(part) of each part that is sent of it, in order.

        Args:
            function: looks at what is sent, in an isolated worker.
            batches: what is sent of one shares the way to a worker.
            sent: what of a batch is hostile, and travels.
            charge: the result of what kills its worker twice (DECODE_CRASH) or keeps it longer
                than ITEM_S (DECODE_TIMEOUT).

        Raises:
            StorageError: workers died at their start, again and again.
        """
        pending: deque[tuple[Item, Future[list[Result]]]] = deque()
        for batch in batches:
            hostile = sent(batch)
            if not hostile and not pending:
                yield batch, []
                continue
            if hostile:
                processes = self.executor()
                assert isinstance(processes, Processes)
                future = processes.look(function, hostile, charge)
            else:
                future = InProcess().submit(list)
            pending.append((batch, future))
            if len(pending) > 2 * self.count:
                batch, future = pending.popleft()
                yield batch, _result(future)
        while pending:
            batch, future = pending.popleft()
            yield batch, _result(future)

    def executor(self) -> Executor:
        """Return the executor, made when first asked for."""
        if self._executor is None:
            if self.dask is not None:
                self._client = _dask(self.dask)
                self._executor = self._client.get_executor()
            elif self.count == 1 and not self.isolated:
                self._executor = InProcess()
            else:
                self._executor = Processes(self.count, self.isolated)
        return self._executor


def _result(future: Future[Result]) -> Result:
    """Wait for a result, a moment at a time: where polars is loaded, SIGINT ends no longer wait."""
    while not wait([future], LOOK_S).done:
        pass
    return future.result()


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


class Processes(Executor):
    """Run calls in processes of our own, each led by a thread here.

    A process starts when a call first needs it. Neither forked, since forked children hang once
    their parent has used polars, nor by `multiprocessing`, whose spawned children run the main
    script again.
    """

    def __init__(self, count: int, isolated: bool = False) -> None:
        self._isolated = isolated
        self._threads = ThreadPoolExecutor(count, "worker")
        self._lock = threading.Lock()
        self._alive: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._closed = False

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Call a function in a worker; it may be called again where its worker dies."""
        return self._threads.submit(self._call, partial(fn, *args, **kwargs))

    def look(
        self,
        function: Callable[[Sent], Result],
        items: Sequence[Sent],
        charge: Callable[[Sent, str], Result],
    ) -> Future[list[Result]]:
        """Call a function with each of several hostile items, each at most ITEM_S."""

        def charged(item: Sent, ended: _Ended) -> Result:
            return charge(item, "DECODE_TIMEOUT" if ended.hung else "DECODE_CRASH")

        return self._threads.submit(self._results, function, items, ITEM_S, 2, charged)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Ask the workers to stop, and wait for their threads, which then end.

        A training ends its step and keeps its state (`flows.answer.stopping`); whatever else is at
        work dies at once, as it has no handler. What lives after STOP_S, or when a second signal
        comes, is killed.
        """
        with self._lock:
            self._closed = True
            workers = list(self._alive)
        until = time.monotonic() + STOP_S
        try:
            for worker in workers:
                worker.process.terminate()
                # One that stands still takes no signal.
                worker.process.send_signal(signal.SIGCONT)
            for worker in workers:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(max(0.0, until - time.monotonic()))
        finally:
            for worker in workers:
                worker.process.kill()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        for worker in workers:
            worker.end()

    def _call(self, call: Callable[[], Result]) -> Result:
        def lost(_call: Callable[[], Result], ended: _Ended) -> NoReturn:
            raise StorageError(
                f"{DEATHS} worker processes died at one unit of work ({ended}), {_ADVICE}"
            )

        return self._results(_called, [call], None, DEATHS, lost)[0]

    def _results(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        limit_s: float | None,
        deaths: int,
        lost: Callable[[Item, _Ended], Result],
    ) -> list[Result]:
        """Return function(item) for each item; `lost` of what ends as many workers in a row."""
        called, packed = pickle.dumps(function), [pickle.dumps(item) for item in items]
        results: list[Result] = []
        early = late = 0
        while len(results) < len(items):
            worker = self._worker()
            loaded = False
            try:
                worker.send((called, packed[len(results) :]))
                worker.receive(START_S)
                loaded, early = True, 0
                while len(results) < len(items):
                    results.append(worker.receive(limit_s))
                    late = 0
            except _Ended as ended:
                self._end(worker)
                if self._closed:
                    raise
                if not loaded:
                    early += 1
                    if early == STARTS:
                        raise StorageError(
                            f"{STARTS} worker processes ended before they worked ({ended}), "
                            f"{_ADVICE}"
                        ) from ended
                    continue
                late += 1
                if late == deaths:
                    results.append(lost(items[len(results)], ended))
                    late = 0
            except BaseException:  # whatever it is, the pipe may hold the rest of an answer
                self._end(worker)
                raise
            else:
                self._idle.append(worker)
        return results

    def _worker(self) -> _Worker:
        with self._lock:
            if self._closed:
                raise _Ended("closed")
            while self._idle:
                worker = self._idle.pop()
                if worker.process.poll() is None:
                    return worker
                self._alive.discard(worker)
                worker.end()
            worker = _Worker(self._isolated)
            self._alive.add(worker)
            return worker

    def _end(self, worker: _Worker) -> None:
        worker.end()
        with self._lock:
            self._alive.discard(worker)


class _Ended(Exception):
    """A worker died, or it stood still and was given up."""

    def __init__(self, how: str, hung: bool = False) -> None:
        super().__init__(how)
        self.hung = hung


class _Worker:
    """A process and the pipe to it, which no other process holds."""

    def __init__(self, isolated: bool) -> None:
        self.pipe, theirs = socket.socketpair()
        self._received = bytearray()
        with theirs:
            program = _PROGRAM.format(path=sys.path, descriptor=theirs.fileno(), isolated=isolated)
            self.process = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def send(self, message: object) -> None:
        """Hand a message over; a worker that lives reads at once."""
        data = pickle.dumps(message)
        self.pipe.settimeout(STALL_S)
        try:
            self.pipe.sendall(_SIZE.pack(len(data)))
            self.pipe.sendall(data)
        except OSError as error:
            raise self._ended() from error

    def receive(self, limit_s: float | None) -> Any:
        """Return the next answer, or raise the error that is the answer.

        Raises:
            _Ended: the worker died, or the answer did not begin within the limit.
        """
        (size,) = _SIZE.unpack(self._read(_SIZE.size, limit_s))
        # A worker has this process's own rights: isolation limits what it uses, not what it may.
        result, error = pickle.loads(self._read(size, STALL_S))
        if error is not None:
            raise error
        return result

    def end(self) -> None:
        """Kill the process; one that the kernel does not let die is left behind."""
        self.process.kill()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(END_S)
        self.pipe.close()

    def _read(self, size: int, limit_s: float | None) -> bytes:
        until = math.inf if limit_s is None else time.monotonic() + limit_s
        while len(self._received) < size:
            # A child of the worker may hold the pipe open after its death: look at both.
            self.pipe.settimeout(max(0.001, min(LOOK_S, until - time.monotonic())))
            try:
                # Small answers come several at a time.
                piece = self.pipe.recv(min(max(size - len(self._received), 1 << 16), 1 << 20))
            except TimeoutError as error:
                if self.process.poll() is not None:
                    raise self._ended() from error
                if time.monotonic() >= until:
                    raise _Ended("no answer in time", hung=True) from error
                continue
            except OSError as error:
                raise self._ended() from error
            if not piece:
                raise self._ended()
            self._received += piece
            until = time.monotonic() + STALL_S
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def _ended(self) -> _Ended:
        self.end()
        code = self.process.returncode
        return _Ended("killed" if code is None else _how(code))


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _called(call: Callable[[], Result]) -> Result:
    return call()


# ------------------------------------------------------------------ in the worker's process


def serve(descriptor: int, isolated: bool) -> None:
    """Answer requests until the parent closes the pipe: the program of a worker."""
    pipe = socket.socket(fileno=descriptor)
    _end_with_parent(pipe)
    if isolated:
        # A worker that is not isolated starts in a fraction of the time without it.
        from contracts import decode

        decode.limit_process(MEMORY_BYTES, cpu_s=24 * 3600)
    # A training that was asked to stop ends with a KeyboardInterrupt: nobody waits for its answer.
    with suppress(OSError, KeyboardInterrupt), pipe.makefile("rb") as requests:
        while head := requests.read(_SIZE.size):
            called, packed = pickle.loads(requests.read(*_SIZE.unpack(head)))
            for answer in _answers(called, packed):
                pipe.sendall(_SIZE.pack(len(answer)) + answer)


def _answers(called: bytes, packed: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the pickled answers: that the function is here, then one an item or an error."""
    try:
        function = pickle.loads(called)
        yield pickle.dumps((None, None))
        for data in packed:
            yield pickle.dumps((function(pickle.loads(data)), None))
    except Exception as error:  # the worker boundary: the parent raises it
        yield _packed_error(error)


def _packed_error(error: Exception) -> bytes:
    if isinstance(error, AttributeError) and "module '__main__'" in str(error):
        error = ConfigError(
            f"a worker process cannot import from the main script: {error}. Put it into a module."
        )
    error.add_note(f"In a worker process:\n{traceback.format_exc()}")
    try:
        data = pickle.dumps((None, error))
        pickle.loads(data)
    except Exception:  # an error of a class that cannot travel
        return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}")))
    return data


def _end_with_parent(pipe: socket.socket) -> None:
    """End this process when the parent does, idle or at work."""
    if sys.platform == "linux":
        import ctypes

        # PR_SET_PDEATHSIG: the kernel kills also what never lets a Python thread run.
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    threading.Thread(target=_watch, args=(pipe.fileno(),), daemon=True).start()


def _watch(descriptor: int) -> None:
    closed = select.poll()
    closed.register(descriptor, select.POLLHUP)
    closed.poll()
    os._exit(0)


def _dask(address: str) -> Any:
    try:
        from distributed import Client

        client: Any = Client
        return client(address, timeout="30s")
    except ImportError as error:
        raise ConfigError("--dask needs dask: pip install 'dask[distributed]'.") from error
    except (OSError, TimeoutError) as error:
        raise ServiceError(f"{address}: no Dask scheduler answers: {error}") from error
