"""The graph as machine code: LLVM's language as text, compiled in memory by llvmlite.

One frame serves every kernel: claim a range of the job, walk the rows that it meets, run a body on each. The
bodies are the step (the graph, one fused loop) and the sum of squares (a norm's reading pass). No fast-math, no
contraction, no reassociation: the bits are those of the NumPy reading.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from adamite.emit import Lanes, Text
from adamite.graph import Graph, Node
from adamite.readers.job import BLOCK, COUNTER, GRAIN, HEADER, LANES, SCALE, TOTAL
from adamite.storage import Format, Layout

# What a kernel may call: these become instructions, never calls of a library that may not be there.
_INTRINSICS = (
    r"@llvm\.(sqrt|fabs|copysign|is\.fpclass|[us](min|max)|vector\.reduce\.(fadd|add|mul|[us]max)|fshl|assume|prefetch|"
    r"lifetime\.(start|end)|masked\.(load|store)|x86\.sse\.(st|ld)mxcsr|aarch64\.[gs]et\.fpcr)\b"
)


class Values(Protocol):
    """The values of nodes by their indices."""

    def __getitem__(self, index: int, /) -> str: ...


def step_text(graph: Graph, layout: Layout, machine: str) -> str:
    """The kernel that updates every tensor of a job."""
    out = Text()
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
            values.append(kind.widened(on, out.load(places[node.value], "%i", kind.llvm, _GROUP)))
        else:
            values.append(operation(on, node, values, numbers, layout.compute))
    for name, index in graph.outputs:
        kind = formats[name]
        value = kind.narrowed(on, values[index])
        out.line(f"store {kind.llvm} {value}, ptr {out.at(places[name], '%i', kind.llvm)}{_GROUP}")
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


AS_IT_IS = ", !llvm.loop !3"  # of a loop that isn't worth vectorising
_GROUP = ", !llvm.access.group !0"
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


# ---- sums of squares


def squares_text(format: Format, machine: str) -> str:
    """The kernel that sums scaled squares: blocks of 32 float64 lanes, lanes then added in order."""
    wide, narrow = f"<{LANES} x double>", f"<{LANES} x {format.llvm}>"
    out = Text()
    elements, place, sums = out.cell(1), out.cell(2, "ptr"), out.cell(3, "ptr")
    out.line(f"%scale.one = load double, ptr {out.at('%job', SCALE, 'i64')}")
    out.line(f"%scale.ins = insertelement {wide} poison, double %scale.one, i64 0")
    out.line(f"%scale = shufflevector {wide} %scale.ins, {wide} poison, <{LANES} x i32> zeroinitializer")
    out.line("%lanes = load ptr, ptr %lanes.place")
    out.line("br label %block")

    out.label("block")
    out.line("%b = phi i64 [ %low, %body ], [ %b.next, %sum ]")
    begin = out.value(f"mul i64 %b, {BLOCK}")
    limit = out.value(f"add i64 {begin}, {BLOCK}")
    stop = out.value(f"call i64 @llvm.smin.i64(i64 {limit}, i64 {elements})")
    whole = out.value(f"sub i64 {stop}, {LANES - 1}")
    out.line(f"%some = icmp slt i64 {begin}, {whole}")
    out.line("br i1 %some, label %whole, label %rest")

    out.label("whole")
    out.line(f"%i = phi i64 [ {begin}, %block ], [ %i.next, %whole ]")
    out.line(f"%acc = phi {wide} [ zeroinitializer, %block ], [ %acc.next, %whole ]")
    x = out.value(f"load {narrow}, ptr {out.at(place, '%i', format.llvm)}, align {format.itemsize}")
    x = format.widened(Lanes(out, LANES), x)
    computed = format.compute.llvm
    x = out.value(f"fpext <{LANES} x {computed}> {x} to {wide}") if computed != "double" else x
    x = out.value(f"fmul {wide} {x}, %scale")
    out.line(f"%acc.next = fadd {wide} %acc, {out.value(f'fmul {wide} {x}, {x}')}")
    out.line(f"%i.next = add nsw i64 %i, {LANES}")
    out.line(f"%whole.more = icmp slt i64 %i.next, {whole}")
    out.line("br i1 %whole.more, label %whole, label %rest")

    out.label("rest")
    out.line(f"%first = phi i64 [ {begin}, %block ], [ %i.next, %whole ]")
    out.line(f"%full = phi {wide} [ zeroinitializer, %block ], [ %acc.next, %whole ]")
    out.line(f"store {wide} %full, ptr %lanes.place")
    out.line(f"%rest.some = icmp slt i64 %first, {stop}")
    out.line("br i1 %rest.some, label %tail, label %sum")

    out.label("tail")
    out.line("%j = phi i64 [ %first, %rest ], [ %j.next, %tail ]")
    y = format.widened(Lanes(out, 0), out.load(place, "%j", format.llvm))
    y = out.value(f"fpext {computed} {y} to double") if computed != "double" else y
    y = out.value(f"fmul double {y}, %scale.one")
    lane = out.at("%lanes.place", out.value("sub i64 %j, %first"), "double")
    total = out.value(f"fadd double {out.value(f'load double, ptr {lane}')}, {out.value(f'fmul double {y}, {y}')}")
    out.line(f"store double {total}, ptr {lane}")
    out.line("%j.next = add nsw i64 %j, 1")
    out.line(f"%j.more = icmp slt i64 %j.next, {stop}")
    out.line("br i1 %j.more, label %tail, label %sum")

    out.label("sum")
    lanes = out.value(f"load {wide}, ptr %lanes.place")
    reduced = out.value(f"call double @llvm.vector.reduce.fadd.v{LANES}f64(double -0.0, {wide} {lanes})")
    out.line(f"store double {reduced}, ptr {out.at(sums, '%b', 'double')}")
    out.line("%b.next = add nsw i64 %b, 1")
    out.line("%b.more = icmp slt i64 %b.next, %high")
    out.line("br i1 %b.more, label %block, label %next")
    return frame(out, machine, scratch=f"%lanes.place = alloca {wide}")


def frame(out: Text, machine: str, scratch: str = "") -> str:
    """Claim ranges, walk the rows, run the body with %low and %high; in the default floating-point mode."""
    save, restore, declare = _float_mode(machine)
    text = f"""
define void @kernel(ptr %job) "no-builtins" {{
entry:
  {scratch}
  {save}
  %rows = load i64, ptr %job
  %total.place = getelementptr i64, ptr %job, i64 {TOTAL}
  %total = load i64, ptr %total.place
  %grain.place = getelementptr i64, ptr %job, i64 {GRAIN}
  %grain = load i64, ptr %grain.place
  %counter = getelementptr i64, ptr %job, i64 {COUNTER}
  %table = getelementptr i64, ptr %job, i64 {HEADER}
  br label %claim
claim:
  %begin = atomicrmw add ptr %counter, i64 %grain monotonic
  %some.left = icmp slt i64 %begin, %total
  br i1 %some.left, label %range, label %done
range:
  %past = add i64 %begin, %grain
  %end = call i64 @llvm.smin.i64(i64 %past, i64 %total)
  br label %walk
walk:
  %row = phi i64 [ 0, %range ], [ %row.next, %next ]
  %offset = phi i64 [ 0, %range ], [ %offset.next, %next ]
  %length.place = getelementptr i64, ptr %table, i64 %row
  %length = load i64, ptr %length.place
  %offset.next = add i64 %offset, %length
  %low.any = sub i64 %begin, %offset
  %low = call i64 @llvm.smax.i64(i64 %low.any, i64 0)
  %high.any = sub i64 %end, %offset
  %high = call i64 @llvm.smin.i64(i64 %high.any, i64 %length)
  %meets = icmp slt i64 %low, %high
  br i1 %meets, label %body, label %next
body:
{chr(10).join(out.lines)}
next:
  %row.next = add i64 %row, 1
  %more.rows = icmp slt i64 %row.next, %rows
  %more.range = icmp slt i64 %offset.next, %end
  %more = and i1 %more.rows, %more.range
  br i1 %more, label %walk, label %claim
done:
  {restore}
  ret void
}}
{declare}
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
!0 = distinct !{{}}
!1 = distinct !{{!1, !2}}
!2 = !{{!"llvm.loop.parallel_accesses", !0}}
!3 = distinct !{{!3, !4}}
!4 = !{{!"llvm.loop.vectorize.enable", i1 false}}
"""
    text += "".join(f"{line}\n" for line in out.declared)
    if "vector.reduce" in text:
        text += f"declare double @llvm.vector.reduce.fadd.v{LANES}f64(double, <{LANES} x double>)\n"
    return text


def _float_mode(machine: str) -> tuple[str, str, str]:
    """Set round-to-nearest with denormals, whatever the calling thread had; restore it in the end."""
    if machine in ("x86_64", "AMD64", "amd64", "i386", "i686"):
        save = """%mode = alloca i32
  %default = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %mode)
  store i32 8064, ptr %default
  call void @llvm.x86.sse.ldmxcsr(ptr %default)"""
        declare = "declare void @llvm.x86.sse.stmxcsr(ptr)\ndeclare void @llvm.x86.sse.ldmxcsr(ptr)"
        return save, "call void @llvm.x86.sse.ldmxcsr(ptr %mode)", declare
    if machine in ("aarch64", "arm64"):
        save = """%mode = call i64 @llvm.aarch64.get.fpcr()
  call void @llvm.aarch64.set.fpcr(i64 0)"""
        declare = "declare i64 @llvm.aarch64.get.fpcr()\ndeclare void @llvm.aarch64.set.fpcr(i64)"
        return save, "call void @llvm.aarch64.set.fpcr(i64 %mode)", declare
    return "", "", ""


def cpu_name() -> str:
    """LLVM's name of this processor: znver4, skylake-avx512, apple-m1, ..."""
    name: str = _llvm().get_host_cpu_name()
    return name


def processor() -> str:
    """This processor, what runs on it, and LLVM."""
    llvm = _llvm()
    return f"{cpu_name()} ({llvm.get_process_triple()}, LLVM {'.'.join(map(str, llvm.llvm_version_info))})"


def loop(assembly: str) -> list[str]:
    """The lines of the widest loop in a kernel's assembly."""
    blocks: list[list[str]] = [[]]
    for text in assembly.splitlines():
        line = text.split("#")[0].rstrip()
        if re.match(r"\.?\w+:", line):
            blocks.append([line])
        elif line and not line.lstrip().startswith("."):
            blocks[-1].append(line)
            if re.match(r"\s+(j\w+|b(\.\w+)?|cbn?z)\s", line):
                blocks.append([])
    closed = [b for b in blocks if b and b[0].endswith(":") and b[0][:-1] in b[-1]]
    for register in ("zmm", "ymm", "xmm", r"v\d+\."):
        found = [b for b in closed if any(re.search(register, line) for line in b)]
        if found:
            return max(found, key=len)
    return max(closed or blocks, key=len)


# ---- compiling ------------------------------------------------------------------------------------


class Compiled(NamedTuple):
    """Machine code. `call` releases the GIL; `call_held` keeps it, which is faster for short jobs."""

    place: int  # where the code lies
    call: Any
    call_held: Any
    optimized: str  # LLVM's text after its passes
    assembly: str | None
    engine: Any  # owns the code


@functools.cache
def _llvm() -> Any:
    import llvmlite.binding as llvm

    if hasattr(llvm, "initialize"):
        with contextlib.suppress(RuntimeError):  # newer versions do it by themselves
            llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    return llvm


def compile(
    text: str, cpu: str | None = None, features: str = "", assembly: bool = False, entry: str = "kernel"
) -> Compiled:
    """Machine code for this processor, or for an older one of its family (`cpu`, `features`)."""
    llvm = _llvm()
    if cpu is None:
        cpu, features = cpu_name(), llvm.get_host_cpu_features().flatten()
    module = llvm.parse_assembly(text)
    module.triple = llvm.get_process_triple()
    module.verify()
    # One target machine an engine: the engine owns it.
    target = llvm.Target.from_triple(module.triple).create_target_machine(cpu=cpu, features=features, opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    foreign = [f.name for f in module.functions if f.is_declaration and not re.match(_INTRINSICS, "@" + f.name)]
    if foreign:
        raise RuntimeError(f"the kernel calls functions that aren't in it: {', '.join(foreign)}")
    optimized = str(module)
    listing = target.emit_assembly(module) if assembly else None
    engine = llvm.create_mcjit_compiler(module, target)
    engine.finalize_object()
    address = engine.get_function_address(entry)
    return Compiled(
        address,
        ctypes.CFUNCTYPE(None, ctypes.c_void_p)(address),
        ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(address),
        optimized,
        listing,
        engine,
    )
