"""A report as a page: one HTML file that needs no network and no library.

The frame, its style and its script stand in `page.html`, the charts in `charts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from importlib import resources
from string import Template

from ferrule.report import advice
from ferrule.report.amount import percent, scaled, seconds, three
from ferrule.report.charts import CLASSES, roofline, timeline
from ferrule.report.data import MEANING, Kernel, Report
from ferrule.report.flame import flame
from ferrule.report.text import counted, peaks_line


def page(report: Report) -> str:
    """The whole page."""
    frame = resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8")
    wall = report.wall or 1.0
    parts = [(name, t / wall) for name, t in report.shares.items()]
    return Template(frame).substitute(
        title=escape(report.name),
        date=escape(report.date),
        numbers=_numbers(report),
        bar="".join(_bar(name, part) for name, part in parts if part > 0),
        bar_label=escape(", ".join(f"{name} {percent(part)}" for name, part in parts)),
        legend="\n".join(_legend(report, name, part) for name, part in parts),
        advice=escape(advice.of_report(report)),
        head="".join(_head(*column) for column in _COLUMNS),
        rows="\n".join(_kernel(k, wall) for k in report.kernels),
        framework=_framework(report, wall),
        roofline=roofline(report),
        modules=_modules(report),
        timeline=timeline(report),
        footer=_footer(report),
    )


def _numbers(r: Report) -> str:
    shown = (
        (seconds(r.wall / max(r.calls, 1)), "a call"),
        (str(r.calls), "calls"),
        (str(r.threads), "thread" if r.threads == 1 else "threads"),
        (str(len(r.kernels)), "kernels"),
        (percent(r.overhead / (r.wall or 1.0)), "overhead"),
        (seconds(r.elapsed), "measured in all"),
    )
    return "".join(f"<div><b>{escape(x)}</b><span>{what}</span></div>" for x, what in shown)


def _bar(name: str, part: float) -> str:
    title = escape(f"{name}: {percent(part)}")
    return f'<i class="{CLASSES[name]}" style="flex:{part:.6f}" title="{title}"></i>'


def _legend(r: Report, name: str, part: float) -> str:
    each = seconds(r.shares[name] / max(r.calls, 1))
    return (
        f'<li><i class="{CLASSES[name]}"></i><span>{escape(name)}</span>'
        f"<span>{percent(part)} · {each}</span><small>{escape(MEANING[name])}</small></li>"
    )


# ---- kernels -------------------------------------------------------------------------------------

_COLUMNS = (
    ("Kernel", "", "left"),
    ("Share", "of the time of all calls", ""),
    ("A call", "its time in one call of the kernel, idle threads included", ""),
    ("Calls", "", ""),
    ("Flop/s", "operations, as its equations have them, over the time", ""),
    ("B/s", "inputs and outputs, each counted once, over the time", ""),
    ("Predicted", "the compiler's guess, on one thread", ""),
    ("Floor", "the least time: operations over the peak, or bytes over the bandwidth", ""),
    ("Of floor", "floor over time: at 100 % it can't be faster", ""),
    ("Bound", "what the floor is by", "left"),
    ("Threads", "", ""),
    ("Holds", "operators, and where they stand in the model", "left"),
)


def _head(name: str, title: str, kind: str) -> str:
    order = ' aria-sort="descending"' if name == "Share" else ""
    return (
        f'<th scope="col" class="{kind}"{order}>'
        f'<button type="button" title="{escape(title)}">{name}</button></th>'
    )


def _kernel(k: Kernel, wall: float) -> str:
    n = max(k.calls, 1)
    predicted = None if k.predicted is None else k.predicted / n
    floor = None if k.floor is None else k.floor / n
    swatch = f'<i class="swatch {CLASSES[k.kind]}"></i>'
    cells = (
        _cell(k.name, f"{swatch}{escape(k.name)}", "left"),
        _cell(k.seconds, percent(k.seconds / wall)),
        _cell(k.mean, seconds(k.mean)),
        _cell(k.calls, str(k.calls)),
        _cell(k.flops_rate, scaled(k.flops_rate, "")),
        _cell(k.bytes_rate, scaled(k.bytes_rate, "")),
        _cell(predicted, seconds(predicted)),
        _cell(floor, seconds(floor)),
        _cell(k.share_of_floor, f"{percent(k.share_of_floor)}{_gauge(k.share_of_floor)}"),
        _cell(k.bound, escape(k.bound or "-"), "left"),
        _cell(k.threads, three(k.threads).removesuffix(".00")),
        _cell(", ".join(k.operators), _holds(k), "left holds"),
    )
    return (
        f'<tbody><tr class="row" tabindex="0" aria-expanded="false">{"".join(cells)}</tr>'
        f'<tr class="more"><td colspan="{len(cells)}">{_more(k)}</td></tr></tbody>'
    )


def _cell(value: float | str | None, shown: str, kind: str = "") -> str:
    text = "-1" if value is None else f"{value:.9g}" if isinstance(value, float) else str(value)
    return f'<td class="{kind}" data-v="{escape(text)}">{shown}</td>'


def _gauge(share: float | None) -> str:
    if share is None:
        return ""
    far = " far" if share < advice.FAR else ""
    return f'<span class="gauge{far}"><i style="width:{min(share, 1) * 100:.0f}%"></i></span>'


def _holds(k: Kernel) -> str:
    what = escape(", ".join(k.operators) or "-")
    kind = "copies an operand for: " if k.packs else ""
    places = f"<small>{escape('; '.join(k.places))}</small>" if k.places else ""
    return f"{kind}{what}{places}"


def _more(k: Kernel) -> str:
    n = max(k.calls, 1)
    facts = [f"in {k.program}"]
    if k.flops is not None:
        facts.append(scaled(k.flops / n, "flop"))
    if k.bytes is not None:
        facts.append(f"{scaled(k.bytes / n, 'B')} of inputs and outputs")
    if k.least is not None:
        facts.append(f"shortest launch {seconds(k.least)}")
    facts.append(f"its threads worked {percent(k.working / (k.seconds or 1.0))} of the time")
    told, soft = escape(advice.of_kernel(k)), escape("; ".join(facts))
    parts = [f'<p>{told}</p><p class="soft">{soft}</p>']
    if k.equations:
        parts.append(f"<pre>{escape(chr(10).join(k.equations))}</pre>")
    if k.why:
        parts.append(f"<ul>{''.join(f'<li>{escape(w)}</li>' for w in k.why)}</ul>")
    return "".join(parts)


# ---- the rest ------------------------------------------------------------------------------------


def _framework(r: Report, wall: float) -> str:
    if not r.framework:
        return ""
    return "\n".join(("<section>", "<h2>In the framework</h2>", *_outside(r, wall), "</section>"))


def _outside(r: Report, wall: float) -> Iterator[str]:
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(
        f'<th scope="col" class="{kind}"><button type="button" disabled>{x}</button></th>'
        for x, kind in (("Operator", "left"), ("Place", "left"), ("Calls", ""), ("Share", ""))
    )
    yield "</tr></thead><tbody>"
    for o in r.framework:
        yield (
            f'<tr><td class="left">{escape(o.operator)}</td><td class="left">{escape(o.place)}</td>'
            f"<td>{o.calls}</td><td>{percent(o.seconds / wall)}</td></tr>"
        )
    yield "</tbody></table></div>"


def _modules(r: Report) -> str:
    chart = flame(r)
    return f"<section>\n<h2>Modules</h2>\n{chart}\n</section>" if chart else ""


def _footer(r: Report) -> str:
    lost = f"The timeline lacks {r.lost} launches that found no room" if r.lost else ""
    lines = (peaks_line(r), *counted(r), lost)
    return "".join(f"<p>{escape(line[:1].upper() + line[1:])}.</p>" for line in lines if line)
