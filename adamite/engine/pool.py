"""Threads that help with one native call. They are woken and waited for with bare locks, which is fastest.

With a concurrent.futures pool a call takes some 50 us longer, as long as a step on 100,000 elements. Workers are
started when they are first needed, and again after a fork, since threads don't survive one.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress

Call = Callable[[int], None]


class _Worker:
    """A thread that does one call whenever `wanted` runs ahead of `finished`.

    Both locks are used as signals, sent by releasing them. A superfluous signal does no harm.
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
_taken: dict[str, object] = {}  # which run has the workers


def run(call: Call, address: int, count: int) -> None:
    """Make a call on `count` threads at once, including this one; only on this one if another run has the workers.

    It must be safe to repeat the call. An exception that a signal raises here is held back until all threads are done.
    """
    this = object()
    try:
        # This is one call of C: an interrupt comes before or after it, so it is always clear whose workers they are.
        if _taken.setdefault("workers", this) is not this:
            call(address)
            return
        with suppress(RuntimeError):  # the system allows no more threads: fewer will do
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
    """Start again in a forked child, where the workers don't exist."""
    global _workers, _taken
    _workers, _taken = [], {}


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
