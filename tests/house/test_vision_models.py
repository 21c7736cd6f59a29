"""Whole vision checkpoints, opened as anybody's folder is: the engine says what transformers would, and the families'
templates show pictures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tokenizers
from numpy.typing import NDArray

from hokku.engine import Generation, collect
from hokku.opening import OpenedModel, open_model
from hokku.protocol.engine import GenerationRequest, PromptTile, Sampling
from hokku.protocol.messages import Conversation, TextPart, Turn
from hokku.protocol.pictures import Tile, Tiling
from hokku.settings import load_settings
from tests.chat.test_pictures import FAMILY_TOKENS, QWEN, SMOLVLM
from tests.house.desk import Desk
from tests.house.test_pictures import noise, shown
from tests.models.house import GOLDENS
from tests.models.vision import IMAGE_ID, LOGIT_STRIDE, Prompt, stored_prompts

TEMPLATES = {"smolvlm": SMOLVLM, "qwen2_5_vl": QWEN}
# A greedy choice counts where it leads by so much of the logits' own spread: seven times what bf16 changes them by.
CLEAR_LEAD = 0.15


def write_tokenizer(folder: Path, template: str) -> None:
    """Bytes, the families' control tokens behind them, and `IMAGE_ID` as the last of 320."""
    alphabet = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.BPE({text: id_ for id_, text in enumerate(alphabet)}, [])
    )
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    others = [text for text in FAMILY_TOKENS if text != "<image>"]
    grid = [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    texts = list(dict.fromkeys(["<|im_start|>", "<|im_end|>", *others, *grid]))
    texts += [f"<unused_{number}>" for number in range(IMAGE_ID - len(alphabet) - len(texts))]
    tokenizer.add_special_tokens([*texts, "<image>"])
    assert tokenizer.token_to_id("<image>") == IMAGE_ID
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|im_end|>"}))
    (folder / "chat_template.jinja").write_text(template)


@pytest.fixture(scope="module", params=TEMPLATES)
def opened_folder(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OpenedModel]:
    """A golden vision model with a tokenizer, in floats, as the goldens are."""
    folder = tmp_path_factory.mktemp("models") / request.param
    shutil.copytree(GOLDENS / request.param, folder, ignore=shutil.ignore_patterns("golden.npz"))
    write_tokenizer(folder, TEMPLATES[request.param])
    given = {
        "model": str(folder),
        "weights_format": "bf16",
        "cache_disk": "0",
        "cache_dir": str(folder.parent),
    }
    opened = open_model(load_settings(given, {}))
    yield opened
    opened.engine.close()


def tiles_of(stored: dict[str, NDArray[Any]], tiling: Tiling) -> list[Tile]:
    pixels = list(stored["tiles"]) if "tiles" in stored else [stored[f"tile_{n}"] for n in range(4)]
    return [Tile(each, tiling.num_rows(*each.shape[:2])) for each in pixels]


def clear_choices(prompt: Prompt) -> Iterator[tuple[int, int]]:
    """How many tokens come before a choice that transformers makes clearly, and which it makes."""
    for row, logits in enumerate(prompt.logits):
        second, first = np.sort(logits)[-2:]
        num_tokens = (row + 1) * LOGIT_STRIDE
        in_picture = prompt.tokens[num_tokens - 1] == IMAGE_ID
        if first - second > CLEAR_LEAD * logits.std() and not in_picture:
            yield num_tokens, int(logits.argmax())


def request_of(prompt: Prompt, num_tokens: int, tiles: list[Tile]) -> GenerationRequest:
    ids = prompt.tokens[:num_tokens].tolist()
    placed: list[PromptTile] = []
    pictures = iter(prompt.tiles.tolist())
    start = 0
    for is_picture, run in groupby(ids[:], key=lambda token: token == IMAGE_ID):
        length = len(list(run))
        end = start + length
        while is_picture and start < end:
            placed.append(PromptTile(start, tiles[next(pictures)]))
            ids[start : placed[-1].end] = placed[-1].tile.row_ids()
            start = placed[-1].end
        start = end
    return GenerationRequest(ids, 1, Sampling(temperature=0.0), tiles=tuple(placed))


def test_the_engine_chooses_what_transformers_would(opened_folder: OpenedModel) -> None:
    with np.load(GOLDENS / opened_folder.served.manifest.display_name / "golden.npz") as arrays:
        stored = dict(arrays)
    tiling = opened_folder.served.codec.tiling
    assert tiling is not None
    tiles = tiles_of(stored, tiling)
    num_compared = 0
    for prompt in stored_prompts(stored):
        for num_tokens, expected in clear_choices(prompt):
            reply: Generation = collect(opened_folder.engine, request_of(prompt, num_tokens, tiles))
            assert list(reply.token_ids) == [expected]
            num_compared += 1
    assert num_compared >= 5


def test_pictures_are_shown_as_the_family_does(opened_folder: OpenedModel) -> None:
    conversation = Conversation((), (Turn("user", (shown(noise(1, 90, 60)), TextPart("Hi"))),))
    text = Conversation((), (Turn("user", (TextPart("Hi"),)),))
    with Desk(opened_folder) as desk:
        start, _ = desk.reply(conversation, "w")
        assert start.usage.prompt_tokens == desk.count(conversation) > desk.count(text) + 4
        again, _ = desk.reply(conversation, "w")
        assert again.usage == start.usage
