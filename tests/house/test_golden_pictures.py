"""The golden vision models in the engine: whatever the steps and the company, the tokens that one whole step gives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from hokku.engine import EngineConfig, LocalEngine
from hokku.kernels import NativeProgram, PagePool, ThreadPool
from hokku.kernels.program import F32, I32
from hokku.models.packing import PackedModel, TextSide, load_model
from hokku.models.rope import mrope_positions
from hokku.models.vision import TileEncoder, open_tower
from hokku.protocol.engine import GenerationRequest, PromptTile, Sampling
from hokku.protocol.pictures import Tile
from tests.engine.house import Recorder
from tests.models.house import GOLDENS, batch
from tests.models.native import on_native
from tests.models.vision import IMAGE_ID, NUM_PROMPTS, Prompt, stored_prompts

NUM_NEW = 12
NUM_PAGES = 64


@dataclass(frozen=True)
class Shown:
    """A golden prompt with its tiles in place."""

    request: GenerationRequest
    tokens: I32  # with -1, -2, … for the rows of pictures
    features: F32
    pictures: list[tuple[int, int, int]]  # first row, rows down, rows across


@cache
def tiles(name: str) -> tuple[Tile, ...]:
    tiling = open_tower(GOLDENS / name).tiling
    with np.load(GOLDENS / name / "golden.npz") as stored:
        if "tiles" in stored:
            pixels = list(stored["tiles"])
        else:
            pixels = [stored[key] for key in sorted(stored) if key.startswith("tile_")]
    return tuple(Tile(each, tiling.num_rows(*each.shape[:2])) for each in pixels)


@cache
def encoder(name: str) -> TileEncoder:
    return TileEncoder(open_tower(GOLDENS / name), ThreadPool(2))


def shown(name: str, prompt: Prompt) -> Shown:
    ids, tokens = prompt.tokens.tolist(), prompt.tokens.copy()
    placed, pictures, begin = [], [], 0
    edge = open_tower(GOLDENS / name).tiling.edge
    for number in prompt.tiles:
        tile = tiles(name)[number]
        start = ids.index(IMAGE_ID, begin)
        begin = start + tile.num_rows
        ids[start:begin] = tile.row_ids()
        placed.append(PromptTile(start, tile))
        pictures.append((start, tile.size[0] // edge, tile.size[1] // edge))
    pictured = np.flatnonzero(prompt.tokens == IMAGE_ID)
    tokens[pictured] = -1 - np.arange(len(pictured))
    features = np.concatenate([encoder(name).encode(tiles(name)[number]) for number in prompt.tiles])
    request = GenerationRequest(ids, NUM_NEW, Sampling(temperature=0), tiles=tuple(placed))
    return Shown(request, tokens, features, pictures)


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("packed")


def packed(name: str, cache_dir: Path) -> PackedModel:
    tokens = np.random.default_rng(11).integers(0, 300, 512).tolist()
    return load_model(
        GOLDENS / name,
        read_text_side=lambda _: TextSide(lambda text: tokens, {}),
        weights_format="int8",
        cache_dir=cache_dir,
    )


def generated(
    model: PackedModel, name: str, requests: list[GenerationRequest], max_step_tokens: int
) -> list[list[int]]:
    """What an engine makes of requests that come together."""
    c = model.config
    config = EngineConfig(
        context_window_tokens=c.context_window_tokens,
        vocabulary=c.vocabulary,
        num_pages=NUM_PAGES,
        max_step_tokens=max_step_tokens,
        max_running=4,
        turns_pictures=bool(c.rope_sections),
    )
    pool = PagePool(c.layers, NUM_PAGES, c.kv_heads, c.head_dim, model.kv_format)
    program = NativeProgram(max_step_tokens, config.max_logit_rows, pool, ThreadPool(2))
    model.record(program)
    recorders = [Recorder() for _ in requests]
    with LocalEngine(program, config, encoder=encoder(name)) as engine:
        for request, recorder in zip(requests, recorders, strict=True):
            engine.submit(request, recorder)
        return [recorder.wait().token_ids for recorder in recorders]


@pytest.mark.parametrize("max_step_tokens", [17, 256])
@pytest.mark.parametrize("name", ["smolvlm", "qwen2_5_vl"])
def test_pictures_give_the_tokens_of_one_whole_step(name: str, max_step_tokens: int, cache_dir: Path) -> None:
    model = packed(name, cache_dir)
    with np.load(GOLDENS / name / "golden.npz") as stored:
        prompts = [shown(name, prompt) for prompt in stored_prompts(stored)]
    replies = generated(model, name, [prompt.request for prompt in prompts], max_step_tokens)
    assert len(replies) == NUM_PROMPTS
    for prompt, reply in zip(prompts, replies, strict=True):
        assert 0 < len(reply) <= NUM_NEW
        tokens = np.concatenate([prompt.tokens, np.array(reply, np.int32)])
        step = batch([(tokens, 0)], len(tokens))
        positions = mrope_positions(len(tokens), prompt.pictures) if model.config.rope_sections else None
        program, forward = on_native(model, len(tokens), len(tokens), step.page_table.size)
        program.run(replace(step, features=prompt.features, rope_positions=positions))
        likeliest = program.view(forward.logits).argmax(axis=1)
        assert likeliest[len(prompt.tokens) - 1 : -1].tolist() == reply
