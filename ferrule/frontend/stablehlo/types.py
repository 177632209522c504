"""Types in a text.

    type   = `tensor<2x?x3xf32, encoding>` | `tensor<*xf32>` | `tuple<type, ..>`
           | `!stablehlo.token` | !alias | element | `none` | function
    function = (type, ..) -> type | (type, ..) -> (type, ..)

An element's type alone, and that of functions, are types of attributes only. Encodings of tensors
say which sizes are at most what (`#stablehlo.bounds<..>`), and are not kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TypeAlias

from ferrule.frontend.stablehlo.elements import STORAGE, complaint
from ferrule.frontend.stablehlo.lexer import Cursor
from ferrule.frontend.stablehlo.module import TensorType, TokenType, TupleType, Type

_COMPLEX = r"complex<[a-z][a-z0-9]*>"
_TENSOR = re.compile(rf"<((?:(?:\d+|\?)x)*|\*x)({_COMPLEX}|[a-zA-Z][a-zA-Z0-9_]*)(?=[>,])")
_KNOWN = re.compile(r"(?:u?i|si)\d+|index|bf16|tf32|f\d+(?:E\d+M\d+\w*)?")


@dataclass(frozen=True)
class FunctionType:
    """What a function takes and gives: the type of a `function_type` attribute."""

    arguments: tuple[Type, ...]
    results: tuple[Type, ...]


AnyType: TypeAlias = "Type | FunctionType | str"


class Weights:
    """How many types there are in tuples of tuples. Names and numbers of types let a short program
    say a tuple of very many, which whoever compares or prints it would not come to the end of.
    """

    MOST = 1 << 16

    def __init__(self) -> None:
        self._kept: dict[int, tuple[TupleType, int]] = {}

    def _of(self, types: tuple[Type, ...]) -> int:
        return sum(self._kept.get(id(t), (t, 1))[1] for t in types)

    def allow(self, types: tuple[Type, ...]) -> bool:
        """Whether these are few enough for a tuple, what is in them counted."""
        return self._of(types) <= self.MOST

    def keep(self, type: TupleType) -> None:
        """Notes how many types a tuple has."""
        self._kept[id(type)] = type, 1 + self._of(type.types)


class Types:
    """Reads types at a cursor. `aliases` are those that the text has defined so far."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.aliases: dict[str, AnyType] = {}
        self._seen: dict[str, TensorType] = {}
        self._weights = Weights()

    def value(self) -> Type:
        """The type of a value. Raises ParseError if another stands here."""
        at = self.cursor.start
        type = self.any()
        if isinstance(type, (FunctionType, str)):
            raise self.cursor.error("expected the type of a value, as tensor<2xf32>", at)
        return type

    def tensor(self) -> TensorType:
        """The type of a tensor. Raises ParseError if another stands here."""
        at = self.cursor.start
        type = self.any()
        if not isinstance(type, TensorType):
            raise self.cursor.error("expected the type of a tensor", at)
        return type

    def function(self) -> FunctionType:
        """The type of a function. Raises ParseError if another stands here."""
        if not self.cursor.at("("):
            raise self.cursor.expected("the type of a function, as (tensor<f32>) -> tensor<f32>")
        arguments = self.several()
        self.cursor.expect("->")
        if self.cursor.at("("):
            return FunctionType(arguments, self.several())
        return FunctionType(arguments, (self.value(),))

    def several(self) -> tuple[Type, ...]:
        """Types in parentheses."""
        found: list[Type] = []
        self.cursor.expect("(")
        self.cursor.list_of(lambda: found.append(self.value()), ")")
        return tuple(found)

    def row(self) -> tuple[Type, ...]:
        """Types with commas between."""
        found = [self.value()]
        while self.cursor.accept(","):
            found.append(self.value())
        return tuple(found)

    def any(self) -> AnyType:
        """A type of any kind; that of an element alone as its name."""
        cursor = self.cursor
        if cursor.at("tensor"):
            return self._tensor()
        if cursor.at("("):
            with cursor.nested():
                return self.function()
        if cursor.kind == "exclaim":
            return self._dialect()
        if cursor.at("tuple"):
            with cursor.nested():
                return self._tuple()
        if cursor.at("none"):
            return cursor.advance()
        if cursor.kind == "bare" and (cursor.at("complex") or _KNOWN.fullmatch(cursor.token)):
            at, element = cursor.start, cursor.advance()
            if element == "complex":
                cursor.expect("<")
                element = f"complex<{cursor.take('bare', 'an element type')}>"
                cursor.expect(">")
            return self._element(element, at)
        if cursor.kind == "bare" and cursor.token in ("memref", "vector", "ui", "opaque"):
            raise cursor.unsupported(f"the type {cursor.token} is not supported")
        raise cursor.expected("a type")

    def at_type(self) -> bool:
        """Whether the token here can only begin a type."""
        cursor = self.cursor
        if cursor.kind == "exclaim" or cursor.at("("):
            return True
        if cursor.kind != "bare":
            return False
        known = cursor.token in ("tensor", "tuple", "none", "complex", "memref", "vector")
        return known or _KNOWN.fullmatch(cursor.token) is not None

    def _element(self, element: str, at: int) -> str:
        if element not in STORAGE:
            if _KNOWN.fullmatch(element) or element.startswith("complex<"):
                raise self.cursor.unsupported(f"the element type {element} is not supported", at)
            raise self.cursor.error(f"expected an element type, got {element!r}", at)
        return element

    def _tensor(self) -> TensorType:
        """`tensor<..>`, of which the same text means the same type."""
        cursor = self.cursor
        text, start = cursor.text, cursor.end
        found = _TENSOR.match(text, start)
        if not found:
            return self._unusual()
        if text[found.end()] == ",":
            cursor.seek(found.end())
            cursor.expect(",")
            self._encoding()
            cursor.expect(">")
        else:
            cursor.seek(found.end() + 1)
        whole = found.group()
        if whole not in self._seen:
            self._seen[whole] = self._made(found[1], found[2], start)
        return self._seen[whole]

    def _made(self, sizes: str, element: str, at: int) -> TensorType:
        element = self._element(element, at)
        if sizes == "*x":
            return TensorType(None, element)
        parts = sizes.split("x")[:-1]
        if any(len(p) > 20 for p in parts):
            raise self.cursor.error("a tensor with a size of 2^62 or more", at)
        shape = tuple(None if p == "?" else int(p) for p in parts)
        wrong = complaint(shape, element)
        if wrong:
            raise self.cursor.error(wrong, at)
        return TensorType(shape, element)

    def _unusual(self) -> TensorType:
        """`tensor<..>` with what the expression above has no words for: quantised elements, spaces
        or aliases.
        """
        cursor = self.cursor
        cursor.advance()
        if not cursor.at("<"):
            raise cursor.expected("'<'")
        at, end = cursor.start, cursor.text.find(">", cursor.end)
        inner = cursor.text[cursor.end : max(end, cursor.end)]
        if "!quant" in inner:
            raise cursor.unsupported("quantised types are not supported", at)
        if "!" in inner:
            raise cursor.unsupported("this type of elements is not supported", at)
        found = _TENSOR.match("<" + re.sub(r"\s+", "", inner) + ">")
        if not found or end < 0 or "," in inner:
            raise cursor.error("expected a shape and a type of elements, as <2x3xf32>", at)
        cursor.seek(end + 1)
        return self._made(found[1], found[2], at)

    def _encoding(self) -> None:
        cursor = self.cursor
        if cursor.kind != "hash":
            raise cursor.unsupported("this encoding of a tensor is not supported")
        cursor.advance()
        if cursor.at("<"):
            cursor.skip_balanced()

    def _tuple(self) -> TupleType:
        cursor = self.cursor
        cursor.expect("tuple")
        cursor.expect("<")
        found: list[Type] = []
        cursor.list_of(lambda: found.append(self.value()), ">")
        type = TupleType(tuple(found))
        if not self._weights.allow(type.types):
            raise cursor.error("a tuple of too many types")
        self._weights.keep(type)
        return type

    def _dialect(self) -> AnyType:
        cursor = self.cursor
        name = cursor.token[1:]
        if name in self.aliases:
            cursor.advance()
            return self.aliases[name]
        if name == "stablehlo.token":
            cursor.advance()
            return TokenType()
        if name.startswith("quant"):
            raise cursor.unsupported("quantised types are not supported")
        raise cursor.unsupported(f"the type !{name} is not supported")
