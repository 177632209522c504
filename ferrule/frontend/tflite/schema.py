"""Tables and enumerations of TensorFlow Lite's schema: field -> (number, kind, default).

Made by tools/make_tflite.py. A kind is a number ("<i4"), "text", the name of a table, "union", and
each of these in brackets for a vector. A union's number is that of the field before it.
"""

from __future__ import annotations

TABLES: dict[str, dict[str, tuple[int, str, object]]] = {
    "ATan2Options": {},
    "AbsOptions": {},
    "AddNOptions": {},
    "AddOptions": {"fused_activation_function": (0, "<i1", 0), "pot_scale_int16": (1, "?", True)},
    "ArgMaxOptions": {"output_type": (0, "<i1", 0)},
    "ArgMinOptions": {"output_type": (0, "<i1", 0)},
    "AssignVariableOptions": {},
    "BatchMatMulOptions": {
        "adj_x": (0, "?", False), "adj_y": (1, "?", False), "asymmetric_quantize_inputs": (2, "?",
        False),
    },
    "BatchToSpaceNDOptions": {},
    "BidirectionalSequenceLSTMOptions": {
        "fused_activation_function": (0, "<i1", 0), "cell_clip": (1, "<f4", 0.0), "proj_clip": (2,
        "<f4", 0.0), "merge_outputs": (3, "?", False), "time_major": (4, "?", True),
        "asymmetric_quantize_inputs": (5, "?", False),
    },
    "BidirectionalSequenceRNNOptions": {
        "time_major": (0, "?", False), "fused_activation_function": (1, "<i1", 0), "merge_outputs":
        (2, "?", False), "asymmetric_quantize_inputs": (3, "?", False),
    },
    "BitcastOptions": {},
    "BitwiseXorOptions": {},
    "BlockwiseQuantization": {
        "scales": (0, "<i4", 0), "zero_points": (1, "<i4", 0), "block_size": (2, "<i4", 0),
        "block_shape": (3, "[<i4]", None),
    },
    "BroadcastToOptions": {},
    "BucketizeOptions": {"boundaries": (0, "[<f4]", None)},
    "Buffer": {"data": (0, "[<u1]", None), "offset": (1, "<u8", 0), "size": (2, "<u8", 0)},
    "CallOnceOptions": {"init_subgraph_index": (0, "<i4", 0)},
    "CallOptions": {"subgraph": (0, "<u4", 0)},
    "CastOptions": {"in_data_type": (0, "<i1", 0), "out_data_type": (1, "<i1", 0)},
    "ConcatEmbeddingsOptions": {
        "num_channels": (0, "<i4", 0), "num_columns_per_channel": (1, "[<i4]", None),
        "embedding_dim_per_channel": (2, "[<i4]", None),
    },
    "ConcatenationOptions": {"axis": (0, "<i4", 0), "fused_activation_function": (1, "<i1", 0)},
    "Conv2DOptions": {
        "padding": (0, "<i1", 0), "stride_w": (1, "<i4", 0), "stride_h": (2, "<i4", 0),
        "fused_activation_function": (3, "<i1", 0), "dilation_wfactor": (4, "<i4", 1),
        "dilation_hfactor": (5, "<i4", 1), "quantized_bias_type": (6, "<i1", 0),
    },
    "Conv3DOptions": {
        "padding": (0, "<i1", 0), "stride_d": (1, "<i4", 0), "stride_w": (2, "<i4", 0), "stride_h":
        (3, "<i4", 0), "fused_activation_function": (4, "<i1", 0), "dilation_dfactor": (5, "<i4",
        1), "dilation_wfactor": (6, "<i4", 1), "dilation_hfactor": (7, "<i4", 1),
    },
    "CosOptions": {},
    "CumsumOptions": {"exclusive": (0, "?", False), "reverse": (1, "?", False)},
    "CustomQuantization": {"custom": (0, "[<u1]", None)},
    "DensifyOptions": {},
    "DepthToSpaceOptions": {"block_size": (0, "<i4", 0)},
    "DepthwiseConv2DOptions": {
        "padding": (0, "<i1", 0), "stride_w": (1, "<i4", 0), "stride_h": (2, "<i4", 0),
        "depth_multiplier": (3, "<i4", 0), "fused_activation_function": (4, "<i1", 0),
        "dilation_wfactor": (5, "<i4", 1), "dilation_hfactor": (6, "<i4", 1),
    },
    "DequantizeOptions": {},
    "DilateOptions": {},
    "DimensionMetadata": {
        "format": (0, "<i1", 0), "dense_size": (1, "<i4", 0), "array_segments_type": (2, "<u1", 0),
        "array_segments": (3, "union", None), "array_indices_type": (4, "<u1", 0), "array_indices":
        (5, "union", None),
    },
    "DivOptions": {"fused_activation_function": (0, "<i1", 0)},
    "DynamicUpdateSliceOptions": {},
    "EmbeddingLookupSparseOptions": {"combiner": (0, "<i1", 0)},
    "EqualOptions": {},
    "ExpOptions": {},
    "ExpandDimsOptions": {},
    "ExternalBuffer": {
        "id": (0, "<u4", 0), "group": (1, "<u4", 0), "offset": (2, "<u8", 0), "packing": (4, "text",
        None),
    },
    "ExternalBufferGroup": {"name": (0, "text", None)},
    "FakeQuantOptions": {
        "min": (0, "<f4", 0.0), "max": (1, "<f4", 0.0), "num_bits": (2, "<i4", 0), "narrow_range":
        (3, "?", False),
    },
    "FillOptions": {},
    "FloorDivOptions": {},
    "FloorModOptions": {},
    "FullyConnectedOptions": {
        "fused_activation_function": (0, "<i1", 0), "weights_format": (1, "<i1", 0),
        "keep_num_dims": (2, "?", False), "asymmetric_quantize_inputs": (3, "?", False),
        "quantized_bias_type": (4, "<i1", 0), "quant_spec": (5, "[<u1]", None),
    },
    "GatherNdOptions": {},
    "GatherOptions": {"axis": (0, "<i4", 0), "batch_dims": (1, "<i4", 0)},
    "GeluOptions": {"approximate": (0, "?", False)},
    "GreaterEqualOptions": {},
    "GreaterOptions": {},
    "HardSwishOptions": {},
    "HashtableFindOptions": {},
    "HashtableImportOptions": {},
    "HashtableOptions": {
        "table_id": (0, "<i4", 0), "key_dtype": (1, "<i1", 0), "value_dtype": (2, "<i1", 0),
    },
    "HashtableSizeOptions": {},
    "IfOptions": {"then_subgraph_index": (0, "<i4", 0), "else_subgraph_index": (1, "<i4", 0)},
    "Int32Vector": {"values": (0, "[<i4]", None)},
    "L2NormOptions": {"fused_activation_function": (0, "<i1", 0)},
    "LSHProjectionOptions": {"type": (0, "<i1", 0)},
    "LSTMOptions": {
        "fused_activation_function": (0, "<i1", 0), "cell_clip": (1, "<f4", 0.0), "proj_clip": (2,
        "<f4", 0.0), "kernel_type": (3, "<i1", 0), "asymmetric_quantize_inputs": (4, "?", False),
    },
    "LeakyReluOptions": {"alpha": (0, "<f4", 0.0)},
    "LessEqualOptions": {},
    "LessOptions": {},
    "LocalResponseNormalizationOptions": {
        "radius": (0, "<i4", 0), "bias": (1, "<f4", 0.0), "alpha": (2, "<f4", 0.0), "beta": (3,
        "<f4", 0.0),
    },
    "LogSoftmaxOptions": {},
    "LogicalAndOptions": {},
    "LogicalNotOptions": {},
    "LogicalOrOptions": {},
    "MatrixDiagOptions": {},
    "MatrixSetDiagOptions": {},
    "MaximumMinimumOptions": {},
    "Metadata": {"name": (0, "text", None), "buffer": (1, "<u4", 0)},
    "MirrorPadOptions": {"mode": (0, "<i1", 0)},
    "Model": {
        "version": (0, "<u4", 0), "operator_codes": (1, "[OperatorCode]", None), "subgraphs": (2,
        "[SubGraph]", None), "description": (3, "text", None), "buffers": (4, "[Buffer]", None),
        "metadata_buffer": (5, "[<i4]", None), "metadata": (6, "[Metadata]", None),
        "signature_defs": (7, "[SignatureDef]", None), "external_buffer_groups": (8,
        "[ExternalBufferGroup]", None), "external_buffers": (9, "[ExternalBuffer]", None),
    },
    "MulOptions": {"fused_activation_function": (0, "<i1", 0)},
    "MultiAxisQuantization": {
        "scales": (0, "<i4", 0), "zero_points": (1, "<i4", 0), "block_size": (2, "<i4", 0),
        "quantized_dimensions": (3, "[<i4]", None),
    },
    "NegOptions": {},
    "NonMaxSuppressionV4Options": {},
    "NonMaxSuppressionV5Options": {},
    "NotEqualOptions": {},
    "OneHotOptions": {"axis": (0, "<i4", 0)},
    "Operator": {
        "opcode_index": (0, "<u4", 0), "inputs": (1, "[<i4]", None), "outputs": (2, "[<i4]", None),
        "builtin_options_type": (3, "<u1", 0), "builtin_options": (4, "union", None),
        "custom_options": (5, "[<u1]", None), "custom_options_format": (6, "<i1", 0),
        "mutating_variable_inputs": (7, "[?]", None), "intermediates": (8, "[<i4]", None),
        "large_custom_options_offset": (9, "<u8", 0), "large_custom_options_size": (10, "<u8", 0),
        "builtin_options2_type": (11, "<u1", 0), "builtin_options2": (12, "union", None),
        "debug_metadata_index": (13, "<i4", -1),
    },
    "OperatorCode": {
        "deprecated_builtin_code": (0, "<i1", 0), "custom_code": (1, "text", None), "version": (2,
        "<i4", 1), "builtin_code": (3, "<i4", 0),
    },
    "PackOptions": {"values_count": (0, "<i4", 0), "axis": (1, "<i4", 0)},
    "PadOptions": {},
    "PadV2Options": {},
    "Pool2DOptions": {
        "padding": (0, "<i1", 0), "stride_w": (1, "<i4", 0), "stride_h": (2, "<i4", 0),
        "filter_width": (3, "<i4", 0), "filter_height": (4, "<i4", 0), "fused_activation_function":
        (5, "<i1", 0),
    },
    "PowOptions": {},
    "QuantizationParameters": {
        "min": (0, "[<f4]", None), "max": (1, "[<f4]", None), "scale": (2, "[<f4]", None),
        "zero_point": (3, "[<i8]", None), "details_type": (4, "<u1", 0), "details": (5, "union",
        None), "quantized_dimension": (6, "<i4", 0),
    },
    "QuantizeOptions": {},
    "RNNOptions": {
        "fused_activation_function": (0, "<i1", 0), "asymmetric_quantize_inputs": (1, "?", False),
    },
    "RandomOptions": {"seed": (0, "<i8", 0), "seed2": (1, "<i8", 0)},
    "RangeOptions": {},
    "RankOptions": {},
    "ReadVariableOptions": {},
    "ReduceWindowOptions": {"reduce_function": (0, "<i4", 0)},
    "ReducerOptions": {"keep_dims": (0, "?", False)},
    "ReshapeOptions": {"new_shape": (0, "[<i4]", None)},
    "ResizeBilinearOptions": {
        "align_corners": (2, "?", False), "half_pixel_centers": (3, "?", False),
    },
    "ResizeNearestNeighborOptions": {
        "align_corners": (0, "?", False), "half_pixel_centers": (1, "?", False),
    },
    "ReverseSequenceOptions": {"seq_dim": (0, "<i4", 0), "batch_dim": (1, "<i4", 0)},
    "ReverseV2Options": {},
    "Rfft2dOptions": {},
    "RightShiftOptions": {},
    "SVDFOptions": {
        "rank": (0, "<i4", 0), "fused_activation_function": (1, "<i1", 0),
        "asymmetric_quantize_inputs": (2, "?", False),
    },
    "ScatterNdOptions": {},
    "SegmentSumOptions": {},
    "SelectOptions": {},
    "SelectV2Options": {},
    "SequenceRNNOptions": {
        "time_major": (0, "?", False), "fused_activation_function": (1, "<i1", 0),
        "asymmetric_quantize_inputs": (2, "?", False),
    },
    "ShapeOptions": {"out_type": (0, "<i1", 0)},
    "SignOptions": {},
    "SignatureDef": {
        "inputs": (0, "[TensorMap]", None), "outputs": (1, "[TensorMap]", None), "signature_key":
        (2, "text", None), "subgraph_index": (4, "<u4", 0),
    },
    "SkipGramOptions": {
        "ngram_size": (0, "<i4", 0), "max_skip_size": (1, "<i4", 0), "include_all_ngrams": (2, "?",
        False),
    },
    "SliceOptions": {},
    "SoftmaxOptions": {"beta": (0, "<f4", 0.0)},
    "SpaceToBatchNDOptions": {},
    "SpaceToDepthOptions": {"block_size": (0, "<i4", 0)},
    "SparseToDenseOptions": {"validate_indices": (0, "?", False)},
    "SparsityParameters": {
        "traversal_order": (0, "[<i4]", None), "block_map": (1, "[<i4]", None), "dim_metadata": (2,
        "[DimensionMetadata]", None),
    },
    "SplitOptions": {"num_splits": (0, "<i4", 0)},
    "SplitVOptions": {"num_splits": (0, "<i4", 0)},
    "SquareOptions": {},
    "SquaredDifferenceOptions": {},
    "SqueezeOptions": {"squeeze_dims": (0, "[<i4]", None)},
    "StableHLOCompositeOptions": {
        "name": (0, "text", None), "decomposition_subgraph_index": (1, "<i4", 0),
        "composite_attributes": (2, "[<u1]", None), "composite_attributes_format": (3, "<i1", 0),
        "version": (4, "<i4", 0),
    },
    "StablehloBroadcastInDimOptions": {"broadcast_dimensions": (0, "[<i8]", None)},
    "StablehloCaseOptions": {"branch_subgraph_indices": (0, "[<i4]", None)},
    "StablehloCompareOptions": {
        "comparison_direction": (0, "<u4", 0), "compare_type": (1, "<u4", 0),
    },
    "StablehloConcatenateOptions": {"dimension": (0, "<i8", 0)},
    "StablehloConvolutionOptions": {
        "window_strides": (0, "[<i8]", None), "padding": (1, "[<i8]", None), "lhs_dilation": (2,
        "[<i8]", None), "rhs_dilation": (3, "[<i8]", None), "window_reversal": (4, "[?]", None),
        "input_batch_dimension": (5, "<i8", 0), "input_feature_dimension": (6, "<i8", 0),
        "input_spatial_dimensions": (7, "[<i8]", None), "kernel_input_feature_dimension": (8, "<i8",
        0), "kernel_output_feature_dimension": (9, "<i8", 0), "kernel_spatial_dimensions": (10,
        "[<i8]", None), "output_batch_dimension": (11, "<i8", 0), "output_feature_dimension": (12,
        "<i8", 0), "output_spatial_dimensions": (13, "[<i8]", None), "feature_group_count": (14,
        "<i8", 0), "batch_group_count": (15, "<i8", 0), "precision_config": (16, "[<u4]", None),
    },
    "StablehloCustomCallOptions": {
        "call_target_name": (0, "text", None), "has_side_effect": (1, "?", False), "backend_config":
        (2, "text", None), "api_version": (3, "<i4", 0), "called_computations": (4, "[<i4]", None),
        "custom_attributes": (5, "[<u1]", None),
    },
    "StablehloDotGeneralOptions": {
        "lhs_batching_dimensions": (0, "[<i8]", None), "rhs_batching_dimensions": (1, "[<i8]",
        None), "lhs_contracting_dimensions": (2, "[<i8]", None), "rhs_contracting_dimensions": (3,
        "[<i8]", None), "precision_config": (4, "[<u4]", None),
    },
    "StablehloDynamicSliceOptions": {"slice_sizes": (0, "[<i8]", None)},
    "StablehloGatherOptions": {
        "offset_dims": (0, "[<i8]", None), "collapsed_slice_dims": (1, "[<i8]", None),
        "start_index_map": (2, "[<i8]", None), "index_vector_dim": (3, "<i8", 0), "slice_sizes": (4,
        "[<i8]", None), "indices_are_sorted": (5, "?", False),
    },
    "StablehloIotaOptions": {"iota_dimension": (0, "<i8", 0)},
    "StablehloPadOptions": {
        "edge_padding_low": (0, "[<i8]", None), "edge_padding_high": (1, "[<i8]", None),
        "interior_padding": (2, "[<i8]", None),
    },
    "StablehloReduceOptions": {
        "dimensions": (0, "[<i8]", None), "body_subgraph_index": (1, "<i4", 0),
    },
    "StablehloReduceWindowOptions": {
        "window_dimensions": (0, "[<i8]", None), "window_strides": (1, "[<i8]", None),
        "base_dilations": (2, "[<i8]", None), "window_dilations": (3, "[<i8]", None), "padding": (4,
        "[<i8]", None), "body_subgraph_index": (5, "<i4", 0),
    },
    "StablehloRngBitGeneratorOptions": {"algorithm": (0, "<i1", 0)},
    "StablehloScatterOptions": {
        "indices_are_sorted": (0, "?", False), "update_window_dims": (1, "[<i8]", None),
        "inserted_window_dims": (2, "[<i8]", None), "scatter_dims_to_operand_dims": (3, "[<i8]",
        None), "index_vector_dim": (4, "<i8", 0), "unique_indices": (5, "?", False),
        "update_computation_subgraph_index": (6, "<i4", 0),
    },
    "StablehloShiftLeftOptions": {},
    "StablehloSliceOptions": {
        "start_indices": (0, "[<i8]", None), "limit_indices": (1, "[<i8]", None), "strides": (2,
        "[<i8]", None),
    },
    "StablehloSortOptions": {
        "dimension": (0, "<i8", 0), "is_stable": (1, "?", False), "comparator_subgraph_index": (2,
        "<i4", 0),
    },
    "StablehloTransposeOptions": {"permutation": (0, "[<i8]", None)},
    "StablehloWhileOptions": {
        "cond_subgraph_index": (0, "<i4", 0), "body_subgraph_index": (1, "<i4", 0),
    },
    "StridedSliceOptions": {
        "begin_mask": (0, "<i4", 0), "end_mask": (1, "<i4", 0), "ellipsis_mask": (2, "<i4", 0),
        "new_axis_mask": (3, "<i4", 0), "shrink_axis_mask": (4, "<i4", 0), "offset": (5, "?",
        False),
    },
    "SubGraph": {
        "tensors": (0, "[Tensor]", None), "inputs": (1, "[<i4]", None), "outputs": (2, "[<i4]",
        None), "operators": (3, "[Operator]", None), "name": (4, "text", None),
        "debug_metadata_index": (5, "<i4", -1),
    },
    "SubOptions": {"fused_activation_function": (0, "<i1", 0), "pot_scale_int16": (1, "?", True)},
    "Tensor": {
        "shape": (0, "[<i4]", None), "type": (1, "<i1", 0), "buffer": (2, "<u4", 0), "name": (3,
        "text", None), "quantization": (4, "QuantizationParameters", None), "is_variable": (5, "?",
        False), "sparsity": (6, "SparsityParameters", None), "shape_signature": (7, "[<i4]", None),
        "has_rank": (8, "?", False), "variant_tensors": (9, "[VariantSubType]", None),
        "external_buffer": (10, "<u4", 0),
    },
    "TensorMap": {"name": (0, "text", None), "tensor_index": (1, "<u4", 0)},
    "TileOptions": {},
    "TopKV2Options": {},
    "TransposeConvOptions": {
        "padding": (0, "<i1", 0), "stride_w": (1, "<i4", 0), "stride_h": (2, "<i4", 0),
        "fused_activation_function": (3, "<i1", 0), "quantized_bias_type": (4, "<i1", 0),
    },
    "TransposeOptions": {},
    "Uint16Vector": {"values": (0, "[<u2]", None)},
    "Uint8Vector": {"values": (0, "[<u1]", None)},
    "UnidirectionalSequenceLSTMOptions": {
        "fused_activation_function": (0, "<i1", 0), "cell_clip": (1, "<f4", 0.0), "proj_clip": (2,
        "<f4", 0.0), "time_major": (3, "?", False), "asymmetric_quantize_inputs": (4, "?", False),
        "diagonal_recurrent_tensors": (5, "?", False),
    },
    "UniqueOptions": {"idx_out_type": (0, "<i1", 2)},
    "UnpackOptions": {"num": (0, "<i4", 0), "axis": (1, "<i4", 0)},
    "UnsortedSegmentMaxOptions": {},
    "UnsortedSegmentMinOptions": {},
    "UnsortedSegmentProdOptions": {},
    "UnsortedSegmentSumOptions": {},
    "VarHandleOptions": {"container": (0, "text", None), "shared_name": (1, "text", None)},
    "VariantSubType": {
        "shape": (0, "[<i4]", None), "type": (1, "<i1", 0), "has_rank": (2, "?", False),
    },
    "WhereOptions": {},
    "WhileOptions": {"cond_subgraph_index": (0, "<i4", 0), "body_subgraph_index": (1, "<i4", 0)},
    "ZerosLikeOptions": {},
}  # fmt: skip

ENUMS: dict[str, dict[int, str]] = {
    "ActivationFunctionType": {
        0: "NONE", 1: "RELU", 2: "RELU_N1_TO_1", 3: "RELU6", 4: "TANH", 5: "SIGN_BIT",
    },
    "BuiltinOperator": {
        0: "ADD", 1: "AVERAGE_POOL_2D", 2: "CONCATENATION", 3: "CONV_2D", 4: "DEPTHWISE_CONV_2D", 5:
        "DEPTH_TO_SPACE", 6: "DEQUANTIZE", 7: "EMBEDDING_LOOKUP", 8: "FLOOR", 9: "FULLY_CONNECTED",
        10: "HASHTABLE_LOOKUP", 11: "L2_NORMALIZATION", 12: "L2_POOL_2D", 13:
        "LOCAL_RESPONSE_NORMALIZATION", 14: "LOGISTIC", 15: "LSH_PROJECTION", 16: "LSTM", 17:
        "MAX_POOL_2D", 18: "MUL", 19: "RELU", 20: "RELU_N1_TO_1", 21: "RELU6", 22: "RESHAPE", 23:
        "RESIZE_BILINEAR", 24: "RNN", 25: "SOFTMAX", 26: "SPACE_TO_DEPTH", 27: "SVDF", 28: "TANH",
        29: "CONCAT_EMBEDDINGS", 30: "SKIP_GRAM", 31: "CALL", 32: "CUSTOM", 33:
        "EMBEDDING_LOOKUP_SPARSE", 34: "PAD", 35: "UNIDIRECTIONAL_SEQUENCE_RNN", 36: "GATHER", 37:
        "BATCH_TO_SPACE_ND", 38: "SPACE_TO_BATCH_ND", 39: "TRANSPOSE", 40: "MEAN", 41: "SUB", 42:
        "DIV", 43: "SQUEEZE", 44: "UNIDIRECTIONAL_SEQUENCE_LSTM", 45: "STRIDED_SLICE", 46:
        "BIDIRECTIONAL_SEQUENCE_RNN", 47: "EXP", 48: "TOPK_V2", 49: "SPLIT", 50: "LOG_SOFTMAX", 51:
        "DELEGATE", 52: "BIDIRECTIONAL_SEQUENCE_LSTM", 53: "CAST", 54: "PRELU", 55: "MAXIMUM", 56:
        "ARG_MAX", 57: "MINIMUM", 58: "LESS", 59: "NEG", 60: "PADV2", 61: "GREATER", 62:
        "GREATER_EQUAL", 63: "LESS_EQUAL", 64: "SELECT", 65: "SLICE", 66: "SIN", 67:
        "TRANSPOSE_CONV", 68: "SPARSE_TO_DENSE", 69: "TILE", 70: "EXPAND_DIMS", 71: "EQUAL", 72:
        "NOT_EQUAL", 73: "LOG", 74: "SUM", 75: "SQRT", 76: "RSQRT", 77: "SHAPE", 78: "POW", 79:
        "ARG_MIN", 80: "FAKE_QUANT", 81: "REDUCE_PROD", 82: "REDUCE_MAX", 83: "PACK", 84:
        "LOGICAL_OR", 85: "ONE_HOT", 86: "LOGICAL_AND", 87: "LOGICAL_NOT", 88: "UNPACK", 89:
        "REDUCE_MIN", 90: "FLOOR_DIV", 91: "REDUCE_ANY", 92: "SQUARE", 93: "ZEROS_LIKE", 94: "FILL",
        95: "FLOOR_MOD", 96: "RANGE", 97: "RESIZE_NEAREST_NEIGHBOR", 98: "LEAKY_RELU", 99:
        "SQUARED_DIFFERENCE", 100: "MIRROR_PAD", 101: "ABS", 102: "SPLIT_V", 103: "UNIQUE", 104:
        "CEIL", 105: "REVERSE_V2", 106: "ADD_N", 107: "GATHER_ND", 108: "COS", 109: "WHERE", 110:
        "RANK", 111: "ELU", 112: "REVERSE_SEQUENCE", 113: "MATRIX_DIAG", 114: "QUANTIZE", 115:
        "MATRIX_SET_DIAG", 116: "ROUND", 117: "HARD_SWISH", 118: "IF", 119: "WHILE", 120:
        "NON_MAX_SUPPRESSION_V4", 121: "NON_MAX_SUPPRESSION_V5", 122: "SCATTER_ND", 123:
        "SELECT_V2", 124: "DENSIFY", 125: "SEGMENT_SUM", 126: "BATCH_MATMUL", 127:
        "PLACEHOLDER_FOR_GREATER_OP_CODES", 128: "CUMSUM", 129: "CALL_ONCE", 130: "BROADCAST_TO",
        131: "RFFT2D", 132: "CONV_3D", 133: "IMAG", 134: "REAL", 135: "COMPLEX_ABS", 136:
        "HASHTABLE", 137: "HASHTABLE_FIND", 138: "HASHTABLE_IMPORT", 139: "HASHTABLE_SIZE", 140:
        "REDUCE_ALL", 141: "CONV_3D_TRANSPOSE", 142: "VAR_HANDLE", 143: "READ_VARIABLE", 144:
        "ASSIGN_VARIABLE", 145: "BROADCAST_ARGS", 146: "RANDOM_STANDARD_NORMAL", 147: "BUCKETIZE",
        148: "RANDOM_UNIFORM", 149: "MULTINOMIAL", 150: "GELU", 151: "DYNAMIC_UPDATE_SLICE", 152:
        "RELU_0_TO_1", 153: "UNSORTED_SEGMENT_PROD", 154: "UNSORTED_SEGMENT_MAX", 155:
        "UNSORTED_SEGMENT_SUM", 156: "ATAN2", 157: "UNSORTED_SEGMENT_MIN", 158: "SIGN", 159:
        "BITCAST", 160: "BITWISE_XOR", 161: "RIGHT_SHIFT", 162: "STABLEHLO_LOGISTIC", 163:
        "STABLEHLO_ADD", 164: "STABLEHLO_DIVIDE", 165: "STABLEHLO_MULTIPLY", 166:
        "STABLEHLO_MAXIMUM", 167: "STABLEHLO_RESHAPE", 168: "STABLEHLO_CLAMP", 169:
        "STABLEHLO_CONCATENATE", 170: "STABLEHLO_BROADCAST_IN_DIM", 171: "STABLEHLO_CONVOLUTION",
        172: "STABLEHLO_SLICE", 173: "STABLEHLO_CUSTOM_CALL", 174: "STABLEHLO_REDUCE", 175:
        "STABLEHLO_ABS", 176: "STABLEHLO_AND", 177: "STABLEHLO_COSINE", 178:
        "STABLEHLO_EXPONENTIAL", 179: "STABLEHLO_FLOOR", 180: "STABLEHLO_LOG", 181:
        "STABLEHLO_MINIMUM", 182: "STABLEHLO_NEGATE", 183: "STABLEHLO_OR", 184: "STABLEHLO_POWER",
        185: "STABLEHLO_REMAINDER", 186: "STABLEHLO_RSQRT", 187: "STABLEHLO_SELECT", 188:
        "STABLEHLO_SUBTRACT", 189: "STABLEHLO_TANH", 190: "STABLEHLO_SCATTER", 191:
        "STABLEHLO_COMPARE", 192: "STABLEHLO_CONVERT", 193: "STABLEHLO_DYNAMIC_SLICE", 194:
        "STABLEHLO_DYNAMIC_UPDATE_SLICE", 195: "STABLEHLO_PAD", 196: "STABLEHLO_IOTA", 197:
        "STABLEHLO_DOT_GENERAL", 198: "STABLEHLO_REDUCE_WINDOW", 199: "STABLEHLO_SORT", 200:
        "STABLEHLO_WHILE", 201: "STABLEHLO_GATHER", 202: "STABLEHLO_TRANSPOSE", 203: "DILATE", 204:
        "STABLEHLO_RNG_BIT_GENERATOR", 205: "REDUCE_WINDOW", 206: "STABLEHLO_COMPOSITE", 207:
        "STABLEHLO_SHIFT_LEFT", 208: "STABLEHLO_CBRT", 209: "STABLEHLO_CASE",
    },
    "BuiltinOptions": {
        0: "NONE", 1: "Conv2DOptions", 2: "DepthwiseConv2DOptions", 3: "ConcatEmbeddingsOptions", 4:
        "LSHProjectionOptions", 5: "Pool2DOptions", 6: "SVDFOptions", 7: "RNNOptions", 8:
        "FullyConnectedOptions", 9: "SoftmaxOptions", 10: "ConcatenationOptions", 11: "AddOptions",
        12: "L2NormOptions", 13: "LocalResponseNormalizationOptions", 14: "LSTMOptions", 15:
        "ResizeBilinearOptions", 16: "CallOptions", 17: "ReshapeOptions", 18: "SkipGramOptions", 19:
        "SpaceToDepthOptions", 20: "EmbeddingLookupSparseOptions", 21: "MulOptions", 22:
        "PadOptions", 23: "GatherOptions", 24: "BatchToSpaceNDOptions", 25: "SpaceToBatchNDOptions",
        26: "TransposeOptions", 27: "ReducerOptions", 28: "SubOptions", 29: "DivOptions", 30:
        "SqueezeOptions", 31: "SequenceRNNOptions", 32: "StridedSliceOptions", 33: "ExpOptions", 34:
        "TopKV2Options", 35: "SplitOptions", 36: "LogSoftmaxOptions", 37: "CastOptions", 38:
        "DequantizeOptions", 39: "MaximumMinimumOptions", 40: "ArgMaxOptions", 41: "LessOptions",
        42: "NegOptions", 43: "PadV2Options", 44: "GreaterOptions", 45: "GreaterEqualOptions", 46:
        "LessEqualOptions", 47: "SelectOptions", 48: "SliceOptions", 49: "TransposeConvOptions", 50:
        "SparseToDenseOptions", 51: "TileOptions", 52: "ExpandDimsOptions", 53: "EqualOptions", 54:
        "NotEqualOptions", 55: "ShapeOptions", 56: "PowOptions", 57: "ArgMinOptions", 58:
        "FakeQuantOptions", 59: "PackOptions", 60: "LogicalOrOptions", 61: "OneHotOptions", 62:
        "LogicalAndOptions", 63: "LogicalNotOptions", 64: "UnpackOptions", 65: "FloorDivOptions",
        66: "SquareOptions", 67: "ZerosLikeOptions", 68: "FillOptions", 69:
        "BidirectionalSequenceLSTMOptions", 70: "BidirectionalSequenceRNNOptions", 71:
        "UnidirectionalSequenceLSTMOptions", 72: "FloorModOptions", 73: "RangeOptions", 74:
        "ResizeNearestNeighborOptions", 75: "LeakyReluOptions", 76: "SquaredDifferenceOptions", 77:
        "MirrorPadOptions", 78: "AbsOptions", 79: "SplitVOptions", 80: "UniqueOptions", 81:
        "ReverseV2Options", 82: "AddNOptions", 83: "GatherNdOptions", 84: "CosOptions", 85:
        "WhereOptions", 86: "RankOptions", 87: "ReverseSequenceOptions", 88: "MatrixDiagOptions",
        89: "QuantizeOptions", 90: "MatrixSetDiagOptions", 91: "HardSwishOptions", 92: "IfOptions",
        93: "WhileOptions", 94: "DepthToSpaceOptions", 95: "NonMaxSuppressionV4Options", 96:
        "NonMaxSuppressionV5Options", 97: "ScatterNdOptions", 98: "SelectV2Options", 99:
        "DensifyOptions", 100: "SegmentSumOptions", 101: "BatchMatMulOptions", 102: "CumsumOptions",
        103: "CallOnceOptions", 104: "BroadcastToOptions", 105: "Rfft2dOptions", 106:
        "Conv3DOptions", 107: "HashtableOptions", 108: "HashtableFindOptions", 109:
        "HashtableImportOptions", 110: "HashtableSizeOptions", 111: "VarHandleOptions", 112:
        "ReadVariableOptions", 113: "AssignVariableOptions", 114: "RandomOptions", 115:
        "BucketizeOptions", 116: "GeluOptions", 117: "DynamicUpdateSliceOptions", 118:
        "UnsortedSegmentProdOptions", 119: "UnsortedSegmentMaxOptions", 120:
        "UnsortedSegmentMinOptions", 121: "UnsortedSegmentSumOptions", 122: "ATan2Options", 123:
        "SignOptions", 124: "BitcastOptions", 125: "BitwiseXorOptions", 126: "RightShiftOptions",
    },
    "BuiltinOptions2": {
        0: "NONE", 1: "StablehloConcatenateOptions", 2: "StablehloBroadcastInDimOptions", 3:
        "StablehloSliceOptions", 4: "StablehloConvolutionOptions", 5: "StablehloCustomCallOptions",
        6: "StablehloReduceOptions", 7: "StablehloScatterOptions", 8: "StablehloCompareOptions", 9:
        "StablehloDynamicSliceOptions", 10: "StablehloPadOptions", 11: "StablehloIotaOptions", 12:
        "StablehloDotGeneralOptions", 13: "StablehloReduceWindowOptions", 14:
        "StablehloSortOptions", 15: "StablehloWhileOptions", 16: "StablehloGatherOptions", 17:
        "StablehloTransposeOptions", 18: "DilateOptions", 19: "StablehloRngBitGeneratorOptions", 20:
        "ReduceWindowOptions", 21: "StableHLOCompositeOptions", 22: "StablehloShiftLeftOptions", 23:
        "StablehloCaseOptions",
    },
    "CombinerType": {0: "SUM", 1: "MEAN", 2: "SQRTN"},
    "CustomOptionsFormat": {0: "FLEXBUFFERS"},
    "DimensionType": {0: "DENSE", 1: "SPARSE_CSR"},
    "FullyConnectedOptionsWeightsFormat": {0: "DEFAULT", 1: "SHUFFLED4x16INT8"},
    "LSHProjectionType": {0: "UNKNOWN", 1: "SPARSE", 2: "DENSE"},
    "LSTMKernelType": {0: "FULL", 1: "BASIC"},
    "MirrorPadMode": {0: "REFLECT", 1: "SYMMETRIC"},
    "Padding": {0: "SAME", 1: "VALID"},
    "QuantizationDetails": {
        0: "NONE", 1: "CustomQuantization", 2: "BlockwiseQuantization", 3: "MultiAxisQuantization",
    },
    "ReduceWindowFunction": {
        0: "UNSUPPORTED", 1: "ADD", 2: "MUL", 3: "MINIMUM", 4: "MAXIMUM", 5: "ALL", 6: "ANY",
    },
    "RngAlgorithm": {0: "DEFAULT", 1: "PHILOX", 2: "THREEFRY"},
    "SparseIndexVector": {0: "NONE", 1: "Int32Vector", 2: "Uint16Vector", 3: "Uint8Vector"},
    "StablehloComparisonDirection": {
        0: "STABLEHLO_COMPARISON_DIRECTION_EQ", 1: "STABLEHLO_COMPARISON_DIRECTION_NE", 2:
        "STABLEHLO_COMPARISON_DIRECTION_GE", 3: "STABLEHLO_COMPARISON_DIRECTION_GT", 4:
        "STABLEHLO_COMPARISON_DIRECTION_LE", 5: "STABLEHLO_COMPARISON_DIRECTION_LT",
    },
    "StablehloComparisonType": {
        0: "STABLEHLO_COMPARISON_TYPE_NOTYPE", 1: "STABLEHLO_COMPARISON_TYPE_FLOAT", 2:
        "STABLEHLO_COMPARISON_TYPE_FLOAT_TOTAL_ORDER", 3: "STABLEHLO_COMPARISON_TYPE_SIGNED", 4:
        "STABLEHLO_COMPARISON_TYPE_UNSIGNED",
    },
    "StablehloPrecisionConfig": {0: "DEFAULT", 1: "HIGH", 2: "HIGHEST"},
    "TensorType": {
        0: "FLOAT32", 1: "FLOAT16", 2: "INT32", 3: "UINT8", 4: "INT64", 5: "STRING", 6: "BOOL", 7:
        "INT16", 8: "COMPLEX64", 9: "INT8", 10: "FLOAT64", 11: "COMPLEX128", 12: "UINT64", 13:
        "RESOURCE", 14: "VARIANT", 15: "UINT32", 16: "UINT16", 17: "INT4", 18: "BFLOAT16", 19:
        "INT2", 20: "UINT4", 21: "FLOAT8_E4M3FN", 22: "FLOAT8_E5M2",
    },
}  # fmt: skip
