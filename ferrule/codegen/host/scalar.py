"""Scalar i64 code for expressions over dims: sizes, offsets, grid extents, costs, guards.

Text of LLVM IR, one instruction for a distinct node: a node that has been emitted where its value
still stands (`Scalars.values`) is not emitted again. Division that rounds towards minus infinity
is a call of one of two small functions, which stand in host.ll.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ferrule.base.dtype import boolean, i64
from ferrule.base.errors import CompileError
from ferrule.ir.expr import Expr, walk

_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_CALLS = {"floordiv": "ferrule.floordiv", "mod": "ferrule.floormod"}
_INTRINSICS = {"min": "llvm.smin.i64", "max": "llvm.smax.i64"}
_PREDICATES = {"eq": "eq", "ne": "ne", "lt": "slt", "le": "sle"}


class Scalars:
    """Emits instructions into `lines`; `dim` gives the value of a dim by its name."""

    def __init__(self, dim: Callable[[str], str], prefix: str = "e"):
        self.lines: list[str] = []
        self.dim = dim
        self.prefix = prefix
        self.count = 0
        self.values: dict[object, str] = {}

    def emit(self, instruction: str) -> str:
        """Adds an instruction that has a result, and gives the result's name."""
        self.count += 1
        name = f"%{self.prefix}{self.count}"
        self.lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Adds an instruction without a result."""
        self.lines.append(f"  {instruction}")

    def label(self, name: str) -> None:
        self.lines.append(f"{name}:")

    def function(self, signature: str) -> str:
        """What has been emitted, as the body of one function."""
        return "\n".join((f"{signature} {{", *self.lines, "}", ""))

    def once(self, key: object, instruction: str) -> str:
        """The result of an instruction that is emitted at the first use of `key`."""
        found = self.values.get(key)
        if found is None:
            found = self.values[key] = self.emit(instruction)
        return found

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is emitted inside is not used after: it does not dominate what follows."""
        outer = dict(self.values)
        yield
        self.values = outer

    def value(self, e: Expr) -> str:
        """The operand that holds `e`: i64, or i1 for a bool. Raises CompileError for what is no
        expression over dims.
        """
        for node in walk(e):
            if node not in self.values:
                self.values[node] = self._node(node)
        return self.values[e]

    def _node(self, e: Expr) -> str:
        if e.dtype not in (i64, boolean):
            raise CompileError(f"a size must be an i64 or a bool, got {e.dtype} in {e}")
        if e.op == "const":
            return str(e.attr).lower()
        if e.op == "dim":
            return self.dim(e.name)
        args = [self.values[a] for a in e.args]
        if e.op in _CALLS and e.args[1].is_const:
            quick = _by_power(e.op, args[0], int(e.args[1].attr))
            if quick is not None:
                return self.emit(quick)
        kind = "i1" if e.args and e.args[-1].dtype == boolean else "i64"
        text = _instruction(e.op, kind, args)
        if text is None:
            raise CompileError(f"{e.op} is no operation on sizes, in {e}")
        return self.emit(text)


def _by_power(op: str, dividend: str, divisor: int) -> str | None:
    """Division by a power of 2, which rounds towards minus infinity as a shift does."""
    if divisor <= 0 or divisor & (divisor - 1):
        return None
    if op == "mod":
        return f"and i64 {dividend}, {divisor - 1}"
    return f"ashr i64 {dividend}, {divisor.bit_length() - 1}"


def _instruction(op: str, kind: str, args: list[str]) -> str | None:
    if op in _BINARY:
        return f"{_BINARY[op]} {kind} {args[0]}, {args[1]}"
    if op in _PREDICATES:
        return f"icmp {_PREDICATES[op]} {kind} {args[0]}, {args[1]}"
    if op in _CALLS or op in _INTRINSICS:
        return f"call i64 @{_CALLS.get(op) or _INTRINSICS[op]}(i64 {args[0]}, i64 {args[1]})"
    if op == "select":
        return f"select i1 {args[0]}, {kind} {args[1]}, {kind} {args[2]}"
    if op == "neg":
        return f"sub i64 0, {args[0]}"
    if op == "not":
        return f"xor {kind} {args[0]}, {'true' if kind == 'i1' else '-1'}"
    if op == "cast":
        return None if kind != "i1" else f"zext i1 {args[0]} to i64"
    return None
