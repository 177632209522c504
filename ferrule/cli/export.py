"""`ferrule export`: a model in a form that other compilers read."""

from __future__ import annotations

import argparse
from pathlib import Path

from ferrule.api.programs import InferenceSession
from ferrule.cli.build import add_shapes
from ferrule.cli.command import Command, add_model

_ABOUT = """\
Writes an ONNX model as StableHLO text, which XLA, IREE and others compile. Sizes must be numbers:
fix those of inputs that vary with --shape. Weights are constants of the text, or with --weights
arguments of @main behind the inputs.

examples:
  ferrule export model.onnx --to stablehlo -o model.mlir --shape x=1,3,224,224
  ferrule export model.onnx --to stablehlo -o model.mlir --weights model.safetensors
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "--to", choices=("stablehlo",), required=True, help="the form that is written"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the text (default: standard output)"
    )
    parser.add_argument(
        "--weights", type=Path, metavar="FILE", help="write the weights there, as safetensors"
    )
    add_shapes(parser)


def _export(options: argparse.Namespace) -> None:
    session = InferenceSession(options.model, shapes=dict(options.shape))
    text = session.stablehlo(weights=options.weights)
    if options.output is None:
        print(text, end="")
        return
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output}: {len(text)} characters")


COMMAND = Command(
    "export", "an ONNX model as StableHLO, for other compilers", _export, _arguments, _ABOUT
)
