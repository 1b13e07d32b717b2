"""bfloat16 and 8-bit states against float32: time, bytes, the limit that the bytes set, and installed peers.

`bytes` is what a step reads and writes for a parameter. `limit` is the ratio of these to float32's, and beside it what
the format adds in arithmetic: how much longer a step takes on a tensor that stays in the cache, over float32's time in
memory. What is promised of AdamW depends on the machine: where all threads move at most 65 GB/s the bytes decide, else
arithmetic.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import resource
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import adamite
import adamite.torch as ours
from adamite.engine import threads
from adamite.lab.bench import SIZE, Row, Step, compare, judged, promised, yours

MORE = ("bytes", "limit")  # further columns
SLOW = 65.0  # GB/s that float32 moves
PEERS = {"bitsandbytes": "bitsandbytes.optim", "torchao": "torchao.optim"}
FASTER = 40  # times as fast as the peers
STATE_BYTES = 2.1  # per parameter, for 8-bit AdamW
MARGIN = 1.15  # over the limit, for any rule
_CACHED = 16_384, 65_536  # elements that fit the second-level cache; the overhead cancels in the difference


@dataclass(frozen=True)
class ByteRow(Row):
    """A measurement, with the bytes per parameter."""

    bytes: float | None = None
    arithmetic: float | None = None  # that the format adds, as a fraction of float32's time
    limit: float | None = None  # the ratio of the bytes plus the arithmetic


class Made:
    """A step of one tensor, with its optimizer."""

    def __init__(
        self, size: int, state: str = "float32", dtype: torch.dtype = torch.float32, cls: Any = ours.AdamW
    ) -> None:
        self.p = nn.Parameter(torch.randn(size).to(dtype))
        self.p.grad = torch.randn(size).to(dtype)
        narrow = {"rounding": "stochastic"} if dtype is torch.bfloat16 else {}
        self.optimizer = cls([self.p], state=state, **narrow)

    def __call__(self) -> None:
        self.optimizer.step()

    @property
    def bytes(self) -> float:
        """Bytes moved per parameter: the gradient once, the parameter and its states twice."""
        states = sum(s.nbytes for s in self.optimizer.state[self.p].values() if s.dim())
        return float(3 * self.p.element_size() + 2 * states / self.p.numel())


Make = Callable[[int], Made]
ADAMW: dict[str, Make] = {
    "float32": Made,
    "8bit": functools.partial(Made, state="8bit"),
    "bf16 weights, 8bit": functools.partial(Made, state="8bit", dtype=torch.bfloat16),
    "bfloat16 states": functools.partial(Made, state="bfloat16"),
    "all bfloat16": functools.partial(Made, state="bfloat16", dtype=torch.bfloat16),
}
PROMISES = {"8bit": (0.70, 0.80), "bf16 weights, 8bit": (0.54, 0.80), "bfloat16 states": (0.80,) * 2}
PROMISES["all bfloat16"] = (0.60,) * 2
RULES: dict[str, Any] = {
    "AdaBelief": ours.AdaBelief,
    "AMSGrad": functools.partial(ours.Adam, amsgrad=True),
    "your own rule": ours.optimizer(yours),
}


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made."""
    for count in counts():
        with threads.using_threads(count):
            yield from _formats(f"AdamW, {_threads(count)}", ADAMW, size, rounds, count, _promises)
    for name, cls in RULES.items():
        kinds = {state: functools.partial(Made, state=state, cls=cls) for state in ("float32", "8bit")}
        for count in counts():
            with threads.using_threads(count):
                yield from _formats(f"{name}, {_threads(count)}", kinds, size, rounds, count, _by_the_limit)
    yield from _arrays(size, rounds)
    yield from _beside_peers(size, max(1, rounds // 3))
    yield from _memory(size)


def cases() -> int:
    """The number of rows that `bench` yields."""
    return len(counts()) * (len(ADAMW) + 2 * len(RULES)) + 3 + 2 * (1 + len(peers())) + 2 * len(_STATES)


def said() -> str:
    """The meaning of the columns, and which peers are missing."""
    missing = [name for name in PEERS if name not in peers()]
    return (
        "Medians of interleaved rounds in one process; ratio: to the case's yardstick, the median over rounds. bytes: "
        "that a step reads and writes a parameter; of memory, a parameter's states in resident memory. limit: the "
        "ratio of the bytes, and what the format adds in arithmetic. Machines are noisy: trust ratios, and repeat."
        + (f" Not installed, and left out: {', '.join(missing)}." if missing else "")
    )


def counts() -> list[int]:
    """The numbers of threads: all, and one."""
    return sorted({1, threads.threads()}, reverse=True)


def _threads(count: int) -> str:
    return "one thread" if count == 1 else f"{count} threads"


# ---- formats against float32


def _formats(
    case: str,
    kinds: Mapping[str, Make],
    size: int,
    rounds: int,
    threads: int,
    promise: Callable[[ByteRow, float, int], float | None],
) -> Iterator[ByteRow]:
    """Steps of one large tensor, float32's first."""
    cached = {name: _in_cache(make) for name, make in kinds.items()}
    made = {name: make(size) for name, make in kinds.items()}
    rows = list(compare(case, dict(made), rounds, yardstick="float32"))
    plain, speed = rows[0].seconds, 0.0
    for row in rows:
        moved = made[row.name].bytes
        gigabytes = moved * size / row.seconds / 1e9
        speed = speed or gigabytes
        more = max(0.0, cached[row.name] - cached["float32"]) * size / threads / plain
        limit = moved / made["float32"].bytes + more
        byte_row = ByteRow(**{**asdict(row), "gigabytes": gigabytes}, bytes=moved, arithmetic=more, limit=limit)
        yield ByteRow(**{**asdict(byte_row), "bar": promise(byte_row, speed, threads) if judged(size) else None})


def _promises(row: ByteRow, speed: float, threads: int) -> float | None:
    if threads == 1:
        return 0.95 if row.name == "8bit" else None
    slow, fast = PROMISES.get(row.name, (None, None))
    return slow if speed <= SLOW else fast


def _by_the_limit(row: ByteRow, speed: float, threads: int) -> float | None:
    return None if row.name == "float32" or row.limit is None else MARGIN * row.limit


def _in_cache(make: Make) -> float:
    """Seconds per element, on one thread, of a step whose tensors stay in the cache."""
    with threads.using_threads(1):
        small, large = (_shortest(make(size)) for size in _CACHED)
    return (large - small) / (_CACHED[1] - _CACHED[0])


def _shortest(step: Step, repeat: int = 20, rounds: int = 25) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(repeat):
            step()
        times.append((time.perf_counter() - began) / repeat)
    return statistics.quantiles(times, n=4)[0]


def _arrays(size: int, rounds: int) -> Iterator[ByteRow]:
    """NumPy's arrays."""
    g = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    cls: Any = adamite.AdamW
    optimizers = {state: cls(np.zeros(size, np.float32), state=state) for state in _STATES}
    steps: dict[str, Step] = {state: functools.partial(opt.step, g) for state, opt in optimizers.items()}
    for row in compare("AdamW, NumPy's arrays", steps, rounds, yardstick="float32"):
        states = sum(array.nbytes for slot in optimizers[row.name]._slots for array in slot.states.values())
        moved = 12 + 2 * states / size
        yield ByteRow(**{**asdict(row), "gigabytes": moved * size / row.seconds / 1e9}, bytes=moved)


# ---- peers


@functools.cache
def peers() -> dict[str, Any]:
    """8-bit AdamW of the libraries that are installed and work here."""
    installed = {}
    for name, module in PEERS.items():
        if importlib.util.find_spec(name) is None:
            continue
        try:
            with _quiet():
                cls = importlib.import_module(module).AdamW8bit
                _peer(cls, 4096)()  # torchao compiles it, which needs a compiler
        except Exception:  # whatever it lacks
            continue
        installed[name] = cls
    return installed


def _beside_peers(size: int, rounds: int) -> Iterator[Row]:
    ours_, case = Made(size, "8bit"), "8bit beside {}"
    fused: Step = functools.partial(_peer, torch.optim.AdamW, fused=True)(size)
    yield from compare(case.format("torch"), {"torch fused, float32": fused, "adamite 8bit": ours_}, 3 * rounds)
    for name, cls in peers().items():
        with _quiet():
            kinds: dict[str, Step] = {name: _peer(cls, size), "adamite 8bit": ours_}
            rows = list(compare(case.format(name), kinds, rounds, bars=promised(size, {"adamite 8bit": 1 / FASTER})))
        yield from rows


def _peer(cls: Any, size: int, **options: Any) -> Step:
    p = nn.Parameter(torch.randn(size))
    p.grad = torch.randn(size)
    step: Step = cls([p], **options).step
    return step


class _quiet(warnings.catch_warnings):
    """Silences the peers' warnings and logs."""

    def __enter__(self) -> None:
        super().__enter__()
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)

    def __exit__(self, *failed: Any) -> None:
        logging.disable(logging.NOTSET)
        super().__exit__(*failed)


# ---- memory

_STATES = ("float32", "8bit", "bfloat16")


def _memory(size: int) -> Iterator[ByteRow]:
    """Resident memory of the states, and the peak, each in a process of its own."""
    for state in _STATES:
        code = f"from adamite.lab.bench_bytes import resident; print(*resident({size}, {state!r}))"
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - began
        resident, most = map(float, done.stdout.split())
        bar = STATE_BYTES if state == "8bit" and judged(size) else None
        for name, byte_count, limit in ((state, resident, bar), (f"{state}, at most", most, None)):
            yield MemoryRow("resident memory", name, seconds, bar=limit, bytes=byte_count)


@dataclass(frozen=True)
class MemoryRow(ByteRow):
    """A row whose promise is about the bytes of state per parameter."""

    @property
    def kept(self) -> bool | None:
        return None if self.bar is None or self.bytes is None else self.bytes <= self.bar


def resident(size: int, state: str) -> tuple[float, float]:
    """Bytes per parameter that the first step adds: afterwards, and at the peak."""
    Made(65_536, state)()  # compiles it
    p = nn.Parameter(torch.ones(size))
    p.grad = torch.ones(size)
    before = _resident()
    cls: Any = ours.AdamW
    optimizer = cls([p], state=state)
    optimizer.step()
    return (_resident() - before) / size, (_most() - before) / size


def _most() -> int:
    """The peak resident memory of this process; getrusage's number includes its parent's."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
