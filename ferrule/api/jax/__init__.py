"""Functions of JAX as programs of ferrule (see docs/jax.md)."""
