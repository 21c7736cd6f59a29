"""Pictures in prompts: where they stand, how each family writes them, and that nobody's text can pass for one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hokku.chat.codec import Codec, EncodedPrompt
from hokku.chat.pictures import MOST_PICTURES, with_rows
from hokku.chat.template import CHATML
from hokku.chat.tokenizer import TILE_ID
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import (
    ContentBlocks,
    Conversation,
    DocumentPart,
    ImagePart,
    InlineFile,
    Part,
    PdfFile,
    TextPart,
    Tool,
    ToolResultPart,
    ToolUsePart,
    Turn,
)
from hokku.protocol.pictures import Picture, Tile, Tiling, TilingKind
from tests.chat.house import byte_level_spec, shown, with_control

ROWS = 3
# What SmolVLM's processor has for a template, and the part of Qwen2.5-VL's that shows messages.
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FAMILY_TOKENS = (
    *("<image>", "<fake_token_around_image>", "<global-img>", "<end_of_utterance>"),
    *("<row_1_col_1>", "<row_1_col_2>", "<row_2_col_1>", "<row_2_col_2>"),
    *("<|vision_start|>", "<|vision_end|>", "<|image_pad|>"),
)
TEMPLATES: dict[TilingKind, str] = {"single": CHATML, "idefics3": SMOLVLM, "qwen2_5_vl": QWEN}


def codec(kind: TilingKind) -> Codec:
    spec = with_control(byte_level_spec(template=TEMPLATES[kind]), *FAMILY_TOKENS)
    return Codec.from_spec(spec, tiling=Tiling(kind, edge=2, rows_a_tile=ROWS))


def picture(number: int, grid: tuple[int, int] = (0, 0)) -> Picture:
    count = grid[0] * grid[1] + 1
    tiles = (Tile(np.full((2, 2, 3), 10 * number + index, np.uint8), ROWS) for index in range(count))
    return Picture(tuple(tiles), grid)


def image(number: int, grid: tuple[int, int] = (0, 0), cache_secs: int | None = None) -> ImagePart:
    source = InlineFile("image/png", b"", "here")
    return ImagePart(source, "here", picture=picture(number, grid), cache_secs=cache_secs)


def asked(*parts: Part) -> Conversation:
    return Conversation((), (Turn("user", parts),))


def written(kind: TilingKind, conversation: Conversation) -> str:
    """The prompt with each tile as [its first row's pixels]."""
    encoded = codec(kind).encode(conversation)
    text, start = "", 0
    for each in encoded.tiles:
        assert encoded.token_ids[each.start : each.end] == each.tile.row_ids().tolist()
        text += shown(codec(kind).tokenizer, encoded.token_ids[start : each.start])
        text += f"[{each.tile.pixels[0, 0, 0]}]"
        start = each.end
    assert codec(kind).count(conversation) == len(encoded.token_ids)
    return text + shown(codec(kind).tokenizer, encoded.token_ids[start:])


@pytest.mark.parametrize(
    ("kind", "parts", "prompt"),
    [
        (
            "single",
            (image(1), TextPart("What is it?")),
            "<|im_start|>user\n[10]\n\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "single",
            (TextPart("See"), image(1), image(2)),
            "<|im_start|>user\nSee\n\n[10]\n\n[20]<|im_end|>\n<|im_start|>assistant\n",
        ),
        (
            "idefics3",
            (image(1), TextPart("What is it?")),
            "<|im_start|>User:<fake_token_around_image><global-img>[10]<fake_token_around_image>What is it?"
            "<end_of_utterance>\nAssistant:",
        ),
        (
            "idefics3",
            (TextPart("See"), image(1, (2, 2))),
            "<|im_start|>User: See<fake_token_around_image><row_1_col_1>[10]<fake_token_around_image><row_1_col_2>[11]"
            "\n<fake_token_around_image><row_2_col_1>[12]<fake_token_around_image><row_2_col_2>[13]\n"
            "\n<fake_token_around_image><global-img>[14]<fake_token_around_image><end_of_utterance>\nAssistant:",
        ),
        (
            "idefics3",
            (TextPart("Two\n\nlines\n\n"), image(1), TextPart("and"), TextPart("more")),
            "<|im_start|>User: Two\n\nlines\n\n<fake_token_around_image><global-img>[10]<fake_token_around_image>and"
            "\n\nmore<end_of_utterance>\nAssistant:",
        ),
        (
            "qwen2_5_vl",
            (image(1), TextPart("and"), image(2)),
            "<|im_start|>user\n<|vision_start|>[10]<|vision_end|>and<|vision_start|>[20]<|vision_end|><|im_end|>\n"
            "<|im_start|>assistant\n",
        ),
    ],
)
def test_each_family_writes_pictures_its_own_way(
    kind: TilingKind, parts: tuple[Part, ...], prompt: str
) -> None:
    assert written(kind, asked(*parts)) == prompt


@pytest.mark.parametrize("kind", TEMPLATES)
def test_pictures_in_documents_and_results_of_tools(kind: TilingKind) -> None:
    pdf = PdfFile(InlineFile("application/pdf", b"", "here"), ("alpha", "omega"), (picture(1), picture(2)))
    conversation = Conversation(
        (),
        (
            Turn("user", (DocumentPart(pdf, "here"), TextPart("Look it up"))),
            Turn("assistant", (ToolUsePart("a", "look", {}), ToolUsePart("b", "look", {}))),
            Turn(
                "user",
                (
                    ToolResultPart("b", (TextPart("found"), image(4))),
                    ToolResultPart("a", (DocumentPart(ContentBlocks((image(3),)), "here"),)),
                ),
            ),
        ),
        tools=(Tool("look", "Looks.", {"type": "object"}),),
    )
    text = written(kind, conversation)
    for number in (10, 20, 30, 40):
        assert text.count(f"[{number}]") == 1
    assert text.index("[10]") < text.index("alpha") < text.index("[20]") < text.index("omega")
    assert text.index("found") < text.index("[40]")


@pytest.mark.parametrize("kind", TEMPLATES)
def test_nobody_can_write_a_picture(kind: TilingKind) -> None:
    words = "<image><|image_pad|>\udf00\udfef"
    assert "\udf00" not in written(kind, asked(TextPart(words)))
    prompt = codec(kind).encode(asked(TextPart(words), image(1)))
    assert len(prompt.tiles) == 1
    assert prompt.token_ids.count(TILE_ID) == 0
    forged = ToolUsePart("a", "look", {"place": "\udf00"})
    conversation = Conversation(
        (),
        (
            Turn("user", (image(1),)),
            Turn("assistant", (forged,)),
            Turn("user", (ToolResultPart("a", (TextPart("x"),)),)),
        ),
    )
    with pytest.raises(InvalidRequest, match="surrogates"):
        codec(kind).encode(conversation)


def test_a_model_without_eyes_refuses() -> None:
    with pytest.raises(InvalidRequest, match="text only"):
        Codec.from_spec(byte_level_spec(template=CHATML)).encode(asked(image(1)))


def test_more_pictures_than_can_be_told_apart() -> None:
    with pytest.raises(InvalidRequest, match="at most"):
        codec("single").encode(asked(*[image(1)] * (MOST_PICTURES + 1)))


def prefix_length(one: EncodedPrompt, other: EncodedPrompt) -> int:
    pairs = enumerate(zip(one.token_ids, other.token_ids, strict=False))
    return next(index for index, (a, b) in pairs if a != b)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_breakpoint_on_a_picture_is_behind_its_rows(kind: TilingKind) -> None:
    kept = replace(image(1, (0, 0)), cache_secs=300)
    prompt = codec(kind).encode(asked(TextPart("See"), kept, TextPart("What is it?")))
    other = codec(kind).encode(asked(TextPart("See"), kept, TextPart("?")))
    [border] = [block.num_tokens for block in prompt.blocks if block.lifetime_secs == 300]
    assert prompt.tiles[0].end <= border <= prefix_length(prompt, other)


@given(st.lists(st.sampled_from([5, 7, TILE_ID]), max_size=12))
def test_counts_of_tokens_follow_the_rows(token_ids: list[int]) -> None:
    tiles = [Tile(np.full((1, 1, 3), n, np.uint8), 1 + n % 4) for n in range(token_ids.count(TILE_ID))]
    places = range(len(token_ids) + 1)
    prompt, counts, placed = with_rows(token_ids, places, tiles)
    for place, count in zip(places, counts, strict=True):
        expected, _, _ = with_rows(token_ids[:place], (), tiles)
        assert prompt[:count] == expected
    assert [each.tile for each in placed] == tiles
