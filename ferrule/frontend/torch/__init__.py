"""PyTorch: programs captured, converted to Graphs, and run in parts."""
