"""The frame of every kernel: claim a range of the job, walk the rows that it meets, run a body on each."""

from __future__ import annotations

from adamite.codegen.job import COUNTER, GRAIN, HEADER, PARTIALS, TOTAL
from adamite.codegen.text import Text

AS_IT_IS = ", !llvm.loop !3"  # of a loop that isn't worth vectorising
ACCESS_GROUP = ", !llvm.access.group !0"  # of memory that no two turns of the loop share


# Claim a range of the job's units, and find the rows that it meets.
_CLAIM = f"""\
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
"""

_NEXT = """\
next:
  %row.next = add i64 %row, 1
  %more.rows = icmp slt i64 %row.next, %rows
  %more.range = icmp slt i64 %offset.next, %end
  %more = and i1 %more.rows, %more.range
  br i1 %more, label %walk, label %claim
done:
"""

_DECLARATIONS = """\
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
!0 = distinct !{}
!1 = distinct !{!1, !2}
!2 = !{!"llvm.loop.parallel_accesses", !0}
!3 = distinct !{!3, !4}
!4 = !{!"llvm.loop.vectorize.enable", i1 false}
"""


def frame(out: Text, machine: str, scratch: str = "") -> str:
    """Claim ranges, walk the rows, run the body with %low and %high; in the default floating-point mode."""
    save, restore, declare = _float_mode(machine)
    text = f"""
define void @kernel(ptr %job) "no-builtins" {{
entry:
  {scratch}
  {save}
{_CLAIM}{chr(10).join(out.lines)}
{_NEXT}  {restore}
  ret void
}}
{declare}
{_DECLARATIONS}"""
    text += "".join(f"{line}\n" for line in out.declared)
    if "vector.reduce" in text:
        text += f"declare double @llvm.vector.reduce.fadd.v{PARTIALS}f64(double, <{PARTIALS} x double>)\n"
    return text


def _float_mode(machine: str) -> tuple[str, str, str]:
    """What sets rounding to nearest, with subnormal numbers; what restores the caller's mode; declarations."""
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
