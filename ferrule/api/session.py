"""InferenceSession: an ONNX model, a SavedModel, or a TensorFlow Lite file, as ONNX Runtime's
users know it.

s = ferrule.InferenceSession("model.onnx")
(y,) = s.run(None, {"x": x})
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ferrule.api.artifacts import bundle, save
from ferrule.api.saved_model import Saved, SavedRunner, read_saved
from ferrule.api.stablehlo import stablehlo
from ferrule.base import config
from ferrule.base.compiler import Compiler
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx import table as onnx_table
from ferrule.frontend.onnx.load import load_model
from ferrule.frontend.onnx.model import Model, Port, walk_ops
from ferrule.frontend.onnx.operators import known
from ferrule.frontend.onnx.ports import check_input, fixed_ports
from ferrule.frontend.onnx.qdq import fuse
from ferrule.frontend.onnx.run import Runner
from ferrule.ir.source import Source
from ferrule.pipeline.compile import native

KINDS: list[tuple[Callable[[Any], bool], type[InferenceSession]]] = []
"""Other kinds of sessions, each with what tells the sources that it is for."""


class InferenceSession:
    """A model that is ready to run.

    `source` is a path, a file's bytes, an `onnx.ModelProto`, or what `read_model` gave; a folder is
    a SavedModel of TensorFlow, of which `signature` is run, as it is of a TensorFlow Lite file.
    `options` are settings of ferrule; `providers`, which ONNX Runtime asks for, has no meaning
    here; `compiler` compiles its graphs. A model with symbolic dims is compiled once for all their
    values where its shapes follow from its inputs'; else, if it is an ONNX model, it is compiled
    for the shapes of a run, and that is kept.
    `shapes` fixes inputs' shapes, by name: the code is made for these sizes, and others are
    refused. Raises ParseError and InputError for malformed models, UnsupportedError for
    operators that ferrule lacks.

    A StableHLO program (`.mlir`, `.mlirbc`, an export of JAX) makes a `ProgramSession`.
    """

    def __new__(cls, source: Any = None, *args: Any, **kwargs: Any) -> Any:
        """A StableHLO program has a session of its own kind (`ferrule.api.programs`)."""
        kinds = (kind for accepts, kind in KINDS if accepts(source))
        return super().__new__(next(kinds, cls))

    def __init__(
        self,
        source: str | bytes | os.PathLike[str] | Any,
        options: Mapping[str, Any] | None = None,
        providers: Any = None,
        *,
        shapes: Mapping[str, Sequence[int]] | None = None,
        compiler: Compiler | None = None,
        signature: str | None = None,
    ) -> None:
        started = time.perf_counter()
        self._options = dict(options or {})
        read = isinstance(source, Model | Saved)
        self.model = _fixed(source if read else read_model(source, signature), shapes or {})
        with config.override(**self._options):
            own = native(config.settings()) if compiler is None else compiler
            self._runner = _runner(self.model, own)
        self._of_run = config.of_process(self._options)
        inputs, self._ports = _ports(self.model, self._runner)
        self._inputs = {p.name: p for p in inputs}
        self._outputs = [p.name for p in self._ports]
        self.compile_seconds = time.perf_counter() - started

    def __reduce__(self) -> Any:
        """A copy or a pickle holds the model, which is compiled again where it is read."""
        return InferenceSession, (self.model, self._options)

    def get_inputs(self) -> list[Port]:
        """The inputs, each with `name`, `shape` and `type`."""
        return list(self._inputs.values())

    def get_outputs(self) -> list[Port]:
        """The outputs, each with `name`, `shape` and `type`."""
        return list(self._ports)

    def get_providers(self) -> list[str]:
        """What the model runs on."""
        return ["FerruleExecutionProvider"]

    def run(
        self,
        output_names: Sequence[str] | None,
        input_feed: Mapping[str, Any],
        run_options: Any = None,
    ) -> list[Any]:
        """The outputs of that names (all of them for None), for inputs by name.

        Tensors are NumPy arrays, sequences lists of these. Raises InputError for inputs that do not
        fit and for a name that no output has.
        """
        direct = self._runner.direct
        if direct is not None and output_names is None and not self._of_run:
            found = direct(input_feed)
            if found is not None:
                return found
        names = self._outputs if output_names is None else list(output_names)
        for name in names:
            if name not in self._outputs:
                raise InputError(
                    f"the model has no output {name!r}; its outputs are: {', '.join(self._outputs)}"
                )
        given = self._given(input_feed)
        if self._of_run:
            with config.override(**self._of_run):
                env = self._runner(given)
        else:
            env = self._runner(given)
        own = [env[name] for name in names]
        return [x.copy() if any(x is v for v in given.values()) else x for x in own]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The outputs for inputs in order or by name: one array, or a tuple of several."""
        names = list(self._inputs)
        if len(args) > len(names):
            raise InputError(f"the model takes {len(names)} inputs, not {len(args)}")
        out = self.run(None, {**dict(zip(names, args)), **kwargs})
        return out[0] if len(out) == 1 else tuple(out)

    def source(self, name: str) -> Source:
        """The model as a function to build into an artifact (see `ferrule.save`)."""
        return self._runner.source(name)

    def save(
        self,
        path: str | os.PathLike[str],
        targets: Sequence[str] = (),
        *,
        packed: bool = False,
        sign: str | os.PathLike[str] | None = None,
    ) -> None:
        """Builds the model into an artifact, as `ferrule.save` does."""
        save(path, self, targets, options=self._options, packed=packed, sign=sign)

    def bundle(self, folder: str | os.PathLike[str], targets: Sequence[str] = ()) -> None:
        """Writes the model as a C library, as `ferrule.bundle` does."""
        bundle(folder, self, targets, options=self._options)

    def stablehlo(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
    ) -> str:
        """The model as StableHLO text, with its weights as constants, or in the file `weights`
        (safetensors) and as arguments behind the inputs. `sizes` are numbers for the symbolic
        sizes. Raises what `ferrule.api.stablehlo.stablehlo` raises.
        """
        return stablehlo(self, sizes, weights=weights)

    def explain(self) -> str:
        """The kernels of each program compiled so far, and the operators that ran in NumPy."""
        parts = [p.compiled.explain() for p in self._runner.programs]
        if self.in_numpy:
            parts.append(f"in NumPy: {', '.join(self.in_numpy)}")
        return "\n\n".join(parts)

    @property
    def in_numpy(self) -> tuple[str, ...]:
        """The operators that ran in NumPy so far, outside of compiled code."""
        return self._runner.in_numpy

    @property
    def executables(self) -> tuple[Any, ...]:
        """The programs compiled and loaded so far."""
        return tuple(p.compiled.executable for p in self._runner.programs)

    @property
    def kernels(self) -> int:
        """How many kernels the programs compiled so far have."""
        return sum(p.compiled.kernels for p in self._runner.programs)

    def _given(self, feed: Mapping[str, Any]) -> dict[str, Any]:
        strange = [n for n in feed if n not in self._inputs]
        if strange:
            raise InputError(
                f"the model has no input {strange[0]!r}; its inputs are: {', '.join(self._inputs)}"
            )
        out: dict[str, Any] = {}
        for name, port in self._inputs.items():
            if name not in feed and port.kind != "optional":
                raise InputError(f"the input {name!r} ({port.type}) is missing")
            out[name] = check_input(port, feed.get(name))
        return out


def _fixed(model: Any, shapes: Mapping[str, Sequence[int]]) -> Model | Saved:
    """A model for inputs of these shapes."""
    if isinstance(model, Saved):
        return model.fixed(shapes)
    inputs = fixed_ports(model.body.inputs, shapes)
    return replace(model, body=replace(model.body, inputs=inputs))


def _runner(model: Model | Saved, compiler: Compiler) -> Runner | SavedRunner:
    if isinstance(model, Saved):
        return SavedRunner(model, compiler)
    return Runner(fuse(model.body), compiler, ahead=True)


def _ports(model: Any, runner: Runner | SavedRunner) -> tuple[Sequence[Port], Sequence[Port]]:
    """The inputs and outputs of a model."""
    if isinstance(runner, SavedRunner):
        return runner.inputs, runner.outputs
    return model.body.inputs, model.body.outputs


def read_model(source: Any, signature: str | None = None) -> Model | Saved:
    """A model whose operators are all known, or the SavedModel in a folder or the TensorFlow Lite
    file with a signature of it.
    Raises UnsupportedError that names operators that are not known, and what `load_model` and
    `read_saved` raise.
    """
    is_file = isinstance(source, str | bytes | os.PathLike)
    saved = read_saved(source, signature) if is_file else None
    if saved is not None:
        return saved
    return read_onnx(source)


def read_onnx(source: Any) -> Model:
    """An ONNX model whose operators are all known. Raises as `read_model` does."""
    model = load_model(source, known)
    missing = {
        f"{op.title} (version {op.version})"
        for op in walk_ops(model.body)
        if not known(op.domain, op.type, op.version)
    }
    if missing:
        raise UnsupportedError(
            f"ferrule has no meaning for {', '.join(sorted(missing))}; register a builder with "
            "ferrule.api.session.custom_operator"
        )
    return model


def custom_operator(
    domain: str, name: str, since: int = 1, static: Sequence[int] = ()
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a builder for an operator of your own; a decorator.

        @custom_operator("my.domain", "Scale")
        def scale(cx, x):
            return ferrule.ops.mul(cx.b, x, cx.float("factor"))

    It is called as `builder(cx, *operands)` with Values (see `ferrule.frontend.onnx.table`), those
    at the positions `static` as arrays, and returns a Value or a tuple of them.
    """
    return onnx_table.onnx(name, domain=domain, since=since, static=static)
