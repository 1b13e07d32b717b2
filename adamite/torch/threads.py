"""Steps run on the threads that torch computes with.

After each of its operations torch's threads go on spinning for a while, so that they are ready for the next one.
Threads of our own would have to share their cores with them: a large step takes up to 1.6 times as long then. The
library behind them (OpenMP) is in the process already, and has the one function that is needed.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch

from adamite.backends.backend import Kernel
from adamite.engine import threads

_WORTH = 100_000  # elements: a spinning thread takes 2 us to start


def employ() -> None:
    """Run large steps on torch's threads, where they can be found."""
    parallel = _openmp()
    if parallel is None:
        return

    def run(kernel: Kernel, address: int, count: int) -> None:
        if kernel.code is None:
            kernel.call(address)
        else:
            parallel(kernel.code.place, address, count, 0)

    threads.employ(threads.Crew(run, torch.get_num_threads, _WORTH))
    if hasattr(os, "register_at_fork"):  # OpenMP's threads don't survive one, and it doesn't notice
        os.register_at_fork(after_in_child=lambda: threads.employ(threads.OWN))


def _openmp() -> Any:
    """GOMP_parallel(function, argument, threads, flags) of the OpenMP library that torch has loaded."""
    if not sys.platform.startswith("linux") or "OpenMP" not in torch.__config__.parallel_info():
        return None
    libraries = _loaded(Path("/proc/self/maps"))
    try:
        parallel = ctypes.CDLL(libraries[0]).GOMP_parallel
    except (IndexError, OSError, AttributeError):
        return None
    parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    parallel.restype = None
    return parallel


def _loaded(maps: Path) -> list[str]:
    """The OpenMP libraries of this process, torch's first: other packages bring their own."""
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return []
    paths = {line.split(maxsplit=5)[-1] for line in lines if re.search(r"/lib(gomp|iomp5|omp)[^/]*\.so[.\d]*$", line)}
    return sorted(paths, key=lambda path: (f"{os.sep}torch{os.sep}" not in path, path))
