"""The speed of adamite and its peers: in one process, interleaved, after warm-up; medians and ratios.

The yardstick of a large step is the limit kernel: the same loads and stores through the same engine, with minimal
arithmetic (one addition per store). Peers are measured if they are installed.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import adamite
from adamite.backends import llvm
from adamite.backends.backend import Kernel
from adamite.codegen import compiler
from adamite.codegen.job import Job
from adamite.engine import kernels, running
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph, Node
from adamite.graph.numbers import Program
from adamite.language.maths import sign
from adamite.language.rule import Rule, rule
from adamite.language.update import Surroundings, build
from adamite.numpy import Optimizer, optimizer
from adamite.rules import RULES
from adamite.storage import FLOAT32, Layout

Step = Callable[[], Any]
SIZE = 40_000_000  # the size of large arrays, for which the promises hold


@dataclass(frozen=True)
class Row:
    """One measurement: the median of `rounds`, and its ratio to the yardstick's."""

    case: str
    name: str
    seconds: float
    yardstick: str = ""
    ratio: float | None = None
    bar: float | None = None  # the promise: a ratio, or seconds if there is no yardstick
    gigabytes: float | None = None  # moved per second

    @property
    def kept(self) -> bool | None:
        """Whether the promise is kept; None if there is none."""
        if self.bar is None:
            return None
        return (self.seconds if self.ratio is None else self.ratio) <= self.bar

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "kept": self.kept}


@rule
def yours(g, m, s, *, t, lr=1e-3, beta=0.9, rho=0.99):  # type: ignore[no-untyped-def]
    """A rule as a user would write it."""
    m = beta * m + (1 - beta) * g
    s = rho * s + (1 - rho) * abs(g)
    return lr * (m / (s + 1e-8) + 0.1 * sign(m)), m, s


def judged(size: int) -> bool:
    """Whether the promises about large arrays are judged at this size."""
    return size == SIZE


def promised(size: int, bars: Mapping[str, float]) -> Mapping[str, float]:
    """The promises about large arrays of this size."""
    return bars if judged(size) else {}


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made."""
    yield from start()
    yield from imports()
    yield from small(2 * rounds)
    yield from many(rounds=3 * rounds)
    yield from denormals()
    yield from large(size, rounds)


def cases() -> int:
    """The number of rows that `bench` yields, for a progress bar."""
    return 2 + len(_two()) + len(_many_peers()) + 1 + len(_large_rules()) + 1 + 2 * has_torch()


# ---- the cases ------------------------------------------------------------------------------------


def start() -> Iterator[Row]:
    """Compiling a kernel."""
    times = []
    for r in RULES.values():
        absent = frozenset(name for name, number in r.numbers.items() if number.default is None)
        began = time.perf_counter()
        update = build(r, tuple((c.name, c.default) for c in r.choices.values()), absent, Surroundings(clip=True))
        kernels.step_kernel(update, Layout(FLOAT32), "llvm")
        times.append(time.perf_counter() - began)
    yield Row("compile", "a rule, traced and compiled", statistics.median(times), bar=0.060)


def imports(rounds: int = 7) -> Iterator[Row]:
    """Importing with cached bytecode: NumPy, then how much longer importing an optimizer's class takes."""
    script = (
        "import time; t = time.perf_counter(); import numpy; u = time.perf_counter(); from adamite import Adam; "
        "print(u - t, time.perf_counter() - u)"
    )
    seconds = []
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": folder, "PYTHONDONTWRITEBYTECODE": ""}
        for _ in range(rounds + 1):  # the first compiles
            done = subprocess.run(
                [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
            )
            seconds.append([float(word) for word in done.stdout.split()])
    numpy, ours = map(statistics.median, zip(*seconds[1:], strict=True))
    yield Row("import", "adamite, beyond numpy", ours, "import numpy", ours / numpy, bar=0.5)


def small(rounds: int = 18) -> Iterator[Row]:
    """Two float64 parameters: nothing but overhead."""
    for row in compare("2 parameters", _two(), rounds, repeat=2000):
        yield row if row.name != "adamite Adam" else Row(row.case, row.name, row.seconds, bar=5e-6)


def many(rounds: int = 27) -> Iterator[Row]:
    """160 tensors of 1.9 million elements, as in a small transformer."""
    yield from compare("160 tensors, 1.9M", _many_peers(), rounds, bars={"adamite AdamW": 0.7})


def denormals() -> Iterator[Row]:
    """A step that would make all states subnormal, in a cache-resident array."""
    size = 10_000
    kinds: dict[str, Step] = {}
    for name, level in (("ordinary states", 1e-3), ("states at the smallest normal", FLOAT32.tiny)):
        x, zero = np.ones(size, np.float32), np.zeros(size, np.float32)
        opt = adamite.Adam(x)
        states = _states(opt)

        def step(opt: Optimizer = opt, states: Any = states, level: float = level, zero: Any = zero) -> None:
            for state in states:
                state.fill(level)
            opt.step(zero)

        kinds[name] = step
    rows = list(compare("zero gradients", kinds, rounds=31, repeat=50, yardstick="ordinary states"))
    yield Row(rows[1].case, rows[1].name, rows[1].seconds, rows[1].yardstick, rows[1].ratio, bar=1.5)


def large(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """Every rule on one float32 array, against its own limit; AdamW against its peers too."""
    for name, cls, settings in _large_rules():
        peers = _torch_adamw([(size,)]) if name == "AdamW" and has_torch() else {}
        for row in _beside_the_limit(name, cls(np.zeros(size, np.float32), **settings), peers, rounds):
            if row.name != "limit" or name == "AdamW":
                yield row


def own(rule: Rule, size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """A user's rule, against its limit."""
    yield from _beside_the_limit(rule.name, optimizer(rule)(np.zeros(size, np.float32)), {}, rounds)


def _beside_the_limit(name: str, opt: Optimizer, peers: Mapping[str, Step], rounds: int) -> Iterator[Row]:
    """Steps of one large array."""
    (slot,) = opt._slots
    x, size = slot.x, slot.size
    g = np.random.default_rng(0).standard_normal(size, dtype=np.float32)
    kinds: dict[str, Step] = {"limit": _limit(opt, x, g), name: functools.partial(opt.step, g), **peers}
    moved = 4 * size * (2 * (1 + len(_states(opt))) + 1)
    bars = promised(size, {name: 1.05 if name == "AdamW" else 1.10})
    for row in compare(f"{size / 1e6:g}M float32", kinds, rounds, yardstick="limit", bars=bars):
        yield Row(**{**asdict(row), "gigabytes": moved / row.seconds / 1e9})


def _two() -> dict[str, Step]:
    x, g = np.zeros(2), np.ones(2)
    opt = adamite.Adam(x)
    kinds: dict[str, Step] = {"adamite Adam": lambda: opt.step(g)}
    if has_torch():
        import torch

        kinds |= {
            f"torch {'fused' if fused else 'default'}": torch_step(
                torch.optim.Adam, [torch.zeros(2, dtype=torch.float64)], fused=fused
            )
            for fused in (True, False)
        }
    return kinds


SHAPES: list[tuple[int, ...]] = [(160, 160), (160,), (160, 200), (200,), (7, 202)] * 32


def _many_peers() -> dict[str, Step]:
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(s, dtype=np.float32) for s in SHAPES]
    grads = [rng.standard_normal(s, dtype=np.float32) for s in SHAPES]
    opt = adamite.AdamW(params)
    peers = _torch_adamw(SHAPES) if has_torch() else {}
    return {**peers, "adamite AdamW": lambda: opt.step(grads)}


def _large_rules() -> list[tuple[str, type[Optimizer], dict[str, Any]]]:
    rows: list[tuple[str, type[Optimizer], dict[str, Any]]] = [("AdamW", adamite.AdamW, {})]
    rows += [(name, optimizer(r), {}) for name, r in RULES.items()]
    rows += [
        ("sgd, momentum", adamite.SGD, {"momentum": 0.9}),
        ("rmsprop, centered", adamite.RMSprop, {"centered": True, "momentum": 0.9}),
        ("your own rule", optimizer(yours), {}),
    ]
    return rows


# ---- yardsticks and peers -------------------------------------------------------------------------


def _states(opt: Optimizer) -> list[np.ndarray[Any, Any]]:
    return [array for slot in opt._slots for array in slot.states.values()]


def _limit(opt: Optimizer, x: Any, g: Any) -> Step:
    """The limit kernel over the same tensors: x + g, and each state + g."""
    inputs = lower(opt.update).inputs
    nodes = [Node("tensor", value=name) for name in inputs]
    outputs = []
    for index, name in enumerate(inputs):
        if name != "g":
            outputs.append((name, len(nodes)))
            nodes.append(Node("add", (index, inputs.index("g"))))
    graph = Graph(inputs, tuple(outputs), tuple(nodes), 0, (), (), Program())
    code = compiler.compile(llvm.step_text(graph, Layout(FLOAT32)))
    kernel = Kernel(code.call, code.call_held, 1, code)
    job = Job(1, 2 + len(inputs))
    job.lengths([x.size])
    for column, array in enumerate([x, g, *_states(opt)], start=2):
        job.fill(column, [array.ctypes.data])

    def limit() -> None:
        job.rewind()
        running.run(kernel, job)

    return limit


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def _torch_adamw(shapes: list[tuple[int, ...]]) -> dict[str, Step]:
    import torch

    return {
        f"torch AdamW {label}": torch_step(
            torch.optim.AdamW, [torch.randn(shape) for shape in shapes], fused=label == "fused"
        )
        for label in ("fused", "default")
    }


def torch_step(cls: Any, tensors: list[Any], fused: bool) -> Step:
    import torch

    params = [torch.nn.Parameter(tensor) for tensor in tensors]
    for p in params:
        p.grad = torch.randn_like(p)
    step: Step = cls(params, fused=fused).step
    return step


def carrying(function: Callable[..., Sequence[Any]], *start: Any) -> Step:
    """A step whose arguments are what the previous step returned."""
    arguments: Sequence[Any] = start

    def step() -> None:
        nonlocal arguments
        arguments = function(*arguments)

    return step


def shown(seconds: float) -> str:
    """A time with three digits: 4.71 µs."""
    for unit, factor in (("s", 1), ("ms", 1e3)):
        if seconds * factor >= 0.9995:  # rounds to 1
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


# ---- timing ---------------------------------------------------------------------------------------


def compare(
    case: str,
    kinds: dict[str, Step],
    rounds: int,
    repeat: int = 1,
    yardstick: str | None = None,
    bars: Mapping[str, float] | None = None,
) -> Iterator[Row]:
    """Interleaved rounds; the ratio is the median over rounds of the ratio within a round."""
    for step in kinds.values():
        step()
        step()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(rounds):
        for name, step in kinds.items():
            began = time.perf_counter()
            for _ in range(repeat):
                step()
            times[name].append((time.perf_counter() - began) / repeat)
    yardstick = yardstick or next(iter(kinds))
    for name, measured in times.items():
        ratio = statistics.median(a / b for a, b in zip(measured, times[yardstick], strict=True))
        alone = len(kinds) == 1
        yield Row(
            case,
            name,
            statistics.median(measured),
            "" if alone else yardstick,
            None if alone else ratio,
            bar=None if alone else (bars or {}).get(name),
        )
