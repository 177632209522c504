"""StableHLO programs: readers of their text and of artifacts, and conversion to graphs."""
