"""Fallback in the whole house: the documented tables work, memory is shared, and keys have to be there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.app import House
from hokku.opening import loading_order, resolve_all
from hokku.protocol.errors import BadSetting
from hokku.registry.cache import ModelCache
from hokku.registry.fallback import Fallback, LocalTarget, Reason, Rule
from hokku.registry.manifest import Manifest
from hokku.registry.pull import pull
from hokku.registry.registry import Registry
from hokku.settings import Settings
from tests.api.conftest import KEY as SERVER_KEY
from tests.api.conftest import services_of
from tests.app.test_app import settings_in
from tests.fakes import MODEL_ID, FakeEngine, fake_manifest, fake_model, says
from tests.house.towers import write_tower
from tests.live import live_server
from tests.registry.conftest import MANIFEST
from tests.upstream.services import ScriptedService, sse
from tests.upstream.test_openai import END, TOLD, chunk

PAGE = (Path(__file__).parents[2] / "docs" / "fallback.md").read_text("utf-8")
TABLES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
QUESTION = {"model": MODEL_ID, "max_tokens": 50, "messages": [{"role": "user", "content": "Hi"}]}
OWN_KEY = "sk-of-this-server"
HEADERS = {"x-api-key": OWN_KEY, "anthropic-version": "2023-06-01"}


def write(folder: Path, fallbacks: str, *model_ids: str) -> Settings:
    """Settings of a server with this `fallbacks.toml` and with manifests of these ids."""
    data_dir = folder / "data"
    (data_dir / "models").mkdir(parents=True)
    (data_dir / "fallbacks.toml").write_text(fallbacks, "utf-8")
    for model_id in model_ids:
        text = MANIFEST.replace("tiny-1", model_id)
        (data_dir / "models" / f"{model_id}.toml").write_text(text, "utf-8")
    return settings_in(folder, api_key=(OWN_KEY,))


@pytest.fixture
def engines() -> Iterator[Callable[[str], FakeEngine]]:
    with ExitStack() as stack:

        def engine(text: str) -> FakeEngine:
            made = FakeEngine(says(text))
            stack.callback(made.close)
            return made

        yield engine


async def answer(house: House, body: dict[str, Any]) -> httpx.Response:
    """A reply of a house whose first model is overloaded."""
    app = house.application()
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://hokku", headers=HEADERS
        ) as client,
    ):
        return await client.post("/v1/messages", json=body)


def put(house: House, engine: FakeEngine, manifest: Manifest) -> None:
    house._catalogue.put(fake_model(engine, manifest))


def test_the_page_has_a_table_for_each_form() -> None:
    assert ["url" not in TABLES[0], *('api = "anthropic"' in table for table in TABLES[1:])] == [
        True,
        True,
        False,
    ]


async def test_the_documented_model_of_this_machine(
    tmp_path: Path, engines: Callable[[str], FakeEngine]
) -> None:
    house = House(write(tmp_path, TABLES[0], "qwen3-4b-instruct-2507"))
    first, other = house._chain
    busy, free = engines("busy"), engines("free")
    busy.max_requests = 0
    put(house, busy, first)
    put(house, free, other)
    response = await answer(house, QUESTION)
    assert (response.headers["hokku-model"], response.json()["content"][0]["text"]) == (other.id, "free")
    own = await answer(house, QUESTION | {"model": other.id})  # it is on offer under its own name
    assert "hokku-fallback" not in own.headers


async def test_the_documented_messages_service(tmp_path: Path, engines: Callable[[str], FakeEngine]) -> None:
    busy = engines("busy")
    busy.max_requests = 0
    with live_server(create_app(services_of(engines("theirs")), ApiConfig())) as url:
        table = TABLES[1].replace("https://api.anthropic.com", url).replace("claude-haiku-4-5", MODEL_ID)
        settings = write(tmp_path, table)
        (settings.data_dir / "keys").mkdir()
        (settings.data_dir / "keys" / "anthropic").write_text(SERVER_KEY + "\n", "utf-8")
        house = House(settings)
        put(house, busy, house._chain[0])
        response = await answer(house, QUESTION)
    assert (response.headers["hokku-fallback"], response.json()["content"][0]["text"]) == (
        "overloaded",
        "theirs",
    )


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "overloaded"),
        ({"tools": [{"name": "look", "input_schema": {"type": "object"}}]}, "rule"),
    ],
)
async def test_the_documented_chat_completions_service(
    changes: dict[str, Any],
    reason: str,
    tmp_path: Path,
    engines: Callable[[str], FakeEngine],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-theirs")
    busy = engines("busy")
    busy.max_requests = 0
    service = ScriptedService([sse(chunk(content="theirs"), chunk(finish="stop"), TOLD, END)])
    with service.live() as url:
        house = House(write(tmp_path, TABLES[2].replace("https://api.openai.com", url)))
        put(house, busy, house._chain[0])
        response = await answer(house, QUESTION | changes)
    assert (response.headers["hokku-fallback"], response.json()["content"][0]["text"]) == (reason, "theirs")
    path, headers, body = service.asked[0]
    assert (path, headers["authorization"]) == ("/v1/chat/completions", "Bearer sk-theirs")
    assert (body["model"], body["max_completion_tokens"]) == ("gpt-4.1-mini", 50)


def test_a_key_that_is_not_there_is_said_at_the_start(tmp_path: Path) -> None:
    settings = write(tmp_path, TABLES[1])
    with pytest.raises(BadSetting, match=r"fallbacks\.toml: .*key_file: .*anthropic cannot be read"):
        House(settings)


def manifest_with(model_id: str, *when: Reason) -> Manifest:
    fallback = Fallback(LocalTarget("x"), frozenset(when), (Rule(has_tools=True),), "here")
    return replace(fake_manifest(model_id), fallback=fallback)


@pytest.mark.parametrize(
    ("chain", "order"),
    [
        ([manifest_with("a"), manifest_with("b"), fake_manifest("c")], "abc"),
        ([manifest_with("a", "loading"), manifest_with("b"), fake_manifest("c")], "bca"),
        ([manifest_with("a"), manifest_with("b", "loading"), fake_manifest("c")], "acb"),
        ([manifest_with("a", "loading"), manifest_with("b", "loading"), fake_manifest("c")], "cba"),
        ([fake_manifest("a")], "a"),
    ],
)
def test_the_order_of_loading(chain: list[Manifest], order: str) -> None:
    assert "".join(manifest.id for manifest in loading_order(chain)) == order


def test_the_names_of_every_model_that_may_answer(tmp_path: Path) -> None:
    settings = write(
        tmp_path, f'["{MODEL_ID}"]\nmodel = "small"\n[small]\nmodel = "smaller"', "small", "smaller"
    )
    Registry.load(settings.data_dir).move_alias("tiny", "smaller")
    chain, aliases = resolve_all(settings)
    assert [manifest.id for manifest in chain] == [MODEL_ID, "small", "smaller"]
    assert aliases == {"claude-3-5-haiku-latest": MODEL_ID, "tiny": "smaller"}


@pytest.mark.model
async def test_two_real_models_share_the_memory(default_gguf: Path, tmp_path: Path) -> None:
    table = f'["{MODEL_ID}"]\nmodel = "twin"\nwhen = ["loading"]\nrules = [{{ max_tokens_over = 10 }}]'
    settings = replace(write(tmp_path, table), kv_cache=64 << 20, cache_dir=Settings().cache_dir)
    settings = replace(settings, eyes=str(write_tower(tmp_path / "eyes", 576)))  # of the first alone
    assert ModelCache(settings.cache_dir).root.exists()
    head = MANIFEST.split("[weights]")[0].replace("tiny-1", "twin")
    digest = default_gguf.parent.name  # the same, so that there is nothing to pack
    weights = f'[weights]\nsource = "local"\npath = "{default_gguf}"\nsha256 = "{digest}"\n'
    (settings.data_dir / "models" / "twin.toml").write_text(head + weights, "utf-8")
    with House(settings) as house:
        facts = house.open_doors(pull, lambda _done, _total: None)
        pages = [engine.stats().num_pages for engine in house._engines]
        own = await answer(house, QUESTION | {"max_tokens": 5})
        other = await answer(house, QUESTION | {"max_tokens": 20})
        assert (own.json()["model"], other.json()["model"]) == (MODEL_ID, "twin")
        assert other.headers["hokku-fallback"] == "rule"
        # The same weights give the same tokens, but for the seed, which the model's id is a part of.
        assert own.json()["usage"]["input_tokens"] == other.json()["usage"]["input_tokens"]
    assert pages[0] == pages[1]
    names = [value.split()[0] for label, value in facts if label in ("model", "fallback")]
    assert names == [MODEL_ID, "twin", "twin"]
    assert [label for label, _ in facts].count("eyes") == 1
    told = [float(value.split()[1]) for label, value in facts if label == "cache"]
    assert sum(told) <= (64 << 20) / 1e6
