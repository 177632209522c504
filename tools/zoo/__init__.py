"""The zoo: whole programs that ferrule was not written for, each against the framework it comes
from.

    python -m tools.zoo                          all of it, into docs/zoo.md
    python -m tools.zoo --only bert,swin         cases whose name starts so
    python -m tools.zoo --groups module --jobs 2

A case is an architecture of `transformers` at a tiny size, a module or an example of PyTorch's own
databases, or an ONNX model of a package. Each runs in a process of its own, so that a crash or a
hang costs one case.
"""
