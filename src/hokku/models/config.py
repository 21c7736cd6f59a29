"""What a model is, in numbers: read from GGUF metadata or from a Hugging Face `config.json`, checked, frozen.

Everything here comes from an untrusted file, so every field is checked for type and range before it is used
as a size. What the engine cannot run is refused by name (`BadModelFile`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from hokku.protocol.errors import BadModelFile

RopeKind = Literal["default", "linear", "llama3", "yarn"]

# Heads are cut into vectors of 16 floats, and gate and up rows alternate in runs of 16.
LANES = 16
# Inputs that share a scale in four-bit matrices.
_GROUP = 32
# What csrc/ keeps a head's accumulators for.
_MOST_HEAD_DIM = 256
# In a `config.json` that keeps the language model's fields apart, these are the whole model's.
_WHOLE_MODEL_KEYS = ("architectures", "tie_word_embeddings", "eos_token_id", "bos_token_id")
# No model comes near these; a corrupt file does.
_MOST_LAYERS = 1_024
_MOST_WIDTH = 1 << 20
_MOST_VOCABULARY = 1 << 22
_MOST_CONTEXT_TOKENS = 1 << 24


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """How rotary frequencies are stretched beyond the window a model was trained on; `rope.py` has the
    formulas."""

    kind: RopeKind = "default"
    factor: float = 1.0
    original_context_tokens: int = 0
    low_frequency_factor: float = 1.0  # llama3
    high_frequency_factor: float = 4.0  # llama3
    beta_fast: float = 32.0  # yarn
    beta_slow: float = 1.0  # yarn
    truncate: bool = True  # yarn
    attention_factor: float = 1.0  # yarn: on cos and sin alike


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The shape of a decoder-only transformer."""

    architecture: str  # as the file names it: "llama", "Qwen3ForCausalLM"
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocabulary: int
    rms_eps: float
    rope_theta: float
    rotary_dim: int  # dimensions of each head that are rotated
    rope_scaling: RopeScaling
    tied_embeddings: bool
    context_window_tokens: int
    bos_id: int | None
    eos_ids: tuple[int, ...]
    # Rotated pairs that turn by time, height and width (Wang et al. 2024, "Qwen2-VL"); none: by the position alone.
    rope_sections: tuple[int, ...] = ()

    @property
    def query_width(self) -> int:
        """Columns of all query heads."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Columns of all key heads (and of all value heads)."""
        return self.kv_heads * self.head_dim

    def to_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads back."""
        return asdict(self)

    @staticmethod
    def from_dict(values: Mapping[str, Any]) -> ModelConfig:
        """Undo `to_dict`, also after a trip through JSON."""
        scaling = RopeScaling(**values["rope_scaling"])
        lists = {key: tuple(values[key]) for key in ("eos_ids", "rope_sections") if key in values}
        return ModelConfig(**{**values, "rope_scaling": scaling, **lists})


class Fields:
    """Checked access to an untrusted mapping; `place` names the file in errors."""

    def __init__(self, values: Mapping[str, Any], place: str) -> None:
        self._values = values
        self.place = place

    def __contains__(self, key: str) -> bool:
        return self._values.get(key) is not None

    def integer(
        self, key: str, *, default: int | None = None, least: int = 1, most: int = _MOST_WIDTH
    ) -> int:
        """A whole number within [least, most]."""
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise self.bad(key, value, f"a whole number from {least} to {most}")
        return value

    def positive(self, key: str, *, default: float | None = None) -> float:
        """A finite number above zero."""
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < math.inf:
            raise self.bad(key, value, "a finite number above zero")
        return float(value)

    def text(self, key: str, *, default: str | None = None) -> str:
        """A string."""
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, str):
            raise self.bad(key, value, "a string")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """true or false."""
        value = self._values.get(key)
        value = default if value is None else value
        if not isinstance(value, bool):
            raise self.bad(key, value, "true or false")
        return value

    def integers(self, key: str, *, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A list of whole numbers that are not negative."""
        value = self._values.get(key)
        value = list(default) if value is None else value
        if not isinstance(value, list) or not all(type(each) is int and each >= 0 for each in value):
            raise self.bad(key, value, "a list of whole numbers")
        return tuple(value)

    def token_ids(self, key: str, vocabulary: int) -> tuple[int, ...]:
        """One id, several or none."""
        value = self._values.get(key)
        ids = value if isinstance(value, list) else [] if value is None else [value]
        for token_id in ids:
            if not isinstance(token_id, int) or isinstance(token_id, bool) or not 0 <= token_id < vocabulary:
                raise self.bad(key, token_id, f"token ids below {vocabulary}")
        return tuple(ids)

    def numbers(self, key: str) -> list[float] | None:
        """A list of numbers, in which each is as the file has it; None when absent."""
        value = self._values.get(key)
        if value is not None and not (
            isinstance(value, list) and all(isinstance(v, int | float) for v in value)
        ):
            raise self.bad(key, value, "a list of numbers")
        return value

    def mapping(self, key: str) -> Fields:
        """A mapping, empty when absent."""
        value = self._values.get(key) or {}
        if not isinstance(value, dict):
            raise self.bad(key, value, "an object")
        return Fields(value, self.place)

    def bad(self, key: str, value: object, wanted: str) -> BadModelFile:
        """The error for a field with a value that cannot be used."""
        if value is None:
            return BadModelFile(f"{key} is missing", place=self.place)
        return BadModelFile(f"{key} is {str(value)[:80]!r}, not {wanted}", place=self.place)


def checked(config: ModelConfig, place: str) -> ModelConfig:
    """The same config, or `BadModelFile` when its numbers do not fit together or the kernels."""
    if config.heads % config.kv_heads:
        raise unsupported(f"{config.heads} query heads over {config.kv_heads} key/value heads", place)
    if config.head_dim % LANES or config.head_dim > _MOST_HEAD_DIM:
        raise unsupported(
            f"head size {config.head_dim}: not a multiple of {LANES} up to {_MOST_HEAD_DIM}", place
        )
    if config.hidden % _GROUP:
        raise unsupported(f"hidden width {config.hidden}: not a multiple of {_GROUP}", place)
    if config.ffn % LANES:
        raise unsupported(f"feed-forward width {config.ffn}: not a multiple of {LANES}", place)
    if config.rotary_dim % 2 or config.rotary_dim > config.head_dim:
        raise unsupported(f"rotary dimension {config.rotary_dim} of head size {config.head_dim}", place)
    if config.rope_sections and sum(config.rope_sections) != config.rotary_dim // 2:
        raise unsupported(f"rotary sections {config.rope_sections} of head size {config.head_dim}", place)
    if len(config.rope_sections) not in (0, 3):
        raise unsupported(f"{len(config.rope_sections)} rotary sections", place)
    return config


def unsupported(what: str, place: str) -> BadModelFile:
    """The error for a sound file that this engine has no code for."""
    return BadModelFile(f"{what} is not supported", place=place, way_out="see docs/models.md for what is")


def yarn_attention_factor(factor: float) -> float:
    """0.1 ln(s) + 1 (Peng et al. 2023, YaRN, equation 22)."""
    return 1.0 if factor <= 1 else 0.1 * math.log(factor) + 1.0


def config_from_gguf(metadata: Mapping[str, Any], vocabulary: int, *, tied: bool, place: str) -> ModelConfig:
    """From a GGUF file's metadata; the vocabulary is the embedding table's row count.

    Key names: the GGUF specification's section "Standardized key-value pairs".
    """
    architecture = Fields(metadata, place).text("general.architecture")
    prefix = f"{architecture}."
    own = {key.removeprefix(prefix): value for key, value in metadata.items() if key.startswith(prefix)}
    fields = Fields(own, place)
    if fields.integer("expert_count", default=0, least=0):
        raise unsupported("a mixture of experts", place)
    heads = fields.integer("attention.head_count")
    hidden = fields.integer("embedding_length")
    head_dim = fields.integer("attention.key_length", default=max(1, hidden // heads))
    if fields.integer("attention.value_length", default=head_dim) != head_dim:
        raise unsupported("a value head size that differs from the key's", place)
    window = fields.integer("context_length", most=_MOST_CONTEXT_TOKENS)
    tokenizer = Fields(metadata, place)
    special = [f"tokenizer.ggml.{name}_token_id" for name in ("eos", "eot", "eom")]
    eos_ids = [token_id for key in special for token_id in tokenizer.token_ids(key, vocabulary)]
    bos_ids = tokenizer.token_ids("tokenizer.ggml.bos_token_id", vocabulary)
    return checked(
        ModelConfig(
            architecture=architecture,
            layers=fields.integer("block_count", most=_MOST_LAYERS),
            hidden=hidden,
            heads=heads,
            kv_heads=fields.integer("attention.head_count_kv", default=heads),
            head_dim=head_dim,
            ffn=fields.integer("feed_forward_length"),
            vocabulary=vocabulary,
            rms_eps=fields.positive("attention.layer_norm_rms_epsilon"),
            rope_theta=fields.positive("rope.freq_base", default=10_000.0),
            rotary_dim=fields.integer("rope.dimension_count", default=head_dim),
            rope_scaling=_gguf_rope_scaling(fields, window),
            tied_embeddings=tied,
            context_window_tokens=min(window, _sliding_window(fields, "attention.sliding_window", window)),
            bos_id=bos_ids[0] if bos_ids else None,
            eos_ids=tuple(dict.fromkeys(eos_ids)),
            # Four numbers, of which the last is of a direction that no model here has.
            rope_sections=fields.integers("rope.dimension_sections")[:3],
        ),
        place,
    )


def _gguf_rope_scaling(fields: Fields, window: int) -> RopeScaling:
    kind = fields.text("rope.scaling.type", default="none")
    if kind == "none":
        return RopeScaling()
    factor = fields.positive("rope.scaling.factor")
    if kind == "linear":
        return RopeScaling("linear", factor)
    if kind != "yarn":
        raise unsupported(f"rope scaling {kind!r}", fields.place)
    original = fields.integer(
        "rope.scaling.original_context_length", default=window, most=_MOST_CONTEXT_TOKENS
    )
    return RopeScaling(
        "yarn",
        factor,
        original,
        beta_fast=fields.positive("rope.scaling.yarn_beta_fast", default=32.0),
        beta_slow=fields.positive("rope.scaling.yarn_beta_slow", default=1.0),
        attention_factor=fields.positive("rope.scaling.attn_factor", default=1.0)
        * yarn_attention_factor(factor),
    )


def config_from_hf(values: Mapping[str, Any], *, place: str) -> ModelConfig:
    """From a Hugging Face `config.json`, in the field names of `transformers` 4 and 5; of a model that also sees, the
    language model's share."""
    values = _of_text(values, place)
    fields = Fields(values, place)
    architecture = _hf_architecture(fields, values)
    if fields.integer("num_local_experts", default=0, least=0) or fields.integer(
        "num_experts", default=0, least=0
    ):
        raise unsupported("a mixture of experts", place)
    for bias in ("attention_bias", "mlp_bias"):
        if fields.flag(bias, default=False):
            raise unsupported(bias, place)
    if (activation := fields.text("hidden_act", default="silu")) != "silu":
        raise unsupported(f"activation {activation!r}", place)
    heads = fields.integer("num_attention_heads")
    hidden = fields.integer("hidden_size")
    head_dim = fields.integer("head_dim", default=max(1, hidden // heads))
    vocabulary = fields.integer("vocab_size", most=_MOST_VOCABULARY)
    window = fields.integer("max_position_embeddings", most=_MOST_CONTEXT_TOKENS)
    slides = fields.flag("use_sliding_window", default="use_sliding_window" not in fields)
    bos_ids = fields.token_ids("bos_token_id", vocabulary)
    rope = fields.mapping("rope_parameters" if "rope_parameters" in fields else "rope_scaling")
    share = fields.positive(
        "partial_rotary_factor", default=rope.positive("partial_rotary_factor", default=1.0)
    )
    theta = rope.positive("rope_theta", default=fields.positive("rope_theta", default=10_000.0))
    return checked(
        ModelConfig(
            architecture=architecture,
            layers=fields.integer("num_hidden_layers", most=_MOST_LAYERS),
            hidden=hidden,
            heads=heads,
            kv_heads=fields.integer("num_key_value_heads", default=heads),
            head_dim=head_dim,
            ffn=fields.integer("intermediate_size"),
            vocabulary=vocabulary,
            rms_eps=fields.positive("rms_norm_eps", default=1e-6),
            rope_theta=theta,
            rotary_dim=int(head_dim * min(share, 1.0)),
            rope_scaling=_hf_rope_scaling(rope, window),
            tied_embeddings=fields.flag("tie_word_embeddings", default=False),
            context_window_tokens=min(
                window, _sliding_window(fields, "sliding_window", window) if slides else window
            ),
            bos_id=bos_ids[0] if bos_ids else None,
            eos_ids=fields.token_ids("eos_token_id", vocabulary),
            rope_sections=rope.integers("mrope_section"),
        ),
        place,
    )


def _of_text(values: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """The fields of `text_config` where there is one, with those that stand beside it for the whole model."""
    if "text_config" not in values:
        return values
    Fields(values, place).mapping("text_config")
    whole = {key: values[key] for key in _WHOLE_MODEL_KEYS if values.get(key) is not None}
    return {**values["text_config"], **whole}


def _hf_architecture(fields: Fields, values: Mapping[str, Any]) -> str:
    names = values.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str):
        return names[0]
    raise fields.bad("architectures", names, "a list of one name")


def _hf_rope_scaling(rope: Fields, window: int) -> RopeScaling:
    kind = rope.text("rope_type", default=rope.text("type", default="default"))
    if kind == "default" or (kind == "mrope" and "mrope_section" in rope):
        return RopeScaling()
    if kind not in ("linear", "llama3", "yarn"):
        raise unsupported(f"rope scaling {kind!r}", rope.place)
    factor = rope.positive("factor")
    if kind == "linear":
        return RopeScaling("linear", factor)
    original = rope.integer("original_max_position_embeddings", default=window, most=_MOST_CONTEXT_TOKENS)
    if kind == "llama3":
        low = rope.positive("low_freq_factor")
        high = rope.positive("high_freq_factor")
        if high <= low:
            raise rope.bad("high_freq_factor", high, f"a number above low_freq_factor {low}")
        return RopeScaling("llama3", factor, original, low_frequency_factor=low, high_frequency_factor=high)
    if "mscale" in rope or "mscale_all_dim" in rope:
        raise unsupported("YaRN's mscale", rope.place)
    return RopeScaling(
        "yarn",
        factor,
        original,
        beta_fast=rope.positive("beta_fast", default=32.0),
        beta_slow=rope.positive("beta_slow", default=1.0),
        truncate=rope.flag("truncate", default=True),
        attention_factor=rope.positive("attention_factor", default=yarn_attention_factor(factor)),
    )


def _sliding_window(fields: Fields, key: str, window: int) -> int:
    """Attention here is over everything before, which equals a sliding window until that window is full."""
    return fields.integer(key, default=window, most=_MOST_CONTEXT_TOKENS)
