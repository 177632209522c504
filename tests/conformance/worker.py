"""A process that checks operators on demand, so that a crash or a hang costs one sample.

Reads a JSON object a line: {"op", "dtype", "limit", "start", "dynamo"}. Writes a JSON object a
line: {"at": number} before a sample, its result after it, {"done": true} at the end of an operator.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from typing import Any

import torch
from torch.testing._internal.common_methods_invocations import op_db

from tests.conformance.check import Result, check, samples, unseeded

DTYPES = {
    "f32": torch.float32,
    "f64": torch.float64,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "u8": torch.uint8,
    "bool": torch.bool,
}


def serve(requests: Any, replies: Any) -> None:
    """Answer requests until they end."""
    unseeded()
    known = {op.formatted_name: op for op in op_db}

    def say(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    say(ready=True)
    for line in requests:
        r = json.loads(line)
        op, dtype = known[r["op"]], DTYPES[r["dtype"]]
        try:
            for number, sample in samples(op, dtype, r["limit"]):
                if number >= r["start"]:
                    say(at=number)
                    say(**dataclasses.asdict(check(op, sample, r["dynamo"])))
        except Exception:  # what fails here are the database's samples
            say(**dataclasses.asdict(Result(refused=True)))
        say(done=True)


def main() -> None:
    """Keep standard output for replies, whatever libraries print."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    torch.set_num_threads(1)
    serve(sys.stdin, replies)


if __name__ == "__main__":
    main()
