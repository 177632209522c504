"""`ferrule.compile`: a module compiled before its first call, through torch.export."""

from __future__ import annotations

import copy
import io
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._pytree import tree_map, tree_structure, tree_unflatten

from ferrule.base.compiler import Compiler, Writers
from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.torch.arguments import Arguments
from ferrule.frontend.torch.capture import WRITES, export_decompositions, not_twice
from ferrule.frontend.torch.plan import Plan
from ferrule.frontend.torch.replaced import Owned, registrations
from ferrule.frontend.torch.run import Bound, shown, stored
from ferrule.frontend.torch.whole import recurrent_layers_whole
from ferrule.ir.source import Given, Made, Source

_STATE = ("PARAMETER", "BUFFER", "CONSTANT_TENSOR")


class CompiledModule:
    """A module compiled ahead of its calls. Call it with tensors as the module.

    A call raises InputError for arguments of another structure or for sizes that it was not
    compiled for, and InputTypeError for another dtype.
    """

    def __init__(
        self,
        plan: Plan,
        program: Any,
        state: dict[str, torch.Tensor],
        owned: Owned | None,
        again: Callable[[bytes], CompiledModule],
        writers: Writers,
        seconds: float,
    ):
        self.compile_seconds, self._writers = seconds, writers
        self._owned, self._seen = owned, owned.seen if owned else registrations[0]
        self._plan, self._program, self._again = plan, program, again
        self._in_spec, self._out_spec = program.call_spec.in_spec, program.call_spec.out_spec
        taken, made = program.graph_signature.input_specs, program.graph_signature.output_specs
        kinds = [s.kind.name for s in taken]
        self._states = {s.target: i for i, s in enumerate(taken) if s.kind.name in _STATE}
        self._places = [i for i, kind in enumerate(kinds) if kind == "USER_INPUT"]
        self._given: list[Any] = [
            torch.empty(0) if kind == "TOKEN" else state.get(s.target)
            for s, kind in zip(taken, kinds, strict=True)
        ]
        at = {s.target or s.arg.name: i for i, s in enumerate(taken)}
        self._written = [
            (i, at[s.target]) for i, s in enumerate(made) if s.kind.name.endswith("MUTATION")
        ]
        self._results = [i for i, s in enumerate(made) if s.kind.name == "USER_OUTPUT"]
        self._constants = {i: s.arg.value for i, s in enumerate(taken) if hasattr(s.arg, "value")}
        varying = [i for i in self._places if i not in self._constants]
        self._arguments = Arguments(plan.placeholders, varying, _ranges(program))
        self._fast = self._direct()

    def __reduce__(self) -> Any:
        """A deep copy or a pickle holds the program with its weights as they are now, which are its
        own from then on. It is compiled again where it is read.
        """
        self._look()
        file, program = io.BytesIO(), self._program
        now = {name: self._given[i] for name, i in self._states.items()}
        program.state_dict.update({n: now[n] for n in program.state_dict if n in now})
        torch.export.save(program, file)
        return self._again, (file.getvalue(),)

    def __copy__(self) -> CompiledModule:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._given, other._owned = list(self._given), copy.copy(self._owned)
        return other

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if registrations[0] != self._seen:
            self._look()
        if self._fast is None or kwargs or len(args) != len(self._places):
            return self._general(args, kwargs)
        bound, params, places = self._fast
        inputs = args if places is None else [args[i] for i in places]
        try:
            return bound(inputs, params)[0]
        except InputError:  # `_general` tells it of the argument and its own axes
            return self._general(args, kwargs)

    def _look(self) -> None:
        """Uses the tensors that stand in the place of the module's former ones. Raises InputError
        where the module is no longer the one that was compiled.
        """
        seen = registrations[0]
        for name, tensor in (self._owned.replaced() if self._owned else {}).items():
            if name in self._states:
                self._given[self._states[name]] = tensor
        self._fast, self._seen = self._direct(), seen

    def explain(self) -> str:
        """The kernels of each compiled segment, and what runs in PyTorch."""
        return self._plan.explain()

    @property
    def executables(self) -> tuple[Any, ...]:
        """The loaded programs that a call runs."""
        return self._plan.executables

    @property
    def kernels(self) -> int:
        """How many kernels one call runs."""
        return self._plan.kernels

    def save(
        self,
        path: str | os.PathLike[str],
        targets: Sequence[str] = (),
        *,
        packed: bool = False,
        sign: str | os.PathLike[str] | None = None,
    ) -> None:
        """Builds the module, with its parameters as they are now, into an artifact, as
        `ferrule.save` does.
        """
        self._writers.save(path, self, targets, packed=packed, sign=sign)

    def bundle(self, folder: str | os.PathLike[str], targets: Sequence[str] = ()) -> None:
        """Writes the module, with its parameters as they are now, as a C library, as
        `ferrule.bundle` does.
        """
        self._writers.bundle(folder, self, targets)

    def stablehlo(
        self,
        sizes: Mapping[str, int] | None = None,
        *,
        weights: str | os.PathLike[str] | None = None,
    ) -> str:
        """The module as StableHLO text, with its parameters as they are now as constants, or in the
        file `weights` (safetensors) and as arguments behind the inputs. `sizes` are numbers for the
        symbolic sizes. Raises what `ferrule.api.stablehlo.stablehlo` raises.
        """
        return self._writers.stablehlo(self, sizes, weights=weights)

    def source(self, name: str) -> Source:
        """The module as a function that is built without this process: arguments and results are
        the tensors among them, in order. Raises UnsupportedError where it is not one program of
        tensors, with the operators that run in PyTorch.
        """
        self._look()
        direct, names = self._plan.direct, [n.name for n in self._plan.placeholders]
        why = ""
        if direct is None:
            why = f"parts of it run in PyTorch ({', '.join(self._plan.in_torch) or 'sizes'})"
        elif self._written:
            why = "it writes into its buffers or arguments"
        elif self._constants or not self._arguments.plain:
            why = "it takes integers, or was captured for facts of its sizes"
        if direct is None or why:
            raise UnsupportedError(f"the module cannot be built as one program: {why}")
        results = direct.results or tuple(range(len(self._results)))
        orders = direct.bound.made
        made = tuple(
            Made(f"output{k}" if len(results) > 1 else "output", results[i], orders[results[i]])
            for k, i in enumerate(self._results)
        )
        at = {place: i for i, place in enumerate(self._places)}
        given = tuple(
            Given(at[i], order) for i, order in zip(direct.inputs, direct.bound.given, strict=True)
        )
        params = tuple((self._named(i), stored(self._given[i])) for i in direct.params)
        return Source(
            name, direct.bound.program.graph, tuple(names[i] for i in self._places), given, made,
            params,
        )  # fmt: skip

    def _named(self, place: int) -> str:
        return next(name for name, i in self._states.items() if i == place)

    def _direct(self) -> tuple[Bound, list[torch.Tensor], list[int] | None] | None:
        """What a call needs where arguments are plain tensors and the result is one; the places of
        the inputs among the arguments, None where they are the same.
        """
        direct, leaf = self._plan.direct, tree_structure(0)
        plain = self._in_spec == tree_structure(((0,) * len(self._places), {}))
        if direct is None or not plain or self._out_spec != leaf or direct.results is not None:
            return None
        at = {place: i for i, place in enumerate(self._places)}
        if self._written or at.keys() != set(direct.inputs) or not self._arguments.plain:
            return None
        places = [at[i] for i in direct.inputs]
        same = places == list(range(len(self._places)))
        params = [self._given[i] for i in direct.params]
        return direct.bound, params, None if same else places

    def _general(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = list(self._given)
        for i, x in zip(self._places, self._flat(args, kwargs), strict=True):
            given[i] = x
        self._arguments.check(given)
        self._check_constants(given)
        out = self._plan(given)
        with torch.no_grad():
            for i, place in self._written:
                given[place].copy_(out[i])
        return tree_unflatten([out[i] for i in self._results], self._out_spec)

    def _flat(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The leaves of the arguments; dicts may have their keys in another order."""
        try:
            return list(self._in_spec.flatten_up_to((args, kwargs)))
        except (ValueError, TypeError) as error:
            raise InputError(
                f"expected arguments of the structure {self._in_spec}, got "
                f"{tree_structure((args, kwargs))}: {error}"
            ) from error

    def _check_constants(self, given: list[Any]) -> None:
        for i, value in self._constants.items():
            if type(given[i]) is not type(value) or given[i] != value:
                got = shown(given[i]) if isinstance(given[i], torch.Tensor) else repr(given[i])
                raise InputError(
                    f"the argument {self._plan.placeholders[i].name} was {value!r} when the module "
                    f"was compiled, and is {got} now: compile it again"
                )


def _apart(inputs: Any) -> Any:
    """`inputs` with a tensor that is given twice copied: tracing takes one tensor for one input."""
    seen: set[int] = set()

    def once(x: Any) -> Any:
        again = isinstance(x, torch.Tensor) and id(x) in seen
        seen.add(id(x))
        return x.clone() if again else x

    return tree_map(once, inputs)


@dataclass(frozen=True)
class TracedModule:
    """A module that was exported and can run in two ways: what `in_pytorch` gives, and what
    `finish` compiles. `once` is empty, or says why a call must not run both.
    """

    name: str
    in_pytorch: Callable[[], Callable[..., Any]]
    finish: Callable[[], CompiledModule]
    once: str


def trace_module(
    module: Any,
    example_inputs: tuple[Any, ...],
    example_kwargs: dict[str, Any],
    dynamic_shapes: Any,
    compiler: Compiler,
    again: Callable[[bytes], CompiledModule],
    writers: Writers,
) -> TracedModule:
    """A torch.nn.Module, or an ExportedProgram, captured by torch.export. `again` compiles the
    bytes of a saved ExportedProgram likewise, for copies; `save` and the like call `writers`.
    """
    started = time.perf_counter()
    with torch.no_grad(), recurrent_layers_whole():
        if isinstance(module, torch.export.ExportedProgram):
            program = module
        else:
            args, kwargs = _apart((example_inputs, example_kwargs))
            program = torch.export.export(
                module, args, kwargs, dynamic_shapes=dynamic_shapes, strict=False
            )
        program = program.run_decompositions(export_decompositions())
    graph_module = program.graph_module
    graph_module.graph.eliminate_dead_code()
    state = {**program.constants, **program.state_dict}
    plan = Plan(graph_module, _params(program, state), _ranges(program))
    owned = Owned(module) if isinstance(module, torch.nn.Module) else None

    def finish() -> CompiledModule:
        plan.compile(compiler)
        seconds = time.perf_counter() - started
        return CompiledModule(plan, program, state, owned, again, writers, seconds)

    name = type(module).__name__
    return TracedModule(name, lambda: _in_pytorch(module), finish, _once(program))


def _in_pytorch(module: Any) -> Callable[..., Any]:
    """A module, or an ExportedProgram, called in PyTorch."""
    exported = isinstance(module, torch.export.ExportedProgram)
    return without_gradients(module.module() if exported else module)


def without_gradients(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` whose results have no gradients, as those of a compiled module."""

    def call(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return fn(*args, **kwargs)

    return call


def _once(program: Any) -> str:
    """Why a program must not run twice where it is called once; empty if it may."""
    made = program.graph_signature.output_specs
    if any(s.kind.name.endswith("MUTATION") for s in made):
        return WRITES
    if any(s.kind.name == "TOKEN" for s in made):
        return "it has effects"
    return not_twice(program.graph_module)


def _ranges(program: Any) -> dict[str, Any]:
    """The ranges of a program's symbolic sizes, by symbol."""
    return {str(symbol): r for symbol, r in program.range_constraints.items()}


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
