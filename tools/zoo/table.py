"""The architectures of the zoo: model types with what they take, and fields of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tools.zoo.architectures import architecture as _a
from tools.zoo.case import Case
from tools.zoo.inputs import (
    PAIR,
    TEXT,
    TRANSLATION,
    WAVE,
    boxes,
    ids,
    image,
    marked,
    normal,
    ones,
    positive,
    text,
)

_CAUSAL = "AutoModelForCausalLM"

# Those that need nothing but what their kind takes.
_ENCODERS = (
    "albert bert bert-generation camembert canine convbert data2vec-text deberta deberta-v2 "
    "distilbert electra ernie eurobert flaubert fnet ibert layoutlm longformer luke megatron-bert "
    "mobilebert modernbert mpnet mra nomic_bert nystromformer rembert roberta "
    "roberta-prelayernorm roformer splinter squeezebert xlm xlm-roberta xlm-roberta-xl xlnet yoso"
)
_DECODERS = (
    "bamba biogpt bitnet bloom cohere ctrl diffllama doge ernie4_5 exaone4 falcon falcon_mamba "
    "gemma gemma2 gemma3_text glm gpt2 gpt_bigcode gpt_neox gpt_oss granite granitemoe helium "
    "jamba jetmoe lfm2 llama llama4_text mamba minimax mistral mixtral mpt olmo olmo2 olmoe "
    "openai-gpt opt persimmon phi phi3 phimoe qwen2 qwen2_moe qwen3 qwen3_moe qwen3_next "
    "recurrent_gemma rwkv smollm3 stablelm starcoder2 xglm xlstm"
)
_TRANSLATORS = (
    "bart bigbird_pegasus blenderbot fsmt led longt5 m2m_100 marian mbart mt5 nllb-moe pegasus "
    "pegasus_x plbart prophetnet switch_transformers t5 umt5"
)
_IMAGES = (
    "beit convnext convnextv2 data2vec-vision deit dinov2 dinov2_with_registers dinov3_vit dpt "
    "focalnet glpn hgnet_v2 ijepa mobilenet_v1 mobilenet_v2 mobilevit poolformer pvt "
    "pvt_v2 regnet resnet segformer swiftformer swin2sr vit vit_msn vitdet yolos"
)
_PAIRS = "altclip blip chinese_clip clip clipseg flava git groupvit owlv2 owlvit siglip vilt"
_WAVES = (
    "data2vec-audio hubert sew sew-d unispeech wav2vec2 wav2vec2-conformer wavlm"
)  # fmt: skip


def _texts() -> Iterator[Case]:
    for m in _ENCODERS.split():
        yield _a(m, TEXT)
    yield _a("big_bird", text(2, 64), attention_type="block_sparse", block_size=4)
    yield _a("esm", TEXT, vocab_size=99, pad_token_id=1)
    yield _a("funnel", TEXT, auto="FunnelModel")
    yield _a("layoutlm", {**TEXT, "bbox": boxes(2, 12)}, name="layoutlm-boxes")
    yield _a("lilt", {**TEXT, "bbox": boxes(2, 12)}, hidden_size=48)
    yield _a("roc_bert", TEXT, pronunciation_vocab_size=99, shape_vocab_size=99)
    yield _a("xmod", TEXT, default_language="en_XX")
    yield _a("perceiver", {"inputs": normal(2, 20, 32)}, d_latents=32)
    for m in _DECODERS.split():
        yield _a(m, TEXT, auto=_CAUSAL)
    yield _a("codegen", TEXT, auto=_CAUSAL, rotary_dim=4)
    yield _a("deepseek_v2", TEXT, auto=_CAUSAL, num_experts_per_tok=2, num_key_value_heads=4)
    yield _a("deepseek_v3", TEXT, auto=_CAUSAL, num_key_value_heads=4)
    yield _a("gpt_neo", TEXT, auto=_CAUSAL, attention_types=[[["global", "local"], 1]])
    yield _a("gptj", TEXT, auto=_CAUSAL, rotary_dim=4)
    yield _a("mamba2", TEXT, auto=_CAUSAL, num_heads=8, n_groups=2)
    yield _a("nemotron", TEXT, auto=_CAUSAL, num_key_value_heads=2)
    for m in _TRANSLATORS.split():
        yield _a(m, TRANSLATION)


def _images() -> Iterator[Case]:
    for m in _IMAGES.split():
        yield _a(m, image())
    small: dict[str, Any] = {"window_size": 4, "depths": [2, 2], "num_heads": [2, 2]}
    yield _a("swin", image(64), image_size=64, **small)
    yield _a("swinv2", image(64), image_size=64, **small)
    yield _a("donut-swin", image(64), image_size=[64, 64], **small)
    yield _a("dinov2", image(48), name="dinov2-interpolated")
    yield _a("bit", image(), num_groups=4)
    yield _a("hiera", image(64), image_size=[64, 64], embed_dim=16, num_heads=[1, 2, 2, 2])
    yield _a("levit", image(64), image_size=64, patch_size=16)
    yield _a("mobilevitv2", image(64))
    yield _a("textnet", image(64), stem_out_channels=16)
    yield _a("vit_mae", {**image(), "noise": positive(2, 16)})
    yield _a("seggpt", {"pixel_values": normal(1, 3, 32, 16), "prompt_pixel_values":
             normal(1, 3, 32, 16), "prompt_masks": normal(1, 3, 32, 16)}, image_size=[64, 16],
             patch_size=8, pretrain_image_size=32)  # fmt: skip
    points = {"pixel_values": normal(1, 3, 32, 32), "input_points": positive(1, 1, 2, 2)}
    yield _a("sam", points, **{"vision_config.num_pos_feats": 16, "vision_config.window_size": 2,
                               "vision_config.global_attn_indexes": [1]})  # fmt: skip
    resnet: dict[str, Any] = {"backbone_config.model_type": "resnet", "use_timm_backbone": False}
    last = {**resnet, "backbone_config.out_features": ["stage4"]}
    yield _a("detr", image(64), **last)
    yield _a("table-transformer", image(64), **last)
    yield _a("conditional_detr", image(64), **last)
    yield _a("dab-detr", image(64), **last)
    levels = ["stage2", "stage3", "stage4"]
    yield _a("deformable_detr", image(64), **resnet, num_feature_levels=3,
             **{"backbone_config.out_features": levels})  # fmt: skip
    yield _a("rt_detr", image(64), decoder_in_channels=[32, 32, 32], num_queries=5)
    swin: dict[str, Any] = {"backbone_config.model_type": "swin", "backbone_config.window_size": 2,
            "backbone_config.image_size": 64, "backbone_config.depths": [2, 1, 1, 1],
            "backbone_config.out_features": ["stage1", "stage2", "stage3", "stage4"]}  # fmt: skip
    yield _a("mask2former", image(64), auto="Mask2FormerForUniversalSegmentation", **swin)
    yield _a("maskformer", image(64), **swin)
    yield _a("videomae", {"pixel_values": normal(1, 4, 3, 32, 32)}, num_frames=4)
    yield _a("vivit", {"pixel_values": normal(1, 4, 3, 32, 32)}, num_frames=4,
             tubelet_size=[2, 8, 8])  # fmt: skip
    yield _a("timesformer", {"pixel_values": normal(1, 4, 3, 32, 32)}, num_frames=4)
    yield _a("vjepa2", {"pixel_values_videos": normal(1, 4, 3, 32, 32)}, crop_size=32,
             frames_per_clip=4)  # fmt: skip


def _pairs() -> Iterator[Case]:
    for m in _PAIRS.split():
        yield _a(m, PAIR)
    yield _a("layoutlmv3", {**PAIR, "bbox": boxes(2, 12)}, input_size=32, coordinate_size=4,
             shape_size=8)  # fmt: skip
    yield _a("visual_bert", {**TEXT, "visual_embeds": normal(2, 5, 32)}, visual_embedding_dim=32)
    yield _a("lxmert", {**TEXT, "visual_feats": normal(2, 5, 32), "visual_pos": positive(2, 5, 4)},
             visual_feat_dim=32)  # fmt: skip
    shown = {"input_ids": marked(2, 24, 98, 16), "attention_mask": ones(2, 24), **image()}
    yield _a("llava", shown, auto="LlavaForConditionalGeneration", **{
        "vision_config.model_type": "clip_vision_model", "text_config.model_type": "llama",
        "vision_feature_layer": -1})  # fmt: skip
    yield _a("paligemma", shown, auto="PaliGemmaForConditionalGeneration", **{
        "vision_config.model_type": "siglip_vision_model", "text_config.model_type": "gemma"
        })  # fmt: skip


def _sounds() -> Iterator[Case]:
    for m in _WAVES.split():
        yield _a(m, WAVE)
    yield _a("whisper", {"input_features": normal(2, 16, 128), "decoder_input_ids": ids(2, 7)})
    yield _a("speech_to_text", {"input_features": normal(2, 32, 16), "decoder_input_ids":
             ids(2, 7)}, input_feat_per_channel=16, conv_channels=32)  # fmt: skip
    yield _a("speecht5", {**WAVE, "decoder_input_ids": ids(2, 7, below=80)},
             auto="SpeechT5ForSpeechToText")  # fmt: skip
    yield _a("audio-spectrogram-transformer", {"input_values": normal(2, 64, 16)})
    yield _a("moonshine", {"input_values": normal(2, 4000), "decoder_input_ids": ids(2, 7)})
    yield _a("wav2vec2-bert", {"input_features": normal(2, 20, 160)})
    yield _a("encodec", {"input_values": normal(1, 1, 640)}, num_filters=4)
    yield _a("dac", {"input_values": normal(1, 1, 1024)}, encoder_hidden_size=8,
             decoder_hidden_size=64, hidden_size=128)  # fmt: skip
    yield _a("patchtst", {"past_values": normal(2, 32, 3)}, num_input_channels=3)
    yield _a("patchtsmixer", {"past_values": normal(2, 32, 3)}, num_input_channels=3)
    yield _a("decision_transformer", {
        "states": normal(1, 5, 17), "actions": normal(1, 5, 4), "rewards": normal(1, 5, 1),
        "returns_to_go": normal(1, 5, 1), "timesteps": ids(1, 5, below=9, start=0),
        "attention_mask": ones(1, 5)})  # fmt: skip


ARCHITECTURES: tuple[Case, ...] = (*_texts(), *_images(), *_pairs(), *_sounds())
