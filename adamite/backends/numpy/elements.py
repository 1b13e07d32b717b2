"""The graph in NumPy: the bit-exact reference, and what runs where LLVM is missing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from adamite.codegen.job import CHUNK, COUNTER, GRAIN, HEADER, PARTIALS, ROWS, SCALE, TOTAL, Call
from adamite.graph.expansion import expanded
from adamite.graph.nodes import Graph, Node
from adamite.storage import Format, Layout

NO_SCALES: Mapping[str, Any] = MappingProxyType({})

_OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "gt": np.greater,
    "ge": np.greater_equal,
    "lt": np.less,
    "le": np.less_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "where": np.where,
}


def evaluate(
    graph: Graph, tensors: Mapping[str, Any], coefficients: Any, format: Format, scales: Mapping[str, Any] = NO_SCALES
) -> dict[str, Any]:
    """What the graph stores, by name. Coefficients are NumPy scalars of the type that is computed in."""
    graph, format = expanded(graph), format.compute
    values: list[Any] = []
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node.op == "tensor":
                values.append(tensors[node.value])
            elif node.op == "scale":
                values.append(scales[node.value])
            else:
                values.append(applied(node, values, coefficients, format))
    return {name: values[index] for name, index in graph.outputs}


def applied(node: Node, values: Sequence[Any], coefficients: Any, format: Format) -> Any:
    """The value of a node, from the values of earlier nodes."""
    kind = format.dtype.type
    if node.op == "coefficient":
        return coefficients[node.value]
    if node.op == "const":
        return kind(node.value)
    if node.op == "flush":
        state = values[node.args[0]]
        return np.where(np.abs(state) < (node.value or format.smallest_state), kind(0), state)
    return _OPERATIONS[node.op](*(values[a] for a in node.args))


def step(graph: Graph, layout: Layout) -> Call:
    """A kernel that updates every tensor of a job."""
    formats = layout.formats(graph.inputs)

    def kernel(address: int) -> None:
        for row, begin, end in claims(address, 2 + len(graph.inputs)):
            coefficients = view(row[1], graph.coefficient_count, layout.compute.dtype)
            for at in range(begin, end, CHUNK):
                parts = {
                    name: view(place + at * formats[name].itemsize, min(CHUNK, end - at), formats[name].dtype)
                    for name, place in zip(graph.inputs, row[2:], strict=True)
                }
                wide = {name: formats[name].widen(part) for name, part in parts.items()}
                # Every output before the first store: a gradient may be the parameter itself.
                for name, value in evaluate(graph, wide, coefficients, layout.compute).items():
                    parts[name][...] = formats[name].narrow(value)

    return kernel


def squares(format: Format) -> Call:
    """A kernel that sums scaled squares, block by block."""

    def kernel(address: int) -> None:
        scale = ctypes.c_double.from_address(address + 8 * SCALE).value
        for (_, elements, place, sums), begin, end in claims(address, 4):
            for block in range(begin, end):
                at = block * CHUNK
                part = view(place + at * format.itemsize, min(CHUNK, elements - at), format.dtype)
                padded = np.zeros(-(-part.size // PARTIALS) * PARTIALS)
                padded[: part.size] = format.widen(part)
                with np.errstate(all="ignore"):
                    padded *= scale
                    lanes = np.add.reduce(np.square(padded).reshape(-1, PARTIALS), axis=0)
                    view(sums + 8 * block, 1, np.dtype(float))[0] = np.add.accumulate(lanes)[-1]

    return kernel


def view(address: int, size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """The array that lies at an address."""
    buffer: Any = (ctypes.c_char * (size * dtype.itemsize)).from_address(address)
    return np.frombuffer(buffer, dtype, size) if size else np.empty(0, dtype)


def claims(address: int, columns: int) -> Iterator[tuple[list[int], int, int]]:
    """Each row's cells with the range of it that is claimed, until the job is done."""
    header = (ctypes.c_int64 * HEADER).from_address(address)
    rows, total, grain = header[ROWS], header[TOTAL], header[GRAIN]
    table = view(address + 8 * HEADER, rows * columns, np.dtype(np.int64)).reshape(columns, rows)
    ends = np.cumsum(table[0])
    while (begin := header[COUNTER]) < total:
        header[COUNTER] = begin + grain
        for row in range(int(np.searchsorted(ends, begin, "right")), rows):
            start = int(ends[row]) - int(table[0, row])
            if start >= begin + grain:
                break
            low, high = max(begin - start, 0), min(begin + grain - start, int(table[0, row]))
            if low < high:
                yield table[:, row].tolist(), low, high
