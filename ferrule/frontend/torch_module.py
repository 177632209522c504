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

    def __init__(self, plan: Plan, program: Any, state: dict[str, torch.Tensor], seconds: float):
        self.compile_seconds = seconds
        self._plan = plan
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        signature = program.graph_signature
        kinds = [s.kind.name for s in signature.input_specs]
        self._places = [i for i, kind in enumerate(kinds) if kind == "USER_INPUT"]
        self._given: list[Any] = [state.get(s.target) for s in signature.input_specs]
        at = {s.target or s.arg.name: i for i, s in enumerate(signature.input_specs)}
        self._written = [at[s.target] for s in signature.output_specs if "MUTATION" in s.kind.name]
        self._constants = {
            i: s.arg.value for i, s in enumerate(signature.input_specs) if hasattr(s.arg, "value")
        }
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
        if self._written or self._constants or any(i not in at for i in direct.inputs):
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
        self._check_constants(given)
        out = self._plan(given)
        changed = [given[i] for i in self._written]
        with torch.no_grad():
            for tensor, new in zip(changed, out, strict=False):
                tensor.copy_(new)
        return tree_unflatten(out[len(changed) :], self._out_spec)

    def _check_constants(self, given: list[Any]) -> None:
        for i, value in self._constants.items():
            if given[i] != value:
                raise InputError(
                    f"the argument {self._plan.placeholders[i].name} was {value!r} when the module "
                    f"was compiled, and is {given[i]!r} now: compile it again"
                )


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
    state = {**program.constants, **program.state_dict}
    ranges = {str(symbol): r for symbol, r in program.range_constraints.items()}
    plan = Plan(graph_module, _params(program, state), compile_graph, count_fallback, ranges)
    return CompiledModule(plan, program, state, time.perf_counter() - started)


def _params(program: Any, state: dict[str, torch.Tensor]) -> dict[Any, torch.Tensor]:
    """The placeholders that are parameters, buffers or constants, and that the program does not
    write.
    """
    signature = program.graph_signature
    holders = [n for n in program.graph_module.graph.nodes if n.op == "placeholder"]
    written = {s.target for s in signature.output_specs if "MUTATION" in s.kind.name}
    return {
        n: state[s.target]
        for n, s in zip(holders, signature.input_specs, strict=True)
        if s.kind.name in _STATE and s.target not in written
    }
