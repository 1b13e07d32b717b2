"""Checkpoints: torch's go on here and ours there, on the same trajectory; by name, checked, nothing half loaded."""

from __future__ import annotations

import copy
import io
from collections import UserList, deque
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim.swa_utils import AveragedModel

import adamite.torch as ours
from adamite import StateDictError
from tests.torch.race import (
    EVERY,
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


# ---- names that wrappers change


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))
        self.module = nn.Linear(3, 3)  # a name that is also a wrapper's

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(self.inner(x))
        return out


def put(prefix: str, within: str = "") -> Any:
    """A wrapper's word in front of all names, or in front of what comes after a part of them."""
    if not within:
        return lambda names: [prefix + name for name in names]
    return lambda names: [name.replace(within, f"{within}{prefix}") for name in names]


WRAPPED = {
    "compile": put("_orig_mod."),
    "DDP": put("module."),
    "DDP, compiled": put("_orig_mod.module."),
    "compile within DDP": put("module._orig_mod."),
    "FSDP": put("_fsdp_wrapped_module."),
    "Fabric": put("_forward_module."),
    "a compiled layer": put("_orig_mod.", "inner.0."),
    "checkpointed layers": put("_checkpoint_wrapped_module.", "inner."),
    "FSDP within FSDP": lambda names: put("_fsdp_wrapped_module.")(put("_fsdp_wrapped_module.", "inner.")(names)),
    "DDP in the middle": put("module.", "inner."),
}


@pytest.mark.parametrize("here", ["plain", "compile"])
@pytest.mark.parametrize("how", WRAPPED)
def test_names_with_and_without_wrappers_words(how: str, here: str) -> None:
    """There and back, in another order than the names were saved in."""
    wrap = WRAPPED[how]
    torch.manual_seed(0)
    models = [Net(), Net()]
    models[1].load_state_dict(models[0].state_dict())
    bare = [name for name, _ in models[0].named_parameters()]
    names = [wrap(bare), bare if here == "plain" else WRAPPED[here](bare)]
    params = [list(zip(n, m.parameters())) for n, m in zip(names, models, strict=True)]
    first, second = ours.AdamW(params[0]), ours.AdamW(params[1][::-1])
    trained(models[0], first)
    models[1].load_state_dict(models[0].state_dict())
    second.load_state_dict(first.state_dict())
    trained(models[0], first)
    trained(models[1], second)
    assert same(weights(models[1]), weights(models[0]))
    assert second.param_groups[0]["param_names"] == names[1][::-1]
    first.load_state_dict(second.state_dict())
    trained(models[0], first)
    trained(models[1], second)
    assert same(weights(models[1]), weights(models[0]))


def weights(m: nn.Module) -> list[Tensor]:
    return [p.detach() for p in m.parameters()]


@pytest.mark.parametrize("wrap", [lambda m: torch.compile(m, backend="eager"), nn.DataParallel, AveragedModel])
def test_a_wrapped_models_groups(wrap: Any) -> None:
    """Real wrappers, and groups that `param_groups` makes of what they hold."""
    other, whole = Net(), wrap(Net())
    first, second = ours.AdamW(ours.param_groups(whole)), ours.AdamW(ours.param_groups(other))
    assert first.param_groups[0]["param_names"] != second.param_groups[0]["param_names"]
    trained(whole, first)
    second.load_state_dict(first.state_dict())
    back = ours.AdamW(ours.param_groups(whole))
    back.load_state_dict(second.state_dict())
    states = [[o.state[p]["exp_avg"] for p in params_of(o)] for o in (first, second, back)]
    assert same(states[1], states[0]) and same(states[2], states[0])


def test_names_that_differ_in_more_than_wrappers_words_are_refused() -> None:
    """Parametrizations rename what they make a parameter from: it is another one."""
    plain, other = nn.Linear(3, 2), nn.Linear(3, 2)
    parametrizations.weight_norm(other)
    first = ours.SGD(nn.ModuleDict({"a": plain, "b": nn.Linear(2, 1, bias=False)}).named_parameters())
    with pytest.raises(StateDictError, match=r"unknown parameters .*parametrizations\.weight\.original0"):
        first.load_state_dict(ours.SGD(other.named_parameters()).state_dict())
    x, y = parameters(((3,), (3,)))
    twins = ours.SGD([("module.a", x), ("a", y)], momentum=0.9)
    run(twins, range(1))
    again = ours.SGD([("a", copied(y)), ("module.a", copied(x))], momentum=0.9)
    again.load_state_dict(twins.state_dict())  # alike without the word, so with it
    p, q = params_of(again)
    assert torch.equal(again.state[p]["momentum_buffer"], twins.state[y]["momentum_buffer"])
    assert torch.equal(again.state[q]["momentum_buffer"], twins.state[x]["momentum_buffer"])


# ---- what fits


def replaced(optimizer: Any, key: str, value: Any) -> Any:
    state = copy.deepcopy(optimizer.state_dict())
    state["state"][0][key] = value
    return state


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("Adam", "exp_avg", torch.ones(1), r"exp_avg: here \(5,\), in the state \(1,\)"),
        ("Adam", "exp_avg", torch.tensor(1.0), r"exp_avg: here \(5,\), in the state \(\)"),
        ("Adam", "exp_avg_sq", torch.ones(5, 1), r"exp_avg_sq: here \(5,\), in the state \(5, 1\)"),
        ("Adam", "exp_avg", 0.5, "exp_avg: here a tensor, in the state a float"),
        ("Adam", "exp_avg", torch.ones(5, dtype=torch.complex128), "exp_avg: here real, in the state complex"),
        ("Adam", "step", torch.ones(5), "step: here one number, in the state tensor"),
        ("Adam", "step", "3", "step: here one number, in the state '3'"),
        ("NAdam", "mu_product", torch.ones(5), "mu_product: here one number"),
        ("SGD", "momentum_buffer", torch.ones(1), r"momentum_buffer: here \(5,\), in the state \(1,\)"),
        ("Adagrad", "sum", torch.ones(1), r"sum: here \(5,\), in the state \(1,\)"),
        ("Adam", "exp_avg", None, "exp_avg: here a tensor, in the state a NoneType"),
        ("RMSprop", "square_avg", None, "square_avg: here a tensor, in the state a NoneType"),
        ("Adam", "step", None, "step: here one number, in the state None"),
        ("NAdam", "mu_product", None, "mu_product: here one number, in the state None"),
    ],
)
def test_states_of_another_size_are_refused_at_once(name: str, key: str, value: Any, message: str) -> None:
    more: dict[str, Any] = {"momentum": 0.9} if name == "SGD" else {}
    mine = getattr(ours, name)(parameters(((5,), (1,))), **more)
    run(mine, range(2))
    before = snapshot(mine)
    with pytest.raises(StateDictError, match=f"parameter 0 of group 0, state {message}"):
        mine.load_state_dict(replaced(mine, key, value))
    assert same(snapshot(mine), before)


def test_a_number_that_is_missing_is_refused() -> None:
    mine = ours.NAdam(parameters(((5,),)))
    run(mine, range(2))
    state = copy.deepcopy(mine.state_dict())
    del state["state"][0]["mu_product"]
    with pytest.raises(StateDictError, match="mu_product not among its states"):
        mine.load_state_dict(state)


def test_one_element_goes_into_one_element() -> None:
    mine = ours.Adam(parameters(((1,), ())))
    run(mine, range(2))
    other = again(ours, "Adam", mine)
    with pytest.raises(StateDictError, match=r"exp_avg: here \(1,\), in the state \(\)"):
        other.load_state_dict(replaced(mine, "exp_avg", torch.tensor(1.0)))
    run(mine, range(2, 4))
    run(other, range(2, 4))
    assert same(snapshot(other), snapshot(mine))


@pytest.mark.parametrize("name", EVERY)
def test_what_a_program_keeps_in_a_state_goes_through(name: str) -> None:
    """Keys of one's own, of any shape and kind."""
    mine = getattr(ours, name)(parameters(((5,), (2, 3))))
    run(mine, range(2))
    own: dict[str, Any] = {
        "mask": torch.ones(7, dtype=torch.bool), "scale": torch.tensor(0.5), "rows": torch.arange(4).view(2, 2),
        "ema": torch.ones(2), "history": [torch.ones(3), 2], "note": "kept", "count": 3,
    }  # fmt: skip
    mine.state[params_of(mine)[0]].update(own)
    other = getattr(ours, name)([copied(p) for p in params_of(mine)])
    other.load_state_dict(mine.state_dict())
    kept = other.state[params_of(other)[0]]
    assert all(same(kept[key], value) for key, value in own.items())
    assert kept["mask"] is not own["mask"] and kept["history"][0] is not own["history"][0]
    run(mine, range(2, 4))
    run(other, range(2, 4))
    assert same(snapshot(other), snapshot(mine))


# ---- what isn't in a checkpoint


def test_a_groups_extras_stay_where_the_checkpoint_has_none() -> None:
    for library in (torch.optim, ours):
        p, q = parameters(((3,), (2,)))
        saver = library.Adam([{"params": [p]}, {"params": [q]}], lr=0.5)
        run(saver, range(2))
        groups: Any = [{"params": [copied(p)], "ema": 0.9}, {"params": [copied(q)], "cautious": True}]
        mine = ours.Adam(groups)
        mine.load_state_dict(saver.state_dict())
        assert [(g["lr"], g.get("ema"), g.get("cautious")) for g in mine.param_groups] == [
            (0.5, 0.9, None), (0.5, None, True),
        ]  # fmt: skip
        run(mine, range(2, 4))
        assert "ema" in mine.state[params_of(mine)[0]]


def test_a_checkpoints_extras_are_taken() -> None:
    saver = ours.Adam(parameters(), ema=0.9)
    run(saver, range(2))
    mine = ours.Adam(parameters(), ema=0.5)
    mine.load_state_dict(saver.state_dict())
    assert mine.param_groups[0]["ema"] == 0.9


def test_what_is_of_the_whole_optimizer_stays_as_it_was_made() -> None:
    """Clipping and the rest are in no checkpoint, and a group of one that has them, as wrappers' have, says nothing."""
    mine = ours.Adam(parameters(), clip_norm=1.0, nonfinite="skip")
    bare = ours.Adam(parameters())
    run(bare, range(2))
    mine.load_state_dict(bare.state_dict())
    assert (mine.clip_norm, mine.nonfinite) == (1.0, "skip")
    bare.load_state_dict(mine.state_dict())
    assert (bare.clip_norm, bare.nonfinite) == (None, "propagate")
    state = mine.state_dict()
    state["param_groups"][0].update(clip_norm=3.0, state="8bit")
    mine.load_state_dict(state)
    assert mine.clip_norm == 1.0 and "clip_norm" not in mine.param_groups[0] and "state" not in mine.param_groups[0]


@pytest.mark.parametrize("name", ["Adam", "RAdam", "Adadelta"])
def test_a_checkpoint_of_captured_steps_is_loaded(name: str) -> None:
    """How a step was run on another machine is nothing that this one has to do."""
    saver = getattr(ours, name)(parameters())
    run(saver, range(2))
    state = copy.deepcopy(saver.state_dict())
    state["param_groups"][0].update(capturable=True, differentiable=True)
    mine = getattr(ours, name)(parameters())
    mine.load_state_dict(state)
    assert mine.param_groups[0]["capturable"] is mine.param_groups[0]["differentiable"] is False
    run(mine, range(2, 3))


@pytest.mark.parametrize("betas", [[0.5, 0.75], np.array([0.5, 0.75]), torch.tensor([0.5, 0.75])], ids=repr)
def test_a_checkpoint_with_betas_of_another_kind(betas: Any) -> None:
    saver = ours.Adam(parameters(((3,),)))
    run(saver, range(2))
    state = saver.state_dict()
    state["param_groups"][0]["betas"] = betas
    mine, expected = ours.Adam(parameters(((3,),))), ours.Adam(parameters(((3,),)))
    mine.load_state_dict(state)
    state["param_groups"][0]["betas"] = (0.5, 0.75)
    expected.load_state_dict(state)
    assert type(mine.param_groups[0]["betas"]) is tuple
    for optimizer in (mine, expected):
        run(optimizer, range(2, 4))
    assert same(params_of(mine)[0].detach(), params_of(expected)[0].detach())
    state["param_groups"][0]["betas"] = [0.5]
    with pytest.raises(ValueError, match=r"betas must be two numbers in \[0, 1\), got \[0\.5\]"):
        mine.load_state_dict(state)


class Rivals(nn.Module):
    """A module of its own name `module`, whose parameters are called as others beside it."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)
        self.weight, self.bias = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.module(x) @ self.weight * 3 + self.bias
        return out


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("how", ["DataParallel", "compile", "both", "a layer"])
def test_a_modules_own_name_is_no_wrappers(how: str, grouped: bool) -> None:
    def wrapped(m: Any) -> Any:
        if how == "a layer":
            m.module = torch.compile(m.module, backend="eager")
        m = nn.DataParallel(m) if how in ("DataParallel", "both") else m
        return torch.compile(m, backend="eager") if how in ("compile", "both") else m

    def made(m: Any) -> Any:
        named = ours.param_groups(m, 0.1) if grouped else list(m.named_parameters())[::-1]
        return ours.AdamW(named, lr=0.1)

    plain, inner = Rivals(), Rivals()
    whole = wrapped(inner)
    first = made(whole)
    whole(torch.ones(3, 2)).square().sum().backward()
    first.step()
    second = made(plain)
    second.load_state_dict(first.state_dict())
    back = made(whole)
    back.load_state_dict(second.state_dict())
    for p, q in zip(inner.parameters(), plain.parameters(), strict=True):
        assert torch.equal(second.state[q]["exp_avg"], first.state[p]["exp_avg"])
        assert torch.equal(back.state[p]["exp_avg"], first.state[p]["exp_avg"])


@pytest.mark.parametrize("assigned", ["an array", "another sequence", "a queue"])
def test_betas_set_since_are_saved_as_a_tuple(assigned: str) -> None:
    """Which torch.load reads with weights_only=True."""
    made: dict[str, Any] = {"an array": np.array, "another sequence": UserList, "a queue": deque}
    betas = made[assigned]([0.9, 0.95])
    mine = ours.AdamW(parameters(((3,),)))
    run(mine, range(1))
    mine.param_groups[0]["betas"] = betas
    file = io.BytesIO()
    torch.save(mine.state_dict(), file)
    file.seek(0)
    assert torch.load(file, weights_only=True)["param_groups"][0]["betas"] == (0.9, 0.95)
    assert mine.param_groups[0]["betas"] is betas


@pytest.mark.parametrize(("name", "key"), [("Adam", "step"), ("NAdam", "mu_product")])
def test_several_numbers_in_place_of_one_are_refused_at_the_step(name: str, key: str) -> None:
    mine = getattr(ours, name)(parameters(((5,),)))
    run(mine, range(1))
    (p,) = params_of(mine)
    before = p.detach().clone()
    mine.state[p][key] = torch.ones(5)
    with pytest.raises(StateDictError, match=f"state {key} of parameter 0 of group 0: here one number, in the state"):
        run(mine, range(1, 2))
    assert torch.equal(p, before)
