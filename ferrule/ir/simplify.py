"""Simplify: one normal form for index expressions, and proofs about them.

An i64 expression is a polynomial: a sum of integer multiples of products of atoms (axes, dims, and
what the algebra does not look into: `floordiv`, `mod`, `min`, loads, ..). `simplify` brings it to
that form, dividing exactly where it can:

    (h*64 + d) // 64 -> h,   (h*64 + d) % 64 -> d      for an axis d < 64
    (b*S + s) // S   -> b                              for an axis s < S, S symbolic

`prove` shows a comparison by bounding its difference from below: each axis is put at the end of its
range that makes the difference least, each `x // c` between (x - c + 1)/c and x/c, each dim at its
least value. What can't be shown is simply not proved; a proof is never wrong for values that meet
the dims' facts. Results are memoised on the nodes. Other dtypes are only rebuilt around their
simplified index expressions and folded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce as _fold
from math import gcd

from ferrule.base.dtype import boolean, i64
from ferrule.ir.expr import (
    FALSE,
    ONE,
    TRUE,
    ZERO,
    Expr,
    _raw,
    add,
    call,
    compare,
    const,
    joined,
    mul,
    rebuild,
    show,
    walk,
)
from ferrule.ir.operators import COMPARISONS, RECORDS

Monomial = tuple[Expr, ...]
Poly = dict[Monomial, int]

INDEX_ATOMS = frozenset({"axis", "dim", *(n for n, op in RECORDS.items() if op.of_indices)})
_DEPTH = 24


def simplify(e: Expr) -> Expr:
    """`e` in normal form; equal index polynomials become the same node."""
    done = e.memo.get("simple")
    if done is not None:
        return done
    for node in walk(e, lambda node: "simple" not in node.memo):
        if "simple" not in node.memo:
            out = _simplify(node)
            node.memo["simple"] = out
            out.memo.setdefault("simple", out)
    return e.memo["simple"]


def _simplify(e: Expr) -> Expr:
    if not e.args or e.op == "axis":
        return e
    if e.dtype == i64 and e.op in _ARITHMETIC:
        return from_poly(poly(e))
    args = tuple(a.memo["simple"] for a in e.args)
    if e.dtype == i64 and e.op in ("min", "max"):
        return _extremum(e.op, *args)
    if e.op in COMPARISONS and args[0].dtype == i64:
        return _comparison(e.op, *args)
    if e.dtype == boolean and e.op in ("and", "or"):
        return joined(e.op, *args)
    if e.dtype == boolean and e.op == "not":
        return _not(args[0])
    if e.op == "bounded" and prove_nonneg(args[0]) and prove_nonneg(args[1] - args[0] - 1):
        return args[0]
    if e.op == "select" and args[1] is args[2]:
        return args[1]
    if e.op == "select" and e.dtype == boolean and args[1].is_const and args[2].is_const:
        return args[0] if args[1].attr else _not(args[0])
    return e if args == e.args else rebuild(e, args)


def _extremum(op: str, a: Expr, b: Expr) -> Expr:
    if prove_nonneg(b - a):
        return a if op == "min" else b
    if prove_nonneg(a - b):
        return b if op == "min" else a
    a, b = sorted((a, b), key=_rank)
    return call(op, a, b)


def _comparison(op: str, a: Expr, b: Expr) -> Expr:
    if _opaque(poly(a)) or _opaque(poly(b)):
        return compare(op, a, b)
    if op == "lt":
        if prove_nonneg(b - a - 1):
            return TRUE
        if prove_nonneg(a - b):
            return FALSE
    elif op == "le":
        if prove_nonneg(b - a):
            return TRUE
        if prove_nonneg(a - b - 1):
            return FALSE
    else:
        if a is b:
            return TRUE if op == "eq" else FALSE
        if prove_nonneg(a - b - 1) or prove_nonneg(b - a - 1):
            return FALSE if op == "eq" else TRUE
    return compare(op, a, b)


def _not(a: Expr) -> Expr:
    if a.is_const:
        return FALSE if a.attr else TRUE
    return a.args[0] if a.op == "not" else call("not", a)


# ---- polynomials ---------------------------------------------------------------------------------


def _rank(e: Expr) -> tuple[int, str]:
    key = e.memo.get("rank")
    if key is None:
        key = e.memo["rank"] = (
            ("dim", "axis").index(e.op) if e.op in ("dim", "axis") else 2,
            show(e),
        )
    return key


def poly(e: Expr) -> Poly:
    """`e`, an i64 expression, as a polynomial over atoms with simplified arguments. Treat the
    result as immutable.
    """
    found = e.memo.get("poly")
    if found is None:
        found = e.memo["poly"] = _poly(e)
    return found


def _poly(e: Expr) -> Poly:
    if e.op == "const":
        return {(): e.attr} if e.attr else {}
    rule = _ARITHMETIC.get(e.op)
    if rule is not None:
        return rule(*e.args)
    s = simplify(e) if e.args and e.op != "axis" else e
    if s is e or (s.op not in _ARITHMETIC and s.op != "const"):
        return {(s,): 1}
    return poly(s)


_ARITHMETIC: dict[str, Callable[..., Poly]] = {
    "add": lambda a, b: _sum(poly(a), poly(b)),
    "sub": lambda a, b: _sum(poly(a), poly(b), -1),
    "mul": lambda a, b: _product(poly(a), poly(b)),
    "neg": lambda a: _sum({}, poly(a), -1),
    "floordiv": lambda a, b: _floordiv(poly(a), simplify(b)),
    "mod": lambda a, b: _mod(poly(a), simplify(b)),
}


def _sum(a: Poly, b: Poly, sign: int = 1) -> Poly:
    out = dict(a)
    for m, c in b.items():
        c = out.get(m, 0) + sign * c
        if c:
            out[m] = c
        else:
            out.pop(m, None)
    return _recombine(out)


def _recombine(p: Poly) -> Poly:
    """b*(x // b) + x % b -> x, for a constant or atomic b. Of a dim n that is a multiple of b there
    are as many as there can be and n // b for the rest: 6*(n // b) -> n + 2*(n // b) for b = 4.
    """
    for m, c in p.items():
        for at in m:
            whole = at.op == "floordiv" and at.args[0].op == "dim" and at.args[0].attr.multiple
            if whole and at.args[1] is const(whole):
                dim = _monomial((*(t for t in m if t is not at), at.args[0]))
                parts = p.get(dim, 0) * whole + c
                left = abs(parts) % whole * (1 if parts > 0 else -1)
                if left != c:
                    out = {k: v for k, v in p.items() if k not in (m, dim)}
                    more = {dim: (parts - left) // whole, m: left}
                    return _recombine(out | {k: v for k, v in more.items() if v})
            if at.op != "mod":
                continue
            x, b = at.args
            rest = tuple(t for t in m if t is not at)
            quotient = _raw("floordiv", x, b)
            for pm, pc in poly(b).items() if len(poly(b)) == 1 else ():
                partner = _monomial((*rest, quotient, *pm))
                if p.get(partner) == c * pc:
                    out = {k: v for k, v in p.items() if k not in (m, partner)}
                    return _sum(out, _product({rest: c}, poly(x)))
    return p


def _monomial(atoms: tuple[Expr, ...]) -> Monomial:
    return atoms if len(atoms) < 2 else tuple(sorted(atoms, key=_rank))


def _product(a: Poly, b: Poly) -> Poly:
    out: Poly = {}
    for ma, ca in a.items():
        for mb, cb in b.items():
            m = _monomial(ma + mb)
            c = out.get(m, 0) + ca * cb
            if c:
                out[m] = c
            else:
                out.pop(m, None)
    return _recombine(out)


def from_poly(p: Poly) -> Expr:
    """The canonical expression of a polynomial: higher terms first, the constant last."""
    if not p:
        return ZERO
    terms = sorted(p.items(), key=lambda t: (-len(t[0]), [_rank(a) for a in t[0]]))
    positive = [t for t in terms if t[1] > 0] + [t for t in terms if t[1] < 0]
    out: Expr | None = None
    for m, c in positive:
        if out is not None and c < 0:
            out = out - _term(m, -c)
        else:
            term = _term(m, c)
            out = term if out is None else add(out, term)
    assert out is not None
    out.memo.setdefault("poly", p)
    out.memo.setdefault("simple", out)
    return out


def _term(m: Monomial, c: int) -> Expr:
    body = _fold(mul, m) if m else ONE
    return mul(body, const(c)) if c != 1 or not m else body


def _opaque(p: Poly) -> bool:
    """Whether `p` holds atoms that are data, not indices: these may wrap, so division must not look
    into them.
    """
    return any(a.op not in INDEX_ATOMS for m in p for a in m)


def _split(p: Poly, b: Poly) -> tuple[Poly, Poly]:
    """(q, r) with p = q*b + r, taking into q each term that the one-term divisor b divides."""
    ((bm, bc),) = b.items()
    q: Poly = {}
    r: Poly = {}
    for m, c in p.items():
        rest = _divide_monomial(m, bm)
        if rest is None:
            r[m] = c
            continue
        whole, left = divmod(c, bc)
        if whole:
            q[rest] = whole
        if left:
            r[m] = left
    return q, r


def _divide_monomial(m: Monomial, by: Monomial) -> Monomial | None:
    rest = list(m)
    for a in by:
        if a not in rest:
            return None
        rest.remove(a)
    return tuple(rest)


def _floordiv(p: Poly, b: Expr) -> Poly:
    if not p:
        return {}
    if (b.is_const and b.attr == 0) or _opaque(p):
        return (
            {(_raw("floordiv", from_poly(p), b),): 1}
            if not _constants(p, b)
            else _constant(p[()] // b.attr)
        )
    bp = poly(b)
    if len(bp) != 1:
        return {(_raw("floordiv", from_poly(p), b),): 1}
    q, r = _split(p, bp)
    if b.is_const and any(m[0].attr.multiple > 1 for m in _dims(r)):
        exact, r = _exact(r, b.attr)
        q = _sum(q, exact)
    return _sum(q, _floordiv_rest(r, b)) if r else q


def _dims(p: Poly) -> list[Monomial]:
    """The terms of `p` that are a dim alone."""
    return [m for m in p if len(m) == 1 and m[0].op == "dim"]


def _exact(p: Poly, b: int) -> tuple[Poly, Poly]:
    """(q, r) with p = q*b + r, taking into q the dims whose multiples b divides: n / b is so many
    times n // multiple.
    """
    q, r = dict[Monomial, int](), dict(p)
    for m in _dims(p):
        (n,) = m
        whole = n.attr.multiple
        if whole > 1 and p[m] * whole % b == 0:
            q[(_raw("floordiv", n, const(whole)),)] = r.pop(m) * whole // b
    return q, r


def _floordiv_rest(r: Poly, b: Expr) -> Poly:
    e = from_poly(r)
    if prove_nonneg(e) and prove_nonneg(b - e - 1):
        return {}
    if b.is_const and b.attr > 0:
        if prove_nonneg(-1 * e - 1) and prove_nonneg(e + b):
            return _constant(-1)
        common = _fold(gcd, (c for m, c in r.items() if m), b.attr)
        if common > 1:
            scaled = {m: c // common for m, c in r.items() if m or c // common}
            return _floordiv(scaled, const(b.attr // common))
        if len(r) == 1:
            ((m, c),) = r.items()
            if (
                c == 1
                and len(m) == 1
                and m[0].op == "floordiv"
                and m[0].args[1].is_const
                and m[0].args[1].attr > 0
            ):
                return _floordiv(poly(m[0].args[0]), const(m[0].args[1].attr * b.attr))
    return {(_raw("floordiv", e, b),): 1}


def _constants(p: Poly, b: Expr) -> bool:
    return set(p) == {()} and b.is_const and b.attr != 0


def _constant(c: int) -> Poly:
    return {(): c} if c else {}


def _mod(p: Poly, b: Expr) -> Poly:
    if not p:
        return {}
    if (b.is_const and b.attr == 0) or _opaque(p):
        return (
            {(_raw("mod", from_poly(p), b),): 1}
            if not _constants(p, b)
            else _constant(p[()] % b.attr)
        )
    bp = poly(b)
    if len(bp) != 1:
        return {(_raw("mod", from_poly(p), b),): 1}
    _, r = _split(p, bp)
    if b.is_const:
        _, r = _exact(r, b.attr)
    if not r:
        return {}
    e = from_poly(r)
    if prove_nonneg(e) and prove_nonneg(b - e - 1):
        return r
    if b.is_const and b.attr > 0:
        common = _fold(gcd, (c for m, c in r.items() if m), b.attr)
        if common > 1:  # what is left of the constant is below `common`, and stays beside
            scaled = {m: c // common for m, c in r.items() if m or c // common}
            rest = _mod(scaled, const(b.attr // common))
            return _sum(_product(_constant(common), rest), _constant(r.get((), 0) % common))
    return {(_raw("mod", e, b),): 1}


# ---- questions -----------------------------------------------------------------------------------


def coefficient(e: Expr, axis: Expr) -> Expr | None:
    """c where `e` = c*axis + (terms without axis) and c does not mention axis; None where e is not
    linear in axis.
    """
    if axis not in e.axes:
        return ZERO
    out: Poly = {}
    for m, c in poly(e).items():
        hits = sum(1 for a in m if a is axis)
        if hits > 1 or any(a is not axis and axis in a.axes for a in m):
            return None
        if hits:
            out[tuple(a for a in m if a is not axis)] = c
    return from_poly(out)


def equal(a: Expr, b: Expr) -> bool:
    """Whether two index expressions are equal for all values."""
    return a is b or simplify(a) is simplify(b)


def prove(cond: Expr) -> bool:
    """Whether a bool expression holds for all values of its axes and dims; False means: not shown.
    """
    return simplify(cond) is TRUE


def prove_nonneg(e: Expr) -> bool:
    """Whether an index expression is shown to be >= 0."""
    found = e.memo.get("nonneg")
    if found is None:
        e.memo["nonneg"] = False  # a proof about e may not lean on itself
        found = e.memo["nonneg"] = _nonneg(poly(e), _DEPTH)
    return found


def range_of(e: Expr) -> tuple[int | None, int | None]:
    """Constant bounds (least, greatest) of an index expression, None where none is found."""
    lo, hi = _least(poly(e)), _least(_sum({}, poly(e), -1))
    return lo, (None if hi is None else -hi)


def _least(p: Poly) -> int | None:
    """The largest constant c of a few candidates with p - c >= 0: exact when p is linear with
    constant ranges.
    """
    total = p.get((), 0)
    for m, c in p.items():
        if not m:
            continue
        if len(m) != 1:
            if not _nonneg({m: c}, 4):
                return None
            continue
        lo, hi = _atom_range(m[0])
        end = lo if c > 0 else hi
        if end is None:
            return None
        total += c * end
    return total


def _atom_range(a: Expr) -> tuple[int | None, int | None]:
    if a.op == "axis":
        _, hi = range_of(a.extent)
        return 0, None if hi is None else max(hi - 1, 0)
    if a.op == "dim":
        return a.attr.lo, a.attr.hi
    if a.op == "bounded":
        _, hi = range_of(a.args[1])
        return 0, None if hi is None else max(hi - 1, 0)
    if a.op in ("floordiv", "mod") and a.args[1].is_const and a.args[1].attr > 0:
        b = a.args[1].attr
        if a.op == "mod":
            return 0, b - 1
        lo, hi = range_of(a.args[0])
        return None if lo is None else lo // b, None if hi is None else hi // b
    if a.op in ("min", "max"):
        los, his = zip(*(range_of(x) for x in a.args), strict=True)
        if a.op == "min":
            known = [h for h in his if h is not None]
            return (None if None in los else min(los)), (min(known) if known else None)
        known = [x for x in los if x is not None]
        return (max(known) if known else None), (None if None in his else max(his))
    return None, None


def _nonneg(p: Poly, depth: int) -> bool:
    if not p:
        return True
    if set(p) == {()}:
        return p[()] >= 0
    if depth <= 0:
        return False
    atom = _next_atom(p)
    if atom is None:
        return _nonneg_dims(p)
    slope: Poly = {}
    rest: Poly = {}
    for m, c in p.items():
        hits = sum(1 for a in m if a is atom)
        if hits > 1:
            return False
        if hits:
            slope[tuple(a for a in m if a is not atom)] = c
        else:
            rest[m] = c
    return any(
        all(_nonneg(q, depth - 1) for q in alternative)
        for alternative in _bounded_by(atom, slope, rest, depth)
    )


def _next_atom(p: Poly) -> Expr | None:
    """The atom to bound next: composites over axes, then axes, then composites over dims; None when
    only dims are left.
    """
    best: tuple[int, Expr] | None = None
    for m in p:
        for a in m:
            if a.op == "dim":
                continue
            order = 1 if a.op == "axis" else (0 if a.axes else 2)
            if best is None or order < best[0]:
                best = (order, a)
    return None if best is None else best[1]


def _bounded_by(atom: Expr, slope: Poly, rest: Poly, depth: int) -> list[list[Poly]]:
    """Alternatives: lists of polynomials whose being >= 0 implies slope*atom + rest >= 0."""

    def at(value: Poly) -> Poly:
        return _sum(rest, _product(slope, value))

    if atom.op == "min" or atom.op == "max":
        a, b = at(poly(atom.args[0])), at(poly(atom.args[1]))
        falling = _nonneg(_sum({}, slope, -1), depth - 1)
        if falling if atom.op == "min" else _nonneg(slope, depth - 1):
            return [[a], [b]]
        return [[a, b]]
    if _nonneg(slope, depth - 1):
        low = _low(atom)
        return [[at(x)] for x in low]
    if _nonneg(_sum({}, slope, -1), depth - 1):
        return [[at(x)] for x in _high(atom)] + _exact_quotient(atom, slope, rest)
    return []


def _low(atom: Expr) -> list[Poly]:
    if atom.op in ("axis", "bounded"):
        return [{}]
    if atom.op == "mod":
        return [{}] if _positive(atom.args[1]) else []
    if atom.op == "floordiv":
        lo, _ = _atom_range(atom)
        if lo is not None:
            return [_constant(lo)]
        return [{}] if _positive(atom.args[1]) and prove_nonneg(atom.args[0]) else []
    return []


def _high(atom: Expr) -> list[Poly]:
    if atom.op == "axis":
        return [_sum(poly(atom.extent), {(): 1}, -1)]
    if atom.op in ("bounded", "mod") and (atom.op == "bounded" or _positive(atom.args[1])):
        return [_sum(poly(atom.args[1]), {(): 1}, -1)]
    if atom.op == "floordiv":
        _, hi = _atom_range(atom)
        return [] if hi is None else [_constant(hi)]
    return []


def _exact_quotient(atom: Expr, slope: Poly, rest: Poly) -> list[list[Poly]]:
    """-k*b*(x // b) >= -k*x: replaces the quotient where its multiple is a multiple of the divisor.
    """
    if atom.op != "floordiv" or not _positive(atom.args[1]):
        return []
    divisor = poly(atom.args[1])
    if len(divisor) != 1:
        return []
    k, left = _split(slope, divisor)
    return [] if left else [[_sum(rest, _product(k, poly(atom.args[0])))]]


def _positive(e: Expr) -> bool:
    return e.attr > 0 if e.is_const else prove_nonneg(e - 1)


def _nonneg_dims(p: Poly) -> bool:
    """Every dim d is lo + d' with d' >= 0: then all coefficients must be >= 0."""
    shifted: Poly = {}
    for m, c in p.items():
        term: Poly = {(): c}
        for d in m:
            lo, hi = d.attr.lo, d.attr.hi
            if c < 0 and len(m) == 1 and hi is not None:
                term = _product(term, _constant(hi))
            else:
                term = _product(term, {(d,): 1, (): lo} if lo else {(d,): 1})
        shifted = _sum(shifted, term)
    return all(c >= 0 for c in shifted.values())
