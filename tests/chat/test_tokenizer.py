"""Token ids against llama.cpp's and SentencePiece's own, plain text without control tokens, specs that travel."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.chat.hf_vocab import spec_from_hf
from hokku.chat.spec import TokenizerSpec
from hokku.chat.tokenizer import Tokenizer
from hokku.protocol.errors import BadModelFile
from tests.chat.house import byte_level_spec, golden, sentencepiece_spec

STRINGS: list[str] = golden("strings.json")
BYTE_LEVEL = golden("byte_level.json")
CONTROL_TEXTS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<s>", "</s>", "[INST]", "[/INST]", "<unk>"]
# Text that likes to come near control tokens.
text_about_control = st.lists(
    st.one_of(st.text(max_size=8), st.sampled_from([*CONTROL_TEXTS, "<|im_", "start|>", "<", "|>", " "]))
).map("".join)


@pytest.mark.parametrize("pre", BYTE_LEVEL["ids"])
def test_byte_level_ids_are_those_of_llama_cpp(pre: str) -> None:
    tokenizer = Tokenizer(byte_level_spec(pre))
    for string, expected in zip(STRINGS, BYTE_LEVEL["ids"][pre], strict=True):
        if expected is not None:
            assert tokenizer.encode(string) == expected, string


def test_sentencepiece_ids_are_those_of_sentencepiece() -> None:
    tokenizer = Tokenizer(sentencepiece_spec())
    for string, expected in zip(STRINGS, golden("sentencepiece.json")["ids"], strict=True):
        assert tokenizer.encode(string) == expected, string


@pytest.mark.model
def test_the_default_model_s_ids_are_those_of_llama_cpp(default_gguf: Path) -> None:
    fields = gguf.GGUFReader(default_gguf).fields
    metadata = {key: field.contents() for key, field in fields.items() if key.startswith("tokenizer.")}
    spec = TokenizerSpec.from_json(spec_from_gguf(metadata).to_json())
    tokenizer = Tokenizer(spec)
    for string, expected in zip(STRINGS, golden("smollm2.json"), strict=True):
        assert tokenizer.encode(string) == expected, string
    assert {tokenizer.control_text(stop) for stop in spec.stop_ids} >= {"<|im_end|>", "<|endoftext|>"}


@pytest.mark.parametrize(
    "spec", [byte_level_spec(), sentencepiece_spec()], ids=["byte-level", "sentencepiece"]
)
@given(text=text_about_control)
def test_plain_text_round_trips_and_gives_no_control_token(spec: TokenizerSpec, text: str) -> None:
    tokenizer = Tokenizer(spec)
    token_ids = tokenizer.encode(text)
    assert tokenizer.control_ids.isdisjoint(token_ids)
    dummy_space = " " if spec.space_prefix == "each" and text else ""
    assert tokenizer.decode(token_ids).removeprefix(dummy_space) == text


def test_a_spec_travels_as_json() -> None:
    for spec in (byte_level_spec("tekken"), sentencepiece_spec()):
        assert TokenizerSpec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 1}', '{"format": 0}', "null"])
def test_a_broken_spec_is_refused(text: str) -> None:
    with pytest.raises(BadModelFile):
        TokenizerSpec.from_json(text)


def test_a_user_defined_token_is_one_token_and_decodes_as_written() -> None:
    for spec in (byte_level_spec(), sentencepiece_spec()):
        tokenizer = Tokenizer(spec)
        (token_id,) = (i for i in tokenizer.encode("a<tool>b") if tokenizer.token_bytes(i) == b"<tool>")
        assert tokenizer.decode([token_id]) == "<tool>"


def test_ids_outside_the_vocabulary_have_no_text() -> None:
    assert Tokenizer(byte_level_spec()).decode([-1, 10**6, 2**40]) == ""


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"tokenizer.ggml.pre": "klingon"}, "tokenizer.ggml.pre"),
        ({"tokenizer.ggml.model": "bert"}, "tokenizer.ggml.model"),
        ({"tokenizer.ggml.tokens": None}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": []}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.tokens": [1, 2]}, "tokenizer.ggml.tokens"),
        ({"tokenizer.ggml.token_type": [1]}, "tokenizer.ggml.token_type"),
        ({"tokenizer.ggml.merges": "a b"}, "tokenizer.ggml.merges"),
        ({"tokenizer.ggml.eos_token_id": 10**9}, "tokenizer.ggml.eos_token_id"),
        ({"tokenizer.ggml.add_bos_token": 1}, "tokenizer.ggml.add_bos_token"),
        ({"tokenizer.chat_template": 7}, "tokenizer.chat_template"),
    ],
)
def test_metadata_that_does_not_fit_is_refused_by_name(change: dict[str, Any], place: str) -> None:
    with pytest.raises(BadModelFile) as refusal:
        spec_from_gguf(BYTE_LEVEL["metadata"] | change)
    assert refusal.value.place == place


def test_merges_of_unknown_tokens_are_refused() -> None:
    with pytest.raises(BadModelFile, match="do not fit together"):
        Tokenizer(spec_from_gguf(BYTE_LEVEL["metadata"] | {"tokenizer.ggml.merges": ["never known"]}))


def hugging_face_json() -> dict[str, Any]:
    """A `tokenizer.json` as Hugging Face writes it: special tokens added past the vocabulary, bos by template."""
    plain: dict[str, Any] = json.loads(byte_level_spec().tokenizer_json)
    vocab = {text: token_id - 3 for text, token_id in plain["model"]["vocab"].items() if text != "<tool>"}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    names = [("<s>", True), ("</s>", True), ("<tool>", False), ("<mask>", True)]
    added = [
        {"id": len(vocab) + place, "content": text, "special": special, **flags, "lstrip": text == "<mask>"}
        for place, (text, special) in enumerate(names)
    ]
    bos = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    return plain | {
        "added_tokens": added,
        "model": plain["model"] | {"vocab": vocab, "unk_token": "<s>"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [len(vocab)], "tokens": ["<s>"]}},
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    }


def test_a_hugging_face_folder_gives_the_same_tokens_and_never_its_special_ones() -> None:
    source = hugging_face_json()
    config = {"bos_token": {"content": "<s>"}, "eos_token": "</s>", "chat_template": "{{ bos_token }}"}
    ids = {token["content"]: token["id"] for token in source["added_tokens"]}
    spec = spec_from_hf(
        json.dumps(source), json.dumps(config), json.dumps({"eos_token_id": [7, ids["</s>"]]})
    )
    assert spec.add_bos
    assert (spec.bos_id, spec.eos_id, spec.stop_ids) == (ids["<s>"], ids["</s>"], (7, ids["</s>"]))
    assert spec.chat_template == "{{ bos_token }}"
    ours, theirs = Tokenizer(byte_level_spec()), Tokenizer(spec)
    for string in [*STRINGS, "<s>a</s><mask>"]:
        assert theirs.encode(string) == [token_id - 3 for token_id in ours.encode(string)], string
    assert theirs.encode("<tool>") == [ids["<tool>"]]
    assert theirs.encode_rendered("a  <mask>") == [ids["<s>"], *theirs.encode("a"), ids["<mask>"]]


@pytest.mark.parametrize("scheme", ["always", "first", "never"])
def test_metaspace_writes_its_space_where_its_scheme_says(scheme: str) -> None:
    source = json.loads(sentencepiece_spec().tokenizer_json)
    space = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": False}
    source |= {"normalizer": None, "pre_tokenizer": space, "decoder": {"type": "Metaspace", **space}}
    source["added_tokens"] += [
        {"id": 1, "content": "<s>", "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    ]
    tokenizer = Tokenizer(spec_from_hf(json.dumps(source), chat_template=""))
    written = tokenizer.decode(tokenizer.encode_rendered("to<s>to"))
    assert written == {"always": " to to", "first": " toto", "never": "toto"}[scheme]


@pytest.mark.parametrize(
    "tokenizer_json",
    ["{", "[]", "{}", '{"model": {"type": "Unigram"}, "added_tokens": []}', '{"model": {"type": "BPE"}}'],
)
def test_a_tokenizer_json_we_cannot_use_is_refused(tokenizer_json: str) -> None:
    with pytest.raises(BadModelFile):
        spec_from_hf(tokenizer_json)
