"""Steps in the backward pass: each parameter as soon as its gradient is there."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor
from torch._compile import _disable_dynamo

from adamite.torch.tensors import optimizable


class Stepping(Protocol):
    """An optimizer that can step on one parameter."""

    param_groups: list[dict[str, Any]]
    _opt_called: bool
    _stepping: StepInBackward | None

    def _step(self, only: Tensor | None = None) -> bool:
        """Step on a parameter; whether it is one of the optimizer's."""


class StepInBackward:
    """Hooks that step in the backward pass; `remove()` takes them off."""

    def __init__(self, optimizer: Stepping) -> None:
        self._optimizer = optimizer
        self._handles: dict[Tensor, Any] = {}  # the parameters that have a hook
        self._pass = -1  # the backward pass whose end is waited for
        self.watch()

    def watch(self) -> None:
        """Put hooks on the parameters that have none yet; frozen ones may be unfrozen, and keep theirs."""
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p in self._handles or not (p.requires_grad or (optimizable(p) and not p.is_inference())):
                    continue
                frozen = not p.requires_grad
                p.requires_grad_(True)  # torch hooks no others
                try:
                    self._handles[p] = p.register_post_accumulate_grad_hook(self._hook)
                finally:
                    p.requires_grad_(not frozen)

    @_disable_dynamo
    def _hook(self, p: Tensor) -> None:
        this = torch._C._current_graph_task_id()
        if this not in (-1, self._pass):
            self._pass = this
            torch.autograd.Variable._execution_engine.queue_callback(self.finish)
        self._step(p)

    def _step(self, p: Tensor) -> None:
        if self._optimizer._step(p):  # else it has left the optimizer
            self._optimizer._opt_called = True
            p.grad = None

    def finish(self) -> None:
        """Step on parameters that were put into a group by hand and have a gradient; from now on they have hooks."""
        for group in self._optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None and p not in self._handles:
                    self._step(p)
        self.watch()

    @_disable_dynamo
    def remove(self) -> None:
        """Go back to stepping in `step`."""
        for handle in self._handles.values():
            handle.remove()
        self._handles = {}
        self._optimizer._stepping = None

    def __enter__(self) -> StepInBackward:
        return self

    def __exit__(self, *error: object) -> None:
        self.remove()
