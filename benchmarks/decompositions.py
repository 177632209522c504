"""Decompositions of matrices, by ferrule's operators and by LAPACK, which XLA calls.

    python -m benchmarks.decompositions                     all rows, one thread
    python -m benchmarks.decompositions --rows eigh_16,eigh_32

Measured as `benchmarks.xla` does. `ferrule.jax.jit` leaves to XLA what is slower here: where that
begins stands in `ROWS` of ferrule/api/jax/parts.py. Results do not depend on signs and orders, so
that they can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks import xla

SIZES = (4, 8, 16, 32, 64, 128)


def rows() -> dict[str, xla.Row]:
    """A function of one f32 matrix for each decomposition and size."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    functions: dict[str, Callable[..., Any]] = {
        "eigh": lambda a: jnp.linalg.eigh(a + a.T)[0],
        "svd": lambda a: jnp.linalg.svd(a)[1],
        "eig": lambda a: jnp.sort(jnp.abs(jnp.linalg.eig(a)[0])),
        "schur": lambda a: jnp.sum(jax.scipy.linalg.schur(a)[0] ** 2),
        "hessenberg": lambda a: jnp.abs(jax.scipy.linalg.hessenberg(a)),
        "qr": lambda a: jnp.abs(jnp.linalg.qr(a)[1]),
        "lu": lambda a: jax.scipy.linalg.lu_factor(a)[0],
    }
    rng = np.random.default_rng(0)
    matrices = {n: rng.standard_normal((n, n)).astype(np.float32) for n in SIZES}
    return {f"{name}_{n}": (f, (a,)) for name, f in functions.items() for n, a in matrices.items()}


if __name__ == "__main__":
    xla.main(make=rows, doc=__doc__)
