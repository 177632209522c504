"""NumPy interpreters: the definition of every level.

Lowering must not change what they return, and that is the main test of each pass. Slow but exact:
loads and stores are checked, scratch is poisoned, grid points run in a shuffled order, and
arithmetic is that of the dtype.
"""

from ferrule.ir.interp.calls import run_functions, run_kernels, run_scheduled
from ferrule.ir.interp.dims import infer_dims, shape_of
from ferrule.ir.interp.expr import Env, eval_expr, eval_int
from ferrule.ir.interp.graph import run_graph
from ferrule.ir.interp.kernel import run_kernel
from ferrule.ir.interp.loop import run_function
from ferrule.ir.interp.memory import Memory, poison
from ferrule.ir.interp.program import run_program
from ferrule.ir.interp.system import run_stage, run_system

__all__ = [
    "Env", "Memory", "eval_expr", "eval_int", "infer_dims", "poison", "run_function",
    "run_functions", "run_graph", "run_kernel", "run_kernels", "run_program", "run_scheduled",
    "run_stage", "run_system", "shape_of",
]  # fmt: skip
