"""`ferrule build`: a model as an artifact, or as a C library, that runs without the compiler."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferrule.api.programs import InferenceSession
from ferrule.base.errors import InputError
from ferrule.cli.command import Command, add_model
from ferrule.pipeline.build import DEFAULT_TARGETS
from ferrule.target.cpu import PORTABLE

_ABOUT = f"""\
Compiles an ONNX model, a StableHLO program, a TensorFlow Lite file, or a SavedModel of TensorFlow
(a folder), for one or more CPUs into one file, which `ferrule.load` and `ferrule run` take with
numpy alone. The best code that a CPU has is taken when the file is loaded. With --c-bundle it makes
a C library, or a WebAssembly module for the target wasm32.

targets: {", ".join(PORTABLE)}

examples:
  ferrule build model.onnx -o model.ferrule
  ferrule build model.onnx -o model.ferrule --target x86-64,x86-64-v3,x86-64-v4,aarch64,riscv64
  ferrule build model.onnx --c-bundle model_c
  ferrule build model.onnx --c-bundle model_web --target wasm32
"""


def _arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="the artifact (default: MODEL.ferrule)"
    )
    parser.add_argument(
        "--target",
        type=lambda text: [t for t in text.split(",") if t],
        default=list(DEFAULT_TARGETS),
        metavar="NAMES",
        help=f"targets, with commas between them (default: {','.join(DEFAULT_TARGETS)})",
    )
    parser.add_argument(
        "--c-bundle",
        type=Path,
        metavar="DIR",
        help="write a C library with its header, weights and an example there, not an artifact",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="store the weights as the code wants them: faster to load, in memory once",
    )
    parser.add_argument(
        "--sign", type=Path, metavar="KEY", help="sign with this private key of Ed25519, in PEM"
    )
    add_shapes(parser)


def add_shapes(parser: argparse.ArgumentParser) -> None:
    """Add `--shape`, which may be given for each input."""
    parser.add_argument(
        "--shape",
        type=_shape,
        action="append",
        default=[],
        metavar="NAME=SIZES",
        help="fix the shape of an input, as in x=1,3,224,224",
    )


def _build(options: argparse.Namespace) -> None:
    if options.c_bundle is not None and options.output is not None:
        raise InputError("--output and --c-bundle are two things to write: give one of them")
    if options.c_bundle is not None and (options.packed or options.sign is not None):
        raise InputError("--packed and --sign are for artifacts, not for C libraries")
    output = options.output or Path(options.model).with_suffix(".ferrule")
    shapes: Mapping[str, Sequence[int]] = dict(options.shape)
    session = InferenceSession(options.model, shapes=shapes)
    if options.c_bundle is not None:
        session.bundle(options.c_bundle, options.target)
        files = ", ".join(sorted(f.name for f in options.c_bundle.iterdir()))
        print(f"{options.c_bundle}: {files}")
        return
    session.save(output, options.target, packed=options.packed, sign=options.sign)
    print(f"{output}: {output.stat().st_size} bytes, for {', '.join(options.target)}")


def _shape(text: str) -> tuple[str, tuple[int, ...]]:
    name, _, sizes = text.partition("=")
    try:
        return name, tuple(int(n) for n in sizes.split(",") if n)
    except ValueError:
        raise InputError(f"{text!r} must be a name and sizes, as in x=1,3,224,224") from None


COMMAND = Command(
    "build", "an ONNX model as a file that runs without the compiler", _build, _arguments, _ABOUT
)
