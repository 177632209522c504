"""Damaged programs: each must be read, or refused with an error that names its place, in bounded
time and memory.

    python -m tests.frontend.stablehlo.damage --n 10000     the long run; 1 where a case failed

A case is a program and one to three mutations of it, all chosen by the case's number. Programs are
those of StableHLO's tests where they are there, as text and (where jaxlib is there) as portable
artifacts, and a few that are here, an export of JAX among them.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
import time
import tracemalloc
from collections import Counter
from functools import cache

from ferrule.base.errors import ParseError, UnsupportedError
from ferrule.frontend.stablehlo.read import read
from ferrule.frontend.stablehlo.text import read_text
from tests.frontend.stablehlo import artifacts, programs

SECONDS = 5.0
PLACE = re.compile(r":\d+:\d+: |: byte \d+: ")
TOKENS = (
    "(", ")", "[", "]", "{", "}", "<", ">", ",", ":", "=", "->", "-", "?", "x", "%0", "%arg0#1",
    "@main", "^bb0", "#loc", "!stablehlo.token", '"', '"x"', "0", "-1", "9" * 40, "0x7F", "1.5e999",
    "dense<", "tensor<", "tensor<1000000000000x1000000xf32>", "dense<0.0> : tensor<9999999999xf32>",
    "array<i64: ", "loc(", "//", "\\", "\0", "é", "(" * 2000, "[" * 5000, "{a = " * 3000,
    "tuple<" * 3000, "{-#", "i1", "index", "complex<f32>", "tensor<?xf32>", "stablehlo.add",
    '"stablehlo.while"', "func.func @f", "return", "stablehlo.while(", "dense_resource<x>",
)  # fmt: skip


def damaged_text(text: str, rng: random.Random) -> str:
    """A text with something cut, doubled, moved, replaced or put in."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        length = min(rng.choice((1, 1, 3, 10, 100, 1000)), len(text) - at)
        piece, token = text[at : at + length], rng.choice(TOKENS)
        kind = rng.randrange(7)
        if kind == 0:
            text = text[:at] + text[at + length :]
        elif kind == 1:
            text = text[:at] + piece * rng.randint(2, 3) + text[at + length :]
        elif kind == 2:
            text = text[:at] + token + text[at:]
        elif kind == 3:
            text = text[:at] + token + text[at + length :]
        elif kind == 4:
            text = text[:at] + chr(rng.randrange(128)) + text[at + 1 :]
        elif kind == 5:
            other = rng.randrange(len(text) + 1)
            text = text[:other] + piece + text[other:]
        else:  # one word for another of the same text
            words = list(re.finditer(r"[\w.%@#!]+", text[max(at - 2000, 0) : at + 2000]))
            if len(words) > 1:
                one, other = rng.sample(words, 2)
                base = max(at - 2000, 0)
                text = text[: base + one.start()] + other[0] + text[base + one.end() :]
    return text


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """Bytes with something cut, doubled, replaced or put in."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(data) + 1)
        length = min(rng.choice((1, 1, 1, 2, 8, 64)), len(data) - at)
        noise = bytes(rng.randrange(256) for _ in range(length))
        new = rng.choice((
            b"", noise, b"\0" * length, b"\xff" * length, data[at : at + length] * 2,
            bytes(b ^ (1 << rng.randrange(8)) for b in data[at : at + length]),
        ))  # fmt: skip
        data = data[:at] + new + data[at + length :]
    return data


@cache
def seeds() -> tuple[str | bytes, ...]:
    """The programs: texts of at most 20,000 characters, and artifacts."""
    texts = [t for t in programs.texts() if len(t) <= 20_000]
    here = (artifacts.SMALL, artifacts.EXPORT) * 50
    return (*texts, *programs.artifacts(texts), *here)


def survives(number: int) -> str:
    """Reads the damaged program of a case: what came of it. Raises AssertionError if that took too
    long or too much memory, or if its error names no place; other errors as they are.
    """
    rng = random.Random(number)
    program = rng.choice(seeds())
    start = time.process_time()
    tracemalloc.start()
    try:
        if isinstance(program, str):
            program = damaged_text(program, rng)
            read_text(program)
        else:
            program = damaged_bytes(program, rng)
            read(program)
        outcome, message = "read", ""
    except (ParseError, UnsupportedError) as error:
        outcome, message = type(error).__name__, str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    seconds = time.process_time() - start
    assert not message or PLACE.search(message), f"an error without a place: {message}"
    assert len(message) < 2000, f"a long error: {message}"
    assert seconds < SECONDS, f"{seconds:.1f} seconds"
    assert peak < (32 << 20) + 200 * len(program), f"{peak >> 20} MB for {len(program)} bytes"
    return f"{'text' if isinstance(program, str) else 'bytes'} {outcome}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--n", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    counts: Counter[str] = Counter()
    failed = 0
    for number in range(given.seed, given.seed + given.n):
        try:
            counts[survives(number)] += 1
        except Exception as error:
            failed += 1
            print(f"case {number}: {type(error).__name__}: {str(error)[:300]}")
    print(f"{given.n} cases, {failed} failed:", dict(counts))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
