"""Host rules on strings."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from ferrule.base.errors import InputError, UnsupportedError
from ferrule.frontend.onnx.model import Array
from ferrule.frontend.onnx.table import Attributes, host


def _texts(values: list[Any], shape: tuple[int, ...]) -> Array:
    out = np.empty(len(values), object)
    out[:] = values
    return out.reshape(shape)


@host("StringConcat")
def _concat(a: Attributes, x: Array, y: Array) -> Array:
    x, y = np.broadcast_arrays(x, y)
    return _texts([p + q for p, q in zip(x.ravel(), y.ravel())], x.shape)


@host("StringSplit")
def _split(a: Attributes, x: Array) -> tuple[Array, Array]:
    by = a.text("delimiter", "") or None
    most = a.int("maxsplit", -1)
    rows = [s.split(by, most) if s else [] for s in x.ravel()]
    width = max(map(len, rows), default=0)
    padded = [p for r in rows for p in (*r, *[""] * (width - len(r)))]
    counts = np.array([len(r) for r in rows], np.int64).reshape(x.shape)
    return _texts(padded, (*x.shape, width)), counts


@host("RegexFullMatch")
def _match(a: Attributes, x: Array) -> Array:
    try:
        pattern = re.compile(a.text("pattern"))
    except re.error as error:
        raise InputError(f"the pattern {a.text('pattern')!r} is malformed: {error}") from None
    return np.array([pattern.fullmatch(s) is not None for s in x.ravel()], bool).reshape(x.shape)


@host("StringNormalizer")
def _normalizer(a: Attributes, x: Array) -> Array:
    how, exact = a.text("case_change_action", "NONE"), bool(a.int("is_case_sensitive", 0))
    stops = set(a.texts("stopwords", ()))
    if not exact:
        stops = {s.lower() for s in stops}
    if x.ndim not in (1, 2) or (x.ndim == 2 and x.shape[0] != 1):
        raise UnsupportedError(f"StringNormalizer takes [n] or [1, n], got {list(x.shape)}")
    kept = [s for s in x.ravel() if (s if exact else s.lower()) not in stops]
    change = {"LOWER": str.lower, "UPPER": str.upper}.get(how, str)
    out = [change(s) for s in kept] or [""]
    return _texts(out, (1, len(out)) if x.ndim == 2 else (len(out),))


@host("TfIdfVectorizer")
def _tf_idf(a: Attributes, x: Array) -> Array:
    """Counts of n-grams of a pool, in rows of words or numbers."""
    pool: Any = a.texts("pool_strings") if a.has("pool_strings") else a.ints("pool_int64s")
    places, width = a.ints("ngram_indexes"), max(a.ints("ngram_indexes")) + 1
    grams = _grams(pool, a.ints("ngram_counts"))
    rows = x.reshape(1, -1) if x.ndim < 2 else x
    out = np.zeros((len(rows), width), np.float32)
    low, high, skips = a.int("min_gram_length"), a.int("max_gram_length"), a.int("max_skip_count")
    for row, counts in zip(rows.tolist(), out):
        for n in range(low, high + 1):
            for skip in range(1 if n == 1 else skips + 1):
                for start in range(len(row) - (n - 1) * (skip + 1)):
                    gram = tuple(row[start : start + (n - 1) * (skip + 1) + 1 : skip + 1])
                    if gram in grams:
                        counts[places[grams[gram]]] += 1
    out = _weighted(a, out, places)
    return out[0] if x.ndim < 2 else out


def _weighted(a: Attributes, counts: Array, places: tuple[int, ...]) -> Array:
    mode = a.text("mode")
    weights = np.ones(counts.shape[1], np.float32)
    if a.has("weights"):
        weights[list(places)] = a.floats("weights")
    if mode == "TF":
        return counts
    return (np.minimum(counts, 1) if mode == "IDF" else counts) * weights


def _grams(pool: Any, counts: tuple[int, ...]) -> dict[tuple[Any, ...], int]:
    """Each n-gram of the pool with its number; counts[n - 1] is where those of n start."""
    grams: dict[tuple[Any, ...], int] = {}
    ends = [*counts[1:], len(pool)]
    for n, (start, end) in enumerate(zip(counts, ends), 1):
        for at in range(start, end, n):
            grams.setdefault(tuple(pool[at : at + n]), len(grams))
    return grams
