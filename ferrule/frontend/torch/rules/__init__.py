"""A rule for each of PyTorch's operators, by families."""
