"""Threads that help with one native call: woken and waited for by bare locks, which is what is fastest.

A concurrent.futures pool takes some 50 us longer a call here, as long as a step on 100,000 elements. Workers are made
when they are first wanted, and again after a fork, since threads don't survive one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

Call = Callable[[int], None]


class _Worker:
    """A thread that does one call whenever `wanted` runs ahead of `finished`.

    Both locks are signals, sent by releasing them; one signal too many does no harm.
    """

    def __init__(self) -> None:
        self.go, self.done = threading.Lock(), threading.Lock()
        self.go.acquire()
        self.done.acquire()
        self.wanted = self.finished = 0
        self.call: Call
        self.address: int
        threading.Thread(target=self._loop, name="adamite", daemon=True).start()

    def _loop(self) -> None:
        while True:
            self.go.acquire()
            if self.finished != self.wanted:
                self.call(self.address)
                self.finished = self.wanted
            _signal(self.done)

    def begin(self, call: Call, address: int) -> None:
        if self.finished == self.wanted:
            self.call, self.address = call, address
            self.wanted += 1
        _signal(self.go)

    def finish(self) -> None:
        while self.finished != self.wanted:
            self.done.acquire()


def _signal(lock: threading.Lock) -> None:
    with suppress(RuntimeError):  # sent already
        lock.release()


_workers: list[_Worker] = []
_taken: dict[str, object] = {}  # by which run the workers are


def run(call: Call, address: int, count: int) -> None:
    """Make a call on `count` threads at once, this one among them; alone where the workers are busy for another.

    The call must do no harm when it is repeated. What a signal raises here waits for all threads.
    """
    this = object()
    try:
        # One call of C's: an interrupt comes before it or after it, and then they are known to be this run's.
        if _taken.setdefault("workers", this) is not this:
            call(address)
            return
        with suppress(RuntimeError):  # the system gives no more threads: fewer will do
            while len(_workers) < count - 1:
                _workers.append(_Worker())
        helpers = _workers[: count - 1]
        interrupt: BaseException | None = None
        while True:
            try:
                for worker in helpers:
                    worker.begin(call, address)
                call(address)
                for worker in helpers:
                    worker.finish()
                break
            except BaseException as error:
                interrupt = error
        if interrupt is not None:
            raise interrupt
    finally:
        if _taken.get("workers") is this:
            _taken.clear()


def _forget() -> None:
    """In a forked child the workers don't exist."""
    global _workers, _taken
    _workers, _taken = [], {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
