"""Steps with gradients of zero, several at once on each row.

A row of the job is a row of a table that was left alone. Its first steps are done one by one (graph/missed.py), with
the row in registers; of the others, whose steps are negligible, only what stays of the parameter and of each state, a
factor. Columns: jobs.py.
"""

from __future__ import annotations

from adamite.backends.jobs import FIRST, X, catching_up, steps_column
from adamite.backends.llvm.elements import operation
from adamite.codegen.frame import frame
from adamite.codegen.text import Lanes, Text
from adamite.graph.missed import NUMBER, ONCE, Missed, missed
from adamite.graph.nodes import Graph, Node
from adamite.graph.stages import EACH
from adamite.language.operations import gives_truth
from adamite.storage import Format, Layout


def catch_up_text(graph: Graph, format: Format, width: int, machine: str) -> str:
    """The kernel as LLVM's text."""
    computed, program = format.compute, missed(graph)
    kind = computed.llvm
    out = Text()
    on, one = Lanes(out, width), Lanes(out, 0)
    names = catching_up(graph)
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
        if program.rates[index] == ONCE:
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
    moved = values[program.x] if program.rates[program.x] != NUMBER else on.splat(kind, values[program.x])
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
        if program.rates[index] != NUMBER:
            return values[index]
        if index not in splats:
            boolean = gives_truth(program.nodes[index].op)
            splats[index] = on.splat("i1" if boolean else format.llvm, values[index])
        return splats[index]

    for index, (node, rate) in enumerate(zip(program.nodes, program.rates, strict=True)):
        if node.op == "decay":
            values[index] = f"%{node.value}.decay"
        elif rate == NUMBER:
            values[index] = operation(one, node, values, numbers, format)
        elif rate == EACH and node.op == "tensor":
            values[index] = "%x.now"
        elif rate == EACH:
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
