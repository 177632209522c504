"""Calls of subgraphs."""

from __future__ import annotations

from ferrule.frontend.tensorflow.model import Called
from ferrule.frontend.tflite.model import Operator
from ferrule.frontend.tflite.writer import Writer, operator


@operator("IF", moves=True)
def _if(w: Writer, op: Operator, flag: str, *xs: str) -> list[str]:
    branches = {
        f"{n}_branch": Called(w.calls(int(op.options[f"{n}_subgraph_index"])))
        for n in ("then", "else")
    }
    return w.several(len(op.outputs), "If", flag, *xs, **branches)


@operator("WHILE", moves=True)
def _while(w: Writer, op: Operator, *xs: str) -> list[str]:
    parts = {n: Called(w.calls(int(op.options[f"{n}_subgraph_index"]))) for n in ("cond", "body")}
    return w.several(len(op.outputs), "While", *xs, **parts)
