"""StableHLO programs: readers of text and portable artifacts, and their conversion to graphs."""
