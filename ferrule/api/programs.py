"""ProgramSession: a StableHLO program that is ready to run, with the methods of a session.

    s = ferrule.compile("model.mlir")        # text, a portable artifact, or an export of JAX
    y = s(x)
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.api.saved_model import Saved
from ferrule.api.session import KINDS, InferenceSession, read_model
from ferrule.base import config
from ferrule.base.compiler import Compiler
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Port
from ferrule.frontend.onnx.ports import check_input
from ferrule.frontend.stablehlo.convert import Conversion, convert
from ferrule.frontend.stablehlo.module import Module, TensorType
from ferrule.frontend.stablehlo.read import MAGIC, read
from ferrule.frontend.stablehlo.table import dtype_of, is_complex
from ferrule.ir.source import Given, Made, Source
from ferrule.pipeline.compile import native

Array = np.ndarray[Any, Any]

SUFFIXES = (".mlir", ".mlirbc", ".stablehlo", ".jax")


def is_program(source: Any) -> bool:
    """Whether this is a StableHLO program: a file with one of SUFFIXES, or whose first bytes are
    those of MLIR's bytecode; such bytes; or a Module.
    """
    if isinstance(source, Module):
        return True
    if isinstance(source, bytes):
        return source[:4] == MAGIC or source.lstrip()[:6] in (b"module", b"func.f")
    if not isinstance(source, str | os.PathLike):
        return False
    if Path(source).suffix in SUFFIXES:
        return True
    try:
        with Path(source).open("rb") as file:
            return file.read(4) == MAGIC
    except OSError:
        return False


class ProgramSession(InferenceSession):
    """A StableHLO program.

    `source` is a path, a file's bytes, or a Module of `read`; `entry` the function that is run.
    Inputs are called arg0, arg1, .. in the order of its arguments, outputs result0, result1, ..;
    complex tensors are arrays of complex numbers, bf16 ones arrays of uint16 with the same bits. A
    size that the program leaves open (`?`) may differ from call to call. Raises ParseError for
    malformed programs, and UnsupportedError for what ferrule lacks, with its place.
    """

    def __init__(
        self,
        source: str | bytes | os.PathLike[str] | Module,
        options: Mapping[str, Any] | None = None,
        providers: Any = None,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        compiler: Compiler | None = None,
        entry: str = "main",
    ) -> None:
        started = time.perf_counter()
        if shapes:
            raise InputError("the sizes of a StableHLO program stand in it: `shapes` is for ONNX")
        self._options, self._entry = dict(options or {}), entry
        self.module = source if isinstance(source, Module) else read(source)
        self.conversion: Conversion = convert(self.module, entry)
        with config.override(**self._options):
            own = native(config.settings()) if compiler is None else compiler
            self._program = own.compile(self.conversion.graph)
        params = [np.ascontiguousarray(p) for p in self.conversion.params]
        if params:
            self._program.executable.bind([(p.ctypes.data, p) for p in params])
        self._on_arrays = own.on_arrays(self._program.executable)
        self._of_run = config.of_process(self._options)
        self._inputs = {p.name: p for p in _ports("arg", self.conversion.inputs)}
        self._results = _ports("result", self.conversion.outputs)
        self._outputs = [p.name for p in self._results]
        # arrays that are as they should be go straight to the program, which looks at their shapes
        types = (*self.conversion.inputs, *self.conversion.outputs)
        quick = not self._of_run and not any(map(is_complex, types))
        self._quick = tuple(self._inputs) if quick else ()
        self._kinds = [p.dtype for p in self._inputs.values()]
        self.compile_seconds = time.perf_counter() - started

    def __reduce__(self) -> Any:
        """A copy or a pickle holds the program, which is compiled again where it is read."""
        make = functools.partial(ProgramSession, entry=self._entry)
        return make, (self.module, self._options)

    def get_outputs(self) -> list[Port]:
        """The outputs, each with `name`, `shape` and `type`."""
        return list(self._results)

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
    ) -> list[Any]:
        """The outputs of that names (all of them for None), for inputs by name. Raises InputError
        for inputs that do not fit and for a name that no output has.
        """
        if output_names is None and self._quick:
            plain = tuple([input_feed.get(n) for n in self._quick])
            kinds = [x.dtype if type(x) is np.ndarray else None for x in plain]
            if kinds == self._kinds and len(input_feed) == len(plain):
                return list(self._on_arrays(*plain))
        given = self._given(input_feed)
        with config.override(**self._of_run):
            made = self._on_arrays(*map(_stored, given.values()))
        results = dict(zip(self._outputs, map(_shown, made, self.conversion.outputs), strict=True))
        for name in output_names or ():
            if name not in results:
                known = ", ".join(self._outputs)
                raise InputError(f"the program has no output {name!r}; its outputs are: {known}")
        return [results[name] for name in output_names or self._outputs]

    def source(self, name: str) -> Source:
        """The program as a function to build into an artifact (see `ferrule.save`). Raises
        UnsupportedError where it takes or gives complex numbers.
        """
        found = self.conversion
        if any(is_complex(t) for t in (*found.inputs, *found.outputs)):
            raise UnsupportedError(f"{name} takes or gives complex numbers, which no artifact does")
        params = zip(found.graph.params, found.params, strict=True)
        return Source(
            name, found.graph, tuple(self._inputs), tuple(map(Given, range(len(found.inputs)))),
            tuple(Made(n, i) for i, n in enumerate(self._outputs)),
            tuple((v.name, x) for v, x in params),
        )  # fmt: skip

    def explain(self) -> str:
        """What the program's kernels hold, and what was decided."""
        return str(self._program.explain())

    @property
    def in_numpy(self) -> tuple[str, ...]:
        """Nothing: the whole program is compiled."""
        return ()

    @property
    def executables(self) -> tuple[Any, ...]:
        """The program, loaded."""
        return (self._program.executable,)

    @property
    def kernels(self) -> int:
        """How many kernels the program has."""
        return int(self._program.kernels)

    def _given(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        strange = [n for n in feed if n not in self._inputs]
        if strange:
            known = ", ".join(self._inputs) or "none"
            raise InputError(f"the program has no input {strange[0]!r}; its inputs are: {known}")
        out: dict[str, Any] = {}
        for name, port in self._inputs.items():
            if name not in feed:
                raise InputError(f"the input {name!r} ({port.type}) is missing")
            x = feed[name]
            bits = getattr(getattr(x, "dtype", None), "name", "") == "bfloat16"
            out[name] = check_input(port, x.view(np.uint16) if bits else x)
        return out


KINDS.append((is_program, ProgramSession))


def described(source: Any) -> Described:
    """A model that is read, with what it takes and gives, and not yet compiled. Raises what
    InferenceSession raises.
    """
    if not is_program(source):
        model = read_model(source)
        own = model if isinstance(model, Saved) else model.body
        return Described(model, tuple(own.inputs), tuple(own.outputs))
    module = read(source)
    f = module.functions.get("main")
    types = () if f is None else tuple(v.type for v in f.body.arguments)
    given = [t for t in types if isinstance(t, TensorType)]
    made = [t for t in (() if f is None else f.results) if isinstance(t, TensorType)]
    return Described(module, _ports("arg", given), _ports("result", made))


@dataclass(frozen=True)
class Described:
    """What an InferenceSession is made of, a Model, Saved or Module; its inputs and outputs."""

    model: Any
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def _ports(stem: str, types: Sequence[TensorType]) -> tuple[Port, ...]:
    return tuple(_port(f"{stem}{i}", t) for i, t in enumerate(types))


def _port(name: str, t: TensorType) -> Port:
    dtype = np.dtype(f"c{2 * dtype_of(t).size}") if is_complex(t) else dtype_of(t).numpy
    return Port(name, "tensor", dtype, t.shape)


def _stored(x: Array) -> Array:
    """An argument as the graph takes it: complex numbers as pairs."""
    if x.dtype.kind != "c":
        return x
    return np.stack([x.real, x.imag], -1)


def _shown(y: Array, t: TensorType) -> Array:
    """A result of the graph as the program means it."""
    if not is_complex(t):
        return y
    return np.ascontiguousarray(y).view(np.dtype(f"c{2 * y.dtype.itemsize}"))[..., 0]
