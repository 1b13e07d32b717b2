"""The array reading, forced where machine code would run, on tensors without memory, and its operations counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import adamite.torch as ours
from adamite.torch import OPTIMIZERS, plan
from adamite.torch.batch import ArrayBatch
from tests.torch.race import SHAPES, copied, give, parameters, params_of, relative, run, same

EXTRAS: dict[str, Any] = {"ema": 0.9, "cautious": True, "clip_norm": 1.0, "weight_decay": 0.1}


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "FORCE_ARRAYS", True)


def made(name: str, dtype: torch.dtype, **options: Any) -> Any:
    params = [
        *parameters(dtype=dtype),
        nn.Parameter(channels_last(dtype)),
        nn.Parameter(torch.zeros(6, 4, dtype=dtype).t()),
    ]
    return OPTIMIZERS[name](params, **{"momentum": 0.9} if name == "sgd" else {}, **options)


def channels_last(dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)


def late(params: Any, step: int) -> None:
    give(params, step)
    if step < 2:
        params[2].grad = None


@pytest.mark.parametrize("options", [{}, EXTRAS], ids=["plain", "extras"])
@pytest.mark.parametrize(
    ("dtype", "bar"),
    [
        (torch.float64, 1e-13),
        (torch.float32, 2e-5),
        (torch.complex64, 2e-5),
        (torch.bfloat16, 0.02),
        (torch.float16, 0.02),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_machine_codes_numbers(
    name: str, dtype: torch.dtype, bar: float, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for forced in (False, True):
        monkeypatch.setattr(plan, "FORCE_ARRAYS", forced)
        optimizer = made(name, dtype, **options)
        start = [p.detach().clone() for p in params_of(optimizer)]
        run(optimizer, range(10), late)
        assert all(isinstance(b, ArrayBatch) is forced for b in optimizer._plan.batches)
        found.append(params_of(optimizer))
    for machine, array, s in zip(*found, start, strict=True):
        if s.numel() > 1:
            assert relative(array, machine, (machine.detach() - s).abs().max().item()) <= bar


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_not_written(name: str) -> None:
    optimizer = made(name, torch.float32, maximize=True, weight_decay=0.1)
    give(params_of(optimizer), 0)
    before = [p.grad.clone() for p in params_of(optimizer)]  # type: ignore[union-attr]
    optimizer.step()
    assert same([p.grad for p in params_of(optimizer)], before)


class Count(TorchDispatchMode):
    """The operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(function))
        return function(*args, **(kwargs or {}))


def calls(name: str, count: int, device: str) -> int:
    params = [nn.Parameter(torch.ones(5, device=device)) for _ in range(count)]
    optimizer: Any = OPTIMIZERS[name](params, **{"momentum": 0.9} if name == "sgd" else {})
    for _ in range(2):
        for p in params:
            p.grad = torch.ones_like(p)
        counter = Count()
        with counter:
            optimizer.step()
    aliases = ("detach", "unsqueeze", "view", "reshape", "narrow", "slice")  # no work of a device's
    return sum(not any(alias in call for alias in aliases) for call in counter.calls)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_there_is_no_loop_over_tensors(name: str, device: str) -> None:
    few = calls(name, 3, device)
    assert calls(name, 40, device) == few <= 40


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tensors_without_memory(name: str) -> None:
    params = [nn.Parameter(torch.empty(s, device="meta")) for s in SHAPES]
    optimizer: Any = OPTIMIZERS[name](params)
    for p in params:
        p.grad = torch.empty_like(p)
    optimizer.step()
    for kept in optimizer.state.values():
        assert all(v.device.type == "meta" for v in kept.values() if v.dim())


def test_a_model_on_two_devices() -> None:
    """Each device's tensors are rows of a batch of their own."""
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.empty(3, device="meta"))]
    optimizer = ours.AdamW(params)
    alone = ours.AdamW([copied(nn.Parameter(torch.ones(3)))])
    for p in (*params, *params_of(alone)):
        p.grad = torch.ones_like(p)
    optimizer.step()
    alone.step()
    assert torch.equal(params[0], params_of(alone)[0])
