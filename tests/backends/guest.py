"""Kernels for another processor, run by qemu-user: programs without a library, in memory whose places are chosen here.

A program is one ELF segment: its head, the kernels, a table of calls, and all that jobs point to. It makes the calls,
writes the whole segment to its output, and ends.
"""

from __future__ import annotations

import ctypes
import platform
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest

from adamite.codegen.job import HEADER, ROWS
from tests.support import PATIENCE, Array

BASE = 0x10000000  # of the segment
HEAD = 64 + 56  # bytes: ELF's header, and one for the segment
ALLOCATED, RELOCATIONS = 2, 4  # ELF's flag of a section that lies in memory, and its kind of section


PROCESSORS = "generic", "neoverse-v1"  # as LLVM calls them: vectors of 128 bits, and scalable ones
MACHINE, TRIPLE, EMULATOR, ELF_MACHINE = "aarch64", "aarch64-unknown-linux-gnu", "qemu-aarch64", 183

# Linux's calls, to which x8 says which: write, and exit. LLVM has no assembler for other machines here.
WRITE = struct.pack("<3I", 0xD2800000 | 64 << 5 | 8, 0xD4000001, 0xD65F03C0)  # mov x8, 64; svc 0; ret
EXIT = struct.pack("<2I", 0xD2800000 | 93 << 5 | 8, 0xD4000001)

# Calls all kernels in the table, writes, and ends.
START = """
define void @_start() noreturn nounwind {{
  br label %next
next:
  %entry = phi ptr [ inttoptr (i64 {table} to ptr), %0 ], [ %following, %call ]
  %code = load ptr, ptr %entry
  %end = icmp eq ptr %code, null
  br i1 %end, label %write, label %call
call:
  %job.place = getelementptr ptr, ptr %entry, i64 1
  %job = load ptr, ptr %job.place
  call void %code(ptr %job)
  %following = getelementptr ptr, ptr %entry, i64 2
  br label %next
write:
  %from = phi i64 [ {begin}, %next ], [ %from.next, %write ]
  %left = sub i64 {end}, %from
  %written = call i64 inttoptr (i64 {write} to ptr) (i64 1, i64 %from, i64 %left)
  %from.next = add i64 %from, %written
  %more = icmp slt i64 %from.next, {end}
  br i1 %more, label %write, label %exit
exit:
  call void inttoptr (i64 {exit} to ptr) (i64 0)
  unreachable
}}
"""


def emulator() -> list[str]:
    """How programs are run: as they are where this is such a processor, else by qemu; skips where there is none."""
    if platform.machine() in ("aarch64", "arm64") and platform.system() == "Linux":
        return []
    emulator = shutil.which(EMULATOR) or shutil.which(f"{EMULATOR}-static")
    if emulator is None:
        pytest.skip(f"no {EMULATOR} here: apt-get install qemu-user")
    return [emulator]


def compiled(text: str, processor: str) -> bytes:
    """An object file."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(text)
    module.triple = TRIPLE
    module.verify()
    target = llvm.Target.from_triple(TRIPLE).create_target_machine(
        cpu=processor, opt=3, reloc="static", codemodel="small"
    )
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    return bytes(target.emit_object(module))


class Section(NamedTuple):
    """A section's heading in an object file."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    info: int
    alignment: int
    entry: int


def linked(content: bytes, at: int) -> bytes:
    """The code of an object file, and the constants behind it, as they lie at an address."""
    (headings,), (count,) = struct.unpack_from("<Q", content, 40), struct.unpack_from("<H", content, 60)
    sections = [Section(*struct.unpack_from("<IIQQQQIIQQ", content, headings + 64 * k)) for k in range(count)]
    made, places = bytearray(), dict[int, int]()
    for number, section in enumerate(sections):
        if section.flags & ALLOCATED:
            made += bytes(-len(made) % section.alignment)
            places[number] = len(made)
            made += content[section.offset : section.offset + section.size]
    for section in sections:
        for begin in range(section.offset, section.offset + section.size, 24) if section.kind == RELOCATIONS else ():
            offset, kind, symbol, more = struct.unpack_from("<QIIq", content, begin)
            where, value = struct.unpack_from("<6xHQ", content, sections[section.link].offset + 24 * symbol)
            place = places[section.info] + offset
            (word,) = struct.unpack_from("<I", made, place)
            word |= RELOCATE[kind](at + places[where] + value + more, at + place)
            struct.pack_into("<I", made, place, word)
    return bytes(made)


def _page(target: int, place: int) -> int:
    pages = (target >> 12) - (place >> 12)
    return (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5


# The bits of an instruction that say where a constant is: its page (R_AARCH64_ADR_PREL_PG_HI21), and where in that, by
# 16 bytes (R_AARCH64_LDST128_ABS_LO12_NC). Others don't occur.
RELOCATE: dict[int, Callable[[int, int], int]] = {275: _page, 299: lambda target, _: (target & 0xFFF) >> 4 << 10}


class Program:
    """Calls of kernels, collected and then run at once. The arrays that it is given are changed by `run` alone."""

    def __init__(self, processor: str) -> None:
        self.processor, self.emulator = processor, emulator()
        self.segment = bytearray(HEAD)
        self.arrays: dict[int, tuple[int, Array]] = {}  # where each lies, by where it lies here
        self.calls: list[tuple[int, int]] = []

    def _add(self, content: bytes) -> int:
        """Where it lies."""
        self.segment += bytes(-len(self.segment) % 64)
        self.segment += content
        return BASE + len(self.segment) - len(content)

    def _code(self, text: str) -> int:
        """Where a kernel begins."""
        self.segment += bytes(-len(self.segment) % 64)
        return self._add(linked(compiled(text, self.processor), BASE + len(self.segment)))

    def place(self, array: Array) -> int:
        """Where an array will lie, whose content counts when the program runs."""
        placed = self.arrays.get(array.ctypes.data)
        if placed is None or placed[1] is not array:
            placed = self.arrays[array.ctypes.data] = self._add(bytes(max(1, array.nbytes))), array
        return placed[0]

    def kernel(self, text: str, columns: int) -> Callable[[int], None]:
        """A function of a job's address, which has it done when the program runs; its cells are places in there."""
        code = self._code(text)

        def call(address: int) -> None:
            rows = ctypes.c_int64.from_address(address + 8 * ROWS).value
            self.calls.append((code, self._add(ctypes.string_at(address, 8 * (HEADER + rows * columns)))))

        return call

    def run(self, folder: Path) -> None:
        """Do all calls, in the order in which they were made."""
        for place, array in self.arrays.values():
            self.segment[place - BASE : place - BASE + array.nbytes] = array.tobytes()
        table = self._add(b"".join(struct.pack("<QQ", *call) for call in self.calls) + bytes(8))
        write, leave = self._add(WRITE), self._add(EXIT)
        entry = self._code(START.format(table=table, begin=BASE, end=table, write=write, exit=leave))
        size = len(self.segment)
        kind = 2, ELF_MACHINE, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0  # a program, whose one segment's heading follows
        self.segment[:HEAD] = (
            b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
            + struct.pack("<HHIQQQIHHHHHH", *kind)
            + struct.pack("<IIQQQQQQ", 1, 7, 0, BASE, BASE, size, size, 4096)
        )
        file = folder / "program"
        file.write_bytes(self.segment)
        file.chmod(0o700)
        answer = subprocess.run(
            [*self.emulator, str(file)], stdout=subprocess.PIPE, check=True, timeout=PATIENCE
        ).stdout
        for place, array in self.arrays.values():
            content = answer[place - BASE : place - BASE + array.nbytes]
            array[...] = np.frombuffer(content, array.dtype).reshape(array.shape)
