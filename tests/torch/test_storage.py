"""States of bfloat16 and 8 bits, and bfloat16 weights, in torch: NumPy's bits, checkpoints, layouts, refusals."""

from __future__ import annotations

import copy
import io
import pickle
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adamite
import adamite.torch as ours
from adamite import StateDictError
from adamite.engine import kernels, threads
from adamite.frontend.catalogue import CONVENTIONS, TORCH
from adamite.storage import BFLOAT16, EIGHT_BIT_SIGNED, EIGHT_BIT_UNSIGNED
from tests.torch.race import copied, same, snapshot

NARROW = pytest.mark.parametrize("state", ["8bit", "bfloat16"])
ROUNDINGS = pytest.mark.parametrize("rounding", ["nearest", "stochastic", "kahan"])
SHAPES = ((4097,), (3,), (70, 80), (), (64, 64))
CLASSES: dict[str, dict[str, Any]] = {
    **{name: {} for name in TORCH},
    "SGD": dict(momentum=0.9, nesterov=True, lr=0.01),
    "RMSprop": dict(momentum=0.9),
    "Adagrad": dict(initial_accumulator_value=0.1),
    "Adam": dict(amsgrad=True, weight_decay=0.1),
}
EVERY = pytest.mark.parametrize("name", CLASSES)
DTYPES = {"8bit": torch.uint8, "bfloat16": torch.bfloat16, "float32": torch.float32}


def drawn(step: int, index: int, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng([step, index])
    return np.asarray(rng.normal(size=shape) * 10.0 ** rng.integers(-3, 2), np.float32)


def parameters(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    return [nn.Parameter(torch.from_numpy(drawn(99, k, shape)).to(dtype)) for k, shape in enumerate(SHAPES)]


def run(optimizer: Any, steps: range) -> None:
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for step in steps:
        for k, p in enumerate(params):
            p.grad = torch.from_numpy(drawn(step, k, tuple(p.shape))).to(p.dtype)
        optimizer.step()


def params_of(optimizer: Any) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def made(name: str, params: Any, **more: Any) -> Any:
    return getattr(ours, name)(params, **CLASSES[name], **more)


def again(optimizer: Any, name: str, **more: Any) -> Any:
    """A new optimizer of copies of the parameters."""
    return made(name, [copied(p) for p in params_of(optimizer)], **more)


def states(optimizer: Any) -> Iterator[tuple[Tensor, str, Tensor]]:
    """The rule's states of more than one number."""
    for p, kept in optimizer.state.items():
        for key, value in kept.items():
            if isinstance(value, Tensor) and (value.shape != () or key not in ("step", "mu_product")):
                yield p, key, value


# ---- NumPy's bits ---------------------------------------------------------------------------------

# Rule, convention, and options of the class above as NumPy's class has them.
IN_NUMPY: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", dict(momentum=0.9, nesterov=True, lr=0.01)),
    "RMSprop": ("RMSprop", dict(momentum=0.9)),
    "Adagrad": ("Adagrad", dict(s0=0.1)),
    "Adam": ("AMSGrad", dict(weight_decay=0.1)),
}


def view(p: Tensor) -> Any:
    p = p.detach()
    return (p.view(torch.int16).numpy().view(np.uint16) if p.dtype is torch.bfloat16 else p.numpy()).copy()


@NARROW
@EVERY
def test_numpys_bits(name: str, state: Any) -> None:
    numpys, options = IN_NUMPY.get(name, (name, {}))
    mine = made(name, parameters(), state=state, seed=3)
    x = [view(p) for p in parameters()]
    other = getattr(adamite, numpys)(x, convention="torch", state=state, seed=3, **options)
    spelled = {theirs: own for own, theirs in TORCH[name].states.items()}
    for step in range(4):
        run(mine, range(step, step + 1))
        other.step([drawn(step, k, shape) for k, shape in enumerate(SHAPES)])
        for k, p in enumerate(params_of(mine)):
            np.testing.assert_array_equal(view(p), x[k], err_msg=f"{k}")
    kept = other.state_dict()["parameters"]
    narrow = 0
    for p, key, value in states(mine):
        index = next(k for k, q in enumerate(params_of(mine)) if q is p)
        there = kept[str(index)][spelled[key]]
        np.testing.assert_array_equal(view(value), there, err_msg=key)
        assert value.dtype == (DTYPES[state] if p.numel() >= 4096 else torch.float32)
        narrow += p.numel() >= 4096
    assert narrow >= 3 and set(CONVENTIONS[numpys]) >= {"torch"}


@NARROW
def test_numpys_reading_has_the_bits(state: Any) -> None:
    found = []
    for backend in ("llvm", "numpy"):
        with kernels.using(backend):
            optimizer = made("AdamW", parameters(), state=state, clip_norm=1.0, ema=0.9, cautious=True)
            run(optimizer, range(3))
        found.append(snapshot(optimizer))
    assert same(*found)


# All nine ways to rest for one class; for the others each state, each with another rounding, by turns.
WAYS = [
    (state, rounding) for state in ("float32", "8bit", "bfloat16") for rounding in ("nearest", "stochastic", "kahan")
]
IN_TURN = [
    (name, *way)
    for k, name in enumerate(CLASSES)
    for j, way in enumerate(WAYS)
    if name == "AdamW" or (j // 3 + j + k) % 3 == 0
]


@pytest.mark.parametrize(("name", "state", "rounding"), IN_TURN)
def test_bfloat16_parameters(name: str, state: Any, rounding: Any) -> None:
    """Machine code as NumPy's reading; and near the float32 weights that the same gradients make."""
    found = []
    for backend in ("llvm", "numpy"):
        with kernels.using(backend):
            optimizer = made(name, parameters(torch.bfloat16), state=state, rounding=rounding)
            run(optimizer, range(4))
        found.append(snapshot(optimizer))
    assert same(*found)
    for p, kept in optimizer.state.items():
        rest = kept.get("compensation")
        assert p.dtype is torch.bfloat16 and (rest is None) == (rounding != "kahan")
        if rest is not None:
            assert rest.dtype is torch.bfloat16 and rest.shape == p.shape
            spacing = 2.0 ** (torch.floor(torch.log2(p.detach().float().abs())) - 7)
            assert (rest.float().abs() <= spacing / 2 * 1.01).all() and (rest.numel() < 10 or rest.any())
    for p, key, value in states(optimizer):
        if key != "compensation":
            assert value.dtype == (DTYPES[state] if p.numel() >= 4096 else torch.float32), key


@EVERY
def test_compensation_is_the_rest_of_the_float32_weight(name: str) -> None:
    """Beside float32 weights that begin where bfloat16's do, with the same gradients."""
    mine = made(name, parameters(torch.bfloat16), rounding="kahan")
    wide = made(name, [nn.Parameter(p.detach().float()) for p in parameters(torch.bfloat16)])
    for step in range(5):
        for k, (p, q) in enumerate(zip(params_of(mine), params_of(wide), strict=True)):
            p.grad = torch.from_numpy(drawn(step, k, tuple(p.shape))).bfloat16()
            q.grad = p.grad.float()
        mine.step()
        wide.step()
    for p, q in zip(params_of(mine), params_of(wide), strict=True):
        whole = p.detach().double() + mine.state[p]["compensation"].double()
        assert (whole - q.detach()).abs().max() <= 2.0**-14 * q.detach().abs().max()


ASSIGNED: dict[str, Callable[[Tensor], object]] = {
    "zeros": lambda p: p.zero_(),
    "ones": lambda p: p.fill_(1.0),
    "infinity": lambda p: p.fill_(torch.inf),
    "pruned": lambda p: p.data.mul_(torch.arange(p.numel()).view(p.shape) % 2),
    "turned": lambda p: p.data.copy_(p.flip(0) * -3),
    "data": lambda p: setattr(p, "data", torch.linspace(-1, 1, p.numel()).view(p.shape).bfloat16()),
    "loaded": lambda p: nn.ParameterList([p]).load_state_dict({"0": torch.full_like(p, 0.1)}),
}


@pytest.mark.parametrize("assign", ASSIGNED.values(), ids=ASSIGNED)
@pytest.mark.parametrize("state", ["float32", "8bit"])
def test_what_was_lost_of_other_weights_is_not_added_to_assigned_ones(
    assign: Callable[[Tensor], object], state: Any
) -> None:
    parameters = [nn.Parameter(torch.randn(shape).bfloat16()) for shape in ((64, 80), (7,))]
    optimizer = ours.AdamW(parameters, lr=0.01, weight_decay=0, state=state, rounding="kahan")
    run(optimizer, range(5))
    with torch.no_grad():
        for p in parameters:
            assign(p)
    expected = [p.detach().clone() for p in parameters]
    optimizer.param_groups[0]["lr"] = 0.0
    run(optimizer, range(2))
    assert same([p.detach() for p in parameters], expected)


def test_random_bits_are_a_parameters_own_and_a_seeds() -> None:
    found = {}
    for seed in (0, 1):
        twins = [nn.Parameter(torch.ones(8192)) for _ in range(2)]
        optimizer = ours.Adam(twins, state="8bit", seed=seed)
        for step in range(3):
            for p in twins:
                p.grad = torch.from_numpy(drawn(step, 0, (8192,)))
            optimizer.step()
        found[seed] = [optimizer.state[p]["exp_avg_sq"] for p in twins]
    (a, b), (c, _) = found.values()
    assert (a != b).double().mean() > 0.2 and (a != c).double().mean() > 0.2


# ---- checkpoints ----------------------------------------------------------------------------------


def saved(optimizer: Any) -> Any:
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def through_safetensors(optimizer: Any, place: Path) -> Any:
    files = pytest.importorskip("safetensors.torch")
    whole = optimizer.state_dict()
    flat = {f"{k}/{n}": v.contiguous().clone() for k, kept in whole["state"].items() for n, v in kept.items()}
    files.save_file(flat, place / "state.safetensors")
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in files.load_file(place / "state.safetensors").items():
        number, name = key.split("/")
        state.setdefault(int(number), {})[name] = value
    return {"state": state, "param_groups": whole["param_groups"]}


@NARROW
@EVERY
def test_to_itself_bit_for_bit(name: str, state: Any, tmp_path: Path) -> None:
    more: dict[str, Any] = {"state": state, "ema": 0.9, "clip_norm": 1.0}
    mine = made(name, parameters(), **more)
    run(mine, range(3))
    others = [again(mine, name, **more) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        others[0].load_state_dict(saved(mine))
        others[1].load_state_dict(through_safetensors(mine, tmp_path))
        others += [copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))]
    for optimizer in (mine, *others):
        run(optimizer, range(3, 6))
    for other in others:
        assert same(snapshot(other), snapshot(mine))


@ROUNDINGS
def test_bfloat16_weights_to_themselves(rounding: Any) -> None:
    more: dict[str, Any] = {"state": "8bit", "rounding": rounding, "seed": 9}
    mine = made("AdamW", parameters(torch.bfloat16), **more)
    run(mine, range(3))
    other = again(mine, "AdamW", **more)
    other.load_state_dict(saved(mine))
    copies = [other, copy.deepcopy(mine), pickle.loads(pickle.dumps(mine))]
    for optimizer in (mine, *copies):
        run(optimizer, range(3, 6))
    assert all(same(snapshot(copied), snapshot(mine)) for copied in copies)


def values(value: Tensor, key: str, elements: int) -> Tensor:
    """A state as numbers."""
    if value.dtype is not torch.uint8:
        return value.double().reshape(-1)
    format = EIGHT_BIT_SIGNED if key in ("exp_avg", "momentum_buffer", "grad_avg") else EIGHT_BIT_UNSIGNED
    return torch.from_numpy(format.decode(value.numpy(), elements)).double()


def within(mine: Tensor, theirs: Tensor, state: str) -> bool:
    """Whether numbers differ by no more than one rounding to the format."""
    if state == "8bit":
        blocks = theirs.abs().split(256)
        most = torch.cat([torch.full_like(b, float(b.max())) for b in blocks])
        return bool(((mine - theirs).abs() <= theirs.abs() / 8 + most * 2.0**-17.9).all())
    return bool(((mine - theirs).abs() <= (theirs.abs() / 128 if state == "bfloat16" else 0)).all())


KINDS = ("float32", "bfloat16", "8bit")


@pytest.mark.parametrize("there, here", [(there, here) for there in KINDS for here in KINDS if there != here])
@EVERY
def test_into_another_format(name: str, there: Any, here: Any) -> None:
    mine = made(name, parameters(), state=there)
    run(mine, range(3))
    other = again(mine, name, state=here)
    with pytest.warns(UserWarning, match=rf"{name}: states of 3 parameters were {there} .* {here} here") as seen:
        other.load_state_dict(saved(mine))
    assert len(seen) == 1
    assert_near(other, mine, here)
    run(other, range(3, 5))


def assert_near(other: Any, mine: Any, state: str) -> None:
    theirs = dict(zip(params_of(other), params_of(mine), strict=True))
    count = 0
    for p, key, value in states(other):
        if p.numel() >= 4096:
            assert value.dtype == DTYPES[state]
            old = values(mine.state[theirs[p]][key], key, p.numel())
            assert within(values(value, key, p.numel()), old, state), key
            count += 1
        else:
            assert torch.equal(value, mine.state[theirs[p]][key])
    assert count >= 3


@NARROW
@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adagrad", "Adadelta", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"])
def test_a_checkpoint_of_torchs(name: str, state: Any) -> None:
    theirs = getattr(torch.optim, name)(parameters(), **CLASSES[name])
    run(theirs, range(3))
    other = again(theirs, name, state=state)
    with pytest.warns(UserWarning, match=rf"{name}: states of 3 parameters were float32 when saved and are {state}"):
        other.load_state_dict(saved(theirs))
    before = [copied(p) for p in params_of(other)]
    for p in params_of(other):
        p.grad = torch.zeros_like(p)
    exact = again(theirs, name)
    exact.load_state_dict(saved(theirs))
    run(other, range(3, 4))
    run(exact, range(3, 4))
    for p, q, start in zip(params_of(other), params_of(exact), before, strict=True):
        step, wanted = (a.detach() - start.detach() for a in (p, q))
        assert (step - wanted).abs().mean() < 0.25 * wanted.abs().mean()
    assert {value.dtype for p, _, value in states(other) if p.numel() >= 4096} == {DTYPES[state]}


def test_into_torchs_own() -> None:
    """Its classes can't read 8-bit states; float32 ones made of them they can."""
    mine = made("AdamW", parameters(), state="8bit")
    run(mine, range(3))
    plain = again(mine, "AdamW")
    with pytest.warns(UserWarning, match="were 8bit"):
        plain.load_state_dict(saved(mine))
    theirs = torch.optim.AdamW([copied(p) for p in params_of(mine)])
    theirs.load_state_dict(plain.state_dict())
    run(theirs, range(3, 5))


@pytest.mark.parametrize("here", ["8bit", "bfloat16", "float32"])
def test_a_state_of_another_size_is_refused(here: Any) -> None:
    mine = ours.AdamW([nn.Parameter(torch.ones(9000))], state="8bit")
    run(mine, range(2))
    for size in (5000, 100, 12_000):
        other = ours.AdamW([nn.Parameter(torch.ones(size))], state=here)
        run(other, range(1))
        before = snapshot(other)
        with pytest.raises(StateDictError, match=r"nothing was loaded:\n.*state exp_avg: here .*in the state"):
            other.load_state_dict(saved(mine))
        assert same(snapshot(other), before)
        run(other, range(1, 2))


def test_a_small_parameter_takes_a_large_ones_state_never() -> None:
    """4,096 elements take 16 · 257 bytes: a plain state of that many elements isn't one."""
    mine = ours.AdamW([nn.Parameter(torch.ones(16 * 257))])
    run(mine, range(2))
    other = ours.AdamW([nn.Parameter(torch.ones(4096))], state="8bit")
    with pytest.raises(StateDictError, match="state exp_avg"):
        other.load_state_dict(saved(mine))


def test_compensation_is_loaded_and_begun() -> None:
    mine = made("AdamW", parameters(torch.bfloat16))
    run(mine, range(3))
    other = again(mine, "AdamW", rounding="kahan")
    other.load_state_dict(saved(mine))
    run(other, range(3, 4))
    assert all("compensation" in other.state[p] for p in params_of(other))
    plain = again(other, "AdamW")
    plain.load_state_dict(saved(other))
    run(plain, range(4, 5))


# ---- parameters of other layouts, groups, hooks ---------------------------------------------------


def transposed(p: Tensor) -> Tensor:
    return p.transpose(0, 1).contiguous().transpose(0, 1)


def channels_last(p: Tensor) -> Tensor:
    return p.contiguous(memory_format=torch.channels_last)


def gapped(p: Tensor) -> Tensor:
    wide = torch.zeros(*p.shape[:-1], 2 * p.shape[-1], dtype=p.dtype)
    wide[..., ::2] = p
    return wide[..., ::2]


Layout = Callable[[Tensor], Tensor]
LAYOUTS: list[Layout] = [transposed, channels_last, gapped]
MANY: dict[str, dict[str, Any]] = {
    "8bit": dict(state="8bit"),
    "bfloat16": dict(state="bfloat16"),
    "kahan": dict(state="8bit", rounding="kahan"),
    "stochastic": dict(state="float32", rounding="stochastic"),
}


@pytest.mark.parametrize("give", [torch.clone, *LAYOUTS], ids=lambda f: f"gradients-{f.__name__}")
@pytest.mark.parametrize("make", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("options", MANY.values(), ids=MANY)
def test_any_layout(options: dict[str, Any], make: Layout, give: Layout) -> None:
    """8-bit states lie in the order of indices; so where all is read in it, the bits are a contiguous parameter's."""
    dtype = torch.bfloat16 if "rounding" in options else torch.float32
    start = torch.from_numpy(drawn(99, 0, (8, 10, 9, 8))).to(dtype)
    optimizers = [ours.AdamW([nn.Parameter(change(start.clone()))], **options) for change in (torch.clone, make)]
    (plain,), (p,) = map(params_of, optimizers)
    assert p.stride() != plain.stride()
    for step in range(3):
        g = torch.from_numpy(drawn(step, 0, (8, 10, 9, 8))).to(dtype)
        plain.grad, p.grad = g, give(g)
        for optimizer in optimizers:
            optimizer.step()
    assert p.stride() == make(start).stride() and (p != start).any()
    in_order = options["state"] == "8bit" or make is gapped or give is not make
    if in_order:
        assert torch.equal(p, plain)
        kept, theirs = optimizers[1].state[p], optimizers[0].state[plain]
        assert kept.keys() == theirs.keys() and all(torch.equal(kept[key], theirs[key]) for key in kept)
    else:
        assert (p - plain).abs().max() <= 2.0**-5 * plain.abs().max()


@NARROW
def test_groups_that_are_added(state: Any) -> None:
    """Their bits follow from where they are among all parameters, as if they had been there from the start."""
    whole = made("AdamW", [{"params": parameters()}, {"params": parameters(), "lr": 0.1}], state=state)
    parts = made("AdamW", parameters(), state=state)
    parts.add_param_group({"params": parameters(), "lr": 0.1})
    for optimizer in (whole, parts):
        run(optimizer, range(3))
    assert same(snapshot(whole), snapshot(parts))
    flat = made("AdamW", [*parameters(), *parameters()], state=state)
    parts = made("AdamW", [{"params": parameters()}, {"params": parameters()}], state=state)
    for optimizer in (flat, parts):
        run(optimizer, range(3))
    (ps, there), (qs, here) = snapshot(flat), snapshot(parts)
    assert same(ps, qs) and same(there["state"], here["state"])
    parts.add_param_group({"params": [nn.Parameter(torch.ones(5000))]})
    run(parts, range(3, 5))
    added = parts.state[parts.param_groups[2]["params"][0]]
    assert added["exp_avg"].dtype is DTYPES[state] and added["step"] == 2


def test_groups_of_another_type_are_refused_later() -> None:
    optimizer = ours.AdamW([nn.Parameter(torch.ones(5000))], state="8bit")
    wide = nn.Parameter(torch.ones(5000, dtype=torch.float64))
    with pytest.raises(ValueError, match="state='8bit' is for parameters that are computed in float32"):
        optimizer.add_param_group({"params": [wide]})
        wide.grad = torch.ones_like(wide)
        optimizer.step()


@pytest.mark.parametrize("options", MANY.values(), ids=MANY)
def test_step_in_backward(options: dict[str, Any]) -> None:
    dtype = torch.bfloat16 if "rounding" in options else torch.float32

    def trained(in_backward: bool) -> Any:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 80), nn.Tanh(), nn.Linear(80, 64)).to(dtype)
        optimizer = ours.AdamW(model.parameters(), **options)
        handle = optimizer.step_in_backward() if in_backward else None
        for step in range(3):
            x = torch.from_numpy(drawn(step, 0, (5, 64))).to(dtype)
            model(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
        if handle is not None:
            handle.remove()
        return snapshot(optimizer)

    assert same(trained(True), trained(False))


@NARROW
@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_threads(state: Any, count: int, small_shares: None) -> None:
    found = []
    for number in (1, count):
        optimizer = ours.AdamW([nn.Parameter(torch.ones(100_003)), nn.Parameter(torch.ones(70))], state=state)
        with threads.using_threads(number):
            run(optimizer, range(3))
        found.append(snapshot(optimizer))
    assert same(*found)


def test_a_parameter_without_a_gradient_has_no_state() -> None:
    p, q = nn.Parameter(torch.ones(5000)), nn.Parameter(torch.ones(5000))
    optimizer = ours.AdamW([p, q], state="8bit")
    q.grad = torch.from_numpy(drawn(0, 0, (5000,)))
    optimizer.step()
    assert not optimizer.state[p] and (p == 1).all() and optimizer.state[q]["step"] == 1
    p.grad = q.grad.clone()
    optimizer.step()
    assert optimizer.state[p]["step"] == 1 and optimizer.state[q]["step"] == 2


def test_complex_parameters_keep_float32_states() -> None:
    p = nn.Parameter(torch.ones(5000, dtype=torch.complex64))
    optimizer = ours.AdamW([p], state="8bit")
    p.grad = torch.full_like(p, 1 + 2j)
    optimizer.step()
    assert optimizer.state[p]["exp_avg"].dtype is torch.complex64 and (p != 1).all()


# ---- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong, message",
    [
        (dict(state="int8"), "AdamW: state must be one of 'float32', 'bfloat16', '8bit', got 'int8'"),
        (dict(state=torch.bfloat16), "AdamW: state must be one of"),
        (dict(rounding="up"), "AdamW: rounding must be one of 'nearest', 'stochastic', 'kahan', got 'up'"),
        (dict(rounding=None), "AdamW: rounding must be one of"),
        (dict(rounding="kahan"), "rounding='kahan' is for bfloat16 parameters, and there are none"),
        (dict(rounding="stochastic", state="8bit"), "rounding='stochastic' is for bfloat16 parameters"),
        (dict(seed=-1, state="8bit"), "seed must be a whole number"),
        (dict(seed=1), "seed=1 has no effect"),
    ],
)
def test_wrong_values(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ours.AdamW([nn.Parameter(torch.ones(5000))], **wrong)


@NARROW
@pytest.mark.parametrize("name", ["Adagrad", "AdamW"])
def test_float64_is_refused(name: str, state: Any) -> None:
    with pytest.raises(ValueError, match=rf"{name}: state='{state}' is for .* in float32, and one is float64; leave"):
        made(name, [nn.Parameter(torch.ones(5000, dtype=torch.float64))], state=state)


@NARROW
def test_meta_tensors_are_refused(state: Any) -> None:
    p = nn.Parameter(torch.ones(5000, device="meta"))
    optimizer = ours.AdamW([p], state=state)
    p.grad = torch.ones_like(p)
    with pytest.raises(
        ValueError, match=rf"state='{state}'.* is for plain tensors on the CPU, and parameter 0 .* meta"
    ):
        optimizer.step()


def test_states_are_told() -> None:
    optimizer = ours.AdamW(
        [nn.Parameter(torch.ones(5000, dtype=torch.bfloat16))], state="8bit", rounding="kahan", seed=4
    )
    text = repr(optimizer)
    assert "state: 8bit" in text and "rounding: kahan" in text and "seed: 4" in text
    assert "state: float32" not in repr(ours.AdamW([nn.Parameter(torch.ones(1))]))


def test_formats_as_torch_has_them() -> None:
    """A state's bytes are NumPy's; bfloat16 states are torch's own."""
    mine = ours.Adam([nn.Parameter(torch.ones(5000))], state="bfloat16")
    run(mine, range(2))
    (kept,) = mine.state.values()
    stored = kept["exp_avg"].view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(BFLOAT16.widen(stored), kept["exp_avg"].float().numpy())
    mine = ours.Adam([nn.Parameter(torch.ones(5000))], state="8bit")
    run(mine, range(2))
    (kept,) = mine.state.values()
    assert kept["exp_avg"].shape == (20 * 257,) and kept["exp_avg"].dtype is torch.uint8


@pytest.mark.parametrize("option", [{"state": "8bit"}, {"rounding": "kahan"}, {"seed": 1}, {"sparse": "lazy"}])
def test_what_is_the_optimizers_is_no_groups(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=rf"AdamW: {next(iter(option))} applies to the whole optimizer"):
        ours.AdamW([{"params": parameters(), **option}])
    optimizer = ours.AdamW(parameters())
    with pytest.raises(ValueError, match="give it to the optimizer"):
        optimizer.add_param_group({"params": parameters(), **option})


# ---- what a compensation belongs to


def one(value: float = 1.0, size: int = 3) -> nn.Parameter:
    return nn.Parameter(torch.full((size,), value, dtype=torch.bfloat16))


def compensated(p: nn.Parameter, g: float, lr: float = 1e-3, steps: int = 1) -> Any:
    """A parameter after a step that bfloat16 can't hold."""
    optimizer = ours.SGD([p], lr=lr, rounding="kahan")
    stepped(optimizer, g, lr, steps)
    return optimizer


def stepped(optimizer: Any, g: float, lr: float, steps: int = 1) -> None:
    optimizer.param_groups[0]["lr"] = lr
    for _ in range(steps):
        for p in params_of(optimizer):
            p.grad = torch.full_like(p, g)
        optimizer.step()


def whole(optimizer: Any) -> list[float]:
    """What the parameters count for, with their compensation."""
    return [(p.detach().double() + optimizer.state[p]["compensation"].double())[0].item() for p in params_of(optimizer)]


@pytest.mark.parametrize("how", ["loaded", "assigned"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(1, dtype=torch.bfloat16), r"here \(4,\), in the state \(1,\)"),
        (torch.zeros(5, dtype=torch.bfloat16), r"here \(4,\), in the state \(5,\)"),
        (torch.zeros(4, dtype=torch.complex64), "here real, in the state complex"),
        (3.0, "here a tensor, in the state a float"),
        (None, "here a tensor, in the state a NoneType"),
    ],
)
def test_a_compensation_of_another_kind_is_refused(how: str, wrong: Any, message: str) -> None:
    mine = compensated(one(size=4), -3.0)
    (p,) = params_of(mine)
    if how == "loaded":
        before, state = snapshot(mine), copy.deepcopy(mine.state_dict())
        state["state"][0]["compensation"] = wrong
        with pytest.raises(StateDictError, match=f"parameter 0 of group 0, state compensation: {message}"):
            mine.load_state_dict(state)
        assert same(snapshot(mine), before)
    elif wrong is not None:  # as with every state, None is one to be made anew
        before = p.detach().clone()
        mine.state[p]["compensation"] = wrong
        with pytest.raises(StateDictError, match=f"state compensation of parameter 0 of group 0: {message}"):
            stepped(mine, 1.0, 1e-3)
        assert torch.equal(p, before)


@pytest.mark.parametrize("how", ["loaded", "assigned"])
def test_a_wide_compensation_is_converted(how: str) -> None:
    """Its numbers are read, not its bits."""
    mine = compensated(one(size=4), 0.0)
    (p,) = params_of(mine)
    wide = torch.full((4,), 2.0**-9)
    if how == "loaded":
        state = copy.deepcopy(mine.state_dict())
        state["state"][0]["compensation"] = wide
        with pytest.warns(UserWarning, match="were float32 when saved and are bfloat16 here"):
            mine.load_state_dict(state)
    else:
        mine.state[p]["compensation"] = wide
    stepped(mine, 1.0, 0.0)
    assert mine.state[p]["compensation"].dtype is torch.bfloat16 and whole(mine) == [1 + 2.0**-9]


def test_codes_that_lie_apart_are_read_where_they_lie() -> None:
    """Every second byte of a larger tensor, whose others stay as they were."""
    mine, other = (ours.Adam([nn.Parameter(torch.ones(4096))], state="8bit") for _ in range(2))
    for optimizer in (mine, other):
        run(optimizer, range(1))
    (p,) = params_of(mine)
    pairs = torch.full((2 * 16 * 257,), 77, dtype=torch.uint8)
    pairs[::2] = mine.state[p]["exp_avg"]
    mine.state[p]["exp_avg"] = pairs[::2]
    for optimizer in (mine, other):
        run(optimizer, range(1, 3))
    assert same(snapshot(mine), snapshot(other)) and (pairs[1::2] == 77).all()


@pytest.mark.parametrize("value", [1.0, 1.0 + 2.0**-7])
def test_what_was_lost_of_one_weight_is_not_added_to_a_near_one(value: float) -> None:
    """Though it is less than half a place of both."""
    p = one()
    mine = compensated(p, -3.0)
    assert whole(mine) == pytest.approx([1.003], abs=1e-5)
    with torch.no_grad():
        p.fill_(2.0)
    stepped(mine, -1.0, 0.0)
    with torch.no_grad():
        p.fill_(value)
    stepped(mine, -1.0, 1e-3)
    assert whole(mine) == pytest.approx([value + 1e-3], abs=1e-5)


def test_a_weight_that_is_loaded_over_itself_begins_anew() -> None:
    p = one()
    mine = compensated(p, -3.0)
    nn.ParameterList([p]).load_state_dict({"0": p.detach().clone()})
    stepped(mine, -1.0, 1e-3)
    assert whole(mine) == pytest.approx([1.001], abs=1e-5)


def test_a_step_that_is_refused_forgets_nothing() -> None:
    p, q = one(), one()
    mine = ours.SGD([p, q], lr=1e-3, rounding="kahan")
    stepped(mine, -3.0, 1e-3)
    with torch.no_grad():
        p.fill_(1.0)
    before = snapshot(mine)
    mine.nonfinite = "raise"
    p.grad, q.grad = torch.ones_like(p), torch.full_like(q, torch.nan)
    with pytest.raises(adamite.NonFiniteError):
        mine.step()
    assert same(snapshot(mine), before)
    stepped(mine, -1.0, 1e-3)
    assert whole(mine) == pytest.approx([1.001, 1.004], abs=2e-5)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("how", ["step", "backward", "averaged", "copied", "loaded", "loaded first", "another"])
def test_what_was_lost_stays_where_nobody_assigns(how: str, shared: bool) -> None:
    """Ten steps of a tenth of a place are a place; also of parameters that are parts of one tensor."""
    flat = torch.ones(6, dtype=torch.bfloat16)
    p, q = (nn.Parameter(flat[:3]), nn.Parameter(flat[3:])) if shared else (one(), one())
    params: list[Tensor] = [p, q]
    mine: Any = ours.SGD(params, lr=1e-3, rounding="kahan", ema=0.5)
    other = ours.SGD([one()], lr=1e-3, rounding="kahan")
    if how == "backward":
        mine.step_in_backward()
    for _ in range(10):
        if how == "backward":
            torch.stack([-p.sum() for p in params]).sum().backward()
        else:
            stepped(mine, -1.0, 1e-3)
        if how == "another":
            stepped(other, -1.0, 1e-3)
        if how == "averaged":
            with mine.averaged():
                pass
        if how == "copied":
            mine, params = copy.deepcopy((mine, params))
        if how.startswith("loaded"):
            after = ours.SGD([copied(p) for p in params], lr=1e-3, rounding="kahan", ema=0.5)
            state, weights = mine.state_dict(), [p.detach().clone() for p in params]
            for load in (0, 1) if how == "loaded" else (1, 0):
                if load == 0:
                    after.load_state_dict(state)
                else:
                    nn.ParameterList(params_of(after)).load_state_dict({f"{k}": w for k, w in enumerate(weights)})
            mine, params = after, params_of(after)
    assert whole(mine) == pytest.approx([1.01, 1.01], abs=5e-5)
