"""Configs from GGUF metadata and config.json, and the ones that are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hokku.models.config import ModelConfig, RopeScaling, config_from_gguf, config_from_hf
from hokku.protocol.errors import BadModelFile
from tests.models.house import TINY, golden

GGUF: dict[str, Any] = {
    "general.architecture": "qwen2",
    "qwen2.block_count": 28,
    "qwen2.context_length": 32_768,
    "qwen2.embedding_length": 1_536,
    "qwen2.feed_forward_length": 8_960,
    "qwen2.attention.head_count": 12,
    "qwen2.attention.head_count_kv": 2,
    "qwen2.attention.layer_norm_rms_epsilon": 1e-6,
    "qwen2.rope.freq_base": 1_000_000.0,
    "tokenizer.ggml.bos_token_id": 7,
    "tokenizer.ggml.eos_token_id": 9,
    "tokenizer.ggml.eot_token_id": 9,
}
HF: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 16,
    "hidden_size": 2_048,
    "intermediate_size": 8_192,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128_256,
    "max_position_embeddings": 131_072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500_000.0,
    "bos_token_id": 128_000,
    "eos_token_id": [128_001, 128_009],
    "tie_word_embeddings": True,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 32.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8_192,
    },
}


def from_gguf(**changes: Any) -> ModelConfig:
    metadata = {**GGUF, **{f"qwen2.{key}": value for key, value in changes.items()}}
    return config_from_gguf(metadata, 151_936, tied=True, place="m.gguf")


def from_hf(**changes: Any) -> ModelConfig:
    return config_from_hf({**HF, **changes}, place="config.json")


def test_gguf_metadata() -> None:
    assert from_gguf() == ModelConfig(
        architecture="qwen2",
        layers=28,
        hidden=1_536,
        heads=12,
        kv_heads=2,
        head_dim=128,
        ffn=8_960,
        vocabulary=151_936,
        rms_eps=1e-6,
        rope_theta=1_000_000.0,
        rotary_dim=128,
        rope_scaling=RopeScaling(),
        tied_embeddings=True,
        context_window_tokens=32_768,
        bos_id=7,
        eos_ids=(9,),
    )


def test_gguf_yarn() -> None:
    scaling = from_gguf(
        **{
            "rope.scaling.type": "yarn",
            "rope.scaling.factor": 4.0,
            "rope.scaling.original_context_length": 8_192,
        }
    ).rope_scaling
    assert (scaling.kind, scaling.factor, scaling.original_context_tokens) == ("yarn", 4.0, 8_192)
    assert scaling.attention_factor == pytest.approx(1.13863, abs=1e-5)


def test_config_json_in_the_fields_of_transformers_4() -> None:
    config = from_hf()
    assert (config.head_dim, config.query_width, config.kv_width) == (64, 2_048, 512)
    assert config.eos_ids == (128_001, 128_009)
    assert config.rope_scaling == RopeScaling("llama3", 32.0, 8_192, 1.0, 4.0)


def test_config_json_in_the_fields_of_transformers_5() -> None:
    rope = {**HF["rope_scaling"], "rope_theta": 500_000.0}
    assert from_hf(rope_scaling=None, rope_theta=None, rope_parameters=rope) == from_hf()


def test_a_sliding_window_caps_the_context_window() -> None:
    assert from_hf(architectures=["MistralForCausalLM"], sliding_window=4_096).context_window_tokens == 4_096
    assert from_hf(sliding_window=4_096, use_sliding_window=False).context_window_tokens == 131_072
    assert from_gguf(**{"attention.sliding_window": 2_048}).context_window_tokens == 2_048


@pytest.mark.parametrize("name", TINY)
def test_a_config_survives_json(name: str) -> None:
    config = golden(name).config
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"hidden_size": 2_064, "num_attention_heads": 86, "num_key_value_heads": 2},
            "head size 24: not a multiple",
        ),
        ({"hidden_size": 2_064, "head_dim": 64}, "hidden width 2064: not a multiple of 32"),
        ({"intermediate_size": 8_200}, "feed-forward width 8200: not a multiple of 16"),
        ({"num_key_value_heads": 5}, "32 query heads over 5 key/value heads"),
        ({"num_local_experts": 8}, "a mixture of experts is not supported"),
        ({"num_experts": 64}, "a mixture of experts is not supported"),
        ({"attention_bias": True}, "attention_bias is not supported"),
        ({"hidden_act": "gelu"}, "activation 'gelu' is not supported"),
        ({"rope_scaling": {"rope_type": "longrope"}}, "rope scaling 'longrope' is not supported"),
        ({"num_hidden_layers": None}, "num_hidden_layers is missing"),
        ({"num_hidden_layers": "many"}, "num_hidden_layers is 'many', not a whole number"),
        ({"num_hidden_layers": True}, "num_hidden_layers is 'True', not a whole number"),
        ({"hidden_size": 1 << 40}, "hidden_size is '1099511627776', not a whole number from 1 to"),
        ({"rms_norm_eps": float("nan")}, "rms_norm_eps is 'nan', not a finite number"),
        ({"eos_token_id": [1 << 30]}, "eos_token_id is '1073741824', not token ids below 128256"),
        ({"architectures": []}, "architectures"),
        ({"rope_scaling": "linear"}, "rope_scaling is 'linear', not an object"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor is missing"),
    ],
)
def test_what_cannot_be_run_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadModelFile, match=message):
        from_hf(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"expert_count": 8}, "a mixture of experts is not supported"),
        ({"attention.value_length": 64}, "value head size"),
        ({"rope.scaling.type": "longrope", "rope.scaling.factor": 2.0}, "rope scaling 'longrope'"),
        ({"attention.head_count": [12, 12]}, "attention.head_count"),
        ({"block_count": 0}, "block_count is '0'"),
    ],
)
def test_gguf_metadata_that_cannot_be_run_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadModelFile, match=message):
        from_gguf(**changes)


SECTIONS = [8, 12, 12]  # of the pairs of a head of 64


@pytest.mark.parametrize("kind", [{"type": "mrope"}, {"rope_type": "default", "type": "default"}])
def test_rotary_sections(kind: dict[str, str]) -> None:
    config = from_hf(rope_scaling={**kind, "mrope_section": SECTIONS})
    assert config.rope_sections == tuple(SECTIONS)
    assert config.rope_scaling == RopeScaling()
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    gguf = from_gguf(**{"rope.dimension_sections": [16, 24, 24, 0]})
    assert gguf.rope_sections == (16, 24, 24)


def test_a_config_from_before_rotary_sections_is_read() -> None:
    values = from_hf().to_dict()
    del values["rope_sections"]
    assert ModelConfig.from_dict(values) == from_hf()


@pytest.mark.parametrize("sections", [[8, 12, 13], [16, 16], [8, 12, -1], "8 12 12"])
def test_rotary_sections_that_do_not_fit_are_refused(sections: object) -> None:
    with pytest.raises(BadModelFile, match="section"):
        from_hf(rope_scaling={"type": "default", "mrope_section": sections})


def test_a_vision_models_text_is_in_fields_of_its_own() -> None:
    text = {key: value for key, value in HF.items() if key not in ("architectures", "tie_word_embeddings")}
    values = {
        "architectures": ["LlamaForCausalLM"],
        "tie_word_embeddings": True,
        "text_config": text,
        "hidden_size": 1,
    }
    assert config_from_hf(values, place="config.json") == from_hf()
    with pytest.raises(BadModelFile, match="text_config is"):
        config_from_hf({**values, "text_config": 5}, place="config.json")
