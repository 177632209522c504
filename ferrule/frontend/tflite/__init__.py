"""TensorFlow Lite files: a reader of them, and their operators as those of TensorFlow programs."""
