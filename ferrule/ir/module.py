"""Module: a program in straight parts that run in order, some of them many times, some or not.

    module     = interface, part..
    part       = body (outputs) [repetition | while | branch]
    repetition = count [reverse] ((first [last])..) (over..)
    while      = flag (first..)
    branch     = index, case

Meaning:
- A body is a program of its own, at one of the levels from Graph to Program, or a module again.
  What it is given has the name of an input or param of the module, or of an output of a part
  before.
- The outputs of a part are what the others call the body's. Those of a repeated part have a row
  for each step, but for states of which the `last` value alone is kept.
- The first inputs of a repeated body are states: the `first` buffers before the first step, and
  later what the step before has given, which are the first of its outputs. Then come rows of the
  buffers `over`, from the last to the first where the repetition is `reverse`.
- The first inputs of a body under `while` are states as well. It runs as long as the one element of
  `flag`, and later that of its own last output, is true. The part's outputs are the states
  behind the last step, or the `first` buffers where there was none.
- Of parts that follow one another, are branches on one buffer and have the same outputs, one runs:
  that whose `case` is the element of `index`, else the last. Cases count from 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ferrule.ir.calls import Interface
from ferrule.ir.expr import Buf, Expr

L = TypeVar("L")
M = TypeVar("M")


@dataclass(frozen=True)
class Repetition:
    """How often a part is repeated, the states it starts with, and the buffers it goes over."""

    count: Expr
    reverse: bool
    first: tuple[Buf, ...]
    over: tuple[Buf, ...]
    last: tuple[bool, ...] = ()

    def keeps_last(self, k: int) -> bool:
        """Whether of output `k` the last value alone is kept."""
        return k < len(self.last) and self.last[k]


@dataclass(frozen=True)
class While:
    """A part runs as long as `flag` is true, from the states `first` on."""

    flag: Buf
    first: tuple[Buf, ...]


@dataclass(frozen=True)
class Branch:
    """A part runs where the element of `index`, an i32 of rank 0, is `case`."""

    index: Buf
    case: int


Control = Repetition | While | Branch


@dataclass(frozen=True)
class Part(Generic[L]):
    """A straight program, what its outputs are called, and how often it runs if not once."""

    body: L
    outputs: tuple[Buf, ...]
    control: Control | None = None

    @property
    def carried(self) -> tuple[Buf, ...]:
        """The buffers that the first inputs of the body stand for: states and rows."""
        c = self.control
        if isinstance(c, Repetition):
            return (*c.first, *c.over)
        return c.first if isinstance(c, While) else ()

    @property
    def passing(self) -> tuple[bool, ...]:
        """Which outputs are states in two places, of which the last step's is the output."""
        c = self.control
        if isinstance(c, Repetition):
            return tuple(map(c.keeps_last, range(len(self.outputs))))
        return (isinstance(c, While),) * len(self.outputs)

    @property
    def asked(self) -> tuple[Buf, ...]:
        """The buffer whose element decides whether the body runs."""
        c = self.control
        if isinstance(c, While):
            return (c.flag,)
        return (c.index,) if isinstance(c, Branch) else ()


@dataclass(frozen=True)
class Module(Generic[L]):
    """Parts that run in order, all of them at one level."""

    interface: Interface
    parts: tuple[Part[L], ...]

    def straight(self) -> Iterator[Any]:
        """The bodies that are no modules, those of inner modules among them."""
        for p in self.parts:
            if isinstance(p.body, Module):
                yield from p.body.straight()
            else:
                yield p.body

    def map(self, fn: Callable[[L], M]) -> Module[M]:
        """The module with `fn` applied to each body."""
        parts = (Part(fn(p.body), p.outputs, p.control) for p in self.parts)
        return Module(self.interface, tuple(parts))
