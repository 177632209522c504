"""Writer: StableHLO text, one operation a line, in the form that MLIR prints.

    w = Writer()
    y = w.add(x, w.number(1.0, f32, x.shape))

Each method writes an operation and gives its result, a `Tensor`: a name with its type. Equal
operations of a block are written once. What a block needs of the blocks around it, it may name;
the blocks that XLA wants closed (of `reduce`, `sort` and the like) begin with nothing known.

Specification: StableHLO, "Operations"; MLIR's language reference for literals.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ferrule.base.dtype import DType, boolean, to_storage, u8

Array = NDArray[Any]
Shape = tuple[int, ...]

_ELEMENTS = {"u8": "ui8", "u16": "ui16", "u32": "ui32", "u64": "ui64", "bool": "i1"}
_BITS = {16: "<e", 32: "<f", 64: "<d"}
_MADE = re.compile(r"\s*(%\d+) = (?!.*\(\{$)")  # an operation of one line
_NAME = re.compile(r"%\d+")
_LISTED = 64  # bools that are written one by one


@dataclass(frozen=True)
class Tensor:
    """A value of the text: its name with the `%`, its shape and dtype."""

    name: str
    shape: Shape
    dtype: DType

    @property
    def type(self) -> str:
        return tensor_type(self.shape, self.dtype)

    @property
    def rank(self) -> int:
        return len(self.shape)


Block = Callable[[Sequence[Tensor]], Sequence[Tensor]]


def tensor_type(shape: Shape, dtype: DType) -> str:
    """A type as MLIR writes it."""
    return f"tensor<{''.join(f'{n}x' for n in shape)}{_ELEMENTS.get(dtype.name, dtype.name)}>"


def literal(value: Any, dtype: DType) -> str:
    """A number as MLIR writes it: floats that have no decimal form by their bits."""
    if dtype.is_bool:
        return "true" if value else "false"
    if dtype.is_int:
        return str(int(value))
    number = float(value)
    if not math.isfinite(number):
        if dtype.name == "bf16":
            bits = int(to_storage(np.asarray(number), dtype))
        else:
            bits = int.from_bytes(struct.pack(_BITS[dtype.bits], number), "little")
        return f"0x{bits:0{dtype.bits // 4}X}"
    text = repr(number)
    if "e" in text:
        digits, _, power = text.partition("e")
        return f"{digits}{'' if '.' in digits else '.0'}e{power}"
    return text


def ints(values: Sequence[int]) -> str:
    """`[1, 2]`."""
    return f"[{', '.join(map(str, values))}]"


def array(values: Sequence[int]) -> str:
    """`array<i64: 1, 2>`, the attribute."""
    return f"array<i64{': ' if values else ''}{', '.join(map(str, values))}>"


class Writer:
    """Text in the making: the lines of the block that is open, and what each wrote."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._known: dict[str, Tensor] = {}
        self._flat: dict[str, Tensor] = {}  # what a reshape's result, by name, was before
        self._count = 0
        self.depth = 2

    # ---- blocks ----------------------------------------------------------------------------------

    def fresh(self) -> str:
        """A name that no other value has."""
        self._count += 1
        return f"%{self._count - 1}"

    def block(
        self, types: Sequence[tuple[Shape, DType]], body: Block, closed: bool = True
    ) -> list[str]:
        """The lines of a region: what `body` writes and returns for arguments of `types`. A
        `closed` one uses nothing of the blocks around it.
        """
        arguments = [Tensor(self.fresh(), shape, dtype) for shape, dtype in types]
        lines, known = self.lines, self._known
        self.lines, self._known = [], {} if closed else dict(known)
        self.depth += 1
        try:
            results = body(arguments)
            self.line(f"stablehlo.return{_listed(results)}")
            inner = self.lines
        finally:
            self.lines, self._known = lines, known
            self.depth -= 1
        pad = "  " * self.depth
        named = ", ".join(f"{a.name}: {a.type}" for a in arguments)
        return [f"{pad}^bb0({named}):", *inner] if arguments else inner

    def line(self, text: str) -> None:
        """Append a line to the open block."""
        self.lines.append("  " * self.depth + text)

    # ---- operations ------------------------------------------------------------------------------

    def op(self, text: str, shape: Shape, dtype: DType) -> Tensor:
        """Write `text`, an operation with one result of this type."""
        found = self._known.get(text)
        if found is None:
            found = self._known[text] = Tensor(self.fresh(), shape, dtype)
            self.line(f"{found.name} = {text}")
        return found

    def with_regions(
        self,
        name: str,
        operands: Sequence[Tensor],
        attributes: str,
        blocks: Sequence[list[str]],
        results: Sequence[tuple[Shape, DType]],
    ) -> tuple[Tensor, ...]:
        """Write an operation that has regions, in the generic form."""
        several = len(results) > 1
        base = self.fresh()
        head = f'{base}{f":{len(results)}" if several else ""} = "stablehlo.{name}"'
        given = ", ".join(t.name for t in operands)
        shown = f" <{{{attributes}}}>" if attributes else ""
        self.line(f"{head}({given}){shown} ({{")
        for k, lines in enumerate(blocks):
            if k:
                self.line("}, {")
            self.lines += lines
        types = ", ".join(tensor_type(*t) for t in results)
        types = f"({types})" if several else types
        self.line(f"}}) : ({', '.join(t.type for t in operands)}) -> {types}")
        return tuple(
            Tensor(f"{base}#{k}" if several else base, shape, dtype)
            for k, (shape, dtype) in enumerate(results)
        )

    def generic(
        self, name: str, operands: Sequence[Tensor], attributes: str, shape: Shape, dtype: DType
    ) -> Tensor:
        """An operation without regions in the generic form."""
        given = ", ".join(t.name for t in operands)
        types = ", ".join(t.type for t in operands)
        text = f'"stablehlo.{name}"({given}) <{{{attributes}}}> : ({types}) -> '
        return self.op(text + tensor_type(shape, dtype), shape, dtype)

    # ---- constants -------------------------------------------------------------------------------

    def number(self, value: Any, dtype: DType, shape: Shape = ()) -> Tensor:
        """A tensor that is `value` everywhere."""
        text = f"stablehlo.constant dense<{literal(value, dtype)}> : {tensor_type(shape, dtype)}"
        return self.op(text, shape, dtype)

    def constant(self, values: Array, dtype: DType) -> Tensor:
        """The elements of an array in storage form, by their bytes; equal ones once."""
        shape, stored = values.shape, np.ascontiguousarray(values)
        if dtype.is_bool and values.size > _LISTED:
            packed = self.constant(stored.astype(np.uint8), u8)
            return self.compare("NE", packed, self.like(packed, 0))
        each = stored.reshape(-1).view(f"<u{dtype.size}")
        if not values.size:
            shown = ""
        elif (each == each[0]).all():
            shown = _by_bits(stored.reshape(-1)[0], int(each[0]), dtype)
        elif dtype.is_bool:
            shown = _nested(stored.tolist(), dtype)
        else:
            shown = f'"0x{stored.astype(stored.dtype.newbyteorder("<")).tobytes().hex().upper()}"'
        text = f"stablehlo.constant dense<{shown}> : {tensor_type(shape, dtype)}"
        return self.op(text, shape, dtype)

    def like(self, x: Tensor, value: Any) -> Tensor:
        """`value` in the shape and dtype of `x`."""
        return self.number(value, x.dtype, x.shape)

    # ---- elements --------------------------------------------------------------------------------

    def unary(self, name: str, x: Tensor) -> Tensor:
        """`stablehlo.name`, of elements."""
        return self.op(f"stablehlo.{name} {x.name} : {x.type}", x.shape, x.dtype)

    def binary(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """`stablehlo.name`, of pairs of elements."""
        return self.op(f"stablehlo.{name} {x.name}, {y.name} : {x.type}", x.shape, x.dtype)

    def chlo(self, name: str, *xs: Tensor) -> Tensor:
        """`chlo.name`, of elements; the functions that StableHLO itself lacks."""
        given, types = ", ".join(x.name for x in xs), ", ".join(x.type for x in xs)
        return self.op(f"chlo.{name} {given} : {types} -> {xs[0].type}", xs[0].shape, xs[0].dtype)

    def compare(self, how: str, x: Tensor, y: Tensor) -> Tensor:
        """A bool for each pair of elements; `how` is EQ, NE, LT, LE, GT or GE."""
        text = f"stablehlo.compare {how}, {x.name}, {y.name} : ({x.type}, {y.type}) -> "
        return self.op(text + tensor_type(x.shape, boolean), x.shape, boolean)

    def select(self, c: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """x where c, else y."""
        if x.name == y.name:
            return x
        text = f"stablehlo.select {c.name}, {x.name}, {y.name} : {c.type}, {x.type}"
        return self.op(text, x.shape, x.dtype)

    def convert(self, x: Tensor, dtype: DType) -> Tensor:
        """`stablehlo.convert`, which StableHLO leaves open where a value does not fit."""
        if x.dtype == dtype:
            return x
        to = tensor_type(x.shape, dtype)
        return self.op(f"stablehlo.convert {x.name} : ({x.type}) -> {to}", x.shape, dtype)

    def bitcast(self, x: Tensor, dtype: DType) -> Tensor:
        """The bits of elements as another dtype of their width."""
        if x.dtype == dtype:
            return x
        to = tensor_type(x.shape, dtype)
        return self.op(f"stablehlo.bitcast_convert {x.name} : ({x.type}) -> {to}", x.shape, dtype)

    # ---- places ----------------------------------------------------------------------------------

    def _placed(self, text: str, x: Tensor, shape: Shape, more: Sequence[Tensor] = ()) -> Tensor:
        types = ", ".join(t.type for t in (x, *more))
        to = tensor_type(shape, x.dtype)
        return self.op(f"stablehlo.{text} : ({types}) -> {to}", shape, x.dtype)

    def iota(self, axis: int, dtype: DType, shape: Shape) -> Tensor:
        """The place along an axis."""
        return self.op(f"stablehlo.iota dim = {axis} : {tensor_type(shape, dtype)}", shape, dtype)

    def reshape(self, x: Tensor, shape: Shape) -> Tensor:
        if x.shape == shape:
            return x
        first = self._flat.get(x.name, x)
        if first.shape == shape:
            return first
        found = self._placed(f"reshape {first.name}", first, shape)
        self._flat[found.name] = first
        return found

    def broadcast(self, x: Tensor, dims: Sequence[int], shape: Shape) -> Tensor:
        """Dim i of `x` is dim dims[i] of the result."""
        same = sorted(dims) == list(dims) and math.prod(shape) == math.prod(x.shape)
        if same and all(n == shape[d] for n, d in zip(x.shape, dims, strict=True)):
            return self.reshape(x, shape)
        return self._placed(f"broadcast_in_dim {x.name}, dims = {ints(dims)}", x, shape)

    def transpose(self, x: Tensor, perm: Sequence[int]) -> Tensor:
        """Dim i of the result is dim perm[i] of `x`."""
        if list(perm) == list(range(x.rank)):
            return x
        shape = tuple(x.shape[d] for d in perm)
        return self._placed(f"transpose {x.name}, dims = {ints(perm)}", x, shape)

    def reverse(self, x: Tensor, dims: Sequence[int]) -> Tensor:
        text = f"stablehlo.reverse {x.name}, dims = {ints(dims)} : {x.type}"
        return self.op(text, x.shape, x.dtype) if dims else x

    def slice(
        self, x: Tensor, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int]
    ) -> Tensor:
        shape = tuple(
            max(0, -(-(b - a) // s)) for a, b, s in zip(starts, stops, steps, strict=True)
        )
        if shape == x.shape:
            return x
        cuts = (
            f"{a}:{b}" + (f":{s}" if s != 1 else "")
            for a, b, s in zip(starts, stops, steps, strict=True)
        )
        return self._placed(f"slice {x.name} [{', '.join(cuts)}]", x, shape)

    def pad(
        self, x: Tensor, value: Tensor, low: Sequence[int], high: Sequence[int],
        interior: Sequence[int] = (),
    ) -> Tensor:  # fmt: skip
        """`value`, of rank 0, around the elements; negative amounts take some away."""
        between = interior or [0] * x.rank
        if not any((*low, *high, *between)):
            return x
        shape = tuple(
            lo + hi + n + k * max(0, n - 1)
            for n, lo, hi, k in zip(x.shape, low, high, between, strict=True)
        )
        text = f"pad {x.name}, {value.name}, low = {ints(low)}, high = {ints(high)}"
        return self._placed(f"{text}, interior = {ints(between)}", x, shape, (value,))

    def concatenate(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        if len(xs) == 1:
            return xs[0]
        total = sum(x.shape[axis] for x in xs)
        shape = (*xs[0].shape[:axis], total, *xs[0].shape[axis + 1 :])
        names = ", ".join(x.name for x in xs)
        return self._placed(f"concatenate {names}, dim = {axis}", xs[0], shape, xs[1:])

    def dynamic_slice(self, x: Tensor, starts: Sequence[Tensor], sizes: Shape) -> Tensor:
        """A slice that begins at `starts`, of rank 0, moved so that it lies within `x`."""
        if not starts:
            return x
        names = ", ".join(t.name for t in starts)
        text = f"dynamic_slice {x.name}, {names}, sizes = {ints(sizes)}"
        return self._placed(text, x, sizes, starts)

    def dynamic_update_slice(self, x: Tensor, update: Tensor, starts: Sequence[Tensor]) -> Tensor:
        """`x` with `update` in place of the slice that begins at `starts`."""
        if update.shape == x.shape:
            return update
        names = ", ".join(t.name for t in (x, update, *starts))
        return self._placed(f"dynamic_update_slice {names}", x, x.shape, (update, *starts))


def needed(lines: Sequence[str], results: Sequence[Tensor]) -> list[str]:
    """The lines of a function without those of operations whose result nobody uses."""
    used, kept = {t.name for t in results}, list[str]()
    for text in reversed(lines):
        made = _MADE.match(text)
        if made is not None and made[1] not in used:
            continue
        if " stablehlo.constant " not in text:
            used.update(_NAME.findall(text, made.end() if made is not None else 0))
        kept.append(text)
    return kept[::-1]


def _listed(values: Sequence[Tensor]) -> str:
    """Names and types, behind `return`."""
    if not values:
        return ""
    return f" {', '.join(v.name for v in values)} : {', '.join(v.type for v in values)}"


def _by_bits(value: Any, bits: int, dtype: DType) -> str:
    """One element; a float by its bits, which tells NaNs apart."""
    return f"0x{bits:0{dtype.bits // 4}X}" if dtype.is_float else literal(value, dtype)


def _nested(values: Any, dtype: DType) -> str:
    if isinstance(values, list):
        return f"[{', '.join(_nested(v, dtype) for v in values)}]"
    return literal(values, dtype)
