"""Tensors read by machine code, against what torch says of them."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

import adamite.torch as ours
from adamite.codegen.job import STATES, G, Job, X
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
    reader = look.Look([x], [dtype], [[m]], job)
    assert not reader()
    x.grad = torch.ones(2, *shape, dtype=dtype)[1]
    assert reader() and job.read(G) == [x.grad.data_ptr()]
    if len(shape) > 1 and x.numel() > 1:
        x.grad = torch.ones(*reversed(shape), dtype=dtype).permute(*reversed(range(len(shape))))
        assert x.grad.stride() != x.stride()
        assert not reader()
    if x.numel() > 1:
        x.grad = torch.ones((), dtype=dtype).expand(shape)
        assert not reader()
    x.grad = torch.ones(shape, dtype=dtype)
    assert reader()
    if x.numel():
        x.data = x.data.clone()
        assert not reader()
        job.fill(X, [x.data_ptr()])
        assert reader()
        m.data = m.data.clone()
        assert not reader()


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="dicts have no mark there")
@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(m=torch.zeros(2)),
        lambda d: d.__setitem__("m", torch.zeros(2)),
        lambda d: d.pop("m"),
        lambda d: d.clear(),
        lambda d: d.update(other=1),
    ],
)
def test_a_changed_dict_is_noticed(change: Callable[[dict[str, object]], object]) -> None:
    x, m = torch.nn.Parameter(torch.zeros(2)), torch.ones(2)
    x.grad = torch.ones(2)
    job = Job(1, STATES + 1)
    job.fill(X, [x.data_ptr()])
    job.fill(STATES, [m.data_ptr()])
    kept: dict[str, object] = {"m": m}
    reader = look.Look([x], [x.dtype], [[m]], job)
    assert reader() and reader.notice([kept]) and reader()
    list(kept.values())  # which changes nothing
    assert reader()
    change(kept)
    assert not reader()
    assert reader.notice([kept]) and reader()


def test_gradients_of_another_type() -> None:
    x, m = torch.nn.Parameter(torch.zeros(2, dtype=torch.float16)), torch.ones(2)
    x.grad_dtype = None
    x.grad = torch.ones(3)[1:]
    job = Job(1, STATES + 1)
    job.fill(X, [x.data_ptr()])
    job.fill(STATES, [m.data_ptr()])
    assert not look.Look([x], [torch.float16], [[m]], job)()
    assert look.Look([x], [torch.float32], [[m]], job)() and job.read(G) == [x.grad.data_ptr()]


def test_both_readings_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for _ in range(2):
        mine = ours.AdamW(parameters(dtype=torch.float32), clip_norm=1.0)
        run(mine, range(5))
        found.append(snapshot(mine))
        monkeypatch.setattr(look, "available", lambda: False)
    assert same(*found)
