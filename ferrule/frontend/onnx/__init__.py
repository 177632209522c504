"""ONNX models: files read, operators as Graphs, what is left run in NumPy."""
