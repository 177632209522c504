"""What users call: the frontends joined with the compiler."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.api import versions
from ferrule.api.artifacts import bundle, save
from ferrule.api.stablehlo import stablehlo
from ferrule.api.tuning import compiler
from ferrule.base import config
from ferrule.base.compiler import Compiler, Writers
from ferrule.base.config import Settings
from ferrule.base.errors import InputError
from ferrule.frontend.tensorflow.live import is_live


def compile(
    module: Any,
    example_inputs: Sequence[Any] = (),
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    tune: Any = None,
    reference: Any = None,
) -> Any:
    """Compile a `torch.nn.Module`, an `ExportedProgram`, an ONNX model, a StableHLO program, a
    SavedModel or a TensorFlow Lite file.

    `example_inputs` are the positional arguments of one call and `example_kwargs` those by name,
    tensors in any nesting of tuples, lists and dicts; `dynamic_shapes` marks sizes that
    vary, as in `torch.export.export`. `options` are settings for this compilation. The result is
    called as the module; it has `explain()`, `kernels` and `compile_seconds`. Operators that
    ferrule lacks run in PyTorch, with a warning that names them.

    The result reads the module's own parameters and buffers: it follows what is written into them,
    and those that are replaced, by `load_state_dict(assign=True)`, an assignment or another layer
    of the same kind; a layer of another kind raises InputError. Attributes that are plain tensors
    or numbers stay as they were, and so do parameters that are set to None or
    deleted. A deep copy or a pickle has weights of its own.

    `tune` measures schedules for the matrix products, convolutions and attention before compiling:
    True, a number of trials for each operator, or `{"trials": .., "seconds": ..}`, the seconds for
    all together. What is found is kept (`ferrule.api.tuning`), so that later compilations use it at
    once. Ctrl-C ends the tuning early, and the compilation goes on with what was found.

    `reference` is a function of the same arguments, or True for the module itself: what the model
    is measured beside on its first calls, and which runs in its place where it is faster
    (`ferrule.api.guard` has the rule). Those calls run both, and return what was compiled. It runs
    without gradients, must not write into its arguments, and must give what the module gives. The
    option `guard_speed` is `reference=True`. With the option `background` calls run in PyTorch, or
    in `reference`, until the model is compiled by another process; `explain()` and the like wait.

    An ONNX model is a path, a file's bytes or an `onnx.ModelProto`, and the result an
    `InferenceSession`; what varies in size is stated in the model. A StableHLO program is the path
    or the bytes of its text, of a portable artifact or of an export of JAX, and the result a
    `ferrule.api.programs.ProgramSession`. Of the path of a folder with a SavedModel the signature
    "serving_default" is compiled, and so of a TensorFlow Lite file (a path, or its bytes);
    TensorFlow is not needed. A `tf.function` and a Keras model on TensorFlow are compiled with the
    values that their variables have now; `example_inputs` are needed where they do not state the
    types of their arguments.
    """
    live = is_live(module)
    if live:
        from ferrule.api.saved_model import from_live

        module = from_live(module, example_inputs)
    is_file = isinstance(module, str | bytes | os.PathLike)
    if live or is_file or type(module).__name__ == "ModelProto":
        from ferrule.api.programs import InferenceSession

        settings = config.settings(**(options or {}))
        given = _compiler(tune, settings)
        make = functools.partial(InferenceSession, module, options, compiler=given)
        return versions.session(make, reference, settings)
    from ferrule.frontend.torch.module import trace_module

    with config.override(**(options or {})):
        settings = config.settings()
        traced = trace_module(
            module,
            tuple(example_inputs),
            dict(example_kwargs or {}),
            dynamic_shapes,
            _compiler(tune, settings),
            functools.partial(_compile_saved, {**(options or {}), **_AT_ONCE}),
            Writers(
                functools.partial(save, options=options),
                functools.partial(bundle, options=options),
                stablehlo,
            ),
        )
        return versions.module(traced, reference, settings)


_AT_ONCE = {"guard_speed": False, "background": False}


def _compiler(tune: Any, settings: Settings) -> Compiler:
    """What compiles. Raises InputError for a tuning in the background."""
    if tune and settings.background:
        raise InputError("tune measures, which it cannot do in the background: use one of the two")
    return compiler(tune, settings) if tune else versions.compiler(settings)


def _compile_saved(options: dict[str, Any], saved: bytes) -> Any:
    """The bytes of a saved ExportedProgram, compiled."""
    import torch

    from ferrule.api.operators import know_all_in_torch

    know_all_in_torch()
    return compile(torch.export.load(io.BytesIO(saved)), options=options)


def torch_backend(gm: Any, example_inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The Dynamo backend "ferrule": what `torch.compile(model, backend="ferrule")` calls."""
    from ferrule.frontend.torch.backend import make_backend

    return make_backend(versions.compiler, versions.arranged)(gm, example_inputs, **kwargs)
