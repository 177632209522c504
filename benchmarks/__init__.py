"""ferrule against its peers, in one process: `python -m benchmarks.run --help`."""
