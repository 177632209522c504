"""Text of systems and stages.

    system softmax {
      dim n
      input x: f32[n, 64]
      output y: f32[n, 64]
      buf m: f32[n]
      m: [i: n] m[i] = reduce max:f32 [j: 64] (x[i, j])
      y: [i: n, j: 64] y[i, j] = exp(x[i, j] - m[i])
    }

    system = system name [fused] { dims monoid.. inputs param.. output.. buf.. require..
             stage.. }
    stage  = name: [axes] targets = value clause..
    value  = values | reduce monoid [axes] (expr, ..) [init (expr, ..)]
           | scan monoid [axis] (expr, ..) [init (expr, ..)] [exclusive] [reverse]
           | sorted [axis] (expr, ..) by expr                                 over $0, $1, ..
    clause = where expr | combine monoid | when expr | update         each at most once, in this
    order

An output that is also an input, or comes twice, is written without its type.
"""

from __future__ import annotations

from ferrule.ir.expr import Expr
from ferrule.ir.notation import show, show_name
from ferrule.ir.system import Compute, Fold, Reduce, Scan, Sort, Stage, System
from ferrule.ir.text.declare import (
    MonoidNames,
    axes_text,
    axis_list,
    buf_declarations,
    buf_lines,
    dim_declarations,
    dim_lines,
    indent,
    input_declarations,
    input_lines,
    mentions,
    monoid_declarations,
    monoid_reference,
    order,
    output_declarations,
    output_lines,
    parenthesised,
    require_lines,
    requirements,
    targets,
    targets_text,
    tuple_text,
    values,
    values_text,
)
from ferrule.ir.text.expr import expr
from ferrule.ir.text.parser import Parser


def print_system(system: System) -> str:
    """`system` as text, which `parse_system` reads back."""
    found = mentions(system)
    names = MonoidNames(found.monoids)
    given = (*system.inputs, *system.params)
    lines = input_lines(system.inputs, system.updates) + buf_lines("param", system.params)
    lines += output_lines(system.outputs, given)
    known = {*given, *system.outputs}
    lines += buf_lines("buf", (b for b in found.bufs if b not in known))
    lines += require_lines(system.requires)
    lines += [stage_text(st, names) for st in system.stages]
    head = dim_lines(found.dims) + names.lines()
    opening = f"system {show_name(system.name)}{' fused' * system.fused} {{"
    return "\n".join([opening, *indent(head + lines), "}", ""])


def print_stage(st: Stage) -> str:
    """One stage, for messages."""
    return stage_text(st, MonoidNames(mentions(st).monoids))


def stage_text(st: Stage, names: MonoidNames) -> str:
    c, fold = st.compute, st.compute.fold
    text = f"{show_name(st.name)}: [{axes_text(c.axes)}] {targets_text(st.targets)} = "
    text += values_text(c.values) if fold is None else _fold_text(fold, c.values, names)
    if c.where is not None:
        text += f" where {show(c.where)}"
    if st.combine is not None:
        text += f" combine {names[st.combine]}"
    if st.when is not None:
        text += f" when {show(st.when)}"
    return text + " update" * st.update


def _fold_text(fold: Fold, values: tuple[Expr, ...], names: MonoidNames) -> str:
    if isinstance(fold, Sort):
        by = show(fold.order.before)
        return f"sorted [{axes_text((fold.axis,))}] {tuple_text(values)} by {by}"
    word, axes = ("reduce", fold.axes) if isinstance(fold, Reduce) else ("scan", (fold.axis,))
    text = f"{word} {names[fold.monoid]} [{axes_text(axes)}] {tuple_text(values)}"
    if fold.init is not None:
        text += f" init {tuple_text(fold.init)}"
    if isinstance(fold, Scan):
        text += " exclusive" * fold.exclusive + " reverse" * fold.reverse
    return text


# ---- reading -------------------------------------------------------------------------------------


def parse_system(source: str) -> System:
    """The system that `source` writes. Raises ParseError."""
    p = Parser(source)
    out = system(p)
    p.end()
    return out


def system(p: Parser) -> System:
    p.expect("system")
    name = p.name()
    fused = p.accept("fused")
    p.expect("{")
    with p.inner():
        dim_declarations(p)
        monoid_declarations(p)
        inputs, updates = input_declarations(p)
        params = buf_declarations(p, "param")
        outputs = output_declarations(p)
        buf_declarations(p, "buf")
        requires = requirements(p)
        stages = []
        while not p.accept("}"):
            stages.append(stage(p))
    return System(name, inputs, params, tuple(stages), outputs, requires, fused, updates)


def stage(p: Parser) -> Stage:
    name = p.name("a stage")
    p.expect(":")
    with p.inner():
        axes = axis_list(p)
        at, start = p.token.at, p.position
        _skip_targets(p)
        p.expect("=")
        fold_first = p.sees("reduce", "scan", "sorted")
        p.position = start
        further = _further_axis(p) if fold_first else None
        if further is not None:
            p.scope.axes[further.name] = further
        written = targets(p)
        p.expect("=")
        fold, results = _fold(p) if fold_first else (None, values(p, written))
        where = expr(p) if p.accept("where") else None
        combine = monoid_reference(p) if p.accept("combine") else None
        when = expr(p) if p.accept("when") else None
        update = p.accept("update")
    if not written:
        raise p.error(f"stage {name} has no target", at)
    return Stage(name, written, Compute(axes, results, fold, where), combine, when, update)


def _skip_targets(p: Parser) -> None:
    """To the `=` behind the targets, which no index contains."""
    while not p.sees("=") and p.token.kind != "end":
        p.next()


def _further_axis(p: Parser) -> Expr | None:
    """The axis of the scan or sort behind the targets, which these may mention; stays where it
    is.
    """
    start = p.position
    _skip_targets(p)
    p.expect("=")
    found = None
    if p.sees("scan", "sorted"):
        with p.inner():
            if p.next().text == "scan":
                monoid_reference(p)
            found = next(iter(axis_list(p)), None)
    p.position = start
    return found


def _fold(p: Parser) -> tuple[Fold, tuple[Expr, ...]]:
    if p.accept("sorted"):
        return _sort(p)
    is_scan = p.next().text == "scan"
    monoid = monoid_reference(p)
    at = p.token.at
    axes = axis_list(p)
    results = parenthesised(p)
    init = parenthesised(p) if p.accept("init") else None
    if not is_scan:
        return Reduce(axes, monoid, init), results
    if len(axes) != 1:
        raise p.error("a scan has one axis", at)
    exclusive, reverse = p.accept("exclusive"), p.accept("reverse")
    return Scan(axes[0], monoid, init, exclusive, reverse), results


def _sort(p: Parser) -> tuple[Sort, tuple[Expr, ...]]:
    at = p.token.at
    axes = axis_list(p)
    if len(axes) != 1:
        raise p.error("a sort has one axis", at)
    results = parenthesised(p)
    p.expect("by")
    return Sort(axes[0], order(p, tuple(v.dtype for v in results))), results
