"""Module: a program in straight parts that run in order, some of them many times.

    module     = interface, part..
    part       = body (outputs) [repetition]
    repetition = count [reverse] (first..) (over..)

Meaning:
- A body is a program of its own, at one of the levels from Graph to Program, or a module again.
  What it is given has the name of an input or param of the module, or of an output of a part
  before.
- The outputs of a part are what the others call the body's. Those of a repeated part have a row
  for each step.
- The first inputs of a repeated body are states: the `first` buffers before the first step, and
  later what the step before has given, which are the first of its outputs. Then come rows of the
  buffers `over`, from the last to the first where the repetition is `reverse`.
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


@dataclass(frozen=True)
class Part(Generic[L]):
    """A straight program, what its outputs are called, and how often it runs if not once."""

    body: L
    outputs: tuple[Buf, ...]
    repeated: Repetition | None = None


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
        parts = (Part(fn(p.body), p.outputs, p.repeated) for p in self.parts)
        return Module(self.interface, tuple(parts))
