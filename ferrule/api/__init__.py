"""What users call: the frontends joined with the compiler."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.api.artifacts import bundle, save
from ferrule.api.tuning import compiler
from ferrule.base import config
from ferrule.base.compiler import Writers
from ferrule.pipeline.compile import native


def compile(
    module: Any,
    example_inputs: Sequence[Any] = (),
    *,
    example_kwargs: Mapping[str, Any] | None = None,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
    tune: Any = None,
) -> Any:
    """Compile a `torch.nn.Module`, an `ExportedProgram` or an ONNX model for inference.

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

    An ONNX model is a path, a file's bytes or an `onnx.ModelProto`, and the result an
    `InferenceSession`; what varies in size is stated in the model.
    """
    if isinstance(module, str | bytes | os.PathLike) or type(module).__name__ == "ModelProto":
        from ferrule.api.session import InferenceSession

        given = compiler(tune, config.settings(**(options or {})))
        return InferenceSession(module, options, compiler=given)
    from ferrule.frontend.torch.module import compile_module

    with config.override(**(options or {})):
        return compile_module(
            module,
            tuple(example_inputs),
            dict(example_kwargs or {}),
            dynamic_shapes,
            compiler(tune, config.settings()),
            functools.partial(_compile_saved, dict(options or {})),
            Writers(save, bundle),
        )


def _compile_saved(options: dict[str, Any], saved: bytes) -> Any:
    """The bytes of a saved ExportedProgram, compiled."""
    import torch

    from ferrule.api.operators import know_all_in_torch

    know_all_in_torch()
    return compile(torch.export.load(io.BytesIO(saved)), options=options)


def torch_backend(gm: Any, example_inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The Dynamo backend "ferrule": what `torch.compile(model, backend="ferrule")` calls."""
    from ferrule.frontend.torch.backend import make_backend

    return make_backend(native)(gm, example_inputs, **kwargs)
