"""Where arrays lie, read by machine code from NumPy's own structures.

Every step reads anew where parameters and gradients lie and whether a gradient has its parameter's type, shape and
strides. From Python that takes 1 us a tensor, which is most of a step on small ones. The layout of the structures is
part of NumPy's and CPython's binary interface; `available` compares it with what Python says, and where
they differ, `MachineBatch.look` reads in Python instead.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from adamite.codegen.job import G, Job, X
from adamite.engine.memory import Array, address

if TYPE_CHECKING:
    from adamite.codegen.compiler import Compiled

_HEAD = object.__basicsize__  # of every Python object; its type comes last
_DATA, _NDIM, _SHAPE, _STRIDES, _DTYPE, _FLAGS = (_HEAD + offset for offset in (0, 8, 16, 24, 40, 48))
_ITEMS = _HEAD + 8  # of a list, behind its length
_ALIGNED, _WRITEABLE = 0x100, 0x400

_GRADIENTS, _RESULT, _XS, _GS, _TYPE, _ROWS, _START = range(7)
SAME, GRADIENTS_MOVED, PARAMETERS_MOVED = 0, -1, -2

_TEXT = f"""
define void @kernel(ptr %job) "no-builtins" {{
entry:
  %list = load ptr, ptr %job
  %items.place = getelementptr i8, ptr %list, i64 {_ITEMS}
  %items = load ptr, ptr %items.place
  %result = getelementptr i64, ptr %job, i64 {_RESULT}
  %xs.place = getelementptr i64, ptr %job, i64 {_XS}
  %xs = load ptr, ptr %xs.place
  %gs.place = getelementptr i64, ptr %job, i64 {_GS}
  %gs = load ptr, ptr %gs.place
  %type.place = getelementptr i64, ptr %job, i64 {_TYPE}
  %type = load i64, ptr %type.place
  %rows.place = getelementptr i64, ptr %job, i64 {_ROWS}
  %rows = load i64, ptr %rows.place
  br label %row
row:
  %r = phi i64 [ 0, %entry ], [ %r.next, %next ]
  %moved = phi i64 [ {SAME}, %entry ], [ %moved.next, %next ]
  %cell = mul i64 %r, 3
  %first = add i64 %cell, {_START}
  %index.place = getelementptr i64, ptr %job, i64 %first
  %index = load i64, ptr %index.place
  %x.place = getelementptr i64, ptr %index.place, i64 1
  %x = load ptr, ptr %x.place
  %layout.place = getelementptr i64, ptr %index.place, i64 2
  %layout = load ptr, ptr %layout.place
  %item = getelementptr ptr, ptr %items, i64 %index
  %g = load ptr, ptr %item
  %g.type.place = getelementptr i8, ptr %g, i64 {_HEAD - 8}
  %g.type = load i64, ptr %g.type.place
  %is.array = icmp eq i64 %g.type, %type
  br i1 %is.array, label %array, label %other
array:
  %g.dtype.place = getelementptr i8, ptr %g, i64 {_DTYPE}
  %g.dtype = load i64, ptr %g.dtype.place
  %x.dtype.place = getelementptr i8, ptr %x, i64 {_DTYPE}
  %x.dtype = load i64, ptr %x.dtype.place
  %want.dtype = load i64, ptr %layout
  %g.same.dtype = icmp eq i64 %g.dtype, %want.dtype
  %x.same.dtype = icmp eq i64 %x.dtype, %want.dtype
  %same.dtype = and i1 %g.same.dtype, %x.same.dtype
  %g.flags.place = getelementptr i8, ptr %g, i64 {_FLAGS}
  %g.flags = load i32, ptr %g.flags.place
  %x.flags.place = getelementptr i8, ptr %x, i64 {_FLAGS}
  %x.flags = load i32, ptr %x.flags.place
  %g.good = and i32 %g.flags, {_ALIGNED}
  %g.aligned = icmp eq i32 %g.good, {_ALIGNED}
  %x.good = and i32 %x.flags, {_ALIGNED | _WRITEABLE}
  %x.ready = icmp eq i32 %x.good, {_ALIGNED | _WRITEABLE}
  %g.ndim.place = getelementptr i8, ptr %g, i64 {_NDIM}
  %g.ndim = load i32, ptr %g.ndim.place
  %x.ndim.place = getelementptr i8, ptr %x, i64 {_NDIM}
  %x.ndim = load i32, ptr %x.ndim.place
  %ndim.place = getelementptr i64, ptr %layout, i64 1
  %ndim = load i64, ptr %ndim.place
  %want.ndim = trunc i64 %ndim to i32
  %g.same.ndim = icmp eq i32 %g.ndim, %want.ndim
  %x.same.ndim = icmp eq i32 %x.ndim, %want.ndim
  %good1 = and i1 %same.dtype, %g.aligned
  %good2 = and i1 %good1, %x.ready
  %good3 = and i1 %good2, %g.same.ndim
  %good = and i1 %good3, %x.same.ndim
  br i1 %good, label %axes, label %other
axes:
  %g.shape.place = getelementptr i8, ptr %g, i64 {_SHAPE}
  %g.shape = load ptr, ptr %g.shape.place
  %g.strides.place = getelementptr i8, ptr %g, i64 {_STRIDES}
  %g.strides = load ptr, ptr %g.strides.place
  %x.shape.place = getelementptr i8, ptr %x, i64 {_SHAPE}
  %x.shape = load ptr, ptr %x.shape.place
  %x.strides.place = getelementptr i8, ptr %x, i64 {_STRIDES}
  %x.strides = load ptr, ptr %x.strides.place
  %shape = getelementptr i64, ptr %layout, i64 2
  %strides = getelementptr i64, ptr %shape, i64 %ndim
  %scalar = icmp eq i64 %ndim, 0
  br i1 %scalar, label %next, label %axis
axis:
  %k = phi i64 [ 0, %axes ], [ %k.next, %axis.next ]
  %want.size.place = getelementptr i64, ptr %shape, i64 %k
  %want.size = load i64, ptr %want.size.place
  %want.stride.place = getelementptr i64, ptr %strides, i64 %k
  %want.stride = load i64, ptr %want.stride.place
  %g.size.place = getelementptr i64, ptr %g.shape, i64 %k
  %g.size = load i64, ptr %g.size.place
  %g.stride.place = getelementptr i64, ptr %g.strides, i64 %k
  %g.stride = load i64, ptr %g.stride.place
  %x.size.place = getelementptr i64, ptr %x.shape, i64 %k
  %x.size = load i64, ptr %x.size.place
  %x.stride.place = getelementptr i64, ptr %x.strides, i64 %k
  %x.stride = load i64, ptr %x.stride.place
  %a1 = icmp eq i64 %g.size, %want.size
  %a2 = icmp eq i64 %g.stride, %want.stride
  %a3 = icmp eq i64 %x.size, %want.size
  %a4 = icmp eq i64 %x.stride, %want.stride
  %a12 = and i1 %a1, %a2
  %a34 = and i1 %a3, %a4
  %alike = and i1 %a12, %a34
  br i1 %alike, label %axis.next, label %other
axis.next:
  %k.next = add i64 %k, 1
  %more.axes = icmp slt i64 %k.next, %ndim
  br i1 %more.axes, label %axis, label %next
next:
  %x.data.place = getelementptr i8, ptr %x, i64 {_DATA}
  %x.data = load i64, ptr %x.data.place
  %g.data.place = getelementptr i8, ptr %g, i64 {_DATA}
  %g.data = load i64, ptr %g.data.place
  %x.cell = getelementptr i64, ptr %xs, i64 %r
  %x.before = load i64, ptr %x.cell
  store i64 %x.data, ptr %x.cell
  %g.cell = getelementptr i64, ptr %gs, i64 %r
  %g.before = load i64, ptr %g.cell
  store i64 %g.data, ptr %g.cell
  %x.moved = icmp ne i64 %x.data, %x.before
  %g.moved = icmp ne i64 %g.data, %g.before
  %step1 = select i1 %g.moved, i64 {GRADIENTS_MOVED}, i64 {SAME}
  %step2 = select i1 %x.moved, i64 {PARAMETERS_MOVED}, i64 %step1
  %moved.next = call i64 @llvm.smin.i64(i64 %moved, i64 %step2)
  %r.next = add i64 %r, 1
  %more.rows = icmp slt i64 %r.next, %rows
  br i1 %more.rows, label %row, label %done
other:
  %r.other = add i64 %r, 1
  store i64 %r.other, ptr %result
  ret void
done:
  store i64 %moved.next, ptr %result
  ret void
}}
declare i64 @llvm.smin.i64(i64, i64)
"""


class Look:
    """Reads the rows of a job: `SAME` places as before, `..._MOVED`, or the number of the first row that differs.

    The row's parameter or gradient is then no plain array of the recorded type, shape and strides.
    """

    def __init__(self, rows: Sequence[tuple[int, Array]], job: Job) -> None:
        self._call = _compiled().call_held
        self._arrays = [x for _, x in rows]  # kept, since their addresses are
        self._layouts = [np.array([id(x.dtype), x.ndim, *x.shape, *x.strides], np.int64) for x in self._arrays]
        self._cells = (ctypes.c_int64 * (_START + 3 * len(rows)))()
        self._cells[_XS], self._cells[_GS] = job.place(X), job.place(G)
        self._cells[_TYPE], self._cells[_ROWS] = id(np.ndarray), len(rows)
        for row, ((index, x), layout) in enumerate(zip(rows, self._layouts, strict=True)):
            start = _START + 3 * row
            for offset, value in enumerate((index, id(x), address(layout))):
                self._cells[start + offset] = value
        self._address = ctypes.addressof(self._cells)

    def __call__(self, gradients: list[Any]) -> int:
        cells = self._cells
        cells[_GRADIENTS] = id(gradients)
        self._call(self._address)
        return cells[_RESULT]


@functools.cache
def _compiled() -> Compiled:
    from adamite.codegen import compiler

    return compiler.compile(_TEXT)


@functools.cache
def available() -> bool:
    """Whether the structures lie as this file says, and machine code reads them so."""
    x, g, number = np.zeros((2, 3, 4)).transpose(2, 0, 1), np.ones((2, 3, 4)).transpose(2, 0, 1), np.zeros(())
    gradients = [number, g]
    if not (_lies_as_said(x) and _word(gradients, _ITEMS) and _word(_word(gradients, _ITEMS)) == id(number)):
        return False
    try:
        job = Job(2, 4)
        look = Look([(1, x), (0, number)], job)
        others = [g.reshape(-1), g[:, :, ::-1], g.astype(np.float32), np.ones((4, 2)), None, 1.0, [1.0]]
        return (
            [look(gradients), look(gradients), look([number, g.copy("K")])] == [PARAMETERS_MOVED, SAME, GRADIENTS_MOVED]
            and look(gradients) == GRADIENTS_MOVED
            and job.read(X) == [address(x), address(number)]
            and job.read(G) == [address(g), address(number)]
            and all(look([number, other]) == 1 for other in others)
            and look([np.float64(0), g]) == 2
        )
    except Exception:  # no compiler here; making a kernel tells why
        return False


def _word(place: Any, offset: int = 0) -> int:
    """The integer at an address, or in an object."""
    base = place if isinstance(place, int) else id(place)
    return ctypes.c_int64.from_address(base + offset).value


def _lies_as_said(x: Array) -> bool:
    """Python's own reading of an array, before any pointer found in it is followed."""
    plain = (
        sys.implementation.name == "cpython"
        and ctypes.sizeof(ctypes.c_void_p) == 8
        and _word(x, _HEAD - 8) == id(np.ndarray)
        and _word(x, _DATA) == address(x)
        and _word(x, _NDIM) & 0xFFFFFFFF == x.ndim
        and _word(x, _DTYPE) == id(x.dtype)
        and _word(x, _FLAGS) & 0xFFFFFFFF & (_ALIGNED | _WRITEABLE) == _ALIGNED | _WRITEABLE
        and _word(x, _STRIDES) == _word(x, _SHAPE) + 8 * x.ndim  # one block
    )
    return plain and tuple(_word(_word(x, _SHAPE), 8 * k) for k in range(2 * x.ndim)) == (*x.shape, *x.strides)
