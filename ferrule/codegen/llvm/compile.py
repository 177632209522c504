"""LLVM text to object code or assembly, by llvmlite.

The text has explicit vectors and no redundant code, so a short pass list does: `sroa` puts
register buffers into SSA values, `instcombine` picks canonical forms that instruction selection
knows, `simplifycfg` and `dce` clear up. No vectoriser runs.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import llvmlite.binding as llvm

from ferrule.base.errors import CompileError
from ferrule.target.cpu import Target


@cache
def _initialized() -> None:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()


def target_machine(target: Target) -> Any:
    """LLVM's description of the target; code is position independent. A new one each time: LLVM
    remembers in it which variables were to be kept, by addresses that it uses again, so that the
    object of a module would depend on those before it.
    """
    _initialized()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=2, reloc="pic", codemodel="default"
    )


def optimized(text: str, target: Target) -> Any:
    """The parsed module after the passes. Raises CompileError with LLVM's message when the text is
    malformed.
    """
    machine = target_machine(target)
    try:
        # In a context of its own, which is freed with the module: LLVM's global one only grows.
        module = llvm.parse_assembly(text, context=llvm.create_context())
        module.verify()
    except RuntimeError as error:
        raise CompileError(f"generated LLVM text is not valid: {error}") from error
    module.triple = target.triple
    module.data_layout = str(machine.target_data)
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    passes.add_sroa_pass()
    passes.add_simplify_cfg_pass()
    passes.add_instruction_combine_pass()
    passes.add_dead_code_elimination_pass()
    passes.run(module, builder)
    return module


def compile_module(text: str, target: Target) -> bytes:
    """The object file of a module."""
    return bytes(target_machine(target).emit_object(optimized(text, target)))


def assembly(text: str, target: Target) -> str:
    """The assembly of a module, to be read."""
    return str(target_machine(target).emit_assembly(optimized(text, target)))
