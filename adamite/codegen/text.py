"""LLVM's language: text that grows line by line, and values that know their type."""

from __future__ import annotations

from dataclasses import dataclass

_FLOATS = {"float": "f32", "double": "f64"}  # LLVM's types of floating point, and their suffix in names of functions


class Text:
    """LLVM text that grows line by line; values get fresh names."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.declared: dict[str, None] = {}  # LLVM's own functions that are called
        self.count = 0

    def line(self, text: str) -> None:
        self.lines.append("  " + text)

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def value(self, text: str, kind: str, lanes: int = 0) -> Value:
        """The result of an instruction, a value of this type."""
        self.count += 1
        name = f"%v{self.count}"
        self.line(f"{name} = {text}")
        return Value(self, name, kind, lanes)

    def named(self, name: str, kind: str = "i64", lanes: int = 0) -> Value:
        """A value that a line or the frame defines."""
        return Value(self, name, kind, lanes)

    def number(self, value: int | str, kind: str, lanes: int = 0) -> Value:
        """A constant, in every lane."""
        name = "<" + ", ".join([f"{kind} {value}"] * lanes) + ">" if lanes else str(value)
        return Value(self, name, kind, lanes)

    def count_from(self, first: int, kind: str, lanes: int) -> Value:
        """A constant whose lanes are first, first + 1, ..."""
        numbers = ", ".join(f"{kind} {first + k}" for k in range(lanes))
        return Value(self, f"<{numbers}>", kind, lanes)

    def load(self, base: Value | str, index: Value | str | int, kind: str = "i64", note: str = "") -> Value:
        return self.value(f"load {kind}, ptr {self.at(base, index, kind)}{note}", kind)

    def at(self, base: Value | str, index: Value | str | int, kind: str) -> Value:
        """The address of an element of an array."""
        return self.value(f"getelementptr inbounds {kind}, ptr {base}, i64 {index}", "ptr")

    def prefetch(self, place: Value) -> None:
        """Have a line of memory fetched that is read later."""
        self.declared["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None
        self.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def cell(self, column: int, kind: str = "i64") -> Value:
        """The current row's cell in a column of the job's table."""
        skipped = self.named("%rows") * column
        return self.load("%table", self.named("%row") + skipped, kind)


@dataclass(eq=False, slots=True)
class Value:
    """A value in the text, of an integer or a floating-point type; or a vector of such values.

    Each operation adds a line and gives its result. The other operand is a value of the same type, or a constant, in
    every lane: an integer, or a literal of LLVM's. `>>` shifts zeros in.
    """

    out: Text
    name: str
    kind: str  # of one lane: "i32", "float"
    lanes: int = 0  # 0 for a value that is no vector

    def __str__(self) -> str:
        return self.name

    @property
    def type(self) -> str:
        return vector(self.kind, self.lanes)

    def like(self, constant: int | str) -> Value:
        """A constant of this type."""
        return self.out.number(constant, self.kind, self.lanes)

    def apply(self, op: str, other: Operand) -> Value:
        """An instruction with two operands and a result of one type."""
        return self.out.value(f"{op} {self.type} {self}, {self._operand(other)}", self.kind, self.lanes)

    def __add__(self, other: Operand) -> Value:
        return self.apply(self._prefix + "add", other)

    def __sub__(self, other: Operand) -> Value:
        return self.apply(self._prefix + "sub", other)

    def __mul__(self, other: Operand) -> Value:
        return self.apply(self._prefix + "mul", other)

    def __and__(self, other: Operand) -> Value:
        return self.apply("and", other)

    def __or__(self, other: Operand) -> Value:
        return self.apply("or", other)

    def __xor__(self, other: Operand) -> Value:
        return self.apply("xor", other)

    def __lshift__(self, other: Operand) -> Value:
        return self.apply("shl", other)

    def __rshift__(self, other: Operand) -> Value:
        return self.apply("lshr", other)

    def __neg__(self) -> Value:
        return self.out.value(f"fneg {self.type} {self}", self.kind, self.lanes)

    def compare(self, op: str, other: Operand) -> Value:
        """A comparison: `icmp` or `fcmp` with its condition."""
        return self.out.value(f"{op} {self.type} {self}, {self._operand(other)}", "i1", self.lanes)

    def select(self, a: Operand, b: Operand) -> Value:
        """`a` where this is true, else `b`; one of them is a value."""
        example = a if isinstance(a, Value) else b
        assert isinstance(example, Value)
        text = f"select {self.type} {self}, {example._typed(a)}, {example._typed(b)}"
        return self.out.value(text, example.kind, example.lanes)

    def cast(self, op: str, kind: str) -> Value:
        return self.out.value(f"{op} {self.type} {self} to {vector(kind, self.lanes)}", kind, self.lanes)

    def bitcast(self, kind: str, lanes: int | None = None) -> Value:
        """The same bits as another type; as another number of lanes if given."""
        lanes = self.lanes if lanes is None else lanes
        return self.out.value(f"bitcast {self.type} {self} to {vector(kind, lanes)}", kind, lanes)

    def call(self, name: str, *others: Operand) -> Value:
        """The result of one of LLVM's own functions, whose operands and result have one type."""
        operands = ", ".join([self._typed(self), *map(self._typed, others)])
        suffix = (f"v{self.lanes}" if self.lanes else "") + _FLOATS.get(self.kind, self.kind)
        function = f"{self.type} @llvm.{name}.{suffix}"
        self.out.declared[f"declare {function}({', '.join([self.type] * (1 + len(others)))})"] = None
        return self.out.value(f"call {function}({operands})", self.kind, self.lanes)

    def splat(self, lanes: int) -> Value:
        """A vector with this in every lane; the value itself if there are no lanes."""
        if not lanes:
            return self
        whole = vector(self.kind, lanes)
        first = self.out.value(f"insertelement {whole} poison, {self.type} {self}, i64 0", self.kind, lanes)
        return first.shuffle("zeroinitializer")

    def shuffle(self, order: str) -> Value:
        """The lanes in another order."""
        text = f"shufflevector {self.type} {self}, {self.type} poison, <{self.lanes} x i32> {order}"
        return self.out.value(text, self.kind, self.lanes)

    @property
    def _prefix(self) -> str:
        return "f" if self.kind in _FLOATS else ""

    def _operand(self, other: Operand) -> Value:
        if not isinstance(other, Value):
            return self.like(other)
        assert other.type == self.type, f"{other.type} beside {self.type}"
        return other

    def _typed(self, other: Operand) -> str:
        return f"{self.type} {self._operand(other)}"


Operand = Value | int | str


def vector(kind: str, lanes: int) -> str:
    """The type of a vector of values; of one value if there are no lanes."""
    return f"<{lanes} x {kind}>" if lanes else kind
