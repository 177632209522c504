"""Attributes and types in bytecode: those of VHLO, those of MLIR itself, and text for the others.

They lie in a table, refer to one another by number, and are read when they are asked for. They come
out as `module` says, with a FunctionType for that of a function and the name of an element's type.

Specification: VhloBytecode.cpp (openxla/stablehlo), BuiltinDialectBytecode.td (llvm/llvm-project).
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ferrule.frontend.stablehlo.attributes import Attributes, is_ignored
from ferrule.frontend.stablehlo.elements import STORAGE, complaint, count, from_bytes
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import Constant, TensorType, TokenType, TupleType, Type
from ferrule.frontend.stablehlo.stream import Stream
from ferrule.frontend.stablehlo.types import AnyType, FunctionType, Types, Weights
from ferrule.frontend.stablehlo.vhlo import ATTRIBUTES, ENUMERATIONS, TYPES

_MAX_DEPTH = 64
_DYNAMIC = -(1 << 63)  # the size of a dimension that is not known
_INTEGERS = {"i2": 2, "ui2": 2, "i4": 4, "ui4": 4}
_FLOATS = {"f16": "<e", "bf16": "<f", "f32": "<f", "f64": "<d"}


@dataclass(frozen=True)
class Entry:
    """Where an attribute or type lies, its dialect, and whether it is encoded or a text."""

    dialect: str
    at: int
    end: int
    encoded: bool


class Encoded:
    """Reads the attributes and types of an artifact."""

    def __init__(
        self, stream: Stream, strings: list[str], attributes: list[Entry], types: list[Entry],
        resources: dict[str, bytes],
    ) -> None:  # fmt: skip
        self.stream = stream
        self.strings = strings
        self._attributes = attributes
        self._types = types
        self._resources = resources
        self._read: dict[tuple[bool, int], Any] = {}
        self._weights = Weights()
        self._depth = 0

    def attribute(self, stream: Stream) -> Any:
        """The attribute whose number comes next."""
        at = stream.at
        return self._numbered(stream.varint(), stream, at, False)

    def any_type(self, stream: Stream) -> AnyType:
        """The type whose number comes next."""
        at = stream.at
        found: AnyType = self._numbered(stream.varint(), stream, at, True)
        return found

    def value_type(self, stream: Stream) -> Type:
        """The type of a value whose number comes next."""
        at, type = stream.at, self.any_type(stream)
        if isinstance(type, (FunctionType, str)):
            raise stream.error(f"expected the type of a value, got {type}", at)
        return type

    def flagged_type(self, stream: Stream) -> tuple[Type, bool]:
        """The type of a value, and a flag in the lowest bit of its number."""
        at = stream.at
        number, flag = stream.flagged()
        type = self._numbered(number, stream, at, True)
        if isinstance(type, (FunctionType, str)):
            raise stream.error(f"expected the type of a value, got {type}", at)
        return type, flag

    def string(self, stream: Stream) -> str:
        """The string whose number comes next."""
        return stream.index(self.strings, "string")

    def _numbered(self, number: int, stream: Stream, at: int, types: bool) -> Any:
        """The attribute or type with a number, which stood at an offset."""
        key = types, number
        if key in self._read:
            return self._read[key]
        table = self._types if types else self._attributes
        if number >= len(table):
            raise stream.error(f"{'type' if types else 'attribute'} {number} of {len(table)}", at)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise stream.error(f"attributes nested more than {_MAX_DEPTH} deep", at)
        entry = table[number]
        part = Stream(stream.data, stream.name, entry.at, entry.end)
        value = self._decoded(entry, part, types)
        if entry.encoded and part.left:
            raise part.error(f"{part.left} bytes too many")
        self._depth -= 1
        self._read[key] = value
        return value

    def _decoded(self, entry: Entry, part: Stream, types: bool) -> Any:
        what = "type" if types else "attribute"
        if not entry.encoded:
            cursor = Cursor(part.text(), f"{part.name}: byte {entry.at}")
            reader = Types(cursor)
            return reader.any() if types else Attributes(cursor, reader).any()
        if entry.dialect not in ("vhlo", "builtin"):
            raise part.unsupported(f"a {what} of the dialect {entry.dialect} is not supported")
        if entry.dialect == "vhlo":
            return self._vhlo_type(part) if types else self._vhlo_attribute(part)
        code = part.varint()
        read = (_BUILTIN_TYPES if types else _BUILTIN_ATTRIBUTES).get(code)
        if not read:
            raise part.unsupported(f"the {what} of MLIR number {code} is not supported", entry.at)
        return read(self, part)

    # types

    def _vhlo_type(self, part: Stream) -> AnyType:
        at, code = part.at, part.varint()
        name = TYPES.get(code)
        if name in STORAGE or name == "none":
            return str(name)
        if name == "complex":
            return f"complex<{self.any_type(part)}>"
        if name == "tensor":
            return self._tensor(part)
        if name == "encoded":
            self.attribute(part)
            return self._tensor(part)
        if name == "unranked_tensor":
            return TensorType(None, self._element(part))
        if name == "token":
            return TokenType()
        if name == "tuple":
            return self._tuple(part)
        if name == "func":
            return self._function(part)
        if name in ("quant", "quant_per_axis"):
            raise part.unsupported("quantised types are not supported", at)
        if name is None or name in ("buffer", "future", "witness"):
            raise part.unsupported(f"the type {name or code} of VHLO is not supported", at)
        return name  # of elements that tensors here cannot have, but an attribute may name

    def _element(self, part: Stream) -> str:
        at, element = part.at, self.any_type(part)
        if not isinstance(element, str):
            raise part.error("expected a type of elements", at)
        if element not in STORAGE:
            raise part.unsupported(f"the element type {element} is not supported", at)
        return element

    def _tensor(self, part: Stream) -> TensorType:
        at, sizes = part.at, part.several(part.svarint)
        if any(size < 0 and size != _DYNAMIC for size in sizes):
            raise part.error("a tensor of negative size", at)
        shape = tuple(None if size == _DYNAMIC else size for size in sizes)
        element = self._element(part)
        wrong = complaint(shape, element)
        if wrong:
            raise part.error(wrong, at)
        return TensorType(shape, element)

    def _several(self, part: Stream) -> tuple[Type, ...]:
        at, types = part.at, part.several(lambda: self.value_type(part))
        if not self._weights.allow(types):
            raise part.error("a tuple of too many types", at)
        return types

    def _tuple(self, part: Stream) -> TupleType:
        type = TupleType(self._several(part))
        self._weights.keep(type)
        return type

    def _function(self, part: Stream) -> FunctionType:
        return FunctionType(self._several(part), self._several(part))

    def _builtin_integer(self, part: Stream) -> str:
        coded = part.varint()
        sign = {0: "", 1: "s", 2: "u"}.get(coded & 3)
        if sign is None:
            raise part.error(f"an integer type with signedness {coded & 3}")
        return f"{sign}i{coded >> 2}"

    # attributes

    def _vhlo_attribute(self, part: Stream) -> Any:
        at, code = part.at, part.varint()
        name = ATTRIBUTES.get(code, "").removesuffix("Attr")
        if name in ENUMERATIONS:
            number = part.varint()
            if number not in ENUMERATIONS[name]:
                raise part.error(f"{name} has no case {number}", at)
            return number if name == "CustomCallApiVersionV1" else ENUMERATIONS[name][number]
        read = _VHLO_ATTRIBUTES.get(name)
        if not read:
            raise part.unsupported(f"the attribute {name or code} of VHLO is not supported", at)
        return read(self, part)

    def _array(self, part: Stream) -> tuple[Any, ...]:
        return part.several(lambda: self.attribute(part))

    def dictionary(self, part: Stream) -> dict[str, Any]:
        """Names and attributes, without those that are ignored, which are not even read."""
        found: dict[str, Any] = {}
        for _ in range(part.count()):
            at, name = part.at, self.attribute(part)
            if not isinstance(name, str) or name in found:
                raise part.error("an attribute whose name is no text or stands here twice", at)
            if is_ignored(name):
                part.varint()
            else:
                found[name] = self.attribute(part)
        return found

    def _float(self, part: Stream) -> float:
        at, type = part.at, self.any_type(part)
        if type not in _FLOATS:
            raise part.unsupported(f"a number of the type {type} is not supported", at)
        width = {"f16": 16, "bf16": 16, "f32": 32, "f64": 64}[str(type)]
        return self._bits(part.svarint(), str(type), width)

    def _bits(self, value: int, type: str, width: int) -> float:
        bits = value % (1 << width) << (16 if type == "bf16" else 0)
        code = _FLOATS[type]
        number: float = struct.unpack(code, bits.to_bytes(struct.calcsize(code), "little"))[0]
        return number

    def _integer(self, part: Stream) -> int | bool:
        at, type = part.at, self.any_type(part)
        if type == "index":
            return part.svarint()
        if type == "i1":
            return bool(part.byte())
        if not isinstance(type, str) or type.lstrip("su")[:1] != "i":
            raise part.error(f"an integer of the type {type}", at)
        width = int(type.lstrip("sui"))
        if width > 64:
            raise part.unsupported(f"a number of the type {type} is not supported", at)
        value = part.byte() if width <= 8 else part.svarint()
        value %= 1 << width
        negative = not type.startswith("u") and value >> (width - 1)
        return value - (1 << width) if negative else value

    def _constant(self, part: Stream) -> Constant:
        at, type = part.at, self.any_type(part)
        data = part.bytes(part.varint())
        return self._made(part, type, data, at)

    def _made(self, part: Stream, type: AnyType, data: bytes, at: int) -> Constant:
        if not isinstance(type, TensorType) or count(type) is None:
            raise part.error("a constant whose type is not that of a tensor of known shape", at)
        values = from_bytes(data, type, packed=True)
        if values is None:
            raise part.error(f"{len(data)} bytes are not the elements of {type}", at)
        return Constant(type, values)

    def _alias(self, part: Stream) -> dict[str, Any]:
        return {
            "output_tuple_indices": part.several(part.svarint),
            "operand_index": part.svarint(),
            "operand_tuple_indices": part.several(part.svarint),
        }

    def _accuracy(self, part: Stream) -> dict[str, Any]:
        return {
            "atol": self._bits(part.svarint(), "f64", 64),
            "rtol": self._bits(part.svarint(), "f64", 64),
            "ulps": part.svarint(),
            "mode": self.attribute(part),
        }

    def _numbers(self, part: Stream) -> tuple[Any, ...]:
        """`array<type: ..>`: the type of an element, how many, and their bytes."""
        at, element = part.at, self.any_type(part)
        number, data = part.varint(), part.bytes(part.varint())
        if element not in STORAGE:
            raise part.unsupported(f"an array of {element} is not supported", at)
        if number * STORAGE[str(element)].itemsize != len(data):
            raise part.error(f"{number} numbers in {len(data)} bytes", at)
        if not number:
            return ()
        found = self._made(part, TensorType((number,), str(element)), data, at)
        return tuple(found.values.tolist())

    def _symbol(self, part: Stream) -> str:
        root = str(self.attribute(part))
        return "::".join([root, *map(str, self._array(part))])

    def _resource(self, part: Stream) -> Constant:
        at, type = part.at, self.any_type(part)
        key = self.string(part)
        if key not in self._resources:
            raise part.error(f"the artifact has no resource {key!r}", at)
        return self._made(part, type, self._resources[key], at)

    def _text_with_type(self, part: Stream) -> str:
        text = self.string(part)
        self.any_type(part)
        return text

    def _location(self, part: Stream) -> str:
        part.at = part.end
        return "loc"


_Read = Callable[[Encoded, Stream], Any]

_VHLO_ATTRIBUTES: dict[str, _Read] = {
    "ArrayV1": Encoded._array,
    "BooleanV1": lambda e, s: bool(s.varint()),
    "DictionaryV1": Encoded.dictionary,
    "FloatV1": Encoded._float,
    "IntegerV1": Encoded._integer,
    "OutputOperandAliasV1": Encoded._alias,
    "StringV1": Encoded.string,
    "TensorV1": Encoded._constant,
    "TypeV1": Encoded.any_type,
    "TypeExtensionsV1": lambda e, s: s.several(s.svarint),
    "ResultAccuracyV1": Encoded._accuracy,
}
_BUILTIN_ATTRIBUTES: dict[int, _Read] = {
    0: Encoded._array,
    1: Encoded.dictionary,
    2: Encoded.string,
    3: Encoded._text_with_type,
    4: Encoded.attribute,
    5: Encoded._symbol,
    6: Encoded.any_type,
    7: lambda e, s: True,
    8: Encoded._integer,
    9: Encoded._float,
    **dict.fromkeys((10, 11, 12, 13, 14, 15, 22), Encoded._location),
    16: Encoded._resource,
    17: Encoded._numbers,
    18: Encoded._constant,
}
_BUILTIN_TYPES: dict[int, _Read] = {
    0: Encoded._builtin_integer,
    1: lambda e, s: "index",
    2: Encoded._function,
    3: lambda e, s: "bf16",
    4: lambda e, s: "f16",
    5: lambda e, s: "f32",
    6: lambda e, s: "f64",
    9: lambda e, s: f"complex<{e.any_type(s)}>",
    12: lambda e, s: "none",
    13: Encoded._tensor,
    15: Encoded._tuple,
    18: lambda e, s: TensorType(None, e._element(s)),
}
