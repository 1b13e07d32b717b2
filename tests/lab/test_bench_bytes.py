"""The benchmark of low-precision states: what it measures and what it reports. Speed itself is never tested."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from adamite import cli
from adamite.engine import threads
from adamite.lab import bench_bytes
from adamite.lab.bench import Row
from adamite.lab.bench_bytes import ADAMW, PEERS, RULES, ByteRow, Made, MemoryRow

SIZE = 102_400  # whole blocks, and work for two threads
MOVED = {"float32": 28, "8bit": 16, "bf16 weights, 8bit": 10, "bfloat16 states": 20, "all bfloat16": 14}
STATES = ["float32", "8bit", "bfloat16"]


@pytest.fixture(scope="module")
def rows() -> Any:
    """The rows; memory is measured with many elements, as below."""
    memory = bench_bytes._memory
    with threads.using_threads(2), pytest.MonkeyPatch.context() as patch:
        patch.setattr(bench_bytes, "_memory", lambda size: memory(8_000_000))
        found = list(bench_bytes.bench(size=SIZE, rounds=1))
        assert len(found) == bench_bytes.cases()
    return found


def test_rows(rows: list[Row]) -> None:
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row.case, []).append(row.name)
    threads = "2 threads", "one thread"
    peers = ["torch", *bench_bytes.peers()]
    assert found == {
        **{f"AdamW, {t}": list(ADAMW) for t in threads},
        **{f"{name}, {t}": ["float32", "8bit"] for name in RULES for t in threads},
        "AdamW, NumPy's arrays": STATES,
        **{f"8bit beside {p}": ["torch fused, float32" if p == "torch" else p, "adamite 8bit"] for p in peers},
        "resident memory": [name for state in STATES for name in (state, f"{state}, at most")],
    }


def test_numbers(rows: list[Row]) -> None:
    for row in rows:
        numbers = [row.seconds, row.ratio, row.gigabytes, getattr(row, "bytes", None), getattr(row, "limit", None)]
        assert all(math.isfinite(n) for n in numbers if n is not None), row
        assert row.seconds > 0 and (row.ratio or 1) > 0
        assert isinstance(row, ByteRow) or row.case.startswith("8bit beside")


def test_bytes_moved(rows: list[Row]) -> None:
    """A byte per element and one scale per block of 256, read and written; the limit isn't below their ratio."""
    for row in rows:
        if not isinstance(row, ByteRow) or row.bytes is None:
            continue
        if row.case.startswith("AdamW"):
            moved = {**MOVED, "bfloat16": 20}[row.name] + 4 / 256 * ("8bit" in row.name)
            assert row.bytes == pytest.approx(moved)
            assert row.gigabytes == pytest.approx(moved * SIZE / row.seconds / 1e9)
        if row.case.startswith(("AMSGrad", "your")) and row.name == "8bit":
            assert row.bytes == pytest.approx(12 + (6 if "AMS" in row.case else 4) * (1 + 1 / 256))
            assert (row.limit or 0) >= row.bytes / (36 if "AMS" in row.case else 28)


@pytest.mark.parametrize(
    ("name", "speed", "threads", "bar"),
    [
        ("float32", 60, 2, None),
        ("8bit", 60, 2, 0.70),
        ("8bit", 65, 2, 0.70),
        ("8bit", 98, 2, 0.80),
        ("8bit", 98, 1, 0.95),
        ("bf16 weights, 8bit", 60, 2, 0.54),
        ("bf16 weights, 8bit", 98, 2, 0.80),
        ("bfloat16 states", 98, 2, 0.80),
        ("all bfloat16", 60, 2, 0.60),
        ("all bfloat16", 60, 1, None),
    ],
)
def test_promises(name: str, speed: float, threads: int, bar: float | None) -> None:
    assert bench_bytes._promises(ByteRow("case", name, 1.0), speed, threads) == bar


def test_any_rule_is_promised_its_limit() -> None:
    row = ByteRow("case", "8bit", 1.0, ratio=0.6, limit=0.5)
    assert bench_bytes._by_the_limit(row, 60, 2) == pytest.approx(0.575)
    assert bench_bytes._by_the_limit(ByteRow("case", "float32", 1.0, limit=1.0), 60, 2) is None


def test_memory_is_promised_in_bytes() -> None:
    assert MemoryRow("memory", "8bit", 3.0, bar=2.1, bytes=2.05).kept is True
    assert MemoryRow("memory", "8bit", 3.0, bar=2.1, bytes=2.2).kept is False
    assert MemoryRow("memory", "float32", 3.0, bytes=8.0).kept is None


def test_resident_memory_is_that_of_the_states(rows: list[Row]) -> None:
    """At the peak as afterwards; each in a process of its own, whose heap has no free room."""
    found = {row.name: row.bytes for row in rows if isinstance(row, MemoryRow)}
    expected = {"float32": 8.0, "8bit": 2.008, "bfloat16": 4.0}
    assert found == pytest.approx({**expected, **{f"{k}, at most": v for k, v in expected.items()}}, abs=0.3)


def test_a_step_moves() -> None:
    for make in ADAMW.values():
        made: Made = make(5000)
        before = made.p.detach().clone()
        made()
        assert not before.equal(made.p.detach())


def test_peers_that_are_missing_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two packages replace those that may be installed; one of them doesn't work."""
    assert [*PEERS] == ["bitsandbytes", "torchao"]
    for name, text in (("bitsandbytes", "from torch.optim import SGD as AdamW8bit"), ("torchao", "import nowhere")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "optim.py").write_text(text, encoding="utf-8")
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    bench_bytes.peers.cache_clear()
    try:
        assert list(bench_bytes.peers()) == ["bitsandbytes"]
        assert bench_bytes.said().endswith(" Not installed, and left out: torchao.")
    finally:
        bench_bytes.peers.cache_clear()
        for module in ("bitsandbytes", "bitsandbytes.optim", "torchao"):
            sys.modules.pop(module, None)


def test_the_command(rows: list[Row], monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows above, with the longest possible texts."""
    long: dict[str, Any] = {"seconds": 0.0123, "ratio": 12.34, "gigabytes": 123.0, "bytes": 12.34, "limit": 0.571}
    shown = [replace(r, **{k: v for k, v in long.items() if getattr(r, k, None) is not None}) for r in rows]
    monkeypatch.setattr(bench_bytes, "bench", lambda size, rounds: iter(shown))
    monkeypatch.setattr("adamite.cli.terminal.out.width", 80)
    printed = CliRunner().invoke(cli.app, ["bench", "bytes"]).output
    assert max(map(len, printed.splitlines())) <= 80 and "…" not in printed
    for row in rows:
        assert row.case in printed and row.name in printed
    assert "limit" in printed
    found = json.loads(CliRunner().invoke(cli.app, ["bench", "bytes", "--json"]).output)
    assert [row["name"] for row in found] == [row.name for row in rows] and "bytes" in found[0]
