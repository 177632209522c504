"""What users of JAX call: `jit` and `export` (see docs/jax.md), and `register_platform` (see
docs/stablehlo.md). Needs the extra `ferrule[jax]`.
"""

from __future__ import annotations

try:
    import jax as _jax
except ImportError as error:
    raise ImportError("ferrule.jax needs jax 0.10 or newer: pip install 'ferrule[jax]'") from error
if tuple(map(int, _jax.__version__.split(".")[:2])) < (0, 10):
    raise ImportError(f"ferrule.jax needs jax 0.10 or newer, and this is {_jax.__version__}")

from ferrule.api.jax.export import export
from ferrule.api.jax.jit import jit
from ferrule.api.jax.pjrt.register import register_platform

__all__ = ["export", "jit", "register_platform"]
