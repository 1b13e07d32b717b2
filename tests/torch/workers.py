"""Processes of one gloo group that tests start and keep; the training that runs in them, and in one process."""

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
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed import fsdp
from torch.distributed.checkpoint import state_dict as by_name
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

OURS, THEIRS = "adamite.torch", "torch.optim"
PATIENCE = {"start": 600.0, "work": 300.0}  # seconds, after which something hangs
Options = Mapping[str, Any]
Values = dict[str, Tensor]


class Ranks:
    """Processes that run a function together: one that fails, ends or hangs fails the test; then they start anew."""

    def __init__(self, where: Path, size: int = 2) -> None:
        self.where, self.size = where, size
        self.starts = 0
        self.running: list[tuple[Any, Any]] = []  # processes and our ends of their pipes

    def __call__(self, function: Callable[..., Any], *args: Any) -> list[Any]:
        """What the function, one of this file's, returned in each process."""
        if not self.running:
            self.start()
            self._work(_ready, (), PATIENCE["start"])
        return self._work(function, args, PATIENCE["work"])

    def _work(self, function: Callable[..., Any], args: Any, patience: float) -> list[Any]:
        pipes: list[Any] = [pipe for _, pipe in self.running]
        for pipe in pipes:
            pipe.send((function, args))
        found: dict[int, Any] = {}
        failures: dict[int, str] = {}
        end = time.monotonic() + patience
        while len(found) + len(failures) < self.size and time.monotonic() < end:
            open_pipes = [p for rank, p in enumerate(pipes) if rank not in found and rank not in failures]
            ready: list[Any] = multiprocessing.connection.wait(open_pipes, 0.1)
            for pipe in ready:
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


def _ready() -> None:
    dist.barrier()


def _serve(pipe: Any, rank: int, size: int, meeting: str) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE["start"]),
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
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3), nn.Tanh(), nn.Linear(3, 1))


def batch(step: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + step)
    x = torch.randn(8, 5, generator=generator)
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
    """Each rank keeps the states of a part of the parameters; they are gathered and loaded in the middle."""
    from torch.distributed.optim import ZeroRedundancyOptimizer  # its import warns

    net = nn.parallel.DistributedDataParallel(network())
    cls = getattr(importlib.import_module(library), name)
    opt: Any = ZeroRedundancyOptimizer(net.parameters(), cls, **options)
    half = len(steps) // 2
    train(net, opt, steps[:half], share())
    again: Any = ZeroRedundancyOptimizer(net.parameters(), cls, **options)
    for rank in range(dist.get_world_size()):
        opt.consolidate_state_dict(to=rank)
        if rank == dist.get_rank():
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
    fsdp.fully_shard(net, mesh=mesh)
    return net


def fully_sharded(
    library: str, name: str, options: Options, steps: range, shape: tuple[int, ...] = (2,), in_backward: bool = False
) -> dict[str, Any]:
    net = sharded(shape)
    opt = optimizer(library, name, net.parameters(), options)
    if in_backward:
        opt.step_in_backward()
    train(net, opt, steps, share())
    return {**result(net, opt), "apart": misplaced(net, opt)}


def misplaced(net: Any, opt: Any) -> list[str]:
    """The states that don't lie where their parameters do."""
    return [
        f"{name}, {key}"
        for name, p in net.named_parameters()
        for key, value in opt.state[p].items()
        if value.shape == p.shape
        and value.dim()
        and (value.device_mesh, value.placements) != (p.device_mesh, p.placements)
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


def one_tensor(library: str, options: Options, to_parameter: Any = None, to_gradient: Any = None) -> dict[str, Any]:
    """Steps of one parameter, which may be distributed by these functions."""
    given = torch.linspace(-1, 1, 15).view(5, 3)
    net = nn.Module()
    net.w = nn.Parameter(to_parameter(given.clone()) if to_parameter else given.clone())
    opt = optimizer(library, "AdamW", net.parameters(), options)
    for step in range(3):
        gradient = (3 * given + step).sin()
        net.w.grad = to_gradient(gradient) if to_gradient else gradient
        opt.step()
    return {**result(net, opt), "apart": misplaced(net, opt) if to_parameter else []}


def distributed_otherwise(library: str, options: Options, of_parameter: str, of_gradient: str) -> dict[str, Any]:
    """A parameter and gradients as tensor parallelism makes them, which needn't be distributed alike."""
    mesh = init_device_mesh("cpu", (2,))

    def distribute(whole: Tensor, how: str) -> Any:
        if how == "nothing":
            return whole
        if how == "parts":  # a gradient that is yet to be summed
            part = -whole if dist.get_rank() else 2 * whole
            return DTensor.from_local(part, mesh, [Partial()], run_check=False)
        kinds: dict[str, Any] = {"rows": Shard(0), "columns": Shard(1), "copies": Replicate()}
        return distribute_tensor(whole, mesh, [kinds[how]])

    return one_tensor(library, options, lambda t: distribute(t, of_parameter), lambda t: distribute(t, of_gradient))


def sequences(library: str, name: str, options: Options, steps: range, mesh: Any = None) -> dict[str, Any]:
    """Norms in sequence parallelism, layers by columns and rows: torch leaves gradients of norms to be summed."""
    from torch.distributed.tensor import parallel

    torch.manual_seed(0)
    net: nn.Module = nn.Sequential(nn.LayerNorm(5), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 5), nn.LayerNorm(5))
    if mesh is not None:
        plan: dict[str, Any] = {
            "0": parallel.SequenceParallel(sequence_dim=0),
            "1": parallel.ColwiseParallel(input_layouts=Shard(0), use_local_output=False),
            "3": parallel.RowwiseParallel(output_layouts=Shard(0), use_local_output=False),
            "4": parallel.SequenceParallel(sequence_dim=0),
        }
        net = parallel.parallelize_module(net, mesh, plan)
    opt = optimizer(library, name, net.parameters(), options)
    for step in steps:
        x, _ = batch(step)
        opt.zero_grad()
        y: Any = net(x if mesh is None else distribute_tensor(x, mesh, [Shard(0)]))
        y = y if mesh is None else y.redistribute(placements=[Replicate()]).to_local()
        y.sin().square().mean().backward()
        opt.step()
    return {**result(net, opt), "apart": [] if mesh is None else misplaced(net, opt)}


def tensor_parallel(library: str, name: str, options: Options, steps: range) -> dict[str, Any]:
    return sequences(library, name, options, steps, init_device_mesh("cpu", (2,)))


def partly_sharded(options: Options, bad: float) -> dict[str, Any]:
    """One parameter in shards, one in copies; rank 0's gradient of the copy has a bad number."""
    mesh = init_device_mesh("cpu", (2,))
    net = nn.Module()
    net.shards = nn.Parameter(distribute_tensor(torch.ones(4), mesh, [Shard(0)]))
    net.copy = nn.Parameter(torch.ones(2))
    opt = optimizer(OURS, "AdamW", net.parameters(), options)
    net.shards.grad = torch.ones_like(net.shards)
    net.copy.grad = torch.ones(2)
    if dist.get_rank() == 0:
        net.copy.grad[0] = bad
    opt.step()
    return result(net, opt)


# ---- checkpoints


def save(net: nn.Module, opt: Any, where: Path, flat: bool, alone: bool = False) -> None:
    options = by_name.StateDictOptions(flatten_optimizer_state_dict=flat)
    model, optim = by_name.get_state_dict(net, opt, options=options)
    state_dict_saver.save({"model": model, "optim": optim}, checkpoint_id=where, no_dist=alone)


def load(net: nn.Module, opt: Any, where: Path, flat: bool, alone: bool = False) -> None:
    """Both hold what they held when they were saved; making the states first moves nothing."""
    options = by_name.StateDictOptions(flatten_optimizer_state_dict=flat)
    before = values(net)
    model, optim = by_name.get_state_dict(net, opt, options=options)
    assert all(torch.equal(before[name], value) for name, value in values(net).items())
    kept: dict[str, Any] = {"model": model, "optim": optim}
    state_dict_loader.load(kept, checkpoint_id=where, no_dist=alone)
    by_name.set_state_dict(net, opt, model_state_dict=kept["model"], optim_state_dict=kept["optim"], options=options)


def saved_by_ranks(library: str, name: str, options: Options, steps: range, where: Path, flat: bool) -> None:
    net = sharded()
    opt = optimizer(library, name, net.parameters(), options)
    train(net, opt, steps, share())
    save(net, opt, where, flat)


def loaded_by_ranks(library: str, name: str, options: Options, steps: range, where: Path, flat: bool) -> dict[str, Any]:
    net = sharded()
    opt = optimizer(library, name, net.parameters(), options)
    load(net, opt, where, flat)
    train(net, opt, steps, share())
    return {**result(net, opt), "apart": misplaced(net, opt)}


# ---- memory that processes share


def in_turns(net: nn.Module, name: str, options: Options, steps: range) -> dict[str, Any]:
    """Steps on shared weights by an optimizer of this process's own, the ranks taking turns."""
    opt = optimizer(OURS, name, net.parameters(), options)
    size = dist.get_world_size()
    for step in steps:
        for turn in range(size):
            if turn == dist.get_rank():
                train(net, opt, [size * step + turn])
            dist.barrier()
    return result(net, opt)


def go_on(net: nn.Module, opt: Any, steps: range) -> dict[str, Any]:
    """One rank's steps with a model and an optimizer that came from another process; the others look on."""
    if dist.get_rank() == 0:
        train(net, opt, steps)
    dist.barrier()
    return {"values": values(net), "states": states(net, opt)}


def all_at_once(net: nn.Module, name: str, options: Options, steps: int) -> None:
    opt = optimizer(OURS, name, net.parameters(), options)
    dist.barrier()
    train(net, opt, [step % 4 for step in range(steps)])
