"""The language models of SmolVLM (Marafioti et al. 2025) and Idefics3 (Laurençon et al. 2024): a Llama by other names.
What they see with is in `vision/`."""

from __future__ import annotations

from hokku.models.architecture import GGUF_NAMES, SAFETENSORS_NAMES, Architecture
from hokku.models.llama import record

ARCHITECTURE = Architecture(
    names=("SmolVLMForConditionalGeneration", "Idefics3ForConditionalGeneration"),
    gguf=GGUF_NAMES,
    safetensors={
        role: name.replace("model.", "model.text_model.", 1) for role, name in SAFETENSORS_NAMES.items()
    },
    record=record,
)
