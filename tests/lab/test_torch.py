"""What is measured and checked beside torch, and what is said of it. How fast it is, is never tested."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import adamite.torch as ours
from adamite.lab import bench, bench_torch, verify_torch
from tests.test_cli import answer


@pytest.fixture(scope="module")
def rows() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench, "SIZE", 400_000)
        return list(bench_torch.bench(size=400_000, rounds=1))


def test_everything_that_is_promised_is_measured(rows: Any) -> None:
    promises = {(r.case.split(",")[0], r.name, r.yardstick): r.bar for r in rows if r.bar is not None}
    assert promises == {
        ("2 parameters", "adamite", "torch fused"): 7e-6,
        ("160 tensors", "adamite", "torch fused"): 0.7,
        ("1", "adamite", "torch fused"): 0.2,
        ("MLP 64-64-10", "adamite", "torch fused"): 1 / 1.35,
        ("MLP 64-64-10", "adamite", "torch default"): 1 / 1.9,
        ("transformer", "adamite", "torch fused"): 1.0,
        ("clip + AdamW + EMA", "adamite", "torch fused"): 0.75,
        ("0.4M float32", "adamite: AdamW", "torch fused: AdamW"): 1.03,
        **{
            ("0.4M float32", f"adamite: {name}", f"torch default: {name}"): 0.2
            for name in ("RMSprop", "Adadelta", "Adamax", "NAdam", "RAdam")
        },
    }


def test_the_number_of_rows_is_known(rows: Any) -> None:
    assert len(rows) == bench_torch.cases()
    assert all(r.seconds > 0 for r in rows)


@pytest.fixture(scope="module")
def reports() -> list[verify_torch.Report]:
    return list(verify_torch.verify())


def test_each_class_is_held_against_torchs(reports: list[verify_torch.Report]) -> None:
    found = reports
    assert [r.name for r in found] == list(verify_torch.NAMES) and all(r.passed for r in found)
    assert sum(r.inputs for r in found) >= 58 and sum(r.refused for r in found) >= 75
    assert all(0 < r.displacement64 <= 1e-12 for r in found)
    assert all(0 < d.median <= 1.05 * d.median_torch for r in found for d in r.distances.values())


def test_a_class_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(ours.Adam):
        def __init__(self, params: Any, **options: Any) -> None:
            super().__init__(params, **{"eps": 1.0001e-8, **options})

    monkeypatch.setattr(ours, "Adam", Wrong)
    report = verify_torch.report("Adam")
    assert not report.passed and report.reasons[0].startswith("float64 error ")


def test_a_class_that_refuses_less_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lenient(ours.SGD):
        def __init__(self, params: Any, momentum: float = 0.0, **options: Any) -> None:
            super().__init__(params, momentum=abs(momentum), **options)

    monkeypatch.setattr(ours, "SGD", Lenient)
    assert verify_torch.report("SGD").failures == ("momentum should be between 0 and 1: not refused",)


def test_the_default_type_is_put_back() -> None:
    verify_torch.report("SGD")
    assert torch.get_default_dtype() == torch.float32


def test_the_command_prints_it(reports: list[verify_torch.Report], monkeypatch: pytest.MonkeyPatch) -> None:
    """The reports above."""
    monkeypatch.setattr(verify_torch, "report", {r.name: r for r in reports}.__getitem__)
    printed = answer("verify", "torch")
    assert all(name in printed for name in verify_torch.NAMES)
    assert "differentiable=True is refused" in printed and "All 9 hold." in printed
