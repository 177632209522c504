"""The tokenizer, and what every parser here shares: a cursor over tokens, scopes of names, errors
that show the line.

    name    = identifier, perhaps dotted, or a JSON string        x   layer.0.weight   "input:0"
    number  = 12   1.5   1e-06                                    a dtype may follow: 3:i8, 0.5:f64
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from ferrule.base.dtype import DType, from_name
from ferrule.base.errors import InputTypeError, ParseError
from ferrule.ir.expr import Buf, Expr
from ferrule.ir.notation import KEYWORDS
from ferrule.ir.system import Monoid

T = TypeVar("T")
_TOKEN = re.compile(
    r"""\s*(?:
      (?P<name>[A-Za-z_]\w*(?:\.\w+)*)
    | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
    | (?P<string>"(?:[^"\\]|\\.)*")
    | (?P<arg>\$\d+)
    | (?P<symbol>\.\.|<<|>>|<=|>=|==|!=|//|[-+*/%<>=&|^()\[\]{},:@\#])
    )""",
    re.VERBOSE | re.ASCII,
)


@dataclass(frozen=True)
class Token:
    """`kind` is name, keyword, number, string, arg, symbol or end; `text` as written; `at` its
    position.
    """

    kind: str
    text: str
    at: int


@dataclass
class Scope:
    """What names mean where the parser stands."""

    dims: dict[str, Expr] = field(default_factory=dict)
    axes: dict[str, Expr] = field(default_factory=dict)
    bufs: dict[str, Buf] = field(default_factory=dict)
    monoids: dict[str, Monoid] = field(default_factory=dict)
    args: tuple[DType, ...] = ()

    def copy(self) -> Scope:
        return Scope(
            dict(self.dims), dict(self.axes), dict(self.bufs), dict(self.monoids), self.args
        )


class Parser:
    """A cursor over the tokens of one text."""

    def __init__(self, source: str):
        self.source = source
        self.tokens = list(self._tokenize())
        self.position = 0
        self.scope = Scope()

    def _tokenize(self) -> Iterator[Token]:
        at, end = 0, len(self.source.rstrip())
        while at < end:
            found = _TOKEN.match(self.source, at)
            if found is None:
                at += len(self.source[at:]) - len(self.source[at:].lstrip())
                raise self.error(f"{self.source[at]!r} starts no token", at)
            kind = found.lastgroup or ""
            text = found[kind]
            if kind == "name" and text in KEYWORDS:
                kind = "keyword"
            yield Token(kind, text, found.end() - len(text))
            at = found.end()
        yield Token("end", "", end)

    # ---- errors ----------------------------------------------------------------------------------

    def error(self, message: str, at: int | None = None) -> ParseError:
        """A complaint about a position of the text (the current token's by default)."""
        at = self.token.at if at is None else at
        line = self.source.count("\n", 0, at) + 1
        start = self.source.rfind("\n", 0, at) + 1
        shown = self.source[start:].split("\n", 1)[0]
        column = at - start + 1
        return ParseError(f"{message}\n  {shown}\n  {' ' * (at - start)}^", line, column)

    def checked(self, build: Callable[[], T], at: int) -> T:
        """The result of `build`, its complaints as ParseErrors."""
        try:
            return build()
        except (TypeError, ValueError) as error:
            if isinstance(error, ParseError):
                raise
            raise self.error(str(error), at) from None

    # ---- tokens ----------------------------------------------------------------------------------

    @property
    def token(self) -> Token:
        return self.tokens[self.position]

    def next(self) -> Token:
        token = self.token
        self.position += 1
        return token

    def sees(self, *texts: str) -> bool:
        """Whether the next token is one of these symbols or keywords."""
        return self.token.kind in ("symbol", "keyword") and self.token.text in texts

    def accept(self, *texts: str) -> bool:
        """Take the next tokens if they are exactly these."""
        ahead = self.tokens[self.position : self.position + len(texts)]
        if len(ahead) == len(texts) and all(
            t.kind in ("symbol", "keyword") and t.text == x
            for t, x in zip(ahead, texts, strict=True)
        ):
            self.position += len(texts)
            return True
        return False

    def expect(self, text: str) -> Token:
        if not self.sees(text):
            raise self.error(f"expected {text!r}, found {self.token.text or 'the end'!r}")
        return self.next()

    def end(self) -> None:
        if self.token.kind != "end":
            raise self.error(f"expected the end, found {self.token.text!r}")

    def name(self, what: str = "a name") -> str:
        token = self.token
        if token.kind not in ("name", "string"):
            raise self.error(f"expected {what}, found {token.text or 'the end'!r}")
        self.position += 1
        return str(json.loads(token.text)) if token.kind == "string" else token.text

    def string(self) -> str:
        if self.token.kind != "string":
            raise self.error(f"expected a string, found {self.token.text or 'the end'!r}")
        return str(json.loads(self.next().text))

    def integer(self) -> int:
        negative = self.accept("-")
        token = self.token
        if token.kind != "number" or not token.text.isdigit():
            raise self.error(f"expected an integer, found {token.text or 'the end'!r}")
        self.position += 1
        return -int(token.text) if negative else int(token.text)

    def dtype(self) -> DType:
        at = self.token.at
        text = self.name("a dtype")
        try:
            return from_name(text)
        except InputTypeError as error:
            raise self.error(str(error), at) from None

    def separated(self, item: Callable[[], T], close: str) -> tuple[T, ...]:
        """Items between commas (one may follow the last) up to `close`, which is taken too."""
        out: list[T] = []
        while not self.accept(close):
            out.append(item())
            if not self.sees(close):
                self.expect(",")
        return tuple(out)

    # ---- names -----------------------------------------------------------------------------------

    @contextmanager
    def inner(self) -> Iterator[None]:
        """Names declared inside are forgotten at the end."""
        outer = self.scope
        self.scope = outer.copy()
        try:
            yield
        finally:
            self.scope = outer

    def buf(self) -> Buf:
        """A declared buffer, by name."""
        at = self.token.at
        name = self.name("a buffer")
        found = self.scope.bufs.get(name)
        if found is None:
            known = ", ".join(self.scope.bufs) or "none"
            raise self.error(f"no buffer is called {name!r}; the buffers are: {known}", at)
        return found
