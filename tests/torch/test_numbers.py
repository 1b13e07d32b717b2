"""Torch's numbers: every class with every option, in float64 to 1e-12, in other types no farther off than torch."""

from __future__ import annotations

import inspect
import itertools
import re
import warnings
from typing import Any

import pytest
import torch
import torch.testing._internal.common_optimizers as theirs
from torch.testing._internal.common_optimizers import OptimizerErrorEnum

import adamite.torch as ours
from tests.torch.race import NAMES, distance, pair, parameters, run, starts

INFO: dict[str, Any] = {info.name: info for info in theirs.optim_db}
VALID = [
    pytest.param(name, case.kwargs, id=f"{name}-{case.desc}")
    for name in NAMES
    for case in INFO[name].optim_inputs_func(device=torch.device("cpu"))
]
ERRORS = [
    pytest.param(name, case, id=f"{name}-{case.optimizer_error_input.desc}")
    for name in NAMES
    for case in INFO[name].optim_error_inputs_func(device="cpu", dtype=torch.float32)
]

# Other values than the defaults, alone and together.
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {"lr": 0.1, "momentum": 0.8, "dampening": 0.3, "weight_decay": 0.05, "maximize": True},
    "RMSprop": {
        "lr": 0.003, "alpha": 0.9, "eps": 1e-4, "weight_decay": 0.05, "momentum": 0.7, "centered": True,
        "maximize": True,
    },
    "Adagrad": {
        "lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.05, "initial_accumulator_value": 0.3, "eps": 1e-4,
        "maximize": True,
    },
    "Adadelta": {"lr": 0.5, "rho": 0.8, "eps": 1e-3, "weight_decay": 0.05, "maximize": True},
    "Adam": {
        "lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.05, "amsgrad": True, "maximize": True,
        "decoupled_weight_decay": True,
    },
    "AdamW": {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3, "amsgrad": True, "maximize": True},
    "Adamax": {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.05, "maximize": True},
    "NAdam": {
        "lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.05, "momentum_decay": 0.01,
        "decoupled_weight_decay": True, "maximize": True,
    },
    "RAdam": {
        "lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.05, "decoupled_weight_decay": True,
        "maximize": True,
    },
}  # fmt: skip


def combinations(name: str) -> list[dict[str, Any]]:
    """Each option alone, each two together, all of them; with foreach and fused, which change nothing."""
    options = OPTIONS[name]
    found = [
        dict(chosen) for count in (0, 1, 2, len(options)) for chosen in itertools.combinations(options.items(), count)
    ]
    if name == "SGD":
        found += [{"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}]
        found = [o for o in found if "dampening" not in o or "momentum" in o]
    return [*found, {"foreach": True}, {"foreach": False}, {"lr": torch.tensor(0.01, dtype=torch.float64)}]


CASES = [pytest.param(name, options, id=f"{name}-{options}") for name in NAMES for options in combinations(name)]


def test_torch_has_as_many_inputs_as_are_promised() -> None:
    assert len(VALID) >= 58 and len(ERRORS) >= 75


@pytest.mark.parametrize(("name", "options"), VALID + CASES)
@pytest.mark.usefixtures("double")
def test_float64(name: str, options: dict[str, Any]) -> None:
    theirs, mine = pair(name, parameters(), **options)
    start = starts(theirs)
    for optimizer in (theirs, mine):
        run(optimizer, range(100))
    assert distance(mine, theirs, start) <= 1e-12


@pytest.mark.parametrize(("name", "case"), ERRORS)
def test_what_torch_refuses(name: str, case: Any) -> None:
    given = case.optimizer_error_input
    params = given.params if given.params is not None else parameters(dtype=torch.float32)
    assert case.error_on is OptimizerErrorEnum.CONSTRUCTION_ERROR
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(case.error_type) as found:
            getattr(ours, name)(params, **given.kwargs)
    assert re.search(case.error_regex, str(found.value))


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_torchs(name: str) -> None:
    expected = inspect.signature(getattr(torch.optim, name).__init__).parameters
    found = inspect.signature(getattr(ours, name).__init__).parameters
    assert {**found}.pop("extras").kind is inspect.Parameter.VAR_KEYWORD
    mine = [(p.name, p.default, p.kind) for p in found.values() if p.name != "extras"]
    assert mine == [(p.name, p.default, p.kind) for p in expected.values()]


@pytest.mark.parametrize("name", NAMES)
def test_param_groups_hold_what_torchs_hold(name: str) -> None:
    theirs, mine = pair(name, parameters())
    for group, expected in zip(mine.param_groups, theirs.param_groups, strict=True):
        assert {k: v for k, v in group.items() if k in expected and k != "params"} == {
            k: v for k, v in expected.items() if k != "params"
        }
        assert set(group) == set(expected)


def errors(name: str, dtype: torch.dtype, options: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Each element's distance from a float64 run of torch's, as units in its last place: ours, and torch's."""
    start = [p.detach().to(dtype) for p in parameters(((4_000,), (60, 100)))]
    made: list[list[torch.Tensor]] = []
    for library, kind in ((torch.optim, torch.float64), (ours, dtype), (torch.optim, dtype)):
        params = [torch.nn.Parameter(p.to(kind, copy=True)) for p in start]
        optimizer = getattr(library, name)(params, **options)
        for step in range(50):
            for index, p in enumerate(params):
                generator = torch.Generator().manual_seed(1000 * step + index)
                p.grad = torch.randn(p.shape, generator=generator, dtype=torch.float64).to(dtype).to(kind)
            optimizer.step()
        made.append([p.detach().double() for p in params])
    exact, mine, theirs_ = made
    unit = torch.finfo(dtype).eps
    return tuple(  # type: ignore[return-value]
        torch.cat([((a - e).abs() / (e.abs() * unit)).flatten() for a, e in zip(found, exact, strict=True)]).tolist()
        for found in (mine, theirs_)
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_other_types_are_no_farther_off_than_torch(name: str, dtype: torch.dtype) -> None:
    options = {"lr": 0.01} if dtype is not torch.float32 else {}
    mine, expected = (torch.tensor(found).nan_to_num(torch.inf, torch.inf) for found in errors(name, dtype, options))
    assert 0 < mine.median() <= 1.05 * expected.median()
