"""The graph as one fused loop, element by element; LLVM makes vectors of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from adamite.codegen.frame import ACCESS_GROUP, frame
from adamite.codegen.text import Lanes, Text
from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph, Node
from adamite.storage import Format, Layout


class Values(Protocol):
    """The values of nodes by their indices."""

    def __getitem__(self, index: int, /) -> str: ...


def step_text(graph: Graph, layout: Layout, machine: str) -> str:
    """The kernel that updates every tensor of a job."""
    graph, out = expanded(graph), Text()
    coefficients = out.cell(1, "ptr")
    places = {name: out.cell(2 + k, "ptr") for k, name in enumerate(graph.inputs)}
    formats = layout.formats(graph.inputs)
    numbers = [out.load(coefficients, k, layout.compute.llvm) for k in range(graph.coefficient_count)]
    _ask(out, range(2, 2 + len(graph.inputs)))
    out.line("br label %loop")
    out.label("loop")
    out.line("%i = phi i64 [ %low, %body ], [ %i.next, %loop ]")
    on = Lanes(out, 0)
    values: list[str] = []
    for node in graph.nodes:
        if node.op == "tensor":
            kind = formats[node.value]
            values.append(kind.widened(on, out.load(places[node.value], "%i", kind.llvm, ACCESS_GROUP)))
        else:
            values.append(operation(on, node, values, numbers, layout.compute))
    for name, index in graph.outputs:
        kind = formats[name]
        value = kind.narrowed(on, values[index])
        out.line(f"store {kind.llvm} {value}, ptr {out.at(places[name], '%i', kind.llvm)}{ACCESS_GROUP}")
    out.line("%i.next = add nsw i64 %i, 1")
    out.line("%again = icmp slt i64 %i.next, %high")
    out.line("br i1 %again, label %loop, label %next, !llvm.loop !1")
    return frame(out, machine)


def _ask(out: Text, columns: range) -> None:
    """Ask for the first lines of a row that comes later: short rows may lie anywhere, as those of a table do."""
    last = out.value("sub i64 %rows, 1")
    later = out.value(f"call i64 @llvm.smin.i64(i64 {out.value('add i64 %row, 4')}, i64 {last})")
    for column in columns:
        index = out.value(f"add i64 {later}, {out.value(f'mul i64 %rows, {column}')}")
        place = out.load("%table", index, "ptr")
        for line in range(4):
            out.ask(out.at(place, 64 * line, "i8"))


_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}


def operation(on: Lanes, node: Node, values: Values, numbers: Sequence[str], format: Format) -> str:
    """A primitive operation on one element, or on several at once."""
    kind = format.llvm
    args = [values[a] for a in node.args]
    match node.op:
        case "coefficient":
            index: int = node.value
            return numbers[index]
        case "const":
            return on.number(kind, format.literal(node.value))
        case "flush":  # by the exponent's bits: comparing subnormal numbers is slow too
            integer = f"i{8 * format.itemsize}"
            bits = on.cast("bitcast", args[0], kind, integer)
            exponent = on.apply("and", integer, bits, format.bits(math.inf))
            zero = on.apply("icmp ult", integer, exponent, format.bits(node.value or format.smallest_state))
            return on.select(zero, kind, on.number(kind, "0.0"), args[0])
        case "add" | "sub" | "mul" | "div":
            return on.apply(_ARITHMETIC[node.op], kind, args[0], args[1])
        case "neg":
            return on.unary("fneg", kind, args[0])
        case "sqrt" | "abs":
            return on.call("fabs" if node.op == "abs" else "sqrt", kind, args[0])
        case "gt" | "ge" | "lt" | "le" | "eq" | "ne":
            return on.apply(f"fcmp {_COMPARE[node.op]}", kind, args[0], args[1])
        case "and" | "or":
            return on.apply(node.op, "i1", args[0], args[1])
        case "not":
            return on.apply("xor", "i1", args[0], "true")
        case "where":
            return on.select(args[0], kind, args[1], args[2])
    raise NotImplementedError(node.op)
