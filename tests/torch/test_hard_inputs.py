"""What real programs do to an optimizer between its steps, each beside torch."""

from __future__ import annotations

import copy
import gc
import inspect
import math
import pickle
import threading
import warnings
import weakref
from collections import UserList, deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

import adamite
import adamite.torch as ours
from adamite import NonFiniteError, rules
from adamite.torch import OPTIMIZERS, look, machine, tensors
from tests.torch.race import (
    EVERY,
    NAMES,
    copied,
    distance,
    give,
    gradient,
    pair,
    parameters,
    params_of,
    relative,
    run,
    same,
    snapshot,
    starts,
)

pytestmark = pytest.mark.usefixtures("double")
STEPS = range(20)


@pytest.fixture(params=["machine", "python"], autouse=True)
def reading(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it with tensors looked at in machine code, and in Python."""
    if request.param == "python":
        monkeypatch.setattr(look, "available", lambda: False)


def each(names: Sequence[str] = NAMES) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", names)


def options(name: str) -> dict[str, Any]:
    return {"momentum": 0.9} if name == "SGD" else {}


def agree(theirs: Any, mine: Any, steps: range = STEPS, give: Any = give, bar: float = 1e-12) -> None:
    start = starts(theirs)
    run(theirs, steps, give)
    run(mine, steps, give)
    assert distance(mine, theirs, start) <= bar


def same_tensors(mine: Any, theirs: Any, start: Sequence[Tensor], bar: float = 1e-12) -> None:
    assert distance(mine, theirs, start) <= bar


# ---- gradients


@each()
def test_gradients_missing_and_late(name: str) -> None:
    def sometimes(params: Sequence[Tensor], step: int) -> None:
        for index, p in enumerate(params):
            comes = step >= 2 * index and (step + index) % 3
            p.grad = gradient(p, step, index) if comes else None

    agree(*pair(name, parameters(), **options(name)), give=sometimes)


def test_no_gradient_at_all_changes_nothing() -> None:
    _, mine = pair("AdamW", parameters())
    before = snapshot(mine)
    mine.step()
    assert same(snapshot(mine), before)
    run(mine, range(3))
    before = snapshot(mine)
    mine.zero_grad()
    mine.step()
    assert same(snapshot(mine), before)


@each()
def test_gradients_of_other_strides(name: str) -> None:
    params = [
        nn.Parameter(torch.randn(4, 6)),
        nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last)),
    ]

    def strided(params: Sequence[Tensor], step: int) -> None:
        p, q = params
        p.grad = gradient(p, step).t().contiguous().t() if step % 3 else gradient(p, step)
        g = gradient(q, step, 1)
        q.grad = g.to(memory_format=torch.channels_last) if step % 2 else g
        if step % 5 == 0:
            wide = torch.zeros(4, 12)
            wide[:, ::2] = gradient(p, step)
            p.grad = wide[:, ::2]

    agree(*pair(name, params, **options(name)), give=strided)


@each()
def test_expanded_gradients(name: str) -> None:
    def expanded(params: Sequence[Tensor], step: int) -> None:
        for index, p in enumerate(params):
            p.grad = gradient(p, step, index).sum().expand(p.shape)

    agree(*pair(name, parameters(), **options(name)), give=expanded, bar=1e-11)


@each()
def test_parameters_with_gaps(name: str) -> None:
    base = torch.randn(6, 10)

    def made() -> list[Tensor]:
        own = base.clone()
        return [
            nn.Parameter(own[::2, 1::3]),
            nn.Parameter(own[1::2].t()),
            nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(1))),
        ]

    theirs = getattr(torch.optim, name)(made(), **options(name))
    mine = getattr(ours, name)(made(), **options(name))
    agree(theirs, mine)


@each()
def test_channels_last(name: str) -> None:
    model = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    trained(name, model, lambda m: m(x).square().mean())


def trained(name: str, model: nn.Module, loss: Any, steps: int = 10, **more: Any) -> None:
    """Two copies of a model, one with each optimizer."""
    models = [model, copy.deepcopy(model)]
    start = [p.detach().clone() for p in model.parameters()]
    for m, library in zip(models, (torch.optim, ours), strict=True):
        optimizer = getattr(library, name)(m.parameters(), **options(name), **more)
        for _ in range(steps):
            optimizer.zero_grad()
            loss(m).backward()
            if library is torch.optim:  # which can't read lazy conjugates
                for p in m.parameters():
                    if p.grad is not None:
                        p.grad = p.grad.resolve_conj().resolve_neg()
            optimizer.step()
    for a, b, s in zip(*(m.parameters() for m in models), start, strict=True):
        assert relative(b, a, (a.detach() - s).abs().max().item()) <= 1e-11


@each()
def test_lazily_negated_and_conjugated_gradients(name: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Parameter(torch.tensor(0.3)), nn.Parameter(torch.tensor([0.5, -0.2]))
            self.z = nn.Parameter(torch.tensor([1 + 2j, 3 - 1j]))

        def forward(self) -> Tensor:
            w = torch.complex(self.a, self.a * 2).conj() * torch.complex(self.b, self.b).conj() * self.z.conj()
            return (w * w.conj() + w.imag).real.sum()

    trained(name, Model(), lambda m: m())


def test_a_negated_view_as_a_gradient() -> None:
    theirs, mine = pair("Adam", [nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.randn(3))])

    def negated(params: Sequence[Tensor], step: int) -> None:
        for index, p in enumerate(params):
            p.grad = torch._neg_view(gradient(p, step, index)) if step % 2 else gradient(p, step, index)

    agree(theirs, mine, give=negated)


@each(EVERY)
@pytest.mark.parametrize("more", [{}, {"state": "8bit"}, {"state": "bfloat16", "ema": 0.9}], ids=str)
def test_memory_can_be_given_back_after_a_step(name: str, more: dict[str, Any]) -> None:
    """Weights, gradients and states, as sharding and offloading do it; a tensor that was NumPy's for a moment can't."""
    p = nn.Parameter(torch.zeros(64, 80, dtype=torch.float32))
    optimizer = OPTIMIZERS[name.lower()]([p], **more)
    for g in (torch.ones(80, 64, dtype=torch.float32).t(), torch.ones_like(p)):
        p.grad = g
        optimizer.step()
    copied = copy.deepcopy(optimizer)  # and what a checkpoint brought
    copied.load_state_dict(optimizer.state_dict())
    params_of(copied)[0].grad = torch.ones(80, 64, dtype=torch.float32).t()
    copied.step()
    for each in (optimizer, copied):
        states = [value for kept in each.state.values() for value in kept.values()]
        for tensor in (params_of(each)[0], params_of(each)[0].grad, *states):
            tensor.detach().untyped_storage().resize_(0)


def test_rows_can_be_given_back_after_a_step() -> None:
    p, words = nn.Parameter(torch.zeros(6, 3)), torch.tensor([1, 4])
    optimizer = ours.AdamW([p], sparse="exact")
    p.grad = torch.sparse_coo_tensor(words[None], torch.ones(2, 3), (6, 3), check_invariants=True)
    optimizer.step()
    optimizer.flush(p, words)
    for tensor in (p.grad._values(), p.grad._indices(), words, p):
        tensor.detach().untyped_storage().resize_(0)


@each()
def test_gradients_are_not_written(name: str) -> None:
    _, mine = pair(name, parameters(), **options(name), maximize=True, weight_decay=0.1)
    give(params_of(mine), 0)
    before = [p.grad.clone() for p in params_of(mine) if p.grad is not None]
    mine.step()
    assert same([p.grad for p in params_of(mine)], before)


def test_gradients_of_the_same_place_but_another_type_or_shape() -> None:
    p = nn.Parameter(torch.randn(6, 4))
    _, mine = pair("SGD", [p], lr=1.0)
    (q,) = params_of(mine)
    base = torch.randn(6, 4)
    q.grad = base
    mine.step()
    q.grad = None
    q.data = q.data.t().contiguous()
    q.grad = base.view(4, 6)
    expected = q.detach() - base.view(4, 6)
    mine.step()
    assert torch.equal(q.detach(), expected)


# ---- sparse gradients


@pytest.mark.parametrize(("name", "more"), [("SGD", {}), ("SGD", {"momentum": 0.9}), ("Adagrad", {})])
def test_sparse_gradients(name: str, more: dict[str, Any]) -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()  # torch warns where nobody said so
    model = nn.Embedding(12, 3, sparse=True)
    models = [model, copy.deepcopy(model)]
    start = model.weight.detach().clone()
    for m, library in zip(models, (torch.optim, ours), strict=True):
        optimizer = getattr(library, name)(m.parameters(), lr=0.1, **more)
        for step in range(10):
            optimizer.zero_grad()
            m(torch.tensor([step % 12, 3, 3, 7])).square().sum().backward()
            assert m.weight.grad is not None and m.weight.grad.is_sparse
            optimizer.step()
    a, b = models
    assert relative(b.weight, a.weight, (a.weight.detach() - start).abs().max().item()) <= 1e-12


@each(["Adam", "AdamW", "RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam"])
def test_sparse_gradients_are_refused(name: str) -> None:
    model = nn.Embedding(5, 2, sparse=True)
    mine = getattr(ours, name)(model.parameters())
    model(torch.tensor([1])).sum().backward()
    before = snapshot(mine)
    with pytest.raises(RuntimeError, match=f"{name} does not support sparse gradients"):
        mine.step()
    assert same(snapshot(mine), before)


def test_sparse_adagrad_with_decay_is_refused() -> None:
    model = nn.Embedding(5, 2, sparse=True)
    mine = ours.Adagrad(model.parameters(), weight_decay=0.1)
    model(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="weight_decay option is not compatible with sparse gradients"):
        mine.step()


# ---- parameters


@each()
def test_complex_parameters(name: str) -> None:
    agree(*pair(name, complex_parameters(), **options(name), weight_decay=0.1))


def complex_parameters() -> list[Tensor]:
    torch.manual_seed(0)
    return [
        nn.Parameter(torch.randn(3, 2, dtype=torch.complex128)),
        nn.Parameter(torch.randn((), dtype=torch.complex128)),
        nn.Parameter(torch.randn(4)),
    ]


def pairs_of(t: Tensor) -> Tensor:
    return torch.view_as_real(t) if t.is_complex() else t


STARTING: dict[str, dict[str, Any]] = {  # states that don't start at zero, and whatever reads more than one of them
    "Adagrad": {"initial_accumulator_value": 0.1},
    "Adam": {"amsgrad": True, "ema": 0.9, "cautious": True},
    "SGD": {"momentum": 0.9, "nesterov": True, "ema": 0.9},
    "RMSprop": {"centered": True, "momentum": 0.9},
}


@pytest.mark.parametrize("arrays", [False, True], ids=["machine", "arrays"])
@each(EVERY)
def test_a_complex_number_is_a_pair(name: str, arrays: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same problem in pairs of real numbers has the same bits, also after it was saved and loaded."""
    monkeypatch.setattr(machine, "FORCE_ARRAYS", arrays)
    params, more = complex_parameters(), STARTING.get(name, {})
    mine = getattr(ours, name)(params, **more, clip_norm=1.0)
    pairs = getattr(ours, name)([nn.Parameter(pairs_of(p.detach()).clone()) for p in params], **more, clip_norm=1.0)
    for half in (range(3), range(3, 6)):
        for step in half:
            for index, (p, q) in enumerate(zip(params_of(mine), params_of(pairs), strict=True)):
                p.grad = gradient(p, step, index)
                q.grad = pairs_of(p.grad)
            mine.step()
            pairs.step()
        for p, q in zip(params_of(mine), params_of(pairs), strict=True):
            assert torch.equal(pairs_of(p.detach()), q.detach())
            assert same({k: pairs_of(v) for k, v in mine.state[p].items()}, dict(pairs.state[q]))
        state = copy.deepcopy(mine.state_dict())
        mine = getattr(ours, name)([copied(p) for p in params_of(mine)], **more, clip_norm=1.0)
        mine.load_state_dict(state)


@pytest.mark.parametrize("kind", [torch.complex64, torch.complex128], ids=str)
def test_a_complex_sum_starts_as_torchs(kind: torch.dtype) -> None:
    p = nn.Parameter(torch.ones(2, dtype=kind))
    mine = ours.Adagrad([p], initial_accumulator_value=0.1)
    theirs = torch.optim.Adagrad([copied(p)], initial_accumulator_value=0.1)
    assert torch.equal(mine.state[p]["sum"], next(iter(theirs.state.values()))["sum"])
    agree(*pair("Adagrad", complex_parameters(), initial_accumulator_value=0.1, lr=0.1))


@pytest.mark.parametrize("mode", [None, "lazy", "exact"])
def test_complex_rows(mode: Any) -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()
    p = nn.Parameter(torch.randn(6, 3, dtype=torch.complex128))
    q = nn.Parameter(torch.view_as_real(p.detach()).clone())
    kinds = [ours.Adagrad([x], lr=0.1, initial_accumulator_value=0.1, sparse=mode) for x in (p, q)]
    for step in range(4):
        rows = torch.tensor([[step % 6, 4]])
        values = gradient(p, step)[:2]
        p.grad = torch.sparse_coo_tensor(rows, values, p.shape)
        q.grad = torch.sparse_coo_tensor(rows, torch.view_as_real(values), q.shape)
        for optimizer in kinds:
            optimizer.step()
    for optimizer in kinds:
        optimizer.flush()
    assert torch.equal(torch.view_as_real(p.detach()), q.detach())
    assert torch.equal(torch.view_as_real(kinds[0].state[p]["sum"]), kinds[1].state[q]["sum"])


def test_complex_parameters_keep_wide_states() -> None:
    p = nn.Parameter(torch.ones(5000, dtype=torch.complex64))
    mine = ours.Adagrad([p], state="8bit", initial_accumulator_value=0.1)
    assert torch.equal(mine.state[p]["sum"], torch.full((5000,), 0.1 + 0.1j, dtype=torch.complex64))


@each(NAMES[1:])  # torch's SGD gives the second listing a first step of its own
def test_a_parameter_listed_twice(name: str) -> None:
    base = parameters(((3,), (2,)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = []
        for library, more in ((torch.optim, {"foreach": False}), (ours, {})):
            p, q = (copied(x) for x in base)
            kinds.append(getattr(library, name)([p, q, p], **options(name), **more))
    theirs, mine = kinds
    for optimizer in kinds:
        for step in range(5):
            p, q, _ = params_of(optimizer)
            p.grad, q.grad = gradient(p, step), gradient(q, step, 1)
            optimizer.step()
    for a, b, s in zip(params_of(mine), params_of(theirs), [base[0], base[1], base[0]], strict=True):
        assert relative(a, b, (b - s).abs().max().item()) <= 1e-11


@each()
def test_parameters_that_share_memory(name: str) -> None:
    """They move one after another, in the order of the list; the others together."""
    base = torch.linspace(1.0, 2.0, 20, dtype=torch.float64)

    def made() -> list[nn.Parameter]:
        own = base.clone()
        return [nn.Parameter(own[a:b]) for a, b in ((0, 4), (10, 14), (2, 8), (14, 20), (7, 10))]

    theirs = getattr(torch.optim, name)(made(), **options(name), foreach=False)
    mine = getattr(ours, name)(made(), **options(name))
    start = starts(theirs)
    run(theirs, range(5))
    run(mine, range(5))
    assert distance(mine, theirs, start) <= 1e-12
    assert [len(batch.members) for batch in mine._plans[0].batches] == [1, 2, 1, 1]


def test_tied_weights() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.head = nn.Embedding(7, 3), nn.Linear(3, 7, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.embed(x)).square().mean()  # type: ignore[no-any-return]

    trained("AdamW", Tied(), lambda m: m(torch.tensor([1, 2, 5])))


@each()
def test_data_is_replaced_between_steps(name: str) -> None:
    theirs, mine = pair(name, parameters(), **options(name))
    start = starts(theirs)
    for optimizer in (theirs, mine):
        held = []
        for step in STEPS:
            for index, p in enumerate(params_of(optimizer)):
                if (step + index) % 3 == 0:
                    held.append(p.data)
                    p.data = p.data.clone() * 0.5
            give(params_of(optimizer), step)
            optimizer.step()
    assert distance(mine, theirs, start) <= 1e-12


def test_replaced_data_is_not_written_after_it_is_freed() -> None:
    (p,) = parameters(((1000,),))
    mine = ours.Adam([p])
    run(mine, range(2))
    old = p.data
    p.data = old.clone()
    kept = old.clone()
    run(mine, range(2, 5))
    assert torch.equal(old, kept) and not torch.equal(p.detach(), kept)


@each()
def test_a_vector_of_all_parameters(name: str) -> None:
    theirs, mine = pair(name, parameters(((3, 4), (7,))), **options(name))
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        params = params_of(optimizer)
        vector_to_parameters(parameters_to_vector(params).detach() * 0.9, params)
        run(optimizer, range(3, 6))
    assert distance(mine, theirs, start) <= 1e-12


def test_a_model_becomes_double() -> None:
    torch.manual_seed(0)
    model = nn.Linear(3, 2).float()
    mine = ours.AdamW(model.parameters(), lr=0.1)
    x = torch.randn(5, 3)
    model(x.float()).square().mean().backward()
    mine.step()
    model.double()
    mine.zero_grad()
    model(x).square().mean().backward()
    mine.step()
    kept = mine.state[model.weight]
    assert model.weight.dtype == kept["exp_avg"].dtype == torch.float64 and kept["step"] == 2
    for kind in (torch.bfloat16, torch.float16, torch.float32):
        model.to(kind)
        mine.zero_grad()
        model(x.to(kind)).square().mean().backward()
        before = model.weight.detach().clone()
        mine.step()
        assert mine.state[model.weight]["exp_avg"].dtype == torch.float32
        assert not torch.equal(before, model.weight) and torch.isfinite(model.weight).all()
    assert mine.state[model.weight]["step"] == 5


@each()
def test_shared_memory(name: str) -> None:
    theirs, mine = pair(name, parameters(((3, 4), (7,))), **options(name))
    start = starts(theirs)
    for optimizer in (theirs, mine):
        for p in params_of(optimizer):
            p.share_memory_()
        run(optimizer, range(3))
        for kept in optimizer.state.values():
            for value in kept.values():
                value.share_memory_()
        run(optimizer, range(3, 6))
    assert all(v.is_shared() for kept in mine.state.values() for v in kept.values())
    assert distance(mine, theirs, start) <= 1e-12


# ---- states


@each(["Adam", "RMSprop", "NAdam", "Adagrad"])
def test_states_are_replaced_between_steps(name: str) -> None:
    theirs, mine = pair(name, parameters(), **options(name))
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        first, second, third, *_ = params_of(optimizer)
        key = next(k for k, v in optimizer.state[first].items() if v.dim())
        optimizer.state[first][key] = torch.full_like(first, 0.25)
        optimizer.state[second] = {k: v.clone() for k, v in optimizer.state[second].items()}
        optimizer.state[second]["step"].fill_(10.0)
        optimizer.state[third]["step"] = torch.tensor(7.0)
        run(optimizer, range(3, 5))
        optimizer.state[first][key].mul_(0.5)
        optimizer.state[first][key].data = optimizer.state[first][key].clone()
        run(optimizer, range(5, 8))
    assert distance(mine, theirs, start) <= 1e-12


def test_states_are_cleared() -> None:
    theirs, mine = pair("SGD", parameters(), momentum=0.9, dampening=0.5)
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        optimizer.state.clear()
        run(optimizer, range(3, 6))
    assert distance(mine, theirs, start) <= 1e-12


# ---- groups


@each()
def test_groups_change_in_the_middle(name: str) -> None:
    base = parameters()

    def made(library: Any) -> Any:
        params = [copied(p) for p in base]
        return getattr(library, name)([{"params": params[:3]}, {"params": params[3:], "lr": 0.02}], **options(name))

    theirs, mine = made(torch.optim), made(ours)
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        optimizer.param_groups[0]["lr"] = 0.5
        optimizer.param_groups[1]["weight_decay"] = 0.1
        run(optimizer, range(3, 6))
        optimizer.param_groups[0]["lr"] = torch.tensor(0.05)
        optimizer.param_groups[0]["maximize"] = True
        run(optimizer, range(6, 9))
        optimizer.param_groups[0]["lr"].fill_(0.1)
        optimizer.param_groups[1]["weight_decay"] = 0
        run(optimizer, range(9, 12))
    assert distance(mine, theirs, start) <= 1e-12


@each()
def test_a_group_is_added(name: str) -> None:
    extra = parameters(((4, 2), ()), seed=5)
    theirs, mine = pair(name, parameters(), **options(name))
    start = [*starts(theirs), *(p.detach().clone() for p in extra)]
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        optimizer.add_param_group({"params": [copied(p) for p in extra], "lr": 0.03})
        if name == "Adagrad" and optimizer is theirs:  # torch makes no states for what is added
            for p in optimizer.param_groups[1]["params"]:
                optimizer.state[p] = {"step": torch.tensor(0.0), "sum": torch.zeros_like(p)}
        run(optimizer, range(3, 6))
    assert distance(mine, theirs, start) <= 1e-12


def test_a_parameter_is_replaced_in_its_group() -> None:
    (p, q), (r,) = parameters(((3,), (2,))), parameters(((4,),), seed=3)
    mine = ours.SGD([p, q], lr=1.0)
    run(mine, range(1))
    mine.param_groups[0]["params"][1] = r
    before, g = r.detach().clone(), gradient(r, 1, 1)
    run(mine, range(1, 2))
    assert torch.equal(r.detach(), before - g)


def test_a_bad_group_is_refused_before_anything_changes() -> None:
    (p,), (q,) = parameters(((3,),)), parameters(((2,),), seed=1)
    mine = ours.Adam([p])
    for wrong in ({"lr": -1.0}, {"betas": (0.5, 1.5)}, {"differentiable": True}, {"ema": 2.0}):
        with pytest.raises((ValueError, RuntimeError)):
            mine.add_param_group({"params": [q], **wrong})
    assert len(mine.param_groups) == 1


# ---- closures, hooks, versions


def test_a_closure_is_called_with_gradients_on() -> None:
    (p,) = parameters(((3,),))
    mine = ours.SGD([p], lr=0.1)

    def closure() -> Tensor:
        mine.zero_grad()
        loss = p.square().sum()
        loss.backward()
        return loss

    with torch.no_grad():
        loss = mine.step(closure)
    assert loss is not None and loss.requires_grad
    assert torch.allclose(p.detach(), parameters(((3,),))[0].detach() * 0.8)


def test_hooks_run_once_each() -> None:
    (p,) = parameters(((3,),))
    mine, calls = ours.Adam([p]), []
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    handles = [
        mine.register_step_pre_hook(lambda *a: calls.append("pre")),
        mine.register_step_post_hook(lambda *a: calls.append("post")),
        register_optimizer_step_pre_hook(lambda *a: calls.append("global pre")),
        register_optimizer_step_post_hook(lambda *a: calls.append("global post")),
    ]
    run(mine, range(1))
    assert calls == ["global pre", "pre", "post", "global post"]
    for handle in handles:
        handle.remove()
    run(mine, range(1))
    assert len(calls) == 4


def test_a_hook_may_give_the_closure() -> None:
    (p,) = parameters(((3,),))
    mine = ours.SGD([p], lr=0.1)
    mine.register_step_pre_hook(lambda self, args, kwargs: ((self, lambda: 7.0), {}))
    p.grad = torch.ones_like(p)
    assert mine.step() == 7.0


def test_the_profiler_sees_steps() -> None:
    (p,) = parameters(((3,),))
    mine = ours.Adam([p])
    p.grad = torch.ones_like(p)
    with torch.profiler.profile() as profile:
        mine.step()
    assert any(event.key == "Optimizer.step#Adam.step" for event in profile.key_averages())


def test_versions_advance() -> None:
    p = nn.Parameter(torch.randn(3))
    loss = (p * p).sum()
    p.grad = torch.ones_like(p)
    before = p._version
    ours.Adam([p]).step()
    assert p._version > before
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_steps_within_a_subclass() -> None:
    class Mine(ours.AdamW):
        def step(self, closure: Any = None) -> Any:
            self.count = getattr(self, "count", 0) + 1
            return super().step(closure)

    theirs, _ = pair("AdamW", parameters())
    mine = Mine([copied(p) for p in parameters()])
    agree(theirs, mine)
    assert mine.count == len(STEPS)


# ---- copies and processes


@each(EVERY)
def test_copies_go_on_alone(name: str) -> None:
    mine = getattr(ours, name)(parameters(), **options(name), clip_norm=1.0, nonfinite="skip", ema=0.9, cautious=True)
    run(mine, range(3))
    others = [copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))]
    before = snapshot(mine)
    for other in others:
        assert other.clip_norm == 1.0 and other.nonfinite == "skip" and type(other) is type(mine)
        run(other, range(3, 6))
    assert same(snapshot(mine), before)
    run(mine, range(3, 6))
    for other in others:
        assert same(snapshot(other), snapshot(mine))


@adamite.rule
def signum(g: Any, m: Any, *, t: Any, lr: float = 1e-3, beta: float = 0.9) -> Any:
    """Signum.

    beta in [0, 1): decay of the momentum.
    """
    m = beta * m + (1 - beta) * g
    return lr * adamite.sign(m), m


def test_a_rule_of_ones_own() -> None:
    cls = ours.optimizer(signum)
    (p,) = parameters(((50,),))
    mine = cls([p], lr=0.1, beta=0.5, weight_decay=0.01)
    x, m = p.detach().clone(), torch.zeros(50)
    for step in range(10):
        g = gradient(p, step)
        m = 0.5 * m + 0.5 * g
        x = x - 0.1 * m.sign() - 0.1 * 0.01 * x
    run(mine, range(10))
    assert torch.allclose(p.detach(), x, rtol=1e-13) and set(mine.state[p]) == {"step", "m"}
    again = pickle.loads(pickle.dumps(mine))
    assert type(again) is cls
    with pytest.raises(ValueError, match=r"beta value: 1\.5"):
        cls([p], beta=1.5)
    with pytest.raises(TypeError, match="bta"):
        cls([p], bta=0.5)


@each(EVERY)
def test_the_same_bits_as_in_numpy(name: str) -> None:
    """One rule: the NumPy front-end under torch's convention, and this one."""
    rng = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(1000, generator=rng, dtype=torch.float32))
    x = p.detach().numpy().copy()
    more: Any = {"momentum": 0.9} if name == "SGD" else {}
    mine, other = getattr(ours, name)([p], **more), getattr(adamite, name)(x, convention="torch", **more)
    for _ in range(10):
        p.grad = torch.randn(1000, generator=rng, dtype=torch.float32)
        mine.step()
        other.step(p.grad.numpy())
    assert torch.equal(p.detach(), torch.from_numpy(x))


def test_several_models_in_several_threads() -> None:
    expected = [ours.AdamW(parameters(((200_000,), (30,)), seed=k), lr=0.01) for k in range(4)]
    mine = [ours.AdamW(parameters(((200_000,), (30,)), seed=k), lr=0.01) for k in range(4)]
    for optimizer in expected:
        run(optimizer, range(5))
    threads = [threading.Thread(target=run, args=(optimizer, range(5))) for optimizer in mine]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(mine, expected, strict=True):
        assert same(snapshot(a), snapshot(b))


def test_gradients_and_optimizers_are_let_go() -> None:
    p = nn.Parameter(torch.randn(300_000))
    mine = ours.Adam([p])
    p.grad = torch.ones_like(p)
    held = weakref.ref(p.grad)
    mine.step()
    p.grad = None
    gc.collect()
    assert held() is None
    gone = weakref.ref(mine)
    del mine
    gc.collect()
    assert gone() is None


# ---- the step in the backward pass


@each()
def test_the_step_in_the_backward_pass(name: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 2))
    models = [model, copy.deepcopy(model)]
    x = torch.randn(8, 4)
    start = [p.detach().clone() for p in model.parameters()]
    theirs = getattr(torch.optim, name)(models[0].parameters(), **options(name))
    mine = getattr(ours, name)(models[1].parameters(), **options(name))
    handle = mine.step_in_backward()
    for step in range(8):
        for m, optimizer in zip(models, (theirs, mine), strict=True):
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = 0.01 / (1 + step)
            m(x).square().mean().backward()
            if optimizer is mine:
                assert all(p.grad is None for p in m.parameters())
            optimizer.step()
    same_tensors(mine, theirs, start)
    handle.remove()
    for m, optimizer in zip(models, (theirs, mine), strict=True):
        optimizer.zero_grad()
        m(x).square().mean().backward()
        optimizer.step()
    same_tensors(mine, theirs, start)


def test_the_step_in_the_backward_pass_is_refused_where_it_needs_all_gradients() -> None:
    for more in ({"clip_norm": 1.0}, {"nonfinite": "skip"}):
        with pytest.raises(ValueError, match="needs all gradients"):
            ours.Adam(parameters(), **more).step_in_backward()


# ---- what we add


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_bad_gradient_is_skipped_whole(kind: torch.dtype, bad: float) -> None:
    mine = ours.AdamW(parameters(((3, 4), (70_000,)), dtype=kind), nonfinite="skip", ema=0.9)
    for first in (True, False):  # before there are states, and after
        give(params_of(mine), 0)
        grad = params_of(mine)[1].grad
        assert grad is not None
        grad[12_345] = bad
        before = snapshot(mine)
        mine.step()
        assert same(snapshot(mine), before) and mine.skipped == 2 - first
        run(mine, range(2))


def test_a_bad_gradient_in_the_backward_pass_keeps_its_own_parameter() -> None:
    first = nn.Linear(3, 2)
    model = nn.Sequential(first, nn.Linear(2, 1))
    mine = ours.SGD(model.parameters(), lr=0.1, nonfinite="raise")
    first.weight.register_hook(lambda g: g * math.nan)
    before = [p.detach().clone() for p in model.parameters()]
    with mine.step_in_backward(), pytest.raises(NonFiniteError, match="those before it in the backward pass were"):
        model(torch.ones(4, 3)).square().sum().backward()
    stayed = [torch.equal(p, b) for p, b in zip(model.parameters(), before, strict=True)]
    assert stayed[0] and not any(stayed[2:])


def test_a_bad_gradient_is_named() -> None:
    model = nn.Linear(3, 2)
    mine = ours.Adam(model.named_parameters(), nonfinite="raise")
    model.weight.grad, model.bias.grad = torch.ones(2, 3), torch.tensor([1.0, float("nan")])
    before = snapshot(mine)
    with pytest.raises(NonFiniteError, match="bias"):
        mine.step()
    assert same(snapshot(mine), before)


@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e200, 1e-200])
def test_clipping_by_the_norm_of_all(scale: float) -> None:
    params = [*parameters(), nn.Parameter(torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last))]
    mine = ours.SGD([copied(p) for p in params], lr=1.0, clip_norm=0.5)
    norm = (
        sum((scale * gradient(p, 0, k)).div(scale).square().sum().item() for k, p in enumerate(params)) ** 0.5 * scale
    )
    factor = min(1.0, 0.5 / norm)
    for k, (p, q) in enumerate(zip(params, params_of(mine), strict=True)):
        q.grad = scale * gradient(p, 0, k)
    expected = [p.detach() - factor * scale * gradient(p, 0, k) for k, p in enumerate(params)]
    mine.step()
    assert mine.gradient_norm == pytest.approx(norm, rel=1e-12)
    for q, e in zip(params_of(mine), expected, strict=True):
        assert torch.allclose(q.detach(), e, rtol=1e-12, atol=0)


def test_the_average_of_the_weights() -> None:
    (p,) = parameters(((40,),))
    mine = ours.SGD([p], lr=0.1, ema=0.9)
    average = p.detach().clone()
    for step in range(5):
        p.grad = gradient(p, step)
        mine.step()
        average = 0.9 * average + 0.1 * p.detach()
    last = p.detach().clone()
    with mine.averaged():
        assert torch.allclose(p.detach(), average, rtol=1e-13)
        with pytest.raises(RuntimeError, match="swapped in"):
            mine.step()
        with pytest.raises(RuntimeError, match="swapped in"):
            mine.state_dict()
    assert torch.equal(p.detach(), last)
    with pytest.raises(ValueError, match=r"ema=0\.999"), ours.SGD([p]).averaged():
        pass


def test_the_cautious_mask() -> None:
    (p,) = parameters(((400,),))
    mine = ours.Adam([p], lr=0.1, cautious=True)
    x, m, v = p.detach().clone(), torch.zeros(400), torch.zeros(400)
    for t in range(1, 8):
        g = gradient(p, t)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        u = 0.1 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        x = x - torch.where(u * g > 0, u, 0.0)
        p.grad = g
        mine.step()
    assert torch.allclose(p.detach(), x, rtol=1e-12)


@each(EVERY)
def test_differentiable_and_unknown_arguments_are_refused(name: str) -> None:
    with pytest.raises(RuntimeError, match="differentiable"):
        getattr(ours, name)(parameters(), differentiable=True)
    with pytest.raises(TypeError, match=r"clipnorm.*clip_norm"):
        getattr(ours, name)(parameters(), clipnorm=1.0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"clip_norm": 0.0}, r"Invalid clip_norm value: 0.0. Adam takes clip_norm in \(0, inf\)"),
        ({"clip_norm": torch.tensor(0)}, r"Invalid clip_norm value: 0. Adam takes clip_norm in \(0, inf\)"),
        ({"clip_norm": True}, r"clip_norm must be a number in \(0, inf\), got True"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"nonfinite": "ignore"}, "propagate, raise, skip"),
        ({"ema": 1.0}, r"\[0, 1\)"),
        ({"cautious": 3}, "cautious"),
        ({"lr": float("nan")}, "learning rate"),
        ({"lr": "fast"}, "lr must be a number"),
        ({"lr": "0.1"}, "lr must be a number"),
        ({"eps": b"1e-8"}, "eps must be a number"),
        ({"weight_decay": "0.1"}, "weight_decay must be a number"),
        ({"ema": "0.9"}, "ema must be a number"),
        ({"lr": lambda step: 0.1}, "lr_scheduler"),
        ({"clip_norm": lambda step: 1.0}, r"clip_norm must be a number in \(0, inf\), got"),
        ({"betas": (0.9,)}, "two numbers"),
        ({"betas": ("0.9", 0.99)}, r"betas\[0\] must be a number"),
        ({"amsgrad": "yes"}, "amsgrad"),
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        ours.Adam(parameters(), **wrong)


class Pair(NamedTuple):
    first: float
    second: float


class Config(list[float]):
    """As OmegaConf's ListConfig, a sequence of one's own."""


BETAS: dict[str, Callable[[], Any]] = {
    "a list": lambda: [0.8, 0.95],
    "an array": lambda: np.array([0.8, 0.95]),
    "a tensor": lambda: torch.tensor([0.8, 0.95]),
    "tensors": lambda: (torch.tensor(0.8), torch.tensor(0.95)),
    "a named tuple": lambda: Pair(0.8, 0.95),
    "a subclass": lambda: Config([0.8, 0.95]),
    "another sequence": lambda: UserList([0.8, 0.95]),
    "a queue": lambda: deque([0.8, 0.95]),
}


@pytest.mark.parametrize("place", ["argument", "group", "assigned"])
@pytest.mark.parametrize("kind", BETAS)
def test_betas_of_any_sequence(kind: str, place: str) -> None:
    cls, betas = ours.AdamW, BETAS[kind]()
    expected = cls(parameters(), betas=(0.8, 0.95))
    if place == "argument":
        mine = cls(parameters(), betas=betas)
    elif place == "group":
        mine = cls([{"params": parameters(), "betas": betas}])
    else:
        mine = cls(parameters())
        mine.param_groups[0]["betas"] = betas
    for optimizer in (mine, expected):
        run(optimizer, range(3))
    assert same([p.detach() for p in params_of(mine)], [p.detach() for p in params_of(expected)])
    if place != "assigned":
        kept = mine.param_groups[0]["betas"]
        assert type(kept) is tuple and (isinstance(kept[0], Tensor) or type(kept[0]) is float)
    if isinstance(betas, (np.ndarray, Tensor, list)) and place == "assigned":  # what is written into it is read
        betas[0] = 0.5
        expected.param_groups[0]["betas"] = (0.5, 0.95)
        for optimizer in (mine, expected):
            run(optimizer, range(3, 5))
            optimizer.param_groups[0]["betas"] = np.array([0.3, 0.9])
            run(optimizer, range(5, 7))
        assert same([p.detach() for p in params_of(mine)], [p.detach() for p in params_of(expected)])


@pytest.mark.parametrize(
    "wrong",
    [
        (0.9,),
        (0.9, 0.99, 0.999),
        0.9,
        None,
        "ab",
        {0.9, 0.99},
        {0: 0.9, 1: 0.99},
        np.ones((2, 2)) / 2,
        torch.tensor(0.5),
    ],
    ids=repr,
)
def test_betas_that_are_no_pair(wrong: Any) -> None:
    for given in ({"betas": wrong}, {"betas": (0.9, 0.99)}):
        groups: Any = [{"params": parameters(), "betas": wrong}]
        with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\), got "):
            ours.Adam(groups, **given)
    mine = ours.Adam(parameters())
    run(mine, range(1))
    before = snapshot(mine)
    mine.param_groups[0]["betas"] = wrong
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\), got "):
        run(mine, range(1))
    mine.param_groups[0]["betas"] = (0.9, 0.999)
    assert same(snapshot(mine), before)


@each(["SGD", "AdamW"])
def test_steps_that_are_captured_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph would replay this step's numbers; no machine of these tests can record one."""
    mine = getattr(ours, name)(parameters())
    run(mine, range(1))
    before = snapshot(mine)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match=f"Attempting CUDA graph capture of step.. for an instance of {name}.*host"):
        run(mine, range(1, 2))
    assert same(snapshot(mine), before)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    run(mine, range(1, 2))


@each(EVERY)
def test_capturable_is_refused(name: str) -> None:
    cls = getattr(ours, name)
    group: Any = [{"params": parameters(), "capturable": True}]
    with pytest.raises(RuntimeError, match=f"{name}: capturable=True isn't supported"):
        cls(group)
    if "capturable" in inspect.signature(cls).parameters:
        with pytest.raises(RuntimeError, match=r"capturable=True isn't supported.*; leave it out"):
            cls(parameters(), capturable=True)
        mine = cls(parameters(), capturable=False)
        mine.param_groups[0]["capturable"] = True  # torch.compile does so by itself; what is captured is refused
        run(mine, range(1))


def test_a_misspelled_setting_of_a_group_is_refused_and_a_key_of_ones_own_is_kept() -> None:
    with pytest.raises(TypeError, match="'weigth_decay'; did you mean 'weight_decay'"):
        ours.AdamW([{"params": parameters(), "weigth_decay": 0.1}])
    assert ours.AdamW([{"params": parameters(), "lr_scale": 0.1}]).param_groups[0]["lr_scale"] == 0.1


def test_a_setting_that_became_none_is_named() -> None:
    mine = ours.AdamW(parameters())
    mine.param_groups[0]["lr"] = None
    give(params_of(mine), 0)
    with pytest.raises(TypeError, match="AdamW: lr must be a number, got None"):
        mine.step()


def test_what_holds_for_all_groups_is_shown() -> None:
    assert repr(ours.Adam(parameters(), clip_norm=2.0)).endswith("clip_norm: 2.0\nnonfinite: propagate\n)")
    assert "clip_norm" not in repr(ours.Adam(parameters()))


def test_integer_parameters_are_refused() -> None:
    mine = ours.Adam([nn.Parameter(torch.ones(3, dtype=torch.int32), requires_grad=False)])
    params_of(mine)[0].grad = torch.ones(3, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"torch\.int32"):
        mine.step()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_low_precision_keeps_its_moments_in_float32(kind: torch.dtype) -> None:
    (p,) = parameters(((1000,),), dtype=kind)
    q = nn.Parameter(p.detach().float())
    mine, wide = ours.Adam([p], lr=0.01), ours.Adam([q], lr=0.01)
    for step in range(10):
        p.grad = gradient(p, step)
        q.grad = p.grad.float()
        mine.step()
        wide.step()
        assert torch.equal(mine.state[p]["exp_avg"], wide.state[q]["exp_avg"])
        assert torch.equal(p.detach(), q.detach().to(kind))
        q.data = p.detach().float()


def test_every_class_is_listed() -> None:
    assert [cls.__name__ for cls in OPTIMIZERS.values()] == EVERY
    assert all(issubclass(cls, torch.optim.Optimizer) for cls in OPTIMIZERS.values())
    assert tensors.native(torch.zeros(1))


# ---- what a reviewer found


@each(EVERY)
def test_another_default_device(name: str) -> None:
    params = parameters(((3, 2),))
    with torch.device("meta"):
        mine = getattr(ours, name)(params, **options(name))
        for _ in range(2):
            params[0].grad = torch.ones(3, 2, device="cpu")
            mine.step()
    expected = getattr(ours, name)(parameters(((3, 2),)), **options(name))
    for _ in range(2):
        params_of(expected)[0].grad = torch.ones(3, 2)
        expected.step()
    assert torch.equal(params[0], params_of(expected)[0])


def test_gradients_without_memory_of_their_own() -> None:
    from torch.testing._internal.two_tensor import TwoTensor

    (p,) = parameters(((3,),))
    mine = ours.Adam([p])
    p.grad = TwoTensor(torch.ones(3), torch.ones(3))
    with pytest.raises(TypeError, match="TwoTensor"):
        mine.step()
    p.grad = torch.ones(3)
    mine.step()
    p.grad = torch.ones(3)
    p.grad.untyped_storage().resize_(0)
    before = snapshot(mine)
    with pytest.raises(ValueError, match="no memory"):
        mine.step()
    assert same(snapshot(mine), before)


@pytest.mark.parametrize("steps", [True, False])
def test_parameters_that_come_to_the_step_in_the_backward_pass(steps: bool) -> None:
    """Unfrozen, or added with a group, whether `step` is called or not; as when they had been there from the start."""
    torch.manual_seed(0)
    layers = nn.ModuleList(nn.Linear(4, 4, dtype=torch.float64) for _ in range(3))
    expected = copy.deepcopy(layers)
    layers[1].requires_grad_(False)
    mine = ours.AdamW([*layers[0].parameters(), *layers[1].parameters()], lr=0.1)
    theirs = torch.optim.AdamW(expected.parameters(), lr=0.1)
    mine.step_in_backward()
    for step in range(9):
        if step == 3:
            layers[1].requires_grad_(True)
        if step == 6:
            mine.add_param_group({"params": list(layers[2].parameters())})
        for model in (layers, expected):
            x = torch.ones(2, 4, dtype=torch.float64) * (step + 1)
            for layer in model:
                x = layer(x).tanh()
            x.square().sum().backward()
        if steps:
            mine.step()
        if step < 6:
            layers[2].zero_grad()  # which isn't the optimizer's yet
        assert all(p.grad is None for p in layers.parameters())
        for layer, since in zip(expected, (0, 3, 6), strict=True):
            if step < since:
                layer.zero_grad()
        theirs.step()
        theirs.zero_grad()
    assert all(
        torch.allclose(p, q, rtol=1e-12, atol=0)
        for p, q in zip(layers.parameters(), expected.parameters(), strict=True)
    )


def test_a_parameter_that_left_keeps_its_gradient_in_the_backward_pass() -> None:
    p, q = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
    optimizer = ours.SGD([p, q], lr=0.1)
    optimizer.step_in_backward()
    del optimizer.param_groups[0]["params"][1]
    (p * q).sum().backward()
    assert p.tolist() == pytest.approx([0.9] * 3) and q.tolist() == [1.0] * 3
    assert p.grad is None and q.grad is not None


def test_schedulers_know_of_the_step_in_the_backward_pass() -> None:
    p = nn.Parameter(torch.ones(3))
    optimizer = ours.SGD([p], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    with optimizer.step_in_backward():
        for _ in range(3):
            p.sum().backward()
            scheduler.step()  # a warning would fail
    assert p.tolist() == [1 - 1.75] * 3


def test_frozen_parameters_in_the_backward_pass() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    second.weight.requires_grad_(False)
    mine = ours.SGD([*first.parameters(), *second.parameters()], lr=0.1)
    with mine.step_in_backward():
        before = first.weight.detach().clone()
        second(first(torch.ones(1, 2))).sum().backward()
        assert not torch.equal(before, first.weight) and first.weight.grad is None
        with pytest.raises(ValueError, match="needs all gradients"):
            mine.clip_norm = 1.0
        with pytest.raises(ValueError, match="needs all gradients"):
            mine.nonfinite = "skip"
        with pytest.raises(RuntimeError, match="on already"):
            mine.step_in_backward()
    mine.clip_norm = 1.0


def test_sparse_gradients_in_a_group_without_decay() -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()
    embed, line = nn.Embedding(10, 3, sparse=True), nn.Linear(3, 2)
    groups: Any = [
        {"params": embed.parameters(), "weight_decay": 0},
        {"params": line.parameters(), "weight_decay": 0.1},
    ]
    mine = ours.Adagrad(groups)
    line(embed(torch.tensor([1, 2]))).sum().backward()
    before = embed.weight.detach().clone()
    mine.step()
    assert torch.equal(before[3:], embed.weight[3:]) and not torch.equal(before[1], embed.weight[1])


def test_hooks_of_a_subclass_run_once() -> None:
    class Mine(ours.AdamW):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    (p,) = parameters(((3,),))
    mine, calls = Mine([p]), []
    mine.register_step_pre_hook(lambda *a: calls.append("pre"))
    p.grad = torch.ones_like(p)
    mine.step()
    assert calls == ["pre"]


def test_an_average_starts_where_the_first_step_does() -> None:
    p = nn.Parameter(torch.zeros(3))
    mine = ours.SGD([p], ema=0.9, nonfinite="skip")
    p.grad = torch.full((3,), float("nan"))
    mine.step()
    p.data.fill_(5.0)
    p.grad = torch.zeros(3)
    mine.step()
    assert torch.equal(mine.state[p]["ema"], torch.full((3,), 5.0))


def test_a_refused_step_changes_no_state() -> None:
    embed, p = nn.Embedding(5, 2, sparse=True), nn.Parameter(torch.ones(2))
    mine = ours.Adam([p, embed.weight])
    p.grad, embed.weight.grad = torch.ones(2), torch.zeros(5, 2)
    mine.step()
    del mine.state[p]["exp_avg"]
    embed.weight.grad = None
    embed(torch.tensor([1])).sum().backward()
    before = snapshot(mine)
    with pytest.raises(RuntimeError, match="sparse"):
        mine.step()
    assert same(snapshot(mine), before) and "exp_avg" not in mine.state[p]


@each(["SGD", "Adagrad"])
def test_parameters_that_are_never_trained(name: str) -> None:
    whole = nn.Parameter(torch.zeros(3, dtype=torch.int8), requires_grad=False)
    (p,) = parameters(((3,),))
    mine = getattr(ours, name)([whole, p])
    p.grad = torch.ones(3)
    mine.step()
    assert not torch.equal(p, parameters(((3,),))[0])


def test_named_parameters_whose_list_was_changed() -> None:
    (p, q) = parameters(((3,), (2,)))
    mine = ours.Adam([("a", p)])
    mine.param_groups[0]["params"].append(q)
    p.grad, q.grad = torch.ones(3), torch.ones(2)
    mine.step()
    assert set(mine.state) == {p, q}


def test_the_weights_come_back_whatever_happens() -> None:
    params = parameters(((3,), (2,)))
    mine = ours.SGD(params, ema=0.9)
    run(mine, range(2))
    before = [p.detach().clone() for p in params]
    mine.state[params[1]]["ema"] = torch.zeros(7)
    with pytest.raises(RuntimeError), mine.averaged():
        pass
    assert same([p.detach() for p in params], before)
    mine.state[params[1]]["ema"] = torch.zeros(2)
    with mine.averaged():
        for forbidden in (lambda: copy.deepcopy(mine), lambda: mine.load_state_dict({}), lambda: pickle.dumps(mine)):
            with pytest.raises(RuntimeError, match="swapped in"):
                forbidden()
    assert same([p.detach() for p in params], before)


def test_states_turned_in_place() -> None:
    theirs, mine = pair("Adam", parameters(((3, 3),)))
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(3))
        optimizer.state[params_of(optimizer)[0]]["exp_avg"].t_()
        run(optimizer, range(3, 6))
    assert distance(mine, theirs, start) <= 1e-12


def test_numbers_for_flags_and_words_for_numbers() -> None:
    theirs, mine = pair("SGD", parameters(), momentum=0.9, nesterov=1, maximize=1)
    agree(theirs, mine)
    mine.param_groups[0]["lr"] = "0.1"
    with pytest.raises(TypeError, match=r"lr must be a number, got '0\.1'"):
        run(mine, range(1))
    for wrong in ({"clip_norm": 1.0}, {"nonfinite": "skip"}):
        with pytest.raises(ValueError, match="applies to the whole optimizer"):
            ours.Adam([{"params": parameters(), **wrong}])


def test_a_checkpoint_without_step_numbers_is_refused() -> None:
    mine = ours.Adam(parameters())
    run(mine, range(2))
    state = copy.deepcopy(mine.state_dict())
    for kept in state["state"].values():
        del kept["step"]
    with pytest.raises(adamite.StateDictError, match="step not among its states"):
        mine.load_state_dict(state)


def test_adabeliefs_epsilons_are_one_unless_both_are_given() -> None:
    ends = []
    cases: list[dict[str, Any]] = [{"eps": 1e-4}, {"eps": 1e-4, "eps_root": 1e-4}, {"eps": 1e-4, "eps_root": 1e-16}]
    for given in cases:
        p = nn.Parameter(torch.ones(3))
        optimizer = ours.AdaBelief([p], lr=0.1, **given)
        for _ in range(2):
            p.grad = torch.full((3,), 1e-3)
            optimizer.step()
        ends.append(p.detach())
    assert torch.equal(ends[0], ends[1]) and not torch.equal(ends[0], ends[2])


def test_nesterov_without_a_momentum_is_refused_for_sgds_rule_too() -> None:
    x = [nn.Parameter(torch.ones(2))]
    with pytest.raises(ValueError, match="Nesterov momentum requires a momentum"):
        ours.optimizer(rules.sgd)(x, nesterov=True)
    ours.optimizer(rules.adam_eps_root)(x, nesterov=True)  # which has no momentum of that name


@pytest.mark.parametrize("at_first", ["all frozen", "one trainable", "none but a group later", "put in by hand"])
def test_unfrozen_parameters_alone_in_the_backward_pass(at_first: str) -> None:
    """No other takes part, and nobody calls `step`."""
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2), requires_grad=False)
    if at_first == "all frozen":
        a.requires_grad_(False)
    mine = ours.SGD([a] if at_first.startswith("none") else [a, b], lr=0.1)
    if at_first == "put in by hand":
        mine.param_groups[0]["params"][1] = nn.Parameter(torch.zeros(2))
    handle = mine.step_in_backward()
    if at_first.startswith("none"):
        mine.add_param_group({"params": [b]})
    if at_first == "put in by hand":
        mine.param_groups[0]["params"][1] = b
    assert a.requires_grad is (at_first != "all frozen") and b.requires_grad is False
    if a.requires_grad:
        a.sum().backward()
    a.requires_grad_(False)
    b.requires_grad_(True)
    for _ in range(3):
        b.sum().backward()
    b.requires_grad_(False)
    b.requires_grad_(True)
    assert a.tolist() == pytest.approx([1.0 if at_first == "all frozen" else 0.9] * 2)
    assert b.tolist() == pytest.approx([0.7] * 2) and b.grad is None
    handle.remove()
    b.sum().backward()
    assert b.grad is not None and b.tolist() == pytest.approx([0.7] * 2)


@pytest.mark.parametrize(
    ("options", "wrong", "error", "message"),
    [
        ({"clip_norm": 1.0}, torch.tensor([1.0, 2.0]), ValueError, r"clip_norm must be 1-element, got one of shape"),
        ({"clip_norm": 1.0}, np.array([1.0, 2.0]), TypeError, r"clip_norm must be a number in \(0, inf\), got array"),
        ({"clip_norm": 1.0}, "1", TypeError, r"clip_norm must be a number in \(0, inf\), got '1'"),
        ({"nonfinite": "skip"}, np.array(["skip", "skip"]), ValueError, "nonfinite must be one of propagate, raise"),
        ({"state": "8bit"}, np.array(["8bit", "8bit"]), ValueError, "state must be one of 'float32', 'bfloat16'"),
        ({"state": "8bit"}, np.array([1, 2]), ValueError, "seed must be a whole number"),
        ({"sparse": "lazy"}, np.array(["lazy", "lazy"]), ValueError, 'sparse must be "lazy"'),
    ],
    ids=repr,
)
def test_an_option_of_all_in_a_group_is_checked_as_the_optimizers(
    options: dict[str, Any], wrong: Any, error: type[Exception], message: str
) -> None:
    name = "seed" if "seed" in message else next(iter(options))
    with pytest.raises(error, match=message):
        ours.AdamW([{"params": parameters(), name: wrong}], **options)


def test_an_option_of_all_does_not_stay_in_a_group() -> None:
    """Where nobody would read what is written to it."""
    for same_norm in (1.0, torch.tensor(1.0), np.float32(1.0), np.array(1.0)):
        mine = ours.AdamW(
            [{"params": parameters(), "clip_norm": same_norm, "nonfinite": "raise"}], clip_norm=1.0, nonfinite="raise"
        )
        assert "clip_norm" not in mine.param_groups[0] and "nonfinite" not in mine.param_groups[0]
    group = {"params": parameters(), "clip_norm": 1.0}
    mine = ours.AdamW(parameters(((1,),)), clip_norm=1.0)
    with pytest.raises(ValueError, match="Invalid learning rate"):
        mine.add_param_group({**group, "lr": -1.0})
    assert len(mine.param_groups) == 1


@pytest.mark.parametrize(
    "given",
    [
        0.5, torch.tensor(0.5), torch.tensor([0.5]), nn.Parameter(torch.tensor(0.5)), Decimal("0.5"), Fraction(1, 2),
        np.float32(0.5), np.array(0.5),
    ],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("name", ["lr", "ema", "clip_norm"])
def test_numbers_of_any_kind(name: str, given: Any) -> None:
    made: Any = ours.AdamW
    mine, expected = made(parameters(), **{name: given}), made(parameters(), **{name: 0.5})
    for optimizer in (mine, expected):
        run(optimizer, range(2))
    assert same([p.detach() for p in params_of(mine)], [p.detach() for p in params_of(expected)])
    if name == "clip_norm":
        assert type(mine.clip_norm) is float


@pytest.mark.parametrize("wrong", [(True, False), (0.9, 1.0), (-0.1, 0.9), (float("nan"), 0.9), np.array([0.9, 1.5])])
def test_betas_out_of_range_that_are_set_later(wrong: Any) -> None:
    mine = ours.AdamW(parameters())
    run(mine, range(1))
    before = snapshot(mine)
    betas, mine.param_groups[0]["betas"] = mine.param_groups[0]["betas"], wrong
    with pytest.raises(ValueError, match=r"AdamW: betas must be two numbers in \[0, 1\), got "):
        run(mine, range(1, 2))
    mine.param_groups[0]["betas"] = betas
    assert same(snapshot(mine), before)
