"""A process that runs tests of the onnx package's suite on demand, so that a crash costs one test.

Argument: ferrule or onnxruntime. Writes a JSON object a line: {"tests": [[kind, name], ..]} first,
then for each line it reads, "KIND NAME", {"status": .., "message": ..}.
"""

from __future__ import annotations

import json
import os
import sys
import unittest
import warnings
from typing import Any


def backend_of(name: str) -> Any:
    """The backend class that the suite drives."""
    if name == "ferrule":
        from ferrule.onnx_backend import FerruleBackend

        return FerruleBackend
    import onnxruntime.backend.backend as theirs

    return theirs.OnnxRuntimeBackend


def suite(backend: Any) -> dict[str, dict[str, Any]]:
    """The CPU tests of each kind, as functions."""
    from onnx.backend.test.runner import Runner

    cases = Runner(backend, __name__).test_cases
    return {
        kind.removeprefix("OnnxBackend").removesuffix("ModelTest"): {
            name: getattr(case, name) for name in dir(case) if name.endswith("_cpu")
        }
        for kind, case in cases.items()
    }


def outcome(test: Any) -> tuple[str, str]:
    """The status of a test, and what went wrong."""
    try:
        test(None)
    except unittest.SkipTest as skipped:
        return "not supported", str(skipped)
    except NotImplementedError as error:
        return "not supported", str(error)
    except AssertionError as error:
        lines = [x.strip() for x in str(error).splitlines() if x.strip()]
        return "failed", " ".join(lines[:6])
    except Exception as error:
        kind = type(error).__name__
        unknown = kind in ("NotImplemented", "BackendIsNotSupposedToImplementIt")
        return "not supported" if unknown else "failed", f"{kind}: {error}"
    return "passed", ""


def main() -> None:
    """Keep standard output for replies, whatever libraries print."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    warnings.simplefilter("ignore")
    tests = suite(backend_of(sys.argv[1]))

    def say(**message: Any) -> None:
        replies.write(json.dumps(message) + "\n")
        replies.flush()

    say(tests=[[kind, name] for kind, named in tests.items() for name in named])
    for line in sys.stdin:
        kind, name = line.split()
        status, message = outcome(tests[kind][name])
        say(status=status, message=message[:600])


if __name__ == "__main__":
    main()
