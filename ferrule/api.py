"""What users call: the frontends joined with the compiler."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ferrule.base import config
from ferrule.compile import compile_graph
from ferrule.runtime.counters import count_fallback


def compile(
    module: Any,
    example_inputs: Sequence[Any] = (),
    *,
    dynamic_shapes: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Any:
    """Compile a `torch.nn.Module` or an `ExportedProgram` for inference.

    `example_inputs` are the positional arguments of one call; `dynamic_shapes` marks sizes that
    vary, as in `torch.export.export`. `options` are settings for this compilation. The result is
    called as the module; it has `explain()`, `kernels` and `compile_seconds`. Operators that
    ferrule lacks run in PyTorch, with a warning that names them.
    """
    from ferrule.frontend.torch_module import compile_module

    with config.override(**(options or {})):
        return compile_module(
            module, tuple(example_inputs), dynamic_shapes, compile_graph, count_fallback
        )


def torch_backend(gm: Any, example_inputs: Sequence[Any], **kwargs: Any) -> Any:
    """The Dynamo backend "ferrule": what `torch.compile(model, backend="ferrule")` calls."""
    from ferrule.frontend.torch_backend import make_backend

    return make_backend(compile_graph, count_fallback)(gm, example_inputs, **kwargs)
