"""adamite.torch against torch.optim: interleaved in one process, medians and ratios."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import swa_utils

import adamite.torch as ours
from adamite.lab.bench import SHAPES, SIZE, Row, Step, compare, promised

_FUSED = ("SGD", "Adagrad", "Adam", "AdamW")
_LOOPED = ("RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam")


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made."""
    yield from _small(2 * rounds)
    yield from _many(3 * rounds)
    yield from _end_to_end(rounds)
    yield from _whole_update(size // 4, rounds)
    yield from _large(size, rounds)


def cases() -> int:
    """The number of rows that `bench` yields."""
    return 3 + 2 * 3 + (3 + 2) + 3 + 3 + 2 * (len(_FUSED) + len(_LOOPED))


def _small(rounds: int) -> Iterator[Row]:
    """Two parameters of one element: nothing but overhead."""
    kinds = _peers("Adam", [(), ()], ("fused", "default"))
    rows = compare("2 parameters", kinds, rounds, repeat=2000, yardstick="torch fused")
    yield from (replace(row, ratio=None, bar=7e-6) if row.name == "adamite" else row for row in rows)


def _many(rounds: int) -> Iterator[Row]:
    kinds_of: list[tuple[str, list[tuple[int, ...]], float]] = [
        ("160 tensors, 1.9M", SHAPES, 0.7),
        ("1,000 tensors of 100", [(100,)] * 1000, 0.2),
    ]
    for case, shapes, bar in kinds_of:
        kinds = _peers("AdamW", shapes, ("fused", "default"))
        yield from compare(case, kinds, rounds, yardstick="torch fused", bars={"adamite": bar})


def _large(size: int, rounds: int) -> Iterator[Row]:
    """Every class that torch has, against its fastest step in torch."""
    case = f"{size / 1e6:g}M float32"
    for name in ("AdamW", *(n for n in _FUSED if n != "AdamW"), *_LOOPED):
        peer = "fused" if name in _FUSED else "default"
        kinds = {f"{label}: {name}": step for label, step in _peers(name, [(size,)], (peer,)).items()}
        bar = 1.03 if name == "AdamW" else 0.2 if peer == "default" else None
        bars = {} if bar is None else promised(size, {f"adamite: {name}": bar})
        yield from compare(case, kinds, rounds, yardstick=f"torch {peer}: {name}", bars=bars)


def _peers(name: str, shapes: list[tuple[int, ...]], peers: tuple[str, ...]) -> dict[str, Step]:
    return {
        **{f"torch {peer}": _step(getattr(torch.optim, name), shapes, fused=peer == "fused") for peer in peers},
        "adamite": _step(getattr(ours, name), shapes, fused=False),
    }


def _step(cls: Any, shapes: list[tuple[int, ...]], fused: bool) -> Step:
    params = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    for p in params:
        p.grad = torch.randn_like(p)
    step: Step = cls(params, **{"fused": True} if fused else {}).step
    return step


# ---- clipping, the step and the average of the weights


def _whole_update(size: int, rounds: int) -> Iterator[Row]:
    kinds = {
        "torch fused": _updates(size, fused=True),
        "torch default": _updates(size, fused=False),
        "adamite": _our_updates(size),
    }
    case = f"clip + AdamW + EMA, 4 × {size / 1e6:g}M"
    yield from compare(case, kinds, rounds, yardstick="torch fused", bars=promised(4 * size, {"adamite": 0.75}))


def _model(size: int) -> nn.ParameterList:
    made = nn.ParameterList(nn.Parameter(torch.randn(size)) for _ in range(4))
    for p in made:
        p.grad = torch.randn_like(p)
    return made


def _updates(size: int, fused: bool) -> Step:
    model = _model(size)
    optimizer = torch.optim.AdamW(model.parameters(), fused=fused)
    decay: Any = swa_utils.get_ema_multi_avg_fn(0.999)  # type: ignore[no-untyped-call]
    averaged = swa_utils.AveragedModel(model, multi_avg_fn=decay)

    def update() -> None:
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        averaged.update_parameters(model)

    return update


def _our_updates(size: int) -> Step:
    model = _model(size)
    optimizer = ours.AdamW(model.parameters(), clip_norm=1.0, ema=0.999)
    return functools.partial(optimizer.step)


# ---- training


def _end_to_end(rounds: int) -> Iterator[Row]:
    """A training step, with its forward and backward pass."""
    for case, model, repeat, bars in (
        ("MLP 64-64-10, batch 32", _mlp, 300, {"torch fused": 1 / 1.35, "torch default": 1 / 1.9}),
        ("transformer, 0.8M", _transformer, 3, {"torch fused": 1.0}),
    ):
        kinds = {
            "torch fused": model(functools.partial(torch.optim.AdamW, fused=True)),
            "torch default": model(torch.optim.AdamW),
            "adamite": model(ours.AdamW),
        }
        rows = list(compare(case, kinds, 3 * rounds, repeat, yardstick="torch fused"))
        yield from (replace(row, bar=bars["torch fused"]) if row.name == "adamite" else row for row in rows)
        if "torch default" in bars:
            kinds.pop("torch fused")
            rows = list(compare(case, kinds, 3 * rounds, repeat, yardstick="torch default"))
            yield from (replace(row, bar=bars["torch default"]) if row.name == "adamite" else row for row in rows)


def _training(model: nn.Module, optimizer: Any, loss: Callable[[], Tensor]) -> Step:
    def step() -> None:
        optimizer.zero_grad()
        loss().backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def _mlp(optimizer: Any) -> Step:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    x, y = torch.randn(32, 64), torch.randint(0, 10, (32,))
    return _training(model, optimizer(model.parameters()), lambda: functional.cross_entropy(model(x), y))


def _transformer(optimizer: Any) -> Step:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
    model = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
    x = torch.randn(4, 32, 128)
    return _training(model, optimizer(model.parameters()), lambda: model(x).square().mean())
