"""The PyTorch frontend: `torch.compile(model, backend="ferrule")` and `ferrule.compile(module, inputs)`.

Both roads end in an FX graph of functional ATen operators, with composites (linear, attention, layer norm, softmax,
convolution) as single nodes, whose parameters are known. It is cut into segments; ferrule's are compiled by the function
`compile_graph` that the caller passes in, the others run in PyTorch as they are.
"""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_flatten, tree_structure, tree_unflatten

from ferrule.base import log
from ferrule.base.errors import FerruleError, InputError
from ferrule.frontend.torch_convert import Converter, Sizes
from ferrule.frontend.torch_run import Bound
from ferrule.frontend.torch_segments import Segment, segments
from ferrule.frontend.torch_table import ATEN

CompileGraph = Callable[..., Any]
Count = Callable[[str], None]

MODES = ("default",)


def keep_whole() -> Any:
    """A context in which composite operators that the table covers are traced as single nodes."""
    from torch._export.utils import _is_preservable_cia_op
    from torch.export.exported_program import _override_composite_implicit_decomp

    kept = {op: _keep for op in _overloads() if _is_composite(op) and _is_preservable_cia_op(op)}
    return _override_composite_implicit_decomp(kept)


def _keep(*args: Any, **kwargs: Any) -> Any:
    return NotImplemented


def _overloads() -> Iterator[Any]:
    """The table's ATen overloads that this PyTorch has."""
    for name in ATEN:
        space, packet, overload = name.split(".")
        found = getattr(getattr(getattr(torch.ops, space), packet, None), overload, None)
        if found is not None:
            yield found


def _is_composite(op: Any) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key(op.name(), "CompositeImplicitAutograd"))


def decompositions() -> dict[Any, Any]:
    """PyTorch's core decompositions, for the operators that the table lacks."""
    table = dict(torch._decomp._core_aten_decompositions_post_autograd())  # type: ignore[attr-defined]
    for op in _overloads():
        table.pop(op, None)
    return table


class Plan:
    """An FX graph as segments that run one after another."""

    def __init__(self, graph_module: Any, params: Mapping[Any, torch.Tensor], compile_graph: CompileGraph,
                 count_fallback: Count):
        self.graph = graph_module.graph
        self.placeholders = [n for n in self.graph.nodes if n.op == "placeholder"]
        self.params = dict(params)
        self.attributes = {n: _attribute(graph_module, n.target) for n in self.graph.nodes if n.op == "get_attr"}
        self.results = next(n for n in self.graph.nodes if n.op == "output").args[0]
        self.compiled: list[Any] = []
        self.steps = self._compile(compile_graph, count_fallback)
        self.direct = self._direct()

    def _compile(self, compile_graph: CompileGraph, count_fallback: Count) -> list[tuple[Segment, Bound | None, list[Any]]]:
        refused: dict[Any, str] = {}
        while True:
            cut, reasons = segments(self.graph, refused)
            steps: list[tuple[Segment, Bound | None, list[Any]]] = []
            try:
                for s in cut:
                    steps.append(self._step(s, compile_graph))
            except _RefusedError as error:
                for n in error.nodes:
                    refused[n] = error.reason
                continue
            for operator, why in reasons.items():
                count_fallback(operator)
                log.warn(f"{operator} runs in PyTorch: {why}")
            self.compiled = [b.program for _, b, _ in steps if b is not None]
            return steps

    def _step(self, s: Segment, compile_graph: CompileGraph) -> tuple[Segment, Bound | None, list[Any]]:
        if not s.ours:
            return s, None, []
        converter = Converter(f"segment_{s.nodes[0].name}", Sizes())
        known = [n for n in s.inputs if n in self.params or n in self.attributes]
        current: list[Any] = list(s.nodes)
        try:
            for n in s.inputs:
                (converter.param if n in known else converter.input)(n)
            for n in s.nodes:
                current = [n]
                converter.node(n)
            current = list(s.nodes)
            graph = converter.build(s.outputs)
            program = compile_graph(graph)
        except FerruleError as error:
            raise _RefusedError(current, str(error)) from error
        free = [n for n in s.inputs if n not in known]
        extra = [v.name for v in graph.inputs[len(free):]]
        bound = Bound(program)
        return Segment(True, s.nodes, [*free, *(self._symbol(name) for name in extra)], s.outputs), bound, known

    def known(self, n: Any) -> torch.Tensor:
        """The tensor of a parameter."""
        return self.params[n] if n in self.params else self.attributes[n]

    def _symbol(self, name: str) -> Any:
        """The node whose value is the size called `name`."""
        for n in self.graph.nodes:
            value = n.meta.get("val")
            if type(value).__name__ == "SymInt" and str(value.node.expr) == name:
                return n
        raise InputError(f"the size {name} is not an input of the graph")

    def _direct(self) -> tuple[Bound, list[int], list[int], list[Any]] | None:
        """The one segment with its input and output positions, where the whole graph is one; else None."""
        if len(self.steps) != 1 or self.steps[0][1] is None:
            return None
        s, bound, known = self.steps[0]
        at = {n: i for i, n in enumerate(self.placeholders)}
        results = self.results if isinstance(self.results, tuple | list) else [self.results]
        if any(n not in at for n in s.inputs) or any(r not in s.outputs for r in results):
            return None
        return bound, [at[n] for n in s.inputs], [s.outputs.index(r) for r in results], known

    def __call__(self, args: Sequence[Any]) -> list[Any]:
        """The graph's results for these placeholders."""
        if self.direct is not None:
            bound, places, results, known = self.direct
            if known:
                bound.refresh([self.known(n) for n in known])
            out = bound([args[i] for i in places])
            return [out[i] for i in results]
        with torch.no_grad():
            return self._interpret(args)

    def _interpret(self, args: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = dict(zip(self.placeholders, args, strict=True)) | self.attributes

        def value(a: Any) -> Any:
            if isinstance(a, torch.fx.Node):
                if a not in env:
                    env[a] = a.target(*map(value, a.args), **{k: value(v) for k, v in a.kwargs.items()})  # type: ignore[operator]
                return env[a]
            if isinstance(a, list | tuple):
                return type(a)(value(x) for x in a)
            return a

        for s, bound, known in self.steps:
            if bound is None:
                for n in s.nodes:
                    value(n)
                continue
            if known:
                bound.refresh([self.known(n) for n in known])
            env.update(zip(s.outputs, bound([value(n) for n in s.inputs]), strict=True))
        return [value(r) for r in self.results] if isinstance(self.results, tuple | list) else [value(self.results)]

    def explain(self) -> str:
        """The kernels of each compiled segment, and what runs in PyTorch."""
        lines = []
        for s, bound, _ in self.steps:
            if bound is None:
                names = sorted({str(n.target) for n in s.nodes})
                lines.append(f"in PyTorch: {', '.join(names)}")
            else:
                lines.append(bound.program.explain())
        return "\n".join(lines)

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return sum(p.kernels for p in self.compiled)


class _RefusedError(Exception):
    def __init__(self, nodes: list[Any], reason: str):
        super().__init__(reason)
        self.nodes, self.reason = nodes, reason


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module


def make_backend(compile_graph: CompileGraph, count_fallback: Count) -> Callable[..., Any]:
    """The Dynamo backend that compiles with `compile_graph` and reports fallbacks to `count_fallback`."""

    def backend(gm: Any, example_inputs: Sequence[Any], *, mode: str | None = None,
                options: Mapping[str, Any] | None = None, **unknown: Any) -> Any:
        check_options(mode, options, unknown)
        if torch.is_grad_enabled() and any(isinstance(t, torch.Tensor) and t.requires_grad for t in example_inputs):
            log.warn("training runs in eager PyTorch: ferrule compiles inference; call the model under torch.no_grad() or "
                     "torch.inference_mode() to compile it")
            return gm.forward
        return _through_aot(gm, example_inputs, lambda g: compile_graph(g, options=dict(options or {})), count_fallback)

    return backend


def check_options(mode: str | None, options: Mapping[str, Any] | None, unknown: Mapping[str, Any]) -> None:
    """Refuse by name what is not understood. Raises InputError."""
    if mode is not None and mode not in MODES:
        raise InputError(f"mode={mode!r} is not understood; ferrule knows {', '.join(MODES)}")
    if unknown:
        raise InputError(f"{', '.join(unknown)} is not understood by the ferrule backend; it takes mode and options")
    from ferrule.base import config

    for name in options or {}:
        config.get(name)


def _through_aot(gm: Any, example_inputs: Sequence[Any], compile_graph: CompileGraph, count_fallback: Count) -> Any:
    from torch._functorch.aot_autograd import aot_module_simplified
    from torch._guards import TracingContext

    def inner(graph: Any, fake_inputs: Sequence[Any]) -> Any:
        context = TracingContext.try_get()
        static = set(context.fw_metadata.static_input_indices) if context and context.fw_metadata else set()
        graph.graph.eliminate_dead_code()
        holders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        params = {n: example_inputs[i] for i, n in enumerate(holders)
                  if i in static and i < len(example_inputs) and isinstance(example_inputs[i], torch.Tensor)}
        places = [(i, n) for i, n in enumerate(holders) if n in params]
        plan = Plan(graph, params, compile_graph, count_fallback)

        def run(args: list[Any]) -> list[Any]:
            given = list(args)
            args.clear()
            for i, n in places:
                plan.params[n] = given[i]
            return plan(given)

        run._boxed_call = True  # type: ignore[attr-defined]
        return run

    with keep_whole() if not torch.is_grad_enabled() else contextlib.nullcontext():
        return aot_module_simplified(gm, list(example_inputs), fw_compiler=inner, inference_compiler=inner,
                                     decompositions=decompositions())


# ---- ferrule.compile ----------------------------------------------------------------------------


class CompiledModule:
    """A module compiled ahead of its calls. Call it with tensors as the module."""

    def __init__(self, plan: Plan, program: Any, seconds: float):
        self._plan, self._program = plan, program
        self.compile_seconds = seconds
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        self._mutated = list(program.graph_signature.buffers_to_mutate.values())
        self._user_inputs = [i for i, s in enumerate(program.graph_signature.input_specs) if s.kind.name == "USER_INPUT"]
        self._fixed = [plan.params.get(n) for n in plan.placeholders]
        names = {s.target: plan.params[n] for s, n in zip(program.graph_signature.input_specs, plan.placeholders,
                                                         strict=True) if n in plan.params}
        self._buffers = [names[t] for t in self._mutated]
        self._arguments = len(self._user_inputs)
        self._bound = self._direct()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        direct = self._bound
        if direct is not None and not kwargs and len(args) == self._arguments:
            bound, places, known = direct
            if known:
                bound.refresh(known)
            return bound([args[i] for i in places])[0]
        return self._general(args, kwargs)

    def _direct(self) -> tuple[Bound, list[int], list[torch.Tensor]] | None:
        """What a call needs where arguments are plain tensors and the result is one: no trees to walk."""
        leaf = type(tree_structure(0))
        plain = self._in_spec == tree_structure(((0,) * len(self._user_inputs), {}))
        if self._plan.direct is None or not plain or type(self._out_spec) is not leaf or self._buffers \
                or self._out_spec != tree_structure(0):
            return None
        bound, places, results, known = self._plan.direct
        if results != [0] or any(i not in self._user_inputs for i in places):
            return None
        return bound, [self._user_inputs.index(i) for i in places], [self._plan.known(n) for n in known]

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        flat, spec = tree_flatten((args, kwargs))
        if spec != self._in_spec:
            raise InputError(f"expected arguments of the structure {self._in_spec}, got {spec}")
        given: list[Any] = list(self._fixed)
        for i, x in zip(self._user_inputs, flat, strict=True):
            given[i] = x
        out = self._plan(given)
        with torch.no_grad():
            for buffer, new in zip(self._buffers, out, strict=False):
                buffer.copy_(new)
        return tree_unflatten(out[len(self._buffers):], self._out_spec)

    def explain(self) -> str:
        """The kernels of each compiled segment, and what runs in PyTorch."""
        return self._plan.explain()

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return self._plan.kernels


def compile_module(module: Any, example_inputs: tuple[Any, ...], dynamic_shapes: Any, compile_graph: CompileGraph,
                   count_fallback: Count) -> CompiledModule:
    """A torch.nn.Module, or an ExportedProgram, compiled through torch.export."""
    import time

    started = time.perf_counter()
    if isinstance(module, torch.export.ExportedProgram):
        program = module
    else:
        with torch.no_grad():
            program = torch.export.export(module, tuple(example_inputs), dynamic_shapes=dynamic_shapes, strict=False)
    with torch.no_grad():
        program = program.run_decompositions(_export_decompositions())
    graph_module = program.graph_module
    graph_module.graph.eliminate_dead_code()
    holders = [n for n in graph_module.graph.nodes if n.op == "placeholder"]
    params: dict[Any, torch.Tensor] = {}
    for n, s in zip(holders, program.graph_signature.input_specs, strict=True):
        if s.kind.name in ("PARAMETER", "BUFFER", "CONSTANT_TENSOR"):
            found = program.state_dict.get(s.target)
            params[n] = found if found is not None else program.constants[s.target]
    plan = Plan(graph_module, params, compile_graph, count_fallback)
    return CompiledModule(plan, program, time.perf_counter() - started)


def _export_decompositions() -> dict[Any, Any]:
    table = torch.export.default_decompositions()
    for op in _overloads():
        table.pop(op, None)
    return dict(table.items()) if not hasattr(table, "materialize") else table  # type: ignore[return-value]


