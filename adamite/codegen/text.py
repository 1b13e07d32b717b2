"""LLVM's language, line by line."""

from __future__ import annotations


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

    def value(self, text: str) -> str:
        self.count += 1
        name = f"%v{self.count}"
        self.line(f"{name} = {text}")
        return name

    def load(self, base: str, index: str | int, kind: str = "i64", note: str = "") -> str:
        return self.value(f"load {kind}, ptr {self.at(base, index, kind)}{note}")

    def at(self, base: str, index: str | int, kind: str) -> str:
        return self.value(f"getelementptr inbounds {kind}, ptr {base}, i64 {index}")

    def ask(self, place: str) -> None:
        """Have a line of memory fetched that is read later."""
        self.declared["declare void @llvm.prefetch.p0(ptr, i32, i32, i32)"] = None
        self.line(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")

    def cell(self, column: int, kind: str = "i64") -> str:
        """The current row's cell."""
        index = self.value(f"add i64 %row, {self.value(f'mul i64 %rows, {column}')}")
        return self.load("%table", index, kind)


_SUFFIX = {"float": "f32", "double": "f64", "i8": "i8", "i32": "i32"}


class Lanes:
    """Operations on one value, or on several at once."""

    def __init__(self, out: Text, lanes: int) -> None:
        self.out, self.lanes = out, lanes

    def type(self, kind: str) -> str:
        return f"<{self.lanes} x {kind}>" if self.lanes else kind

    def number(self, kind: str, value: int | str) -> str:
        return "<" + ", ".join([f"{kind} {value}"] * self.lanes) + ">" if self.lanes else str(value)

    def apply(self, op: str, kind: str, a: str, b: int | str) -> str:
        """An operation with a number, or with another value."""
        return self.out.value(f"{op} {self.type(kind)} {a}, {self.operand(kind, b)}")

    def operand(self, kind: str, b: int | str) -> str:
        """A value as it is, a number in every lane."""
        return b if isinstance(b, str) and b[0] in "%<" else self.number(kind, b)

    def splat(self, kind: str, value: str) -> str:
        """A value in every lane."""
        if not self.lanes:
            return value
        first = self.out.value(f"insertelement {self.type(kind)} poison, {kind} {value}, i64 0")
        nowhere = f"{self.type(kind)} poison, <{self.lanes} x i32> zeroinitializer"
        return self.out.value(f"shufflevector {self.type(kind)} {first}, {nowhere}")

    def unary(self, op: str, kind: str, a: str) -> str:
        return self.out.value(f"{op} {self.type(kind)} {a}")

    def call(self, name: str, kind: str, *args: int | str) -> str:
        """One of LLVM's own functions."""
        given = ", ".join(f"{self.type(kind)} {self.operand(kind, a)}" for a in args)
        own = self.type(kind)
        full = f"{own} @llvm.{name}.{f'v{self.lanes}' if self.lanes else ''}{_SUFFIX[kind]}"
        self.out.declared[f"declare {full}({', '.join([own] * len(args))})"] = None
        return self.out.value(f"call {full}({given})")

    def cast(self, op: str, a: str, before: str, after: str) -> str:
        return self.out.value(f"{op} {self.type(before)} {a} to {self.type(after)}")

    def select(self, condition: str, kind: str, a: str, b: str) -> str:
        return self.out.value(f"select {self.type('i1')} {condition}, {self.type(kind)} {a}, {self.type(kind)} {b}")
