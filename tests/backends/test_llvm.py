"""The machine code: what it may hold on this processor and on others."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import numpy as np
import pytest

import adamite
from adamite.backends.llvm import machine, step_text
from adamite.backends.llvm.squares import squares_text
from adamite.codegen import compiler
from adamite.graph.lowering import lower
from adamite.rules import RULES
from adamite.storage import BFLOAT16, FLOAT16, FLOAT32, FLOAT64, Layout

FORMATS = (FLOAT16, BFLOAT16, FLOAT32, FLOAT64)
TEXTS = [(name, format) for name in (*RULES, "squares") for format in FORMATS]


def text(name: str, format: object, target: str) -> str:
    if name == "squares":
        return squares_text(format, target)  # type: ignore[arg-type]
    opt = adamite.optimizer(name)(np.zeros(2, format.compute.dtype))  # type: ignore[attr-defined]
    return step_text(lower(opt.update), Layout(format), target)  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "format"), TEXTS)
def test_on_arm_it_is_vectors_without_contraction_or_calls(name: str, format: object) -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    module = llvm.parse_assembly(text(name, format, "aarch64"))
    module.triple = "aarch64-unknown-linux-gnu"
    module.verify()
    target = llvm.Target.from_triple(module.triple).create_target_machine(cpu="generic", opt=3)
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = llvm.create_pass_builder(target, options)
    passes.getModulePassManager().run(module, passes)
    assembly = target.emit_assembly(module)
    assert re.search(r"\bv\d+\.(4s|2d)", assembly)
    assert not re.search(r"\bf(n?m(add|sub)|ml[as])\b", assembly)
    assert not re.search(r"\tbl\t", assembly)
    assert "fpcr" in assembly.lower()


def test_a_kernel_that_calls_out_is_refused() -> None:
    calls = text("adam", FLOAT32, machine()).replace("ret void", "call void @nowhere()\n  ret void")
    with pytest.raises(RuntimeError, match="nowhere"):
        compiler.compile(calls + "declare void @nowhere()\n")


def test_the_loop_that_is_shown_is_the_kernels() -> None:
    compiled = compiler.compile(text("adam", FLOAT32, machine()), assembly=True)
    lines = compiler.loop(compiled.assembly or "")
    assert sum("sqrt" in line for line in lines) == 1 and sum("div" in line for line in lines) == 1
    assert lines[0].endswith(":") and lines[0][:-1] in lines[-1]
