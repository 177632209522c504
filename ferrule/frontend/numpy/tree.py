"""Arguments and results as trees: containers around leaves.

    tree = leaf | (tree, ..) | [tree, ..] | {key: tree, ..} | namedtuple of trees | Static(value)

`flatten` takes the leaves out of a tree and leaves its structure, which is hashable and says all
about it but the leaves; `unflatten` puts leaves back.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from ferrule.base.errors import InputTypeError

_PLAIN = (bool, str, bytes, type(None), type(...), type, np.dtype, Enum, range)
_CALLABLE = (types.FunctionType, types.BuiltinFunctionType, np.ufunc)


@dataclass(frozen=True)
class Static:
    """A value that belongs to the structure, whatever its type. It must be hashable."""

    value: Any


@dataclass(frozen=True)
class Leaf:
    """The place of a leaf."""


@dataclass(frozen=True)
class Fixed:
    """A value of the structure. Its type counts: 1, 1.0 and True are three structures."""

    kind: type
    value: Any


@dataclass(frozen=True)
class Branch:
    """A container: its type, the keys of a dict, and what it holds."""

    kind: type
    keys: tuple[Any, ...]
    children: tuple[Structure, ...]


Structure = Leaf | Fixed | Branch
_LEAF = Leaf()


def flatten(
    tree: Any, leaves: list[Any], is_leaf: Callable[[Any], bool], name: str = ""
) -> Structure:
    """The structure of `tree`; its leaves are appended to `leaves`.

    Raises InputTypeError, with `name` for the place, for a value that is neither.
    """
    if is_leaf(tree):
        leaves.append(tree)
        return _LEAF
    if isinstance(tree, Static):
        return _fixed(tree.value, name)
    if isinstance(tree, tuple | list):
        parts = [flatten(x, leaves, is_leaf, f"{name}[{i}]") for i, x in enumerate(tree)]
        return Branch(type(tree), (), tuple(parts))
    if isinstance(tree, dict):
        parts = [flatten(x, leaves, is_leaf, f"{name}[{k!r}]") for k, x in tree.items()]
        return Branch(type(tree), tuple(tree), tuple(parts))
    if isinstance(tree, (*_PLAIN, *_CALLABLE)):
        return _fixed(tree, name)
    raise InputTypeError(
        f"{name} is of type {type(tree).__name__}: expected an array, a number, or a tuple, list "
        "or dict of these; name any other argument in static_argnames"
    )


def _fixed(value: Any, name: str) -> Fixed:
    try:
        hash(value)
    except TypeError:
        raise InputTypeError(
            f"{name} is static, and of type {type(value).__name__}, which is not hashable: a "
            "program is compiled for each value, so values must compare and hash"
        ) from None
    return Fixed(type(value), value)


def unflatten(structure: Structure, leaves: Iterator[Any]) -> Any:
    """The tree of this structure with the next ones of `leaves`."""
    if isinstance(structure, Leaf):
        return next(leaves)
    if isinstance(structure, Fixed):
        return structure.value
    make: Any = structure.kind
    parts = [unflatten(s, leaves) for s in structure.children]
    if issubclass(make, dict):
        return make(zip(structure.keys, parts))
    return make(*parts) if hasattr(make, "_fields") else make(parts)


def leaf_names(structure: Structure, name: str) -> Iterator[str]:
    """What each leaf is called in Python, in order: `name[0]['weight']`."""
    if isinstance(structure, Leaf):
        yield name
    elif isinstance(structure, Branch):
        for i, child in enumerate(structure.children):
            key = structure.keys[i] if structure.keys else i
            yield from leaf_names(child, f"{name}[{key!r}]")
