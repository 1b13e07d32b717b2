"""Gradients that were scaled: `found_inf` and `grad_scale` on the optimizer, as torch's fused steps read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import adamite.torch as ours
from adamite import NonFiniteError
from tests.torch import race
from tests.torch.race import EVERY, pair, run

pytestmark = pytest.mark.usefixtures("double")
FUSED = ["SGD", "Adagrad", "Adam", "AdamW"]  # torch's that take a scale
SCALE = 3.7 * 2**10


def options(name: str) -> dict[str, Any]:
    return {"momentum": 0.9} if name == "SGD" else {}


def scaled(params: Sequence[Tensor], step: int) -> None:
    for index, p in enumerate(params):
        p.grad = SCALE * race.gradient(p, step, index)


def found(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float32)


@pytest.mark.parametrize("name", FUSED)
def test_as_torchs_fused_steps(name: str) -> None:
    """The same weights, states and step numbers; gradients are left unscaled, or alone where the step is left out."""
    theirs, mine = pair(name, race.parameters(), **options(name), fused=True, weight_decay=0.1, maximize=True)
    start = race.starts(theirs)
    for step in range(8):
        for optimizer in (theirs, mine):
            scaled(race.params_of(optimizer), step)
            optimizer.grad_scale, optimizer.found_inf = found(SCALE), found(float(step % 3 == 1))
            optimizer.step()
        for p, q in zip(race.params_of(mine), race.params_of(theirs), strict=True):
            torch.testing.assert_close(p.grad, q.grad, rtol=1e-6, atol=0)
    assert race.distance(mine, theirs, start) <= 1e-6  # torch divides by a float32
    assert mine.skipped == 3


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("more", [{}, {"clip_norm": 0.5, "ema": 0.9}, {"nonfinite": "skip", "cautious": True}], ids=str)
def test_unscaled_as_never_scaled(name: str, more: dict[str, Any]) -> None:
    plain, mine = (getattr(ours, name)(race.parameters(), **options(name), **more) for _ in range(2))
    start = race.starts(plain)
    run(plain, range(5))
    for step in range(5):
        scaled(race.params_of(mine), step)
        mine.grad_scale = SCALE  # any number will do
        mine.step()
        del mine.grad_scale
    assert race.distance(mine, plain, start) <= 1e-11
    if "clip_norm" in more:
        assert mine.gradient_norm == pytest.approx(plain.gradient_norm, rel=1e-12)


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("value", [1.0, 2.0, float("nan")])
def test_a_step_is_left_out_whole(name: str, value: float) -> None:
    mine = getattr(ours, name)(race.parameters(), **options(name), ema=0.9)
    for first in (True, False):  # before there are states, and after
        mine.found_inf = found(value)
        race.give(race.params_of(mine), 0)
        before, grads = race.snapshot(mine), [p.grad for p in race.params_of(mine)]
        assert mine.step(lambda: 7.0) == 7.0
        assert race.same(race.snapshot(mine), before) and mine.skipped == 2 - first
        assert all(p.grad is g for p, g in zip(race.params_of(mine), grads, strict=True))
        mine.found_inf.zero_()  # read at every step
        run(mine, range(2))
        assert not race.same(race.snapshot(mine), before)
        del mine.found_inf
        assert not hasattr(mine, "found_inf") and not hasattr(mine, "grad_scale")
    with pytest.raises(AttributeError, match="found_inf"):
        del mine.found_inf


def test_small_gradients_of_float16_survive_their_unscaling() -> None:
    """They are unscaled in float32; in their own type they would be zero."""
    p = nn.Parameter(torch.zeros(3, dtype=torch.float16))
    mine = ours.SGD([p], lr=1e6)
    p.grad = torch.full_like(p, 1e-4)
    expected = 1e6 * p.grad.double() / 2**16
    mine.grad_scale = torch.tensor(2.0**16)
    mine.step()
    torch.testing.assert_close(p.detach().double(), -expected, rtol=1e-3, atol=0)


@pytest.mark.parametrize("more", [{}, {"sparse": "lazy"}, {"sparse": "exact"}], ids=str)
def test_sparse_gradients(more: dict[str, Any]) -> None:
    torch.sparse.check_sparse_tensor_invariants.disable()
    tables = []
    for scale in (1.0, SCALE):
        torch.manual_seed(0)
        table = nn.Embedding(7, 3, sparse=True)
        mine = ours.Adagrad(table.parameters(), lr=0.1, **more)
        for step in range(6):
            mine.zero_grad()
            mine.grad_scale = torch.tensor(scale)
            (scale * table(torch.tensor([step % 7, 3, 3])).square().sum()).backward()
            mine.step()
        assert table.weight.grad is not None
        tables += [table.weight.detach(), table.weight.grad.to_dense()]
        mine.flush()
    torch.testing.assert_close(tables[2], tables[0], rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(tables[3], tables[1], rtol=1e-6, atol=1e-8)


def test_expanded_gradients_and_those_of_two_parameters() -> None:
    (p, q), (r,) = race.parameters(((3,), (3,))), race.parameters(((4,),), seed=1)
    mine = ours.SGD([p, q, r], lr=1.0)
    before = [x.detach().clone() for x in (p, q, r)]
    p.grad = q.grad = torch.full((3,), 8.0)
    r.grad = torch.tensor(8.0).expand(4)
    mine.grad_scale = torch.tensor(4.0)
    mine.step()
    assert all(torch.equal(x.detach(), b - 2.0) for x, b in zip((p, q, r), before, strict=True))
    assert [x.grad.tolist() for x in (p, q, r) if x.grad is not None] == [[2.0] * 3, [2.0] * 3, [2.0] * 4]


def test_the_step_in_the_backward_pass() -> None:
    weights = []
    for scale in (1.0, 4.0):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)
        mine = ours.Adam(model.parameters(), lr=0.1)
        mine.grad_scale = torch.tensor(scale)
        with mine.step_in_backward():
            (scale * model(torch.ones(2, 3)).square().sum()).backward()
            mine.found_inf = found(1.0)
            (scale * model(torch.ones(2, 3)).square().sum()).backward()
        weights.append([p.detach() for p in model.parameters()])
    assert race.same(weights[0], weights[1])


@pytest.mark.parametrize("wrong", [0.0, -1.0, float("inf"), float("nan")])
def test_a_scale_out_of_range_is_refused(wrong: float) -> None:
    mine = ours.Adam(race.parameters())
    run(mine, range(1))
    before = race.snapshot(mine)
    mine.grad_scale = torch.tensor(wrong)
    with pytest.raises(ValueError, match=r"grad_scale must be a number in \(0, inf\), got"):
        run(mine, range(1, 2))
    assert race.same(race.snapshot(mine), before)
    mine.grad_scale = None  # as a scaler sets it where there is none
    run(mine, range(1, 2))


def test_a_bad_gradient_is_told_before_it_is_unscaled() -> None:
    (p,) = race.parameters(((3,),))
    mine = ours.Adam([p], nonfinite="raise")
    mine.grad_scale = torch.tensor(4.0)
    p.grad = torch.tensor([4.0, float("inf"), 4.0])
    with pytest.raises(NonFiniteError):
        mine.step()
    assert p.grad.tolist() == [4.0, float("inf"), 4.0]


@pytest.mark.parametrize("name", EVERY)
def test_a_scaler_and_a_scale_of_ones_own(name: str) -> None:
    """GradScaler unscales what it has scaled; what is set by hand comes on top, as for torch's fused steps."""
    plain, mine = (getattr(ours, name)(race.parameters(dtype=torch.float32), **options(name)) for _ in range(2))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**12)
    run(plain, range(4))
    for step in range(4):
        scaler.scale(torch.zeros(()))  # makes the scale
        for index, p in enumerate(race.params_of(mine)):
            p.grad = race.gradient(p, step, index) * 2.0**14
        mine.grad_scale = torch.tensor(4.0)
        scaler.step(mine)
        scaler.update()
    assert race.same(race.snapshot(mine), race.snapshot(plain))


@pytest.mark.parametrize("wrong", ["x", torch.ones(2), [1.0], b"1"], ids=repr)
@pytest.mark.parametrize(("name", "allowed"), [("grad_scale", r"a number in \(0, inf\)"), ("found_inf", "a number")])
def test_what_is_no_number_is_refused(name: str, allowed: str, wrong: Any) -> None:
    mine = ours.Adam(race.parameters())
    run(mine, range(1))
    before = race.snapshot(mine)
    setattr(mine, name, wrong)
    with pytest.raises(TypeError, match=rf"Adam: {name} must be {allowed}, got .*; set it to .*, or to None"):
        run(mine, range(1, 2))
    assert race.same(race.snapshot(mine), before)
