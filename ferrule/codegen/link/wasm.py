"""A WebAssembly module from objects, by `wasm-ld` of LLVM's linker lld, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferrule.base.errors import CompileError

LINKER = "wasm-ld"
_STACK = 1 << 20  # bytes; programs keep small buffers there


def command(objects: Sequence[str], exports: Sequence[str], out: str) -> list[str]:
    """What links objects into a module which has its own memory and imports nothing."""
    named = [f"--export={name}" for name in exports]
    return [LINKER, "--no-entry", "-z", f"stack-size={_STACK}", *named, *objects, "-o", out]


def is_installed() -> bool:
    """Whether the linker can be run."""
    return shutil.which(LINKER) is not None


def linked(objects: Mapping[str, bytes], exports: Sequence[str]) -> bytes:
    """The module of these objects, by name. Raises CompileError where the linker refuses them."""
    with tempfile.TemporaryDirectory() as folder:
        for name, code in objects.items():
            (Path(folder) / name).write_bytes(code)
        words = command(list(objects), exports, "out.wasm")
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if done.returncode:
            raise CompileError(f"{LINKER} failed: {done.stderr.strip()}")
        return (Path(folder) / "out.wasm").read_bytes()
