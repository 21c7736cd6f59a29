"""A Hugging Face folder's `tokenizer.json` and its companions → `TokenizerSpec`.

The library's file is kept as it is but for what would let plain text become a control token, or add one
unasked: special added tokens, their vocabulary entries and merges, and the post-processor are taken out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from hokku.chat.spec import ControlToken, Encoding, SpacePrefix, TokenizerSpec, looks_like_control, stop_ids
from hokku.protocol.errors import BadModelFile


def spec_from_hf(
    tokenizer_json: str,
    tokenizer_config: str = "{}",
    generation_config: str = "{}",
    chat_template: str | None = None,
) -> TokenizerSpec:
    """Build a spec from the texts of `tokenizer.json`, `tokenizer_config.json`, `generation_config.json`
    and, where the folder has one, `chat_template.jinja`.

    Raises:
        BadModelFile: broken JSON, or a tokenizer that is not BPE.
    """
    tokenizer = _object(tokenizer_json, "tokenizer.json")
    config = _object(tokenizer_config, "tokenizer_config.json")
    generation = _object(generation_config, "generation_config.json")
    try:
        return _spec(tokenizer, config, generation, chat_template)
    except (KeyError, TypeError, AttributeError, IndexError) as cause:
        raise BadModelFile(f"has an unexpected shape: {cause!r}", place="tokenizer.json") from cause


def _spec(
    tokenizer: dict[str, Any], config: dict[str, Any], generation: dict[str, Any], chat_template: str | None
) -> TokenizerSpec:
    if tokenizer["model"].get("type") != "BPE":
        raise BadModelFile("its model is not BPE, the only kind supported", place="tokenizer.json")
    bos, eos = _token_text(config.get("bos_token")), _token_text(config.get("eos_token"))
    control = _control_tokens(tokenizer["added_tokens"], {bos, eos})
    id_of = {token.text: token.id for token in control}
    generated_eos = generation.get("eos_token_id")
    named = generated_eos if isinstance(generated_eos, list) else [generated_eos]
    adds_bos = config.get("add_bos_token", _post_processor_adds(tokenizer.get("post_processor"), bos))
    _take_out(tokenizer, {token.text for token in control})
    space_prefix = _take_over_space_prefix(tokenizer)
    return TokenizerSpec(
        tokenizer_json=json.dumps(tokenizer, ensure_ascii=False),
        encoding=_encoding(tokenizer),
        control_tokens=control,
        bos_id=id_of.get(bos),
        eos_id=id_of.get(eos),
        stop_ids=stop_ids(control, [id_of.get(eos), *named]),
        add_bos=bool(adds_bos),
        space_prefix=space_prefix,
        chat_template=chat_template if chat_template is not None else _template(config.get("chat_template")),
    )


def _object(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as cause:
        raise BadModelFile(f"is not JSON: {cause}", place=place) from cause
    if not isinstance(value, dict):
        raise BadModelFile("is not a JSON object", place=place)
    return value


def _token_text(value: Any) -> str:
    """The text of a token that a config writes as a string or as an object; "" where there is none."""
    return str(value["content"]) if isinstance(value, dict) else str(value or "")


def _control_tokens(added: list[dict[str, Any]], by_role: set[str]) -> tuple[ControlToken, ...]:
    return tuple(
        ControlToken(token["content"], token["id"], bool(token.get("lstrip")), bool(token.get("rstrip")))
        for token in added
        if token.get("special") or token["content"] in by_role or looks_like_control(token["content"])
    )


def _post_processor_adds(post_processor: dict[str, Any] | None, bos: str) -> bool:
    return any(
        step["single"][0].get("SpecialToken", {}).get("id") == bos
        for step in _steps(post_processor, "processors")
        if step.get("type") == "TemplateProcessing"
    )


def _take_out(tokenizer: dict[str, Any], control: set[str]) -> None:
    """Remove every road from plain text to a control token."""
    model, added = tokenizer["model"], tokenizer["added_tokens"]
    tokenizer["added_tokens"] = [token for token in added if token["content"] not in control]
    tokenizer["post_processor"] = tokenizer["truncation"] = tokenizer["padding"] = None
    model["vocab"] = {text: token_id for text, token_id in model["vocab"].items() if text not in control}
    # The library numbers an added token that the vocabulary lacks by itself, past holes we have just made.
    model["vocab"] |= {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    model["merges"] = [merge for merge in model["merges"] if control.isdisjoint(_parts(merge))]
    if model.get("unk_token") in control:
        model["unk_token"] = None


def _parts(merge: str | list[str]) -> tuple[str, str, str]:
    left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
    return left, right, left + right


def _take_over_space_prefix(tokenizer: dict[str, Any]) -> SpacePrefix:
    """Say where SentencePiece's dummy space goes. "First" means the prompt's start, which only `Tokenizer`
    knows, so the library is told never to add it there."""
    for step in _steps(tokenizer.get("pre_tokenizer"), "pretokenizers"):
        if step.get("type") == "Metaspace":
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            if scheme == "first":
                step["prepend_scheme"] = "never"
                step.pop("add_prefix_space", None)
                return "first"
            return "each" if scheme == "always" else "never"
    normalizer = _steps(tokenizer.get("normalizer"), "normalizers")
    return "each" if any(step.get("type") == "Prepend" for step in normalizer) else "never"


def _encoding(tokenizer: dict[str, Any]) -> Encoding:
    kinds = {step.get("type") for step in _steps(tokenizer.get("decoder"), "decoders")}
    if "ByteLevel" in kinds:
        return "byte_level"
    if kinds & {"ByteFallback", "Metaspace"}:
        return "sentencepiece"
    raise BadModelFile("its decoder is neither byte-level nor SentencePiece", place="tokenizer.json")


def _steps(part: dict[str, Any] | None, sequence_key: str) -> Iterator[dict[str, Any]]:
    """The steps of a possibly nested `Sequence`."""
    if part is None:
        return
    nested: Iterable[dict[str, Any]] = part.get(sequence_key, ())
    if part.get("type") == "Sequence":
        for step in nested:
            yield from _steps(step, sequence_key)
    else:
        yield part


def _template(value: Any) -> str | None:
    """`chat_template` is a text, or a list of named ones of which "default" is for plain conversations."""
    if isinstance(value, list):
        return next((str(entry["template"]) for entry in value if entry["name"] == "default"), None)
    return None if value is None else str(value)
