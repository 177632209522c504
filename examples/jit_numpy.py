"""A NumPy function, compiled: the positions of bodies under gravity, for any number of bodies.

python examples/jit_numpy.py
"""

from __future__ import annotations

from typing import Any

import numpy as np

import ferrule

BODIES = {0: "n"}


@ferrule.jit(dynamic={"x": BODIES, "v": BODIES, "mass": BODIES})
def step(x: Any, v: Any, mass: Any, dt: float) -> Any:
    """Positions x[n, 3] and velocities v[n, 3] a time `dt` later, and the energy of motion."""
    apart = x[None] - x[:, None]
    strength = mass[:, None] / ((apart**2).sum(-1, keepdims=True) + 0.01) ** 1.5
    v = v + dt * (apart * strength).sum(1)
    return x + dt * v, v, (mass * (v**2).sum(-1)).sum() / 2


def main() -> None:
    rng = np.random.default_rng(0)
    for n in (3, 100, 500):
        x, v = rng.standard_normal((2, n, 3))
        mass = rng.random(n)
        for _ in range(100):
            x, v, energy = step(x, v, mass, 0.001)
        print(f"{n} bodies: energy of motion {energy:.4f}")
    print(f"compiled {step.programs} times")
    print(step.explain())


if __name__ == "__main__":
    main()
