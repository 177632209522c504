"""From PyTorch programs to FX graphs of functional ATen operators, composites whole.

PyTorch decomposes composite operators (linear, attention, layer norm, softmax, convolution) before
a backend sees them. Those that the table covers are kept: a product with a bias or a softmax that
arrives as one node need not be recognised again. What the table lacks is decomposed into core ATen.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ferrule.frontend.torch.table import ATEN
from ferrule.frontend.torch.whole import recurrent_layers_whole

Run = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Captured:
    """A graph of functional ATen operators, and what is around it. `params` are its placeholders
    that are parameters or buffers which it does not change. `finish` makes a function of the
    original inputs of one that runs the graph. `once` is empty, or says why a call must not run
    twice on the same arguments.
    """

    graph: Any
    params: dict[Any, torch.Tensor]
    once: str
    finish: Callable[[Run], Callable[..., Any]]


WRITES = "it writes into its arguments or buffers"


@contextlib.contextmanager
def keep_whole() -> Iterator[None]:
    """A context in which composite operators that the table covers are traced as single nodes."""
    from torch.export.exported_program import _override_composite_implicit_decomp

    with (
        recurrent_layers_whole(),
        _override_composite_implicit_decomp(dict.fromkeys(_preservable(), _keep)),
    ):
        yield


@functools.cache
def _preservable() -> tuple[Any, ...]:
    from torch._export.utils import _is_preservable_cia_op

    return tuple(op for op in overloads() if _is_composite(op) and _is_preservable_cia_op(op))


def _keep(*args: Any, **kwargs: Any) -> Any:
    return NotImplemented


def overloads() -> Iterator[Any]:
    """The table's ATen overloads that this PyTorch has."""
    for name in ATEN:
        space, packet, overload = name.split(".")
        found = getattr(getattr(getattr(torch.ops, space), packet, None), overload, None)
        if found is not None:
            yield found


def _is_composite(op: Any) -> bool:
    key = "CompositeImplicitAutograd"
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), key))


@functools.cache
def decompositions() -> dict[Any, Any]:
    """PyTorch's core decompositions, for the operators that the table lacks."""
    return _as_eager(
        dict(torch._decomp._core_aten_decompositions_post_autograd()) | _beyond_core()
    )


def export_decompositions() -> dict[Any, Any]:
    """The same for `ExportedProgram.run_decompositions`."""
    table = torch.export.default_decompositions()
    table.update(_beyond_core())
    return _as_eager(table)


def _as_eager(table: Any) -> Any:
    """`table` without what the table of rules has, and not for arguments that an operator refuses:
    it stays whole, and PyTorch says so.
    """
    for op in overloads():
        table.pop(op, None)
    for name, refuses in _REFUSED.items():
        op = getattr(torch.ops.aten, name).default
        if op in table:
            table[op] = functools.partial(_unless_refused, table[op], refuses)
    return table


def _beyond_core() -> dict[Any, Any]:
    """Decompositions of operators that are core ATen themselves, or that its table leaves out."""
    aten = torch.ops.aten
    found = torch._decomp.get_decompositions([aten.dist, aten.grid_sampler_2d, aten.narrow_copy])
    return {**found, aten.affine_grid_generator.default: _affine_grid}


def _affine_grid(theta: torch.Tensor, size: list[int], align_corners: bool) -> torch.Tensor:
    """The grid [n, sizes.., k] of an affine map theta [n, k, k + 1]; PyTorch's own decomposition
    makes a constant where an extent is 1, which tracing refuses.
    """
    sizes, like = size[2:], {"dtype": theta.dtype, "device": theta.device}
    lines = []
    for d, n in enumerate(sizes):
        end = 1 if align_corners else (n - 1) / n
        line = torch.linspace(-end, end, n, **like) if n > 1 else torch.zeros(1, **like)
        lines.append(line.view([-1 if i == d else 1 for i in range(len(sizes))]).expand(sizes))
    base = torch.stack([*lines[::-1], torch.ones(sizes, **like)], -1)
    points = base.reshape(1, -1, len(sizes) + 1).expand(theta.shape[0], -1, -1)
    return torch.bmm(points, theta.mT).view(theta.shape[0], *sizes, len(sizes))


# Arguments that an operator refuses and its decomposition does not: (arguments after the tensors).
_REFUSED: dict[str, Callable[..., bool]] = {
    "smooth_l1_loss": lambda reduction=1, beta=1.0: beta < 0,
    "huber_loss": lambda reduction=1, delta=1.0: delta <= 0,
    "celu": lambda alpha=1.0: alpha == 0,
    "mvlgamma": lambda p: p < 1,
}


def _unless_refused(
    decompose: Callable[..., Any], refuses: Callable[..., bool], *args: Any, **kwargs: Any
) -> Any:
    """What `decompose` gives; NotImplemented, which leaves the operator whole, where it refuses."""
    plain = [a for a in args if not isinstance(a, torch.Tensor)]
    return NotImplemented if refuses(*plain, **kwargs) else decompose(*args, **kwargs)


def capture(gm: Any, example_inputs: Sequence[Any]) -> Captured:
    """`gm` functionalised by AOTAutograd.

    What `finish` gives is the function itself, without AOTAutograd's wrapper, where that has
    nothing to do.
    """
    from torch._functorch.aot_autograd import aot_module_simplified
    from torch._guards import TracingContext

    owned = [
        *dict(gm.named_parameters(remove_duplicate=False)).values(),
        *dict(gm.named_buffers(remove_duplicate=False)).values(),
    ]
    given = [*owned, *example_inputs]
    found: list[tuple[Any, Any]] = []  # the graph, and what AOTAutograd tells of it
    finished: list[Run] = []

    def inner(graph: Any, fake_inputs: Sequence[Any]) -> Any:
        context = TracingContext.try_get()
        graph.graph.eliminate_dead_code()
        found.append((graph, context.fw_metadata if context is not None else None))

        def boxed(args: list[Any]) -> Sequence[Any]:
            mine = list(args)
            args.clear()
            return finished[0](mine)

        boxed._boxed_call = True  # type: ignore[attr-defined]
        return boxed

    with keep_whole() if not torch.is_grad_enabled() else contextlib.nullcontext():
        wrapped = aot_module_simplified(
            gm,
            list(example_inputs),
            fw_compiler=inner,
            inference_compiler=inner,
            decompositions=decompositions(),
        )
    ((graph, meta),) = found
    holders = [n for n in graph.graph.nodes if n.op == "placeholder"]
    aligned = len(holders) == len(given)
    fixed = _unchanged(meta, len(owned)) if aligned else frozenset()
    params = {
        n: given[i]
        for i, n in enumerate(holders)
        if i in fixed and isinstance(given[i], torch.Tensor)
    }

    def finish(run: Run) -> Callable[..., Any]:
        finished.append(run)
        if not aligned or not _needs_no_wrapper(meta):
            return wrapped
        return (lambda *args: run([*owned, *args])) if owned else (lambda *args: run(args))

    return Captured(graph, params, not_twice(graph) or _writes(meta), finish)


def not_twice(graph_module: Any) -> str:
    """Why a graph must not run twice where it is called once, by its operators; empty if it may."""
    graphs = [m.graph for m in graph_module.modules() if isinstance(m, torch.fx.GraphModule)]
    seeded = torch.Tag.nondeterministic_seeded
    for n in (n for graph in graphs for n in graph.nodes):
        if seeded in getattr(n.target, "tags", ()):
            return f"it draws random numbers ({n.target})"
    return ""


def _writes(meta: Any) -> str:
    """Why a graph must not run twice, by what AOTAutograd tells of its inputs and effects."""
    if meta is None:
        return "nothing is known of what it writes"
    if any(i.mutates_data or i.mutates_metadata for i in meta.input_info):
        return WRITES
    return "it has effects" if meta.tokens else ""


def _unchanged(meta: Any, owned: int) -> frozenset[int]:
    """Where the parameters and buffers stand that the graph does not write to."""
    if meta is None:
        return frozenset(range(owned))
    written = {
        i for i, info in enumerate(meta.input_info) if info.mutates_data or info.mutates_metadata
    }
    return frozenset({*range(owned), *meta.static_input_indices} - written)


def _needs_no_wrapper(meta: Any) -> bool:
    """Whether the graph's results are the function's: no writes to inputs, no aliases, no
    subclasses, no state.
    """
    return bool(
        meta is not None
        and not any(i.mutates_data or i.mutates_metadata for i in meta.input_info)
        and meta.num_outputs_aliased == 0
        and meta.num_intermediate_bases == 0
        and not meta.dynamic_outputs
        and meta.grad_enabled_mutation is None
        and not meta.tokens
        and not meta.is_rng_op_functionalized
        and meta.num_graphsafe_rng_states == 0
        and not any(o.requires_grad for o in meta.output_info)
        and all(
            type(m).__name__ == "PlainTensorMeta"
            for m in (*meta.subclass_inp_meta, *meta.subclass_fw_graph_out_meta)
        )
    )
