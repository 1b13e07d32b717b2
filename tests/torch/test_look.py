"""Tensors read by machine code, against what torch says of them."""

from __future__ import annotations

import pytest
import torch

import adamite.torch as ours
from adamite.readers.job import STATES, G, Job, X
from adamite.torch import look
from tests.torch.race import parameters, run, same, snapshot


def test_it_reads_here() -> None:
    assert look.available()


@pytest.mark.parametrize("dtype", look._TYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (3, 2), (0, 4), (2, 1, 3, 2), (1, 2, 3, 1, 2)], ids=str)
def test_what_it_reads_and_what_it_leaves_to_python(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    kept = dtype if dtype.is_complex else torch.float32
    x = torch.nn.Parameter(torch.zeros(3, *shape, dtype=dtype)[1])
    m = torch.zeros(4, *shape, dtype=kept)[2]
    job = Job(1, STATES + 1)
    job.fill(X, [x.data_ptr()])
    job.fill(STATES, [m.data_ptr()])
    reader = look.Look([x], [[m]], job)
    assert reader() == look.OTHER
    x.grad = torch.ones(2, *shape, dtype=dtype)[1]
    assert reader() == (look.MOVED if x.numel() else look.SAME)
    assert reader() == look.SAME and job.read(G) == [x.grad.data_ptr()]
    if len(shape) > 1 and x.numel() > 1:
        x.grad = torch.ones(*reversed(shape), dtype=dtype).permute(*reversed(range(len(shape))))
        assert x.grad.stride() == x.stride() or reader() == look.OTHER
    if x.numel() > 1:
        x.grad = torch.ones((), dtype=dtype).expand(shape)
        assert reader() == look.OTHER
    x.grad = torch.ones(shape, dtype=dtype)
    assert reader() != look.OTHER
    if x.numel():
        x.data = x.data.clone()
        assert reader() == look.OTHER
        job.fill(X, [x.data_ptr()])
        assert reader() == look.SAME
        m.data = m.data.clone()
        assert reader() == look.OTHER


def test_both_readings_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for _ in range(2):
        mine = ours.AdamW(parameters(dtype=torch.float32), clip_norm=1.0)
        run(mine, range(5))
        found.append(snapshot(mine))
        monkeypatch.setattr(look, "available", lambda: False)
    assert same(*found)
