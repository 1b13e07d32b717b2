"""LLVM's text as machine code, compiled in memory by llvmlite."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import re
from typing import Any, NamedTuple

# What a kernel may call: these become instructions, never calls of a library that may be missing.
_INTRINSICS = (
    r"@llvm\.(sqrt|fabs|copysign|is\.fpclass|[us](min|max)|vector\.reduce\.(fadd|add|mul|[us]max)|fshl|assume|prefetch|"
    r"lifetime\.(start|end)|masked\.(load|store)|x86\.sse\.(st|ld)mxcsr|aarch64\.[gs]et\.fpcr)\b"
)


def cpu_name() -> str:
    """LLVM's name of this processor: znver4, skylake-avx512, apple-m1, ..."""
    name: str = _llvm().get_host_cpu_name()
    return name


def processor() -> str:
    """This processor, its operating system, and LLVM's version."""
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
        using = [b for b in closed if any(re.search(register, line) for line in b)]
        if using:
            return max(using, key=len)
    return max(closed or blocks, key=len)


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
        with contextlib.suppress(RuntimeError):  # newer versions do this by themselves
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
