"""LLVM IR that serves every program, compiled into this process for as long as it lives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def addresses(text: str, names: Sequence[str], externals: Mapping[str, int]) -> list[int]:
    """The addresses of the functions `names` of a module of LLVM IR, which may refer to the symbols
    `externals`.
    """
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    llvm.initialize_native_asmparser()  # of what is written as assembly
    for name, address in externals.items():
        llvm.add_symbol(name, address)
    module = llvm.parse_assembly(text)
    machine = llvm.Target.from_default_triple().create_target_machine(opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    found = [engine.get_function_address(name) for name in names]
    engine.detach()  # never freed: threads may run this code until the process ends
    return found
