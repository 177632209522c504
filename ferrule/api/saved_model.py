"""TensorFlow's SavedModels and TensorFlow Lite's files as an `InferenceSession` runs them, without
TensorFlow.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.compiler import Compiler
from ferrule.base.dtype import DType, bf16
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array, Port
from ferrule.frontend.onnx.place import Direct
from ferrule.frontend.onnx.ports import fixed_ports
from ferrule.frontend.onnx.table import numpy_of
from ferrule.frontend.tensorflow import model as tensorflow
from ferrule.frontend.tensorflow.checkpoint import Checkpoint, read_checkpoint
from ferrule.frontend.tensorflow.convert import Conversion, convert
from ferrule.frontend.tensorflow.live import captured
from ferrule.frontend.tensorflow.read import is_saved_model, read_saved_model
from ferrule.frontend.tflite.program import program_of
from ferrule.frontend.tflite.read import is_lite, read_lite
from ferrule.frontend.tflite.rules import LITE
from ferrule.ir.graph import Value
from ferrule.ir.source import Given, Made, Source

SERVING = "serving_default"


@dataclass(frozen=True, eq=False)
class Saved:
    """The program of a SavedModel or a TensorFlow Lite file, one of its signatures, and the arrays
    of variables by the node that makes each, as far as they were read.
    """

    program: tensorflow.SavedModel
    signature: tensorflow.Signature
    name: str
    checkpoint: Checkpoint | None = None
    arrays: dict[str, Array] = field(default_factory=dict)

    def __reduce__(self) -> Any:
        """A copy or a pickle holds the arrays, and not the place of the files."""
        return Saved, (self.program, self.signature, self.name, None, dict(self.arrays))

    @property
    def inputs(self) -> tuple[Port, ...]:
        """The inputs as they are declared."""
        return tuple(map(_port, self.signature.inputs))

    @property
    def outputs(self) -> tuple[Port, ...]:
        """The outputs as they are declared."""
        return tuple(map(_port, self.signature.outputs))

    def array(self, node: str) -> Array:
        """The array of a variable, in storage form."""
        if node not in self.arrays:
            if self.checkpoint is None:
                raise InputError(f"the SavedModel has no variables, and needs {node!r}")
            held = self.checkpoint.array(self.program.keys[node])
            self.arrays[node] = np.asarray(held)
        return self.arrays[node]

    def fixed(self, shapes: Mapping[str, Sequence[int]]) -> Saved:
        """The same for inputs of these shapes, by name."""
        now = {p.name: p.shape for p in fixed_ports(self.inputs, shapes)}
        ports = tuple(
            replace(p, shape=tuple(n if isinstance(n, int) else -1 for n in shape))
            if (shape := now[p.name]) is not None
            else p
            for p in self.signature.inputs
        )
        return replace(self, signature=replace(self.signature, inputs=ports))


def read_saved(
    source: str | bytes | os.PathLike[str], signature: str | None = None
) -> Saved | None:
    """What is in a folder, or in a TensorFlow Lite file or its bytes, with the signature of that
    name, "serving_default" for None; None where it is neither. Raises InputError for a signature
    that it lacks.
    """
    if is_lite(source):
        return _read_lite(source, signature)
    if isinstance(source, bytes) or not is_saved_model(source):
        return None
    folder = Path(source)
    program = read_saved_model(folder)
    chosen = _chosen(program, signature, folder)
    prefix = folder / "variables" / "variables"
    held = read_checkpoint(prefix) if prefix.with_name("variables.index").is_file() else None
    return Saved(program, chosen, _identifier(folder.absolute().name), held)


def _read_lite(source: str | bytes | os.PathLike[str], signature: str | None) -> Saved:
    program = program_of(read_lite(source))
    if isinstance(source, bytes):
        return Saved(program, _chosen(program, signature, "the model"), "main")
    path = Path(source)
    return Saved(program, _chosen(program, signature, path), _identifier(path.stem))


def _chosen(
    program: tensorflow.SavedModel, signature: str | None, source: object
) -> tensorflow.Signature:
    """The signature of that name. Raises InputError."""
    wanted = signature or SERVING
    if signature is None and wanted not in program.signatures:
        own = [n for n, s in program.signatures.items() if s.inputs]
        wanted = own[0] if len(own) == 1 else wanted
    if wanted not in program.signatures:
        known = ", ".join(sorted(program.signatures)) or "none"
        raise InputError(f"{source} has no signature {wanted!r}; it has {known}")
    return program.signatures[wanted]


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name, flags=re.ASCII) or "main"
    return plain if plain[0].isalpha() else f"m{plain}"


def from_live(function: Any, example_inputs: Sequence[Any] = ()) -> Saved:
    """A `tf.function`, a concrete function of one or a Keras model, with the values that its
    variables have now. `example_inputs` tell the shapes and dtypes of arguments where the function
    does not state them. Raises InputError where neither does.
    """
    name, program, arrays = captured(function, tuple(example_inputs))
    return Saved(program, program.signatures[SERVING], _identifier(name), None, dict(arrays))


def _port(p: tensorflow.Port) -> Port:
    shape = None if p.shape is None else tuple(n if n >= 0 else None for n in p.shape)
    return Port(p.name, "tensor", _numpy(p.dtype), shape)


def _numpy(dtype: DType) -> np.dtype[Any]:
    """The NumPy dtype of inputs and outputs. Raises UnsupportedError where the package is missing
    that has it.
    """
    try:
        return numpy_of(dtype)
    except ImportError:
        raise UnsupportedError(
            f"arrays of {dtype.name} need the package ml_dtypes: pip install ml_dtypes"
        ) from None


class SavedRunner:
    """Runs such a model as one program: what an `InferenceSession` asks for."""

    direct: Direct | None = None
    """The last run as one call, where it was no more."""
    in_numpy: tuple[str, ...] = ()

    def __init__(self, saved: Saved, compiler: Compiler) -> None:
        self._conversion: Conversion = convert(
            saved.program, saved.signature, saved.array, saved.name, LITE
        )
        self.inputs = tuple(map(_typed, self._conversion.inputs, self._conversion.graph.inputs))
        self.outputs = tuple(map(_typed, self._conversion.outputs, self._conversion.graph.outputs))
        self.compiled = compiler.compile(self._conversion.graph)
        if self._conversion.params:
            held = [(x.ctypes.data, x) for x in self._conversion.params]
            self.compiled.executable.bind(held)
        self._call = compiler.on_arrays(self.compiled.executable)

    @property
    def programs(self) -> tuple[SavedRunner, ...]:
        """What was compiled."""
        return (self,)

    def __call__(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The outputs by name."""
        found = self._call(*[_stored(given[p.name], p) for p in self.inputs])
        if not any(_is_bf16(p) for p in (*self.inputs, *self.outputs)):
            names = tuple([p.name for p in self.inputs])
            like = tuple([(n, given[n].shape, given[n].dtype) for n in names])
            self.direct = Direct(like, names, self._call, tuple(range(len(found))))
        return {p.name: x.view(p.dtype) for p, x in zip(self.outputs, found)}

    def source(self, name: str) -> Source:
        """The program as a function that is built without this process."""
        made = self._conversion
        params = zip(made.graph.params, made.params, strict=True)
        return Source(
            name, made.graph, tuple(p.name for p in self.inputs),
            tuple(Given(k) for k in range(len(self.inputs))),
            tuple(Made(p.name, k) for k, p in enumerate(self.outputs)),
            tuple((v.name, x) for v, x in params),
        )  # fmt: skip


def _is_bf16(port: Port) -> bool:
    return port.dtype is not None and port.dtype.name == "bfloat16"


def _stored(x: Array, port: Port) -> Array:
    return x.view(bf16.numpy) if _is_bf16(port) else x


def _typed(port: tensorflow.Port, v: Value) -> Port:
    """A port with the sizes that the graph found: a name for each that is open."""
    shape = tuple(n.value if n.is_const else str(n) if n.op == "dim" else None for n in v.shape)
    return Port(port.name, "tensor", _numpy(v.dtype), shape)
