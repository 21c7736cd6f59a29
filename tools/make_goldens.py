"""Makes the files of tests/goldens with PyTorch and transformers, which the tests themselves do without.

    python -m venv /tmp/goldens && /tmp/goldens/bin/pip install torch transformers gguf accelerate
    /tmp/goldens/bin/python tools/make_goldens.py tiny
    /tmp/goldens/bin/python tools/make_goldens.py perplexity SmolLM2-135M-Instruct.Q4_1.gguf

`tiny` writes random checkpoints of every architecture and their float32 logits. `perplexity` writes the token
ids of the evaluation text and the float32 perplexity that the default model gives it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

GOLDENS = Path(__file__).parent.parent / "tests" / "goldens"
VOCABULARY = 320
# Two sequences, so that positions on both sides of every scaling's original window of 64 are met.
LENGTHS = (96, 32)
# Of two tokens that lie closer than this share of the logits' deviation any rounding may put either first; one row
# in a hundred may be like that.
CLOSEST = 0.1
WINDOW_TOKENS = 1_024
NUM_WINDOWS = 20

_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 160,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 10_000.0,
    "factor": 4.0,
    "original_max_position_embeddings": 64,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
}
_YARN = {"rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "original_max_position_embeddings": 64}
_LINEAR = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 2.0}

TINY: dict[str, transformers.PretrainedConfig] = {
    "llama": transformers.LlamaConfig(**{**_SHAPE, "tie_word_embeddings": True}, rope_parameters=_LLAMA3),
    "mistral": transformers.MistralConfig(**_SHAPE, sliding_window=192),
    "qwen2": transformers.Qwen2Config(**_SHAPE, rope_parameters=_YARN),
    "qwen3": transformers.Qwen3Config(**_SHAPE, head_dim=32, rope_parameters=_LINEAR),
}


def randomise(model: transformers.PreTrainedModel, seed: int) -> None:
    """Weights that bf16 holds exactly, sized so that every operation moves the logits and yet one token
    leads.

    The head leans towards a permutation of the embedding: with wholly random logits the first and second
    would lie closer together than any rounding, and which of them leads would say nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, weight in model.named_parameters():
        noise = torch.randn(weight.shape, generator=generator)
        if name.endswith("norm.weight"):
            values = 1 + 0.2 * noise
        elif name.endswith("bias"):
            values = 0.3 * noise
        elif weight.shape[0] == VOCABULARY:
            values = noise * (0.75 if model.config.tie_word_embeddings else 1.0)
        else:
            values = noise / weight.shape[1] ** 0.5
        weight.data = values.bfloat16().float()
    parameters = dict(model.named_parameters())
    if "lm_head.weight" in parameters:
        head = parameters["lm_head.weight"]
        leaning = parameters["model.embed_tokens.weight"].data[
            torch.randperm(VOCABULARY, generator=generator)
        ]
        head.data = (0.9 * leaning + 0.45 * head.data).bfloat16().float()


def make_tiny(name: str, config: transformers.PretrainedConfig) -> None:
    """A random checkpoint and its logits on random tokens, for the first seed that leaves no ties to chance."""
    for seed in range(1_000):
        logits = try_seed(name, config, seed)
        first, second = torch.topk(logits, 2).values.T
        closest = torch.sort(first - second).values / logits.std()
        if closest[1] > CLOSEST:
            print(
                f"{name}: seed {seed}, logits of std {logits.std():.2f}, closest rows {closest[:2].tolist()}"
            )
            return


def try_seed(name: str, config: transformers.PretrainedConfig, seed: int) -> torch.Tensor:
    """Write the checkpoint that this seed gives; its logits [T][V]."""
    folder = GOLDENS / name
    config._attn_implementation = "eager"
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    randomise(model, seed)
    model.to(torch.bfloat16).save_pretrained(folder)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    (folder / "generation_config.json").unlink(missing_ok=True)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (sum(LENGTHS),), generator=generator)
    with torch.no_grad():
        logits = torch.cat([model(part[None]).logits[0] for part in tokens.split(LENGTHS)])
    np.savez(
        folder / "golden.npz",
        tokens=tokens.numpy().astype(np.int32),
        row_start=np.cumsum((0, *LENGTHS)).astype(np.int32),
        logits=logits.numpy(),
    )
    return logits


def make_perplexity(gguf_file: Path) -> None:
    """The default model's perplexity on the evaluation text, in independent windows, float32 throughout."""
    where = {"pretrained_model_name_or_path": str(gguf_file.parent), "gguf_file": gguf_file.name}
    tokenizer = transformers.AutoTokenizer.from_pretrained(**where)
    model = transformers.AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32).eval()
    text = (GOLDENS / "perplexity.txt").read_text(encoding="utf-8")
    ids = np.array(tokenizer(text, add_special_tokens=False).input_ids, dtype=np.uint16)
    windows = ids[: NUM_WINDOWS * WINDOW_TOKENS].reshape(NUM_WINDOWS, WINDOW_TOKENS)
    surprise: list[float] = []
    for window in windows:
        tokens = torch.from_numpy(window.astype(np.int64))
        with torch.no_grad():
            logits = model(tokens[None]).logits[0, :-1]
        surprise.append(float(torch.nn.functional.cross_entropy(logits, tokens[1:])))
        print(f"window {len(surprise)}: {surprise[-1]:.6f}", flush=True)
    np.save(GOLDENS / "perplexity_tokens.npy", windows)
    result = {
        "source_sha256": hashlib.sha256(gguf_file.read_bytes()).hexdigest(),
        "window_tokens": WINDOW_TOKENS,
        "num_scored_tokens": NUM_WINDOWS * (WINDOW_TOKENS - 1),
        "window_cross_entropy": surprise,  # mean natural-log loss of each window's tokens after the first
        "perplexity": float(np.exp(np.mean(surprise))),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    (GOLDENS / "perplexity.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"perplexity {result['perplexity']:.6f}")


def main() -> None:
    """Read the command line and make what it asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("tiny")
    commands.add_parser("perplexity").add_argument("gguf_file", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "perplexity":
        make_perplexity(arguments.gguf_file)
        return
    for name, config in TINY.items():
        make_tiny(name, config)


if __name__ == "__main__":
    main()
