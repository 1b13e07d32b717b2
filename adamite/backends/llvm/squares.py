"""The sum of squares, for norms: one reading pass."""

from __future__ import annotations

from adamite.codegen.frame import frame
from adamite.codegen.job import CHUNK, PARTIALS, SCALE
from adamite.codegen.text import Lanes, Text
from adamite.storage import Format


def squares_text(format: Format, machine: str) -> str:
    """The kernel that sums scaled squares: blocks of 32 float64 lanes, lanes then added in order."""
    wide, narrow = f"<{PARTIALS} x double>", f"<{PARTIALS} x {format.llvm}>"
    out = Text()
    elements, place, sums = out.cell(1), out.cell(2, "ptr"), out.cell(3, "ptr")
    out.line(f"%scale.one = load double, ptr {out.at('%job', SCALE, 'i64')}")
    out.line(f"%scale.ins = insertelement {wide} poison, double %scale.one, i64 0")
    out.line(f"%scale = shufflevector {wide} %scale.ins, {wide} poison, <{PARTIALS} x i32> zeroinitializer")
    out.line("%lanes = load ptr, ptr %lanes.place")
    out.line("br label %block")

    out.label("block")
    out.line("%b = phi i64 [ %low, %body ], [ %b.next, %sum ]")
    begin = out.value(f"mul i64 %b, {CHUNK}")
    limit = out.value(f"add i64 {begin}, {CHUNK}")
    stop = out.value(f"call i64 @llvm.smin.i64(i64 {limit}, i64 {elements})")
    whole = out.value(f"sub i64 {stop}, {PARTIALS - 1}")
    out.line(f"%some = icmp slt i64 {begin}, {whole}")
    out.line("br i1 %some, label %whole, label %rest")

    out.label("whole")
    out.line(f"%i = phi i64 [ {begin}, %block ], [ %i.next, %whole ]")
    out.line(f"%acc = phi {wide} [ zeroinitializer, %block ], [ %acc.next, %whole ]")
    x = out.value(f"load {narrow}, ptr {out.at(place, '%i', format.llvm)}, align {format.itemsize}")
    x = format.widened(Lanes(out, PARTIALS), x)
    computed = format.compute.llvm
    x = out.value(f"fpext <{PARTIALS} x {computed}> {x} to {wide}") if computed != "double" else x
    x = out.value(f"fmul {wide} {x}, %scale")
    out.line(f"%acc.next = fadd {wide} %acc, {out.value(f'fmul {wide} {x}, {x}')}")
    out.line(f"%i.next = add nsw i64 %i, {PARTIALS}")
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
    reduced = out.value(f"call double @llvm.vector.reduce.fadd.v{PARTIALS}f64(double -0.0, {wide} {lanes})")
    out.line(f"store double {reduced}, ptr {out.at(sums, '%b', 'double')}")
    out.line("%b.next = add nsw i64 %b, 1")
    out.line("%b.more = icmp slt i64 %b.next, %high")
    out.line("br i1 %b.more, label %block, label %next")
    return frame(out, machine, scratch=f"%lanes.place = alloca {wide}")
