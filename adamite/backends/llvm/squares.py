"""The sum of squares, for norms: one reading pass."""

from __future__ import annotations

from adamite.codegen.frame import frame
from adamite.codegen.job import CHUNK, PARTIALS, SCALE
from adamite.codegen.text import Text, Value, vector
from adamite.storage import Format


def squares_text(format: Format, machine: str) -> str:
    """The kernel that sums scaled squares: chunks in 32 float64 lanes, which are then added in order."""
    wide = vector("double", PARTIALS)
    out = Text()
    elements, place, sums = out.cell(1), out.cell(2, "ptr"), out.cell(3, "ptr")
    out.line(f"%scale.one = load double, ptr {out.at('%job', SCALE, 'i64')}")
    out.line(f"%scale.ins = insertelement {wide} poison, double %scale.one, i64 0")
    out.line(f"%scale = shufflevector {wide} %scale.ins, {wide} poison, <{PARTIALS} x i32> zeroinitializer")
    out.line("%lanes = load ptr, ptr %lanes.place")
    out.line("br label %block")

    out.label("block")
    out.line("%b = phi i64 [ %low, %body ], [ %b.next, %sum ]")
    begin = out.named("%b") * CHUNK
    stop = out.value(f"call i64 @llvm.smin.i64(i64 {begin + CHUNK}, i64 {elements})", "i64")
    whole = stop - (PARTIALS - 1)
    out.line(f"%some = icmp slt i64 {begin}, {whole}")
    out.line("br i1 %some, label %whole, label %rest")

    out.label("whole")
    out.line(f"%i = phi i64 [ {begin}, %block ], [ %i.next, %whole ]")
    out.line(f"%acc = phi {wide} [ zeroinitializer, %block ], [ %acc.next, %whole ]")
    lanes = f"load {vector(format.llvm, PARTIALS)}, ptr {out.at(place, '%i', format.llvm)}, align {format.itemsize}"
    x = _double(format.widened(out.value(lanes, format.llvm, PARTIALS))) * out.named("%scale", "double", PARTIALS)
    out.line(f"%acc.next = fadd {wide} %acc, {x * x}")
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
    y = _double(format.widened(out.load(place, "%j", format.llvm))) * out.named("%scale.one", "double")
    lane = out.at("%lanes.place", out.named("%j") - out.named("%first"), "double")
    total = out.value(f"load double, ptr {lane}", "double") + y * y
    out.line(f"store double {total}, ptr {lane}")
    out.line("%j.next = add nsw i64 %j, 1")
    out.line(f"%j.more = icmp slt i64 %j.next, {stop}")
    out.line("br i1 %j.more, label %tail, label %sum")

    out.label("sum")
    partials = out.value(f"load {wide}, ptr %lanes.place", "double", PARTIALS)
    call = f"call double @llvm.vector.reduce.fadd.v{PARTIALS}f64(double -0.0, {partials.type} {partials})"
    out.line(f"store double {out.value(call, 'double')}, ptr {out.at(sums, '%b', 'double')}")
    out.line("%b.next = add nsw i64 %b, 1")
    out.line("%b.more = icmp slt i64 %b.next, %high")
    out.line("br i1 %b.more, label %block, label %next")
    return frame(out, machine, scratch=f"%lanes.place = alloca {wide}")


def _double(x: Value) -> Value:
    return x if x.kind == "double" else x.cast("fpext", "double")
