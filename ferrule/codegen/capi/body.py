"""Functions of LLVM IR written as structured code: values, variables, conditions, loops.

    f = m.define("i64", "sum", {"p": "ptr", "n": "i64"})
    total = f.variable("i64", 0)
    with f.each(f["n"]) as i:
        total.set(total.get() + f.load("i64", f["p"] + i * 8))
    f.give(total.get())

Variables live on the stack; LLVM's `sroa` puts them into registers. A pointer plus a number is that
many bytes further. Numbers in Python stand for constants of the other operand's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from ferrule.codegen.capi.layout import WIDE, Layout


@dataclass(frozen=True, eq=False)
class Value:
    """An operand: its type in LLVM and its text."""

    body: Body
    kind: str
    text: str

    def __add__(self, other: Value | int) -> Value:
        if self.kind == "ptr":
            return self.body.emit("ptr", f"getelementptr i8, ptr {self.text}, i64 {_text(other)}")
        return self._with("add", other)

    def __sub__(self, other: Value | int) -> Value:
        return self._with("sub", other)

    def __mul__(self, other: Value | int) -> Value:
        return self._with("mul", other)

    def __and__(self, other: Value | int) -> Value:
        return self._with("and", other)

    def __or__(self, other: Value | int) -> Value:
        return self._with("or", other)

    def __xor__(self, other: Value | int) -> Value:
        return self._with("xor", other)

    def __invert__(self) -> Value:
        return self._with("xor", "true" if self.kind == "i1" else -1)

    def over(self, other: Value | int) -> Value:
        """The quotient of unsigned numbers."""
        return self._with("udiv", other)

    def rest(self, other: Value | int) -> Value:
        """The remainder of unsigned numbers."""
        return self._with("urem", other)

    def right(self, other: Value | int) -> Value:
        return self._with("lshr", other)

    def equals(self, other: Value | int | str) -> Value:
        return self._compared("eq", other)

    def differs(self, other: Value | int | str) -> Value:
        return self._compared("ne", other)

    def less(self, other: Value | int) -> Value:
        return self._compared("slt", other)

    def below(self, other: Value | int) -> Value:
        """Whether it is less, both unsigned."""
        return self._compared("ult", other)

    def more(self, other: Value | int) -> Value:
        return self._compared("sgt", other)

    @property
    def is_null(self) -> Value:
        return self._compared("eq", "null")

    def to(self, kind: str, signed: bool = False) -> Value:
        """The same number in another integer type, or a pointer as a number."""
        if self.kind == kind:
            return self
        if "ptr" in (self.kind, kind):
            how = "ptrtoint" if self.kind == "ptr" else "inttoptr"
        elif int(kind[1:]) < int(self.kind[1:]):
            how = "trunc"
        else:
            how = "sext" if signed else "zext"
        return self.body.emit(kind, f"{how} {self.kind} {self.text} to {kind}")

    def _with(self, op: str, other: Value | int | str) -> Value:
        return self.body.emit(self.kind, f"{op} {self.kind} {self.text}, {_text(other)}")

    def _compared(self, how: str, other: Value | int | str) -> Value:
        return self.body.emit("i1", f"icmp {how} {self.kind} {self.text}, {_text(other)}")


def _text(x: Value | int | str) -> str:
    return x.text if isinstance(x, Value) else str(x)


@dataclass(frozen=True, eq=False)
class Variable:
    """A place on the stack for one value."""

    kind: str
    place: Value

    def get(self) -> Value:
        return self.place.body.load(self.kind, self.place)

    def set(self, value: Value | int | str) -> None:
        self.place.body.do(f"store {self.kind} {_text(value)}, ptr {self.place.text}")


class Body:
    """A function in the making. What follows a `give` in the same block is never reached."""

    def __init__(
        self, result: str, name: str, params: Mapping[str, str], linkage: str, layout: Layout
    ) -> None:
        self.layout, self.tensor, self.spec = layout, layout.tensor, layout.spec
        self._head = (
            f"define {linkage}{result} @{name}("
            + ", ".join(f"{kind} %{n}" for n, kind in params.items())
            + ") {"
        )
        self.result = result
        self._params = {n: Value(self, kind, f"%{n}") for n, kind in params.items()}
        self._first: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self._open = True

    def __getitem__(self, name: str) -> Value:
        """A parameter."""
        return self._params[name]

    def emit(self, kind: str, instruction: str) -> Value:
        """An instruction with a result."""
        name = self._fresh("v")
        self._lines.append(f"  %{name} = {instruction}")
        return Value(self, kind, f"%{name}")

    def do(self, instruction: str) -> None:
        """An instruction without one."""
        self._lines.append(f"  {instruction}")

    def value(self, kind: str, x: int | str) -> Value:
        """A constant, or the address of a global."""
        return Value(self, kind, str(x))

    def load(self, kind: str, place: Value, offset: int = 0) -> Value:
        at = place + offset if offset else place
        return self.emit(kind, f"load {kind}, ptr {at.text}")

    def store(self, value: Value, place: Value, offset: int = 0) -> None:
        at = place + offset if offset else place
        self.do(f"store {value.kind} {value.text}, ptr {at.text}")

    def room(self, size: int | Value) -> Value:
        """Bytes on the stack, for as long as the function runs."""
        if isinstance(size, Value):
            return self.emit("ptr", f"alloca i8, i64 {size.text}, align 8")
        name = self._fresh("r")
        self._first.append(f"  %{name} = alloca [{size} x i8], align 8")
        return Value(self, "ptr", f"%{name}")

    def variable(self, kind: str, start: Value | int | str) -> Variable:
        name = self._fresh("x")
        self._first.append(f"  %{name} = alloca {kind}")
        found = Variable(kind, Value(self, "ptr", f"%{name}"))
        found.set(start)
        return found

    def call(self, kind: str, function: str | Value, *args: Value, types: str = "") -> Value:
        """A call; `types` are those of a function that takes any number of arguments."""
        given = ", ".join(f"{a.kind} {a.text}" for a in args)
        name = function if isinstance(function, str) else function.text
        text = f"call {types or kind} {name}({given})"
        if kind == "void":
            self.do(text)
            return Value(self, "void", "")
        return self.emit(kind, text)

    def choose(self, condition: Value, yes: Value, no: Value | int) -> Value:
        text = f"select i1 {condition.text}, {yes.kind} {yes.text}, {yes.kind} {_text(no)}"
        return self.emit(yes.kind, text)

    def give(self, value: Value | int | None = None) -> None:
        """Returns."""
        self.do("ret void" if value is None else f"ret {self.result} {_text(value)}")
        self._open = False

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """What is done where the condition holds."""
        yes, end = self._fresh("yes"), self._fresh("end")
        self.do(f"br i1 {condition.text}, label %{yes}, label %{end}")
        self._label(yes)
        yield
        self._end(end)
        self._label(end)

    @contextmanager
    def each(self, count: Value | int) -> Iterator[Value]:
        """What is done for 0, 1, .. up to `count`, which is not negative."""
        i = self.variable("i64", 0)
        with self.while_(lambda: i.get().less(count)):
            number = i.get()
            yield number
            i.set(number + 1)

    @contextmanager
    def while_(self, holds: Callable[[], Value]) -> Iterator[None]:
        """What is done as long as `holds()`, which is emitted before each round, is true."""
        test, again, end = self._fresh("test"), self._fresh("again"), self._fresh("end")
        self._end(test)
        self._label(test)
        self.do(f"br i1 {holds().text}, label %{again}, label %{end}")
        self._label(again)
        yield
        self._end(test)
        self._label(end)

    def written(self) -> str:
        """The function's text."""
        if self._open:
            self.do("ret void" if self.result == "void" else "unreachable")
        return "\n".join((self._head, *self._first, *self._lines, "}", ""))

    def _fresh(self, stem: str) -> str:
        self._count += 1
        return f"{stem}{self._count}"

    def _end(self, label: str) -> None:
        if self._open:
            self.do(f"br label %{label}")

    def _label(self, name: str) -> None:
        self._lines.append(f"{name}:")
        self._open = True


@dataclass
class Writer:
    """A module in the making: its functions, tables and texts. Equal texts are held once."""

    layout: Layout = WIDE
    bodies: list[Body] = field(default_factory=list)
    globals: list[str] = field(default_factory=list)
    _texts: dict[str, str] = field(default_factory=dict)

    def define(
        self, result: str, name: str, params: Mapping[str, str], exported: bool = False
    ) -> Body:
        """A new function, that others see only where it is exported."""
        body = Body(result, name, params, "" if exported else "internal ", self.layout)
        self.bodies.append(body)
        return body

    def text(self, words: str) -> str:
        """A text that ends with a zero byte; gives its global's name."""
        if words not in self._texts:
            self._texts[words] = name = f"@text.{len(self._texts)}"
            data = words.encode() + b"\0"
            shown = "".join(chr(c) if 32 <= c < 127 and c not in b'"\\' else f"\\{c:02X}"
                            for c in data)  # fmt: skip
            self.globals.append(f'{name} = private constant [{len(data)} x i8] c"{shown}"')
        return self._texts[words]

    def table(self, name: str, words: Sequence[int | str], tight: bool = False) -> str:
        """Words of 8 bytes: numbers, and addresses as the names of globals, which have no more than
        their own bytes where it is `tight`. Gives its name; `null` for a table of nothing.
        """
        if not words:
            return "null"
        rest = [("i32", 0)] if self.layout.pointer == 4 and not tight else []
        fields = [
            pair for w in words
            for pair in ([("ptr", w), *rest] if isinstance(w, str) else [("i64", w)])
        ]  # fmt: skip
        kinds, shown = ", ".join(k for k, _ in fields), ", ".join(f"{k} {w}" for k, w in fields)
        self.globals.append(f"@{name} = internal constant {{ {kinds} }} {{ {shown} }}")
        return f"@{name}"

    def written(self) -> str:
        """The module's text."""
        return "\n".join((*self.globals, "", *(b.written() for b in self.bodies)))
