"""Generated Triton modules, run in Triton's CPU interpreter or compiled for a GPU that need not be
there, each in a process of its own: Triton reads TRITON_INTERPRET when it is imported.
"""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def start(interpret: bool, cache: str) -> None:
    """What the process does first."""
    os.environ["TRITON_INTERPRET"] = "1" if interpret else "0"
    os.environ["TRITON_CACHE_DIR"] = cache


def module_at(path: str) -> ModuleType:
    """The generated module in a file."""
    spec = importlib.util.spec_from_file_location("generated", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def launch(path: str, arrays: list[tuple[Array, str]], dims: list[int]) -> list[Array]:
    """The arrays (with the names of their dtypes) after `launch` of the module at `path`."""
    import torch

    module = module_at(path)
    tensors = [torch.from_numpy(a.copy()) for a, _ in arrays]
    views = [
        t.view(torch.bfloat16) if name == "bf16" else t
        for t, (_, name) in zip(tensors, arrays, strict=True)
    ]
    with np.errstate(all="ignore"):
        module.launch(*views, *dims)
    return [t.numpy() for t in tensors]


def gpu_code(path: str, function: str, dtypes: list[str], block: int, whole: bool) -> str:
    """The PTX of a generated kernel for an NVIDIA GPU of compute capability 9.0, with every block
    size `block`; `dtypes` are those of its buffers.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = getattr(module_at(path), function)
    sizes = {n: whole if n.startswith("WHOLE") else block for n in kernel.arg_names if n.isupper()}
    pointers = [f"*{_POINTERS.get(d, d)}" for d in dtypes]
    dims = ["i64"] * (len(kernel.arg_names) - len(sizes) - len(dtypes))
    kinds = [*pointers, *dims, *["constexpr"] * len(sizes)]
    signature = dict(zip(kernel.arg_names, kinds, strict=True))
    source = ASTSource(fn=kernel, signature=signature, constexprs=sizes)
    return str(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])


_POINTERS = {"f16": "fp16", "bf16": "bf16", "f32": "fp32", "f64": "fp64", "bool": "i1"}
