"""The graph as one fused loop, element by element; LLVM makes vectors of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from adamite.codegen.frame import ACCESS_GROUP, frame
from adamite.codegen.text import Text, Value
from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph, Node
from adamite.storage import Format, Layout


class Values(Protocol):
    """The values of nodes by their indices."""

    def __getitem__(self, index: int, /) -> Value: ...


def step_text(graph: Graph, layout: Layout, machine: str) -> str:
    """The kernel that updates every tensor of a job."""
    graph, out = expanded(graph), Text()
    coefficients = out.cell(1, "ptr")
    places = {name: out.cell(2 + k, "ptr") for k, name in enumerate(graph.inputs)}
    formats = layout.formats(graph.inputs)
    numbers = [out.load(coefficients, k, layout.compute.llvm) for k in range(graph.coefficient_count)]
    _prefetch(out, range(2, 2 + len(graph.inputs)))
    out.line("br label %loop")
    out.label("loop")
    out.line("%i = phi i64 [ %low, %body ], [ %i.next, %loop ]")
    values: list[Value] = []
    for node in graph.nodes:
        if node.op == "tensor":
            format = formats[node.value]
            values.append(format.widened(out.load(places[node.value], "%i", format.llvm, ACCESS_GROUP)))
        else:
            values.append(operation(out, node, values, numbers, layout.compute))
    for name, index in graph.outputs:
        kind = formats[name].llvm
        value = formats[name].narrowed(values[index])
        out.line(f"store {kind} {value}, ptr {out.at(places[name], '%i', kind)}{ACCESS_GROUP}")
    out.line("%i.next = add nsw i64 %i, 1")
    out.line("%again = icmp slt i64 %i.next, %high")
    out.line("br i1 %again, label %loop, label %next, !llvm.loop !1")
    return frame(out, machine)


def _prefetch(out: Text, columns: range) -> None:
    """Ask for the first lines of a later row: short rows may lie anywhere, as those of a table do."""
    last = out.named("%rows") - 1
    later = out.value(f"call i64 @llvm.smin.i64(i64 {out.named('%row') + 4}, i64 {last})", "i64")
    for column in columns:
        place = out.load("%table", later + out.named("%rows") * column, "ptr")
        for line in range(4):
            out.prefetch(out.at(place, 64 * line, "i8"))


_ARITHMETIC = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_COMPARE = {"gt": "ogt", "ge": "oge", "lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"}


def operation(out: Text, node: Node, values: Values, numbers: Sequence[Value], format: Format, lanes: int = 0) -> Value:
    """A primitive operation on one element, or on several at once."""
    args = [values[a] for a in node.args]
    match node.op:
        case "coefficient":
            index: int = node.value
            return numbers[index]
        case "const":
            return out.number(format.literal(node.value), format.llvm, lanes)
        case "flush":  # by the exponent's bits: comparing subnormal numbers is slow too
            exponent = args[0].bitcast(f"i{8 * format.itemsize}") & format.bits(math.inf)
            zero = exponent.compare("icmp ult", format.bits(node.value or format.smallest_state))
            return zero.select("0.0", args[0])
        case "add" | "sub" | "mul" | "div":
            return args[0].apply(_ARITHMETIC[node.op], args[1])
        case "neg":
            return -args[0]
        case "sqrt" | "abs":
            return args[0].call("fabs" if node.op == "abs" else "sqrt")
        case "gt" | "ge" | "lt" | "le" | "eq" | "ne":
            return args[0].compare(f"fcmp {_COMPARE[node.op]}", args[1])
        case "and" | "or":
            return args[0].apply(node.op, args[1])
        case "not":
            return args[0] ^ "true"
        case "where":
            return args[0].select(args[1], args[2])
    raise NotImplementedError(node.op)
