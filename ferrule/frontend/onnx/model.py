"""ONNX models as plain data: what the other onnx modules work on.

    Model = Body, opset versions, functions expanded       Body = ports, constants, Ops in order
    Op    = operator of a domain and version, names of its operands and results, attributes

Attribute values are Python numbers, strings, tuples of these, NumPy arrays and Bodies. An array has
the NumPy dtype of its tensor, those of `ml_dtypes` for what NumPy lacks, and `object` for strings.
Nothing here needs the `onnx` package but its types, so decoding stands in `onnx_load`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.errors import InputError

Array = NDArray[Any]
Size = int | str | None


@dataclass(frozen=True)
class Port:
    """An input or output of a model: `kind` is "tensor", "sequence", "optional" or "".

    `dtype` is that of the elements; a `shape` of None is of unknown rank, and in it an int is a
    known size, a name a symbolic one, None an unknown one.
    """

    name: str
    kind: str = ""
    dtype: np.dtype[Any] | None = None
    shape: tuple[Size, ...] | None = None

    @property
    def type(self) -> str:
        """The type as ONNX Runtime writes it: tensor(float)."""
        names = {"float32": "float", "float64": "double", "object": "string"}
        element = "?" if self.dtype is None else names.get(self.dtype.name, self.dtype.name)
        inner = f"tensor({element})"
        return {"sequence": f"seq({inner})", "optional": f"optional({inner})"}.get(self.kind, inner)


@dataclass(frozen=True, eq=False)
class Op:
    """One node. An operand or result that is left out has the name ""."""

    type: str
    domain: str
    version: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""

    @property
    def title(self) -> str:
        """The operator's name, with its domain where it is not the default one."""
        return f"{self.domain}.{self.type}" if self.domain else self.type

    @property
    def bodies(self) -> tuple[Body, ...]:
        """The graphs among the attributes."""
        return tuple(a for a in self.attrs.values() if isinstance(a, Body))

    def body(self, name: str) -> Body:
        """The graph that an attribute holds. Raises InputError where there is none."""
        held = self.attrs.get(name)
        if isinstance(held, Body):
            return held
        found = "is missing" if held is None else f"is no graph but {type(held).__name__}"
        raise InputError(
            f"{self.where}: the attribute {name!r} {found}; it must be a graph: export the model "
            "again, onnx.checker.check_model tells whether a model is whole"
        )

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names of all values that this node needs, those that its bodies capture included."""
        free = (name for body in self.bodies for name in body.captures)
        return tuple(dict.fromkeys((*(i for i in self.inputs if i), *free)))

    @property
    def where(self) -> str:
        """What messages call this node."""
        label = self.name or next((o for o in self.outputs if o), "")
        return f"{self.title} node {label!r}" if label else f"{self.title} node"


@dataclass(frozen=True, eq=False)
class Body:
    """A graph: of a model, or a branch or loop body among a node's attributes."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    constants: Mapping[str, Array]
    ops: tuple[Op, ...]
    captures: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Model:
    """A whole model; `opsets` gives the version of each domain."""

    body: Body
    opsets: Mapping[str, int]
    producer: str = ""


def constant_of(op: Op) -> Array | None:
    """What a Constant node holds; None where it has no value."""
    for name, dtype in _CONSTANTS.items():
        if name in op.attrs:
            value = op.attrs[name]
            return np.asarray(value) if dtype is None else np.array(value, dtype)
    return None


_CONSTANTS: dict[str, Any] = {
    "value": None, "sparse_value": None, "value_float": np.float32, "value_int": np.int64,
    "value_string": object, "value_floats": np.float32, "value_ints": np.int64,
    "value_strings": object,
}  # fmt: skip


def make_body(
    name: str,
    inputs: Iterable[Port],
    outputs: Iterable[Port],
    constants: Mapping[str, Array],
    ops: Iterable[Op],
    outer: bool = False,
) -> Body:
    """A Body with its ops in topological order, and what Constant nodes hold among its constants.

    Raises InputError for a value that is defined twice, that comes from nowhere (unless `outer`
    scopes may define it) and for a cycle.
    """
    ports, given, constants = tuple(inputs), [], dict(constants)
    defined = {p.name for p in ports} | set(constants)
    made: dict[str, Op] = {}
    for op in ops:
        held = constant_of(op) if op.type == "Constant" and not op.domain else None
        if held is not None and op.outputs[0] not in defined and op.outputs[0] not in made:
            constants[op.outputs[0]] = held
            defined.add(op.outputs[0])
            continue
        given.append(op)
        for out in filter(None, op.outputs):
            if out in made or out in defined:
                raise InputError(f"the model defines the value {out!r} twice: at {op.where}")
            made[out] = op
    results = tuple(outputs)
    wanted = [n for op in given for n in op.reads] + [p.name for p in results]
    free = tuple(dict.fromkeys(n for n in wanted if n not in made and n not in defined))
    if free and not outer:
        reader = next((op.where for op in given if set(op.reads) & set(free)), "an output")
        raise InputError(f"the model has no value called {free[0]!r}, which {reader} reads")
    return Body(name, ports, results, constants, _ordered(tuple(given), made), free)


def _ordered(ops: tuple[Op, ...], made: Mapping[str, Op]) -> tuple[Op, ...]:
    """`ops` with each after those that it reads from, in the given order where that does."""
    place = {id(op): i for i, op in enumerate(ops)}
    seen: set[str] = set()
    for op in ops:
        if any(n in made and n not in seen for n in op.reads):
            break
        seen.update(op.outputs)
    else:
        return ops
    needs = [{place[id(made[n])] for n in op.reads if n in made} for op in ops]
    order: list[Op] = []
    done: set[int] = set()
    while len(order) < len(ops):
        ready = [i for i in range(len(ops)) if i not in done and needs[i] <= done]
        if not ready:
            stuck = next(op for i, op in enumerate(ops) if i not in done)
            raise InputError(f"the model has a cycle, on which {stuck.where} lies")
        order += [ops[i] for i in ready]
        done.update(ready)
    return tuple(order)


def walk_ops(body: Body) -> Iterator[Op]:
    """Every node of a graph and of the graphs inside of it."""
    for op in body.ops:
        yield op
        for inner in op.bodies:
            yield from walk_ops(inner)
