"""Layers that run over a sequence."""

from __future__ import annotations

from ferrule.base.errors import UnsupportedError
from ferrule.frontend.tflite.model import Operator
from ferrule.frontend.tflite.writer import Writer, activation, operator

_STATES = (18, 19)


@operator("UNIDIRECTIONAL_SEQUENCE_LSTM", exact=True)
def _lstm(w: Writer, op: Operator, *xs: str) -> str:
    """States begin as zeros at each call. Weights of bytes are taken as what they stand for."""
    if w.quantised(op.inputs[0]):
        raise UnsupportedError("an LSTM of quantised activations")
    for place in _STATES:
        if not w.tensor(op.inputs[place]).variable:
            raise UnsupportedError("an LSTM whose first states are given")
    names = [w.float_of(n, i) for n, i in zip(xs, op.inputs)]
    own = op.options
    return w.add(
        "tfl.UNIDIRECTIONAL_SEQUENCE_LSTM", *names, activation=activation(op),
        time_major=bool(own.get("time_major", False)),
        cell_clip=float(own.get("cell_clip", 0)), proj_clip=float(own.get("proj_clip", 0)),
    )  # fmt: skip
