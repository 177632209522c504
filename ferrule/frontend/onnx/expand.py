"""Nodes that are replaced by others while a model is read: those that hold bodies to be called in
the middle of them, and those of which a part needs strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.onnx.model import Body, Op
from ferrule.frontend.onnx.rules.attention import INNER
from ferrule.frontend.onnx.rules.ml_features import encoded, one_hot
from ferrule.frontend.onnx.rules.ml_scores import numbered
from ferrule.frontend.onnx.table import ML

PREVIEW = "ai.onnx.preview"
DEFAULT_VERSION = 26


def inlined(
    body: Body, prefix: str, given: Mapping[str, str], results: Mapping[str, str]
) -> list[Op]:
    """A body's nodes with `given` in place of its inputs and `results` of its outputs.

    Raises UnsupportedError for bodies with bodies of their own.
    """
    own = {n for op in body.ops for n in op.outputs} | set(body.constants)

    def name(n: str) -> str:
        if n in given:
            return given[n]
        return results.get(n, prefix + n if n in own else n)

    out = [
        Op("Constant", "", DEFAULT_VERSION, (), (name(n),), {"value": x})
        for n, x in body.constants.items()
    ]
    for op in body.ops:
        if op.bodies:
            raise UnsupportedError(f"{op.where} inside of a body that is expanded")
        names = tuple(map(name, op.inputs)), tuple(map(name, op.outputs))
        out.append(replace(op, inputs=names[0], outputs=names[1]))
    direct = [p.name for p in body.outputs if p.name in given]
    out += [Op("Identity", "", DEFAULT_VERSION, (given[n],), (results[n],)) for n in direct]
    return out


def _modified(op: Op, which: str, source: str, target: str) -> list[Op]:
    """One of FlexAttention's bodies on `source`, or nothing done."""
    body = op.attrs.get(which)
    if not isinstance(body, Body):
        return [Op("Identity", "", DEFAULT_VERSION, (source,), (target,))]
    prefix = f"{op.outputs[0]}/{which}/"
    return inlined(body, prefix, {body.inputs[0].name: source}, {body.outputs[0].name: target})


def _flex_attention(op: Op) -> list[Op]:
    q, k, v = op.inputs
    scores, changed, weights, last = (f"{op.outputs[0]}/{n}" for n in ("s", "t", "p", "r"))
    plain = {n: a for n, a in op.attrs.items() if not isinstance(a, Body)}
    return [
        Op("FlexScores", INNER, 1, (q, k), (scores,), plain, op.name),
        *_modified(op, "score_mod", scores, changed),
        Op("Softmax", "", DEFAULT_VERSION, (changed,), (weights,), {"axis": -1}),
        *_modified(op, "prob_mod", weights, last),
        Op("FlexValues", INNER, 1, (last, q, v), op.outputs, {}, op.name),
    ]


EXPANSIONS: dict[tuple[str, str], Callable[[Op], list[Op]]] = {
    (PREVIEW, "FlexAttention"): _flex_attention,
    (ML, "LinearClassifier"): numbered,
    (ML, "SVMClassifier"): numbered,
    (ML, "TreeEnsembleClassifier"): numbered,
    (ML, "LabelEncoder"): encoded,
    (ML, "OneHotEncoder"): one_hot,
}
