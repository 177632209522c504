"""A bundle's shared library, called as a C program calls it, by ctypes.

    library = CLibrary(folder)
    model = library.create()
    outputs = library.run(model, [x])            or raises Failed, with the code and the message
"""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.codegen.capi.message import CODES

Array = np.ndarray[Any, Any]
_KINDS = {0: "int", 1: "uint", 2: "float", 4: "uint", 6: "bool"}
OUT_OF = {code: name for name, (code, _) in CODES.items()}


class DLTensor(ctypes.Structure):
    """DLPack's."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class Spec(ctypes.Structure):
    """NAME_spec."""

    _fields_ = (
        ("name", ctypes.c_char_p),
        ("text", ctypes.c_char_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("order", ctypes.POINTER(ctypes.c_int64)),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
    )

    @property
    def dtype(self) -> np.dtype[Any]:
        kind = _KINDS[self.code]
        return np.dtype(kind if kind == "bool" else f"{kind}{self.bits}")


PARALLEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p
)
KERNEL = ctypes.CFUNCTYPE(
    None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64
)


class Options(ctypes.Structure):
    """NAME_options."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("threads", ctypes.c_int32),
        ("parallel", PARALLEL),
        ("user", ctypes.c_void_p),
    )


class Failed(Exception):
    """A function gave a code other than 0. `name` is the code's in the header, less its prefix."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{OUT_OF[code]}: {message}")
        self.name, self.message = OUT_OF[code], message


def sizes(values: Sequence[int]) -> Any:
    return (ctypes.c_int64 * max(1, len(values)))(*values)


def tensor(x: Array, strides: bool = False) -> DLTensor:
    """An array as it lies; with `strides`, or where it is not row-major, these are given."""
    codes = {"i": 0, "u": 1, "f": 2, "b": 6}
    t = DLTensor(x.ctypes.data, 1, 0, x.ndim, codes[x.dtype.kind], 8 * x.itemsize, 1)
    t.shape = sizes(x.shape)
    if strides or not x.flags.c_contiguous:
        t.strides = sizes([s // x.itemsize for s in x.strides])
    return t


def tensors(some: Sequence[DLTensor]) -> Any:
    return (DLTensor * max(1, len(some)))(*some)


class CLibrary:
    """The functions of a bundle in `folder`; `prefix` is that of one of several functions."""

    def __init__(self, folder: Path, prefix: str = "") -> None:
        self.name = folder.name
        self.library = ctypes.CDLL(str(folder / f"lib{self.name}.so"))
        self.weights = folder / f"{self.name}.safetensors"
        self.prefix = prefix or self.name

    def call(self, function: str, result: Any, *args: Any) -> Any:
        f = self.library[function]
        f.restype = result
        return f(*args)

    def check(self, function: str, *args: Any) -> None:
        code = self.call(function, ctypes.c_int, *args)
        if code:
            assert self.call(f"{self.name}_error", ctypes.c_char_p, code)
            raise Failed(code, self.call(f"{self.name}_message", ctypes.c_char_p).decode())

    def create(self, weights: Any = "", options: Options | None = None) -> ctypes.c_void_p:
        """A model; `weights` are a path, or bytes in memory."""
        model = ctypes.c_void_p(1)
        given = None if options is None else ctypes.byref(options)
        try:
            if isinstance(weights, ctypes.Array):
                self.check(f"{self.name}_create_from", weights, ctypes.c_size_t(len(weights)),
                           given, ctypes.byref(model))  # fmt: skip
            else:
                path = None if weights is None else str(weights or self.weights).encode()
                self.check(f"{self.name}_create", path, given, ctypes.byref(model))
        except Failed:
            assert model.value is None
            raise
        return model

    def destroy(self, model: Any) -> None:
        self.call(f"{self.name}_destroy", None, model)

    def level(self, model: Any) -> str:
        return str(self.call(f"{self.name}_level", ctypes.c_char_p, model).decode())

    def specs(self, role: str) -> list[Spec]:
        count = self.call(f"{self.prefix}_{role}s", ctypes.c_int)
        function = f"{self.prefix}_{role}"
        assert not self.call(function, ctypes.POINTER(Spec), count)
        assert not self.call(function, ctypes.POINTER(Spec), -1)
        return [self.call(function, ctypes.POINTER(Spec), i).contents for i in range(count)]

    def shapes(self, inputs: Sequence[DLTensor]) -> list[tuple[int, ...]]:
        outputs = tensors([DLTensor(shape=sizes([-9] * 8)) for _ in self.specs("output")])
        self.check(f"{self.prefix}_output_shapes", tensors(inputs), outputs)
        return [tuple(t.shape[: t.ndim]) for t in outputs]

    def run(self, model: Any, inputs: Sequence[Array]) -> list[Array]:
        """The outputs; bf16 is uint16, as everywhere."""
        given, made = [tensor(x) for x in inputs], []
        self._as_bf16("input", given)
        for spec, shape in zip(self.specs("output"), self.shapes(given)):
            order = spec.order[: spec.ndim] if spec.order else range(spec.ndim)
            whole = np.full([shape[k] for k in order], 0x5A).astype(spec.dtype)
            made.append(whole.transpose(np.argsort(order)) if spec.ndim else whole)
        results = [tensor(x) for x in made]
        self._as_bf16("output", results)
        self.run_on(model, given, results)
        return made

    def _as_bf16(self, role: str, some: Sequence[DLTensor]) -> None:
        for t, spec in zip(some, self.specs(role)):
            t.code = 4 if (t.code, t.bits, spec.code) == (1, 16, 4) else t.code

    def run_on(
        self, model: Any, inputs: Sequence[DLTensor], outputs: Sequence[DLTensor]
    ) -> None:
        self.check(f"{self.prefix}_run", model, tensors(inputs), tensors(outputs))


# ---- the other files of a bundle -----------------------------------------------------------------


def members(file: Path) -> dict[str, bytes]:
    """The objects of a static library, by name."""
    data, at, found = file.read_bytes(), 8, {}
    while at < len(data):
        name, size = data[at : at + 16].decode().strip(), int(data[at + 48 : at + 58])
        if name != "/":
            found[name.removesuffix("/")] = data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2
    return found


def built(folder: Path, name: str, static: bool, *flags: str, source: str = "main.c") -> Path:
    """The example, or another program, compiled by gcc."""
    out = folder / f"{Path(source).stem}-{'static' if static else 'shared'}"
    how = [f"lib{name}.a", "-static"] if static else ["-L.", f"-l{name}", "-Wl,-rpath,$ORIGIN"]
    warnings = ["-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror"]
    command = ["gcc", *warnings, *flags, source, *how, "-pthread", "-o", out.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return out


def outcome(command: list[Any], folder: Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(c) for c in command], cwd=folder, capture_output=True, text=True, timeout=300,
        **options,
    )  # fmt: skip
