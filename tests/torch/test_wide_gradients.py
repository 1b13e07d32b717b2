"""Gradients of a wider type than their parameter: never rounded to the parameter's type before the step."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adamite.torch as ours
from adamite.torch import OPTIMIZERS, look, machine

NARROW = (torch.float16, torch.bfloat16)
PAIRS = [(p, g) for p in NARROW for g in (torch.float32, torch.float64)] + [(torch.float32, torch.float64)]
each_pair = pytest.mark.parametrize(("kind", "wide"), PAIRS, ids=str)


@pytest.fixture(params=["machine", "python", "arrays"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tensors looked at in machine code and in Python; and steps as array operations."""
    if request.param == "python":
        monkeypatch.setattr(look, "available", lambda: False)
    if request.param == "arrays":
        monkeypatch.setattr(machine, "FORCE_ARRAYS", True)


def parameter(values: Tensor, wide: torch.dtype) -> Any:
    p: Any = nn.Parameter(values)
    p.grad_dtype = wide
    return p


@pytest.mark.usefixtures("path")
@each_pair
def test_a_gradient_that_the_parameter_cannot_hold(kind: torch.dtype, wide: torch.dtype) -> None:
    """As torch's SGD does it."""
    large = float(torch.finfo(kind).max) * 4 if kind is not torch.bfloat16 else 3e38
    small = float(torch.finfo(kind).tiny) / 1e4
    for size, rate in ((large, 1e-3), (small, 1 / small)):
        if size > torch.finfo(wide).max or rate > 1e30:
            continue
        moved = []
        for optimizers in (torch.optim, ours):
            p = parameter(torch.zeros(1000, dtype=kind), wide)
            p.grad = torch.full((1000,), size, dtype=wide)
            optimizers.SGD([p], lr=rate).step()
            moved.append(p.detach())
        assert torch.equal(*moved) and moved[0].isfinite().all() and (moved[0] != 0).all()


@pytest.mark.usefixtures("path")
@pytest.mark.parametrize("name", OPTIMIZERS)
@each_pair
def test_a_step_is_that_of_a_wide_parameter_rounded_once(name: str, kind: torch.dtype, wide: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(37, generator=generator).to(kind)
    gradient = (torch.randn(37, generator=generator, dtype=torch.float64) * 1e3).to(wide)
    narrow, full = parameter(start.clone(), wide), nn.Parameter(start.to(wide))
    narrow.grad, full.grad = gradient.clone(), gradient.clone()
    for p in (narrow, full):
        OPTIMIZERS[name]([p], lr=0.01).step()
    assert torch.equal(narrow.detach(), full.detach().to(kind))


@pytest.mark.usefixtures("path")
def test_the_type_of_gradients_may_change_between_steps() -> None:
    p = parameter(torch.zeros(50, dtype=torch.float16), torch.float32)
    p.grad_dtype = None  # any
    q = nn.Parameter(torch.zeros(50))
    mine, theirs = ours.SGD([p], lr=0.5, momentum=0.5), torch.optim.SGD([q], lr=0.5, momentum=0.5)
    for wide in (torch.float16, torch.float32, torch.bfloat16, None, torch.float64, torch.float16):
        p.grad = None if wide is None else torch.full((50,), 0.75, dtype=wide)
        q.grad = None if wide is None else torch.full((50,), 0.75)
        mine.step()
        theirs.step()
    assert torch.equal(p.detach().float(), q.detach())


def test_norms_are_of_what_was_given() -> None:
    p = parameter(torch.zeros(4, dtype=torch.float16), torch.float32)
    p.grad = torch.full((4,), 1e6)
    optimizer = ours.SGD([p], lr=1.0, clip_norm=4.0, nonfinite="raise")
    optimizer.step()
    assert optimizer.gradient_norm == 2e6
    assert p.tolist() == [-2.0] * 4


@pytest.mark.parametrize("state", ["bfloat16", "8bit"])
@pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
def test_narrow_states(state: Any, rounding: Any) -> None:
    """A bfloat16 gradient of these values is exact, so the same step comes of both."""
    gradient = torch.randn(5000, generator=torch.Generator().manual_seed(0)).bfloat16()
    moved = []
    for wide in (torch.float32, torch.float16):
        p = parameter(torch.ones(5000, dtype=torch.bfloat16), torch.float32)
        p.grad_dtype = None
        optimizer = ours.AdamW([p], lr=0.01, state=state, rounding=rounding)
        for _ in range(3):
            p.grad = gradient.to(wide)
            optimizer.step()
        moved.append(p.detach())
    assert torch.equal(*moved) and (moved[0] != 1).any()
    p.grad = gradient.double()
    with pytest.raises(ValueError, match=r"computed in float32, and the gradient of .* is of float64; make it float32"):
        optimizer.step()


@pytest.mark.parametrize("mode", ["lazy", "exact"])
def test_rows(mode: Any) -> None:
    values = torch.full((2, 3), 1e5)
    p = parameter(torch.zeros(5, 3, dtype=torch.float16), torch.float32)
    p.grad_dtype = None
    optimizer = ours.SGD([p], lr=1e-3, sparse=mode)
    p.grad = torch.sparse_coo_tensor(torch.tensor([[1, 4]]), values, (5, 3), check_invariants=True)
    optimizer.step()
    assert p[:, 0].tolist() == [0, -100, 0, 0, -100]
    p.grad = torch.sparse_coo_tensor(torch.tensor([[1, 4]]), values.double(), (5, 3), check_invariants=True)
    with pytest.raises(RuntimeError, match=r"its gradient is of float64; convert it"):
        optimizer.step()


def test_pairs_of_reals() -> None:
    """complex64 parameters with gradients of complex128."""
    p: Any = nn.Parameter(torch.zeros(3, dtype=torch.complex64))
    p.grad_dtype = torch.complex128
    p.grad = torch.full((3,), complex(1e39, -1e39), dtype=torch.complex128)
    ours.SGD([p], lr=1e-39).step()
    assert p.tolist() == [complex(-1, 1)] * 3


def test_no_step_number_is_lost() -> None:
    """A batch of another type takes the states over."""
    p = parameter(torch.zeros(3, dtype=torch.float16), torch.float32)
    p.grad_dtype = None
    optimizer = ours.AdamW([p], lr=0.1)
    for wide in (torch.float16, torch.float32):
        p.grad = torch.ones(3, dtype=wide)
        optimizer.step()
    assert int(optimizer.state[p]["step"]) == 2
    assert math.isclose(p[0].item(), -0.2, rel_tol=1e-3)
