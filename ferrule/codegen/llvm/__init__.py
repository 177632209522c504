"""Loop functions as LLVM text, and that as machine code."""
