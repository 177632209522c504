"""What a captured graph takes: tensors of some dtype and sizes, integers in some range, constants.

    arguments = Arguments(placeholders, places, ranges)
    arguments.check(given)      # raises InputError or InputTypeError for what does not fit

A program checks the tensors that it takes. Where a part runs in PyTorch, or an argument gives
nothing but a size, one that was a constant of the capture would go unnoticed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch

from ferrule.base.artifact import DimSource
from ferrule.base.errors import GuardError, InputError, InputTypeError, UnsupportedError
from ferrule.frontend.torch.run import shown
from ferrule.frontend.torch.sizes import SHIFT, Ranges, SymbolicSizes
from ferrule.ir.analysis.size import evaluate
from ferrule.ir.expr import Expr, dim, dims

Given = tuple[tuple[int, ...], ...]

_KEPT = 1024


class Arguments:
    """Checks values for the placeholders that stand at `places`, which a caller gives.

    `ranges` are the ranges that a user declared for symbolic sizes.
    """

    def __init__(self, placeholders: Sequence[Any], places: Sequence[int], ranges: Ranges) -> None:
        sizes = SymbolicSizes(ranges)
        fakes = [(i, placeholders[i].name, placeholders[i].meta.get("val")) for i in places]
        self._tensors = [(i, n, f) for i, n, f in fakes if isinstance(f, torch.Tensor)]
        self._integers = [
            (i, n, _size(sizes, f)) for i, n, f in fakes if isinstance(f, torch.SymInt)
        ]
        self._wanted = [tuple(_size(sizes, s) for s in f.shape) for _, _, f in self._tensors]
        self._facts = sizes.facts(env) if (env := _shape_env(fakes)) is not None else {}
        self._seen: set[Given] = set()

    @property
    def plain(self) -> bool:
        """Whether there is nothing to check but tensors and sizes, each by itself."""
        return not self._integers and not self._facts

    def check(self, given: Sequence[Any]) -> None:
        """Raise InputTypeError for what is no tensor of the captured dtype on the CPU, or no
        integer, and InputError for sizes that the graph was not captured for.
        """
        for i, name, fake in self._tensors:
            x = given[i]
            if not isinstance(x, torch.Tensor) or x.dtype is not fake.dtype or not x.is_cpu:
                raise InputTypeError(
                    f"the argument {name} must be a tensor of {fake.dtype} on the CPU, "
                    f"not {shown(x)}"
                )
        for i, name, _ in self._integers:
            if type(given[i]) is not int:
                raise InputTypeError(f"the argument {name} must be an int, not {shown(given[i])}")
        shapes = tuple([tuple(given[i].shape) for i, _, _ in self._tensors])
        numbers = tuple([given[i] for i, _, _ in self._integers])
        if (*shapes, numbers) not in self._seen:
            values = self._integer_values(numbers)
            self._check_ranges(shapes, values)
            self._check_sizes(shapes, values)
            self._check_facts(values)
            if len(self._seen) >= _KEPT:
                self._seen.clear()
            self._seen.add((*shapes, numbers))

    def _integer_values(self, numbers: tuple[int, ...]) -> dict[Expr, int]:
        """The dims that the integers are. Raises InputError for one out of its range."""
        values: dict[Expr, int] = {}
        for (i, name, size), n in zip(self._integers, numbers):
            values |= dict.fromkeys(dims(size), n + SHIFT)
            if size.op == "dim":
                source, values[size] = _source(size, i), n
                if not source.takes(n):
                    raise InputError(
                        f"the argument {name} must be {source.expected}, got {n}; compile it again "
                        "for this value"
                    )
        return values

    def _check_ranges(self, shapes: Given, values: dict[Expr, int]) -> None:
        """Adds the dims that stand alone in a shape to `values`."""
        for (i, name, _), wanted, shape in zip(self._tensors, self._wanted, shapes):
            if len(wanted) != len(shape):
                raise InputError(
                    f"the argument {name} must have rank {len(wanted)} {list(wanted)}, "
                    f"not rank {len(shape)} {list(shape)}"
                )
            for axis, (size, n) in enumerate(zip(wanted, shape)):
                if size.op == "dim" and size not in values:
                    source, values[size] = _source(size, i, axis), n
                    if not source.takes(n):
                        raise InputError(_wrong(name, axis, source.expected, wanted, shape))

    def _check_sizes(self, shapes: Given, values: dict[Expr, int]) -> None:
        for (_, name, _), wanted, shape in zip(self._tensors, self._wanted, shapes):
            for axis, (size, n) in enumerate(zip(wanted, shape)):
                known = dims(size) <= values.keys()
                if known and (value := evaluate(size, values.__getitem__)) != n:
                    raise InputError(_wrong(name, axis, str(value), wanted, shape))

    def _check_facts(self, values: dict[Expr, int]) -> None:
        for fact, text in self._facts.items():
            if dims(fact) <= values.keys() and not evaluate(fact, values.__getitem__):
                shown = ", ".join(f"{d.attr.name} = {values[d]}" for d in dims(fact))
                raise GuardError(
                    f"the module was captured for {text}, which does not hold for {shown}; "
                    "compile it again for these sizes"
                )


def _shape_env(fakes: Iterable[tuple[int, str, Any]]) -> Any:
    """What PyTorch knows of the symbolic sizes; None where there are none."""
    for _, _, value in fakes:
        for size in getattr(value, "shape", (value,)):
            if isinstance(size, torch.SymInt):
                return size.node.shape_env
    return None


def _size(sizes: SymbolicSizes, size: Any) -> Expr:
    """A size as an Expr; one that cannot be written as one is a dim of its own."""
    try:
        return sizes.expr(size)
    except UnsupportedError:
        return dim(str(size))


def _source(size: Expr, index: int, axis: int | None = None) -> DimSource:
    facts = size.attr
    return DimSource(facts.name, index, axis, facts.lo, facts.hi, facts.multiple)


def _wrong(
    name: str, axis: int, expected: str, wanted: tuple[Expr, ...], shape: tuple[int, ...]
) -> str:
    return (
        f"the argument {name}: axis {axis} must be {expected}, got {shape[axis]}; "
        f"expected {list(wanted)}, got {list(shape)}; compile it again for this size"
    )
