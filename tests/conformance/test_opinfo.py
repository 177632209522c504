"""A part of the conformance run that is short enough for every test run: operators of each family,
a few samples of each. `make conformance` runs them all.
"""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402

from tests.conformance.check import Result, check, samples  # noqa: E402

F32_NAMES = """
    add sub mul div_floor_rounding remainder pow atan2 clamp where lerp addcmul exp log1p erf
    tanh sigmoid rsqrt sign round_decimals_3 nan_to_num isfinite sum mean var prod amax
    max_reduction_with_dim argmin any logsumexp cumsum softmax log_softmax_with_dtype
    nn_functional_layer_norm nn_functional_group_norm nn_functional_batch_norm
    nn_functional_rms_norm linalg_vector_norm matmul addmm baddbmm einsum nn_functional_linear
    nn_functional_scaled_dot_product_attention nn_functional_conv1d nn_functional_conv2d
    nn_functional_conv_transpose2d nn_functional_max_pool2d nn_functional_avg_pool2d
    nn_functional_adaptive_avg_pool2d nn_functional_interpolate_nearest
    nn_functional_interpolate_bilinear nn_functional_gelu nn_functional_silu
    nn_functional_softplus nn_functional_embedding reshape permute expand cat stack split chunk
    unbind flip roll repeat tril nn_functional_pad_reflect nn_functional_pad_constant unfold
    diagonal slice gather __getitem__ index_select index_put index_add scatter scatter_add
    scatter_reduce_amax masked_fill arange linspace full_like clone to sort argsort topk kthvalue
    median quantile
"""
I64_NAMES = """
    add mul floor_divide remainder bitwise_xor bitwise_left_shift eq clamp sum prod amin argmax
    all cumsum cumprod cat gather scatter matmul sort topk kthvalue
"""
SAMPLES = 2
DATABASE = {op.formatted_name: op for op in op_db}
CASES = [(name, torch.float32) for name in F32_NAMES.split()]
CASES += [(name, torch.int64) for name in I64_NAMES.split()]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=lambda x: str(x).removeprefix("torch."))
def test_an_operator_agrees_with_eager_and_is_compiled_whole(name: str, dtype: torch.dtype) -> None:
    for number, sample in samples(DATABASE[name], dtype, SAMPLES):
        result = check(DATABASE[name], sample)
        assert result == Result(), f"sample {number}"
