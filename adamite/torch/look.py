"""Where torch's tensors lie, read by machine code from torch's own structures: ten times faster than by Python.

A parameter's object leads to its TensorImpl, that to its storage and its gradient. Where these words lie in memory is
found on tensors whose values are known, and then tried on others; where torch keeps them otherwise, or there is no
compiler, `available` says no and Python reads instead. A dict carries a mark that changes with it (PEP 509, up to
Python 3.12), so that thousands of dicts needn't be searched for the states that they held a step ago.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from adamite.codegen import compiler
from adamite.codegen.job import STATES, G, Job, X
from adamite.codegen.text import Text, Value

_RESULT, _ROWS, _XS, _GS, _STATES, _COUNT, _KEYS, _START = range(8)
_OBJECT, _LAYOUT, _STATE_LAYOUT, _MARK_PLACE, _MARK, _FIRST_STATE = range(6)  # of a row
_AXES = 5  # as many as a TensorImpl holds in itself

# What a row's layout says, of the parameter or of its states.
_TYPE, _NUMEL, _DIMENSIONS, _ITEMSIZE, _GRADIENT_TYPE, _GRADIENT_ITEMSIZE, _SHAPE = range(7)
_STRIDES = _SHAPE + _AXES

# torch's numbers of its types
_TYPES: dict[torch.dtype, int] = {
    torch.float16: 5,
    torch.float32: 6,
    torch.float64: 7,
    torch.complex64: 9,
    torch.complex128: 10,
    torch.bfloat16: 15,
}


class Offsets(NamedTuple):
    """Which word of a structure holds what."""

    impl: int  # of the Python object
    storage: int  # of the TensorImpl, as all but the next two
    data: int  # of the storage
    gradient: int  # of the autograd metadata
    metadata: int
    dimensions: int  # followed by sizes, then strides
    offset: int
    numel: int  # followed by the type
    keys: int


def _text(at: Offsets) -> str:
    """A loop over the rows, as `Look` lays them out."""
    loop = _Loop(at)
    loop.write()
    return "define void @kernel(ptr %cells) {\nentry:\n" + "\n".join(loop.out.lines) + "\n}\n"


class _Loop:
    """The text of the loop: whatever isn't as its row says leads to the label `other`."""

    def __init__(self, at: Offsets) -> None:
        self.at, self.out = at, Text()

    def word(self, base: Value | str, index: Value | int | str, kind: str = "i64") -> Value:
        return self.out.value(f"load {kind}, ptr {self.out.at(base, index, 'i64')}", kind)

    def same(self, a: Value, b: Value) -> Value:
        return a.compare("icmp eq", b)

    def not_null(self, pointer: Value) -> Value:
        return pointer.compare("icmp ne", "null")

    def write(self) -> None:
        out, word = self.out, self.word
        keys = word("%cells", _KEYS)
        rows, count = word("%cells", _ROWS), word("%cells", _COUNT)
        xs, gs, states = (word("%cells", index, "ptr") for index in (_XS, _GS, _STATES))
        width = count + _FIRST_STATE
        out.line("br label %row")

        out.label("row")
        out.line("%r = phi i64 [ 0, %entry ], [ %r.next, %next ]")
        out.line(f"%cell = getelementptr i64, ptr %cells, i64 {out.named('%r') * width + _START}")
        parameter = word("%cell", _OBJECT, "ptr")
        out.line(f"%layout.place = getelementptr i64, ptr %cell, i64 {_LAYOUT}")
        out.line("%layout = load ptr, ptr %layout.place")
        out.line(f"%empty = icmp eq i64 {word('%layout', _NUMEL)}, 0")
        unmarked = self.same(word(word("%cell", _MARK_PLACE, "ptr"), 0), word("%cell", _MARK))
        state_layout = word("%cell", _STATE_LAYOUT, "ptr")
        self.look_at_gradient(parameter, keys, xs, gs, unmarked)
        self.look_at_states(rows, count, states, state_layout)

        out.label("next")
        out.line("%r.next = add i64 %r, 1")
        out.line(f"br i1 {out.named('%r.next').compare('icmp slt', rows)}, label %row, label %done")
        for label, result in (("done", 1), ("other", 0)):
            out.label(label)
            out.line(f"store i64 {result}, ptr %cells")
            out.line("ret void")

    def look_at_gradient(self, parameter: Value, keys: Value, xs: Value, gs: Value, unmarked: Value) -> None:
        """Check the parameter and its gradient, and store where the gradient lies."""
        out, word, at = self.out, self.word, self.at
        x = word(parameter, at.impl, "ptr")
        metadata = word(x, at.metadata, "ptr")
        out.line(f"br i1 {self.not_null(metadata)}, label %held, label %other")

        out.label("held")
        g = word(metadata, at.gradient, "ptr")
        both = self.not_null(word(g, at.storage, "ptr")) & self.not_null(word(x, at.storage, "ptr"))
        out.line(f"br i1 {both}, label %both, label %other")

        out.label("both")
        x_good, x_data = self.tensor(x, _TYPE, _ITEMSIZE, keys)
        g_good, g_data = self.tensor(g, _GRADIENT_TYPE, _GRADIENT_ITEMSIZE, keys)
        stays = self.same(x_data, word(xs, "%r"))
        out.line(f"store i64 {g_data}, ptr {out.at(gs, '%r', 'i64')}")
        out.line(f"br i1 {x_good & g_good & (stays & unmarked)}, label %states, label %other")

    def look_at_states(self, rows: Value, count: Value, states: Value, layout: Value) -> None:
        """Check that each state has its shape, and lies where it did."""
        out, word, at = self.out, self.word, self.at
        out.label("states")
        out.line("%s = phi i64 [ 0, %both ], [ %s.next, %state.next ]")
        out.line(f"br i1 {out.named('%s').compare('icmp slt', count)}, label %state, label %next")
        out.label("state")
        state = word(word("%cell", out.named("%s") + _FIRST_STATE, "ptr"), at.impl, "ptr")
        out.line(f"br i1 {self.not_null(word(state, at.storage, 'ptr'))}, label %state.held, label %other")
        out.label("state.held")
        place = self.place(state, word(layout, _ITEMSIZE))
        was = word(states, out.named("%r") + out.named("%s") * rows)
        stays = self.shaped(state, layout) & self.same(place, was)
        out.line(f"br i1 {stays}, label %state.next, label %other")
        out.label("state.next")
        out.line("%s.next = add i64 %s, 1")
        out.line("br label %states")

    def tensor(self, impl: Value, kind: int, itemsize: int, keys: Value) -> tuple[Value, Value]:
        """Whether a tensor is as the row's layout says, and where its data lie."""
        layout = self.out.named("%layout", "ptr")
        type_ = self.out.value(f"load i16, ptr {self.out.at(impl, self.at.numel + 1, 'i64')}", "i16")
        good = self.shaped(impl, layout) & self.same(type_, self.word(layout, kind).cast("trunc", "i16"))
        good = good & self.same(self.word(impl, self.at.keys), keys)
        data = self.place(impl, self.word(layout, itemsize))
        return good & (self.out.named("%empty", "i1") | data.compare("icmp ne", 0)), data

    def shaped(self, impl: Value, layout: Value) -> Value:
        """Whether a tensor has the shape and strides that a layout says."""
        word, at = self.word, self.at
        dimensions = word(layout, _DIMENSIONS)
        good = self.same(word(impl, at.numel), word(layout, _NUMEL))
        good = good & self.same(word(impl, at.dimensions), dimensions)
        for axis in range(_AXES):
            unused = dimensions.compare("icmp sle", axis)
            for start, column in ((at.dimensions + 1, _SHAPE), (at.dimensions + 1 + _AXES, _STRIDES)):
                good = good & (unused | self.same(word(impl, start + axis), word(layout, column + axis)))
        return good

    def place(self, impl: Value, itemsize: Value) -> Value:
        """Where the first element lies; an empty tensor's place is 0, as in torch."""
        skipped = self.word(impl, self.at.offset) * itemsize
        start = self.word(self.word(impl, self.at.storage, "ptr"), self.at.data) + skipped
        return self.out.named("%empty", "i1").select(0, start)


class Look:
    """Reads the rows of a job: whether all is as it was, and the job points at the gradients; else Python must look."""

    def __init__(
        self, parameters: Sequence[Tensor], types: Sequence[torch.dtype], states: Sequence[Sequence[Tensor]], job: Job
    ) -> None:
        self._call = _compiled().call_held
        self._held = [parameters, states]  # since their addresses are kept
        count = len(states[0])
        self._layouts = []
        cells = [0, len(parameters), job.place(X), job.place(G), job.place(STATES), count, _keys()]
        for p, gradient, row_states in zip(parameters, types, states, strict=True):
            layouts = [_facts(p, gradient), _facts(row_states[0] if row_states else p, gradient)]
            self._layouts += layouts
            cells += [id(p), *map(ctypes.addressof, layouts), ctypes.addressof(_ZERO), 0, *map(id, row_states)]
        self._cells = (ctypes.c_int64 * len(cells))(*cells)
        self._address = ctypes.addressof(self._cells)
        self._width = _FIRST_STATE + count

    def notice(self, dicts: Sequence[dict[str, Any]]) -> bool:
        """From now on a change of the rows' dicts is noticed, if it can be."""
        mark = _mark()
        if mark is None or not all(type(d) is dict for d in dicts):
            return False
        self._dicts = dicts
        for cell, d in zip(range(_START, len(self._cells), self._width), dicts):
            place = id(d) + mark
            self._cells[cell + _MARK_PLACE] = place
            self._cells[cell + _MARK] = ctypes.c_int64.from_address(place).value
        return True

    def __call__(self) -> bool:
        self._call(self._address)
        return self._cells[_RESULT] == 1


_ZERO = ctypes.c_int64(0)  # the mark of a row whose dict isn't watched


def _facts(t: Tensor, gradient: torch.dtype) -> Any:
    """What a layout says."""
    room = [0] * (_AXES - t.dim())
    types = [_TYPES.get(gradient, 0), gradient.itemsize]
    words = [_TYPES.get(t.dtype, 0), t.numel(), t.dim(), t.element_size(), *types]
    words += [*t.shape, *room, *t.stride(), *room]
    return (ctypes.c_int64 * len(words))(*words)


def readable(parameters: Sequence[Tensor], states: Sequence[Sequence[Tensor]]) -> bool:
    """Whether machine code can look at these: the states of a row have one shape."""
    return (
        all(type(p) in (torch.nn.Parameter, Tensor) and p.dim() <= _AXES for p in parameters)
        and all(_same(s, row_states[0]) for row_states in states for s in row_states[1:])
        and available()
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.stride() == b.stride() and a.element_size() == b.element_size()


@functools.cache
def _compiled() -> compiler.Compiled:
    layout = _offsets()
    if layout is None:
        raise RuntimeError("torch keeps its tensors otherwise")
    return compiler.compile(_text(layout))


@functools.cache
def _keys() -> int:
    """The dispatch keys of a plain tensor on the CPU: not conjugated, negated, sparse or a subclass's."""
    raw: int = torch._C._dispatch_keys(torch.empty(1, device="cpu")).raw_repr()
    return raw - (1 << 64) if raw >> 63 else raw


def _words(address: int, count: int) -> list[int]:
    return list((ctypes.c_int64 * count).from_address(address))


def _only(values: Sequence[int], wanted: int) -> int:
    """Where a value stands, if it stands in one place."""
    if values.count(wanted) != 1:
        raise LookupError(wanted)
    return values.index(wanted)


@functools.cache
def _offsets() -> Offsets | None:
    """Find the words on a tensor whose values are like no others."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    try:
        base = torch.arange(2000.0, dtype=torch.float32, device="cpu")
        x = torch.nn.Parameter(base[1013 : 1013 + 17 * 13 * 3].view(17, 13, 3).transpose(0, 2))
        x.grad = torch.ones_like(x)
        storage = x.untyped_storage()
        words = _words(x._cdata, 22)
        dimensions = next(
            k
            for k in range(len(words) - 11)
            if [words[k], *words[k + 1 : k + 4], *words[k + 6 : k + 9]] == [3, *x.shape, *x.stride()]
        )
        metadata, gradient = next(
            (k, _words(words[k], 12).index(x.grad._cdata))
            for k in range(3, 5)
            if words[k] > 1 << 16 and x.grad._cdata in _words(words[k], 12)
        )
        return Offsets(
            impl=_only(_words(id(x), 4), x._cdata),
            storage=_only(words, storage._cdata),
            data=_words(storage._cdata, 6).index(storage.data_ptr()),
            gradient=gradient,
            metadata=metadata,
            dimensions=dimensions,
            offset=_only(words, 1013),
            numel=_only(words, 17 * 13 * 3),
            keys=_only(words, _keys()),
        )
    except (LookupError, StopIteration, ValueError, AttributeError, RuntimeError):
        return None


@functools.cache
def _mark() -> int | None:
    """Where in a dict's object its mark lies, a number that no other dict has had."""
    if sys.implementation.name != "cpython" or not (3, 10) < sys.version_info < (3, 13):
        return None
    place = 3 * ctypes.sizeof(ctypes.c_int64)  # after the count of references, the type, and the number of items
    d: dict[str, Any] = {"a": 0, "b": 1}
    others = [dict(d), dict(d)]

    def read() -> list[int]:
        return [ctypes.c_int64.from_address(id(each) + place).value for each in (d, *others)]

    seen = read()
    changes: list[Callable[[], object]] = [
        lambda: d.__setitem__("a", 2),
        lambda: d.update(b=3),
        lambda: d.setdefault("c", 4),
        lambda: d.pop("a"),
        lambda: d.clear(),
        lambda: d.__ior__({"a": 5}),
    ]
    for change in changes:
        change()
        now = read()
        if now[0] in seen or now[1:] != seen[-2:] or (list(d.items()), dict(d), read())[2] != now:
            return None
        seen = [*seen[:-2], now[0], *now[1:]]
    return place


@functools.cache
def available() -> bool:
    """Whether machine code reads tensors as torch says that they are."""
    if _offsets() is None:
        return False
    try:
        return all(_tried(dtype, shape) for dtype in _TYPES for shape in ((), (3,), (2, 3), (0,), (2, 1, 3, 2, 2)))
    except Exception:  # no compiler here; making a kernel tells why
        return False


def _tried(dtype: torch.dtype, shape: tuple[int, ...]) -> bool:
    state_dtype = dtype if dtype.is_complex else torch.float32
    x = torch.nn.Parameter(torch.zeros(4, *shape, dtype=dtype, device="cpu")[1])
    m = torch.zeros(3, *shape, dtype=state_dtype, device="cpu")[2]
    other = torch.nn.Parameter(torch.zeros(2, dtype=dtype, device="cpu"))
    other.grad, n = torch.zeros_like(other), torch.zeros(2, dtype=state_dtype, device="cpu")
    job = Job(2, STATES + 1)
    job.fill(X, [x.data_ptr(), other.data_ptr()])
    job.fill(STATES, [m.data_ptr(), n.data_ptr()])
    look = Look([x, other], [dtype, dtype], [[m], [n]], job)

    good = not look()  # no gradient
    x.grad = torch.ones(5, *shape, dtype=dtype, device="cpu")[3]
    good = good and look() and job.read(G) == [x.grad.data_ptr(), other.grad.data_ptr()]
    x.grad = None
    good = good and not look()
    if not dtype.is_complex:
        x.grad = torch._neg_view(torch.ones(2, *shape, dtype=dtype, device="cpu")[1])
        good = good and not look()
    x.grad = torch.ones(6, *shape, dtype=dtype, device="cpu")[5]
    good = good and look() and job.read(G)[0] == x.grad.data_ptr()
    if x.numel():
        x.data = torch.zeros(7, *shape, dtype=dtype, device="cpu")[4]
        good = good and not look()
        job.fill(X, [x.data_ptr(), other.data_ptr()])
        good = good and look()
        m.data = torch.zeros(8, *shape, dtype=state_dtype, device="cpu")[6]
        good = good and not look()
        job.fill(STATES, [m.data_ptr(), n.data_ptr()])
        good = good and look()
        x.data = x.data.to(torch.complex128 if dtype is torch.complex64 else torch.complex64)
        good = good and not look()
    return good
