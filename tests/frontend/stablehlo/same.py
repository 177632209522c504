"""Whether two modules say the same: names of values do not matter, nor places."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ferrule.frontend.stablehlo.module import Constant, Function, Module, Region


def differences(a: Module, b: Module) -> list[str]:
    """What differs, one line each."""
    if list(a.functions) != list(b.functions):
        return [f"functions {list(a.functions)} and {list(b.functions)}"]
    found: list[str] = []
    for name, function in a.functions.items():
        found += [f"@{name}: {d}" for d in _of_functions(function, b.functions[name])]
    return found


def _of_functions(a: Function, b: Function) -> list[str]:
    found = []
    if a.results != b.results:
        found.append(f"results {a.results} and {b.results}")
    for field in ("argument_attributes", "result_attributes"):
        if not equal(getattr(a, field), getattr(b, field)):
            found.append(f"{field} {getattr(a, field)} and {getattr(b, field)}")
    return found + _of_regions(a.body, b.body, {})


def _of_regions(a: Region, b: Region, names: dict[str, str]) -> list[str]:
    """`names` says what values of `a` are called in `b`."""
    if [v.type for v in a.arguments] != [v.type for v in b.arguments]:
        return ["types of arguments of a region"]
    names.update({v.name: w.name for v, w in zip(a.arguments, b.arguments)})
    if [o.name for o in a.operations] != [o.name for o in b.operations]:
        both = [o.name for o in a.operations], [o.name for o in b.operations]
        return [f"operations {both[0]} and {both[1]}"]
    found = []
    for x, y in zip(a.operations, b.operations):
        where = f"{x.name} ({x.place} and {y.place})"
        if [names[n] for n in x.operands] != list(y.operands):
            found.append(f"{where}: operands {x.operands} and {y.operands}")
        if [v.type for v in x.results] != [v.type for v in y.results]:
            found.append(f"{where}: results {x.results} and {y.results}")
        if not equal(x.attributes, y.attributes):
            keys = x.attributes.keys() | y.attributes.keys()
            for key in sorted(keys):
                one, other = x.attributes.get(key), y.attributes.get(key)
                if not equal(one, other):
                    found.append(f"{where}: {key} = {one!r} and {other!r}")
        if len(x.regions) != len(y.regions):
            found.append(f"{where}: {len(x.regions)} and {len(y.regions)} regions")
        for r, s in zip(x.regions, y.regions):
            found += _of_regions(r, s, names)
        names.update({v.name: w.name for v, w in zip(x.results, y.results)})
    return found


def equal(a: Any, b: Any) -> bool:
    """Whether attributes are equal; constants bit by bit."""
    if isinstance(a, Constant) and isinstance(b, Constant):
        one, other = np.ascontiguousarray(a.values), np.ascontiguousarray(b.values)
        same = one.dtype == other.dtype and one.shape == other.shape
        return a.type == b.type and same and one.tobytes() == other.tobytes()
    if isinstance(a, tuple) and isinstance(b, tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(equal(a[k], b[k]) for k in a)
    return type(a) is type(b) and a == b
