"""StableHLO programs: readers of their text and of portable artifacts, and their conversion to graphs."""
