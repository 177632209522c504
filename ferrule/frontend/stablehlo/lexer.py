"""Tokens of MLIR's text, and a cursor over them that knows where it stands.

    token = bare | %value | @symbol | ^block | #attribute | !type | "string" | number | punctuation

White space and comments (`// ..`) lie between tokens. The cursor reads a token when it is asked for
the next one, so that a reader can take a stretch of the text as a whole: the elements of a constant
are not tokens.

Specification: MLIR language reference (mlir.llvm.org/docs/LangRef), "Lexical conventions".
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.frontend.stablehlo.module import Place

_SKIP = re.compile(r"(?:[ \t\r\n]+|//[^\n]*)*")
_SUFFIX = r"(?:[0-9]+|[a-zA-Z$._-][a-zA-Z0-9$._-]*)"
_STRING = r'"(?:[^"\\\n]|\\.)*"'
_TOKEN = re.compile(
    rf"(?P<bare>[a-zA-Z_][a-zA-Z0-9_$.]*)"
    rf"|(?P<value>%{_SUFFIX}(?:\#[0-9]+)?)"
    r"|(?P<float>[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?)"
    r"|(?P<int>0x[0-9a-fA-F]+|[0-9]+)"
    rf"|(?P<string>{_STRING})"
    rf"|(?P<symbol>@(?:[a-zA-Z_][a-zA-Z0-9_$.]*|{_STRING}))"
    rf"|(?P<block>\^{_SUFFIX})"
    rf"|(?P<hash>\#{_SUFFIX})"
    rf"|(?P<exclaim>!{_SUFFIX})"
    r"|(?P<punct>->|::|\{-\#|\#-\}|\.\.\.|[-(){}\[\]<>,:=?+*|/])"
)
_ESCAPE = re.compile(r"\\([0-9a-fA-F]{2}|.)")
_ESCAPED = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_OPEN = {"(": ")", "[": "]", "{": "}", "<": ">"}

MAX_DEPTH = 64  # of regions in regions, lists in lists, types in types, all together

MAX_MESSAGE = 400  # characters: what is told of a text may be any part of it


class Cursor:
    """A place in a text: the token there has a `kind` (a group of the grammar above, "end" at the
    end), its characters `token`, and begins at `start`.
    """

    def __init__(self, text: str, name: str, first_line: int = 1) -> None:
        self.text = text
        self.name = name
        self.first_line = first_line
        self.lines = [m.end() for m in re.finditer("\n", text)]
        self.depth = 0
        self.kind = self.token = ""
        self.start = self.end = 0
        self.advance()

    # where

    def place(self, at: int | None = None) -> Place:
        """The line and column of an offset, which is that of the token unless given."""
        at = self.start if at is None else at
        line = bisect_right(self.lines, at)
        return Place(self.first_line + line, 1 + at - (self.lines[line - 1] if line else 0))

    def _where(self, message: str, at: int | None) -> tuple[str, Place]:
        place = self.place(at)
        message = message if len(message) <= MAX_MESSAGE else message[:MAX_MESSAGE] + " .."
        return f"{self.name}:{place.line}:{place.column}: {message}", place

    def error(self, message: str, at: int | None = None) -> ParseError:
        """The exception that the text is malformed at a place."""
        whole, place = self._where(message, at)
        error = ParseError(whole)
        error.line, error.column = place.line, place.column
        return error

    def unsupported(self, message: str, at: int | None = None) -> UnsupportedError:
        """The exception that the text is good, but says what ferrule does not read."""
        return UnsupportedError(self._where(message, at)[0])

    def expected(self, what: str) -> ParseError:
        """The exception that another token was expected here."""
        came = "the end of the text" if self.kind == "end" else repr(self.token[:40])
        return self.error(f"expected {what}, got {came}")

    @contextmanager
    def nested(self) -> Iterator[None]:
        """Counts how deep the reader is. Raises ParseError past MAX_DEPTH."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise self.error(f"nested more than {MAX_DEPTH} deep")
        yield
        self.depth -= 1

    # tokens

    def advance(self) -> str:
        """Goes to the next token; gives the characters of the last one."""
        last = self.token
        space = _SKIP.match(self.text, self.end)
        self.start = space.end() if space else self.end
        found = _TOKEN.match(self.text, self.start)
        if found:
            self.kind, self.token, self.end = found.lastgroup or "", found.group(), found.end()
        elif self.start >= len(self.text):
            self.kind, self.token, self.end = "end", "", len(self.text)
        else:
            self.kind, self.token = "bad", self.text[self.start]
            raise self.error(f"a character that begins no token: {self.token!r}")
        return last

    def seek(self, at: int) -> None:
        """Goes to the token at an offset, past what was read as a whole."""
        self.end = at
        self.advance()

    def at(self, token: str) -> bool:
        """Whether this token is here (never a string or another kind with the same letters)."""
        return self.token == token and self.kind in ("punct", "bare")

    def accept(self, token: str) -> bool:
        """Goes past a token if it is here."""
        if self.token != token or self.kind not in ("punct", "bare"):
            return False
        self.advance()
        return True

    def expect(self, token: str) -> None:
        """Goes past a token. Raises ParseError if another is here."""
        if not self.accept(token):
            raise self.expected(repr(token))

    def take(self, kind: str, what: str) -> str:
        """Goes past a token of a kind, and gives it."""
        if self.kind != kind:
            raise self.expected(what)
        return self.advance()

    def list_of(self, read: Callable[[], None], close: str) -> None:
        """Reads what `,` separates up to the token `close`, past which it goes."""
        if self.accept(close):
            return
        while True:
            read()
            if self.accept(close):
                return
            if not self.accept(","):
                raise self.expected(f"',' or {close!r}")

    # values of tokens

    def string(self) -> str:
        """Goes past a string, and gives what it means."""
        start = self.start
        return self.unquoted(self.take("string", "a string"), start)

    def unquoted(self, quoted: str, at: int) -> str:
        """What a string with its quotes means."""
        inner = quoted[1:-1]
        if "\\" not in inner:
            return inner
        raw = bytearray()
        last = 0
        for m in _ESCAPE.finditer(inner):
            raw += inner[last : m.start()].encode()
            if len(m[1]) == 2:
                raw.append(int(m[1], 16))
            elif m[1] in _ESCAPED:
                raw += _ESCAPED[m[1]].encode()
            else:
                raise self.error(f"a string with an unknown escape: \\{m[1]}", at)
            last = m.end()
        raw += inner[last:].encode()
        return raw.decode("utf-8", errors="surrogateescape")

    def symbol(self) -> str:
        """Goes past `@name`, and gives the name."""
        start = self.start
        token = self.take("symbol", "a name that begins with '@'")[1:]
        return self.unquoted(token, start) if token.startswith('"') else token

    def integer(self, negative: bool = False) -> int:
        """Goes past an integer, which may have a minus, or had one if `negative`."""
        negative = negative or self.accept("-")
        at, token = self.start, self.take("int", "an integer")
        value = -1
        if len(token) <= 20:  # as many digits as 64 bits have, before what comes is a number
            value = int(token, 16) if token.startswith("0x") else int(token)
        if not 0 <= value <= (1 << 63 if negative else (1 << 64) - 1):
            raise self.error("an integer of more than 64 bits", at)
        return -value if negative else value

    def skip_balanced(self) -> str:
        """Goes past a bracket, what is in it, and the bracket that closes it; gives their text."""
        start, open = self.start, list[str]()
        if self.kind != "punct" or self.token not in _OPEN:
            raise self.expected("a bracket")
        while True:
            if self.kind == "end":
                raise self.expected(repr(open[-1]))
            if self.kind == "punct":
                if self.token in _OPEN:
                    open.append(_OPEN[self.token])
                elif self.token in _OPEN.values():
                    if self.token != open[-1]:
                        raise self.expected(repr(open[-1]))
                    open.pop()
            if not open:
                end = self.end
                self.advance()
                return self.text[start:end]
            self.advance()

    def skip_location(self) -> None:
        """Goes past `loc(..)` if it is here."""
        if self.at("loc"):
            self.advance()
            if not self.at("("):
                raise self.expected("'('")
            self.skip_balanced()
