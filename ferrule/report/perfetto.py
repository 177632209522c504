"""A report's timeline as trace events, which Perfetto and Chrome's tracing show.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

from __future__ import annotations

import json
from typing import Any

from ferrule.report.data import Report

_PROCESS = 1


def trace_events(report: Report) -> str:
    """JSON: a complete event ("X") for each span, its times in microseconds from the first, in
    their order; a thread for each row.
    """
    rows = {row: i for i, row in enumerate(dict.fromkeys(s.row for s in report.timeline), 1)}
    first = min((s.start for s in report.timeline), default=0)
    events: list[dict[str, Any]] = [
        {"ph": "M", "pid": _PROCESS, "name": "process_name", "args": {"name": report.name}}
    ]
    for row, i in rows.items():
        events.append(
            {"ph": "M", "pid": _PROCESS, "tid": i, "name": "thread_name", "args": {"name": row}}
        )
        events.append(
            {"ph": "M", "pid": _PROCESS, "tid": i, "name": "thread_sort_index",
             "args": {"sort_index": i}}
        )  # fmt: skip
    told = {(k.program, k.name): k for k in report.kernels}
    for s in report.timeline:
        event: dict[str, Any] = {
            "ph": "X", "pid": _PROCESS, "tid": rows[s.row], "name": s.name, "cat": s.kind,
            "ts": (s.start - first) / 1e3, "dur": max(s.end - s.start, 0) / 1e3,
        }  # fmt: skip
        k = told.get((s.program, s.name)) if s.kind.endswith("intensive") else None
        if k is not None:
            event["args"] = {"operators": ", ".join(k.operators), "at": "; ".join(k.places)}
        events.append(event)
    return json.dumps({"displayTimeUnit": "ns", "traceEvents": events})
