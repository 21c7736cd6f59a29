"""Families' templates: which format is chosen, what the model is shown, and what it may then say."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from hokku.chat.codec import Codec
from hokku.chat.template import CHATML
from hokku.grammar.compiler import GrammarRefused
from hokku.protocol.engine import TokenConstraint
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import CallEnd, CallInput, CallStart
from hokku.protocol.messages import (
    ChoiceKind,
    Conversation,
    TextPart,
    Tool,
    ToolChoice,
    ToolResultPart,
    ToolUsePart,
    Turn,
)
from tests.chat.house import byte_level_spec, conversation, sentencepiece_spec, shown, with_control
from tests.chat.test_codec import MISTRAL

# Templates in the manner of each family, as short as they can be.
CHATML_TOOLS = """\
{%- if tools %}<|im_start|>system
{% for tool in tools %}{{ tool | tojson }}
{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}
{% if m.role == 'tool' %}<tool_response>
{{ m.content }}
</tool_response>{% else %}{{ m.content }}{% endif %}
{%- for call in m.tool_calls or [] %}{{ '\\n' if m.content or not loop.first }}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LLAMA_TOOLS = """\
{% for m in messages %}<|im_start|>{{ 'ipython' if m.role == 'tool' else m.role }}

{% if m.tool_calls %}{% if m.tool_calls | length != 1 %}{{ raise_exception('only one call at once') }}{% endif -%}
{"name": "{{ m.tool_calls[0].function.name }}", "parameters": {{ m.tool_calls[0].function.arguments | tojson }}}
{%- else %}{% if loop.first and tools %}{% for tool in tools %}{{ tool | tojson }}
{% endfor %}{% endif %}{{ m.content }}{% endif %}<|im_end|>{% endfor %}<|im_start|>assistant

"""
MISTRAL_TOOLS = """\
{% set n = namespace(user=false) %}{% for m in messages %}
{% if m.role == 'user' %}{% if n.user %}{{ raise_exception('roles must alternate') }}{% endif %}{% set n.user = true %}
{% if tools %}[AVAILABLE_TOOLS]{{ tools | tojson }}{% endif %}[INST]{{ m.content }}[/INST]
{% elif m.role == 'tool' %}[TOOL_RESULTS]{"content": {{ m.content | tojson }}, "call_id": "{{ m.tool_call_id }}"}
{% elif m.tool_calls %}{% set n.user = false %}[TOOL_CALLS][{% for call in m.tool_calls %}
{% if call.id | length != 9 %}{{ raise_exception('ids have nine characters') }}{% endif %}
{{ ', ' if not loop.first }}{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}\
, "id": "{{ call.id }}"}{% endfor %}]
{% else %}{% set n.user = false %}{{ m.content }}{% endif %}{% endfor %}""".replace("%}\n", "%}").replace(
    ")}\n", ")}"
)

NUMBER = Tool(
    "number",
    "Takes a number.",
    {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False},
)
OTHER = replace(NUMBER, name="other")
CALLS = (
    ToolUsePart("toolu_1", "number", {"n": 7}),
    ToolUsePart("toolu_2", "other", {"n": 7, "ü": "<|im_end|>"}),
)
RESULTS = (
    ToolResultPart("toolu_1", (TextPart("seven"),)),
    ToolResultPart("toolu_2", (TextPart("broken <|im_end|>"),), is_error=True),
)


def codec(template: str) -> Codec:
    spec = byte_level_spec(template=template)
    return Codec.from_spec(with_control(spec, "[TOOL_CALLS]") if "[TOOL_CALLS]" in template else spec)


TEMPLATES = {"hermes": CHATML_TOOLS, "llama3": LLAMA_TOOLS, "mistral": MISTRAL_TOOLS, "plain": CHATML}


def talk(kind: ChoiceKind = "auto", name: str | None = None, *, is_parallel: bool = True) -> Conversation:
    """A conversation with tools, before any call."""
    return replace(conversation("Hi"), tools=(NUMBER, OTHER), tool_choice=ToolChoice(kind, name, is_parallel))


def after_calls(*more: TextPart) -> Conversation:
    turns = (
        Turn("user", (TextPart("Hi"),)),
        Turn("assistant", (TextPart("Well."), *CALLS)),
        Turn("user", (*RESULTS, *more)),
    )
    return replace(talk(), turns=turns)


def prompt(template: str, said: Conversation) -> str:
    made = codec(template)
    return shown(made.tokenizer, made.encode(said).token_ids)


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_format_is_the_one_that_the_template_writes(name: str) -> None:
    assert codec(TEMPLATES[name]).tool_format.name == name


@pytest.mark.parametrize(
    "template",
    [
        CHATML + "{# tools #}",
        CHATML_TOOLS.replace("<tool_call>", "<call>"),
        CHATML_TOOLS.replace("{{ tool | tojson }}", ""),
        CHATML_TOOLS.replace("</tool_response>{% else", "</tool_response>{{ nothing.at.all }}{% else"),
    ],
)
def test_a_template_that_falls_short_is_not_asked_about_tools(template: str) -> None:
    assert codec(template).tool_format.name == "plain"
    assert '"number"' in prompt(template, talk())


@pytest.mark.parametrize("name", TEMPLATES)
def test_tools_calls_and_results_are_shown(name: str) -> None:
    text = prompt(TEMPLATES[name], after_calls(TextPart("Go on.")))
    for piece in ['"name": "number"', "Takes a number.", "seven", "Error: broken <|im_end|>", "Go on."]:
        assert piece in text
    between = codec(TEMPLATES[name]).tool_format.syntax.between
    assert f'"name": "other{between}{{"n": 7, "ü": "<|im_end|>"}}' in text
    assert text.index('{"n": 7}') < text.index("seven") < text.index("Go on.")


@pytest.mark.parametrize("name", TEMPLATES)
def test_nothing_that_people_wrote_is_a_control_token(name: str) -> None:
    made = codec(TEMPLATES[name])
    marker = "<|im_end|>"
    tool = replace(
        NUMBER,
        name="x",
        description=marker,
        input_schema={"type": "object", "properties": {marker: {"enum": [marker]}}},
    )
    spoken = replace(after_calls(TextPart(marker)), tools=(NUMBER, OTHER, tool))
    plain = replace(
        after_calls(TextPart("m")),
        tools=(NUMBER, OTHER, replace(tool, description="m", input_schema={"type": "object"})),
    )
    end = made.tokenizer.control_id(marker)
    assert made.encode(spoken).token_ids.count(end or -1) == made.encode(plain).token_ids.count(end or -1)
    assert prompt(TEMPLATES[name], spoken).count(marker) >= 5


def test_without_a_template_for_them_tools_come_before_the_system_prompt() -> None:
    text = prompt(CHATML, replace(talk(), system=(TextPart("Be brief."),)))
    assert text.index("Takes a number.") < text.index("Be brief.") < text.index("Hi")


def test_calls_that_a_template_takes_one_at_a_time_are_each_followed_by_their_result() -> None:
    text = prompt(LLAMA_TOOLS, after_calls())
    assert (
        text.index('"parameters": {"n": 7}') < text.index("seven") < text.index('"ü"') < text.index("broken")
    )


def test_ids_and_turns_are_as_the_template_wants_them() -> None:
    assert prompt(MISTRAL_TOOLS, after_calls(TextPart("Go on."))).count("[INST]") == 1


@pytest.mark.parametrize("name", TEMPLATES)
def test_no_tools_are_shown_with_none(name: str) -> None:
    assert prompt(TEMPLATES[name], talk("none")) == prompt(TEMPLATES[name], conversation("Hi"))
    assert codec(TEMPLATES[name]).constraint(talk("none")) is None


def generated(made: Codec, constraint: TokenConstraint, said: str = "") -> list[object]:
    """What a reply is read as whose tokens are forced, and else the first of `said` and what is allowed."""
    decoder = made.decoder(tool_names=["number", "other"])
    wanted = made.tokenizer.encode(said)
    pieces: list[object] = []
    for _ in range(200):
        tokens = list(constraint.forced())
        if tokens and tokens[0] in made.stop_token_ids:
            return [*pieces, *decoder.finish()]
        if not tokens:
            mask = constraint.allowed()
            ids = [t for t in range(made.tokenizer.num_tokens) if int(mask[t // 32]) >> t % 32 & 1]
            ends = [token for token in ids if token in made.stop_token_ids]
            if not wanted and ends:
                return [*pieces, *decoder.finish()]
            tokens = [wanted.pop(0)] if wanted else [ids[0]]
        constraint.advance(tokens)
        pieces += decoder.feed(tokens)
    raise AssertionError("it does not end")


def calls_in(pieces: list[object]) -> list[tuple[str, Any]]:
    """Names and inputs of the calls among pieces."""
    calls: list[tuple[str, str]] = []
    for piece in pieces:
        match piece:
            case CallStart(name=name):
                calls.append((name, ""))
            case CallInput(json=text):
                calls[-1] = (calls[-1][0], calls[-1][1] + text)
    assert len([piece for piece in pieces if isinstance(piece, CallEnd)]) == len(calls)
    return [(name, json.loads(text)) for name, text in calls]


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_forced_call_is_one(name: str) -> None:
    made = codec(TEMPLATES[name])
    forced = made.constraint(talk("tool", "other", is_parallel=False))
    assert forced is not None
    pieces = generated(made, forced)
    assert calls_in(pieces) == [("other", {"n": 7})]
    assert not [piece for piece in pieces if isinstance(piece, str)]
    any_of_them = made.constraint(talk("any", is_parallel=False))
    assert any_of_them is not None
    assert calls_in(generated(made, any_of_them)) in ([("other", {"n": 7})], [("number", {"n": 7})])


@pytest.mark.parametrize("name", ["hermes", "mistral", "plain"])
def test_several_calls_may_follow_each_other(name: str) -> None:
    made = codec(TEMPLATES[name])
    syntax = made.tool_format.syntax
    constraint = made.constraint(talk("tool", "number"))
    assert constraint is not None
    said = made.tokenizer.encode(str(syntax.separator)[:1])
    constraint.advance(constraint.forced())
    mask = constraint.allowed()
    assert int(mask[said[0] // 32]) >> said[0] % 32 & 1


@pytest.mark.parametrize("name", ["hermes", "plain"])
@pytest.mark.parametrize(
    "said", ["Let me see.\n<tool_call>", "<tool_call>", "a <tool_box> <tool_call>", "<tool_call>\n{"]
)
def test_a_call_that_begins_is_held_to_its_schema(name: str, said: str) -> None:
    made = codec(TEMPLATES[name])
    constraint = made.constraint(talk(is_parallel=False))
    assert constraint is not None
    for token in made.tokenizer.encode(said):
        constraint.advance([token])
    decoder = made.decoder(tool_names=["number", "other"])
    pieces: list[object] = list(decoder.feed(made.tokenizer.encode(said)))
    rest = generated_tokens(made, constraint)
    pieces += [*decoder.feed(rest), *decoder.finish()]
    assert [call["n"] for _, call in calls_in(pieces)] == [7]


def generated_tokens(made: Codec, constraint: TokenConstraint) -> list[int]:
    tokens: list[int] = []
    for _ in range(100):
        forced = list(constraint.forced())
        if forced and forced[0] in made.stop_token_ids:
            return tokens
        if not forced:
            mask = constraint.allowed()
            forced = [next(t for t in range(made.tokenizer.num_tokens) if int(mask[t // 32]) >> t % 32 & 1)]
        constraint.advance(forced)
        tokens += forced
    raise AssertionError("it does not end")


def test_a_control_token_begins_a_call_and_its_letters_are_plain_text() -> None:
    made = codec(MISTRAL_TOOLS)
    mark = made.tokenizer.control_id("[TOOL_CALLS]")
    assert mark is not None
    constraint = made.constraint(talk(is_parallel=False))
    assert constraint is not None
    constraint.advance([*made.tokenizer.encode("So "), mark])
    assert made.tokenizer.decode(list(constraint.forced())).startswith('[{"name": "')


@pytest.mark.parametrize("said", ["So: ", "x" + LLAMA_TOOLS[:0]])
def test_a_bare_object_later_in_the_reply_is_not_held_to_anything(said: str) -> None:
    made = codec(LLAMA_TOOLS)
    constraint = made.constraint(talk())
    assert constraint is not None
    constraint.advance(made.tokenizer.encode(said + '{"name": "'))
    assert list(constraint.forced()) == []
    first = made.constraint(talk())
    assert first is not None
    first.advance(made.tokenizer.encode('{"name": "n'))
    assert made.tokenizer.decode(list(first.forced())).startswith('umber", "parameters": {"n": ')


def test_with_an_output_schema_the_reply_is_the_document_or_a_call() -> None:
    made = codec(CHATML)
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}},
        "required": ["a"],
        "additionalProperties": False,
    }
    for said, expected in [("{", '{"a": 1}'), ("<", None)]:
        constraint = made.constraint(replace(talk(), output_schema=schema))
        assert constraint is not None
        constraint.advance(made.tokenizer.encode(said))
        rest = made.tokenizer.decode(generated_tokens(made, constraint))
        assert said + rest == expected or (said + rest).startswith("<tool_call>")
        with pytest.raises(GrammarRefused):
            constraint.advance(made.tokenizer.encode("x"))


def test_the_schema_of_the_output_is_shown() -> None:
    schema = {"enum": ["<|im_end|>"]}
    assert json.dumps(schema) in prompt(CHATML, replace(conversation("Hi"), output_schema=schema))


@pytest.mark.parametrize(
    ("choice", "strict", "place"),
    [("any", False, "properties.n.not"), ("auto", True, "properties.n.not"), ("auto", False, None)],
)
def test_what_was_promised_must_be_sayable(choice: ChoiceKind, strict: bool, place: str | None) -> None:
    schema = {"type": "object", "properties": {"n": {"not": {"const": 1}}}}
    said = replace(talk(choice), tools=(NUMBER, replace(OTHER, input_schema=schema, is_strict=strict)))
    if place is None:
        assert codec(CHATML).constraint(said) is not None
        return
    with pytest.raises(InvalidRequest) as refusal:
        codec(CHATML).constraint(said)
    assert refusal.value.place == f"tools.1.custom.input_schema.{place}"


@pytest.mark.parametrize("choice", ["auto", "any"])
def test_a_schema_that_cannot_be_compiled_is_refused_with_its_place(choice: ChoiceKind) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "string", "pattern": "("}}}
    said = replace(talk(choice), tools=(NUMBER, replace(OTHER, input_schema=schema)))
    with pytest.raises(InvalidRequest, match="cannot be met") as refusal:
        codec(CHATML).constraint(said)
    assert refusal.value.place == "tools.1.custom.input_schema"


def test_a_schema_of_the_output_that_cannot_be_compiled_is_refused_with_its_place() -> None:
    with pytest.raises(InvalidRequest, match="cannot be met") as refusal:
        codec(CHATML).constraint(
            replace(conversation("Hi"), output_schema={"type": "string", "pattern": "("})
        )
    assert refusal.value.place == "output_config.format.schema"


@pytest.mark.parametrize("choice", ["auto", "any"])
def test_sentencepiece_s_dummy_spaces_are_no_part_of_a_call(choice: ChoiceKind) -> None:
    made = Codec.from_spec(sentencepiece_spec(MISTRAL))
    constraint = made.constraint(talk(choice, is_parallel=False))
    assert constraint is not None
    said = made.tokenizer.encode("<tool_call>") if choice == "auto" else []
    constraint.advance(said)
    decoder = made.decoder(tool_names=["number", "other"], is_forced=choice == "any")
    pieces: list[object] = [*decoder.feed(said), *decoder.feed(generated_tokens(made, constraint))]
    assert [call["n"] for _, call in calls_in(pieces)] == [7]
