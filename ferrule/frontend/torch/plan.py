"""A captured FX graph as a plan: compiled segments and PyTorch's, run one after another.

    plan = Plan(graph_module, params)       # reads the graph, its sizes and what is known of them
    plan.compile(compiler)                  # may be done in another thread, and later
    results = plan(args)                    # one for each placeholder in, one for each result out

Most graphs are one segment: then a call is one compiled program between two lists (`Direct`). An
operator that has no rule, that its rule refuses, or whose segment does not compile runs in PyTorch,
with a warning that names it and the cause.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ferrule.base import log
from ferrule.base.compiler import Compiler
from ferrule.base.errors import CompileError, FerruleError, UnsupportedError
from ferrule.base.spans import span
from ferrule.frontend.torch.bodies import Body, is_body
from ferrule.frontend.torch.convert import FxConverter
from ferrule.frontend.torch.memory import beneath
from ferrule.frontend.torch.run import Bound
from ferrule.frontend.torch.segments import Segment, operator_name, segments, wanted
from ferrule.frontend.torch.sizes import Ranges
from ferrule.frontend.torch.strides import correct_strides

_REAL = (torch.Tensor, torch.nn.Parameter)  # and no others: those of tracing have no memory


@dataclass
class Step:
    """A segment ready to run: compiled where `bound` is given, with its params; then what to
    forget.
    """

    segment: Segment
    bound: Bound | None = None
    inputs: list[Any] = field(default_factory=list)
    params: list[Any] = field(default_factory=list)
    forget: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class _Draft:
    """A segment as a graph to compile, and what its `Bound` takes beside the program."""

    step: Step
    graph: Any
    given: list[Any]
    orders: Any
    shifts: dict[int, int]


@dataclass(frozen=True)
class Direct:
    """A graph that is one program: which argument each input and param is, which output each
    result.
    """

    bound: Bound
    inputs: tuple[int, ...]
    params: tuple[int, ...]
    results: tuple[int, ...] | None

    @property
    def executables(self) -> tuple[Any, ...]:
        """The loaded program, alone."""
        return (self.bound.program.executable,)

    def __call__(self, args: Sequence[Any]) -> Sequence[Any]:
        """The graph's results for these placeholders."""
        out = self.bound([args[i] for i in self.inputs], [args[i] for i in self.params])
        return out if self.results is None else [out[i] for i in self.results]


class Plan:
    """An FX graph of functional ATen operators, to be compiled; `params` are the tensors of
    placeholders that stay the same.
    """

    def __init__(
        self,
        graph_module: Any,
        params: Mapping[Any, torch.Tensor],
        ranges: Ranges | None = None,
    ):
        correct_strides(graph_module.graph)
        nodes = list(graph_module.graph.nodes)
        self.graph = graph_module.graph
        self.params = dict(params)
        self._ranges = ranges
        self.placeholders = [n for n in nodes if n.op == "placeholder"]
        self.attributes = {
            n: _attribute(graph_module, n.target) for n in nodes if n.op == "get_attr"
        }
        for n, value in self.attributes.items():
            if is_body(n, value):
                self.attributes[n] = Body(Plan(value, {}, ranges))
        results = next(n for n in nodes if n.op == "output").args[0]
        self.results = list(results) if isinstance(results, tuple | list) else [results]
        self.steps: list[Step] = []
        self.direct: Direct | None = None
        self._refused: dict[Any, str] = {}
        self._drafts, self._reasons = self._drafted()

    def __call__(self, args: Sequence[Any]) -> Sequence[Any]:
        """The graph's results for these placeholders."""
        if self.direct is not None:
            return self.direct(args)
        with torch.no_grad():
            return self._interpret(args)

    def explain(self) -> str:
        """The kernels of each compiled segment, and what runs in PyTorch."""
        lines = []
        for step in self.steps:
            if step.bound is None:
                names = sorted({operator_name(n) for n in step.segment.nodes})
                lines.append(f"in PyTorch: {', '.join(names)}")
                lines += [b.plan.explain() for b in self._called([step])]
            else:
                lines.append(step.bound.program.explain())
        return "\n".join(lines)

    @property
    def in_torch(self) -> tuple[str, ...]:
        """The operators that PyTorch runs."""
        apart = (s.segment for s in self.steps if s.bound is None)
        return tuple(sorted({operator_name(n) for s in apart for n in s.nodes}))

    @property
    def executables(self) -> tuple[Any, ...]:
        """The loaded programs, those of bodies that PyTorch calls among them."""
        own = [s.bound.program.executable for s in self.steps if s.bound is not None]
        return (*own, *(e for b in self._called() for e in b.plan.executables))

    @property
    def kernels(self) -> int:
        """How many kernels one call runs; of bodies of loops and branches, all once."""
        own = [s.bound.program.kernels for s in self.steps if s.bound is not None]
        return sum(own) + sum(b.plan.kernels for b in self._called())

    def _called(self, steps: Sequence[Step] | None = None) -> list[Body]:
        """The bodies that PyTorch calls, in all steps if none are given."""
        apart = (s for s in (self.steps if steps is None else steps) if s.bound is None)
        found = dict.fromkeys(self.attributes.get(n) for s in apart for n in s.segment.inputs)
        return [b for b in found if isinstance(b, Body)]

    # ---- compiling -------------------------------------------------------------------------------

    def compile(self, compiler: Compiler) -> Plan:
        """Makes the programs, and gives the plan itself, which can be called from then on; what
        does not compile is left to PyTorch. Raises CompileError where something would run in
        PyTorch and the compiler is strict.
        """
        while True:
            try:
                steps = [_bound(draft, compiler) for draft in self._drafts]
                break
            except _RefusedError as error:
                self._refused |= dict.fromkeys(error.nodes, error.reason)
                self._drafts, self._reasons = self._drafted()
        if self._reasons and compiler.strict:
            raise CompileError("; ".join(f"{op}: {why}" for op, why in self._reasons.items()))
        for operator, why in self._reasons.items():
            compiler.count_fallback(operator)
            log.warn(f"{operator} runs in PyTorch: {why}")
        self._forget(steps)
        self.steps, self._drafts = steps, []
        for body in self._called():
            body.plan.compile(compiler)
        self.direct = self._direct()
        if compiler.ahead:
            self._bind()
        return self

    def _bind(self) -> None:
        """Binds the parameters, as far as they are real and known; calls bind what has changed."""
        known = {**self.attributes, **self.params}
        for step in self.steps:
            params = [known.get(n) for n in step.params]
            if step.bound is not None and params and all(type(p) in _REAL for p in params):
                step.bound.bind(params)

    def _drafted(self) -> tuple[list[_Draft | Step], Mapping[str, str]]:
        """The segments as graphs, and why operators are left to PyTorch; nodes that can't be
        converted are left to it too, and the rest is cut anew.
        """
        while True:
            cut, reasons = segments(self.graph, self._refused)
            try:
                return [self._draft(s) for s in cut], reasons
            except _RefusedError as error:
                self._refused |= dict.fromkeys(error.nodes, error.reason)

    def _draft(self, s: Segment) -> _Draft | Step:
        if not s.ours:
            return Step(s)
        converter = FxConverter(f"segment_{s.nodes[0].name}", self._ranges)
        graphs = [n for n in s.inputs if _is_graph(self.attributes.get(n))]
        given = [n for n in s.inputs if n not in graphs]
        params = [n for n in given if n in self.params or n in self.attributes]
        inputs = [n for n in given if n not in params]
        current: list[Any] = list(s.nodes)
        try:
            for n in inputs:
                converter.input(n)
            for n in params:
                converter.param(n)
            for n in graphs:
                if isinstance(body := self.attributes[n], Body):
                    converter.body(n, body)
            for n in s.nodes:
                current = [n, *beneath(n)]
                converter.node(n)
            current = list(s.nodes)
            graph, orders = converter.build(s.outputs)
            names = [v.name for v in graph.inputs[len(inputs) :]]
            numbers = [self._symbol(name) for name in names]
        except FerruleError as error:
            raise _RefusedError(current, str(error)) from error
        shifts = {
            len(inputs) + i: converter.sizes.shifts.get(name, 0) for i, name in enumerate(names)
        }
        lying = [*converter.input_orders, *(None for _ in numbers)]
        step = Step(s, None, inputs + numbers, params)
        return _Draft(step, graph, lying, orders, shifts)

    def _symbol(self, name: str) -> Any:
        """The node whose value is the size called `name`; a new one where only a shape has it."""
        for n in self.graph.nodes:
            if _is_symbol(n.meta.get("val"), name):
                return n
        for n in self.placeholders:
            for axis, size in enumerate(getattr(n.meta.get("val"), "shape", ())):
                if _is_symbol(size, name):
                    with self.graph.inserting_after(self.placeholders[-1]):
                        made = self.graph.call_function(torch.ops.aten.sym_size.int, (n, axis))
                    made.meta["val"] = size
                    return made
        raise UnsupportedError(f"the size {name} is not one that the graph is given")

    def _forget(self, steps: list[Step]) -> None:
        """Let each step drop the values that no later one needs."""
        last: dict[Any, int] = {}
        for i, step in enumerate(steps):
            for n in (
                step.inputs
                if step.bound is not None
                else [*step.segment.inputs, *step.segment.nodes]
            ):
                last[n] = i
            for n in step.segment.outputs:
                last[n] = i
        kept = {
            *wanted(self.graph),
            *self.attributes,
            *(a for n in self.graph.nodes for a in _behind(n)),
        }
        for n, i in last.items():
            if n not in kept:
                steps[i].forget.append(n)

    def _direct(self) -> Direct | None:
        """The plan as one program, where it is no more than that."""
        if len(self.steps) != 1 or self.steps[0].bound is None:
            return None
        step = self.steps[0]
        at = {n: i for i, n in enumerate(self.placeholders)}
        outputs = step.segment.outputs
        if any(n not in at for n in (*step.inputs, *step.params)) or any(
            r not in outputs for r in self.results
        ):
            return None
        results = tuple(outputs.index(r) for r in self.results)
        assert step.bound is not None
        return Direct(
            step.bound,
            tuple(at[n] for n in step.inputs),
            tuple(at[n] for n in step.params),
            None if results == tuple(range(len(outputs))) else results,
        )

    # ---- running ---------------------------------------------------------------------------------

    def _interpret(self, args: Sequence[Any]) -> list[Any]:
        env: dict[Any, Any] = dict(zip(self.placeholders, args, strict=True)) | self.attributes
        for step in self.steps:
            if step.bound is None:
                for n in step.segment.nodes:
                    with span("PyTorch", n.target):
                        _value(n, env)
            else:
                params = [env[n] for n in step.params]
                out = step.bound([_value(n, env) for n in step.inputs], params)
                env.update(zip(step.segment.outputs, out, strict=True))
            for n in step.forget:
                env.pop(n, None)
        return [_value(r, env) for r in self.results]


class _RefusedError(Exception):
    """Nodes that PyTorch has to run, and why."""

    def __init__(self, nodes: list[Any], reason: str):
        super().__init__(reason)
        self.nodes, self.reason = nodes, reason


def _bound(draft: _Draft | Step, compiler: Compiler) -> Step:
    """A segment ready to run. Raises _RefusedError where it does not compile."""
    if isinstance(draft, Step):
        return draft
    step = draft.step
    try:
        program = compiler.compile(draft.graph)
    except FerruleError as error:
        raise _RefusedError(list(step.segment.nodes), str(error)) from error
    bound = Bound(program, draft.given, draft.orders, draft.shifts)
    return Step(step.segment, bound, step.inputs, step.params)


def _value(a: Any, env: dict[Any, Any]) -> Any:
    """An argument in an environment; a node that is not there yet is run."""
    if isinstance(a, torch.fx.Node):
        if a not in env:
            target: Any = a.target
            env[a] = target(
                *(_value(x, env) for x in a.args),
                **{k: _value(v, env) for k, v in a.kwargs.items()},
            )
        return env[a]
    if isinstance(a, list | tuple):
        return type(a)([_value(x, env) for x in a])
    if isinstance(a, slice):
        return slice(_value(a.start, env), _value(a.stop, env), _value(a.step, env))
    return a


def _is_graph(value: Any) -> bool:
    return isinstance(value, Body | torch.nn.Module)


def _is_symbol(value: Any, name: str) -> bool:
    return type(value).__name__ == "SymInt" and str(value.node.expr) == name


def _behind(node: Any) -> list[Any]:
    """The operands of arithmetic on sizes, which is done where it is needed."""
    from ferrule.frontend.torch.convert import is_size

    return list(node.all_input_nodes) if node.op == "call_function" and is_size(node) else []


def _attribute(module: Any, path: str) -> Any:
    for name in path.split("."):
        module = getattr(module, name)
    return module
