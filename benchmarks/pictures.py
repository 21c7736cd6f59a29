"""What a picture costs on the default model: `python -m benchmarks.pictures`.

First over HTTP: from sending a request with one 768-pixel JPEG until the first text of its reply has come, over
connections of their own; the picture new each time, the same picture with another question, and a text of as many
tokens. Then at the engine's port: prompt tokens a second of prompts with pictures, over those of texts of exactly the
same length. All kinds take turns. The last line is JSON. `HOKKU_EYES` names other eyes than the manifest's;
`--random-eyes 192 6` makes some of random weights, 192 wide and of 6 layers, which cost what trained ones do.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import queue
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table
from safetensors.numpy import save_file

from benchmarks.beside_a_batch import default_server, first_token_secs, p95
from benchmarks.encoder import RandomTensors, shape
from benchmarks.engines.hokku_server import DEFAULT_SNAPSHOT
from hokku.models.vision.weights import SAFETENSORS_NAMES
from hokku.opening import OpenedModel, open_model
from hokku.protocol.engine import EngineEvent, Failed, Finished, GenerationRequest, Sampling
from hokku.protocol.messages import Conversation, ImagePart, InlineFile, Part, TextPart, Turn
from hokku.protocol.pictures import Picture, Tile
from hokku.settings import load_settings, variable

EDGE = 768  # pixels
MOST_FIRST_TOKEN_MS = 300.0
LEAST_SHARE = 0.8
# Pictures and words of text of the prompts whose prefill is timed.
MIXES = ((1, 30), (1, 500), (4, 30), (8, 200))
_WORDS = "time year people way day man thing woman life child world school state family group country".split()  # noqa: SIM905
NEW, KNOWN, TEXT = "a new picture", "a picture seen before", "text of as many tokens"


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Milliseconds to the first text of a reply."""

    kind: str
    median_ms: float
    p95_ms: float
    num_requests: int


@dataclass(frozen=True, slots=True)
class Prefill:
    """Prompts with pictures beside texts of the same length."""

    num_pictures: int
    num_tokens: int
    pictures_per_sec: float  # prompt tokens a second
    texts_per_sec: float
    share: float  # median of the rounds' ratios


def drawing(seed: int) -> Image.Image:
    """Shapes on a coloured ground with some noise, as unlike the last one as a photograph is."""
    dice = np.random.default_rng(seed)
    ground = np.linspace(0, 255, EDGE)[:, None, None] * dice.random((1, EDGE, 3))
    pixels = np.clip(ground + dice.normal(0, 8, (EDGE, EDGE, 3)), 0, 255)
    image = Image.fromarray(pixels.astype(np.uint8))
    pen = ImageDraw.Draw(image)
    for _ in range(12):
        left, top, width, height = dice.integers(20, EDGE - 20, 4) // [1, 1, 2, 2]
        colour = tuple(dice.integers(0, 256, 3).tolist())
        pen.ellipse((left, top, left + width, top + height), fill=colour)
    return image


def jpeg(seed: int) -> bytes:
    """A file of such a picture."""
    file = io.BytesIO()
    drawing(seed).save(file, "JPEG", quality=85)
    return file.getvalue()


def words(seed: int, count: int) -> str:
    """Random words."""
    dice = random.Random(seed)
    return " ".join(dice.choice(_WORDS) for _ in range(count))


def body(content: Sequence[dict[str, Any]]) -> bytes:
    """A streamed request of one turn."""
    asked = {"max_tokens": 1, "temperature": 0, "stream": True}
    return json.dumps(
        {"model": DEFAULT_SNAPSHOT, **asked, "messages": [{"role": "user", "content": content}]}
    ).encode()


def asking(number: int, picture: bytes | None) -> bytes:
    """A question of its own about a picture, or behind about as many tokens of text."""
    question = {"type": "text", "text": f"{words(number, 12)}. What is in the picture?"}
    if picture is None:
        return body([{"type": "text", "text": words(-number, 64)}, question])
    data = base64.b64encode(picture).decode()
    source = {"type": "base64", "media_type": "image/jpeg", "data": data}
    return body([{"type": "image", "source": source}, question])


async def first_tokens(port: int, num_requests: int) -> list[FirstToken]:
    """Each kind's figures; the first round only warms up. Raises `EngineProblem`."""
    known = jpeg(0)
    secs: dict[str, list[float]] = defaultdict(list)
    for number in range(num_requests + 1):
        kinds = {NEW: jpeg(number + 1), KNOWN: known, TEXT: None}
        for place, (kind, picture) in enumerate(kinds.items()):
            secs[kind].append(await first_token_secs(port, asking(3 * number + place, picture)))
    return [
        FirstToken(kind, statistics.median(each[1:]) * 1e3, p95(each[1:]) * 1e3, num_requests)
        for kind, each in secs.items()
    ]


def picture_prompt(opened: OpenedModel, seed: int, num_pictures: int, num_words: int) -> GenerationRequest:
    """Pictures that nobody has seen, cut as the model wants them, and words."""
    tiling = opened.served.codec.tiling
    if tiling is None or tiling.kind != "single":
        raise SystemExit("this measures models that read a picture as one tile")
    parts: list[Part] = []
    for number in range(num_pictures):
        image = drawing(seed + number).resize((tiling.edge, tiling.edge))
        tile = Tile(np.asarray(image), tiling.num_rows(tiling.edge, tiling.edge))
        parts.append(ImagePart(InlineFile("image/png", b"", ""), "", picture=Picture((tile,))))
    written = opened.served.codec.encode(
        Conversation((), (Turn("user", (*parts, TextPart(words(seed, num_words)))),))
    )
    return request_of(written.token_ids, f"pictures {seed}", tiles=written.tiles)


def text_prompt(opened: OpenedModel, seed: int, num_tokens: int) -> GenerationRequest:
    """Words, cut to exactly so many tokens."""
    text = TextPart(words(seed, num_tokens))
    token_ids = opened.served.codec.encode(Conversation((), (Turn("user", (text,)),))).token_ids
    return request_of(token_ids[:num_tokens], f"texts {seed}")


def request_of(token_ids: Sequence[int], scope: str, **fields: Any) -> GenerationRequest:
    """One token, with nothing in any cache."""
    return GenerationRequest(token_ids, 1, Sampling(temperature=0), frozenset(), cache_scope=scope, **fields)


def prefill_secs(opened: OpenedModel, request: GenerationRequest) -> float:
    """From handing the request in until its one token is there."""
    ends: queue.SimpleQueue[EngineEvent] = queue.SimpleQueue()
    began = time.perf_counter()
    opened.engine.submit(request, ends.put)
    while not isinstance(event := ends.get(), Finished):
        if isinstance(event, Failed):
            raise event.error
    return time.perf_counter() - began


def prefills(opened: OpenedModel, rounds: int) -> list[Prefill]:
    """One row a mix, after a round that only warms up."""
    rows: list[Prefill] = []
    for num_pictures, num_words in MIXES:
        seen, read = [], []
        for number in range(rounds + 1):
            seed = 1_000 * len(rows) + 20 * number
            pictures = picture_prompt(opened, seed, num_pictures, num_words)
            num_tokens = len(pictures.prompt)
            text = text_prompt(opened, seed, num_tokens)
            seen.append(num_tokens / prefill_secs(opened, pictures))
            read.append(num_tokens / prefill_secs(opened, text))
        share = statistics.median(one / other for one, other in zip(seen[1:], read[1:], strict=True))
        rates = statistics.median(seen[1:]), statistics.median(read[1:])
        rows.append(Prefill(num_pictures, num_tokens, *rates, share))
    return rows


def write_random_eyes(folder: Path, hidden: int, layers: int) -> Path:
    """Eyes of 256 by 256 pixels and 64 rows for the default model, in SmolVLM's layout."""
    config = shape(256, hidden, layers, 2)
    random_tensors = RandomTensors(config)
    names = {
        f"{name.format(n=layer)}.{part}"
        for role, name in SAFETENSORS_NAMES.items()
        for layer in range(layers)
        for part in (("weight",) if role in ("positions", "connector") else ("weight", "bias"))
    }
    tensors = {name: random_tensors.floats(name) for name in sorted(names)}
    patches = f"{SAFETENSORS_NAMES['patch']}.weight"
    tensors[patches] = tensors[patches].reshape(hidden, 3, config.patch, config.patch)
    save_file(tensors, folder / "model.safetensors")
    sizes = {"hidden_size": hidden, "num_attention_heads": config.heads, "num_hidden_layers": layers}
    sizes |= {"intermediate_size": config.ffn, "image_size": config.edge, "patch_size": config.patch}
    of_text = {"hidden_size": config.out}
    files = {
        "config": {
            "model_type": "idefics3",
            "scale_factor": 2,
            "vision_config": sizes,
            "text_config": of_text,
        },
        "preprocessor_config": {"do_image_splitting": False, "max_image_size": {"longest_edge": config.edge}},
    }
    for name, fields in files.items():
        (folder / f"{name}.json").write_text(json.dumps(fields))
    return folder


def tables_of(waits: Sequence[FirstToken], rows: Sequence[Prefill]) -> list[Table]:
    """For the terminal."""
    first = Table("", "Median", "p95", title=f"Time to the first text over HTTP, one {EDGE}-pixel JPEG")
    for wait in waits:
        first.add_row(wait.kind, f"{wait.median_ms:.0f} ms", f"{wait.p95_ms:.0f} ms")
    second = Table("Pictures", "Tokens", "With pictures", "Text", "Share", title="Prompt tokens a second")
    for row in rows:
        rates = f"{row.pictures_per_sec:,.0f}", f"{row.texts_per_sec:,.0f}"
        second.add_row(str(row.num_pictures), str(row.num_tokens), *rates, f"{row.share:.0%}")
    return [first, second]


def main() -> None:
    """Measure, print the tables, end with one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=40, help="of each kind over HTTP")
    parser.add_argument("--rounds", type=int, default=9, help="of each prefill")
    parser.add_argument("--random-eyes", type=int, nargs=2, metavar=("HIDDEN", "LAYERS"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if options.random_eyes:
            os.environ[variable("eyes")] = str(write_random_eyes(Path(folder), *options.random_eyes))
        with default_server(Path(folder) / "serve.log") as server:
            waits = asyncio.run(first_tokens(server.port, options.requests))
        opened = open_model(load_settings({"cache_disk": "0"}, os.environ))
        try:
            rows = prefills(opened, options.rounds)
        finally:
            opened.engine.close()
    for table in tables_of(waits, rows):
        Console().print(table)
    targets = {"first_token_ms": MOST_FIRST_TOKEN_MS, "share": LEAST_SHARE}
    figures = {"first_tokens": [asdict(wait) for wait in waits], "prefills": [asdict(row) for row in rows]}
    print(json.dumps({"targets": targets, **figures}))


if __name__ == "__main__":
    main()
