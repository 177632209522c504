"""What a subgraph becomes: nodes of a TensorFlow program.

    @operator("EXPAND_DIMS")
    def _expand_dims(w, op, x, axis): return w.add("ExpandDims", x, axis)

A builder gets a writer, the operator and the names of its operands, and gives the name of its
result, or those of several. Where quantised tensors stand in the integers of the result's scale,
and an operator does not look at them, it is `moves`; one with arithmetic of its own on them is
`exact`. All others are computed on what quantised tensors stand for, and rounded to the scale of
the result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tensorflow.model import DTYPES, Element, Node
from ferrule.frontend.tflite.model import Operator, SubGraph, Tensor
from ferrule.frontend.tflite.schema import ENUMS

Build = Callable[..., "str | list[str]"]
BYTES = ("INT8", "UINT8", "INT16")
"""Types of quantised activations."""
NONE = "NONE"


@dataclass(frozen=True)
class Builder:
    """How an operator is written."""

    build: Build
    moves: bool = False
    exact: bool = False


BUILDERS: dict[str, Builder] = {}


def operator(
    *names: str, moves: bool = False, exact: bool = False
) -> Callable[[Build], Build]:
    """Register a builder for operators."""

    def register(build: Build) -> Build:
        BUILDERS.update((name, Builder(build, moves, exact)) for name in names)
        return build

    return register


@dataclass
class Writer:
    """The nodes of a subgraph, as far as they are written."""

    graph: SubGraph
    calls: Callable[[int], str]  # the name of the function that a subgraph is
    prefix: str = ""
    nodes: dict[str, Node] = field(default_factory=dict)
    refs: dict[int, str] = field(default_factory=dict)
    stem: str = ""

    def tensor(self, place: int) -> Tensor:
        return self.graph.tensors[place]

    def add(self, op: str, *inputs: str, **attrs: Any) -> str:
        """A node, by its name."""
        name = self.stem if self.stem not in self.nodes else f"{self.stem}.{len(self.nodes)}"
        self.nodes[name] = Node(name, op, inputs, attrs)
        return name

    def several(self, count: int, op: str, *inputs: str, **attrs: Any) -> list[str]:
        """The results of a node that has several."""
        name = self.add(op, *inputs, **attrs)
        return [f"{name}:{k}" for k in range(count)]

    def const(self, values: Any, dtype: Any = np.int32) -> str:
        """A constant."""
        array = np.asarray(values, dtype)
        code = next(c for c, d in DTYPES.items() if d.numpy == array.dtype and c != 14)
        name = f"{self.prefix}const{len(self.nodes)}"
        self.nodes[name] = Node(name, "Const", (), {"value": array, "dtype": Element(code)})
        return name

    def ref(self, place: int) -> str:
        """The name of a tensor's value."""
        if place in self.refs:
            return self.refs[place]
        if place < 0:
            self.refs[place] = self._named("absent", "tfl.ABSENT")
            return self.refs[place]
        t = self.tensor(place)
        if t.variable:
            data: Any = np.broadcast_to(
                np.zeros((), DTYPES[t.code].numpy), [max(n, 1) for n in t.shape]
            )
        elif t.data is None:
            raise UnsupportedError(f"no operator makes {t.name!r}, which is {t.type}")
        else:
            data = t.data
        self.refs[place] = self._named(f"t{place}", "Const", value=data, dtype=Element(t.code))
        return self.refs[place]

    def _named(self, stem: str, op: str, **attrs: Any) -> str:
        name = f"{self.prefix}{stem}"
        self.nodes[name] = Node(name, op, (), attrs)
        return name

    def known(self, place: int) -> Any:
        """What a tensor is known to hold. Raises UnsupportedError where only a run can tell."""
        data = self.tensor(place).data
        if data is None:
            raise UnsupportedError(f"{self.tensor(place).name!r} is no constant")
        return data

    # ---- one operator ----------------------------------------------------------------------------

    def write(self, op: Operator, at: int) -> None:
        """An operator, the one at a place of the subgraph."""
        self.stem = f"{self.prefix}op{at}"
        try:
            made = self._built(BUILDERS[op.name], op)
        except UnsupportedError as error:
            raise UnsupportedError(f"{op.name} {self.stem!r}: {error}") from error
        results = [made] if isinstance(made, str) else list(made)
        self.refs.update(zip(op.outputs, results))

    def _built(self, found: Builder, op: Operator) -> Any:
        names = [self.ref(i) for i in op.inputs]
        if found.moves or found.exact or not any(map(self.quantised, (*op.inputs, *op.outputs))):
            return found.build(self, op, *names)
        floats = [self.float_of(n, i) for n, i in zip(names, op.inputs)]
        made = found.build(self, op, *floats)
        results = [made] if isinstance(made, str) else list(made)
        return [self.bytes_of(n, i) for n, i in zip(results, op.outputs)]

    def quantised(self, place: int) -> bool:
        """Whether a tensor has scales."""
        if place < 0:
            return False
        t = self.tensor(place)
        return t.quant is not None and t.type in (*BYTES, "INT4", "INT32", "INT64")

    def float_of(self, name: str, place: int) -> str:
        """What a quantised tensor stands for."""
        if not self.quantised(place):
            return name
        return self.add("tfl.DEQUANTIZE", name, quant=self.tensor(place).quant)

    def bytes_of(self, name: str, place: int, down: bool = False) -> str:
        """A float as a quantised tensor; its steps are rounded to the nearest, or `down`."""
        if not self.quantised(place):
            return name
        t = self.tensor(place)
        own = {"quant": t.quant, "dtype": DTYPES[t.code], "down": down}
        return self.add("tfl.QUANTIZE", name, **own)

    def activated(self, name: str, op: Operator) -> str:
        """A value behind the operator's activation."""
        kind = activation(op)
        return name if kind == NONE else self.add(ACTIVATIONS[kind], name)


def activation(op: Operator) -> str:
    """The activation that an operator ends in."""
    return enum(op, "fused_activation_function", "ActivationFunctionType")


ACTIVATIONS = {
    "RELU": "Relu", "RELU6": "Relu6", "RELU_N1_TO_1": "tfl.RELU_N1_TO_1", "TANH": "Tanh",
    "SIGN_BIT": "tfl.SIGN_BIT",
}  # fmt: skip


def enum(op: Operator, option: str, kind: str) -> str:
    """An option that is a case of an enumeration, by name."""
    number = int(op.options.get(option, 0))
    found = ENUMS[kind].get(number)
    if found is None:
        raise UnsupportedError(f"{option} is {number}, which is none")
    return found


def pair(op: Operator, stem: str, default: int = 1) -> tuple[int, int]:
    """An option for height and width."""
    high, wide = (int(op.options.get(f"{stem}_{d}", default)) for d in ("h", "w"))
    return high, wide

