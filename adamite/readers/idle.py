"""Steps with gradients of zero, several at once on each row: the rule's own graph, and then what it comes to.

A row of the job is a row of a table that was left alone. Its first steps are done one by one, with the row in
registers; of the others, whose steps are negligible, only what stays of the parameter and of each state, a factor.
Columns: length, coefficients of the first step, x, states..., how many steps, the factors of x and of the states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adamite.emit import Lanes, Text
from adamite.graph import Graph, Node, Program
from adamite.readers.job import BLOCK, Kernel
from adamite.readers.llvm import frame, operation
from adamite.readers.numpy import _claims, _view, evaluate
from adamite.storage import Format, stored

LENGTH, FIRST, X = range(3)
_AT_ONCE = 16  # elements


def steps_column(graph: Graph) -> int:
    """Where the number of steps is, before the factors."""
    return X + len(_kept(graph))


def columns(graph: Graph) -> int:
    """How many there are."""
    return steps_column(graph) + 1 + len(_kept(graph))


def _kept(graph: Graph) -> list[str]:
    """The parameter and the states."""
    return [name for name in graph.inputs if name != "g"]


def text(graph: Graph, format: Format, machine: str) -> str:
    """The kernel as LLVM's text."""
    computed = format.compute
    kind, vector = computed.llvm, f"<{_AT_ONCE} x {computed.llvm}>"
    names, on, lanes = _kept(graph), Lanes(out := Text(), _AT_ONCE), f"<{_AT_ONCE} x i1>"
    formats = {name: stored(name, format) for name in names}
    first = out.cell(FIRST, "ptr")
    places = {name: out.cell(X + k, "ptr") for k, name in enumerate(names)}
    steps = out.cell(steps_column(graph))
    factors = {name: out.cell(steps_column(graph) + 1 + k, "double") for k, name in enumerate(names)}
    if kind != "double":
        factors = {name: out.value(f"fptrunc double {f} to {kind}") for name, f in factors.items()}
    factors = {name: on.splat(kind, f) for name, f in factors.items()}
    high = on.splat("i64", "%high")
    out.line(f"%some = icmp sgt i64 {steps}, 0")
    out.line("br label %piece")

    out.label("piece")
    out.line("%i = phi i64 [ %low, %body ], [ %i.next, %settle ]")
    counted = "<" + ", ".join(f"i64 {k}" for k in range(_AT_ONCE)) + ">"
    out.line(f"%mask = icmp slt {on.type('i64')} {on.apply('add', 'i64', on.splat('i64', '%i'), counted)}, {high}")
    before: dict[str, str] = {}
    for name in names:
        rest = formats[name]
        at, as_, align = out.at(places[name], "%i", rest.llvm), on.type(rest.llvm), rest.itemsize
        loaded = _masked(out, "load", as_, f"ptr {at}, i32 {align}, {lanes} %mask, {as_} zeroinitializer")
        before[name] = rest.widened(on, loaded)
        if name != "x":
            before[name] = _flushed(on, before[name], computed)
    out.line("br i1 %some, label %step, label %settle")

    out.label("step")
    out.line("%j = phi i64 [ 0, %piece ], [ %j.next, %step ]")
    for name in names:
        out.line(f"%{name}.now = phi {vector} [ {before[name]}, %piece ], [ %{name}.new, %step ]")
    at = out.value(f"mul i64 %j, {graph.coefficient_count}")
    here = out.at(first, at, kind)
    numbers = [on.splat(kind, out.load(here, k, kind)) for k in range(graph.coefficient_count)]
    values: list[str] = []
    for node in graph.nodes:
        if node.op == "tensor":
            values.append(on.number(kind, computed.literal(0.0)) if node.value == "g" else f"%{node.value}.now")
        elif node.op == "flush" and graph.nodes[node.args[0]].op == "tensor":
            values.append(values[node.args[0]])  # it is flushed already
        else:
            values.append(operation(on, node, values, numbers, computed))
    new = {name: values[index] for name, index in graph.outputs}
    for name in names:
        out.line(f"%{name}.new = bitcast {vector} {new.get(name, f'%{name}.now')} to {vector}")
    out.line("%j.next = add nsw i64 %j, 1")
    out.line(f"%more.steps = icmp slt i64 %j.next, {steps}")
    out.line("br i1 %more.steps, label %step, label %settle")

    out.label("settle")
    for name in names:
        out.line(f"%{name}.last = phi {vector} [ {before[name]}, %piece ], [ %{name}.new, %step ]")
    for name in names:
        rest = formats[name]
        at, as_, align = out.at(places[name], "%i", rest.llvm), on.type(rest.llvm), rest.itemsize
        settled = on.apply("fmul", kind, f"%{name}.last", factors[name])
        if name != "x":
            settled = _flushed(on, settled, computed)
        narrow = rest.narrowed(on, settled)
        _masked(out, "store", as_, f"{as_} {narrow}, ptr {at}, i32 {align}, {lanes} %mask")
    out.line(f"%i.next = add nsw i64 %i, {_AT_ONCE}")
    out.line("%more.pieces = icmp slt i64 %i.next, %high")
    out.line("br i1 %more.pieces, label %piece, label %next")
    return frame(out, machine)


def _masked(out: Text, do: str, type: str, given: str) -> str:
    """Load or store those of several elements that the row has."""
    kind = type.strip("<>").split()[-1]
    name = f"@llvm.masked.{do}.v{_AT_ONCE}{ {'float': 'f32', 'double': 'f64'}.get(kind, kind) }.p0"
    lanes = f"<{_AT_ONCE} x i1>"
    if do == "load":
        out.declared[f"declare {type} {name}(ptr, i32, {lanes}, {type})"] = None
        return out.value(f"call {type} {name}({given})")
    out.declared[f"declare void {name}({type}, ptr, i32, {lanes})"] = None
    out.line(f"call void {name}({given})")
    return ""


def _flushed(on: Lanes, value: str, format: Format) -> str:
    """A state as it is stored, and read."""
    return operation(on, Node("flush", (0,)), [value], [], format)


def interpreted(graph: Graph, format: Format) -> Kernel:
    """The kernel in NumPy."""
    names, computed = _kept(graph), format.compute
    kind = computed.dtype.type
    formats = {name: stored(name, format) for name in names}

    def kernel(address: int) -> None:
        for row, begin, end in _claims(address, columns(graph)):
            steps, factors = row[steps_column(graph)], np.array(row[steps_column(graph) + 1 :]).view(np.float64)
            numbers = _view(row[FIRST], steps * graph.coefficient_count, computed.dtype).reshape(
                steps, graph.coefficient_count
            )
            for at in range(begin, end, BLOCK):
                size = min(BLOCK, end - at)
                parts = {
                    name: _view(place + at * formats[name].itemsize, size, formats[name].dtype)
                    for name, place in zip(names, row[X:], strict=False)
                }
                now = {name: formats[name].widen(part) for name, part in parts.items()}
                now["g"] = np.zeros(size, kind)
                for coefficients in numbers:
                    now |= evaluate(graph, now, coefficients, computed)
                with np.errstate(all="ignore"):
                    for name, factor in zip(names, factors, strict=True):
                        settled = now[name] * kind(factor)
                        if name != "x":
                            settled = _flush(_flush(now[name], computed) * kind(factor), computed)
                        parts[name][...] = formats[name].narrow(settled)

    return kernel


def _flush(state: np.ndarray[Any, Any], format: Format) -> np.ndarray[Any, Any]:
    """A state as it is stored, and read."""
    flushed: np.ndarray[Any, Any] = evaluate(_FLUSH, {"s": state}, (), format)["s"]
    return flushed


_FLUSH = Graph(("s",), (("s", 1),), (Node("tensor", value="s"), Node("flush", (0,))), 0, (), (), Program())
