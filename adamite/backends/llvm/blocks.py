"""The graph as machine code that goes block by block: for states with scales, and for what is rounded at random.

A block is 256 elements, in vectors of 16 and groups of 64; what passes.py divides is two loops over a block that stays
in the first cache. The last block of a tensor may be short: it is worked on in a copy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from adamite.backends.llvm.elements import operation
from adamite.codegen.frame import AS_IT_IS, frame
from adamite.codegen.job import COEFFICIENTS, X
from adamite.codegen.text import Lanes, Text
from adamite.graph.nodes import Graph
from adamite.graph.passes import Passes, divided
from adamite.storage import BFLOAT16, COMPENSATION, FLOAT32, TOGETHER, EightBit, Format, Layout
from adamite.storage.eight_bit import GROUP, LIMIT, LIMIT_BITS, RANDOM_BITS, Scale, byte_order
from adamite.storage.random import BLOCK, LANES, VECTORS, hashed_text

_PER_GROUP = GROUP // LANES
_AHEAD, _LINE = 2 * BLOCK, 64  # elements, bytes
# Processors that fetch ahead far enough by themselves: there asking takes a fifth longer. On Zen 3 and Zen 5 it gains.
_FETCH_AHEAD = ("znver4",)


def step_text(graph: Graph, layout: Layout, machine: str, processor: str = "") -> str:
    """The kernel that updates every tensor of a job, for a processor by LLVM's name."""
    body = _Body(divided(graph, layout), layout, asks=processor not in _FETCH_AHEAD)
    body.write()
    return frame(body.out, machine, scratch="\n  ".join(body.scratch))


class _Body:
    """The text for the blocks from %low to %high of one row."""

    def __init__(self, passes: Passes, layout: Layout, asks: bool) -> None:
        self.asks = asks
        self.out = Text()
        self.on = Lanes(self.out, LANES)
        self.passes, self.graph, self.layout = passes, passes.graph, layout
        self.scratch: list[str] = []
        self.formats = layout.formats(self.graph.inputs)
        self.eight = {n: f for n, f in self.formats.items() if isinstance(f, EightBit)}
        self.plain = {n: f for n, f in self.formats.items() if n not in self.eight}
        self.pairs = layout.pairs([*self.formats])
        self.outputs = dict(self.graph.outputs)
        self.draws = layout.draws([*self.outputs])
        self.values: dict[int, str] = {}  # uniform nodes
        self.places: dict[str, str] = {}  # of a block's tensors

    # ---- the loop over blocks

    def write(self) -> None:
        out, on = self.out, self.on
        coefficients = out.cell(COEFFICIENTS, "ptr")
        rows = {name: out.cell(X + k, "ptr") for k, name in enumerate(self.graph.inputs)}
        more = {name: X + len(self.graph.inputs) + k for k, name in enumerate(self.layout.more)}
        elements, seed = out.cell(more["elements"]), out.value(f"trunc i64 {out.cell(more['seed'])} to i32")
        if COMPENSATION in more:
            rows[COMPENSATION] = out.cell(more[COMPENSATION], "ptr")
        count = self.graph.coefficient_count
        self.numbers = [on.splat("float", out.load(coefficients, k, "float")) for k in range(count)]
        self._words(on.splat("i32", out.load(coefficients, count, "i32")))
        out.line("br label %block")

        out.label("block")
        out.line("%b = phi i64 [ %low, %body ], [ %b.next, %after ]")
        begin = out.value(f"mul i64 %b, {BLOCK}")
        left = out.value(f"sub i64 {elements}, {begin}")
        partial = out.value(f"icmp slt i64 {left}, {BLOCK}")
        whole = {name: out.at(rows[name], begin, format.llvm) for name, format in self.plain.items()}
        pads = {name: self._memory(f"pad.{name}", f"[{BLOCK} x {format.llvm}]") for name, format in self.plain.items()}
        out.line(f"br i1 {partial}, label %fill, label %go")
        out.label("fill")
        for name, format in self.plain.items():
            for j in range(VECTORS):  # one store of them all is taken apart into elements, which takes LLVM long
                self._store(pads[name], "0", j, "zeroinitializer", format)
        self._copy("fill", left, [(whole[n], pads[n], f) for n, f in self.plain.items()])
        out.line("br label %go")

        out.label("go")
        self.places = {n: out.value(f"phi ptr [ {whole[n]}, %block ], [ {pads[n]}, %fill.end ]") for n in self.plain}
        scales = {}
        for name in self.eight:
            self.places[name] = out.at(rows[name], begin, "i8")
            codes_end = out.at(rows[name], out.value(f"mul i64 %length, {BLOCK}"), "i8")
            scales[name] = out.at(codes_end, "%b", "i8")
        self._uniform(scales)
        self._draw(seed)
        if self.eight:
            self._two_passes(scales)
        else:
            self._loop("only", "go", [], lambda i, _: self._second(i, {}, {}))
            out.line("br label %finish")
        out.label("finish")
        out.line(f"br i1 {partial}, label %restore, label %after")
        out.label("restore")
        stored = [n for n in self.plain if n in self.outputs or n == COMPENSATION]
        self._copy("restore", left, [(pads[n], whole[n], self.plain[n]) for n in stored])
        out.line("br label %after")
        out.label("after")
        out.line("%b.next = add nsw i64 %b, 1")
        out.line("%b.more = icmp slt i64 %b.next, %high")
        out.line("br i1 %b.more, label %block, label %next")

    def _two_passes(self, scales: dict[str, str]) -> None:
        out, on, one = self.out, self.on, Lanes(self.out, 0)
        self.slots = {index: k for k, index in enumerate(self.passes.kept)}
        self.kept = self._memory("kept", f"[{BLOCK * len(self.slots)} x float]")
        zeros = ["zeroinitializer"] * len(self.eight)
        largest = dict(zip(self.eight, self._loop("first", "go", zeros, self._first)))
        largest = {name: self._reduced(name, value) for name, value in largest.items()}
        bad = "false"
        for value in largest.values():
            bad = out.value(f"or i1 {bad}, {one.apply('icmp sge', 'i32', value, LIMIT_BITS)}")
        out.line(f"br i1 {bad}, label %mend, label %plain")

        out.label("plain")
        encoding = {n: self.eight[n].scaled(out, largest[n], scales[n]) for n in self.eight}
        self._loop("second", "plain", [], lambda i, _: self._second(i, encoding, {}))
        out.line("br label %finish")

        out.label("mend")  # something in the block isn't finite
        mended = {n: self._memory(f"mended.{n}", f"[{BLOCK} x float]") for n in self.eight}

        def mend(i: str, found: Sequence[str]) -> list[str]:
            new = list(found)
            for j in range(_PER_GROUP):
                values = [self._taken(self.outputs[name], i, j) for name in self.eight]
                bad = on.number("i1", "false")
                for value in values:
                    size = on.call("fabs", "float", value)
                    bad = on.apply("or", "i1", bad, on.apply("fcmp uge", "float", size, FLOAT32.literal(LIMIT)))
                for k, (name, format) in enumerate(self.eight.items()):
                    value = on.select(bad, "float", on.number("float", "0.0"), values[k])
                    self._store(mended[name], i, j, value)
                    new[k] = format.larger(on, new[k], format.measured(on, value))
            return new

        most = self._loop("mending", "mend", zeros, mend)
        encoding = {n: self.eight[n].scaled(out, self._reduced(n, m), scales[n]) for n, m in zip(self.eight, most)}
        self._loop("third", "mending.end", [], lambda i, _: self._second(i, encoding, mended))
        out.line("br label %finish")

    def _reduced(self, name: str, value: str) -> str:
        kind = "umax" if self.eight[name].signed else "smax"
        self.out.declared[f"declare i32 @llvm.vector.reduce.{kind}.v16i32(<16 x i32>)"] = None
        return self.out.value(f"call i32 @llvm.vector.reduce.{kind}.v16i32(<16 x i32> {value})")

    # ---- one group of elements

    def _first(self, i: str, largest: Sequence[str]) -> list[str]:
        self._ask(i)
        groups = self._computed(self.passes.first, i, {})
        new = list(largest)
        for j, values in enumerate(groups):
            for index in self.passes.kept:
                self._store(self.kept, i, self.slots[index] * VECTORS + j, values[index])
            for k, (name, format) in enumerate(self.eight.items()):
                new[k] = format.larger(self.on, new[k], format.measured(self.on, values[self.outputs[name]]))
        return new

    def _second(self, i: str, encoding: dict[str, Scale], mended: dict[str, str]) -> list[str]:
        if not self.eight:
            self._ask(i)
        known = {index: [self._taken(index, i, j) for j in range(_PER_GROUP)] for index in self.passes.kept}
        groups = self._computed(self.passes.second, i, known)
        for name in self.outputs:
            new = [values[self.outputs[name]] for values in groups]
            if name in self.eight:
                if mended:
                    new = [self._fetch(mended[name], i, j) for j in range(_PER_GROUP)]
                random = [self._random(TOGETHER, i, j) for j in range(_PER_GROUP)]
                codes = self.eight[name].encoded(self.on, new, random, encoding[name])
                codes = self._bytes(codes, [byte_order(True).index(k) for k in range(GROUP)])
                self.out.line(f"store <64 x i8> {codes}, ptr {self.out.at(self.places[name], i, 'i8')}, align 4")
            else:
                self._put(name, i, new)
        return []

    def _computed(self, nodes: Iterable[int], i: str, known: dict[int, list[str]]) -> list[dict[int, str]]:
        """The nodes' values in each vector of a group."""
        nodes = list(nodes)
        loaded = {
            index: self._load(self.graph.nodes[index].value, i)
            for index in nodes
            if self.graph.nodes[index].op == "tensor"
        }
        groups = []
        for j in range(_PER_GROUP):
            values = {**self.values, **{index: vectors[j] for index, vectors in {**known, **loaded}.items()}}
            for index in nodes:
                if index not in values:
                    values[index] = self._operation(index, values)
            groups.append(values)
        return groups

    def _operation(self, index: int, values: dict[int, str]) -> str:
        return operation(self.on, self.graph.nodes[index], values, self.numbers, self.layout.compute)

    def _load(self, name: str, i: str) -> list[str]:
        """A tensor's elements in the group, as numbers; a state's without its scale."""
        on, out, format = self.on, self.out, self.formats[name]
        if isinstance(format, EightBit):
            codes = out.value(f"load <64 x i8>, ptr {out.at(self.places[name], i, 'i8')}, align 4")
            words = out.value(f"bitcast <64 x i8> {self._bytes(codes, byte_order(True))} to <16 x i32>")
            return [format.decoded(on, words, j) for j in range(_PER_GROUP)]
        if self.pairs:
            values: list[str] = []
            for k in range(_PER_GROUP // 2):
                place = out.at(out.at(self.places[name], i, "i16"), 2 * LANES * k, "i16")
                values += BFLOAT16.widened_pair(on, out.value(f"load <16 x i32>, ptr {place}, align 2"))
        else:
            values = [format.widened(on, self._fetch(self.places[name], i, j, format)) for j in range(_PER_GROUP)]
        if name == "x" and COMPENSATION in self.formats:
            lost = self._load(COMPENSATION, i)
            values = [BFLOAT16.whole_text(on, number, c) for number, c in zip(values, lost, strict=True)]
        return values

    def _put(self, name: str, i: str, values: Sequence[str]) -> None:
        """Store a tensor's new elements in the group."""
        on, format = self.on, self.formats[name]
        if format is not BFLOAT16:
            for j, value in enumerate(values):
                self._store(self.places[name], i, j, format.narrowed(on, value), format)
            return
        random = [self._random(name, i, j) if name in self.draws else None for j in range(_PER_GROUP)]
        upper = [BFLOAT16.upper(on, value, r) for value, r in zip(values, random, strict=True)]
        self._put_halves(name, i, upper)
        if name == "x" and COMPENSATION in self.formats:
            lost = [BFLOAT16.compensation_text(on, value, u) for value, u in zip(values, upper, strict=True)]
            self._put_halves(COMPENSATION, i, lost)

    def _put_halves(self, name: str, i: str, upper: Sequence[str]) -> None:
        """Store the upper halves of words."""
        on, out = self.on, self.out
        if self.pairs:
            for k in range(_PER_GROUP // 2):
                place = out.at(out.at(self.places[name], i, "i16"), 2 * LANES * k, "i16")
                words = BFLOAT16.narrowed_pair(on, upper[2 * k], upper[2 * k + 1])
                out.line(f"store <16 x i32> {words}, ptr {place}, align 2")
        else:
            for j, word in enumerate(upper):
                half = on.cast("trunc", on.apply("lshr", "i32", word, 16), "i32", "i16")
                self._store(self.places[name], i, j, half, BFLOAT16)

    # ---- memory

    def _ask(self, i: str) -> None:
        """Ask for a group that comes two blocks later; what processors fetch by themselves ends with a page."""
        if not self.asks:
            return
        for name, format in self.formats.items():
            later = self.out.at(self.places[name], i, format.llvm)
            for line in range(format.itemsize):  # 64 elements
                self.out.ask(self.out.at(later, _AHEAD + line * _LINE // format.itemsize, format.llvm))

    def _memory(self, name: str, kind: str) -> str:
        self.scratch.append(f"%{name} = alloca {kind}, align 64")
        return f"%{name}"

    def _vector(self, base: str, i: str, j: int, format: Format | None) -> tuple[str, str]:
        kind, size = (format.llvm, format.itemsize) if format else ("float", 4)
        place = self.out.at(self.out.at(base, i, kind), j * LANES, kind)
        return f"<16 x {kind}>", f"ptr {place}, align {size if format else 64}"

    def _fetch(self, base: str, i: str, j: int, format: Format | None = None) -> str:
        kind, place = self._vector(base, i, j, format)
        return self.out.value(f"load {kind}, {place}")

    def _store(self, base: str, i: str, j: int, value: str, format: Format | None = None) -> None:
        kind, place = self._vector(base, i, j, format)
        self.out.line(f"store {kind} {value}, {place}")

    def _taken(self, index: int, i: str, j: int) -> str:
        """What the first pass has kept, or what is the same everywhere."""
        if index in self.values:
            return self.values[index]
        return self._fetch(self.kept, i, self.slots[index] * VECTORS + j)

    def _bytes(self, codes: str, order: Sequence[int]) -> str:
        """A group's bytes in the order of the vectors' elements, or back."""
        if not self.pairs:
            return codes
        mask = ", ".join(f"i32 {k}" for k in order)
        return self.out.value(f"shufflevector <64 x i8> {codes}, <64 x i8> poison, <64 x i32> <{mask}>")

    def _copy(self, name: str, count: str, what: Sequence[tuple[str, str, Format]]) -> None:
        """Copy so many elements of each tensor; the label NAME.end follows."""
        out = self.out
        out.line(f"br label %{name}.loop")
        out.label(f"{name}.loop")
        out.line(f"%{name}.i = phi i64 [ 0, %{name} ], [ %{name}.i.next, %{name}.loop ]")
        for source, target, format in what:
            value = out.load(source, f"%{name}.i", format.llvm)
            out.line(f"store {format.llvm} {value}, ptr {out.at(target, f'%{name}.i', format.llvm)}")
        out.line(f"%{name}.i.next = add nsw i64 %{name}.i, 1")
        out.line(f"%{name}.more = icmp slt i64 %{name}.i.next, {count}")
        out.line(f"br i1 %{name}.more, label %{name}.loop, label %{name}.end{AS_IT_IS}")
        out.label(f"{name}.end")

    def _loop(
        self, name: str, before: str, starts: Sequence[str], body: Callable[[str, Sequence[str]], Sequence[str]]
    ) -> list[str]:
        """Go through a block by groups; what is carried from one to the next. The label NAME.end follows."""
        out, i = self.out, f"%{name}.i"
        out.line(f"br label %{name}")
        out.label(name)
        out.line(f"{i} = phi i64 [ 0, %{before} ], [ {i}.next, %{name} ]")
        carried = [f"%{name}.{k}" for k in range(len(starts))]
        where = len(out.lines)
        new = body(i, carried)
        out.lines[where:where] = [
            f"  {value} = phi <16 x i32> [ {start}, %{before} ], [ {after}, %{name} ]"
            for value, start, after in zip(carried, starts, new, strict=True)
        ]
        out.line(f"{i}.next = add nsw i64 {i}, {GROUP}")
        out.line(f"%{name}.more = icmp slt i64 {i}.next, {BLOCK}")
        out.line(f"br i1 %{name}.more, label %{name}, label %{name}.end")
        out.label(f"{name}.end")
        return list(new)

    # ---- what is the same for a block

    def _uniform(self, scales: dict[str, str]) -> None:
        values: dict[int, str] = {}
        for index in self.passes.uniform:
            node = self.graph.nodes[index]
            if node.op == "scale":
                values[index] = self.on.splat("float", self.eight[node.value].scale_text(self.out, scales[node.value]))
            else:
                values[index] = self._operation(index, values)
        self.values = values

    def _words(self, step: str) -> None:
        """A random word for each vector of a block, for each that draws."""
        self.words = self._memory("words", f"[{VECTORS * max(1, len(self.draws))} x i32]")
        for name, k in self.draws.items():
            numbers = ", ".join(f"i32 {k * VECTORS + v}" for v in range(VECTORS))
            word = self.on.apply("and", "i32", hashed_text(self.on, f"<{numbers}>", step), self._mask(name))
            self.out.line(f"store <16 x i32> {word}, ptr {self.out.at(self.words, k * VECTORS, 'i32')}, align 64")

    def _mask(self, name: str) -> int:
        return (1 << RANDOM_BITS) - 1 if name == TOGETHER else 0xFFFF

    def _draw(self, seed: str) -> None:
        """A random word for each lane of a block."""
        out, on = self.out, self.on
        block = out.value(f"mul i32 {out.value('trunc i64 %b to i32')}, {LANES}")
        lanes = on.apply("add", "i32", on.splat("i32", block), f"<{', '.join(f'i32 {k}' for k in range(LANES))}>")
        word = hashed_text(on, lanes, on.splat("i32", seed))
        self.drawn = {mask: on.apply("and", "i32", word, mask) for mask in {self._mask(name) for name in self.draws}}

    def _random(self, name: str, i: str, j: int) -> str:
        vector = self.out.value(f"lshr i64 {i}, 4")
        place = self.out.at(self.out.at(self.words, vector, "i32"), self.draws[name] * VECTORS + j, "i32")
        word = self.on.splat("i32", self.out.value(f"load i32, ptr {place}"))
        return self.on.apply("xor", "i32", self.drawn[self._mask(name)], word)
