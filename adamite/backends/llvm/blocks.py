"""The graph as machine code that works block by block: for states with scales, and for random rounding.

A block is 256 elements, in vectors of 16 and groups of 64. The two passes of passes.py are two loops over a block,
which stays in the first-level cache. The last block of a tensor may be short: it is processed in a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from adamite.backends.llvm.elements import operation
from adamite.codegen.frame import AS_IT_IS, frame
from adamite.codegen.job import COEFFICIENTS, X
from adamite.codegen.text import Text, Value, vector
from adamite.graph.nodes import Graph
from adamite.graph.passes import divided
from adamite.storage import BFLOAT16, COMPENSATION, FLOAT32, TOGETHER, EightBit, Format, Layout
from adamite.storage.eight_bit import GROUP, LIMIT, LIMIT_BITS, RANDOM_BITS, Scale, byte_order
from adamite.storage.random import BLOCK, LANES, VECTORS, hashed_text

_PER_GROUP = GROUP // LANES
_AHEAD, _LINE = 2 * BLOCK, 64  # elements, bytes
# Processors that prefetch far enough by themselves: asking makes them a fifth slower. Zen 3 and Zen 5 gain by it.
_PREFETCHING = ("znver4",)


def step_text(graph: Graph, layout: Layout, machine: str, processor: str = "") -> str:
    """The kernel that updates every tensor of a job, for a processor by LLVM's name."""
    body = _Body(graph, layout, prefetches=processor not in _PREFETCHING)
    body.write()
    return frame(body.out, machine, scratch="\n  ".join(body.scratch))


class _Block(NamedTuple):
    """What belongs to one block."""

    places: Mapping[str, Value]  # of its tensors
    scales: Mapping[str, Value]  # places of its 8-bit states' scales
    uniform: Mapping[int, Value]  # the nodes that are the same for the whole block
    drawn: Mapping[int, Value]  # random words of its lanes, by the mask of their bits


class _Body:
    """The text for the blocks from %low to %high of one row."""

    def __init__(self, graph: Graph, layout: Layout, prefetches: bool) -> None:
        self.passes, self.layout, self.prefetches = divided(graph, layout), layout, prefetches
        self.graph = self.passes.graph
        self.formats = layout.formats(self.graph.inputs)
        self.eight = {n: f for n, f in self.formats.items() if isinstance(f, EightBit)}
        self.plain = {n: f for n, f in self.formats.items() if n not in self.eight}
        self.pairs = layout.pairs([*self.formats])
        self.outputs = dict(self.graph.outputs)
        self.draws = layout.draws([*self.outputs])
        self.slots = {index: k for k, index in enumerate(self.passes.kept)}

        self.out = Text()
        self.scratch: list[str] = []
        self.words = self._memory("words", f"[{VECTORS * max(1, len(self.draws))} x i32]")  # random, a vector each
        self.pads = {name: self._memory(f"pad.{name}", f"[{BLOCK} x {f.llvm}]") for name, f in self.plain.items()}
        if self.eight:
            self.kept = self._memory("kept", f"[{BLOCK * len(self.slots)} x float]")
            self.mended = {n: self._memory(f"mended.{n}", f"[{BLOCK} x float]") for n in self.eight}

    def _memory(self, name: str, kind: str) -> Value:
        self.scratch.append(f"%{name} = alloca {kind}, align 64")
        return self.out.named(f"%{name}", "ptr")

    # ---- the loop over blocks

    def write(self) -> None:
        out = self.out
        coefficients = out.cell(COEFFICIENTS, "ptr")
        rows = {name: out.cell(X + k, "ptr") for k, name in enumerate(self.graph.inputs)}
        more = {name: X + len(self.graph.inputs) + k for k, name in enumerate(self.layout.more)}
        elements, seed = out.cell(more["elements"]), out.cell(more["seed"]).cast("trunc", "i32")
        if COMPENSATION in more:
            rows[COMPENSATION] = out.cell(more[COMPENSATION], "ptr")
        count = self.graph.coefficient_count
        numbers = [out.load(coefficients, k, "float").splat(LANES) for k in range(count)]
        self._draw_words(out.load(coefficients, count, "i32").splat(LANES))
        out.line("br label %block")

        out.label("block")
        out.line("%b = phi i64 [ %low, %body ], [ %b.next, %after ]")
        begin = out.named("%b") * BLOCK
        left = elements - begin
        partial = left.compare("icmp slt", BLOCK)
        whole = {name: out.at(rows[name], begin, format.llvm) for name, format in self.plain.items()}
        out.line(f"br i1 {partial}, label %fill, label %go")
        out.label("fill")
        for name, format in self.plain.items():
            for j in range(VECTORS):  # LLVM takes one store of them all apart into elements, which takes it long
                self._store(self.pads[name], "0", j, "zeroinitializer", format)
        self._copy("fill", left, [(whole[n], self.pads[n], f) for n, f in self.plain.items()])
        out.line("br label %go")

        out.label("go")
        block = self._block(rows, whole, begin, numbers, seed)
        if self.eight:
            self._two_passes(block)
        else:
            self._loop("only", "go", [], lambda i, _: self._second(block, i, {}, {}))
            out.line("br label %finish")
        out.label("finish")
        out.line(f"br i1 {partial}, label %restore, label %after")
        out.label("restore")
        stored = [n for n in self.plain if n in self.outputs or n == COMPENSATION]
        self._copy("restore", left, [(self.pads[n], whole[n], self.plain[n]) for n in stored])
        out.line("br label %after")
        out.label("after")
        out.line("%b.next = add nsw i64 %b, 1")
        out.line("%b.more = icmp slt i64 %b.next, %high")
        out.line("br i1 %b.more, label %block, label %next")

    def _block(
        self, rows: Mapping[str, Value], whole: Mapping[str, Value], begin: Value, numbers: list[Value], seed: Value
    ) -> _Block:
        """Find a block's places, in the tensors or in the copy, and compute what is the same for all of it."""
        out = self.out
        places = {
            n: out.value(f"phi ptr [ {whole[n]}, %block ], [ {self.pads[n]}, %fill.end ]", "ptr") for n in self.plain
        }
        scales = {}
        for name in self.eight:
            places[name] = out.at(rows[name], begin, "i8")
            codes_end = out.at(rows[name], out.named("%length") * BLOCK, "i8")
            scales[name] = out.at(codes_end, "%b", "i8")
        uniform: dict[int, Value] = {}
        for index in self.passes.uniform:
            node = self.graph.nodes[index]
            if node.op == "scale":
                uniform[index] = self.eight[node.value].scale_text(scales[node.value]).splat(LANES)
            else:
                uniform[index] = operation(out, node, uniform, numbers, self.layout.compute, LANES)
        return _Block(places, scales, uniform, self._draw(seed))

    def _two_passes(self, block: _Block) -> None:
        out = self.out
        zeros = ["zeroinitializer"] * len(self.eight)
        vectors = self._loop("first", "go", zeros, lambda i, largest: self._first(block, i, largest))
        largest = {name: self._reduced(name, value) for name, value in zip(self.eight, vectors)}
        bad: Value | str = "false"
        for value in largest.values():
            bad = out.value(f"or i1 {bad}, {value.compare('icmp sge', LIMIT_BITS)}", "i1")
        out.line(f"br i1 {bad}, label %mend, label %plain")

        out.label("plain")
        encoding = {n: f.scaled(largest[n], block.scales[n]) for n, f in self.eight.items()}
        self._loop("second", "plain", [], lambda i, _: self._second(block, i, encoding, {}))
        out.line("br label %finish")

        out.label("mend")  # something in the block isn't finite
        vectors = self._loop("mending", "mend", zeros, lambda i, largest: self._mend(block, i, largest))
        mended = {
            n: self.eight[n].scaled(self._reduced(n, value), block.scales[n]) for n, value in zip(self.eight, vectors)
        }
        self._loop("third", "mending.end", [], lambda i, _: self._second(block, i, mended, self.mended))
        out.line("br label %finish")

    def _reduced(self, name: str, value: Value) -> Value:
        kind = "umax" if self.eight[name].signed else "smax"
        self.out.declared[f"declare i32 @llvm.vector.reduce.{kind}.v16i32(<16 x i32>)"] = None
        return self.out.value(f"call i32 @llvm.vector.reduce.{kind}.v16i32(<16 x i32> {value})", "i32")

    # ---- one group of elements

    def _first(self, block: _Block, i: Value, largest: Sequence[Value]) -> list[Value]:
        """Compute the new 8-bit states and what else the first pass does."""
        self._prefetch(block, i)
        groups = self._computed(block, self.passes.first, i, {})
        new = list(largest)
        for j, values in enumerate(groups):
            for index in self.passes.kept:
                self._store(self.kept, i, self.slots[index] * VECTORS + j, values[index])
            for k, (name, format) in enumerate(self.eight.items()):
                new[k] = format.larger(new[k], format.measured(values[self.outputs[name]]))
        return new

    def _mend(self, block: _Block, i: Value, largest: Sequence[Value]) -> list[Value]:
        """Make the new 8-bit states of an element zero if one of them isn't finite."""
        new = list(largest)
        for j in range(_PER_GROUP):
            values = [self._taken(block, self.outputs[name], i, j) for name in self.eight]
            bad = self.out.number("false", "i1", LANES)
            for value in values:
                bad = bad | value.call("fabs").compare("fcmp uge", FLOAT32.literal(LIMIT))
            for k, (name, format) in enumerate(self.eight.items()):
                value = bad.select("0.0", values[k])
                self._store(self.mended[name], i, j, value)
                new[k] = format.larger(new[k], format.measured(value))
        return new

    def _second(
        self, block: _Block, i: Value, encoding: Mapping[str, Scale], mended: Mapping[str, Value]
    ) -> list[Value]:
        """Compute and store all that is new; 8-bit states from where they were mended, if they were."""
        if not self.eight:
            self._prefetch(block, i)
        taken = {index: [self._taken(block, index, i, j) for j in range(_PER_GROUP)] for index in self.passes.kept}
        groups = self._computed(block, self.passes.second, i, taken)
        for name in self.outputs:
            new = [values[self.outputs[name]] for values in groups]
            if name in self.eight:
                if mended:
                    new = [self._fetch(mended[name], i, j) for j in range(_PER_GROUP)]
                random = [self._random(block, TOGETHER, i, j) for j in range(_PER_GROUP)]
                codes = self.eight[name].encoded(new, random, encoding[name])
                codes = self._bytes(codes, [byte_order(True).index(k) for k in range(GROUP)])
                self.out.line(f"store <64 x i8> {codes}, ptr {self.out.at(block.places[name], i, 'i8')}, align 4")
            else:
                self._put(block, name, i, new)
        return []

    def _computed(
        self, block: _Block, nodes: Iterable[int], i: Value, taken: Mapping[int, Sequence[Value]]
    ) -> list[dict[int, Value]]:
        """The nodes' values in each vector of a group."""
        nodes = list(nodes)
        loaded = {
            index: self._load(block, self.graph.nodes[index].value, i)
            for index in nodes
            if self.graph.nodes[index].op == "tensor"
        }
        groups = []
        for j in range(_PER_GROUP):
            values = {**block.uniform, **{index: vectors[j] for index, vectors in {**taken, **loaded}.items()}}
            for index in nodes:
                if index not in values:
                    node = self.graph.nodes[index]
                    values[index] = operation(self.out, node, values, (), self.layout.compute, LANES)
            groups.append(values)
        return groups

    def _load(self, block: _Block, name: str, i: Value) -> list[Value]:
        """A tensor's elements in the group, as numbers; a state's without its scale."""
        out, format, place = self.out, self.formats[name], block.places[name]
        if isinstance(format, EightBit):
            codes = out.value(f"load <64 x i8>, ptr {out.at(place, i, 'i8')}, align 4", "i8", GROUP)
            words = self._bytes(codes, byte_order(True)).bitcast("i32", LANES)
            return [format.decoded(words, j) for j in range(_PER_GROUP)]
        if self.pairs:
            values: list[Value] = []
            for k in range(_PER_GROUP // 2):
                pair = out.at(out.at(place, i, "i16"), 2 * LANES * k, "i16")
                values += BFLOAT16.widened_pair(out.value(f"load <16 x i32>, ptr {pair}, align 2", "i32", LANES))
        else:
            values = [format.widened(self._fetch(place, i, j, format)) for j in range(_PER_GROUP)]
        if name == "x" and COMPENSATION in self.formats:
            lost = self._load(block, COMPENSATION, i)
            values = [BFLOAT16.whole_text(number, c) for number, c in zip(values, lost, strict=True)]
        return values

    def _put(self, block: _Block, name: str, i: Value, values: Sequence[Value]) -> None:
        """Store a tensor's new elements in the group."""
        format, place = self.formats[name], block.places[name]
        if format is not BFLOAT16:
            for j, value in enumerate(values):
                self._store(place, i, j, format.narrowed(value), format)
            return
        random = [self._random(block, name, i, j) if name in self.draws else None for j in range(_PER_GROUP)]
        upper = [BFLOAT16.upper(value, r) for value, r in zip(values, random, strict=True)]
        self._put_halves(place, i, upper)
        if name == "x" and COMPENSATION in self.formats:
            lost = [BFLOAT16.compensation_text(value, u) for value, u in zip(values, upper, strict=True)]
            self._put_halves(block.places[COMPENSATION], i, lost)

    def _put_halves(self, place: Value, i: Value, upper: Sequence[Value]) -> None:
        """Store the upper halves of words."""
        out = self.out
        if self.pairs:
            for k in range(_PER_GROUP // 2):
                pair = out.at(out.at(place, i, "i16"), 2 * LANES * k, "i16")
                words = BFLOAT16.narrowed_pair(upper[2 * k], upper[2 * k + 1])
                out.line(f"store <16 x i32> {words}, ptr {pair}, align 2")
        else:
            for j, word in enumerate(upper):
                self._store(place, i, j, (word >> 16).cast("trunc", "i16"), BFLOAT16)

    # ---- memory

    def _prefetch(self, block: _Block, i: Value) -> None:
        """Ask for the group two blocks ahead: processors that prefetch by themselves stop at the end of a page."""
        if not self.prefetches:
            return
        for name, format in self.formats.items():
            later = self.out.at(block.places[name], i, format.llvm)
            for line in range(format.itemsize):  # 64 elements
                self.out.prefetch(self.out.at(later, _AHEAD + line * _LINE // format.itemsize, format.llvm))

    def _vector(self, base: Value, i: Value | str, j: int, format: Format | None) -> tuple[str, str]:
        """The kind and the place of a vector: of floats in scratch memory, unless it is of a format."""
        kind, size = (format.llvm, format.itemsize) if format else ("float", 4)
        place = self.out.at(self.out.at(base, i, kind), j * LANES, kind)
        return kind, f"ptr {place}, align {size if format else 64}"

    def _fetch(self, base: Value, i: Value, j: int, format: Format | None = None) -> Value:
        kind, place = self._vector(base, i, j, format)
        return self.out.value(f"load {vector(kind, LANES)}, {place}", kind, LANES)

    def _store(self, base: Value, i: Value | str, j: int, value: Value | str, format: Format | None = None) -> None:
        kind, place = self._vector(base, i, j, format)
        self.out.line(f"store {vector(kind, LANES)} {value}, {place}")

    def _taken(self, block: _Block, index: int, i: Value, j: int) -> Value:
        """A result that the first pass kept, or that is the same for the whole block."""
        if index in block.uniform:
            return block.uniform[index]
        return self._fetch(self.kept, i, self.slots[index] * VECTORS + j)

    def _bytes(self, codes: Value, order: Sequence[int]) -> Value:
        """A group's bytes in the order of the vectors' elements, or back."""
        return codes.shuffle(f"<{', '.join(f'i32 {k}' for k in order)}>") if self.pairs else codes

    def _copy(self, name: str, count: Value, what: Sequence[tuple[Value, Value, Format]]) -> None:
        """Copy so many elements of each tensor; the label NAME.end follows."""
        out = self.out
        out.line(f"br label %{name}.loop")
        out.label(f"{name}.loop")
        out.line(f"%{name}.i = phi i64 [ 0, %{name} ], [ %{name}.i.next, %{name}.loop ]")
        for source, target, format in what:
            value = out.load(source, f"%{name}.i", format.llvm)
            out.line(f"store {value.type} {value}, ptr {out.at(target, f'%{name}.i', format.llvm)}")
        out.line(f"%{name}.i.next = add nsw i64 %{name}.i, 1")
        out.line(f"%{name}.more = icmp slt i64 %{name}.i.next, {count}")
        out.line(f"br i1 %{name}.more, label %{name}.loop, label %{name}.end{AS_IT_IS}")
        out.label(f"{name}.end")

    def _loop(
        self, name: str, before: str, starts: Sequence[str], body: Callable[[Value, Sequence[Value]], Sequence[Value]]
    ) -> list[Value]:
        """Go through a block by groups, which carry vectors from one to the next; the label NAME.end follows."""
        out, i = self.out, self.out.named(f"%{name}.i")
        out.line(f"br label %{name}")
        out.label(name)
        out.line(f"{i} = phi i64 [ 0, %{before} ], [ {i}.next, %{name} ]")
        carried = [out.named(f"%{name}.{k}", "i32", LANES) for k in range(len(starts))]
        where = len(out.lines)
        new = body(i, carried)
        out.lines[where:where] = [
            f"  {value} = phi {value.type} [ {start}, %{before} ], [ {after}, %{name} ]"
            for value, start, after in zip(carried, starts, new, strict=True)
        ]
        out.line(f"{i}.next = add nsw i64 {i}, {GROUP}")
        out.line(f"%{name}.more = icmp slt i64 {i}.next, {BLOCK}")
        out.line(f"br i1 %{name}.more, label %{name}, label %{name}.end")
        out.label(f"{name}.end")
        return list(new)

    # ---- random words

    def _draw_words(self, step: Value) -> None:
        """Store a random word for each vector of a block, for each output that draws."""
        for name, k in self.draws.items():
            word = hashed_text(self.out.count_from(k * VECTORS, "i32", VECTORS), step) & _mask(name)
            self.out.line(f"store <16 x i32> {word}, ptr {self.out.at(self.words, k * VECTORS, 'i32')}, align 64")

    def _draw(self, seed: Value) -> dict[int, Value]:
        """A random word for each lane of a block."""
        block = self.out.named("%b").cast("trunc", "i32") * LANES
        word = hashed_text(block.splat(LANES) + self.out.count_from(0, "i32", LANES), seed.splat(LANES))
        return {mask: word & mask for mask in {_mask(name) for name in self.draws}}

    def _random(self, block: _Block, name: str, i: Value, j: int) -> Value:
        place = self.out.at(self.out.at(self.words, i >> 4, "i32"), self.draws[name] * VECTORS + j, "i32")
        word = self.out.value(f"load i32, ptr {place}", "i32").splat(LANES)
        return block.drawn[_mask(name)] ^ word


def _mask(name: str) -> int:
    """The random bits that an output takes of a word."""
    return (1 << RANDOM_BITS) - 1 if name == TOGETHER else 0xFFFF
