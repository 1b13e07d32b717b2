"""Steps with gradients of zero, several at once on each row.

A row of the job is a row of a table that was left alone. Its first steps are done one by one (missed.py), with the row
in registers; of the others, whose steps are negligible, only what stays of the parameter and of each state, a factor.
Columns: length, coefficients of the first step, x, states..., how many steps, the factors of x and of the states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from adamite.emit import Lanes, Text
from adamite.graph import Graph, Node
from adamite.missed import EACH, NUMBER, ONCE, Missed, missed
from adamite.readers.job import BLOCK, Kernel
from adamite.readers.llvm import frame, operation
from adamite.readers.numpy import applied, claims, view
from adamite.storage import Format, Layout

LENGTH, FIRST, X = range(3)
WIDTHS = (16, 32, 64)  # how many elements a kernel takes at once: steps depend on the ones before, so they take long


def steps_column(graph: Graph) -> int:
    """Where the number of steps is, before the factors."""
    return X + len(_kept(graph))


def columns(graph: Graph) -> int:
    """How many there are."""
    return steps_column(graph) + 1 + len(_kept(graph))


def _kept(graph: Graph) -> list[str]:
    """The parameter and the states."""
    return [name for name in graph.inputs if name != "g"]


def text(graph: Graph, format: Format, width: int, machine: str) -> str:
    """The kernel as LLVM's text."""
    computed, program = format.compute, missed(graph)
    kind = computed.llvm
    out = Text()
    on, one = Lanes(out, width), Lanes(out, 0)
    names = _kept(graph)
    formats = Layout(format).formats(names)
    first = out.cell(FIRST, "ptr")
    places = {name: out.cell(X + k, "ptr") for k, name in enumerate(names)}
    steps = out.cell(steps_column(graph))
    factors = {name: out.cell(steps_column(graph) + 1 + k, "double") for k, name in enumerate(names)}
    if kind != "double":
        factors = {name: out.value(f"fptrunc double {f} to {kind}") for name, f in factors.items()}
    high = on.splat("i64", "%high")
    out.line(f"%some = icmp sgt i64 {steps}, 0")
    out.line("br label %piece")

    out.label("piece")
    out.line("%i = phi i64 [ %low, %body ], [ %i.next, %settle ]")
    counted = "<" + ", ".join(f"i64 {k}" for k in range(width)) + ">"
    out.line(f"%mask = icmp slt {on.type('i64')} {on.apply('add', 'i64', on.splat('i64', '%i'), counted)}, {high}")
    before: dict[str, str] = {}
    for name in names:
        at = out.at(places[name], "%i", formats[name].llvm)
        before[name] = formats[name].widened(on, _load(on, formats[name], at))
        if name != "x":
            before[name] = _flushed(on, before[name], computed)
    values = [""] * len(program.nodes)
    for index, node in enumerate(program.nodes):
        if program.places[index] == ONCE:
            values[index] = before[node.value] if node.op == "tensor" else operation(on, node, values, (), computed)
    out.line("br i1 %some, label %step, label %settle")

    out.label("step")
    out.line("%j = phi i64 [ 0, %piece ], [ %j.next, %step ]")
    out.line(f"%x.now = phi {on.type(kind)} [ {before['x']}, %piece ], [ %x.new, %step ]")
    for name, _ in program.decays:
        out.line(f"%{name}.decay = phi {kind} [ {computed.literal(1.0)}, %piece ], [ %{name}.decay.new, %step ]")
    here = out.at(first, out.value(f"mul i64 %j, {graph.coefficient_count}"), kind)
    numbers = [out.load(here, k, kind) for k in range(graph.coefficient_count)]
    _step(on, one, program, values, numbers, computed)
    for name, index in program.decays:
        out.line(f"%{name}.decay.new = bitcast {kind} {values[index]} to {kind}")
    moved = values[program.x] if program.places[program.x] != NUMBER else on.splat(kind, values[program.x])
    out.line(f"%x.new = bitcast {on.type(kind)} {moved} to {on.type(kind)}")
    out.line("%j.next = add nsw i64 %j, 1")
    out.line(f"%more.steps = icmp slt i64 %j.next, {steps}")
    out.line("br i1 %more.steps, label %step, label %settle")

    out.label("settle")
    out.line(f"%x.last = phi {on.type(kind)} [ {before['x']}, %piece ], [ %x.new, %step ]")
    for name, _ in program.decays:
        out.line(f"%{name}.last = phi {kind} [ {computed.literal(1.0)}, %piece ], [ %{name}.decay.new, %step ]")
    for name in names:
        if name == "x":
            settled = on.apply("fmul", kind, "%x.last", on.splat(kind, factors[name]))
        else:
            factor = one.apply("fmul", kind, f"%{name}.last", factors[name])
            settled = _flushed(on, on.apply("fmul", kind, before[name], on.splat(kind, factor)), computed)
        at = out.at(places[name], "%i", formats[name].llvm)
        _store(on, formats[name], formats[name].narrowed(on, settled), at)
    out.line(f"%i.next = add nsw i64 %i, {width}")
    out.line("%more.pieces = icmp slt i64 %i.next, %high")
    out.line("br i1 %more.pieces, label %piece, label %next")
    return frame(out, machine)


def _step(on: Lanes, one: Lanes, program: Missed, values: list[str], numbers: list[str], format: Format) -> None:
    """Print what a step does; numbers become rows where they meet rows."""
    splats: dict[int, str] = {}

    def row(index: int) -> str:
        if program.places[index] != NUMBER:
            return values[index]
        if index not in splats:
            boolean = program.nodes[index].op in ("gt", "ge", "lt", "le", "eq", "ne", "and", "or", "not")
            splats[index] = on.splat("i1" if boolean else format.llvm, values[index])
        return splats[index]

    for index, (node, place) in enumerate(zip(program.nodes, program.places, strict=True)):
        if node.op == "decay":
            values[index] = f"%{node.value}.decay"
        elif place == NUMBER:
            values[index] = operation(one, node, values, numbers, format)
        elif place == EACH and node.op == "tensor":
            values[index] = "%x.now"
        elif place == EACH:
            rows = [row(a) for a in node.args]
            values[index] = operation(on, node._replace(args=tuple(range(len(rows)))), rows, (), format)


def _load(on: Lanes, format: Format, at: str) -> str:
    """Those of several elements that the row has."""
    lanes, all_of_them = on.type("i1"), on.type(format.llvm)
    name = f"{all_of_them} @llvm.masked.load.v{on.lanes}{_SUFFIX.get(format.llvm, format.llvm)}.p0"
    on.out.declared[f"declare {name}(ptr, i32, {lanes}, {all_of_them})"] = None
    return on.out.value(f"call {name}(ptr {at}, i32 {format.itemsize}, {lanes} %mask, {all_of_them} zeroinitializer)")


def _store(on: Lanes, format: Format, value: str, at: str) -> None:
    lanes, all_of_them = on.type("i1"), on.type(format.llvm)
    name = f"void @llvm.masked.store.v{on.lanes}{_SUFFIX.get(format.llvm, format.llvm)}.p0"
    on.out.declared[f"declare {name}({all_of_them}, ptr, i32, {lanes})"] = None
    on.out.line(f"call {name}({all_of_them} {value}, ptr {at}, i32 {format.itemsize}, {lanes} %mask)")


_SUFFIX = {"float": "f32", "double": "f64"}


def _flushed(on: Lanes, value: str, format: Format) -> str:
    """A state as it is stored, and read."""
    return operation(on, Node("flush", (0,)), [value], [], format)


def interpreted(graph: Graph, format: Format) -> Kernel:
    """The kernel in NumPy."""
    names, computed, program = _kept(graph), format.compute, missed(graph)
    kind = computed.dtype.type
    formats = Layout(format).formats(names)

    def stepped(before: dict[str, Any], table: Any) -> tuple[Any, dict[str, Any]]:
        """The parameter after so many steps, and what states are multiplied by."""
        x, decays = before["x"], {name: kind(1) for name, _ in program.decays}
        values: list[Any] = [None] * len(program.nodes)
        for number, coefficients in enumerate(table):
            for index, (node, place) in enumerate(zip(program.nodes, program.places, strict=True)):
                if node.op == "decay":
                    values[index] = decays[node.value]
                elif node.op == "tensor":
                    values[index] = x if node.value == "x" else before[node.value]
                elif place != ONCE or not number:
                    values[index] = applied(node, values, coefficients, computed)
            x, decays = values[program.x], {name: values[index] for name, index in program.decays}
        return x, decays

    def kernel(address: int) -> None:
        for row, begin, end in claims(address, columns(graph)):
            steps, factors = row[steps_column(graph)], np.array(row[steps_column(graph) + 1 :]).view(np.float64)
            count = graph.coefficient_count
            table = view(row[FIRST], steps * count, computed.dtype).reshape(steps, count)
            for at in range(begin, end, BLOCK):
                size = min(BLOCK, end - at)
                parts = {
                    name: view(place + at * formats[name].itemsize, size, formats[name].dtype)
                    for name, place in zip(names, row[X:], strict=False)
                }
                with np.errstate(all="ignore"):
                    before = {name: formats[name].widen(part) for name, part in parts.items()}
                    before |= {name: flushed(before[name]) for name in names[1:]}
                    x, decays = stepped(before, table)
                    settled = {"x": x * kind(factors[0])}
                    for name, factor in zip(names[1:], factors[1:], strict=True):
                        settled[name] = flushed(before[name] * (decays[name] * kind(factor)))
                    for name, part in parts.items():
                        part[...] = formats[name].narrow(settled[name])

    def flushed(state: Any) -> Any:
        return applied(Node("flush", (0,)), [state], (), computed)

    return kernel
