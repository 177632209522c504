"""Text of programs.

program p {
  dim n
  input x: f32[n]
  output y: f32[n]
  takes n
  temp t: f32[n] at 0
  const_bytes 0
  arena_bytes (n * 4 + 63) // 64 * 64
  scratch_bytes 0
  function double { .. }
  main {
    run double {
      phase {
        call double(t, x) cost n
      }
    }
    variants {
      when n < 100 { .. }
      when true { .. }
    }
  }
}

program = program name { dims inputs param.. output.. buf.. require.. [takes dim, ..] placed..
          const_bytes expr arena_bytes expr scratch_bytes expr function.. [prepare { step.. }]
          main { step.. } }
placed  = const buffer at expr | temp buffer at expr
step    = run name { phase { call.. } .. } | variants { when expr { step.. } .. }
          | repeat name < expr { row.. step.. } [gives row]..
          | repeat name while buf { row.. step.. } [gives row]..
          | case buf { branch { step.. } .. }
row     = row buffer = buf[expr] [first buf]
call    = call function(buf, ..) cost expr [note "text"]
"""

from __future__ import annotations

from ferrule.ir.expr import Buf, Expr
from ferrule.ir.notation import show, show_name
from ferrule.ir.program import (
    Case,
    Placed,
    Program,
    Repeat,
    Row,
    Run,
    Step,
    Variants,
    walk_rows,
    walk_runs,
)
from ferrule.ir.text.calls import call, call_text, interface, interface_lines
from ferrule.ir.text.declare import Lines, buf_declaration, buf_text, indent, mentions
from ferrule.ir.text.expr import expr
from ferrule.ir.text.loop import function, function_lines, taken_dims, takes_lines
from ferrule.ir.text.parser import Parser


def print_program(program: Program) -> str:
    """`program` as text, which `parse_program` reads back."""
    dims = mentions(program).dims
    face = program.interface
    known = {p.buf for p in (*program.consts, *program.temps)}
    known |= {r.buf for r in walk_rows(program.main)}
    lines = interface_lines(face, dims, (b for b in _arguments(program) if b not in known))
    lines += takes_lines(program.dims)
    lines += _placed_lines("const", program.consts) + _placed_lines("temp", program.temps)
    for word in ("const_bytes", "arena_bytes", "scratch_bytes"):
        lines.append(f"{word} {show(getattr(program, word))}")
    for f in program.functions:
        lines += function_lines(f, dims)
    if program.prepare:
        lines += _steps_lines("prepare", program.prepare)
    lines += _steps_lines("main", program.main)
    return "\n".join([f"program {show_name(program.name)} {{", *indent(lines), "}", ""])


def _arguments(program: Program) -> tuple[Buf, ...]:
    """Every buffer that a call is given."""
    runs = walk_runs((*program.prepare, *program.main))
    found = (b for run in runs for phase in run.phases for call in phase for b in call.args)
    return tuple(dict.fromkeys(found))


def _placed_lines(keyword: str, placed: tuple[Placed, ...]) -> Lines:
    return [f"{keyword} {buf_text(p.buf)} at {show(p.offset)}" for p in placed]


def _steps_lines(head: str, steps: tuple[Step, ...]) -> Lines:
    return [f"{head} {{", *indent(line for s in steps for line in _step_lines(s)), "}"]


def _step_lines(step: Step) -> Lines:
    if isinstance(step, Run):
        return _run_lines(step)
    if isinstance(step, Case):
        lines = [line for body in step.branches for line in _steps_lines("branch", body)]
        return [f"case {show_name(step.index.name)} {{", *indent(lines), "}"]
    return _variants_lines(step) if isinstance(step, Variants) else _repeat_lines(step)


def _run_lines(run: Run) -> Lines:
    lines: Lines = []
    for phase in run.phases:
        lines += ["phase {", *indent(call_text(c) for c in phase), "}"]
    return [f"run {show_name(run.name)} {{", *indent(lines), "}"]


def _variants_lines(v: Variants) -> Lines:
    lines: Lines = []
    for guard, steps in v.branches:
        lines += _steps_lines(f"when {show(guard)}", steps)
    return ["variants {", *indent(lines), "}"]


def _repeat_lines(r: Repeat) -> Lines:
    u, gives = r.until, [f"gives {_row_text(x)}" for x in r.gives]
    until = f"while {show_name(u.name)}" if isinstance(u, Buf) else f"< {show(u)}"
    head, *lines = _steps_lines(f"repeat {show_name(r.iteration.name)} {until}", r.steps)
    return [head, *indent(map(_row_text, r.rows)), *lines, *gives]


def _row_text(r: Row) -> str:
    first = "" if r.first is None else f" first {show_name(r.first.name)}"
    return f"row {buf_text(r.buf)} = {show_name(r.whole.name)}[{show(r.index)}]{first}"


# ---- reading -------------------------------------------------------------------------------------


def parse_program(source: str) -> Program:
    """The program that `source` writes. Raises ParseError."""
    p = Parser(source)
    out = program(p)
    p.end()
    return out


def program(p: Parser) -> Program:
    p.expect("program")
    name = p.name()
    p.expect("{")
    with p.inner():
        face = interface(p, name)
        dims = taken_dims(p)
        consts, temps = _placed(p, "const"), _placed(p, "temp")
        const_bytes, arena_bytes, scratch_bytes = (
            _bytes(p, word) for word in ("const_bytes", "arena_bytes", "scratch_bytes")
        )
        functions = []
        while p.sees("function"):
            functions.append(function(p))
        prepare = _steps(p) if p.accept("prepare") else ()
        p.expect("main")
        main = _steps(p)
        p.expect("}")
    return Program(
        name, face.inputs, face.params, face.outputs, dims, tuple(functions), consts, const_bytes,
        temps, arena_bytes, scratch_bytes, prepare, main, face.requires,
        face.updates,
    )  # fmt: skip


def _placed(p: Parser, keyword: str) -> tuple[Placed, ...]:
    out = []
    while p.accept(keyword):
        b = buf_declaration(p)
        p.expect("at")
        out.append(Placed(b, expr(p)))
    return tuple(out)


def _bytes(p: Parser, word: str) -> Expr:
    p.expect(word)
    return expr(p)


def _steps(p: Parser) -> tuple[Step, ...]:
    """{ step.. }"""
    p.expect("{")
    return _steps_to_brace(p)


def _steps_to_brace(p: Parser) -> tuple[Step, ...]:
    out: list[Step] = []
    while not p.accept("}"):
        if p.accept("variants"):
            out.append(_variants(p))
        elif p.accept("repeat"):
            out.append(_repeat(p))
        elif p.accept("case"):
            out.append(_case(p))
        else:
            p.expect("run")
            out.append(_run(p))
    return tuple(out)


def _variants(p: Parser) -> Variants:
    p.expect("{")
    branches = []
    while not p.accept("}"):
        p.expect("when")
        guard = expr(p)
        branches.append((guard, _steps(p)))
    return Variants(tuple(branches))


def _repeat(p: Parser) -> Repeat:
    at, name = p.token.at, p.name("an iteration")
    iteration = p.scope.dims.get(name)
    if iteration is None:
        raise p.error(f"no dim is called {name!r}", at)
    # what `while` asks is a row, which stands below: it is looked up when these are known
    asked = p.name() if p.accept("while") else None
    until: Expr | Buf | None = None
    if asked is None:
        p.expect("<")
        until = expr(p)
    p.expect("{")
    rows, gives = [], []
    while p.accept("row"):
        rows.append(_row(p))
    if asked is not None:
        until = p.scope.bufs.get(asked)
    if until is None:
        raise p.error(f"no buffer is called {asked!r}", at)
    steps = _steps_to_brace(p)
    while p.accept("gives"):
        p.expect("row")
        gives.append(_row(p))
    return Repeat(iteration, until, tuple(rows), steps, tuple(gives))


def _case(p: Parser) -> Case:
    index = p.buf()
    p.expect("{")
    branches = []
    while not p.accept("}"):
        p.expect("branch")
        branches.append(_steps(p))
    return Case(index, tuple(branches))


def _row(p: Parser) -> Row:
    buf = buf_declaration(p)
    p.expect("=")
    whole = p.buf()
    p.expect("[")
    index = expr(p)
    p.expect("]")
    return Row(buf, whole, index, p.buf() if p.accept("first") else None)


def _run(p: Parser) -> Run:
    name = p.name()
    p.expect("{")
    phases = []
    while not p.accept("}"):
        p.expect("phase")
        p.expect("{")
        calls = []
        while not p.accept("}"):
            calls.append(call(p))
        phases.append(tuple(calls))
    return Run(name, tuple(phases))
