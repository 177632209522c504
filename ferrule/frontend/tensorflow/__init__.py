"""TensorFlow programs: readers of SavedModels and checkpoints, and their conversion to graphs."""
