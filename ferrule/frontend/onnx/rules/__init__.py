"""A rule for each of ONNX's operators, by families."""
