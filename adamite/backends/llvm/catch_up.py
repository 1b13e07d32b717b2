"""Steps with gradients of zero, several at once on each row.

A row of the job is a row of a table that was left alone. Its first steps are done one by one (graph/missed.py), with
the row in registers. The later steps are negligible: they only multiply the parameter and each state by a factor.
Columns: jobs.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from adamite.backends.jobs import FIRST, X, catching_up, steps_column
from adamite.backends.llvm.elements import operation
from adamite.codegen.frame import frame
from adamite.codegen.text import Text, Value, vector
from adamite.graph.missed import NUMBER, ONCE, missed
from adamite.graph.nodes import Graph, Node
from adamite.graph.stages import EACH
from adamite.storage import Format, Layout


def catch_up_text(graph: Graph, format: Format, width: int, machine: str) -> str:
    """The kernel as LLVM's text."""
    body = _Body(graph, format, width)
    body.write()
    return frame(body.out, machine)


class _Body:
    """The text for the elements from %low to %high of one row, `width` of them at once."""

    def __init__(self, graph: Graph, format: Format, width: int) -> None:
        self.graph, self.format, self.width = graph, format.compute, width
        self.program = missed(graph)
        self.out = Text()
        self.names = catching_up(graph)
        self.formats = Layout(format).formats(self.names)
        self.lanes = vector(self.format.llvm, width)

    def write(self) -> None:
        out, kind, names = self.out, self.format.llvm, self.names
        first = out.cell(FIRST, "ptr")
        places = {name: out.cell(X + k, "ptr") for k, name in enumerate(names)}
        steps = out.cell(steps_column(self.graph))
        factors = {name: out.cell(steps_column(self.graph) + 1 + k, "double") for k, name in enumerate(names)}
        if kind != "double":
            factors = {name: factor.cast("fptrunc", kind) for name, factor in factors.items()}
        high = out.named("%high").splat(self.width)
        out.line(f"%some = icmp sgt i64 {steps}, 0")
        out.line("br label %piece")

        out.label("piece")
        out.line("%i = phi i64 [ %low, %body ], [ %i.next, %settle ]")
        elements = out.named("%i").splat(self.width) + out.count_from(0, "i64", self.width)
        out.line(f"%mask = icmp slt {high.type} {elements}, {high}")
        before = {name: self._load(name, places[name]) for name in names}
        values = self._once(before)
        out.line("br i1 %some, label %step, label %settle")

        out.label("step")
        out.line("%j = phi i64 [ 0, %piece ], [ %j.next, %step ]")
        out.line(f"%x.now = phi {self.lanes} [ {before['x']}, %piece ], [ %x.new, %step ]")
        self._decays("")
        here = out.at(first, out.named("%j") * self.graph.coefficient_count, kind)
        self._step(values, [out.load(here, k, kind) for k in range(self.graph.coefficient_count)])
        out.line("%j.next = add nsw i64 %j, 1")
        out.line(f"%more.steps = icmp slt i64 %j.next, {steps}")
        out.line("br i1 %more.steps, label %step, label %settle")

        out.label("settle")
        out.line(f"%x.last = phi {self.lanes} [ {before['x']}, %piece ], [ %x.new, %step ]")
        self._decays(".last")
        self._settle(before, factors, places)
        out.line(f"%i.next = add nsw i64 %i, {self.width}")
        out.line("%more.pieces = icmp slt i64 %i.next, %high")
        out.line("br i1 %more.pieces, label %piece, label %next")

    def _decays(self, suffix: str) -> None:
        """What the states have decayed to: before a step, or after the last."""
        kind, one = self.format.llvm, self.format.literal(1.0)
        for name, _ in self.program.decays:
            self.out.line(f"%{name}{suffix or '.decay'} = phi {kind} [ {one}, %piece ], [ %{name}.decay.new, %step ]")

    def _once(self, before: Mapping[str, Value]) -> dict[int, Value]:
        """Compute what is the same at all steps."""
        values: dict[int, Value] = {}
        for index, (node, rate) in enumerate(zip(self.program.nodes, self.program.rates, strict=True)):
            if rate == ONCE:
                values[index] = (
                    before[node.value]
                    if node.op == "tensor"
                    else operation(self.out, node, values, (), self.format, self.width)
                )
        return values

    def _step(self, values: dict[int, Value], numbers: list[Value]) -> None:
        """Do a step; numbers become rows where they meet rows."""
        out, program, kind = self.out, self.program, self.format.llvm
        splats: dict[int, Value] = {}

        def row(index: int) -> Value:
            if program.rates[index] != NUMBER:
                return values[index]
            if index not in splats:
                splats[index] = values[index].splat(self.width)
            return splats[index]

        for index, (node, rate) in enumerate(zip(program.nodes, program.rates, strict=True)):
            if node.op == "decay":
                values[index] = out.named(f"%{node.value}.decay", kind)
            elif rate == NUMBER:
                values[index] = operation(out, node, values, numbers, self.format)
            elif rate == EACH and node.op == "tensor":
                values[index] = out.named("%x.now", kind, self.width)
            elif rate == EACH:
                rows = {a: row(a) for a in node.args}
                values[index] = operation(out, node, rows, (), self.format, self.width)
        for name, index in program.decays:
            out.line(f"%{name}.decay.new = bitcast {kind} {values[index]} to {kind}")
        out.line(f"%x.new = bitcast {self.lanes} {row(program.x)} to {self.lanes}")

    def _settle(self, before: Mapping[str, Value], factors: Mapping[str, Value], places: Mapping[str, Value]) -> None:
        """Multiply by the factors of the later steps, and store."""
        out, kind = self.out, self.format.llvm
        for name in self.names:
            if name == "x":
                settled = out.named("%x.last", kind, self.width) * factors[name].splat(self.width)
            else:
                factor = out.named(f"%{name}.last", kind) * factors[name]
                settled = self._flushed(before[name] * factor.splat(self.width))
            self._store(name, settled, places[name])

    # ---- memory: only those of the elements that the row has

    def _load(self, name: str, place: Value) -> Value:
        """The numbers of a tensor; states are flushed."""
        out, format = self.out, self.formats[name]
        at = out.at(place, "%i", format.llvm)
        mask, loaded = vector("i1", self.width), vector(format.llvm, self.width)
        function = f"{loaded} @llvm.masked.load.v{self.width}{_SUFFIX.get(format.llvm, format.llvm)}.p0"
        out.declared[f"declare {function}(ptr, i32, {mask}, {loaded})"] = None
        call = f"call {function}(ptr {at}, i32 {format.itemsize}, {mask} %mask, {loaded} zeroinitializer)"
        value = format.widened(out.value(call, format.llvm, self.width))
        return value if name == "x" else self._flushed(value)

    def _store(self, name: str, value: Value, place: Value) -> None:
        out, format = self.out, self.formats[name]
        at = out.at(place, "%i", format.llvm)
        stored = format.narrowed(value)
        mask = vector("i1", self.width)
        function = f"void @llvm.masked.store.v{self.width}{_SUFFIX.get(format.llvm, format.llvm)}.p0"
        out.declared[f"declare {function}({stored.type}, ptr, i32, {mask})"] = None
        out.line(f"call {function}({stored.type} {stored}, ptr {at}, i32 {format.itemsize}, {mask} %mask)")

    def _flushed(self, state: Value) -> Value:
        """A state as it is stored, and read."""
        return operation(self.out, Node("flush", (0,)), [state], (), self.format, self.width)


_SUFFIX = {"float": "f32", "double": "f64"}
