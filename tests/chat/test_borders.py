"""Where blocks end in a prompt: exact to the token, and without any effect on the prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.chat.codec import Codec
from hokku.protocol.messages import Conversation, Part, TextPart, Tool, ToolResultPart, ToolUsePart, Turn
from tests.chat.house import byte_level_spec, codec, conversation, sentencepiece_spec, shown, with_control
from tests.chat.test_codec import LLAMA3, MISTRAL, QWEN3, SMOLLM2
from tests.chat.test_tokenizer import text_about_control

MARKS = ["\udff0", "\udffe", "\udffe\udff1\udffe", "\udfff"]
PUT_SYSTEM_LAST = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{% if loop.last %}{{ messages[0].content }}\n"
    "{% endif %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
)


def llama3() -> Codec:
    spec = byte_level_spec("llama-bpe", LLAMA3)
    return Codec.from_spec(
        replace(with_control(spec, "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"), add_bos=True)
    )


CODECS = {
    "smollm2": codec(SMOLLM2),
    "qwen3": codec(QWEN3),
    "llama3": llama3(),
    "mistral": Codec.from_spec(replace(sentencepiece_spec(), chat_template=MISTRAL)),
}


def marked(shown: Conversation) -> Conversation:
    """With a breakpoint on everything."""
    tools = tuple(replace(tool, cache_secs=300) for tool in shown.tools)
    system = tuple(replace(part, cache_secs=300) for part in shown.system)
    turns = tuple(
        replace(turn, parts=tuple(replace(part, cache_secs=300) for part in turn.parts))
        for turn in shown.turns
    )
    return replace(shown, tools=tools, system=system, turns=turns)


def prefixes(codec: Codec, shown_to_model: Conversation) -> list[str]:
    """What the model has read at the end of each block."""
    encoded = codec.encode(marked(shown_to_model))
    ends = [block.num_tokens for block in encoded.blocks]
    return [shown(codec.tokenizer, encoded.token_ids[:end]) for end in ends]


def test_blocks_end_where_their_text_does() -> None:
    parts = (TextPart("How are you?"), TextPart("Say."))
    asked = Conversation((TextPart("Be brief."),), (Turn("user", parts),))
    head = "<|im_start|>system\nBe brief."
    user = f"{head}<|im_end|>\n<|im_start|>user\nHow are you"
    first, second, third = prefixes(CODECS["smollm2"], asked)
    assert first == head
    assert second.startswith(user)  # the question mark may be one token with the paragraph break
    assert third == f"{user}?\n\nSay."


def test_nothing_is_looked_for_where_nothing_is_marked() -> None:
    assert CODECS["smollm2"].encode(conversation("Hi")).blocks == ()
    [block] = CODECS["smollm2"].encode(Conversation((), (Turn("user", (TextPart("Hi", 3600),)),))).blocks
    assert block.lifetime_secs == 3600


def test_white_space_at_the_end_of_a_block_is_outside() -> None:
    assert prefixes(CODECS["llama3"], conversation("Hi  \n"))[0].endswith("Hi")
    assert prefixes(CODECS["smollm2"], conversation("Hi  \n"))[0].endswith("Hi")


def test_a_template_may_put_the_system_prompt_elsewhere() -> None:
    encoded = prefixes(codec(PUT_SYSTEM_LAST), conversation("One", "two", "Three", system="Be brief."))
    assert [prefix.split(">")[-1] for prefix in encoded] == ["Be brief.", "One", "two", "Be brief.\nThree"]


def test_a_template_that_counts_characters_gives_no_borders() -> None:
    counting = codec("{% for m in messages %}{{ m.content|length }}{{ m.content }}{% endfor %}")
    assert counting.encode(marked(conversation("Hi"))).blocks == ()


def test_the_blocks_of_tools() -> None:
    tools = (Tool("look", "Looks.", {"type": "object"}), Tool("hear", "Hears.", {"type": "object"}))
    parts: tuple[Part, ...] = (TextPart("I look."), ToolUsePart("t1", "look", {}))
    asked = Conversation(
        (TextPart("Be brief."),),
        (
            Turn("user", (TextPart("See?"),)),
            Turn("assistant", parts),
            Turn("user", (ToolResultPart("t1", (TextPart("a cat"),)),)),
        ),
        tools,
    )
    one, two, system, question, said, call, result = prefixes(CODECS["smollm2"], asked)
    assert one == two == system
    assert system.endswith("<|im_start|>user\n")
    assert '"hear"' in system
    assert question == f"{system}See?"
    assert said == call
    assert said.endswith("I look.")
    assert result.endswith("<tool_response>\na cat")


texts = st.one_of(
    st.text(min_size=1, max_size=30), text_about_control, st.sampled_from(MARKS), st.just(" \n")
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    def parts() -> tuple[TextPart, ...]:
        return tuple(map(TextPart, draw(st.lists(texts, min_size=1, max_size=3))))

    turns = tuple(
        Turn("assistant" if index % 2 else "user", parts()) for index in range(draw(st.integers(1, 4)))
    )
    system = parts() if draw(st.booleans()) else ()
    return Conversation(system, turns)


@pytest.mark.parametrize("name", CODECS)
@settings(deadline=None)
@given(data=st.data())
def test_marks_change_no_token_and_borders_are_those_of_the_prefix(name: str, data: st.DataObject) -> None:
    asked = data.draw(conversations())
    encoded = CODECS[name].encode(marked(asked))
    assert encoded.token_ids == CODECS[name].encode(asked).token_ids
    assert CODECS[name].count(marked(asked)) == len(encoded.token_ids)
    blocks = [block.num_tokens for block in encoded.blocks]
    if blocks:  # a text may move the template
        assert len(blocks) == len(asked.system) + sum(len(turn.parts) for turn in asked.turns)
        assert all(0 <= block <= len(encoded.token_ids) for block in blocks)
        assert blocks == sorted(blocks)
        # The border does not depend on what follows: another turn behind it leaves it where it is.
        if asked.turns[-1].role == "user":
            longer = replace(
                asked,
                turns=(*asked.turns, Turn("assistant", (TextPart("x"),)), Turn("user", (TextPart("y"),))),
            )
            again = CODECS[name].encode(marked(longer))
            if again.token_ids[: blocks[-1]] == encoded.token_ids[: blocks[-1]]:
                assert [block.num_tokens for block in again.blocks[: len(blocks)]] == blocks
