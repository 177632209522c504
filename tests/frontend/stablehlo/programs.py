"""Programs for tests: those of StableHLO's own tests where they are there, and one of this project.

The former lie in `shared/stablehlo` in a folder above this project, or where the variable
FERRULE_STABLEHLO says.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

SMALL = """
#loc = loc("a.py":1:2)
module @small attributes {mhlo.num_partitions = 1 : i32} {
  func.func public @main(%arg0: tensor<2x3xf32> {jax.buffer_donor = true}, %arg1: tensor<3xf32>)
      -> (tensor<2xf32> {jax.result_info = "y"}, tensor<i32>) {
    %cst = stablehlo.constant dense<0.0> : tensor<f32>
    %c = stablehlo.constant dense<[1, 2]> : tensor<2xi32>
    %0 = stablehlo.broadcast_in_dim %arg1, dims = [1] : (tensor<3xf32>) -> tensor<2x3xf32>
    %1 = stablehlo.add %arg0, %0 : tensor<2x3xf32> loc(#loc)
    %2 = stablehlo.reduce(%1 init: %cst) applies stablehlo.add across dimensions = [1]
      : (tensor<2x3xf32>, tensor<f32>) -> tensor<2xf32>
    %3:2 = call @loop(%2, %c) : (tensor<2xf32>, tensor<2xi32>) -> (tensor<2xf32>, tensor<i32>)
    return %3#0, %3#1 : tensor<2xf32>, tensor<i32>
  }
  func.func private @loop(%x: tensor<2xf32>, %n: tensor<2xi32>) -> (tensor<2xf32>, tensor<i32>) {
    %c = stablehlo.constant dense<0> : tensor<i32>
    %c_1 = stablehlo.constant dense<1> : tensor<i32>
    %c_2 = stablehlo.constant dense<10> : tensor<i32>
    %0:2 = stablehlo.while(%a = %x, %i = %c) : tensor<2xf32>, tensor<i32>
    cond {
      %1 = stablehlo.compare LT, %i, %c_2, SIGNED : (tensor<i32>, tensor<i32>) -> tensor<i1>
      stablehlo.return %1 : tensor<i1>
    } do {
      %1 = stablehlo.add %i, %c_1 : tensor<i32>
      %2 = "stablehlo.sort"(%a) <{dimension = 0 : i64, is_stable = true}> ({
      ^bb0(%p: tensor<f32>, %q: tensor<f32>):
        %3 = stablehlo.compare LT, %p, %q, TOTALORDER : (tensor<f32>, tensor<f32>) -> tensor<i1>
        stablehlo.return %3 : tensor<i1>
      }) : (tensor<2xf32>) -> tensor<2xf32>
      stablehlo.return %2, %1 : tensor<2xf32>, tensor<i32>
    }
    return %0#0, %0#1 : tensor<2xf32>, tensor<i32>
  }
}
"""


def folder() -> Path | None:
    """Where StableHLO's tests are, or None."""
    given = os.environ.get("FERRULE_STABLEHLO")
    above = [Path(given)] if given else []
    above += [parent / "shared" / "stablehlo" for parent in Path(__file__).resolve().parents]
    return next((place for place in above if (place / "testdata").is_dir()), None)


def files(kind: str) -> list[Path]:
    """The programs of a folder of StableHLO's tests, "testdata" or "interpret"."""
    place = folder()
    return sorted((place / kind).glob("*.mlir")) if place else []


@cache
def texts() -> tuple[str, ...]:
    """Programs as text."""
    found = [SMALL]
    for path in files("testdata") + files("interpret"):
        found += parts(path.read_text(encoding="utf-8"))
    return tuple(found)


def parts(text: str) -> list[str]:
    """The programs of a text that lines with `// -----` separate."""
    return re.split(r"(?m)^// -----.*$", text)


@cache
def context() -> Any:
    """A context of MLIR with the dialects that jaxlib has, or None without jaxlib."""
    try:
        from jaxlib.mlir import ir
        from jaxlib.mlir._mlir_libs import _jax_mlir_ext
        from jaxlib.mlir.dialects import chlo, stablehlo
    except ImportError:
        return None
    registry = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(registry)
    made = ir.Context()
    made.append_dialect_registry(registry)
    made.load_all_available_dialects()
    stablehlo.register_dialect(made)
    chlo.register_dialect(made)
    return made


def artifacts(texts: Sequence[str], version: str = "1.0.0") -> list[bytes]:
    """The portable artifacts of those texts that MLIR can make some of."""
    if context() is None:
        return []
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo

    found: list[bytes] = []
    for text in texts:
        try:
            with context():
                found.append(stablehlo.serialize_portable_artifact(ir.Module.parse(text), version))
        except (ValueError, ir.MLIRError):
            continue
    return found
