"""Processes of one gloo group that tests start and keep, the training that runs in them, and what it is held against."""

from __future__ import annotations

import importlib
import multiprocessing.connection
import pickle
import time
import traceback
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed import checkpoint, fsdp
from torch.distributed.checkpoint import state_dict as by_name
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

OURS, THEIRS = "adamite.torch", "torch.optim"
LIMIT = 60.0  # seconds, after which a job hangs
Options = Mapping[str, Any]
Values = dict[str, Tensor]


class Ranks:
    """Processes that run a function together: one that fails, ends or hangs fails the test; the next one starts anew."""

    def __init__(self, where: Path, size: int = 2) -> None:
        self.where, self.size = where, size
        self.starts = 0
        self.running: list[tuple[Any, Any]] = []  # processes and our ends of their pipes

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What the function, one of this file's, returned in each process."""
        if not self.running:
            self.start()
        pipes = [pipe for _, pipe in self.running]
        for pipe in pipes:
            pipe.send((function, args))
        found: dict[int, Any] = {}
        failures: dict[int, str] = {}
        end = time.monotonic() + LIMIT
        while len(found) < self.size and time.monotonic() < end:
            open_pipes = [p for rank, p in enumerate(pipes) if rank not in found and rank not in failures]
            for pipe in multiprocessing.connection.wait(open_pipes, 0.1):
                rank = pipes.index(pipe)
                try:
                    good, answer = pickle.loads(pipe.recv_bytes())
                except EOFError:
                    good, answer = False, "the process ended"
                (found if good else failures)[rank] = answer
                if not good:  # the others may wait for this one in vain
                    end = min(end, time.monotonic() + 2.0)
        if len(found) == self.size:
            return [found[rank] for rank in range(self.size)]
        for rank in range(self.size):
            if rank not in found:
                failures.setdefault(rank, "no answer")
        self.stop()
        pytest.fail("\n".join(f"rank {rank}: {failures[rank]}" for rank in sorted(failures)))

    def start(self) -> None:
        context = mp.get_context("spawn")
        self.starts += 1
        for rank in range(self.size):
            here, there = context.Pipe()
            meeting = self.where / f"meeting{self.starts}"
            process = context.Process(target=_serve, args=(there, rank, self.size, str(meeting)), daemon=True)
            process.start()
            there.close()
            self.running.append((process, here))

    def stop(self) -> None:
        for process, pipe in self.running:
            pipe.close()
            process.kill()
            process.join()
        self.running = []


def _serve(pipe: Any, rank: int, size: int, meeting: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=LIMIT),
    )
    while True:
        try:
            function, args = pipe.recv()
            answer = True, function(*args)
        except EOFError:
            return
        except BaseException:
            answer = False, traceback.format_exc()
        pipe.send_bytes(pickle.dumps(answer))


# ---- what is trained


def network(seed: int = 0) -> nn.Sequential:
    """Its layers have 7, 3 and 1 rows: of two ranks, one has a row less than the other, or none."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 1)).double()


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    return x, x.sin().sum(1, keepdim=True)


def optimizer(library: str, name: str, params: Iterable[Any], options: Options) -> Any:
    return getattr(importlib.import_module(library), name)(params, **options)


def train(net: nn.Module, opt: Any, steps: Iterable[int], rows: slice = slice(None)) -> None:
    for step in steps:
        x, y = batch(step)
        opt.zero_grad()
        (net(x[rows]) - y[rows]).square().mean().backward()
        opt.step()


def whole(tensor: Any) -> Tensor:
    """A copy of all of a tensor, whichever ranks hold it."""
    found: Tensor = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return found.detach().clone()


def values(net: nn.Module) -> Values:
    return {name.removeprefix("module."): whole(p) for name, p in net.named_parameters()}


def states(net: nn.Module, opt: Any) -> Values:
    return {
        f"{name.removeprefix('module.')}, {key}": whole(value)
        for name, p in net.named_parameters()
        for key, value in opt.state[p].items()
        if isinstance(value, Tensor)
    }


def result(net: nn.Module, opt: Any) -> dict[str, Any]:
    """What a training comes to; averages too, where they are kept."""
    averages = {}
    if any(group.get("ema") is not None for group in opt.param_groups):
        with opt.averaged():
            averages = values(net)
    more = {name: getattr(opt, name, None) for name in ("skipped", "gradient_norm")}
    return {"values": values(net), "states": states(net, opt), "averages": averages, **more}


def alone(library: str, name: str, options: Options, steps: range) -> dict[str, Any]:
    """The training in one process."""
    net = network()
    opt = optimizer(library, name, net.parameters(), options)
    train(net, opt, steps)
    return result(net, opt)


def share() -> slice:
    """This rank's rows of a batch."""
    return slice(dist.get_rank(), None, dist.get_world_size())


# ---- what the ranks run


def replicated(library: str, name: str, options: Options, steps: range) -> dict[str, Any]:
    net = nn.parallel.DistributedDataParallel(network(dist.get_rank()), gradient_as_bucket_view=True)
    opt = optimizer(library, name, net.parameters(), options)
    train(net, opt, steps, share())
    return result(net, opt)


def without_redundancy(library: str, name: str, options: Options, steps: range) -> dict[str, Any]:
    """Each rank keeps the states of a part of the parameters; one gathers, saves and loads them in the middle."""
    net = nn.parallel.DistributedDataParallel(network())
    cls = getattr(importlib.import_module(library), name)
    opt: Any = ZeroRedundancyOptimizer(net.parameters(), cls, **options)
    half = len(steps) // 2
    train(net, opt, steps[:half], share())
    for rank in range(dist.get_world_size()):
        opt.consolidate_state_dict(to=rank)
    again: Any = ZeroRedundancyOptimizer(net.parameters(), cls, **options)
    again.load_state_dict(opt.state_dict())
    train(net, again, steps[half:], share())
    return {"values": values(net), "kept": len(again.optim.state)}


def sharded(shape: tuple[int, ...] = (2,)) -> nn.Module:
    names = ("copies", "shards")[-len(shape) :]
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    net = network()
    for layer in net:
        if isinstance(layer, nn.Linear):
            fsdp.fully_shard(layer, mesh=mesh)
    return fsdp.fully_shard(net, mesh=mesh)


def fully_sharded(
    library: str, name: str, options: Options, steps: range, shape: tuple[int, ...] = (2,), in_backward: bool = False
) -> dict[str, Any]:
    net = sharded(shape)
    opt = optimizer(library, name, net.parameters(), options)
    if in_backward:
        opt.step_in_backward()
    train(net, opt, steps, share())
    return {**result(net, opt), "apart": misplaced(net, opt)}


def misplaced(net: nn.Module, opt: Any) -> list[str]:
    """The states that don't lie where their parameters do."""
    return [
        f"{name}, {key}"
        for name, p in net.named_parameters()
        for key, value in opt.state[p].items()
        if value.shape == p.shape and value.dim() and (value.device_mesh, value.placements) != (p.device_mesh, p.placements)
    ]


def poisoned(name: str, options: Options, at: str, bad: float) -> dict[str, Any]:
    """A step with a bad number in rank 0's part of a gradient."""
    net = sharded()
    opt = optimizer(OURS, name, net.parameters(), options)
    train(net, opt, range(2), share())
    before = result(net, opt)
    x, y = batch(2)
    opt.zero_grad()
    (net(x) - y).square().mean().backward()
    gradient: Any = net.get_parameter(at).grad
    if dist.get_rank() == 0:
        gradient.to_local().view(-1)[-1] = bad
    error = ""
    try:
        opt.step()
    except ArithmeticError as raised:
        error = str(raised)
    after = result(net, opt)
    train(net, opt, range(3, 5), share())
    return {"before": before, "after": after, "error": error, "end": result(net, opt)}


def placed(library: str, name: str, options: Options, of_gradient: str) -> dict[str, Any]:
    """Tensors and gradients as tensor parallelism makes them, which needn't be distributed alike."""
    mesh = init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    net = nn.Module()
    net.rows = nn.Parameter(distribute_tensor(torch.randn(5, 4, dtype=torch.float64), mesh, [Shard(0)]))
    net.columns = nn.Parameter(distribute_tensor(torch.randn(4, 3, dtype=torch.float64), mesh, [Shard(1)]))
    net.copies = nn.Parameter(distribute_tensor(torch.randn(6, dtype=torch.float64), mesh, [Replicate()]))
    opt = optimizer(library, name, net.parameters(), options)
    for _ in range(3):
        for p in net.parameters():
            g: Any = torch.randn(p.shape, dtype=torch.float64)
            if of_gradient == "partial":
                half = torch.randn(p.shape, dtype=torch.float64)
                part = half if dist.get_rank() else g - half
                given: Any = DTensor.from_local(part, mesh, [Partial()], run_check=False)
            else:
                given = distribute_tensor(g, mesh, {"same": p.placements, "whole": [Replicate()]}[of_gradient])
            p.grad = given
        opt.step()
    return {**result(net, opt), "apart": misplaced(net, opt)}


def partly_sharded(options: Options, bad: float) -> dict[str, Any]:
    """One parameter in shards, one in copies; rank 0's gradient of the copy has a bad number."""
    mesh = init_device_mesh("cpu", (2,))
    net = nn.Module()
    net.shards = nn.Parameter(distribute_tensor(torch.ones(4, dtype=torch.float64), mesh, [Shard(0)]))
    net.copy = nn.Parameter(torch.ones(2, dtype=torch.float64))
    opt = optimizer(OURS, "AdamW", net.parameters(), options)
    net.shards.grad = torch.ones_like(net.shards)
    net.copy.grad = torch.ones(2, dtype=torch.float64)
    if dist.get_rank() == 0:
        net.copy.grad[0] = bad
    opt.step()
    return result(net, opt)


# ---- checkpoints


def save(net: nn.Module, opt: Any, where: Path, flat: bool, alone: bool = False) -> None:
    options = by_name.StateDictOptions(flatten_optimizer_state_dict=flat)
    model, optim = by_name.get_state_dict(net, opt, options=options)
    dcp.save({"model": model, "optim": optim}, checkpoint_id=where, no_dist=alone)


def load(net: nn.Module, opt: Any, where: Path, flat: bool, alone: bool = False) -> None:
    """Both hold what they held when they were saved; making the states first moves nothing."""
    options = by_name.StateDictOptions(flatten_optimizer_state_dict=flat)
    before = values(net)
    model, optim = by_name.get_state_dict(net, opt, options=options)
    assert all(torch.equal(before[name], value) for name, value in values(net).items())
    kept = {"model": model, "optim": optim}
    checkpoint.load(kept, checkpoint_id=where, no_dist=alone)
    by_name.set_state_dict(
        net, opt, model_state_dict=kept["model"], optim_state_dict=kept["optim"], options=options
    )


def saved_by_ranks(library: str, name: str, options: Options, steps: range, where: Path, flat: bool) -> None:
    net = sharded()
    opt = optimizer(library, name, net.parameters(), options)
    train(net, opt, steps, share())
    save(net, opt, where, flat)


def loaded_by_ranks(
    library: str, name: str, options: Options, steps: range, where: Path, flat: bool
) -> dict[str, Any]:
    net = sharded()
    opt = optimizer(library, name, net.parameters(), options)
    load(net, opt, where, flat)
    train(net, opt, steps, share())
    return {**result(net, opt), "apart": misplaced(net, opt)}


# ---- without a group: memory that processes share


def one_after_another(net: nn.Module, name: str, options: Options, steps: range, turn: int) -> None:
    """Steps on shared weights by an optimizer of this process's own, the ranks taking turns."""
    opt = optimizer(OURS, name, net.parameters(), options) if not hasattr(net, "opt") else net.opt
    for step in steps:
        for rank in range(dist.get_world_size()):
            if rank == dist.get_rank():
                train(net, opt, [2 * step + rank])
            dist.barrier()
