"""Many tensors, one call: kernels, threads, norms.

A kernel is compiled once for each (update, format) and kept in memory. A job (readers/job.py) is run inline when
small, else by a pool of threads that claim ranges of it.
"""

from __future__ import annotations

import ctypes
import functools
import math
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn

import numpy as np

from adamite import pool
from adamite.errors import NonFiniteError
from adamite.readers.job import BLOCK, GRAIN, SCALE, Job
from adamite.readers.job import Kernel as Call
from adamite.storage import Format, Layout
from adamite.update import Update

# Readers are imported where they are used: most programs need one, when they make an optimizer.
if TYPE_CHECKING:
    from adamite.graph import Graph
    from adamite.readers.llvm import Compiled

Backend = Literal["llvm", "numpy"]

HOLD = 20_000  # elements up to which a call keeps the GIL: a few microseconds
_SHARE = 1 << 15  # elements that a thread claims at a time, at the least
_CLAIMS = 4  # about how often a thread claims: seldom, since each range starts cold, but so that none waits long


# ---- settings -------------------------------------------------------------------------------------


def _available() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


class Crew(NamedTuple):
    """Threads that do one call together, whose repetition does no harm."""

    run: Callable[[Kernel, int, int], None]  # a kernel on the job at an address, on so many threads
    size: Callable[[], int]  # how many there are, if nobody says
    worth: int  # elements below which waking them costs more than it saves


OWN = Crew(lambda kernel, address, count: pool.run(kernel.call, address, count), _available, 200_000)
_crew = OWN


def employ(crew: Crew) -> None:
    """Let large steps run on these threads from now on."""
    global _crew
    _crew = crew


def _from_environment() -> int:
    text = os.environ.get("ADAMITE_THREADS", "")
    if not text:
        return _crew.size()
    if not (text.isascii() and text.isdecimal() and int(text)):
        raise ValueError(f"ADAMITE_THREADS must be a whole number of at least 1, got {text!r}")
    return int(text)


_threads: int | None = None


def threads() -> int:
    """How many threads large steps use: `set_threads`, else ADAMITE_THREADS, else the cores at hand.

    With `adamite.torch` they are torch's own threads, and as many as `torch.get_num_threads()` says.
    """
    return _from_environment() if _threads is None else _threads


def set_threads(count: int | None) -> None:
    """Set how many threads large steps use; None goes back to the environment's setting.

    Raises:
        ValueError: for a count below 1.

    >>> set_threads(2)
    >>> threads()
    2
    >>> set_threads(None)
    """
    global _threads
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"set_threads takes a whole number of at least 1, or None; got {count!r}")
    _threads = count


@contextmanager
def using_threads(count: int) -> Iterator[None]:
    """Large steps inside use so many threads."""
    before = _threads
    set_threads(count)
    try:
        yield
    finally:
        set_threads(before)


# ---- kernels --------------------------------------------------------------------------------------


class Kernel(NamedTuple):
    """A compiled step, or sum of squares; `call_held` keeps the GIL. A unit of its jobs is `unit` elements."""

    call: Call
    call_held: Call
    unit: int
    code: Compiled | None = None  # owns the machine code; None for the NumPy reading


def machine() -> str:
    """This processor's architecture: x86_64, aarch64, ..."""
    import platform

    return platform.machine()


@functools.cache
def graph(update: Update) -> Graph:
    """The update's graph."""
    from adamite.graph import lower

    return lower(update)


@functools.cache
def step_kernel(update: Update, layout: Layout, backend: Backend) -> Kernel:
    """The kernel that updates every tensor of a job: length, coefficients, x, g, states, and `layout.more`."""
    steps = graph(update)
    if layout.blocks:
        from adamite.readers import blocks, llvm, numpy_blocks

        return _kernel(
            backend,
            layout.unit,
            lambda: blocks.step_text(steps, layout, machine(), llvm.cpu_name()),
            lambda: numpy_blocks.Step(steps, layout),
        )
    from adamite.readers import llvm
    from adamite.readers import numpy as interpreter

    return _kernel(
        backend,
        layout.unit,
        lambda: llvm.step_text(steps, layout, machine()),
        lambda: interpreter.step(steps, layout),
    )


@functools.cache
def idle_kernel(update: Update, format: Format, width: int, backend: Backend) -> Kernel:
    """The kernel that does steps with gradients of zero, on so many elements at once: readers/idle.py."""
    from adamite.readers import idle

    return _kernel(
        backend,
        1,
        lambda: idle.text(graph(update), format, width, machine()),
        lambda: idle.interpreted(graph(update), format),
    )


@functools.cache
def fingerprint_kernel(format: Format, backend: Backend) -> Kernel:
    """The kernel that says in a word what a row holds: readers/fingerprints.py."""
    from adamite.readers import fingerprints

    return _kernel(backend, 1, lambda: fingerprints.text(format, machine()), lambda: fingerprints.interpreted(format))


@functools.cache
def squares_kernel(format: Format, backend: Backend) -> Kernel:
    """The kernel that sums squares: blocks, elements, g, where the sums go."""
    from adamite.readers import llvm
    from adamite.readers import numpy as interpreter

    return _kernel(
        backend,
        BLOCK,
        lambda: llvm.squares_text(format, machine()),
        lambda: interpreter.squares(format),
    )


def _kernel(backend: Backend, unit: int, text: Callable[[], str], interpreted: Callable[[], Call]) -> Kernel:
    if backend == "llvm":
        from adamite.readers import llvm

        try:
            compiled = llvm.compile(text())
            return Kernel(compiled.call, compiled.call_held, unit, compiled)
        except NotImplementedError:
            raise  # our fault, not the installation's
        except (ImportError, OSError, RuntimeError, AttributeError) as error:
            _warn(f"{type(error).__name__}: {error}")
    call = interpreted()
    return Kernel(call, call, unit)


@functools.cache
def _warn(problem: str) -> None:
    warnings.warn(
        f"adamite can't compile here ({problem}); the same steps run in NumPy, several times slower. "
        "Reinstall llvmlite to mend it",
        RuntimeWarning,
        stacklevel=2,
    )


_forced: Backend | None = None


def default_backend() -> Backend:
    """llvm, unless `using` or ADAMITE_BACKEND says numpy."""
    name = _forced or os.environ.get("ADAMITE_BACKEND") or "llvm"
    if name not in ("llvm", "numpy"):
        raise ValueError(f"ADAMITE_BACKEND must be llvm or numpy, got {name!r}")
    return "numpy" if name == "numpy" else "llvm"


@contextmanager
def using(backend: Backend) -> Iterator[None]:
    """Optimizers made inside run on this backend: to compare the machine code with its reference."""
    global _forced
    before, _forced = _forced, backend
    try:
        yield
    finally:
        _forced = before


# ---- running --------------------------------------------------------------------------------------


def ready(kernel: Kernel, job: Job) -> None:
    """Raise what would stop `run`: a wrong ADAMITE_THREADS."""
    if job.total * kernel.unit >= _crew.worth:
        threads()


def run(kernel: Kernel, job: Job) -> None:
    """Do what is left of a job.

    Ctrl-C may raise out of it, with the job part done: run it again and the rest is done, each unit once.
    """
    if kernel.code is None:
        with uninterrupted():  # only machine code can be gone on with
            job.cells[GRAIN] = max(1, job.total)
            kernel.call(job.address)
        return
    cells, unit = job.cells, kernel.unit
    elements = job.total * unit
    if elements < _crew.worth or (count := min(threads(), elements // _SHARE)) < 2:
        cells[GRAIN] = job.total
        (kernel.call_held if elements < HOLD else kernel.call)(job.address)
    else:
        cells[GRAIN] = max(1, _SHARE // unit, job.total // (count * _CLAIMS))
        _crew.run(kernel, job.address, count)


def shares() -> tuple[int, int]:
    """From how many elements on other threads are worth while, and the least that each is given."""
    return _crew.worth, _SHARE


def to_the_end(step: Callable[[], None]) -> None:
    """Do a step whose repetition does what is left of it; an interrupt (Ctrl-C, a signal's) is raised after it."""
    try:
        step()
    except BaseException:
        for _ in range(8):
            with suppress(BaseException):
                step()
                break
        raise


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits until the end of the block."""
    before = signal.getsignal(signal.SIGINT)
    if before is None or threading.current_thread() is not threading.main_thread():
        yield  # not Python's to hold back; it only ever reaches the main thread
        return
    came: list[Any] = []
    signal.signal(signal.SIGINT, lambda *event: came.append(event))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came and callable(before):
            before(*came[0])


# ---- norms ----------------------------------------------------------------------------------------


class Squares:
    """The sums of squares of tensors, one reading pass, the same bits for any number of threads."""

    def __init__(self, format: Format, sizes: list[int], backend: Backend) -> None:
        self.kernel = squares_kernel(format, backend)
        self.blocks = blocks = [-(-size // BLOCK) for size in sizes]
        self.starts = np.concatenate([[0], np.cumsum(blocks)]).astype(int)
        self.sums = np.zeros(int(self.starts[-1]))
        self._running = np.zeros_like(self.sums)
        self.job = Job(len(sizes), 4)
        self.job.lengths(blocks)
        self.job.fill(1, sizes)
        self.job.fill(3, [self.sums.ctypes.data + 8 * int(start) for start in self.starts[:-1]])

    def run(
        self, addresses: list[int], scale: float = 1.0, sizes: list[int] | None = None
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The blocks' sums of (scale * x)**2, tensor after tensor.

        An address of 0 leaves its tensor out; `sizes` may be given anew, within the blocks there are.
        """
        job = self.job
        if sizes is not None:
            job.fill(1, sizes)
        job.fill(2, addresses)
        job.lengths([n if a else 0 for n, a in zip(self.blocks, addresses, strict=True)])
        ctypes.c_double.from_address(job.address + 8 * SCALE).value = scale
        self.sums[...] = 0.0
        job.rewind()
        run(self.kernel, job)
        return self.sums

    def total(self, before: float = 0.0, tensor: int | None = None) -> float:
        """The sum over all tensors, or over one, after what came before."""
        part = slice(None) if tensor is None else slice(self.starts[tensor], self.starts[tensor + 1])
        running = self._running[part]
        running[...] = self.sums[part]
        return total(running, before)


def total(sums: np.ndarray[Any, np.dtype[np.float64]], before: float = 0.0) -> float:
    """The sum in index order, after what came before, so that it has the same bits everywhere."""
    if not sums.size:
        return before
    sums[0] += before
    return float(np.add.accumulate(sums, out=sums)[-1])


def clip_factor(norm: float, limit: float) -> float:
    """What gradients of this norm are multiplied by, so that their norm is at most the limit."""
    return 1.0 if norm <= limit else limit / norm


class Norm(NamedTuple):
    """The norm of all gradients, times `scale`, which keeps its square in range; `bad` ones hold NaN or infinity."""

    scaled: float
    scale: float
    bad: Sequence[str]

    @property
    def value(self) -> float:
        return self.scaled / self.scale

    def clip(self, limit: float | None) -> float:
        """What the gradients are multiplied by, so that their norm is at most the limit."""
        return 1.0 if limit is None else clip_factor(self.scaled, limit * self.scale)


def norm(square: Callable[[float], float], nonfinite: Callable[[], Sequence[str]]) -> Norm:
    """The norm of gradients of any size: `square` sums scaled squares, `nonfinite` names the bad ones."""
    total = square(1.0)
    bad: Sequence[str] = ()
    scale = 1.0
    if not math.isfinite(total):
        bad = nonfinite()
        scale = 1.0 if bad else 2.0**-600  # the squares overflow, the norm needn't
    elif total < 2.0**-900:
        scale = 2.0**600  # they may have vanished
    return Norm(math.sqrt(total if scale == 1.0 else square(scale)), scale, bad)


def refuse_nonfinite(
    step: int, bad: Sequence[str], then: str = 'Nothing was changed; lower lr or clip, or take nonfinite="skip"'
) -> NoReturn:
    """Raise what nonfinite="raise" promises."""
    shown = ", ".join(repr(n) for n in bad[:5]) + (f" and {len(bad) - 5} more" if bad[5:] else "")
    raise NonFiniteError(f"step {step}: the gradient of {shown} has NaN or infinity. {then}")
