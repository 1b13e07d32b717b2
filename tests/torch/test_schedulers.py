"""Every scheduler and averager of torch, and its gradient scaler, around our optimizers."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler, swa_utils

import adamite.torch as ours
from tests.torch.race import copied, distance, give, gradient, pair, parameters, params_of, same, starts

pytestmark = pytest.mark.usefixtures("double")

SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: lr_scheduler.LambdaLR(o, lambda n: 0.9**n),
    "MultiplicativeLR": lambda o: lr_scheduler.MultiplicativeLR(o, lambda n: 0.95),
    "StepLR": lambda o: lr_scheduler.StepLR(o, 3),
    "MultiStepLR": lambda o: lr_scheduler.MultiStepLR(o, [2, 6]),
    "ConstantLR": lambda o: lr_scheduler.ConstantLR(o, 0.3, 4),
    "LinearLR": lambda o: lr_scheduler.LinearLR(o, total_iters=6),
    "ExponentialLR": lambda o: lr_scheduler.ExponentialLR(o, 0.8),
    "PolynomialLR": lambda o: lr_scheduler.PolynomialLR(o, 10, 2.0),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 8),
    "CosineAnnealingWarmRestarts": lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 0.001, 0.1, step_size_up=3),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=20),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.9)], [3]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler(
        [lr_scheduler.ConstantLR(o, 0.1, 3), lr_scheduler.ExponentialLR(o, 0.9)]
    ),
    "ReduceLROnPlateau": lambda o: lr_scheduler.ReduceLROnPlateau(o, patience=1),
    "SWALR": lambda o: swa_utils.SWALR(o, 0.05, anneal_epochs=3),
}


def test_none_is_left_out() -> None:
    found = {
        name
        for name, kind in inspect.getmembers(lr_scheduler, inspect.isclass)
        if issubclass(kind, lr_scheduler.LRScheduler)
        and not name.startswith("_")
        and name.endswith(("LR", "Restarts", "Scheduler", "Plateau"))
    }
    assert found - {"LRScheduler"} <= set(SCHEDULERS)


def scheduled(optimizer: Any, scheduler: Any, steps: range) -> list[float]:
    rates = []
    for step in steps:
        give(params_of(optimizer), step)
        optimizer.step()
        if isinstance(scheduler, lr_scheduler.ReduceLROnPlateau):
            scheduler.step(1.0)
        else:
            scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    return rates


@pytest.mark.parametrize(("name", "options"), [("AdamW", {}), ("SGD", {"momentum": 0.9}), ("RAdam", {})])
@pytest.mark.parametrize("kind", SCHEDULERS)
def test_the_same_rates_and_trajectory(kind: str, name: str, options: dict[str, Any]) -> None:
    theirs, mine = pair(name, parameters(), lr=0.02, **options)
    start = starts(theirs)
    schedulers = [SCHEDULERS[kind](optimizer) for optimizer in (theirs, mine)]
    rates = [scheduled(o, s, range(12)) for o, s in zip((theirs, mine), schedulers, strict=True)]
    assert rates[0] == rates[1]
    assert distance(mine, theirs, start) <= 1e-12
    # Saved in the middle, and gone on with.
    other = getattr(ours, name)([copied(p) for p in params_of(mine)], lr=0.02, **options)
    again = SCHEDULERS[kind](other)
    other.load_state_dict(copy.deepcopy(mine.state_dict()))
    again.load_state_dict(copy.deepcopy(schedulers[1].state_dict()))
    assert scheduled(other, again, range(12, 18)) == scheduled(theirs, schedulers[0], range(12, 18))
    assert distance(other, theirs, start) <= 1e-12


@pytest.mark.parametrize("average", [swa_utils.get_swa_multi_avg_fn(), swa_utils.get_ema_multi_avg_fn(0.9)])
def test_averaged_models(average: Any) -> None:
    found = []
    for library in (torch.optim, ours):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
        optimizer = library.AdamW(model.parameters(), lr=0.05)
        averaged = swa_utils.AveragedModel(model, multi_avg_fn=average)
        x = torch.randn(16, 3)
        for _ in range(6):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
            averaged.update_parameters(model)
        swa_utils.update_bn([x], averaged)
        found.append([p.detach() for p in averaged.parameters()])
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=1e-11)


def test_our_average_is_torchs() -> None:
    """`ema=` in the one pass, beside swa_utils' after it."""
    (p,) = parameters(((50,),))
    model = nn.Module()
    model.w = p
    mine = ours.AdamW([p], lr=0.1, ema=0.9)
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    averaged.update_parameters(model)  # the first one copies
    for step in range(8):
        p.grad = gradient(p, step)
        mine.step()
        averaged.update_parameters(model)
    with mine.averaged():
        assert torch.allclose(p, next(averaged.parameters()), rtol=1e-12)


@pytest.mark.parametrize("kind", [torch.float32, torch.float16], ids=str)
def test_gradient_scaler(kind: torch.dtype) -> None:
    found = []
    for library in (torch.optim, ours):
        torch.manual_seed(0)
        model = nn.Linear(6, 3).float()
        optimizer = library.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)
        x = torch.randn(4, 6, dtype=torch.float32)
        scales, skipped = [], []
        for step in range(10):
            optimizer.zero_grad()
            with torch.autocast("cpu", kind, enabled=kind is torch.float16):
                loss = model(x).square().mean()
            scaler.scale(loss).backward()
            if step in (2, 5):
                assert model.weight.grad is not None
                model.weight.grad[0, 0] = float("inf")
            before = model.weight.detach().clone()
            scaler.step(optimizer)
            skipped.append(torch.equal(before, model.weight))
            scaler.update()
            scales.append(scaler.get_scale())
        found.append((scales, skipped, model.weight.detach()))
    assert found[0][:2] == found[1][:2] and sum(found[0][1]) == 2
    assert torch.allclose(found[0][2], found[1][2], rtol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # of torch's own tracer
@pytest.mark.parametrize("inside", [False, True])
def test_compiled_models(inside: bool) -> None:
    """A compiled model, and a compiled function in which the step itself stands."""
    found = []
    x = torch.randn(8, 3, generator=torch.Generator().manual_seed(1))
    for library in (torch.optim, ours):
        torch.manual_seed(0)
        torch._dynamo.reset()
        model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1))
        compiled = torch.compile(model, backend="aot_eager")
        optimizer = library.Adam(model.parameters(), lr=0.05)

        def train(compiled: Any = compiled, optimizer: Any = optimizer) -> Any:
            optimizer.zero_grad()
            loss = compiled(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss.detach()

        step = torch.compile(train, backend="eager") if inside and library is ours else train
        found.append([float(step()) for _ in range(6)])
    assert found[1] == pytest.approx(found[0], rel=1e-10)


def test_accumulated_gradients() -> None:
    theirs, mine = pair("AdamW", parameters())
    start = starts(theirs)
    for optimizer in (theirs, mine):
        for step in range(6):
            optimizer.zero_grad(set_to_none=False) if step % 2 else optimizer.zero_grad()
            for index, p in enumerate(params_of(optimizer)):
                for part in range(3):
                    g = gradient(p, 10 * step + part, index)
                    p.grad = g if p.grad is None else p.grad.add_(g)
            optimizer.step()
    assert distance(mine, theirs, start) <= 1e-12


def test_a_zero_rate_leaves_parameters_alone() -> None:
    """As the checkpoints of torch.distributed make an optimizer's states."""
    for cls in ours.OPTIMIZERS.values():
        mine: Any = cls(parameters(), lr=0.0, weight_decay=0.1)
        before = [p.detach().clone() for p in params_of(mine)]
        for p in params_of(mine):
            p.grad = torch.zeros_like(p)
        mine.step()
        assert same([p.detach() for p in params_of(mine)], before)
