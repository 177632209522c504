"""What a call needs besides addresses: dims, guards and output shapes, from the inputs' shapes.

    signature = Signature(compiled)
    plan = signature.plan(((4, 128),))        # plan.dims == (4,), plan.outputs == ((4, 64),)

Everything about one combination of input shapes is computed once and kept, so that a later call
with the same shapes costs one dictionary look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from ferrule.base.artifact import Compiled, DimSource, Guard
from ferrule.base.errors import GuardError, InputError
from ferrule.base.shapes import shape_function

Shape = tuple[int, ...]

_KEPT = 1024


class Plan(NamedTuple):
    """One combination of input shapes: the values of the dims, in order, and the output shapes."""

    dims: tuple[int, ...]
    outputs: tuple[Shape, ...]


class Signature:
    """Checks and completes the shapes of calls to one program."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._plans: dict[tuple[Shape, ...], Plan] = {}
        names = compiled.dim_names
        self._inputs = [shape_function(s.shape, names) for s in compiled.inputs]
        self._outputs = [shape_function(s.shape, names) for s in compiled.outputs]
        self._guards = [(g, shape_function((g.text,), names)) for g in compiled.guards]
        self.scalars = tuple(d.input_index for d in compiled.dims if d.axis is None)

    def plan(self, shapes: tuple[Shape, ...], scalars: Mapping[int, int] | None = None) -> Plan:
        """The plan for inputs of these shapes.

        `scalars` gives, by input index, the values of integer inputs that are dims (the inputs in
        `self.scalars`). Raises InputError for a wrong rank or size and GuardError for a size out
        of its range, or where another fact that the program was compiled under fails.
        """
        if scalars:
            return self._made(shapes, scalars)
        found = self._plans.get(shapes)
        if found is None:
            found = self._made(shapes, {})
            if len(self._plans) >= _KEPT:
                self._plans.clear()
            self._plans[shapes] = found
        return found

    def _made(self, shapes: tuple[Shape, ...], scalars: Mapping[int, int]) -> Plan:
        self._check_ranks(shapes)
        dims = tuple(
            shapes[d.input_index][d.axis] if d.axis is not None else scalars[d.input_index]
            for d in self._compiled.dims
        )
        for source, value in zip(self._compiled.dims, dims):
            if not source.takes(value):
                raise GuardError(self._out_of_range(source, shapes, value))
        self._check_sizes(shapes, dims)
        self._check_guards(dims)
        return Plan(dims, tuple(function(dims) for function in self._outputs))

    def _check_ranks(self, shapes: tuple[Shape, ...]) -> None:
        compiled = self._compiled
        if len(shapes) != len(compiled.inputs):
            raise InputError(
                f"{compiled.name} takes {len(compiled.inputs)} input(s), "
                f"({', '.join(s.name for s in compiled.inputs)}), not {len(shapes)}"
            )
        for spec, shape in zip(compiled.inputs, shapes):
            if len(shape) != len(spec.shape):
                raise InputError(
                    f"input {spec.name} of {compiled.name} has rank {len(spec.shape)} "
                    f"{_shape(spec.shape)}, not rank {len(shape)} {_shape(shape)}"
                )

    def _check_sizes(self, shapes: tuple[Shape, ...], dims: tuple[int, ...]) -> None:
        for spec, shape, function in zip(self._compiled.inputs, shapes, self._inputs):
            wanted = function(dims)
            if wanted == shape:
                continue
            axis = next(i for i, (a, b) in enumerate(zip(wanted, shape)) if a != b)
            extent = spec.shape[axis]
            why = "" if isinstance(extent, int) else f" = {extent} with {self._values(dims)}"
            raise InputError(
                f"input {spec.name} of {self._compiled.name}: axis {axis} must be "
                f"{wanted[axis]}{why}, not {shape[axis]}; "
                f"expected {_shape(spec.shape)}, got {_shape(shape)}"
            )

    def _out_of_range(self, source: DimSource, shapes: tuple[Shape, ...], value: int) -> str:
        spec = self._compiled.inputs[source.input_index]
        where = f"input {spec.name} of {self._compiled.name}"
        if source.axis is None:
            return f"{where} must be {source.expected}, got {value}; compile it again for this size"
        got = _shape(shapes[source.input_index])
        return (
            f"{where}: axis {source.axis} must be {source.expected}, got {value}; expected "
            f"{_shape(spec.shape)}, got {got}; compile it again for this size"
        )

    def _check_guards(self, dims: tuple[int, ...]) -> None:
        for guard, function in self._guards:
            try:
                holds = bool(function(dims)[0])
            except ZeroDivisionError:
                holds = False
            if not holds:
                raise GuardError(self._broken(guard, dims))

    def _broken(self, guard: Guard, dims: tuple[int, ...]) -> str:
        reason = f" ({guard.message})" if guard.message else ""
        return (
            f"{self._compiled.name} was compiled for {guard.text}{reason}, which does not hold for "
            f"{self._values(dims)}; compile it again for these shapes"
        )

    def _values(self, dims: tuple[int, ...]) -> str:
        return ", ".join(f"{n} = {v}" for n, v in zip(self._compiled.dim_names, dims))


def _shape(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
