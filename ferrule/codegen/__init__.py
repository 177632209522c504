"""Code generation: Loop functions to LLVM text, and LLVM text to machine code."""
