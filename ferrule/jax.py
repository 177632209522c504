"""What users of JAX call: `ferrule.jax.jit`. Needs the extra `ferrule[jax]` (see docs/jax.md)."""

from __future__ import annotations

from ferrule.api.jax.jit import jit

__all__ = ["jit"]
