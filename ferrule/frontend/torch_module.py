"""`ferrule.compile`: a module compiled before its first call, through torch.export."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_structure, tree_unflatten

from ferrule.base.errors import InputError
from ferrule.frontend.torch_capture import export_decompositions
from ferrule.frontend.torch_plan import CompileGraph, Count, Direct, Plan

_STATE = ("PARAMETER", "BUFFER", "CONSTANT_TENSOR")


class CompiledModule:
    """A module compiled ahead of its calls. Call it with tensors as the module.

    A call raises InputError for arguments of another structure, InputTypeError for another dtype,
    and GuardError for sizes that it was not compiled for.
    """

    def __init__(self, plan: Plan, program: Any, seconds: float):
        self.compile_seconds = seconds
        self._plan = plan
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        signature = program.graph_signature
        kinds = [s.kind.name for s in signature.input_specs]
        self._places = [i for i, kind in enumerate(kinds) if kind == "USER_INPUT"]
        self._given: list[Any] = [plan.params.get(n) for n in plan.placeholders]
        state = {s.target: x for s, x in zip(signature.input_specs, self._given, strict=True)}
        self._buffers = [state[name] for name in signature.buffers_to_mutate.values()]
        at = {s.arg.name: i for i, s in enumerate(signature.input_specs)}
        self._written = [at[n] for n in getattr(signature, "user_inputs_to_mutate", {}).values()]
        self._fast = self._direct()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._fast is None or kwargs or len(args) != len(self._places):
            return self._general(args, kwargs)
        direct, params, places = self._fast
        inputs = [args[i] for i in places]
        direct.bound.check(inputs)
        if params:
            direct.bound.refresh(params)
        return direct.bound(inputs)[0]

    def explain(self) -> str:
        """The kernels of each compiled segment, and what runs in PyTorch."""
        return self._plan.explain()

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return self._plan.kernels

    def _direct(self) -> tuple[Direct, list[torch.Tensor], list[int]] | None:
        """What a call needs where arguments are plain tensors and the result is one."""
        direct, leaf = self._plan.direct, tree_structure(0)
        plain = self._in_spec == tree_structure(((0,) * len(self._places), {}))
        if direct is None or not plain or self._out_spec != leaf or direct.results is not None:
            return None
        at = {place: i for i, place in enumerate(self._places)}
        if self._buffers or self._written or any(i not in at for i in direct.inputs):
            return None
        return direct, [self._given[i] for i in direct.params], [at[i] for i in direct.inputs]

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flat, spec = tree_flatten((args, kwargs))
        if spec != self._in_spec:
            raise InputError(f"expected arguments of the structure {self._in_spec}, got {spec}")
        given = list(self._given)
        for i, x in zip(self._places, flat, strict=True):
            given[i] = x
        self._plan.check(given)
        out = self._plan(given)
        changed = [*self._buffers, *(given[i] for i in self._written)]
        with torch.no_grad():
            for tensor, new in zip(changed, out, strict=False):
                tensor.copy_(new)
        return tree_unflatten(out[len(changed) :], self._out_spec)


def _apart(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """`inputs` with a tensor that is given twice copied: tracing takes one tensor for one input."""
    seen: set[int] = set()

    def once(x: Any) -> Any:
        again = isinstance(x, torch.Tensor) and id(x) in seen
        seen.add(id(x))
        return x.clone() if again else x

    return tuple(tree_map(once, inputs))


def compile_module(
    module: Any,
    example_inputs: tuple[Any, ...],
    dynamic_shapes: Any,
    compile_graph: CompileGraph,
    count_fallback: Count,
) -> CompiledModule:
    """A torch.nn.Module, or an ExportedProgram, compiled through torch.export."""
    started = time.perf_counter()
    with torch.no_grad():
        if isinstance(module, torch.export.ExportedProgram):
            program = module
        else:
            program = torch.export.export(
                module, _apart(example_inputs), dynamic_shapes=dynamic_shapes, strict=False
            )
        program = program.run_decompositions(export_decompositions())
    graph_module = program.graph_module
    graph_module.graph.eliminate_dead_code()
    holders = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    params: dict[Any, torch.Tensor] = {}
    for n, s in zip(holders, program.graph_signature.input_specs, strict=True):
        if s.kind.name in _STATE:
            found = program.state_dict.get(s.target)
            params[n] = found if found is not None else program.constants[s.target]
    plan = Plan(graph_module, params, compile_graph, count_fallback)
    return CompiledModule(plan, program, time.perf_counter() - started)
