"""The benchmark of sparse gradients: what it measures."""

from __future__ import annotations

import pytest

from adamite.lab import bench, bench_sparse


def test_everything_that_is_promised_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "SIZE", 400_000)
    rows = list(bench_sparse.bench(size=400_000, rounds=1))
    assert len(rows) == bench_sparse.cases()
    assert all(row.seconds > 0 and len(row.case) <= 36 and len(row.name) <= 34 for row in rows)
    promises = {(row.name, row.yardstick): row.bar for row in rows if row.bar is not None}
    assert promises == {
        ("adamite lazy", "torch fused, dense"): 0.02,
        ("adamite exact", "torch fused, dense"): 0.1,
        ("adamite lazy, to SparseAdam", "torch SparseAdam"): 0.5,
    }
