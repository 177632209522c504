"""Reading `saved_model.pb`: the messages of a SavedModel as the plain data of `model`.

The schemas are TensorFlow's: saved_model.proto, meta_graph.proto, graph.proto, function.proto,
node_def.proto, attr_value.proto, tensor.proto and tensor_shape.proto. Sizes that a file states are
checked against the bytes that are there before memory is taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, ParseError
from ferrule.frontend.tensorflow.model import (
    DTYPES,
    STRING,
    Array,
    Called,
    Element,
    Function,
    Node,
    Port,
    SavedModel,
    Shape,
    Signature,
)
from ferrule.frontend.tensorflow.variables import keys_of
from ferrule.frontend.tensorflow.wire import Message

FILE = "saved_model.pb"
_SERVE = "serve"


def is_saved_model(path: Any) -> bool:
    """Whether a path is a folder with a SavedModel."""
    return Path(path, FILE).is_file()


def read_saved_model(folder: Path) -> SavedModel:
    """The program in a folder. Raises InputError where it cannot be read, ParseError where it is
    malformed, UnsupportedError for a folder with a program for training alone.
    """
    try:
        data = (folder / FILE).read_bytes()
    except OSError as error:
        raise InputError(f"{folder / FILE} can't be read: {error.strerror}") from None
    try:
        return parse(data)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ParseError(f"{folder / FILE} is malformed: {error}") from None


def parse(data: bytes) -> SavedModel:
    """The program in the bytes of a SavedModel. Raises ParseError and UnsupportedError."""
    graphs = list(Message(data).messages(2))
    if not graphs:
        raise ParseError("it has no graph")
    serving = [g for g in graphs if _SERVE in g.message(1).texts(4)]
    meta = (serving or graphs)[0]
    nodes, functions = _graph(meta.message(2))
    signatures = {name: _signature(s, nodes) for name, s in meta.entries(5)}
    restore = meta.message(3).text(3)
    keys = keys_of(nodes, functions, restore)
    return SavedModel(nodes, functions, signatures, keys)


def program_of(data: bytes) -> tuple[Mapping[str, Node], Mapping[str, Function]]:
    """The nodes and functions in the bytes of a GraphDef. Raises ParseError."""
    return _graph(Message(data))


def _graph(m: Message) -> tuple[dict[str, Node], dict[str, Function]]:
    nodes = {n.name: n for n in map(_node, m.messages(1))}
    return nodes, {f.name: f for f in map(_function, m.message(2).messages(1))}


def _signature(m: Message, nodes: Mapping[str, Node]) -> Signature:
    """A signature, its inputs in the order in which the function behind its first output takes
    them.
    """
    inputs, outputs = list(_ports(m, 1)), tuple(_ports(m, 2))
    first = nodes.get(outputs[0].value.partition(":")[0]) if outputs else None
    order = [n.partition(":")[0] for n in first.operands] if first is not None else []

    def place(port: Port) -> int:
        name = port.value.partition(":")[0]
        return order.index(name) if name in order else len(order)

    return Signature(tuple(sorted(inputs, key=place)), outputs)


def _ports(m: Message, number: int) -> Iterator[Port]:
    for name, info in sorted(m.entries(number), key=lambda item: item[0]):
        yield Port(name, info.text(1), Element(info.integer(2)), _shape(info.message(3)))


def _node(m: Message) -> Node:
    return Node(m.text(1), m.text(2), m.texts(3), _attributes(m, 5))


def _function(m: Message) -> Function:
    signature = m.message(1)
    results = {e.text(1): e.text(2) for e in m.messages(4)}
    try:
        found = tuple(results[a.text(1)] for a in signature.messages(3))
    except KeyError as error:
        raise ParseError(f"the function {signature.text(1)} does not return {error}") from None
    return Function(
        signature.text(1),
        tuple(a.text(1) for a in signature.messages(2)),
        {n.name: n for n in map(_node, m.messages(3))},
        found,
        tuple(e.text(2) for e in m.messages(6)),
    )


# ---- attributes ----------------------------------------------------------------------------------


def _attributes(m: Message, number: int) -> Mapping[str, Any]:
    return {name: _attribute(a) for name, a in m.entries(number)}


def _attribute(m: Message) -> Any:
    """The value of an AttrValue; None for one that has none."""
    if 1 in m:
        return _listed(m.message(1))
    for number, read in _SINGLE.items():
        if number in m:
            return read(m, number)
    return None


_SINGLE: Mapping[int, Any] = {
    2: lambda m, n: m.data(n),
    3: lambda m, n: m.integer(n),
    4: lambda m, n: m.single(n),
    5: lambda m, n: bool(m.integer(n)),
    6: lambda m, n: Element(m.integer(n)),
    7: lambda m, n: _shape(m.message(n)),
    8: lambda m, n: tensor(m.message(n)),
    10: lambda m, n: Called(m.message(n).text(1)),
}


def _listed(m: Message) -> tuple[Any, ...]:
    if 2 in m:
        return tuple(bytes(x) for x in m.all(2))
    if 3 in m:
        return tuple(m.integers(3))
    if 4 in m:
        return tuple(np.frombuffer(m.numbers(4, 4), "<f4").tolist())
    if 5 in m:
        return tuple(map(bool, m.integers(5)))
    if 6 in m:
        return tuple(map(Element, m.integers(6)))
    if 7 in m:
        return tuple(_shape(x) for x in m.messages(7))
    if 8 in m:
        return tuple(tensor(x) for x in m.messages(8))
    return tuple(Called(x.text(1)) for x in m.messages(9))


def _shape(m: Message) -> Shape:
    """A TensorShapeProto: -1 for an unknown size, None for an unknown rank."""
    return None if m.integer(3) else tuple(d.integer(1) for d in m.messages(2))


# ---- tensors -------------------------------------------------------------------------------------

_FIXED = {1: (5, "<f4"), 2: (6, "<f8")}
_INTS = {3: 7, 4: 7, 5: 7, 6: 7, 17: 7, 9: 10, 10: 11, 14: 13, 19: 13, 22: 16, 23: 17}


class Foreign:
    """A tensor of a type that ferrule lacks: only the program's other parts can be run."""

    def __init__(self, element: Element) -> None:
        self.element = element


def tensor(m: Message) -> Array | Foreign:
    """A TensorProto as an array in storage form, of objects for strings. Raises ParseError where it
    does not hold as many elements as its shape says.
    """
    element, shape = Element(m.integer(1)), _shape(m.message(2))
    if shape is None or any(n < 0 for n in shape):
        raise ParseError(f"a constant of an unknown shape: {shape}")
    if element.code == STRING:
        return _spread(np.array([bytes(x) for x in m.all(8)], object), shape)
    if element.code not in DTYPES:
        return Foreign(element)
    kind = DTYPES[element.code].numpy
    content = m.view(4)
    if len(content):
        if len(content) != prod(shape) * kind.itemsize:
            raise ParseError(f"a constant of shape {list(shape)} has {len(content)} bytes")
        return np.frombuffer(content, kind).reshape(shape)
    if element.code in _FIXED:
        number, form = _FIXED[element.code]
        held = np.frombuffer(m.numbers(number, np.dtype(form).itemsize), form).astype(kind)
        return _spread(held, shape)
    numbers = m.integers(_INTS[element.code])
    wide = np.array([n & ((1 << 64) - 1) for n in numbers], np.uint64)
    if element.code in (14, 19):
        return _spread(wide.astype(np.uint16).view(kind), shape)
    return _spread(wide.astype(kind), shape)


def _spread(held: Array, shape: tuple[int, ...]) -> Array:
    """Elements in order, of which the last one stands for all that follow."""
    count = prod(shape)
    if len(held) > count:
        raise ParseError(f"a constant of shape {list(shape)} has {len(held)} elements")
    if len(held) == count:
        return held.reshape(shape)
    if len(held) <= 1:
        one = held[0] if len(held) else (b"" if held.dtype == object else held.dtype.type(0))
        return np.broadcast_to(np.asarray(one, held.dtype), shape)
    if count > _MOST_SPREAD:
        raise ParseError(f"a constant of shape {list(shape)} has {len(held)} elements")
    return np.concatenate([held, np.full(count - len(held), held[-1])]).reshape(shape)


_MOST_SPREAD = 1 << 24
