"""A polite stop of a training: at the end of a step, with its state on disk."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked() -> Iterator[Callable[[], bool]]:
    """Yield what says whether Ctrl-C or a scheduler's SIGTERM asked for a stop.

    A second signal does not wait for the step: it is a KeyboardInterrupt. One that this process
    ignores, as workers do SIGINT, stays ignored. Outside of the main thread, which alone may take
    signals, none is seen.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    came = 0

    def note(_number: int, _frame: FrameType | None) -> None:
        nonlocal came
        came += 1
        if came > 1:
            raise KeyboardInterrupt

    heard = [n for n in SIGNALS if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, note) for number in heard}
    try:
        yield lambda: came > 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
