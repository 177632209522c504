"""NumPy functions: their calls, recorded as a Graph."""
