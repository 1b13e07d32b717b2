"""What each of two processes does in the tests of distributed training; what it finds is returned as plain values."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

import adamite.torch as ours

RANKS = 2
X = torch.randn(8, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def model(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    made = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3), nn.LayerNorm(3), nn.Linear(3, 1))
    made.double()
    return made


def loss(m: nn.Module, x: Tensor) -> Tensor:
    off: Tensor = m(x) - 1
    return off.square().mean()


def train(m: nn.Module, optimizer: Any, x: Tensor = X, steps: int = 5) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        loss(m, x).backward()
        optimizer.step()


def weights(m: nn.Module) -> dict[str, Tensor]:
    return {name: whole(p) for name, p in m.named_parameters()}


def whole(value: Any) -> Tensor:
    """A tensor with the shards of all ranks."""
    value = value.detach()
    made: Tensor = value.full_tensor() if hasattr(value, "full_tensor") else value
    return made.clone()


def states(optimizer: Any) -> list[Tensor]:
    return [whole(v) for kept in optimizer.state.values() for v in kept.values()]


def sharded(seed: int = 0) -> nn.Sequential:
    from torch.distributed.fsdp import fully_shard

    m = model(seed)
    for layer in m:
        if any(True for _ in layer.parameters()):
            fully_shard(layer)
    fully_shard(m)
    return m


def share(rank: int) -> Tensor:
    return X[rank::RANKS]


def in_two_processes(work: Callable[[int, Path], Any], folder: Path) -> list[Any]:
    """What the work returns on each rank."""
    context = mp.get_context("spawn")
    processes = [context.Process(target=_enter, args=(work, rank, folder)) for rank in range(RANKS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    for process in processes:
        if process.is_alive():
            process.kill()
    if any(process.exitcode != 0 for process in processes):
        raise AssertionError("\n".join(p.read_text() for p in sorted(folder.glob("error-*"))) or "a worker hung")
    return [torch.load(folder / f"found-{rank}", weights_only=False) for rank in range(RANKS)]


def _enter(work: Callable[[int, Path], Any], rank: int, folder: Path) -> None:
    import traceback

    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(1)
    try:
        dist.init_process_group(
            "gloo",
            init_method=f"file://{folder / 'meeting'}",
            rank=rank,
            world_size=RANKS,
            timeout=datetime.timedelta(seconds=60),
        )
        torch.save(work(rank, folder), folder / f"found-{rank}")
        dist.barrier()
        os._exit(0)  # gloo's threads now and then abort a process that is taken down in order
    except BaseException:
        (folder / f"error-{rank}").write_text(traceback.format_exc())
        raise


# ---- the works


def replicated(rank: int, folder: Path) -> Any:
    """DistributedDataParallel, each class; with ZeRO's optimizer too."""
    from torch.distributed.optim import ZeroRedundancyOptimizer
    from torch.nn.parallel import DistributedDataParallel

    found = {}
    for name, options in CLASSES.items():
        m = DistributedDataParallel(model())
        train(m, getattr(ours, name)(m.parameters(), **options), share(rank))
        found[name] = weights(m.module)
    m = DistributedDataParallel(model())
    train(m, ZeroRedundancyOptimizer(m.parameters(), ours.AdamW, lr=0.01), share(rank))
    found["ZeRO"] = weights(m.module)
    return found


def fully_sharded(rank: int, folder: Path) -> Any:
    """FSDP2: each class, clipping, skipping, averages, and what kind of tensors the states are."""
    from torch.distributed.tensor import DTensor

    found: dict[str, Any] = {}
    for name, options in CLASSES.items():
        m = sharded()
        optimizer = getattr(ours, name)(m.parameters(), **options)
        train(m, optimizer, share(rank))
        found[name] = weights(m)
        for p, kept in optimizer.state.items():
            assert all(isinstance(v, DTensor) and v.placements == p.placements for v in kept.values() if v.dim())

    m = sharded()
    optimizer = ours.AdamW(m.parameters(), lr=0.01, clip_norm=0.05, ema=0.9)
    train(m, optimizer, share(rank))
    found["clipped"] = weights(m), optimizer.gradient_norm
    with optimizer.averaged():
        found["averaged"] = weights(m)

    m = sharded()
    optimizer = ours.AdamW(m.parameters(), lr=0.01, nonfinite="skip")
    train(m, optimizer, share(rank), 2)
    before = weights(m), states(optimizer)
    optimizer.zero_grad()
    loss(m, share(rank)).backward()
    grad: Any = next(m.parameters()).grad
    if rank == 1:
        grad._local_tensor[0] = float("nan")
    optimizer.step()
    found["skipped"] = before, (weights(m), states(optimizer)), optimizer.skipped
    return found


def checkpoint(rank: int, folder: Path) -> Any:
    """Saved by two ranks after five steps; the next five steps are the expectation."""
    from torch.distributed.checkpoint import state_dict_saver
    from torch.distributed.checkpoint.state_dict import get_state_dict

    m = sharded()
    optimizer = ours.AdamW(m.parameters(), lr=0.01)
    train(m, optimizer, share(rank))
    weights_, kept = get_state_dict(m, optimizer)
    state_dict_saver.save({"model": weights_, "optimizer": kept}, checkpoint_id=folder / "by-two")
    train(m, optimizer, share(rank))
    after = weights(m)

    # What one process saved is loaded by two.
    m = sharded(seed=3)
    optimizer = ours.AdamW(m.parameters(), lr=0.5)
    load(m, optimizer, folder / "by-one")
    train(m, optimizer, share(rank))
    return after, weights(m)


def load(m: nn.Module, optimizer: Any, place: Path) -> None:
    from torch.distributed.checkpoint import state_dict_loader
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

    weights_, kept = get_state_dict(m, optimizer)
    state_dict_loader.load({"model": weights_, "optimizer": kept}, checkpoint_id=place)
    set_state_dict(m, optimizer, model_state_dict=weights_, optim_state_dict=kept)


CLASSES: dict[str, dict[str, Any]] = {
    "AdamW": {"lr": 0.01},
    "SGD": {"lr": 0.1, "momentum": 0.9},
    "NAdam": {"lr": 0.01},
    "Adagrad": {"lr": 0.01},
    "AdaBelief": {"lr": 0.01},
}
