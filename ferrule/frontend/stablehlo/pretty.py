"""Operations in pretty form: what `formats` says, and the forms that are too special for it.

A reader of a form gives a `Draft`: what the text says, before its operands are looked up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from ferrule.frontend.stablehlo.attributes import Attributes
from ferrule.frontend.stablehlo.formats import FORMATS
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import (
    Constant,
    Operation,
    Region,
    TensorType,
    TupleType,
    Type,
    Value,
)
from ferrule.frontend.stablehlo.types import Types


@dataclass(frozen=True)
class Use:
    """A name that is used as an operand, without `%`, and its offset in the text."""

    name: str
    at: int


@dataclass
class Draft:
    """An operation as it was read. `types` are those that the text gives the operands, None where
    it gives none.
    """

    name: str
    operands: list[Use] = field(default_factory=list)
    types: tuple[Type, ...] | None = None
    results: tuple[Type, ...] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    regions: list[Region] = field(default_factory=list)


class Bodies(Protocol):
    """Who reads the regions of operations, and names new values in them."""

    def region(self, arguments: list[tuple[Use, Type]] | None = None) -> Region: ...

    def fresh(self, name: str, type: Type) -> Value: ...


class Pretty:
    """Reads operations in pretty form at a cursor, past their names."""

    def __init__(
        self, cursor: Cursor, types: Types, attributes: Attributes, bodies: Bodies
    ) -> None:
        self.cursor = cursor
        self.types = types
        self.attributes = attributes
        self.bodies = bodies

    def read(self, name: str, at: int) -> Draft:
        """The operation whose name, at an offset, was read. Raises UnsupportedError for a name that
        has no pretty form here.
        """
        draft = Draft(name)
        special = _SPECIAL.get(name)
        if special:
            special(self, draft)
        elif name in _FORMATS:
            items, types = _FORMATS[name]
            self._items(items, draft)
            _TYPES[types](self, draft)
        else:
            raise self.cursor.unsupported(
                f"no pretty form of an operation {name} is known; write it in the generic form, as "
                f'"{name}"(..) : (..) -> ..',
                at,
            )
        return draft

    def use(self) -> Use:
        """An operand."""
        at = self.cursor.start
        return Use(self.cursor.take("value", "a value that begins with '%'")[1:], at)

    def uses(self) -> list[Use]:
        """Operands in parentheses."""
        found: list[Use] = []
        self.cursor.expect("(")
        self.cursor.list_of(lambda: found.append(self.use()), ")")
        return found

    # items of formats

    def _items(self, items: tuple[Any, ...], draft: Draft) -> None:
        cursor = self.cursor
        for item in items:
            if isinstance(item, tuple):
                if cursor.at(item[0]):
                    self._items(item, draft)
            elif item == "%":
                draft.operands.append(self.use())
            elif item == "%*":
                self._several(draft)
            elif item == "%*,":
                while cursor.kind == "value":
                    draft.operands.append(self.use())
                    cursor.expect(",")
            elif item == "{}":
                self._dictionary(draft)
            elif item[0] == "$":
                name, _, kind = item[1:].partition(".")
                value = _KINDS[kind](self, draft)
                if name:
                    draft.attributes[name] = value
            else:
                cursor.expect(item)

    def _several(self, draft: Draft) -> None:
        if self.cursor.kind == "value":
            draft.operands.append(self.use())
            while self.cursor.accept(","):
                draft.operands.append(self.use())

    def _dictionary(self, draft: Draft, keyword: bool = False) -> None:
        if keyword and not self.cursor.accept("attributes"):
            return
        at = self.cursor.start
        more = self.attributes.dictionary() if keyword else self.attributes.optional()
        twice = more.keys() & draft.attributes.keys()
        if twice:
            raise self.cursor.error(f"the attribute {min(twice)} stands here twice", at)
        draft.attributes.update(more)

    # kinds of attributes

    def _number(self, draft: Draft) -> float:
        at, value = self.cursor.start, self.attributes.number(typed=False)
        if not isinstance(value, float):
            raise self.cursor.error("expected a number with a point", at)
        return value

    def _dot(self, draft: Draft) -> dict[str, Any]:
        """`batching_dims = [0] x [0], contracting_dims = [2] x [1]`."""
        found: dict[str, Any] = {
            "lhs_batching_dimensions": (), "rhs_batching_dimensions": (),
        }  # fmt: skip
        for key in ("batching", "contracting"):
            if key == "batching" and not self.cursor.at("batching_dims"):
                continue
            self.cursor.expect(f"{key}_dims")
            self.cursor.expect("=")
            found[f"lhs_{key}_dimensions"] = self.attributes.dims()
            self.cursor.expect("x")
            found[f"rhs_{key}_dimensions"] = self.attributes.dims()
            if key == "batching":
                self.cursor.expect(",")
        return found

    def _precision(self, draft: Draft) -> None:
        """`, precision = [DEFAULT, HIGH], algorithm = <..>`, each of which may be left out."""
        cursor = self.cursor
        if not cursor.accept(","):
            return
        if cursor.accept("precision"):
            cursor.expect("=")
            cases: list[str] = []
            cursor.expect("[")
            cursor.list_of(lambda: cases.append(self.attributes.enum()), "]")
            draft.attributes["precision_config"] = tuple(cases)
            if not cursor.accept(","):
                return
        cursor.expect("algorithm")
        cursor.expect("=")
        draft.attributes["algorithm"] = self.attributes.structure("dot_algorithm")

    def _window(self, draft: Draft) -> None:
        """`stride = [1, 1], pad = [[0, 0], [1, 1]], lhs_dilate = .., rhs_dilate = .., reverse = ..`
        """
        cursor = self.cursor
        names = {
            "stride": "window_strides", "pad": "padding", "lhs_dilate": "lhs_dilation",
            "rhs_dilate": "rhs_dilation", "reverse": "window_reversal",
        }  # fmt: skip
        while not cursor.at("}"):
            if cursor.token not in names or names[cursor.token] in draft.attributes:
                raise cursor.expected(f"one of {', '.join(names)}, each once")
            key = cursor.advance()
            cursor.expect("=")
            draft.attributes[names[key]] = (
                self._pad() if key == "pad" else self._flags() if key == "reverse"
                else self.attributes.dims()
            )  # fmt: skip
            if not cursor.accept(","):
                return

    def _flags(self) -> tuple[bool, ...]:
        found: list[bool] = []

        def one() -> None:
            truth = self.cursor.kind == "bare"
            found.append(self.attributes.truth() if truth else bool(self.cursor.integer()))

        self.cursor.expect("[")
        self.cursor.list_of(one, "]")
        return tuple(found)

    def _pad(self) -> Constant:
        rows: list[tuple[int, ...]] = []
        self.cursor.expect("[")
        at = self.cursor.start
        self.cursor.list_of(lambda: rows.append(self.attributes.dims()), "]")
        least, most = np.iinfo(np.int64).min, np.iinfo(np.int64).max
        if any(len(row) != 2 or not all(least <= n <= most for n in row) for row in rows):
            raise self.cursor.error("expected two numbers of 64 bits a dimension", at)
        values = np.array(rows, np.int64).reshape(len(rows), 2)
        return Constant(TensorType((len(rows), 2), "i64"), values)

    def _ranges(self, draft: Draft) -> None:
        """`[0:4, 2:8:3]`: start, limit and stride of each dimension."""
        cursor = self.cursor
        rows: list[tuple[int, int, int]] = []

        def one() -> None:
            start = cursor.integer()
            cursor.expect(":")
            limit = cursor.integer()
            rows.append((start, limit, cursor.integer() if cursor.accept(":") else 1))

        cursor.expect("[")
        cursor.list_of(one, "]")
        for n, key in enumerate(("start_indices", "limit_indices", "strides")):
            draft.attributes[key] = tuple(row[n] for row in rows)

    def _format(self, draft: Draft) -> None:
        """`e5m10`: the bits of a float."""
        found = re.fullmatch(r"e(\d{1,9})m(\d{1,9})", self.cursor.token)
        if not found:
            raise self.cursor.expected("bits of exponent and mantissa, as e5m10")
        self.cursor.advance()
        draft.attributes["exponent_bits"] = int(found[1])
        draft.attributes["mantissa_bits"] = int(found[2])

    def _regions(self, draft: Draft) -> None:
        draft.regions.append(self.bodies.region())
        while self.cursor.accept(","):
            draft.regions.append(self.bodies.region())

    # types at the end

    def _function(self, draft: Draft) -> None:
        type = self.types.function()
        draft.types, draft.results = type.arguments, type.results

    def _same(self, draft: Draft) -> None:
        """One type for all, or that of a function."""
        if self.cursor.at("("):
            self._function(draft)
        else:
            draft.results = (self.types.value(),)
            draft.types = draft.results * len(draft.operands)

    def _result(self, draft: Draft) -> None:
        draft.results = (self.types.value(),)

    def _given(self, draft: Draft) -> None:
        draft.types = (self.types.value(),) * len(draft.operands)

    def _operand_types(self, draft: Draft) -> None:
        draft.types = self.types.row()

    def _returns(self, draft: Draft) -> None:
        draft.types = self.types.row() if self.cursor.accept(":") else ()

    def _pairwise(self, draft: Draft) -> None:
        draft.types = draft.results = self.types.row()

    def _arrow(self, draft: Draft) -> None:
        draft.types = self.types.row()
        self.cursor.expect("->")
        draft.results = (
            self.types.several() if self.cursor.at("(") else (self.types.value(),)
        )

    def _complex(self, draft: Draft) -> None:
        at = self.cursor.start
        self._same(draft)
        type = draft.results[0] if draft.results else None
        if draft.types == draft.results * 2:  # the type of the result stands for all
            if not isinstance(type, TensorType) or not type.element.startswith("complex<"):
                raise self.cursor.error("expected a tensor of complex numbers", at)
            draft.types = (TensorType(type.shape, type.element[8:-1]),) * 2

    def _select(self, draft: Draft) -> None:
        if self.cursor.at("("):
            self._function(draft)
            return
        first = self.types.value()
        self.cursor.expect(",")
        second = self.types.value()
        draft.types, draft.results = (first, second, second), (second,)

    def _tuple(self, draft: Draft) -> None:
        at, type = self.cursor.start, self.types.value()
        if not isinstance(type, TupleType):
            raise self.cursor.error("expected the type of a tuple", at)
        draft.types, draft.results = type.types, (type,)

    def _value(self, draft: Draft) -> None:
        draft.results = (draft.attributes["value"].type,)

    def _checked(self, draft: Draft) -> None:
        draft.types = (draft.attributes["value"].type,)

    # special forms

    def _barrier(self, draft: Draft) -> None:
        self._dictionary(draft)
        if self.cursor.accept("("):
            self.cursor.expect(")")
            draft.types = ()
            return
        self._several(draft)
        self.cursor.expect(":")
        self._pairwise(draft)

    def _reduce(self, draft: Draft) -> None:
        """`(%x init: %a), (%y init: %b) applies stablehlo.add across dimensions = [0] : type`, or
        without `applies` and with `reducer(%p: type, %q: type).. { .. }` at the end.
        """
        cursor = self.cursor
        inits: list[Use] = []
        while cursor.at("("):
            cursor.advance()
            draft.operands.append(self.use())
            cursor.expect("init")
            cursor.expect(":")
            inits.append(self.use())
            cursor.expect(")")
            if not cursor.accept(","):
                break
        draft.operands += inits
        applied, at = "", cursor.start
        if cursor.accept("applies"):
            at = cursor.start
            applied = cursor.string() if cursor.kind == "string" else cursor.take("bare", "a name")
        for word in ("across", "dimensions", "="):
            cursor.expect(word)
        draft.attributes["dimensions"] = self.attributes.dims()
        self._dictionary(draft)
        cursor.expect(":")
        self._function(draft)
        if applied:
            draft.regions.append(self._applies(applied, draft, at))
        else:
            cursor.expect("reducer")
            draft.regions.append(self._reducer())

    def _applies(self, name: str, draft: Draft, at: int) -> Region:
        """The region of a reduction that is one operation of two elements."""
        if FORMATS.get(name) != "% , % {} : same":
            raise self.cursor.error(f"expected an operation of two elements, got {name}", at)
        first = draft.types[0] if draft.types else None
        if not isinstance(first, TensorType):
            raise self.cursor.error("expected a type of a tensor to reduce", at)
        type = TensorType((), first.element)
        left, right, result = (self.bodies.fresh(n, type) for n in ("lhs", "rhs", "reduced"))
        place = self.cursor.place(at)
        both = (left.name, right.name)
        return Region(
            (left, right),
            (
                Operation(name, both, (result,), {}, (), place),
                Operation("stablehlo.return", (result.name,), (), {}, (), place),
            ),
        )

    def _reducer(self) -> Region:
        cursor = self.cursor
        elements: list[tuple[Use, Type]] = []
        sums: list[tuple[Use, Type]] = []
        while cursor.accept("("):
            elements.append(self.argument())
            cursor.expect(",")
            sums.append(self.argument())
            cursor.expect(")")
        return self.bodies.region(elements + sums)

    def argument(self) -> tuple[Use, Type]:
        """`%name: type`."""
        use = self.use()
        self.cursor.expect(":")
        type = self.types.value()
        self.cursor.skip_location()
        return use, type

    def _while(self, draft: Draft) -> None:
        """`(%a = %x, %b = %y) : type, type cond { .. } do { .. }`."""
        cursor = self.cursor
        names: list[Use] = []

        def carried() -> None:
            names.append(self.use())
            cursor.expect("=")
            draft.operands.append(self.use())

        cursor.expect("(")
        cursor.list_of(carried, ")")
        at = cursor.start
        draft.types = ()
        if names:
            cursor.expect(":")
            self._pairwise(draft)
        if len(draft.types) != len(names):
            raise cursor.error(f"expected {len(names)} types, got {len(draft.types)}", at)
        self._dictionary(draft, keyword=True)
        for word in ("cond", "do"):
            cursor.expect(word)
            draft.regions.append(self.bodies.region(list(zip(names, draft.types))))

    def _scan(self, draft: Draft) -> None:
        """`(%x) inits(%a) dimension = 0 attributes {..} { .. } : type`."""
        inputs = self.uses()
        self.cursor.expect("inits")
        inits = self.uses()
        draft.operands = inputs + inits
        self.cursor.expect("dimension")
        self.cursor.expect("=")
        draft.attributes["dimension"] = self.cursor.integer()
        self._dictionary(draft, keyword=True)
        draft.regions.append(self.bodies.region())
        self.cursor.expect(":")
        at = self.cursor.start
        self._function(draft)
        if len(draft.results) < len(inits):
            raise self.cursor.error("expected a result for each init", at)
        draft.attributes["operandSegmentSizes"] = (len(inputs), len(inits))
        draft.attributes["resultSegmentSizes"] = (len(draft.results) - len(inits), len(inits))


def _compiled(text: str) -> tuple[tuple[Any, ...], str]:
    """A format's items, of which those between `(?` and `?)` are a tuple, and its types."""
    *words, types = text.split()
    stack: list[list[Any]] = [[]]
    for word in words:
        if word == "(?":
            stack.append([])
        elif word == "?)":
            group = tuple(stack.pop())
            stack[-1].append(group)
        else:
            stack[-1].append(word)
    return tuple(stack[0]), types


_KINDS: dict[str, Callable[[Pretty, Draft], Any]] = {
    "int": lambda p, d: p.cursor.integer(),
    "ints": lambda p, d: p.attributes.integers(),
    "truth": lambda p, d: p.attributes.truth(),
    "string": lambda p, d: p.cursor.string(),
    "symbol": lambda p, d: p.cursor.symbol(),
    "enum": lambda p, d: p.attributes.enum(),
    "constant": lambda p, d: p.attributes.constant(),
    "conv": lambda p, d: p.attributes.convolution(),
    "number": Pretty._number,
    "dot": Pretty._dot,
    "precision": Pretty._precision,
    "window": Pretty._window,
    "ranges": Pretty._ranges,
    "format": Pretty._format,
    "regions": Pretty._regions,
}
_TYPES: dict[str, Callable[[Pretty, Draft], None]] = {
    "function": Pretty._function,
    "same": Pretty._same,
    "result": Pretty._result,
    "given": Pretty._given,
    "operands": Pretty._operand_types,
    "returns": Pretty._returns,
    "arrow": Pretty._arrow,
    "complex": Pretty._complex,
    "select": Pretty._select,
    "tuple": Pretty._tuple,
    "value": Pretty._value,
    "checked": Pretty._checked,
}
_SPECIAL: dict[str, Callable[[Pretty, Draft], None]] = {
    "stablehlo.optimization_barrier": Pretty._barrier,
    "stablehlo.reduce": Pretty._reduce,
    "stablehlo.while": Pretty._while,
    "chlo.scan": Pretty._scan,
}
_FORMATS = {name: _compiled(text) for name, text in FORMATS.items()}
