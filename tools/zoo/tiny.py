"""Configurations of `transformers` at tiny sizes, derived from the names of their fields.

    tiny("bert")                       BertConfig of width 32, 2 layers, 4 heads, 99 words
    tiny("swin", window_size=4)        the same with a field of one's own; "part.field" reaches
                                       into a part's configuration

What a field means is told by its name, which the architectures of the library share to a large
extent. A field with another name keeps its default.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

WIDTH, INNER, HEADS, LAYERS, HEAD, VOCABULARY = 32, 64, 4, 2, 8, 99
IMAGE, PATCH, POSITIONS = 32, 8, 64

_SIZES = (
    (WIDTH, "hidden_size d_model n_embd dim embed_dim hidden_dim encoder_hidden_size width "
            "decoder_hidden_size embedding_size d_embed word_embed_proj_dim n_embed feature_size "
            "emb_dim mask_feature_size projection_dim output_dim decoder_dim decoder_hidden_dim "
            "out_hidden_size encoder_dim dim_model text_hidden_size encoder_hidden_dim "
            "fpn_hidden_size lru_width moe_intermediate_size shared_intermediate_size "
            "output_channels fusion_hidden_size cross_attention_hidden_size output_size "
            "backbone_hidden_size head_hidden_size"),
    (INNER, "intermediate_size encoder_ffn_dim decoder_ffn_dim ffn_dim d_ff n_inner mlp_dim "
            "dim_feedforward d_inner decoder_intermediate_size dim_ff encoder_intermediate_size "
            "mlp_hidden_size classifier_proj_size iou_head_hidden_dim intermediate_size_mlp "
            "shared_expert_intermediate_size expert_ffn_hidden_size ffn_hidden_size"),
    (HEADS, "num_attention_heads num_heads n_head n_heads encoder_attention_heads attention_heads "
            "decoder_attention_heads decoder_num_attention_heads mamba_n_heads num_experts "
            "num_cross_attention_heads num_local_experts n_routed_experts moe_num_experts "
            "num_conv_pos_embedding_groups linear_num_value_heads linear_num_key_heads "
            "time_step_rank"),
    (LAYERS, "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers depth "
             "num_decoder_layers decoder_num_hidden_layers num_key_value_heads num_kv_heads "
             "num_experts_per_tok moe_topk num_self_attends_per_block l_layers r_layers x_layers "
             "decoder_num_layers memory_attention_num_layers num_hidden_groups"),
    (HEAD, "head_dim d_kv d_head attention_head_size qk_nope_head_dim v_head_dim qk_rope_head_dim "
           "mamba_d_head mamba_d_state state_size kv_lora_rank index_head_dim num_pos_feats "
           "linear_key_head_dim linear_value_head_dim"),
    (VOCABULARY, "vocab_size src_vocab_size tgt_vocab_size n_words entity_vocab_size "
                 "decoder_vocab_size"),
    (POSITIONS, "max_position_embeddings n_positions max_source_positions max_target_positions "
                "max_encoder_position_embeddings max_decoder_position_embeddings n_ctx max_length "
                "sequence_length max_seq_len max_sequence_length max_speech_positions "
                "max_text_positions context_length max_position"),
    (IMAGE, "image_size"),
    (PATCH, "patch_size"),
    (16, "num_mel_bins sliding_window num_queries num_latents q_lora_rank attention_window "
         "local_attention mamba_chunk_size chunk_size num_conv_pos_embeddings"),
    (1, "n_group topk_group first_k_dense_replace"),
)  # fmt: skip
SIZES = {name: size for size, names in _SIZES for name in names.split()}

_TOKENS = {"pad": 0, "bos": 1, "eos": 2, "sep": 2, "cls": 1, "decoder_start": 1, "mask": 3,
           "unk": 3, "image": 98, "video": 97, "audio": 96}  # fmt: skip
_WIDTHS = ("hidden_sizes", "embed_dims", "embed_dim", "neck_hidden_sizes", "encoder_hidden_sizes",
           "conv_dim", "tdnn_dim")  # fmt: skip
_DEPTHS = ("depths", "layers_per_stage", "num_encoder_blocks_of_stage", "depth")
_HEADS = ("num_heads", "num_attention_heads", "encoder_attention_heads")


def tiny(model_type: str, /, **fields: Any) -> Any:
    """The configuration of a model type, its fields derived or as given."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    return _of_class(CONFIG_MAPPING[model_type], fields)


def _of_class(cls: Any, given: Mapping[str, Any]) -> Any:
    """A configuration of a class; `given` are fields, those of parts with the part's name before a
    point.
    """
    own = {name: value for name, value in given.items() if "." not in name}
    chosen = {f.name: size for f in dataclasses.fields(cls)
              if (size := _tiny(f.name, _default(f))) is not None}  # fmt: skip
    for part, of in getattr(cls, "sub_configs", {}).items():
        below = {n.split(".", 1)[1]: v for n, v in given.items() if n.startswith(part + ".")}
        kind = below.pop("model_type", None)
        if kind is not None:
            chosen[part] = tiny(kind, **below)
        elif dataclasses.is_dataclass(of) and of.__name__ != "AutoConfig":
            chosen[part] = _of_class(of, below)
    return cls(**{**chosen, **own})


def _default(f: Any) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else None


def _tiny(name: str, default: Any) -> Any:
    """The tiny value of a field, None where it keeps its default."""
    if isinstance(default, list | tuple):
        return _tiny_stages(name, default)
    if not isinstance(default, int) or isinstance(default, bool):
        return None
    if name.endswith(("_token_id", "_token_index")):
        return _token(name)
    size = SIZES.get(name)
    return None if size is None or 0 <= default < size else size


def _tiny_stages(name: str, default: Any) -> Any:
    """The same of a field that has an entry for each stage of a hierarchical model."""
    n = len(default)
    if not all(isinstance(x, int) for x in default):
        return None
    if name in _WIDTHS:
        return type(default)([16 * (i + 1) for i in range(n)])
    if name in _DEPTHS:
        return type(default)([2, *[1] * (n - 1)])
    if name in _HEADS:
        return type(default)([2] * n)
    return None


def _token(name: str) -> int | None:
    starts = name.removesuffix("_id").removesuffix("_index").removesuffix("_token")
    return _TOKENS.get(starts, 4 if starts else None)
