"""Advice: what a share or a bound says, and what to try, in one sentence each."""

from __future__ import annotations

from ferrule.report.data import (
    CALL,
    COMPUTE,
    ENTRY,
    FORK_JOIN,
    FRAMEWORK,
    IDLE,
    MEMORY,
    OVERHEAD,
    PRODUCTS,
    SHARES,
    Kernel,
    Report,
)  # fmt: skip

OF_SHARE = {
    COMPUTE: "Most of the time is products: compile with tune=True, or store weights in fewer "
    "bits.",
    MEMORY: "Most of the time is moving bytes: look below which kernels were kept apart and why, "
    "and whether a smaller dtype would do.",
    FRAMEWORK: "Operators that ferrule lacks run in the framework: replace them, or define them "
    "with ferrule.define_operator.",
    CALL: "Python around the calls takes longest: give more work to a call, such as a larger "
    "batch.",
    ENTRY: "Launching kernels takes longest: they are small, so give more work to a call.",
    FORK_JOIN: "Waking threads and waiting for them takes longest: use fewer threads for so little "
    "work.",
    IDLE: "Threads wait for one another: use fewer threads, or CPUs that nobody else uses.",
}
_OF_BOUND = {
    PRODUCTS: "bound by multiply-adds: faster only with fewer of them, or with narrower numbers",
    "L1": "its data fit in L1: bound by loads and stores, or by the instructions between",
    "L2": "its data fit in L2: bound by the way from L2",
    "L3": "its data fit in L3: bound by the way from there, so smaller dtypes help",
    "DRAM": "its data fit in no cache: bound by memory, so smaller dtypes or larger fusions help",
}
_NEAR, FAR = 0.7, 0.35


def of_report(report: Report) -> str:
    """The sentence of the largest share; of the largest overhead where overhead is most."""
    most = 2 * report.overhead > report.wall
    return OF_SHARE[max(OVERHEAD if most else SHARES, key=lambda name: report.shares[name])]


def of_kernel(k: Kernel) -> str:
    """What bounds a kernel, how near it is, and what would help."""
    share = k.share_of_floor
    if share is None and k.bytes is None:
        return "Its sizes are known in a loop alone, so it has no floor."
    if share is None:
        return "The peaks of this machine could not be measured, so it has no floor."
    text = _OF_BOUND[k.bound]
    if share >= _NEAR:
        return f"Near its floor, {text}."
    if k.threads > 1 and k.working < 0.6 * k.seconds:
        return f"Its threads idle for most of the time: fewer would do; {text}."
    if k.packs:
        return f"A copy for the product after it, made on each call; {text}."
    if share >= FAR:
        return f"Some way from its floor, {text}."
    more = "tuning may help" if k.bound == PRODUCTS else "its operations or its access cost more"
    return f"Far from its floor, so {more}; {text}."
