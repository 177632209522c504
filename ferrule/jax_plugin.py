"""What JAX imports where ferrule is installed, by the entry point `jax_plugins`: it must cost those
nothing who have chosen another platform.
"""

from __future__ import annotations


def initialize() -> None:
    """Makes the platform "ferrule" known to JAX if `jax_platforms` names it."""
    import jax

    if "ferrule" in (jax.config.jax_platforms or "").split(","):
        from ferrule.jax import register_platform

        register_platform()
