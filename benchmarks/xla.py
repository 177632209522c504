"""StableHLO programs of JAX, compiled by ferrule and by XLA, in turn in one process.

    python -m benchmarks.xla                         all rows, one thread
    python -m benchmarks.xla --threads 2 --rows softmax,argsort
    python -m benchmarks.xla --rounds 31

Needs jax. Both compile what `jax.jit(f).lower(..)` gives. XLA's calls are on its own device arrays,
and end with `block_until_ready`; ferrule's are on NumPy arrays, and give new ones. Threads of XLA
are limited by `taskset` alone, so with one thread the process is bound to one core.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

Row = tuple[Callable[..., Any], tuple[Any, ...]]


def rows() -> dict[str, Row]:
    """A function and its arguments by the name of the row."""
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax import lax

    rng = np.random.default_rng(0)

    def f32(*shape: int) -> Any:
        return (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32)

    def mlp(x: Any, a: Any, b: Any, c: Any) -> Any:
        return jax.nn.relu(jax.nn.relu(x @ a) @ b) @ c

    def norm(x: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) * lax.rsqrt(x.var(-1, keepdims=True) + 1e-5)

    def attend(q: Any, k: Any, v: Any) -> Any:
        s = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        mask = jnp.tril(jnp.ones(s.shape[-2:], bool))
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(jnp.where(mask, s, -1e9)), v)

    def block(x: Any, qkv: Any, o: Any, up: Any, down: Any) -> Any:
        b, n, d = x.shape
        q, k, v = jnp.split((norm(x) @ qkv).reshape(b, n, 12, 3 * d // 12), 3, -1)
        x = x + attend(q, k, v).reshape(b, n, d) @ o
        return x + jax.nn.gelu(norm(x) @ up) @ down

    def conv(x: Any, w: Any, stride: int = 1, **more: Any) -> Any:
        return lax.conv_general_dilated(
            x, w, (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), **more
        )

    def resnet(x: Any, weights: Any) -> Any:
        rest = iter(weights)
        x = jax.nn.relu(conv(x, next(rest), 2))
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
        for stage in range(4):
            for k in range(2):
                stride = 2 if stage and not k else 1
                y = jax.nn.relu(conv(x, next(rest), stride))
                y = conv(y, next(rest))
                if stride == 2:
                    x = conv(x, next(rest), 2)
                x = jax.nn.relu(x + y)
        return x.mean((1, 2)) @ next(rest)

    def resnet_weights() -> list[Any]:
        out, before = [f32(7, 7, 3, 64)], 64
        for stage in range(4):
            size = 64 << stage
            for k in range(2):
                out += [f32(3, 3, before if not k else size, size), f32(3, 3, size, size)]
                if stage and not k:
                    out.append(f32(1, 1, before, size))
            before = size
        return [*out, f32(512, 1000)]

    def step(fn: Callable[..., Any]) -> Callable[..., Any]:
        """A step of gradient descent on the arguments behind the first. The gradients are results
        too, so that they are compared.
        """

        def trained(x: Any, *weights: Any) -> Any:
            loss, grads = jax.value_and_grad(lambda w: jnp.mean(fn(x, *w) ** 2))(weights)
            return loss, grads, jax.tree.map(lambda w, g: w - 0.01 * g, weights, grads)

        return trained

    def gru(x: Any, h: Any, w: Any, u: Any) -> Any:
        def cell(h: Any, row: Any) -> Any:
            a, b, c = jnp.split(row @ w, 3, -1)
            p, q, r = jnp.split(h @ u, 3, -1)
            reset, update = jax.nn.sigmoid(a + p), jax.nn.sigmoid(b + q)
            h = update * h + (1 - update) * jnp.tanh(c + reset * r)
            return h, h

        return lax.scan(cell, h, x)

    def cheap(n: Any, x: Any) -> Any:
        return lax.while_loop(lambda c: c[0] < n, lambda c: (c[0] + 1, c[1] * 0.999 + 1), (0, x))

    def updates(x: Any) -> Any:
        return lax.fori_loop(1, x.size, lambda i, x: x.at[i].add(x[i - 1] * 0.5), x)

    def crossed(x: Any, y: Any) -> Any:
        def body(i: Any, c: Any) -> Any:
            x, y = c
            return x.at[i].add(y[i - 1]), y.at[i].set(x[i - 1])

        return lax.fori_loop(1, x.size, body, (x, y))

    def transposed(x: Any, w: Any) -> Any:
        return lax.conv_transpose(x, w, (2, 2), "SAME")

    def depthwise(x: Any, w: Any) -> Any:
        return conv(x, w, feature_group_count=64)

    mlp_args = (f32(64, 784), f32(784, 512), f32(512, 512), f32(512, 10))
    block_args = (f32(1, 256, 768), f32(768, 2304), f32(768, 768), f32(768, 3072), f32(3072, 768))
    attention = tuple(f32(2, 256, 8, 64) for _ in range(3))
    images, filters = f32(1, 224, 224, 3), resnet_weights()
    return {
        "mlp": (mlp, mlp_args),
        "attention": (attend, attention),
        "resnet18": (resnet, (images, filters)),
        "gpt2_block": (block, block_args),
        "mlp_step": (step(mlp), mlp_args),
        "attention_step": (step(attend), attention),
        "resnet18_step": (step(resnet), (images, filters)),
        "gpt2_block_step": (step(block), block_args),
        "softmax": (jax.nn.softmax, (f32(1024, 1024),)),
        "layer_norm": (norm, (f32(1024, 1024),)),
        "transposed_conv": (transposed, (f32(1, 28, 28, 64), f32(3, 3, 64, 64))),
        "transposed_conv_step": (step(transposed), (f32(1, 28, 28, 64), f32(3, 3, 64, 64))),
        "depthwise_conv": (depthwise, (f32(1, 56, 56, 64), f32(3, 3, 1, 64))),
        "depthwise_conv_step": (step(depthwise), (f32(1, 56, 56, 64), f32(3, 3, 1, 64))),
        "argsort": (jnp.argsort, (f32(1_000_000),)),
        "scatter_add": (
            lambda x, i, v: x.at[i].add(v),
            (f32(10_000), rng.integers(0, 10_000, 1_000_000).astype(np.int32), f32(1_000_000)),
        ),
        "gru_scan": (gru, (f32(512, 8, 64), f32(8, 128), f32(64, 384), f32(128, 384))),
        "while_loop": (cheap, (np.int32(100_000), np.float32(1))),
        "update_loop": (updates, (f32(10_000),)),
        "crossed_update_loop": (crossed, (f32(10_000), f32(10_000))),
    }


def ready(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[dict[str, Any], str]:
    """The calls by compiler, and how far their results are from each other."""
    import jax
    import numpy as np

    import ferrule

    made = jax.jit(fn)
    lowered = made.lower(*args)
    compiled = lowered.compile()
    flat = [np.asarray(x) for x in jax.tree.leaves(args)]
    on_device = jax.device_put(args)
    session = ferrule.compile(lowered.as_text().encode())
    kept = sorted(lowered._lowering.compile_args["kept_var_idx"])
    feed = {f"arg{i}": flat[k] for i, k in enumerate(kept)}
    want = [np.asarray(x) for x in jax.tree.leaves(compiled(*on_device))]
    found = session.run(None, feed)
    apart = max(
        float(np.max(np.abs(x.astype(np.float64) - y) / (1e-6 + np.max(np.abs(y)))))
        for x, y in zip(found, want, strict=True)
    )
    calls = {
        "ferrule": lambda: session.run(None, feed),
        "xla": lambda: jax.block_until_ready(compiled(*on_device)),
    }
    return calls, f"{apart:.0e}"


def timed(calls: dict[str, Any], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of a call in each round, one compiler after the other."""
    repeat = {}
    for name, call in calls.items():
        call()
        begin = time.perf_counter()
        call()
        repeat[name] = max(1, int(seconds / rounds / 2 / max(time.perf_counter() - begin, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            for _ in range(repeat[name]):
                call()
            found[name].append((time.perf_counter() - begin) / repeat[name])
    return found


def main(
    arguments: Sequence[str] | None = None,
    make: Callable[[], dict[str, Row]] = rows,
    doc: str | None = __doc__,
) -> None:
    """Measures what `make` gives, or the rows that are named, and prints a table."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--rows", default="", help="names, with commas between")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row, about")
    o = parser.parse_args(arguments)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: o.threads])
    import ferrule

    ferrule.set_num_threads(o.threads)
    made = make()
    names = o.rows.split(",") if o.rows else list(made)
    print("| row | ferrule | xla | xla / ferrule | apart |")
    print("| --- | --- | --- | --- | --- |")
    ratios = []
    for name in names:
        calls, apart = ready(*made[name])
        times = {k: statistics.median(v) for k, v in timed(calls, o.rounds, o.seconds).items()}
        ratios.append(times["xla"] / times["ferrule"])
        shown = " | ".join(f"{1e3 * t:.3f} ms" for t in times.values())
        print(f"| {name} | {shown} | {ratios[-1]:.2f} | {apart} |", flush=True)
    print(f"geometric mean {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}")


if __name__ == "__main__":
    main()
