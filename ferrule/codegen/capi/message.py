"""The last message of each thread: what `NAME_message()` gives, and how functions fail.

A thread's message is 16 bytes, how long it is and how many bytes there are, and the text. It is
made at the thread's first failure and freed by the C library when the thread ends.
"""

from __future__ import annotations

from typing import NamedTuple

from ferrule.codegen.capi.body import Body, Value, Writer

ROOM = 2048  # bytes of a message; what is longer is cut
_TEXT = 8
CODES: dict[str, tuple[int, str]] = {
    "OK": (0, "no error"),
    "NULL": (1, "a pointer is null"),
    "RANK": (2, "a tensor has another rank"),
    "DTYPE": (3, "a tensor has another dtype"),
    "DEVICE": (4, "a tensor lies on another device than the CPU"),
    "SIZE": (5, "a tensor has other sizes"),
    "RANGE": (6, "a size is one that the model was not compiled for"),
    "STRIDES": (7, "a tensor is not dense"),
    "ALIGNMENT": (8, "memory is not aligned"),
    "MEMORY": (9, "out of memory"),
    "FILE": (10, "the weights cannot be read"),
    "WEIGHTS": (11, "these are not the weights of this model"),
    "CPU": (12, "the CPU lacks what the model was compiled for"),
    "OPTIONS": (13, "an option is out of its range"),
    "INDEX": (14, "an index points outside of its dimension"),
    "RUN": (15, "the model failed while it ran"),
}
"""Error codes by their names in the header, and what they say."""


class Shape(NamedTuple):
    """Sizes to be shown: where they lie and how many."""

    place: Value
    rank: Value


class Text(NamedTuple):
    """A text to be shown, by its address."""

    place: Value


Piece = str | Value | Shape | Text


def fail(m: Writer, f: Body, code: str, *pieces: Piece) -> None:
    """Returns the code, after writing a message: the pieces, numbers as decimals."""
    buffer = f.call("ptr", "@capi.begin")
    for piece in pieces:
        if isinstance(piece, str):
            f.call("void", "@capi.text", buffer, f.value("ptr", m.text(piece)))
        elif isinstance(piece, Shape):
            f.call("void", "@capi.shape", buffer, piece.place, piece.rank)
        elif isinstance(piece, Text):
            f.call("void", "@capi.text", buffer, piece.place)
        else:
            f.call("void", "@capi.number", buffer, piece.to("i64", signed=True))
    f.give(CODES[code][0])


def define_messages(m: Writer) -> None:
    """Defines what `fail` calls, and `capi.message`."""
    m.globals += [
        "@capi.once = internal global i32 0",
        "@capi.key = internal global i32 0",
        "@capi.nokey = internal global i32 1",
    ]
    f = m.define("void", "capi.make_key", {})
    key = f.value("ptr", "@capi.key")
    f.store(f.call("i32", "@pthread_key_create", key, f.value("ptr", "@free")),
            f.value("ptr", "@capi.nokey"))  # fmt: skip
    f.give()
    _begin(m)
    _writers(m)
    f = m.define("ptr", "capi.message", {})
    held = f.call("ptr", "@capi.held")
    with f.when(held.is_null):
        f.give(f.value("ptr", m.text("")))
    f.give(held + _TEXT)


def _begin(m: Writer) -> None:
    """`held` gives the thread's message or null, `begin` an empty one, null without memory."""
    f = m.define("ptr", "capi.held", {})
    once, make = f.value("ptr", "@capi.once"), f.value("ptr", "@capi.make_key")
    f.call("i32", "@pthread_once", once, make)
    with f.when(f.load("i32", f.value("ptr", "@capi.nokey")).differs(0)):
        f.give(f.value("ptr", "null"))
    key = f.load("i32", f.value("ptr", "@capi.key"))
    f.give(f.call("ptr", "@pthread_getspecific", key))
    f = m.define("ptr", "capi.begin", {})
    found = f.variable("ptr", f.call("ptr", "@capi.held"))
    missing = found.get().is_null & f.load("i32", f.value("ptr", "@capi.nokey")).equals(0)
    with f.when(missing):
        made = f.call("ptr", "@malloc", f.value("i64", _TEXT + ROOM))
        with f.when(~made.is_null):
            key = f.load("i32", f.value("ptr", "@capi.key"))
            kept = f.call("i32", "@pthread_setspecific", key, made)
            found.set(made)
            with f.when(kept.differs(0)):
                f.call("void", "@free", made)
                found.set("null")
    with f.when(~found.get().is_null):
        f.store(f.value("i64", 0), found.get())
        f.store(f.value("i8", 0), found.get(), _TEXT)
    f.give(found.get())


def _writers(m: Writer) -> None:
    f = m.define("void", "capi.char", {"to": "ptr", "c": "i8"})
    with f.when(f["to"].is_null):
        f.give()
    length = f.load("i64", f["to"])
    with f.when(length.less(ROOM - 1)):
        f.store(f["c"], f["to"] + length, _TEXT)
        f.store(f.value("i8", 0), f["to"] + length, _TEXT + 1)
        f.store(length + 1, f["to"])
    f.give()

    f = m.define("void", "capi.text", {"to": "ptr", "text": "ptr"})
    at = f.variable("ptr", f["text"])
    with f.while_(lambda: f.load("i8", at.get()).differs(0)):
        f.call("void", "@capi.char", f["to"], f.load("i8", at.get()))
        at.set(at.get() + 1)
    f.give()

    f = m.define("void", "capi.number", {"to": "ptr", "n": "i64"})
    with f.when(f["n"].less(0)):
        f.call("void", "@capi.char", f["to"], f.value("i8", ord("-")))
    left = f.variable("i64", f.choose(f["n"].less(0), f.value("i64", 0) - f["n"], f["n"]))
    digits, count = f.room(24), f.variable("i64", 0)
    with f.while_(lambda: left.get().differs(0) | count.get().equals(0)):
        digit = left.get().rest(10) + ord("0")
        f.store(digit.to("i8"), digits + count.get())
        count.set(count.get() + 1)
        left.set(left.get().over(10))
    with f.while_(lambda: count.get().more(0)):
        count.set(count.get() - 1)
        f.call("void", "@capi.char", f["to"], f.load("i8", digits + count.get()))
    f.give()

    f = m.define("void", "capi.shape", {"to": "ptr", "sizes": "ptr", "count": "i64"})
    f.call("void", "@capi.text", f["to"], f.value("ptr", m.text("[")))
    with f.each(f["count"]) as i:
        with f.when(i.more(0)):
            f.call("void", "@capi.text", f["to"], f.value("ptr", m.text(", ")))
        f.call("void", "@capi.number", f["to"], f.load("i64", f["sizes"] + i * 8))
    f.call("void", "@capi.text", f["to"], f.value("ptr", m.text("]")))
    f.give()
