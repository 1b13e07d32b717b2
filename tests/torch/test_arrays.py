"""The array reading: beside the reference, forced where machine code would run, without memory, and measured."""

from __future__ import annotations

import math
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import adamite.torch as ours
from adamite import rule
from adamite.graph.lowering import lower
from adamite.graph.nodes import Graph
from adamite.language.maths import where
from adamite.language.update import build
from adamite.storage import FLOAT32, FLOAT64, Format
from adamite.torch import OPTIMIZERS, machine
from adamite.torch import arrays as reader
from adamite.torch.arrays import ArrayBatch
from tests.backends.test_arrays import AROUND, CASES, FORMATS, coefficients_of, drawn, expected, graph_of
from tests.support import VARIANTS, Case
from tests.torch.race import SHAPES, copied, give, parameters, params_of, relative, run, same

EXTRAS: dict[str, Any] = {"ema": 0.9, "cautious": True, "clip_norm": 1.0, "weight_decay": 0.1}


@pytest.fixture
def arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "FORCE_ARRAYS", True)


def made(name: str, dtype: torch.dtype, **options: Any) -> Any:
    params = [
        *parameters(dtype=dtype),
        nn.Parameter(channels_last(dtype)),
        nn.Parameter(torch.zeros(6, 4, dtype=dtype).t()),
    ]
    return OPTIMIZERS[name](params, **{"momentum": 0.9} if name == "sgd" else {}, **options)


def channels_last(dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(2, 3, 4, 5, dtype=dtype).to(memory_format=torch.channels_last)


def late(params: Any, step: int) -> None:
    give(params, step)
    if step < 2:
        params[2].grad = None


@pytest.mark.parametrize("options", [{}, EXTRAS], ids=["plain", "extras"])
@pytest.mark.parametrize(
    ("dtype", "bar"),
    [
        (torch.float64, 1e-13),
        (torch.float32, 2e-5),
        (torch.complex64, 2e-5),
        (torch.bfloat16, 0.02),
        (torch.float16, 0.02),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_machine_codes_numbers(
    name: str, dtype: torch.dtype, bar: float, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for forced in (False, True):
        monkeypatch.setattr(machine, "FORCE_ARRAYS", forced)
        optimizer = made(name, dtype, **options)
        start = [p.detach().clone() for p in params_of(optimizer)]
        run(optimizer, range(10), late)
        assert all(isinstance(b, ArrayBatch) is forced for b in optimizer._plans[0].batches)
        found.append(params_of(optimizer))
    for native, array, s in zip(*found, start, strict=True):
        if s.numel() > 1:
            assert relative(array, native, (native.detach() - s).abs().max().item()) <= bar


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_gradients_are_not_written(name: str) -> None:
    optimizer = made(name, torch.float32, maximize=True, weight_decay=0.1)
    give(params_of(optimizer), 0)
    before = [p.grad.clone() for p in params_of(optimizer)]  # type: ignore[union-attr]
    optimizer.step()
    assert same([p.grad for p in params_of(optimizer)], before)


class Count(TorchDispatchMode):
    """The operations that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(function))
        return function(*args, **(kwargs or {}))


def calls(name: str, count: int, device: str) -> int:
    params = [nn.Parameter(torch.ones(5, device=device)) for _ in range(count)]
    optimizer: Any = OPTIMIZERS[name](params, **{"momentum": 0.9} if name == "sgd" else {})
    for _ in range(2):
        for p in params:
            p.grad = torch.ones_like(p)
        counter = Count()
        with counter:
            optimizer.step()
    aliases = ("detach", "unsqueeze", "view", "reshape", "narrow", "slice")  # no work of a device's
    return sum(not any(alias in call for alias in aliases) for call in counter.calls)


@pytest.mark.usefixtures("arrays")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_there_is_no_loop_over_tensors(name: str, device: str) -> None:
    few = calls(name, 3, device)
    assert calls(name, 40, device) == few <= 40


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_tensors_without_memory(name: str) -> None:
    params = [nn.Parameter(torch.empty(s, device="meta")) for s in SHAPES]
    optimizer: Any = OPTIMIZERS[name](params)
    for p in params:
        p.grad = torch.empty_like(p)
    optimizer.step()
    for kept in optimizer.state.values():
        assert all(v.device.type == "meta" for v in kept.values() if v.dim())


def test_a_model_on_two_devices() -> None:
    """Each device's tensors are rows of a batch of their own."""
    params = [nn.Parameter(torch.ones(3)), nn.Parameter(torch.empty(3, device="meta"))]
    optimizer = ours.AdamW(params)
    alone = ours.AdamW([copied(nn.Parameter(torch.ones(3)))])
    for p in (*params, *params_of(alone)):
        p.grad = torch.ones_like(p)
    optimizer.step()
    alone.step()
    assert torch.equal(params[0], params_of(alone)[0])


# ---- `step` itself --------------------------------------------------------------------------------

Lists = dict[str, list[Tensor]]
TORCH = {FLOAT64: torch.float64, FLOAT32: torch.float32}


def laid_out(flat: Tensor) -> list[Tensor]:
    """The same numbers in awkward shapes and strides."""
    last = flat[100:160].reshape(3, 4, 5)
    return [
        flat[:60].reshape(1, 3, 4, 5).clone().to(memory_format=torch.channels_last),
        flat[60:61].reshape(()).clone(),
        flat[:0].clone(),
        flat[61:81].reshape(4, 5).t().contiguous().t(),
        flat[81:100].repeat_interleave(2)[::2],
        last.permute(2, 0, 1).contiguous().permute(1, 2, 0),
    ]


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([t.detach().flatten() for t in tensors])


def random(graph: Graph, format: Format, kinds: dict[str, torch.dtype]) -> Lists:
    """Awkward parameters and gradients, and states of zero; gradients lie in another order."""
    rng = np.random.default_rng(0)
    numbers = {n: torch.from_numpy(drawn(rng, 160, format)).to(kinds.get(n, TORCH[format])) for n in graph.inputs}
    lists = {name: laid_out(t if name in "xg" else torch.zeros_like(t)) for name, t in numbers.items()}
    lists["g"] = [t.contiguous() for t in lists["g"]]
    return lists


def stepped(graph: Graph, lists: Lists, coefficients: Sequence[float], compute: torch.dtype) -> None:
    with torch.no_grad():
        reader.step(graph, lists, coefficients, compute)


@pytest.fixture
def exact_roots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Roots of NumPy: torch's own, on CPUs, are off in the last place now and then."""

    def root(t: Tensor) -> Tensor:
        with np.errstate(invalid="ignore"):
            return torch.from_numpy(np.asarray(np.sqrt(t.numpy())))

    tables: Any = reader
    monkeypatch.setitem(tables._ON_LISTS, "sqrt", lambda tensors: list(map(root, tensors)))
    monkeypatch.setitem(tables._ON_TENSORS, "sqrt", root)
    monkeypatch.delitem(tables._ON_OWN_LISTS, "sqrt")
    monkeypatch.delitem(tables._ON_OWN_TENSORS, "sqrt")


def assert_steps(case: Case, around: bool, format: Format, kind: torch.dtype) -> None:
    """Some steps have the reference's numbers, computed in `format` and rounded once to the parameter's type."""
    graph = graph_of(case, around)
    lists = random(graph, format, dict.fromkeys("xg", kind))
    rng = np.random.default_rng(1)
    for coefficients in coefficients_of(case, graph):
        for own, given in zip(lists["g"], laid_out(torch.from_numpy(drawn(rng, 160, format)).to(kind)), strict=True):
            own.copy_(given)
        before = {name: flat(tensors) for name, tensors in lists.items()}
        tensors = {name: t.to(TORCH[format]).numpy() for name, t in before.items()}
        wanted = expected(graph, tensors, coefficients, format)
        stepped(graph, lists, coefficients, TORCH[format])
        for name, value in wanted.items():
            rounded = torch.from_numpy(np.array(value)).to(before[name].dtype)
            torch.testing.assert_close(flat(lists[name]), rounded, rtol=0, atol=0, equal_nan=True, msg=name)
        torch.testing.assert_close(flat(lists["g"]), before["g"], rtol=0, atol=0, equal_nan=True)


@pytest.mark.usefixtures("exact_roots")
@AROUND
@FORMATS
@CASES
def test_the_references_numbers(case: Case, format: Format, around: bool) -> None:
    assert_steps(case, around, format, TORCH[format])


@pytest.mark.usefixtures("exact_roots")
@AROUND
@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16], ids=str)
@CASES
def test_computed_in_float32_and_rounded_once(case: Case, kind: torch.dtype, around: bool) -> None:
    assert_steps(case, around, FLOAT32, kind)


@pytest.mark.parametrize("elements", [1, 7, 70], ids=str)
@pytest.mark.parametrize("around", [False, True], ids=["lists", "flat"])
def test_large_steps_are_done_in_parts(elements: int, around: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    case = named("adam")
    graph = graph_of(case, around)
    [coefficients] = coefficients_of(case, graph, 1)
    found = []
    for piece in (reader.PIECE, elements):
        monkeypatch.setattr(reader, "PIECE", piece)
        lists = random(graph, FLOAT32, {})
        lists["x"] = [nn.Parameter(x) for x in lists["x"]]
        counter = Count()
        with counter:
            stepped(graph, lists, coefficients, torch.float32)
        found.append(([flat(tensors) for tensors in lists.values()], len(counter.calls)))
    (whole, few), (parts, many) = found
    torch.testing.assert_close(parts, whole, rtol=0, atol=0, equal_nan=True)
    assert many > few


def named(name: str) -> Case:
    return next(c for c in VARIANTS if c.rule.name == name)


@rule
def swaps(x: Any, g: Any, a: Any, b: Any, *, t: Any, lr: float = 0.5) -> Any:
    return lr * g, b, a


@rule
def remembers(x: Any, g: Any, before: Any, slope: Any, *, t: Any, lr: float = 0.5) -> Any:
    return lr * g, x, g


@rule
def selects(x: Any, g: Any, before: Any, rate: Any, *, t: Any, lr: float = 0.1) -> Any:
    rate = where(g > 0, lr, lr / 3)  # of numbers alone
    return rate * g, x, rate


@rule
def divides(x: Any, g: Any, fixed: Any, kept: Any, *, t: Any, lr: float = 0.1) -> Any:
    return lr / (g * g + 1e-3) - (1 - x) * kept, where(t > 0, lr, fixed), kept


@pytest.mark.parametrize("count", [1, 3])
@FORMATS
@pytest.mark.parametrize("odd", [swaps, remembers, selects, divides], ids=lambda r: r.name)
def test_what_is_stored_is_what_was_read(odd: Any, format: Format, count: int) -> None:
    """Also where an output is another input, or a number."""
    graph = lower(build(odd))
    numbers = graph.evaluate(1.0, *[0.3] * len(graph.numbers))
    rng = np.random.default_rng(0)
    given = {name: [rng.normal(size=5).astype(format.dtype) for _ in range(count)] for name in graph.inputs}
    lists = {name: [torch.from_numpy(a.copy()) for a in arrays] for name, arrays in given.items()}
    stepped(graph, lists, numbers, TORCH[format])
    for row in range(count):
        wanted = expected(graph, {name: arrays[row] for name, arrays in given.items()}, list(numbers), format)
        for name, value in wanted.items():
            np.testing.assert_array_equal(lists[name][row].numpy(), value, err_msg=name)
    if odd is divides:
        assert all(t._version == 0 for t in lists["kept"])  # which stays as it is


@pytest.mark.parametrize("name", ["adam", "lion"])
def test_gradients_whose_elements_share_memory(name: str) -> None:
    case = named(name)
    graph = graph_of(case)
    [coefficients] = coefficients_of(case, graph, 1)
    found = []
    for g in (torch.tensor(0.5).expand(3, 4), torch.full((3, 4), 0.5)):
        lists = {n: [g if n == "g" else torch.ones(3, 4)] for n in graph.inputs}
        stepped(graph, lists, coefficients, torch.float32)
        found.append(lists["x"][0])
    assert torch.equal(*found)


class Memory(TorchDispatchMode):
    """How many bytes are alive at most, beside those that were before."""

    def __init__(self, known: Sequence[Tensor]) -> None:
        super().__init__()
        self.now = self.most = 0
        self.known = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for t in tree_leaves(made):
            if isinstance(t, Tensor) and (storage := t.untyped_storage())._cdata not in self.known:
                self.known.add(storage._cdata)
                self.now += storage.nbytes()
                self.most = max(self.most, self.now)
                weakref.finalize(storage, self.free, storage._cdata, storage.nbytes())
        return made

    def free(self, place: int, size: int) -> None:
        self.known.discard(place)
        self.now -= size


def peak(name: str, count: int, kind: torch.dtype = torch.float32, shape: tuple[int, ...] = (1000,)) -> float:
    """The memory that a step takes for a while, in copies of the parameters as float32."""
    case = named(name)
    graph = graph_of(case)
    *_, coefficients = coefficients_of(case, graph)
    kinds = {n: kind if n in "xg" else torch.float32 for n in graph.inputs}
    lists = {n: [torch.empty(shape, device="meta", dtype=kinds[n]) for _ in range(count)] for n in graph.inputs}
    memory = Memory([t for tensors in lists.values() for t in tensors])
    with memory:
        stepped(graph, lists, coefficients, torch.float32)
    return memory.most / (4 * math.prod(shape) * count)


@pytest.mark.parametrize(("name", "copies"), [("sgd", 2), ("adam", 4), ("amsgrad", 5), ("adamax", 4), ("radam", 4)])
def test_memory(name: str, copies: int) -> None:
    """The new parameter and states, until all are known, and one result on the way."""
    assert peak(name, 20) <= copies


def test_memory_doesnt_grow_with_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "PIECE", 10_000)
    for name, kind in (("adam", torch.float32), ("lion", torch.float32), ("adam", torch.bfloat16)):
        small = peak(name, 10, kind) * 10
        assert peak(name, 200, kind) * 200 <= 2 * small
        for shape in ((200, 1000), (200_000,)):  # one large parameter is cut
            assert peak(name, 1, kind, shape) * 200 <= 2 * small


@pytest.mark.parametrize("name", ["adam", "amsgrad", "lion"])
def test_fake_tensors_and_compilers(name: str) -> None:
    case = named(name)
    graph = graph_of(case)
    *_, coefficients = coefficients_of(case, graph)

    def ones() -> Lists:
        return {n: [torch.full((3, 4), 0.5), torch.ones(())] for n in graph.inputs}

    with FakeTensorMode():
        stepped(graph, ones(), coefficients, torch.float32)
    plain, traced = ones(), ones()
    stepped(graph, plain, coefficients, torch.float32)
    torch.compile(stepped, backend="aot_eager", fullgraph=True)(graph, traced, coefficients, torch.float32)
    assert all(same(plain[name], traced[name]) for name in plain)
