"""Checkpoints: torch's go on here and ours there, on the same trajectory; by name, checked, nothing half loaded."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import nn

import adamite.torch as ours
from adamite import StateDictError
from tests.torch.race import (
    NAMES,
    copied,
    distance,
    gradient,
    pair,
    parameters,
    params_of,
    run,
    same,
    snapshot,
    starts,
)
from tests.torch.test_numbers import OPTIONS

pytestmark = pytest.mark.usefixtures("double")
EVERY = [*NAMES, "AdaBelief", "Lion", "ADOPT"]


def saved(optimizer: Any) -> Any:
    """What torch.save and torch.load make of a state dict."""
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def again(library: Any, name: str, optimizer: Any, **options: Any) -> Any:
    """A new optimizer of copies of the parameters, which goes on."""
    new = getattr(library, name)([copied(p) for p in params_of(optimizer)], **options)
    new.load_state_dict(saved(optimizer))
    return new


@pytest.mark.parametrize("steps", [1, 50])
@pytest.mark.parametrize("name", NAMES)
def test_from_torch_and_back(name: str, steps: int) -> None:
    options = OPTIONS[name]
    theirs, mine = pair(name, parameters(), **options)
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(steps))
    here, there = again(ours, name, theirs), again(torch.optim, name, mine)
    for optimizer in (theirs, here, there):
        run(optimizer, range(steps, steps + 10))
    assert distance(here, theirs, start) <= 1e-12
    assert distance(there, theirs, start) <= 1e-12
    back = again(ours, name, there)
    for optimizer in (theirs, back):
        run(optimizer, range(steps + 10, steps + 15))
    assert distance(back, theirs, start) <= 1e-12


@pytest.mark.parametrize("name", EVERY)
def test_to_itself_bit_for_bit(name: str) -> None:
    more: dict[str, Any] = {"ema": 0.9, "cautious": True, "clip_norm": 1.0}
    mine = getattr(ours, name)(parameters(dtype=torch.float32), **more)
    run(mine, range(5))
    other = again(ours, name, mine, **more)
    for optimizer in (mine, other):
        run(optimizer, range(5, 10))
    assert same(snapshot(other), snapshot(mine))


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
def test_types_are_kept(kind: torch.dtype) -> None:
    mine = ours.Adam(parameters(dtype=kind), lr=0.01)
    run(mine, range(3))
    other = again(ours, "Adam", mine)
    assert other.state[params_of(other)[0]]["exp_avg"].dtype == torch.float32
    for optimizer in (mine, other):
        run(optimizer, range(3, 6))
    assert same(snapshot(other), snapshot(mine))
    theirs = again(torch.optim, "Adam", mine)  # torch rounds the moments to the parameter's type
    run(theirs, range(6, 8))
    assert all(torch.isfinite(p).all() for p in params_of(theirs))
    run(again(ours, "Adam", theirs), range(8, 9))


def test_what_is_loaded_is_a_copy() -> None:
    mine = ours.Adam(parameters())
    run(mine, range(2))
    state = mine.state_dict()
    others = [ours.Adam([copied(p) for p in params_of(mine)]) for _ in range(2)]
    for other in others:
        other.load_state_dict(state)
    before = snapshot(mine)
    run(others[0], range(2, 5))
    assert same(snapshot(mine), before)
    assert others[1].state[params_of(others[1])[0]]["step"] == 2


@pytest.mark.parametrize("name", ["Adam", "NAdam", "RMSprop", "Adagrad"])
def test_older_layouts(name: str) -> None:
    """Step numbers that are Python's, groups without the newer keys, a momentum buffer that is None."""
    theirs, _ = pair(name, parameters())
    start = starts(theirs)
    run(theirs, range(4))
    old = copy.deepcopy(theirs.state_dict())
    for kept in old["state"].values():
        kept["step"] = int(kept["step"])
        if "mu_product" in kept:
            kept["mu_product"] = float(kept["mu_product"])
    for group in old["param_groups"]:
        for key in ("maximize", "foreach", "capturable", "differentiable", "fused", "decoupled_weight_decay"):
            group.pop(key, None)
    here = again(ours, name, theirs)
    here.load_state_dict(old)
    for optimizer in (theirs, here):
        run(optimizer, range(4, 8))
    assert distance(here, theirs, start) <= 1e-12


def test_a_momentum_buffer_of_none() -> None:
    theirs, mine = pair("SGD", parameters(), momentum=0.9, dampening=0.5)
    start = starts(theirs)
    state = mine.state_dict()
    state["state"] = {k: {"momentum_buffer": None} for k in range(len(parameters()))}
    mine.load_state_dict(state)
    for optimizer in (theirs, mine):
        run(optimizer, range(4))
    assert distance(mine, theirs, start) <= 1e-12


def test_parameters_without_a_gradient_have_no_state() -> None:
    theirs, mine = pair("Adam", parameters())
    for optimizer in (theirs, mine):
        for index, p in enumerate(params_of(optimizer)):
            p.grad = gradient(p, 0, index) if index % 2 else None
        optimizer.step()
    assert mine.state_dict()["state"].keys() == theirs.state_dict()["state"].keys()
    here = again(ours, "Adam", theirs)
    start = starts(theirs)
    for optimizer in (theirs, here):
        run(optimizer, range(1, 4))
    assert distance(here, theirs, start) <= 1e-12


def test_adam_loads_a_checkpoint_of_adamw_as_torch_does() -> None:
    theirs, _ = pair("AdamW", parameters(), weight_decay=0.3)
    run(theirs, range(3))
    start = starts(theirs)
    here, there = again(ours, "Adam", theirs), again(torch.optim, "Adam", theirs)
    for optimizer in (here, there):
        run(optimizer, range(3, 6))
    assert distance(here, there, start) <= 1e-12
    kept = again(ours, "AdamW", again(torch.optim, "Adam", here))
    assert kept.param_groups[0]["decoupled_weight_decay"] is True


# ---- by name


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 3), nn.LayerNorm(3))


def trained(m: nn.Module, optimizer: Any, steps: int = 3) -> None:
    x = torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        optimizer.zero_grad()
        m(x).square().mean().backward()
        optimizer.step()


def test_parameters_are_matched_by_name() -> None:
    a, b = model(), model()
    first = ours.AdamW(list(a.named_parameters()))
    trained(a, first)
    b.load_state_dict(a.state_dict())
    second = ours.AdamW(list(reversed(list(b.named_parameters()))))
    second.load_state_dict(first.state_dict())
    for name, p in b.named_parameters():
        assert torch.equal(second.state[p]["exp_avg"], first.state[a.get_parameter(name)]["exp_avg"])
    trained(a, first)
    trained(b, second)
    for p, q in zip(a.parameters(), b.parameters(), strict=True):
        assert torch.equal(p, q)


def test_unknown_names_are_refused() -> None:
    a = model()
    first = ours.AdamW(a.named_parameters())
    trained(a, first)
    other = ours.AdamW([(f"other.{n}", p) for n, p in model().named_parameters()])
    before = snapshot(other)
    with pytest.raises(StateDictError, match=r"missing parameters other\.0\.bias.*") as found:
        other.load_state_dict(first.state_dict())
    assert "unknown parameters 0.bias" in str(found.value) and same(snapshot(other), before)


def test_other_shapes_are_refused() -> None:
    mine, other = ours.Adam(parameters(((3, 4), (2,)))), ours.Adam(parameters(((2,), (3, 4))))
    run(mine, range(2))
    run(other, range(2))
    before = snapshot(other)
    with pytest.raises(StateDictError, match=r"exp_avg: here \(2,\), in the state \(3, 4\)"):
        other.load_state_dict(mine.state_dict())
    assert same(snapshot(other), before)


def test_another_optimizers_states_are_refused() -> None:
    mine, other = ours.RMSprop(parameters()), ours.Adam(parameters())
    run(mine, range(2))
    with pytest.raises(StateDictError, match="exp_avg, exp_avg_sq not among its states"):
        other.load_state_dict(mine.state_dict())
    run(other, range(2))
    with pytest.raises(StateDictError, match="is it another optimizer's"):
        ours.Adagrad(parameters()).load_state_dict({**other.state_dict(), "state": {0: {"momentum": 1.0}}})


@pytest.mark.parametrize("wrong", [{}, {"model": {}, "optimizer": {}}, {"0.weight": 1.0}])
def test_what_is_no_state_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(StateDictError, match=r"'state' and 'param_groups' not in the state .* give what state_dict"):
        ours.Adam(parameters()).load_state_dict(wrong)


@pytest.mark.parametrize("wrong", [None, "checkpoint.pt"])
def test_what_is_no_mapping_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"takes what state_dict\(\) returned, got .*torch.load"):
        ours.Adam(parameters()).load_state_dict(wrong)


def test_other_groups_are_refused_in_torchs_words() -> None:
    mine, other = ours.Adam(parameters()), ours.Adam([{"params": parameters()}, {"params": parameters(((1,),))}])
    with pytest.raises(ValueError, match="different number of parameter groups"):
        other.load_state_dict(mine.state_dict())
    with pytest.raises(ValueError, match="doesn't match the size of optimizer's group"):
        ours.Adam(parameters(((1,),))).load_state_dict(mine.state_dict())


def test_hooks_around_saving_and_loading() -> None:
    mine, calls = ours.Adam(parameters()), []
    mine.register_state_dict_pre_hook(lambda o: calls.append("save"))
    mine.register_state_dict_post_hook(lambda o, s: calls.append("saved"))
    mine.register_load_state_dict_pre_hook(lambda o, s: calls.append("load"))
    mine.register_load_state_dict_post_hook(lambda o: calls.append("loaded"))
    run(mine, range(1))
    mine.load_state_dict(mine.state_dict())
    assert calls == ["save", "saved", "load", "loaded"]


def test_settings_of_a_torch_checkpoint_keep_ours() -> None:
    """What torch's groups don't know stays as it was given."""
    theirs, _ = pair("Adam", parameters())
    run(theirs, range(2))
    here = again(ours, "Adam", theirs, ema=0.5, cautious=True)
    assert here.param_groups[0]["ema"] == 0.5 and here.param_groups[0]["cautious"] is True
    run(here, range(2, 4))
    with here.averaged():
        pass
