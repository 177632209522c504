"""Object code as functions of this process, linked by LLVM."""

from __future__ import annotations

import ctypes
from typing import Any

from ferrule.base.artifact import Compiled
from ferrule.base.elf import undefined_symbols
from ferrule.base.errors import CompileError

_FORMATS = (b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\x64\x86")  # ELF, Mach-O, COFF of x86-64


class Linked:
    """A program's object code linked into this process, freed with this. Raises CompileError where
    it is not for this machine or lacks one of the three functions.
    """

    def __init__(self, compiled: Compiled) -> None:
        import llvmlite.binding as llvm

        code = compiled.object_code
        # LLVM ends the process for code it cannot read and for a missing symbol, so look first.
        if not code.startswith(_FORMATS):
            raise CompileError(f"{compiled.name}: its object code is no object file")
        for symbol in (compiled.entry, compiled.arena_bytes, compiled.prepare):
            if symbol.encode() not in code:
                raise CompileError(f"{compiled.name}: its object code has no function {symbol}")
        _refuse_unknown(compiled)
        llvm.initialize_native_target()  # another process may have compiled the code
        llvm.initialize_native_asmprinter()
        self._object = llvm.ObjectFileRef.from_data(code)
        machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
        # llvmlite's memory manager keeps an object's sections side by side. LLVM's own maps them
        # one by one, and ends the process where two come to lie more than 2 GiB apart. The first
        # makes no room for the addresses of external functions, of which there are none.
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine, True)
        self._engine.add_object_file(self._object)
        self._engine.finalize_object()

    def function(self, symbol: str, result: Any) -> Any:
        """The exported function `symbol` of one pointer, as a foreign function."""
        address = self._engine.get_function_address(symbol)
        return ctypes.CFUNCTYPE(result, ctypes.c_void_p)(address)


def _refuse_unknown(compiled: Compiled) -> None:
    """CompileError where the code calls anything outside of it: it would jump to nowhere."""
    try:
        wanted = undefined_symbols(compiled.object_code)
    except ValueError as error:
        raise CompileError(f"{compiled.name}: {error}") from error
    if wanted:
        calls = ", ".join(wanted)
        raise CompileError(f"{compiled.name}: its code calls {calls}, and has to be whole")
