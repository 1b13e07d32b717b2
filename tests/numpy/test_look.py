"""Machine code that reads NumPy's structures sees what Python sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from adamite.codegen.job import G, Job, X
from adamite.engine.memory import address
from adamite.numpy import look

PARAMETERS = [
    np.zeros((3, 4), np.float32),
    np.zeros(()),
    np.zeros((2, 3, 4)).transpose(2, 0, 1),
    np.zeros(0),
    np.zeros(5),
]


def reader(parameters: list[Any]) -> tuple[look.Look, Job]:
    job = Job(len(parameters), 4)
    return look.Look(list(enumerate(parameters)), job), job


def gradients() -> list[Any]:
    return [np.ones_like(x) for x in PARAMETERS]


def test_it_is_used_here() -> None:
    assert look.available()


def test_it_tells_what_moved() -> None:
    parameters = [x.copy("K") for x in PARAMETERS]
    read, job = reader(parameters)
    first, second = gradients(), gradients()
    assert [read(g) for g in (first, first, second, second, first)] == [
        look.PARAMETERS_MOVED, look.SAME, look.GRADIENTS_MOVED, look.SAME, look.GRADIENTS_MOVED
    ]  # fmt: skip
    assert job.read(X) == [address(x) for x in parameters]
    assert job.read(G) == [address(g) for g in first]


OTHERS: dict[str, tuple[int, Any]] = {
    "another type": (0, np.ones((3, 4))),
    "the other byte order": (4, np.ones(5).astype(">f8")),
    "integers": (4, np.ones(5, int)),
    "another shape": (0, np.ones((4, 3), np.float32)),
    "another number of axes": (0, np.ones(12, np.float32)),
    "another order": (0, np.ones((4, 3), np.float32).T),
    "every other": (4, np.ones(10)[::2]),
    "backwards": (4, np.ones(5)[::-1]),
    "unaligned": (4, np.frombuffer(bytes(41), np.uint8)[1:].view(np.float64)),
    "none": (1, None),
    "a number": (1, np.float64(1)),
    "a Python number": (1, 1.0),
    "a list": (4, [1.0] * 5),
    "a subclass": (4, np.ones(5).view(np.matrix).reshape(1, 5)),
    "a masked array": (4, np.ma.ones(5)),
}


@pytest.mark.parametrize("case", OTHERS)
def test_it_names_the_row_that_differs(case: str) -> None:
    row, other = OTHERS[case]
    read, _ = reader(PARAMETERS)
    found = gradients()
    found[row] = other
    assert read(found) == row + 1


@pytest.mark.parametrize("change", ["shape", "strides", "dtype", "read-only"])
def test_it_sees_a_parameter_that_was_changed_in_place(change: str) -> None:
    x: Any = np.zeros((4, 4))
    read, _ = reader([x])
    g = [np.ones((4, 4))]
    assert read(g) == look.PARAMETERS_MOVED
    if change == "shape":
        x.resize((2, 8), refcheck=False)
    elif change == "strides":
        x.__setstate__((1, (4, 4), np.dtype(float), True, bytes(128)))
    elif change == "dtype":
        x.__setstate__((1, (4, 4), np.dtype(np.int64), False, bytes(128)))
    else:
        x.flags.writeable = False
    assert read(g) == 1
