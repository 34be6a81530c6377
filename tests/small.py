"""Any causal language model that transformers maps, built small: random weights, two layers or one of each kind it has.

`small_config` takes the family's own default config and writes small numbers into the fields that hold sizes. Windows
are smaller than the rows of the tests, so that they matter. What a family asks for beyond that stands in ODD.
"""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

HIDDEN, HEADS, HEAD, LAYERS, VOCABULARY, WINDOW = 32, 4, 8, 2, 160, 8

# Field of a config -> its small value. Only fields that the default config holds are written.
SIZES: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "embedding_dim", "emb_dim", "embedding_size", "word_embed_proj_dim",
         "input_embedding_size", "output_embedding_size", "lru_width", "attention_hidden_size",
         "cross_attention_hidden_size"), HIDDEN,
    ),
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads",
         "encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads",
         "swa_num_attention_heads", "linear_num_heads", "linear_num_value_heads"), HEADS,
    ),
    **dict.fromkeys(
        ("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "linear_num_key_heads",
         "num_query_groups"), 2,
    ),
    **dict.fromkeys(
        ("head_dim", "attention_head_size", "d_head", "dim_head", "swa_head_dim", "kv_channels", "v_head_dim",
         "qk_nope_head_dim", "qk_rope_head_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim",
         "index_head_dim", "rotary_dim", "query_pre_attn_scalar", "attention_head_dim"), HEAD,
    ),
    "qk_head_dim": 2 * HEAD,
    **dict.fromkeys(
        ("q_lora_rank", "kv_lora_rank", "o_lora_rank", "hc_lowrank", "adapter_rank", "laurel_rank", "gated_norm_rank",
         "d_rel"), 16,
    ),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "d_inner", "dff", "dim_ff", "ffn_dim", "ffn_hidden_size", "decoder_ffn_dim",
         "encoder_ffn_dim", "feed_forward_size", "intermediate_size_mlp", "dense_intermediate_size",
         "shared_intermediate_size", "block_ff_dim"), 48,
    ),
    **dict.fromkeys(
        ("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size",
         "moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"), 16,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_blocks", "decoder_layers", "encoder_layers",
         "num_decoder_layers", "num_encoder_layers"), LAYERS,
    ),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"), 1),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("first_k_dense_replace", "num_dense_layers"), 1),
    **dict.fromkeys(("num_nextn_predict_layers", "num_kv_shared_layers"), 0),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "unpadded_vocab_size"), VOCABULARY),
    **dict.fromkeys(
        ("sliding_window", "window_size", "sliding_window_size", "attention_chunk_size", "attention_window_size",
         "local_attention", "keep_window_size", "floor_scale"), WINDOW,
    ),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length", "max_target_positions",
         "model_max_length", "original_max_position_embeddings", "rel_extent", "position_bias_max_distance"), 512,
    ),
    **dict.fromkeys(("chunk_size", "mamba_chunk_size", "block_size"), 16),
    **dict.fromkeys(("mamba_n_heads", "mamba_num_heads", "n_mamba_heads"), 4),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups", "mamba_ngroups"), 1),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank", "hidden_size_per_layer_input"), 8),
    "mamba_d_ssm": 64, "mamba_expand": 2, "expand": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "index_topk": 4, "index_n_heads": 32, "router_hidden_size": 16, "max_window_layers": 0, "cls_token_id": 3,
    "sep_token_id": 4, "decoder_start_token_id": 2, "dim_model_base": HIDDEN, "zero_expert_num": 1,
    "block_multiple_of": 16, "attn_logit_softcapping": 0.2,
}  # fmt: skip
LISTS = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types")

INDEXER = {"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": HEAD, "indexer_budget": 8,
           "indexer_compress_ratio": 4}  # fmt: skip

# What single families ask for beyond that.
ODD: dict[str, dict[str, Any]] = {
    **{
        kind: {"num_key_value_heads": HEADS}  # latent attention has a key head for each query head
        for kind in ("axk1", "axk2", "bailing_hybrid", "deepseek_v3", "deepseek_v32", "dots3_note_text",
                     "glm4_moe_lite", "glm_moe_dsa", "kimi_linear", "longcat_flash", "minicpm3", "youtu")
    },
    **{kind: {"head_dim": HEAD} for kind in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    **{kind: {"layer_types": ["conv", "full_attention"]} for kind in ("lfm2", "lfm2_moe")},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}},
    "deepseek_v2": {"num_key_value_heads": HEADS, "num_experts_per_tok": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2, "moe_intermediate_size": 16},
    "dots3_note": {
        "text_config": {"num_key_value_heads": HEADS},
        "vision_config": {"adapter_in_dim": HIDDEN, "adapter_out_dim": HIDDEN},
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"head_dim": 16},
    "nemotron": {"num_key_value_heads": 2},
    "qwen4_exp": {"text_config": INDEXER},
    "qwen4_exp_text": INDEXER,
    "reformer": {"is_decoder": True, "attn_layers": ["local", "lsh"], "axial_pos_shape": [16, 32],
                 "axial_pos_embds_dim": [16, 16]},
    "xmod": {"default_language": "en_XX"},
    "zamba": {"attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 16, "num_hidden_layers": 4,
              "layers_block_type": ["linear_attention", "hybrid"] * 2},
    "zamba2": {"attention_hidden_size": 2 * HIDDEN, "attention_head_dim": 16},
    "zaya": {"num_experts_per_tok": 1},
}  # fmt: skip


def small_config(kind: str) -> PreTrainedConfig:
    """The config of a model type, shrunk."""
    return AutoConfig.for_model(kind, **_shrunk(CONFIG_MAPPING[kind], ODD.get(kind, {})))


def small_model(kind: str, seed: int = 0) -> PreTrainedModel:
    """A random fp32 model of that type, every parameter moved off its start so that none is zero or one."""
    torch.manual_seed(seed)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(small_config(kind))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.eval()
    return model


def _shrunk(kind: type[PreTrainedConfig], odd: dict[str, Any]) -> dict[str, Any]:
    default = kind()
    values = default.to_dict()
    subs = {name: part for name in kind.sub_configs if (part := getattr(default, name, None)) is not None}
    found = {
        name: SIZES[name]
        for name, value in values.items()
        if name in SIZES and value is not None and not isinstance(value, (list, dict, bool))
    }
    for name, value in values.items():
        if name in LISTS and isinstance(value, list) and value:
            found[name] = _of_each(value)
    layers = max([LAYERS, *(len(found[name]) for name in LISTS if name in found)])
    for name in LISTS:
        if name in found:
            found[name] = (found[name] * layers)[:layers]
    for name in [name for name in found if SIZES.get(name) == LAYERS and ("layer" in name or name == "num_blocks")]:
        if name not in ("first_k_dense_replace", "num_dense_layers"):
            found[name] = layers
    for name, part in subs.items():
        found[name] = _shrunk(type(part), odd.get(name, {}))
    return {**found, **{name: value for name, value in odd.items() if name not in subs}}


def _of_each(kinds: list[str]) -> list[str]:
    """Each kind of layer once, in the order they come."""
    return list(dict.fromkeys(kinds))
