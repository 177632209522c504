"""Source: a function of a model as a frontend hands it over to be built into an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from ferrule.ir.graph import Graph

Array = NDArray[Any]
Order = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Given:
    """An input of the graph: the `place` among the function's arguments. The graph takes the
    argument transposed by `order`, where that is given.
    """

    place: int
    order: Order | None = None


@dataclass(frozen=True, eq=False)
class Made:
    """A result: the graph's output at `index`, transposed by `order` in memory, or an array that it
    always is.
    """

    name: str
    index: int | None
    order: Order | None = None
    array: Array | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A function. `arguments` are the names of its arguments in order, `params` the arrays of the
    graph's parameters with their names, bf16 as uint16.
    """

    name: str
    graph: Graph
    arguments: tuple[str, ...]
    inputs: tuple[Given, ...]
    results: tuple[Made, ...]
    params: tuple[tuple[str, Array], ...]
