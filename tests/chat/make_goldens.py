"""Makes the golden token ids of this folder from other people's tokenizers: llama.cpp and SentencePiece.

Run by hand in a throw-away environment that has `xllamacpp`, `sentencepiece`, `tokenizers` and `gguf`:

    python tests/chat/make_goldens.py [SmolLM2-135M-Instruct.Q4_1.gguf]

The vocabularies are trained here on `goldens/strings.json`, a few hundred tokens each, so that the tests need no model.
"""

from __future__ import annotations

import importlib
import json
import sys
import tempfile
import unicodedata
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

GOLDENS = Path(__file__).parent / "goldens"
PRE_TOKENIZERS = ("smollm", "gpt-2", "default", "llama-bpe", "qwen2", "tekken")
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def main() -> None:
    """Write every golden file."""
    strings: list[str] = json.loads((GOLDENS / "strings.json").read_text())
    write("sentencepiece.json", sentencepiece_goldens(strings))
    write("byte_level.json", byte_level_goldens(strings))
    for smollm2 in sys.argv[1:]:
        write("smollm2.json", llama_cpp_ids(Path(smollm2), strings))


def write(name: str, value: Any) -> None:
    """A golden file: compact, and in ASCII so that no editor changes a character."""
    (GOLDENS / name).write_text(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")


def sentencepiece_goldens(strings: Sequence[str]) -> dict[str, Any]:
    """A small SentencePiece vocabulary as GGUF metadata, and the ids SentencePiece itself gives."""
    library = importlib.import_module("sentencepiece")
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder, "corpus.txt")
        corpus.write_text("\n".join(string.replace("\n", " ") for string in strings))
        library.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=f"{folder}/tiny", vocab_size=480, model_type="bpe", byte_fallback=True,
            character_coverage=0.985, normalization_rule_name="identity", remove_extra_whitespaces=False,
            split_digits=True, allow_whitespace_only_pieces=True, user_defined_symbols=["<tool>"],
            control_symbols=["[INST]", "[/INST]"], minloglevel=2,
        )  # fmt: skip
        model = library.SentencePieceProcessor(model_file=f"{folder}/tiny.model")
    ids = range(len(model))
    metadata = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in ids],
        "tokenizer.ggml.scores": [model.get_score(i) for i in ids],
        "tokenizer.ggml.token_type": [piece_type(model, i) for i in ids],
        "tokenizer.ggml.bos_token_id": model.bos_id(),
        "tokenizer.ggml.eos_token_id": model.eos_id(),
        "tokenizer.ggml.unknown_token_id": model.unk_id(),
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_space_prefix": True,
    }
    return {"metadata": metadata, "ids": [model.encode(string) for string in strings]}


def piece_type(model: Any, piece: int) -> int:
    """GGUF's number for a SentencePiece piece's kind."""
    if model.id_to_piece(piece) == "<tool>":
        return 4
    kinds = (model.is_unknown, 2), (model.is_control, 3), (model.is_unused, 5), (model.is_byte, 6)
    return next((number for is_kind, number in kinds if is_kind(piece)), 1)


def byte_level_goldens(strings: Sequence[str]) -> dict[str, Any]:
    """A small byte-level vocabulary as GGUF metadata, and for each pre-tokenizer the ids llama.cpp gives.

    `null` where llama.cpp departs from the models' own files: it applies no NFC for Qwen2, and its expression for
    Tekken knows the case of ASCII letters only, and no combining marks.
    """
    library = importlib.import_module("tokenizers")
    trainer = library.trainers.BpeTrainer(
        vocab_size=520, initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer = library.Tokenizer(library.models.BPE())
    tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.train_from_iterator(strings, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [*CONTROL, *sorted(model["vocab"], key=model["vocab"].get), "<tool>"]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [3] * len(CONTROL) + [1] * len(model["vocab"]) + [4],
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.add_bos_token": False,
    }
    return {"metadata": metadata, "ids": {pre: ids_under(metadata, pre, strings) for pre in PRE_TOKENIZERS}}


def ids_under(metadata: dict[str, Any], pre: str, strings: Sequence[str]) -> list[list[int] | None]:
    """llama.cpp's ids with one pre-tokenizer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "tiny.gguf")
        write_tiny_model(path, metadata | {"tokenizer.ggml.pre": pre})
        ids = llama_cpp_ids(path, strings)
    return [None if departs(pre, string) else row for string, row in zip(strings, ids, strict=True)]


def departs(pre: str, string: str) -> bool:
    """Whether llama.cpp is known to differ from the model's own tokenizer here."""
    if pre == "qwen2":
        return unicodedata.normalize("NFC", string) != string
    foreign = {unicodedata.category(character) for character in string if not character.isascii()}
    return pre == "tekken" and not foreign.isdisjoint({"Lu", "Ll", "Lt", "Mn", "Mc", "Me"})


def write_tiny_model(path: Path, metadata: dict[str, Any]) -> None:
    """A one-layer model around a vocabulary: llama.cpp opens no vocabulary alone."""
    gguf, numpy = importlib.import_module("gguf"), importlib.import_module("numpy")
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in {
        "context_length": 64, "embedding_length": 32, "block_count": 1, "feed_forward_length": 32,
        "attention.head_count": 1, "attention.head_count_kv": 1,
    }.items():  # fmt: skip
        writer.add_uint32(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    for key, value in metadata.items():
        add = {str: writer.add_string, bool: writer.add_bool, int: writer.add_uint32, list: writer.add_array}
        add[type(value)](key, value)
    square = {f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
    square |= {f"blk.0.{name}.weight" for name in ("ffn_gate", "ffn_up", "ffn_down")}
    for name in sorted(square):
        writer.add_tensor(name, numpy.zeros((32, 32), numpy.float32))
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, numpy.ones(32, numpy.float32))
    writer.add_tensor(
        "token_embd.weight", numpy.zeros((len(metadata["tokenizer.ggml.tokens"]), 32), numpy.float32)
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def llama_cpp_ids(path: Path, strings: Sequence[str]) -> list[list[int]]:
    """The ids llama.cpp gives for plain text, asked through its own server on loopback."""
    library = importlib.import_module("xllamacpp")
    parameters = library.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_gpu_layers, parameters.warmup = 64, 0, False
    server = library.Server(parameters)
    return [ask(server.listening_address, string) for string in strings]


def ask(address: str, string: str) -> list[int]:
    """One call of `/tokenize`."""
    body = json.dumps({"content": string, "add_special": False, "parse_special": False}).encode()
    request = urllib.request.Request(f"{address}/tokenize", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        tokens: list[int] = json.load(answer)["tokens"]
    return tokens


if __name__ == "__main__":
    main()
