"""Whole programs between System and Program: as kernels, and as code that calls name.

    interface = name (input [update]).. (params) (outputs) [require fact what]..
    kernels   = interface, prepare { kernel.. } main { kernel.. }
    scheduled = interface, kernel.., prepare { call.. } main { call.. }
    functions = interface, function.., prepare { call.. } main { call.. }
    call      = code(buf..) cost [note]

Meaning:
- `prepare` runs once, when parameters are bound; it reads params and what it has written itself.
  `main` runs on each call. Each runs in order, and what `main` writes it writes anew.
- The kernels of `kernels` act on buffers of the program. Scheduled kernels and functions act on
  formal buffers, for which each call gives its own: equal kernels of a program are one. Buffers
  are given in the order of `Kernel.globals` and `Function.bufs`, written ones first.
- What a program is given stays as it is, but for the inputs that it updates: it may read these and
  write parts of them, and whoever calls finds them changed.
- The facts that an interface requires hold for the dims of each call; whoever calls checks them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ferrule.ir.expr import ZERO, Buf, Expr, dims
from ferrule.ir.kernel import Kernel
from ferrule.ir.loop import Function
from ferrule.ir.system import Requirement


@dataclass(frozen=True)
class Interface:
    """What a program is given, what it gives, and what must hold for its dims. `updates` are the
    inputs that it rewrites.
    """

    name: str
    inputs: tuple[Buf, ...]
    params: tuple[Buf, ...]
    outputs: tuple[Buf, ...]
    requires: tuple[Requirement, ...] = ()
    updates: tuple[Buf, ...] = ()

    @property
    def bufs(self) -> tuple[Buf, ...]:
        """Inputs, params and outputs, each once."""
        return tuple(dict.fromkeys((*self.inputs, *self.params, *self.outputs)))


@dataclass(frozen=True)
class Call:
    """One run of a kernel. `function` names the code; `args` are its actual buffers. `cost` is the
    estimated time of the whole grid in ns (an i64 Expr over dims): it decides the number of
    threads. `note` is what people call it.
    """

    function: str
    args: tuple[Buf, ...]
    cost: Expr
    note: str = ""


@dataclass(frozen=True)
class Kernels:
    """A program as unscheduled kernels on its own buffers."""

    interface: Interface
    prepare: tuple[Kernel, ...]
    main: tuple[Kernel, ...]

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """All of them in the order in which they run."""
        return self.prepare + self.main

    @property
    def constant(self) -> frozenset[Buf]:
        """The buffers whose values are known before the first call."""
        return frozenset((*self.interface.params, *(b for k in self.prepare for b in k.written)))


@dataclass(frozen=True)
class Scheduled:
    """A program as scheduled kernels and the calls of them."""

    interface: Interface
    kernels: tuple[Kernel, ...]
    prepare: tuple[Call, ...]
    main: tuple[Call, ...]


@dataclass(frozen=True)
class Functions:
    """A program as functions of loops and the calls of them."""

    interface: Interface
    functions: tuple[Function, ...]
    prepare: tuple[Call, ...]
    main: tuple[Call, ...]

    @property
    def dims(self) -> tuple[Expr, ...]:
        """The symbolic dims in order of name."""
        bufs = {*self.interface.bufs, *(b for c in (*self.prepare, *self.main) for b in c.args)}
        found = {d for b in bufs for s in b.shape for d in dims(s)}
        found |= {d for f in self.functions for d in f.dims}
        found |= {d for c in (*self.prepare, *self.main) for d in dims(c.cost)}
        return tuple(sorted(found, key=lambda d: d.name))


def alone(kernels: Sequence[Kernel]) -> Kernels:
    """Unscheduled kernels by themselves as a program: what they read and none before has written is
    an input, and all that they write is an output.
    """
    used = [(k.written, k.globals[len(k.written) :]) for k in kernels]
    return Kernels(_interface(kernels[0].name, used), (), tuple(kernels))


def alone_scheduled(kernels: Sequence[Kernel], costs: Sequence[Expr]) -> Scheduled:
    """The same of scheduled kernels, which take about so long, in ns."""
    used = [(k.written, k.globals[len(k.written) :]) for k in kernels]
    calls = tuple(Call(k.name, k.globals, c, k.name) for k, c in zip(kernels, costs, strict=True))
    return Scheduled(_interface(kernels[0].name, used), tuple(kernels), (), calls)


def alone_functions(functions: Sequence[Function]) -> Functions:
    """The same of functions, whose time is not known, so that no threads share it."""
    used = [(f.bufs[: f.written], f.bufs[f.written :]) for f in functions]
    calls = tuple(Call(f.name, f.bufs, ZERO, f.name) for f in functions)
    return Functions(_interface(functions[0].name, used), tuple(functions), (), calls)


def _interface(name: str, used: Iterable[tuple[Sequence[Buf], Sequence[Buf]]]) -> Interface:
    """That of code which writes and reads these buffers, one pair after another."""
    inputs: dict[Buf, None] = {}
    written: dict[Buf, None] = {}
    for writes, reads in used:
        inputs.update((b, None) for b in reads if b not in written)
        written.update((b, None) for b in writes)
    return Interface(name, tuple(inputs), (), tuple(written))
