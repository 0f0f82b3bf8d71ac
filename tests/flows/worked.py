"""What the tests of workers have done by workers; light, since each of them imports it."""

from __future__ import annotations

import os
import pickle
import re
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from contracts.errors import DataError
from flows.answer.stopping import asked

LARGE = 3 << 20


class Poison(int):
    """A number that does something to the process that unpickles it: a worker, not this one."""

    action: tuple[Any, tuple[Any, ...]] = (os._exit, (1,))

    def __reduce__(self) -> Any:
        return self.action


class Sleeper(Poison):
    action = (time.sleep, (3600,))


class Killer(Poison):
    action = (eval, ("__import__('os').kill(__import__('os').getpid(), 9)",))


def negated(item: int) -> int:
    return -item


def refusing(item: int) -> int:
    if item == 3:
        raise DataError("three is refused")
    return item


def ending_its_step(folder: Path) -> None:
    """Work until a stop is asked for, as a training does, and write down that it came."""
    with asked() as stop:
        (folder / f"{os.getpid()}.pid").touch()
        while not stop():
            time.sleep(0.01)
        time.sleep(0.1)
        (folder / f"{os.getpid()}.kept").touch()
    raise KeyboardInterrupt


def _once(folder: Path, item: object) -> bool:
    """Whether this is the first call with an item in any process."""
    try:
        (folder / str(item)).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def dying_at_work(unit: tuple[Path, int]) -> bytes:
    folder, item = unit
    if _once(folder, item):
        os.kill(os.getpid(), signal.SIGKILL)
    return item.to_bytes(8, "big")


def dying_half_way_through_the_answer(unit: tuple[Path, int]) -> bytes:
    folder, item = unit
    if _once(folder, item):
        sendall = socket.socket.sendall

        def half(self: socket.socket, data: bytes) -> None:
            sendall(self, data[: len(data) // 2])
            if len(data) > 100_000:
                os.kill(os.getpid(), signal.SIGKILL)
            sendall(self, data[len(data) // 2 :])

        socket.socket.sendall = half  # type: ignore[method-assign, assignment]
    return bytes([item]) * LARGE


def dying_after_the_answer(unit: tuple[Path, int]) -> bytes:
    folder, item = unit
    if _once(folder, item):
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes([item]) * LARGE


def dying_with_a_child_that_holds_the_pipe(unit: tuple[Path, int]) -> bytes:
    folder, item = unit
    if item == 3 and _once(folder, item):
        if not (child := os.fork()):
            time.sleep(3600)
        (folder / "child").write_text(str(child))
        os.kill(os.getpid(), signal.SIGKILL)
    return bytes([item])


def standing_still(unit: tuple[Path, int]) -> int:
    folder, item = unit
    (folder / f"{os.getpid()}.pid").touch()
    while item:
        time.sleep(3600)
    return item


def holding_the_interpreter(folder: Path) -> None:
    """Work for minutes in code that lets no other thread of this process run."""
    (folder / f"{os.getpid()}.pid").touch()
    re.match(r"(a+)+$", "a" * 64 + "b")


def seen_until_killed(payload: tuple[str, bytes]) -> Any:
    """Look at a picture; once, at the picture and the moment that the plan names, be killed."""
    from flows.ingest import decoding

    plan = Path(os.environ["WINNOW_TEST_PLAN"])
    moment, digest, share = plan.read_text().split()
    found = decoding.seen(payload)
    if found[0].hex() != digest or not _once(plan.parent, f"{plan.name}.killed"):
        return found
    if moment == "work":
        threading.Timer(0.005 * float(share), os.kill, (os.getpid(), signal.SIGKILL)).start()
        return decoding.seen(payload)
    _die_after_sending(int(float(share) * (8 + len(pickle.dumps((found, None))))))
    return found


def _die_after_sending(left: int) -> None:
    sendall = socket.socket.sendall

    def some(self: socket.socket, data: bytes) -> None:
        nonlocal left
        sendall(self, data[:left])
        if len(data) > left:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= len(data)

    socket.socket.sendall = some  # type: ignore[method-assign, assignment]


def writing_a_shard_until_killed(piece: Any) -> Any:
    """Write a shard of an export; once, be killed over the half-written file."""
    from flows.export import export
    from storage import commit

    if _once(piece.folder.parent, "killed"):
        commit.Staged(piece.folder).write(b"half a shard")
        os.kill(os.getpid(), signal.SIGKILL)
    return export._write_piece(piece)
