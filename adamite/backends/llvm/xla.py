"""A step inside a program that XLA compiles: the kernel, called through XLA's foreign function interface.

XLA calls a handler with a C struct of buffers. The handler is LLVM text too: it fills a job with the addresses of the
buffers, shares the job with XLA's threads if it is large, and runs the kernel in place. Offsets are those of
`xla/ffi/api/c_api.h`, a header that jaxlib ships; its version is read there.

    operands: the coefficients, then for each input that the graph reads its rows
    results: for each output its rows, each in the memory of the input of that name
"""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from adamite.backends.llvm.elements import step_text
from adamite.codegen import compiler
from adamite.codegen.job import COUNTER, GRAIN, HEADER, ROWS, TOTAL, X
from adamite.graph.nodes import Graph
from adamite.storage import Layout

SUPPORTED = {(0, 3)}  # versions whose structs are as here

# Bytes from a struct's begin.
_EXTENSION, _API, _CONTEXT, _ARGS, _RETS_COUNT, _RETS = 8, 16, 24, 72, 96, 112  # XLA_FFI_CallFrame
_METADATA, _MAJOR, _MINOR = 24, 24, 28  # of the extension; of XLA_FFI_Metadata
_DATA, _RANK, _DIMENSIONS = 24, 32, 40  # XLA_FFI_Buffer
_SCHEDULE = 48 + 8 * 11  # XLA_FFI_Api: XLA_FFI_ThreadPool_Schedule
_ACTIVE, _HOLDERS = 0, 1  # words after a job's table


def version(include: str) -> tuple[int, int] | None:
    """The version of the interface in the headers under a folder, if it is supported."""
    try:
        header = (Path(include) / "xla" / "ffi" / "api" / "c_api.h").read_text(encoding="utf-8")
    except OSError:
        return None
    numbers = dict(re.findall(r"#define XLA_FFI_API_(MAJOR|MINOR) (\d+)", header))
    if len(numbers) < 2:
        return None
    number = int(numbers["MAJOR"]), int(numbers["MINOR"])
    return number if number in SUPPORTED else None


def text(
    graph: Graph, layout: Layout, machine: str, interface: tuple[int, int], worth: int, share: int, threads: int
) -> str:
    """The kernel and its handler.

    Args:
        worth: from how many elements on other threads are asked to help.
        share: the least number of elements that a thread is given.
        threads: the largest number of threads.
    """
    return step_text(graph, layout, machine) + _handler(graph, interface, worth, share, threads)


def compile(text: str) -> compiler.Compiled:
    """The handler's machine code: `place` is what XLA is given."""
    library = ctypes.CDLL(None)
    for name in ("malloc", "free"):
        text = text.replace(f"<{name}>", str(ctypes.cast(getattr(library, name), ctypes.c_void_p).value))
    return compiler.compile(text, entry="handler")


def _handler(graph: Graph, interface: tuple[int, int], worth: int, share: int, threads: int) -> str:
    columns = 2 + len(graph.inputs)
    return (
        f"\n{_HELPERS}{_task(columns)}{_describe(interface)}{_begin(columns, len(graph.outputs))}"
        f"{_fill_rows(graph)}{_divide(worth, share, threads)}{_SCHEDULE_TASKS}{_FINISH}"
    )


# Words of structs and of the job's table, the length of a buffer, and what frees the job.
_HELPERS = f"""\
define internal i64 @word(ptr %base, i64 %bytes) alwaysinline "no-builtins" {{
  %place = getelementptr i8, ptr %base, i64 %bytes
  %value = load i64, ptr %place
  ret i64 %value
}}

define internal void @put(ptr %table, i64 %column, i64 %rows, i64 %r, i64 %value) alwaysinline "no-builtins" {{
  %start = mul i64 %column, %rows
  %index = add i64 %start, %r
  %place = getelementptr i64, ptr %table, i64 %index
  store i64 %value, ptr %place
  ret void
}}

define internal ptr @buffer(ptr %list, i64 %index) alwaysinline "no-builtins" {{
  %place = getelementptr ptr, ptr %list, i64 %index
  %value = load ptr, ptr %place
  ret ptr %value
}}

define internal i64 @length(ptr %buffer) "no-builtins" {{
entry:
  %rank = call i64 @word(ptr %buffer, i64 {_RANK})
  %dims.place = getelementptr i8, ptr %buffer, i64 {_DIMENSIONS}
  %dims = load ptr, ptr %dims.place
  br label %axis
axis:
  %k = phi i64 [ 0, %entry ], [ %k.next, %more ]
  %n = phi i64 [ 1, %entry ], [ %n.next, %more ]
  %some = icmp slt i64 %k, %rank
  br i1 %some, label %more, label %done
more:
  %dim.place = getelementptr i64, ptr %dims, i64 %k
  %dim = load i64, ptr %dim.place
  %n.next = mul i64 %n, %dim
  %k.next = add i64 %k, 1
  br label %axis
done:
  ret i64 %n
}}

; The last one who holds a job frees it: a task that comes late finds nothing to do, but must find the job.
define internal void @release(ptr %job, ptr %holders) {{
  %before = atomicrmw sub ptr %holders, i64 1 seq_cst
  %last = icmp eq i64 %before, 1
  br i1 %last, label %free, label %done
free:
  %free.function = inttoptr i64 <free> to ptr
  call void %free.function(ptr %job)
  ret void
done:
  ret void
}}

"""


def _task(columns: int) -> str:
    """What another thread runs."""
    return f"""\
define internal ptr @words(ptr %job) {{
  %rows = load i64, ptr %job
  %cells = mul i64 %rows, {columns}
  %index = add i64 %cells, {HEADER}
  %words = getelementptr i64, ptr %job, i64 %index
  ret ptr %words
}}

define void @task(ptr %job) {{
  %words = call ptr @words(ptr %job)
  %active = getelementptr i64, ptr %words, i64 {_ACTIVE}
  %holders = getelementptr i64, ptr %words, i64 {_HOLDERS}
  %one = atomicrmw add ptr %active, i64 1 seq_cst
  call void @kernel(ptr %job)
  %less = atomicrmw sub ptr %active, i64 1 seq_cst
  call void @release(ptr %job, ptr %holders)
  ret void
}}

"""


def _describe(interface: tuple[int, int]) -> str:
    """The handler's beginning: XLA may only ask for the version of the interface."""
    return f"""\
define ptr @handler(ptr %frame) "no-builtins" {{
entry:
  %extension.word = call i64 @word(ptr %frame, i64 {_EXTENSION})
  %asked = icmp ne i64 %extension.word, 0
  br i1 %asked, label %extended, label %run
extended:
  %extension = inttoptr i64 %extension.word to ptr
  %type.place = getelementptr i8, ptr %extension, i64 8
  %type = load i32, ptr %type.place
  %is.metadata = icmp eq i32 %type, 1
  br i1 %is.metadata, label %describe, label %run
describe:
  %metadata.word = call i64 @word(ptr %extension, i64 {_METADATA})
  %metadata = inttoptr i64 %metadata.word to ptr
  %major = getelementptr i8, ptr %metadata, i64 {_MAJOR}
  store i32 {interface[0]}, ptr %major
  %minor = getelementptr i8, ptr %metadata, i64 {_MINOR}
  store i32 {interface[1]}, ptr %minor
  ret ptr null

"""


def _begin(columns: int, outputs: int) -> str:
    """Allocate a job with a row for each array of an output."""
    return f"""\
run:
  %args.word = call i64 @word(ptr %frame, i64 {_ARGS})
  %args = inttoptr i64 %args.word to ptr
  %rets.word = call i64 @word(ptr %frame, i64 {_RETS})
  %rets = inttoptr i64 %rets.word to ptr
  %results = call i64 @word(ptr %frame, i64 {_RETS_COUNT})
  %rows = udiv i64 %results, {outputs}
  %cells = mul i64 %rows, {columns}
  %words.count = add i64 %cells, {HEADER + 2}
  %size = mul i64 %words.count, 8
  %malloc.function = inttoptr i64 <malloc> to ptr
  %job = call ptr %malloc.function(i64 %size)
  %table = getelementptr i64, ptr %job, i64 {HEADER}
  %rows.place = getelementptr i64, ptr %job, i64 {ROWS}
  store i64 %rows, ptr %rows.place
  %counter.place = getelementptr i64, ptr %job, i64 {COUNTER}
  store i64 0, ptr %counter.place
  %words = getelementptr i64, ptr %table, i64 %cells
  %active = getelementptr i64, ptr %words, i64 {_ACTIVE}
  store i64 0, ptr %active
  %holders = getelementptr i64, ptr %words, i64 {_HOLDERS}
  %coefficients.buffer = call ptr @buffer(ptr %args, i64 0)
  %coefficients = call i64 @word(ptr %coefficients.buffer, i64 {_DATA})
  br label %row

"""


def _fill_rows(graph: Graph) -> str:
    """Write each row's length and the addresses of its buffers."""
    inputs, outputs = graph.read, [name for name, _ in graph.outputs]
    fill = []
    for column, name in enumerate(graph.inputs, start=X):
        if name in outputs:
            fill.append(_cell(column, "%rets", outputs.index(name), 0))
        elif name in inputs:
            fill.append(_cell(column, "%args", inputs.index(name), 1))
        else:
            fill.append(f"  call void @put(ptr %table, i64 {column}, i64 %rows, i64 %r, i64 0)")
    cells = "\n".join(fill)
    return f"""\
row:
  %r = phi i64 [ 0, %run ], [ %r.next, %fill ]
  %total = phi i64 [ 0, %run ], [ %total.next, %fill ]
  %some.row = icmp slt i64 %r, %rows
  br i1 %some.row, label %fill, label %filled
fill:
  %first = call ptr @buffer(ptr %rets, i64 %r)
  %length = call i64 @length(ptr %first)
  %total.next = add i64 %total, %length
  call void @put(ptr %table, i64 0, i64 %rows, i64 %r, i64 %length)
  call void @put(ptr %table, i64 1, i64 %rows, i64 %r, i64 %coefficients)
{cells}
  %r.next = add i64 %r, 1
  br label %row

"""


def _divide(worth: int, share: int, threads: int) -> str:
    """Decide how many threads do the job, and how much they claim at a time."""
    return f"""\
filled:
  %total.place = getelementptr i64, ptr %job, i64 {TOTAL}
  store i64 %total, ptr %total.place
  %grain.place = getelementptr i64, ptr %job, i64 {GRAIN}
  store i64 %total, ptr %grain.place
  store i64 1, ptr %holders
  %shares = udiv i64 %total, {share}
  %few = icmp slt i64 %shares, {threads}
  %wanted = select i1 %few, i64 %shares, i64 {threads}
  %large = icmp sge i64 %total, {worth}
  %several = icmp sgt i64 %wanted, 1
  %shared = and i1 %large, %several
  br i1 %shared, label %share, label %alone

share:
  %parts = mul i64 %wanted, 4
  %part = udiv i64 %total, %parts
  %small = icmp slt i64 %part, {share}
  %grain = select i1 %small, i64 {share}, i64 %part
"""


# Ask XLA to run the task on each of the other threads; a refusal leaves its part to those that run.
_SCHEDULE_TASKS = f"""\
  store i64 %grain, ptr %grain.place
  store i64 %wanted, ptr %holders
  %api.word = call i64 @word(ptr %frame, i64 {_API})
  %api = inttoptr i64 %api.word to ptr
  %schedule.word = call i64 @word(ptr %api, i64 {_SCHEDULE})
  %schedule = inttoptr i64 %schedule.word to ptr
  %context = call i64 @word(ptr %frame, i64 {_CONTEXT})
  %request = alloca [5 x i64]
  store i64 40, ptr %request
  %request.extension = getelementptr i64, ptr %request, i64 1
  store i64 0, ptr %request.extension
  %request.context = getelementptr i64, ptr %request, i64 2
  store i64 %context, ptr %request.context
  %request.task = getelementptr i64, ptr %request, i64 3
  store ptr @task, ptr %request.task
  %request.data = getelementptr i64, ptr %request, i64 4
  store ptr %job, ptr %request.data
  br label %ask
ask:
  %k = phi i64 [ 1, %share ], [ %k.next, %asked.one ], [ %k.next, %refused ]
  %more.threads = icmp slt i64 %k, %wanted
  br i1 %more.threads, label %ask.one, label %alone
ask.one:
  %error = call ptr %schedule(ptr %request)
  %k.next = add i64 %k, 1
  %failed = icmp ne ptr %error, null
  br i1 %failed, label %refused, label %asked.one
refused:
  %nobody = atomicrmw sub ptr %holders, i64 1 seq_cst
  br label %ask
asked.one:
  br label %ask

"""

# Run the kernel here too, and wait for the others.
_FINISH = """\
alone:
  call void @kernel(ptr %job)
  br label %wait
wait:
  %busy = load atomic i64, ptr %active seq_cst, align 8
  %still = icmp ne i64 %busy, 0
  br i1 %still, label %wait, label %end
end:
  call void @release(ptr %job, ptr %holders)
  ret ptr null
}
"""


def _cell(column: int, buffers: str, place: int, skipped: int) -> str:
    """Write where the row's buffer of one input lies."""
    return f"""  %c{column}.start = mul i64 %rows, {place}
  %c{column}.skipped = add i64 %c{column}.start, {skipped}
  %c{column}.index = add i64 %c{column}.skipped, %r
  %c{column}.buffer = call ptr @buffer(ptr {buffers}, i64 %c{column}.index)
  %c{column}.data = call i64 @word(ptr %c{column}.buffer, i64 {_DATA})
  call void @put(ptr %table, i64 {column}, i64 %rows, i64 %r, i64 %c{column}.data)"""
