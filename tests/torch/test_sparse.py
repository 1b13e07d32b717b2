"""Sparse gradients: lazy against torch.optim.SparseAdam and NumPy's, exact against dense gradients."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import adamite
import adamite.torch as ours
from adamite.rules import adam_eps_hat
from adamite.schedules import cosine

Options = dict[str, Any]
N, D = 60, 12


def rows(seed: int, n: int = 4, size: tuple[int, ...] = (N, D), dtype: torch.dtype = torch.float32) -> Tensor:
    """A sparse gradient, in any order; every other has a row twice."""
    draw = torch.Generator().manual_seed(seed)
    indices = torch.randperm(size[0], generator=draw)[:n]
    if seed % 2:
        indices = torch.cat([indices, indices[:1]])
    values = torch.randn(len(indices), *size[1:], generator=draw, dtype=torch.float64).to(dtype)
    return torch.sparse_coo_tensor(indices[None], values, size, check_invariants=True)


def weight(dtype: torch.dtype = torch.float32, size: tuple[int, ...] = (N, D)) -> nn.Parameter:
    draw = torch.Generator().manual_seed(99)
    return nn.Parameter(torch.randn(*size, generator=draw, dtype=torch.float64).to(dtype))


def distance(a: Any, b: Any) -> float:
    a, b = a.detach().double(), b.detach().double()
    return float((a - b).norm() / b.norm())


# ---- lazy


@pytest.mark.parametrize("maximize", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_lazy_adam_is_torchs_sparse_adam(dtype: torch.dtype, maximize: bool) -> None:
    """Which has its eps beside the raw root, where Adam has it beside the corrected one."""
    x, y, z = weight(dtype), weight(dtype), weight(dtype)
    mine = ours.optimizer(adam_eps_hat)([x], lr=0.1, eps=1e-8, maximize=maximize, sparse="lazy")
    adam = ours.Adam([z], lr=0.1, maximize=maximize, sparse="lazy")
    theirs = torch.optim.SparseAdam([y], lr=0.1, maximize=maximize)
    for step in range(30):
        x.grad = y.grad = z.grad = rows(step, dtype=dtype)
        for optimizer in (mine, adam, theirs):
            optimizer.step()
    assert distance(x, y) < (1e-7 if dtype is torch.float32 else 1e-15) and distance(z, y) < 1e-5
    for name, own in (("exp_avg", "m"), ("exp_avg_sq", "v")):
        assert distance(mine.state[x][own], theirs.state[y][name]) < (1e-7 if dtype is torch.float32 else 1e-15)
    assert mine.state[x]["step"] == theirs.state[y]["step"] == 30


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AdamW", {"amsgrad": True, "weight_decay": 0.1}),
        ("Adam", {"weight_decay": 0.1, "clip_norm": 0.5}),
        ("SGD", {"momentum": 0.9, "nesterov": True}),
        ("RMSprop", {"centered": True, "momentum": 0.5}),
        ("NAdam", {}),
        ("Lion", {"cautious": True, "ema": 0.5}),
        ("Adagrad", {"lr_decay": 0.1}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.complex64])
def test_lazy_is_the_dense_step_on_what_was_gathered(name: str, options: Options, dtype: torch.dtype) -> None:
    if dtype.is_complex and options.get("cautious"):
        pytest.skip("signs of complex numbers")
    x = weight(dtype)
    mine = getattr(ours, name)([x], sparse="lazy", **options)
    for step in range(6):
        g = rows(step, dtype=dtype).coalesce()
        touched = g.indices()[0]
        kept = copy.deepcopy(mine.state_dict())
        gathered = nn.Parameter(x.detach()[touched].clone())
        gathered.grad = g.values().clone()
        oracle = getattr(ours, name)([gathered], **options)
        if kept["state"]:
            state = copy.deepcopy(kept)
            state["state"][0] = {k: v[touched] if v.dim() else v for k, v in kept["state"][0].items()}
            oracle.load_state_dict(state)
        elif "ema" in options:
            kept["state"][0] = {"ema": x.detach().clone()}
        before = x.detach().clone()
        oracle.step()
        x.grad = g
        mine.step()
        before[touched] = gathered.detach()
        assert torch.equal(x, before)
        for key, value in oracle.state[gathered].items():
            expected = value
            if value.dim():
                old = kept["state"].get(0, {}).get(key)
                expected = torch.zeros_like(mine.state[x][key]) if old is None else old.to(value.dtype).clone()
                expected[touched] = value
            assert torch.equal(mine.state[x][key], expected), key


def test_the_bits_of_numpys() -> None:
    x = weight()
    table = x.detach().numpy().copy()
    one = ours.AdamW([x], lr=1e-2, sparse="exact")
    two = adamite.AdamW(table, lr=1e-2, convention="torch", sparse="exact")
    for step in range(200):
        g = rows(step).coalesce()
        x.grad = g
        one.step()
        two.step(adamite.Rows(g.indices()[0].numpy(), g.values().numpy()))
    one.flush()
    two.flush()
    assert np.array_equal(x.detach().numpy(), table)


@pytest.mark.parametrize("bag", [False, True])
def test_an_embedding_among_other_layers(bag: bool) -> None:
    """Embeddings' gradients, with duplicates, beside dense ones; clipped by the norm of all."""
    torch.manual_seed(0)
    kind: Any = nn.EmbeddingBag if bag else nn.Embedding
    sparse = nn.ModuleList([kind(N, D, sparse=True), nn.Linear(D, 3)])
    whole = nn.ModuleList([kind(N, D), nn.Linear(D, 3)])
    whole.load_state_dict(sparse.state_dict())
    table: Any = sparse[0].weight
    one = ours.AdamW(sparse.parameters(), lr=0.05, sparse="exact", clip_norm=0.5)
    two = ours.AdamW(whole.parameters(), lr=0.05, clip_norm=0.5)
    for step in range(40):
        words = torch.randint(0, N, (3, 4), generator=torch.Generator().manual_seed(step))
        one.flush(table, words)
        for model, optimizer in ((sparse, one), (whole, two)):
            optimizer.zero_grad()
            model[1](model[0](words)).square().sum().backward()
            optimizer.step()
        assert one.gradient_norm == pytest.approx(two.gradient_norm, rel=1e-4)
    one.flush()
    assert all(distance(p, q) < 1e-4 for p, q in zip(sparse.parameters(), whole.parameters(), strict=True))


# ---- exact

EXACT: list[tuple[str, Options]] = [
    ("AdamW", {"lr": 1e-2, "weight_decay": 0.1}),
    ("Adam", {"lr": 1e-2, "betas": (0.0, 0.9)}),
    ("AdamW", {"lr": 1e-2, "eps": 1e-2, "betas": (0.99, 0.999)}),
    ("NAdam", {"lr": 1e-2}),
    ("RAdam", {"lr": 1e-2}),
    ("SGD", {"lr": 1e-2, "momentum": 0.9}),
    ("RMSprop", {"lr": 1e-2, "momentum": 0.5}),
    ("Adagrad", {"lr": 1e-2}),
]


@pytest.mark.parametrize(("name", "options"), EXACT, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exact_is_torchs_dense(name: str, options: Options, dtype: torch.dtype) -> None:
    """1,000 steps under a schedule, against torch.optim's class of this name."""
    x, y = weight(dtype, (200, 5)), weight(dtype, (200, 5))
    mine = getattr(ours, name)([x], sparse="exact", **options)
    theirs = getattr(torch.optim, name)([y], **options)
    schedule = cosine(options["lr"], steps=1_000)
    for step in range(1_000):
        for optimizer in (mine, theirs):
            optimizer.param_groups[0]["lr"] = schedule(step)
        x.grad = rows(step, 1, (200, 5), dtype)
        y.grad = x.grad.to_dense()
        mine.step()
        theirs.step()
    mine.flush()
    # torch's NAdam keeps the product of its momenta in float32; docs/sparse.md has these numbers.
    assert distance(x, y) < (2e-6 if dtype is torch.float32 else 1e-9 if name == "NAdam" else 1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_exact_of_narrow_parameters_is_rounded_once(dtype: torch.dtype) -> None:
    x = weight(dtype)
    y = nn.Parameter(x.detach().float())
    mine, theirs = ours.AdamW([x], lr=1e-3, sparse="exact"), ours.AdamW([y], lr=1e-3)
    for step in range(50):
        x.grad = rows(step % 3, 2, dtype=dtype)
        y.grad = x.grad.to_dense().float()
        mine.step()
        theirs.step()
    mine.flush()
    assert distance(x, y) < 4 * torch.finfo(dtype).eps


def test_steps_of_other_kinds_in_between() -> None:
    """Dense gradients, none, steps in the backward pass, other groups' settings: the same as all dense."""
    x, y = weight(torch.float64), weight(torch.float64)
    z, w = weight(torch.float64, (3,)), weight(torch.float64, (3,))
    mine, theirs = ours.AdamW([x, z], lr=0.1, sparse="exact"), ours.AdamW([y, w], lr=0.1)
    for step in range(80):
        g = rows(step, dtype=torch.float64)
        if step == 30:
            for optimizer in (mine, theirs):
                optimizer.param_groups[0]["weight_decay"] = 0.5
        if step % 20 == 17:
            x.grad, y.grad = None, None
        elif step % 20 > 14:
            x.grad, y.grad = g.to_dense(), g.to_dense()
        else:
            x.grad, y.grad = g, g.to_dense()
        if 40 <= step < 60 and x.grad is not None:
            g, x.grad = x.grad, None
            with mine.step_in_backward():
                _Gives.apply(x, g).backward()
        else:
            z.grad = None
            mine.step()
        w.grad = None
        theirs.step()
    mine.flush()
    assert distance(x, y) < 1e-13 and mine.state[x]["step"] == theirs.state[y]["step"]


class _Gives(torch.autograd.Function):
    """A number whose gradient is the one given."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, g: Tensor) -> Tensor:
        ctx.g = g
        return x.new_zeros(())

    @staticmethod
    def backward(ctx: Any, by: Any) -> Any:
        return ctx.g, None


def test_states_saved_in_the_middle() -> None:
    x, y = weight(torch.float64), weight(torch.float64)
    mine, theirs = ours.AdamW([x], lr=0.1, sparse="exact"), torch.optim.AdamW([y], lr=0.1)

    def go(optimizer: Any, p: Tensor, seeds: range) -> None:
        for seed in seeds:
            g = rows(seed, dtype=torch.float64)
            p.grad = g if isinstance(optimizer, ours.Optimizer) else g.to_dense()
            optimizer.step()

    go(mine, x, range(60))
    go(theirs, y, range(60))
    buffer = io.BytesIO()
    torch.save(mine.state_dict(), buffer)  # which flushes
    assert distance(x, y) < 1e-13
    buffer.seek(0)
    z = nn.Parameter(x.detach().clone())
    again, dense = ours.AdamW([z], lr=0.1, sparse="exact"), torch.optim.AdamW([y], lr=0.1)
    again.load_state_dict(torch.load(buffer))
    dense.load_state_dict(mine.state_dict())  # torch's own goes on from it
    pickled = pickle.loads(pickle.dumps(mine))
    copied = copy.deepcopy(mine)
    assert pickled.sparse == copied.sparse == "exact"
    go(dense, y, range(60, 120))
    for optimizer in (again, pickled, copied):
        p = optimizer.param_groups[0]["params"][0]
        go(optimizer, p, range(60, 120))
        optimizer.flush()
        assert distance(p, y) < 1e-12
    go(mine, x, range(60, 70))
    mine.load_state_dict(again.state_dict())
    mine.flush()  # nothing: what was loaded is current
    with torch.no_grad():
        x.copy_(z)
    go(mine, x, range(120, 140))
    go(again, z, range(120, 140))
    mine.flush()
    again.flush()
    assert torch.equal(x, z)


ASSIGNED: dict[str, Callable[[Any], object]] = {
    "filled": lambda table: table.weight.fill_(0.5),
    "one row": lambda table: table.weight[3].zero_(),
    "loaded": lambda table: table.load_state_dict({"weight": torch.ones(N, D, dtype=table.weight.dtype)}),
    "another tensor": lambda table: setattr(table.weight, "data", torch.ones_like(table.weight)),
    "pruned": lambda table: table.weight.mul_(torch.arange(N)[:, None] % 2),
    "negated": lambda table: table.weight.data.neg_(),
}


def copies(sparse: bool) -> tuple[Any, Any]:
    torch.manual_seed(0)
    table = nn.Embedding(N, D, sparse=sparse, dtype=torch.float64)
    more: Any = {"sparse": "exact"} if sparse else {}
    return table, ours.AdamW(table.parameters(), lr=0.1, **more)


def trained(pairs: Sequence[tuple[Any, Any]], seeds: range) -> None:
    for seed in seeds:
        for table, optimizer in pairs:
            g = rows(seed, dtype=torch.float64)
            table.weight.grad = g if table.sparse else g.to_dense()
            optimizer.step()


@pytest.mark.parametrize("assign", ASSIGNED.values(), ids=ASSIGNED)
@pytest.mark.parametrize("flushes", [True, False])
def test_what_a_row_has_missed_does_not_move_what_is_assigned_to_it(
    assign: Callable[[Any], object], flushes: bool
) -> None:
    """Whether the table is flushed next, or stepped on: in the end it is where dense gradients take it."""
    exact, dense = copies(True), copies(False)
    trained([exact, dense], range(20))
    before = exact[0].weight.detach().clone()
    with torch.no_grad():
        for table, _ in (exact, dense):
            assign(table)
    assigned = (exact[0].weight != before).any(dim=1)
    expected = exact[0].weight.detach().clone()
    assert assigned.any()
    if flushes:
        exact[1].flush()
        assert torch.equal(exact[0].weight[assigned], expected[assigned])
    trained([exact, dense], range(20, 40))
    exact[1].flush()
    if assign in list(ASSIGNED.values())[:3]:  # the others depend on what was there, or tell nobody that they write
        assert distance(exact[0].weight, dense[0].weight) < 1e-12


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
@pytest.mark.parametrize("first", [0, 1])
def test_model_and_optimizer_copied_together(copied: Any, first: int) -> None:
    """In either order; the original isn't touched, and both go on to the same bits."""
    table, optimizer = copies(True)
    trained([(table, optimizer)], range(20))
    before = table.weight.detach().clone()
    pair = copied((table, optimizer) if first == 0 else (optimizer, table))
    other_table, other = pair[first], pair[1 - first]
    assert torch.equal(table.weight, before) and torch.equal(other_table.weight, before)
    assert other.param_groups[0]["params"][0] is other_table.weight
    trained([(table, optimizer), (other_table, other)], range(20, 35))
    for each in (optimizer, other):
        each.flush()
    assert torch.equal(table.weight, other_table.weight) and not torch.equal(table.weight, before)


def test_a_renormed_embedding() -> None:
    """Whose forward pass writes into the rows that it reads."""
    found = []
    for sparse in (True, False):
        torch.manual_seed(0)
        table = nn.Embedding(N, D, max_norm=1.0, sparse=sparse, dtype=torch.float64)
        more: Any = {"sparse": "exact"} if sparse else {}
        optimizer = ours.AdamW(table.parameters(), lr=0.05, **more)
        for step in range(30):
            words = torch.randint(0, N, (8,), generator=torch.Generator().manual_seed(step))
            optimizer.flush(table.weight, words)
            optimizer.zero_grad()
            (table(words) - 1).square().sum().backward()
            optimizer.step()
        optimizer.flush()
        found.append(table.weight)
    assert distance(*found) < 1e-12


def test_a_gradient_scaler() -> None:
    x, y = weight(), weight()
    mine, theirs = ours.AdamW([x], lr=0.1, sparse="lazy"), ours.AdamW([y], lr=0.1, sparse="lazy")
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    for step in range(6):
        g = rows(step).coalesce()
        scale = scaler.scale(torch.ones(()))
        y.grad = g
        values = g.values() * scale
        if step == 3:
            values = values / 0
            y.grad = None
        x.grad = torch.sparse_coo_tensor(g.indices(), values, g.shape, check_invariants=True)
        scaler.step(mine)
        scaler.update()
        theirs.step()
    assert mine.state[x]["step"] == 5 and torch.equal(x, y)


# ---- what is refused


def _unsafe(indices: Any, values: Tensor, size: tuple[int, ...] = (N, D)) -> Tensor:
    return torch.sparse_coo_tensor(torch.tensor(indices), values, size, check_invariants=False)


BAD: list[tuple[Any, type[Exception], str]] = [
    (lambda: _unsafe([[N]], torch.ones(1, D)), ValueError, f"must be 0 to {N - 1}, got {N}; nothing was changed"),
    (lambda: _unsafe([[3, -1]], torch.ones(2, D)), ValueError, f"must be 0 to {N - 1}, got -1"),
    (lambda: _unsafe([[1], [2]], torch.ones(1)), ValueError, "whole rows.*with 2"),
]


@pytest.mark.parametrize("mode", ["lazy", "exact"])
@pytest.mark.parametrize(("make", "error", "message"), BAD, ids=[m for *_, m in BAD])
def test_what_is_no_gradient_of_rows(make: Any, error: type[Exception], message: str, mode: Any) -> None:
    x, z = weight(), weight(size=(3,))
    optimizer = ours.AdamW([x, z], sparse=mode)
    x.grad, z.grad = rows(0), torch.ones(3)
    optimizer.step()
    before = [p.detach().clone() for p in (x, z)]
    x.grad = make()
    with pytest.raises(error, match=message):
        optimizer.step()
    assert torch.equal(x, before[0]) and torch.equal(z, before[1]) and optimizer.state[z]["step"] == 1
    x.grad = rows(1)
    optimizer.step()
    assert optimizer.state[x]["step"] == 2


def test_sparse_gradients_have_to_be_asked_for() -> None:
    x = weight()
    x.grad = rows(0)
    with pytest.raises(RuntimeError, match=r'does not support sparse gradients; make it with sparse="lazy"'):
        ours.AdamW([x]).step()
    y = weight()
    x.grad, y.grad = rows(0), rows(0)
    ours.SGD([x], lr=0.1).step()  # torch's takes them, and so does ours
    torch.optim.SGD([y], lr=0.1).step()
    assert distance(x, y) < 1e-7
    with pytest.raises(ValueError, match=r"lazy.*got 'rows'"):
        ours.AdamW([x], sparse="rows")  # type: ignore[arg-type]


@adamite.rule
def squared(g: Any, s: Any, *, t: Any, lr: float = 0.1) -> Any:
    s = s + g**2
    return lr * g / (1 + adamite.sqrt(s)), s


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.complex64], ids=str)
@pytest.mark.parametrize("more", [{}, {"maximize": True, "clip_norm": 1.0}], ids=str)
@pytest.mark.parametrize("kind", ["SGD", "Adagrad", squared], ids=str)
def test_rows_alone_where_that_is_the_dense_step(kind: Any, more: Options, dtype: torch.dtype) -> None:
    """With no option given: what a row without a gradient holds isn't even read."""
    made = ours.optimizer(kind) if kind is squared else getattr(ours, kind)
    x, y = weight(dtype), weight(dtype)
    rowwise, dense = made([x], lr=0.1, **more), made([y], lr=0.1, **more)
    touched = torch.zeros(N, dtype=torch.bool)
    for step in range(6):
        g = rows(step, dtype=dtype)
        x.grad, y.grad = g, g.to_dense()
        touched[g._indices()[0]] = True
        if step == 3:
            x.grad = y.grad  # a dense one in between
        rowwise.step()
        dense.step()
        assert torch.equal(x, y)
    states = [value for value in rowwise.state[x].values() if value.shape == x.shape]
    for state in states:
        state[~touched] = 1e-42  # a dense step would flush it
    before = [state.clone() for state in states]
    x.grad = rows(2, dtype=dtype)
    rowwise.step()
    assert all(torch.equal(state[~touched], old[~touched]) for state, old in zip(states, before, strict=True))


def test_options_that_move_the_other_rows_make_a_step_dense() -> None:
    x, y = weight(), weight()
    rowwise, dense = ours.SGD([x], lr=0.1), ours.SGD([y], lr=0.1)
    for step in range(6):
        if step == 2:
            for optimizer in (rowwise, dense):
                optimizer.param_groups[0]["weight_decay"] = 0.1
        if step == 4:
            for optimizer in (rowwise, dense):
                optimizer.param_groups[0] |= {"weight_decay": 0.0, "momentum": 0.9}
        x.grad, y.grad = rows(step), rows(step).to_dense()
        rowwise.step()
        dense.step()
        assert torch.equal(x, y), step


def test_exact_is_refused_where_it_cannot_be() -> None:
    x = weight()
    for make in (
        lambda: ours.AdamW([x], amsgrad=True, sparse="exact"),
        lambda: ours.Adam([x], weight_decay=0.1, sparse="exact"),
        lambda: ours.Adam([x], ema=0.9, sparse="exact"),
        lambda: ours.Lion([x], sparse="exact"),
    ):
        with pytest.raises(ValueError, match=r'sparse="exact" needs.*Take sparse="lazy"'):
            make()
    optimizer = ours.Adam([x], sparse="exact")
    optimizer.param_groups[0]["weight_decay"] = 0.1
    x.grad = rows(0)
    with pytest.raises(ValueError, match="depends on x"):
        optimizer.step()


def test_tables_whose_rows_lie_apart() -> None:
    y = weight(size=(N, D + 3))
    x = nn.Parameter(y.detach()[:, :D])
    plain = nn.Parameter(x.detach().clone().contiguous())
    one, two = ours.AdamW([x], sparse="lazy"), ours.AdamW([plain], sparse="lazy")
    for step in range(3):
        x.grad, plain.grad = rows(step), rows(step)
        one.step()
        two.step()
    assert torch.equal(x, plain)
    number = nn.Parameter(torch.ones(()))
    number.grad = torch.ones(()).to_sparse()
    with pytest.raises(ValueError, match="is a number, which has no rows"):
        ours.AdamW([number], sparse="lazy").step()
    turned = nn.Parameter(weight(size=(D, N)).detach().t())
    turned.grad = rows(0)
    with pytest.raises(ValueError, match=r"aren't contiguous.*contiguous\(\)"):
        ours.AdamW([turned], sparse="lazy").step()


def test_what_cannot_be_flushed() -> None:
    x = weight()
    optimizer = ours.AdamW([x], sparse="exact")
    x.grad = rows(0)
    optimizer.step()
    with pytest.raises(ValueError, match="takes a parameter of this AdamW"):
        optimizer.flush(weight())
    with pytest.raises(TypeError, match="flush\\(weight, indices\\)"):
        optimizer.flush(indices=[1])
    with pytest.raises(ValueError, match=f"must be 0 to {N - 1}, got {N}"):
        optimizer.flush(x, [N])


def test_other_devices_are_refused() -> None:
    x = nn.Parameter(torch.empty(N, D, device="meta"))
    indices, values = torch.empty(1, 0, dtype=torch.int64, device="meta"), torch.empty(0, D, device="meta")
    x.grad = torch.sparse_coo_tensor(indices, values, (N, D), check_invariants=False)
    with pytest.raises(RuntimeError, match="whole tensors on the CPU"):
        ours.AdamW([x], sparse="lazy").step()


@pytest.mark.parametrize("name", ["SGD", "Adagrad"])
def test_gradients_of_single_elements_between_those_of_rows(name: str) -> None:
    """Which take turns on one table, and make the dense step whatever came before."""
    x, y = weight(size=(4, 2)), weight(size=(4, 2))
    mixed, dense = getattr(ours, name)([x], lr=0.1), getattr(ours, name)([y], lr=0.1)
    whole = torch.sparse_coo_tensor(torch.tensor([[1]]), torch.ones(1, 2), (4, 2), check_invariants=True)
    single = torch.sparse_coo_tensor(torch.tensor([[0, 1], [1, 0]]), torch.ones(2), (4, 2), check_invariants=True)
    for g in (whole, single, whole, single, single, whole):
        x.grad, y.grad = g, g.to_dense()
        mixed.step()
        dense.step()
        assert torch.equal(x, y)
