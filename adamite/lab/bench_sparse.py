"""Sparse gradients, against torch's SparseAdam and dense AdamW: a large table, a thousand rows per step."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import adamite.torch as ours
from adamite.lab.bench import SIZE, Row, Step, compare, promised

_COLUMNS = 64
_ROWS_A_STEP = 1024
_IN_A_ROW = 4  # steps of one kind per round: at the first, the caches are full of the other kinds' data


def bench(size: int = SIZE, rounds: int = 9) -> Iterator[Row]:
    """All measurements, as they are made; the table has size / 40 rows, at the default a million."""
    rows = max(_ROWS_A_STEP, size // 40)
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(rows, _COLUMNS))
    case = f"{_ROWS_A_STEP:,} rows of {rows / 1e6:g}M x {_COLUMNS}"
    kinds = {
        "torch fused, dense": _dense(table),
        "torch SparseAdam": _sparse(table, torch.optim.SparseAdam([table])),
        "adamite lazy": _sparse(table, ours.AdamW([table], sparse="lazy")),
        "adamite exact": _sparse(table, ours.AdamW([table], sparse="exact"), late=True),
    }
    bars = promised(size, {"adamite lazy": 0.02, "adamite exact": 0.1})
    yield from compare(case, kinds, 2 * rounds, _IN_A_ROW, yardstick="torch fused, dense", bars=bars)
    kinds = {name: kinds[name] for name in ("torch SparseAdam", "adamite lazy")}
    bars = promised(size, {"adamite lazy": 0.5})
    compared = compare(case, kinds, 9 * rounds, _IN_A_ROW, yardstick="torch SparseAdam", bars=bars)
    yield from (replace(row, name="adamite lazy, to SparseAdam") for row in compared if row.name == "adamite lazy")


def cases() -> int:
    """The number of rows that `bench` yields."""
    return 5


def _gradients(table: Tensor) -> list[Tensor]:
    """All rows once, in random order, in parts."""
    values = torch.randn(_ROWS_A_STEP, table.shape[1])
    parts = torch.split(torch.randperm(len(table)), _ROWS_A_STEP)
    return [
        torch.sparse_coo_tensor(part[None], values[: len(part)], table.shape, check_invariants=False) for part in parts
    ]


def _sparse(table: nn.Parameter, optimizer: Any, late: bool = False) -> Step:
    """A step on the next rows; if `late`, every row has missed as many steps as there are other parts."""
    gradients = _gradients(table)
    coming = itertools.cycle(gradients)

    def step() -> None:
        table.grad = next(coming)
        optimizer.step()

    for _ in gradients if late else gradients[:1]:
        step()
    for name in ("exp_avg", "exp_avg_sq"):
        optimizer.state[table][name] += 0.0  # pages that were never written to aren't allocated yet
    return step


def _dense(table: nn.Parameter) -> Step:
    optimizer = torch.optim.AdamW([table], fused=True)
    gradient = torch.randn_like(table)

    def step() -> None:
        table.grad = gradient
        optimizer.step()

    return step
