"""StableHLO's own test programs, run by ferrule: what each gives, and what it should.

    python -m tests.frontend.stablehlo.conformance [FILE..]       counts, and what fails
    python -m tests.frontend.stablehlo.conformance --docs         these, and the page's table

A program of `testdata` computes something and compares it with constants by `check.expect_*`. Its
@inputs become inputs of the graph, each check a pair of outputs.
"""

from __future__ import annotations

import argparse
import collections
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ferrule.base.dtype import DType, bf16, f16, f32, f64, from_storage
from ferrule.base.errors import FerruleError, UnsupportedError
from ferrule.frontend.stablehlo.convert import convert
from ferrule.frontend.stablehlo.module import (
    Constant,
    Function,
    Module,
    Operation,
)
from ferrule.frontend.stablehlo.rules.control import CUSTOM_CALLS
from ferrule.frontend.stablehlo.table import COMPLEX, RULES, is_complex
from ferrule.frontend.stablehlo.text import read_text
from ferrule.frontend.stablehlo.vhlo import OPERATIONS
from ferrule.ir.interp import run_graph
from ferrule.pipeline.compile import compile_graph
from ferrule.runtime.arrays import NumpyCallable
from tests.frontend.stablehlo.programs import files as files_of
from tests.frontend.stablehlo.programs import parts

CHECKS = ("check.expect_eq", "check.expect_almost_eq", "check.expect_close")
TOLERANCES = {f64: 1e-9, f32: 2e-5, f16: 1e-2, bf16: 5e-2}


@dataclass(frozen=True)
class Check:
    """A comparison that a program makes: of two of its values, or of one with a constant."""

    got: str
    want: str | Constant
    tolerance: float


def checks(f: Function) -> list[Check]:
    """The comparisons in a function's body."""
    found = []
    for op in f.body.operations:
        if _is_check(op):
            want = op.operands[1] if len(op.operands) > 1 else op.attributes["value"]
            found.append(Check(op.operands[0], want, float(op.attributes.get("tolerance", 0))))
    return found


def returning(f: Function, found: Sequence[Check]) -> Function:
    """`f` that returns what it compares."""
    types = {v.name: v.type for op in f.body.operations for v in op.results}
    types |= {v.name: v.type for v in f.body.arguments}
    names = [n for c in found for n in (c.got, c.want) if isinstance(n, str)]
    kept = tuple(op for op in f.body.operations[:-1] if not _is_check(op))
    last = replace(f.body.operations[-1], operands=tuple(names))
    results = tuple(types[n] for n in names)
    return replace(f, body=replace(f.body, operations=(*kept, last)), results=results)


def _is_check(op: Operation) -> bool:
    name = str(op.attributes.get("call_target_name", op.name))
    return name.removesuffix("_const") in CHECKS


def constants(module: Module, name: str) -> list[Any] | None:
    """The arrays that a function returns, if all are constants."""
    f = module.functions.get(name)
    if f is None:
        return None
    found = {
        op.results[0].name: op.attributes["value"]
        for op in f.body.operations
        if op.name == "stablehlo.constant"
    }
    last = f.body.operations[-1]
    if not all(n in found for n in last.operands):
        return None
    return [found[n] for n in last.operands]


def with_inputs(module: Module, entry: str) -> tuple[Module, list[Constant]]:
    """The module with the results of @inputs as arguments of `entry`."""
    f, given = module.functions[entry], constants(module, "inputs")
    called = [
        op for op in f.body.operations
        if op.name == "func.call" and op.attributes["callee"] == "inputs"
    ]  # fmt: skip
    if given is None or len(called) != 1:
        return module, []
    body = replace(
        f.body,
        arguments=(*f.body.arguments, *called[0].results),
        operations=tuple(op for op in f.body.operations if op is not called[0]),
    )
    return Module({**module.functions, entry: replace(f, body=body)}), given


def storage(c: Constant) -> Any:
    """A constant as an input of a graph is given."""
    x = np.ascontiguousarray(c.values)
    if is_complex(c.type):
        return np.stack([x.real, x.imag], -1).reshape(*c.values.shape, 2)
    return x.reshape(c.values.shape)


def run(path: Path, compiled: bool = True) -> dict[str, str | None]:
    """What is wrong with each program of a file, or None; of a file's parts, which `// -----`
    separates, each is read by itself.
    """
    found: dict[str, str | None] = {}
    for k, text in enumerate(parts(path.read_text(encoding="utf-8"))):
        try:
            module = read_text(text, path.name)
        except UnsupportedError as error:
            found[f"{path.name} part {k}"] = f"UnsupportedError: {error}"
            continue
        names = list(module.functions)
        entries = ["main"] if "main" in names else [n for n in names if checks(module.functions[n])]
        for entry in entries:
            found[f"{path.name} @{entry}"] = run_one(module, entry, compiled)
    return found


def run_one(module: Module, entry: str, compiled: bool = True) -> str | None:
    """What is wrong with one function, or None."""
    module, given = with_inputs(module, entry)
    found = checks(module.functions[entry])
    if not found:
        return None
    f = returning(module.functions[entry], found)
    try:
        made = convert(Module({**module.functions, entry: f}), entry)
        inputs = [storage(c) for c in given]
        if compiled:
            program = compile_graph(made.graph)
            program.executable.bind([(p.ctypes.data, p) for p in made.params])
            out = list(NumpyCallable(program.executable)(*inputs))
        else:
            out = run_graph(made.graph, [*inputs, *made.params])
    except FerruleError as error:
        return f"{type(error).__name__}: {error}".splitlines()[0]
    except Exception as error:
        return f"CRASH {type(error).__name__}: {error}"
    rest = iter(zip(made.graph.outputs, out, strict=True))
    for c in found:
        v, x = next(rest)
        y = storage(c.want) if isinstance(c.want, Constant) else next(rest)[1]
        message = different(x, np.asarray(y), v.dtype, c.tolerance)
        if message is not None:
            return message
    return None


def different(x: Any, y: Any, dtype: DType, tolerance: float) -> str | None:
    if x.shape != y.shape:
        return f"wrong: shape {x.shape}, not {y.shape}"
    if not dtype.is_float:
        shown = f"wrong: {x.reshape(-1)[:6]}, not {y.reshape(-1)[:6]}"
        return None if np.array_equal(x, y) else shown
    a, b = (from_storage(v, dtype).astype(np.float64) for v in (x, y))
    near = max(TOLERANCES[dtype], tolerance)
    ok = np.isclose(a, b, rtol=near, atol=near, equal_nan=True)
    if ok.all():
        return None
    at = np.argwhere(~ok)[0]
    values = f"{a[tuple(at)]} should be {b[tuple(at)]} at {at.tolist()}"
    return f"wrong: {values}; {(~ok).sum()} of {ok.size}"


PAGE = Path(__file__).parents[3] / "docs" / "stablehlo.md"
BEGIN, END = "<!-- operations -->", "<!-- end -->"
_NONE = {"func", "return", "cross-replica-sum"}


def operations() -> list[str]:
    """The lines of the page about operations: those with rules, and those without."""
    names = {re.sub(r"_v\d+$", "", n) for n in OPERATIONS} - _NONE
    known = {n.split(".")[1] for n in RULES if n.startswith("stablehlo.")} | {"call"}
    chlo = {n.split(".")[1] for n in RULES if n.startswith("chlo.")}
    of_complex = {n.split(".")[1] for n in COMPLEX}
    found = [
        ("Converted", known & (names | of_complex)),
        ("of them with rules of their own for complex numbers", of_complex & known),
        ("CHLO", chlo),
        ("Refused", names - known),
        ("Custom calls", set(CUSTOM_CALLS)),
    ]
    shown = ((title, len(ns), ", ".join(f"`{n}`" for n in sorted(ns))) for title, ns in found)
    return [f"- {title} ({count}): {words}" for title, count, words in shown]


def counted(found: dict[str, str | None]) -> dict[str, int]:
    """How many programs are right, refused and wrong."""
    return dict(
        sorted(
            collections.Counter(
                "right" if v is None else "refused" if v.startswith("UnsupportedError") else "wrong"
                for v in found.values()
            ).items()
        )
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--interpret", action="store_true", help="the interpreter, no machine code")
    parser.add_argument("--every", type=int, default=1, help="one file of so many")
    parser.add_argument("--docs", action="store_true", help="write the table of the page")
    o = parser.parse_args(arguments)
    lines, wrong = operations(), 0
    kinds = {"": o.files} if o.files else {k: files_of(k) for k in ("testdata", "interpret")}
    lines += ["", "| tests | programs | right | refused | wrong |", f"|{' --- |' * 5}"]
    reasons: collections.Counter[str] = collections.Counter()
    for kind, files in kinds.items():
        found = {k: v for f in files[:: o.every] for k, v in run(f, not o.interpret).items()}
        for name, message in found.items():
            if message is not None:
                print(f"{name}: {message}"[:240])
                reasons[reason(message)] += 1
        counts = counted(found)
        wrong += counts.get("wrong", 0)
        row = [len(found), *(counts.get(k, 0) for k in ("right", "refused", "wrong"))]
        lines.append(f"| `{kind}` | {' | '.join(map(str, row))} |")
    refused = ", ".join(f"{r} ({n})" for r, n in reasons.most_common()) or "nothing"
    lines += ["", f"What is refused: {refused}."]
    print("\n".join(lines[-6:]))
    if o.docs:
        page = PAGE.read_text(encoding="utf-8")
        begin, end = page.index(BEGIN) + len(BEGIN), page.index(END)
        PAGE.write_text("\n".join((page[:begin], *lines, page[end:])), encoding="utf-8")
    return 1 if wrong else 0


def reason(message: str) -> str:
    """What a refusal is about."""
    for words in ("quantised types", "element type"):
        if words in message:
            return words if words == "quantised types" else "narrow element types"
    said = re.sub(r"^UnsupportedError: (\S+:\d+:\d+: )?", "", message)
    return f"`{said.split()[0]}`"


if __name__ == "__main__":
    sys.exit(main())
