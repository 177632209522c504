"""The inputs of a model: their types while it is built, and arguments checked against them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, InputTypeError
from ferrule.frontend.onnx.model import Array, Port
from ferrule.frontend.onnx.table import dtype_of, is_compiled
from ferrule.ir.expr import Expr, const, dim
from ferrule.ir.graph import TensorType


def declared_types(
    ports: Sequence[Port], limits: Mapping[str, int] | None = None, multiple: int = 1
) -> dict[str, TensorType]:
    """The types of a model's inputs as far as they are declared: dims with names are symbolic,
    those of one name are one, and those without a name are each its own. `limits` bounds some,
    and those of images are multiples of `multiple`: axes 2 and on of inputs of rank 4 and more.
    """
    images = {
        _name(p, axis, s)
        for p in ports if p.shape is not None and len(p.shape) > 3
        for axis, s in enumerate(p.shape) if axis > 1 and not isinstance(s, int)
    }  # fmt: skip

    def size(port: Port, axis: int, s: int | str | None) -> Expr:
        if isinstance(s, int):
            return const(s)
        name = _name(port, axis, s)
        factor = multiple if name in images else 1
        return dim(name, factor, (limits or {}).get(name), factor)

    out: dict[str, TensorType] = {}
    for port in ports:
        if port.kind != "tensor" or port.shape is None or not is_compiled(port.dtype):
            continue
        assert port.dtype is not None
        shape = tuple(size(port, axis, s) for axis, s in enumerate(port.shape))
        out[port.name] = TensorType(shape, dtype_of(port.dtype))
    return out


def fixed_ports(ports: Sequence[Port], shapes: Mapping[str, Sequence[int]]) -> tuple[Port, ...]:
    """`ports` with these shapes, by name; a named size is the same number in all of them.

    Raises InputError for a name that no port has and for shapes that contradict what is declared.
    """
    named = {p.name: p for p in ports}
    sizes: dict[str, int] = {}
    for name, shape in shapes.items():
        if name not in named:
            raise InputError(f"the model has no input {name!r}; its inputs are: {', '.join(named)}")
        port = named[name]
        if any(n < 0 for n in shape):
            raise InputError(f"a shape for {name!r} has a negative size: {list(shape)}")
        _check_shape(port, tuple(shape))
        named[name] = replace(port, shape=tuple(shape))
        for s, n in zip(port.shape or (), shape):
            if isinstance(s, str) and sizes.setdefault(s, n) != n:
                raise InputError(
                    f"the size {s!r} can't be both {sizes[s]} and {n}, as the shapes say"
                )
    return tuple(_with_sizes(named[p.name], sizes) for p in ports)


def _with_sizes(port: Port, sizes: Mapping[str, int]) -> Port:
    if port.shape is None:
        return port
    shape = tuple(sizes.get(s, s) if isinstance(s, str) else s for s in port.shape)
    return replace(port, shape=shape)


def varying_types(
    names: Sequence[str], seen: Sequence[Sequence[tuple[tuple[int, ...], np.dtype[Any]] | None]]
) -> dict[str, TensorType]:
    """The types of arrays that runs gave shapes and dtypes `seen`, of equal ranks; None for values
    that are no arrays. A size that was the same each time is a number, and sizes that were equal
    to each other each time are one dim.
    """

    def size(values: tuple[int, ...]) -> Expr:
        if len(set(values)) == 1:
            return const(values[0])
        return dim("d_" + "_".join(map(str, values)), 1)

    out: dict[str, TensorType] = {}
    for name, *kinds in zip(names, *seen):
        shapes = [kind[0] for kind in kinds if kind is not None]
        if shapes:
            out[name] = TensorType(tuple(map(size, zip(*shapes))), dtype_of(kinds[-1][1]))
    return out


def _name(port: Port, axis: int, size: str | None) -> str:
    """A dim's name from a model's: an identifier that is no word of the shape language."""
    return "d_" + re.sub(r"\W", "_", size or f"{port.name}_{axis}", flags=re.ASCII)


def check_input(port: Port, x: Any) -> Any:
    """An argument for an input, as an array where a tensor is expected.

    Numbers and lists are converted. Raises InputTypeError for another dtype, InputError for another
    shape.
    """
    if port.kind in ("sequence", "optional", ""):
        return x
    array = x if isinstance(x, np.ndarray) else _array(port, x)
    if port.dtype is not None and array.dtype != port.dtype:
        array = _converted(port, array, isinstance(x, np.ndarray | np.generic))
    if port.shape is not None:
        _check_shape(port, array.shape)
    return array


def _array(port: Port, x: Any) -> Array:
    try:
        return np.asarray(x)
    except ValueError as error:
        raise InputError(f"the input {port.name!r} can't be made an array: {error}") from None


def _converted(port: Port, array: Array, typed: bool) -> Array:
    assert port.dtype is not None
    if port.dtype == np.dtype(object) and array.dtype.kind in "US":
        return array.astype(object)
    if port.dtype.name == "bfloat16" and array.dtype == np.uint16:
        return array.view(port.dtype)
    whole = port.dtype.kind in "iub" and array.dtype.kind == "f"
    if not typed and array.dtype.kind in "iufb" and not whole:
        return array.astype(port.dtype)
    raise InputTypeError(
        f"the input {port.name!r} is a {port.type}, and was given an array of {array.dtype}; "
        f"convert it with .astype(numpy.{port.dtype})"
    )


def _check_shape(port: Port, given: tuple[int, ...]) -> None:
    if port.shape is None:
        return
    if len(port.shape) != len(given):
        raise InputError(
            f"the input {port.name!r} is of shape {shown_shape(port)}, and was given one of rank "
            f"{len(given)}: {list(given)}"
        )
    for axis, (s, n) in enumerate(zip(port.shape, given)):
        if isinstance(s, int) and s != n:
            raise InputError(
                f"the input {port.name!r} is of shape {shown_shape(port)}: its axis {axis} must be "
                f"{s}, not {n}; given {list(given)}"
            )


def shown_shape(port: Port) -> str:
    """A port's shape as people read it."""
    if port.shape is None:
        return "of any rank"
    return "[" + ", ".join("?" if s is None else str(s) for s in port.shape) + "]"
