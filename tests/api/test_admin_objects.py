"""The Admin API's workspaces and keys, by plain HTTP: what is shown, what may be changed, and who may."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from hokku.api.config import Services
from hokku.protocol.records import LimitRule
from hokku.service.administration import Administration
from hokku.service.key_making import new_key
from hokku.service.keys import KeyRing, hash_key
from hokku.storage.storage import Storage
from tests.api.conftest import HEADERS, KEY, client_of, services_of
from tests.fakes import ALIAS, MODEL_ID, FakeEngine

WORKSPACES, KEYS = "/v1/organizations/workspaces", "/v1/organizations/api_keys"
NEW = {"anthropic-version": "2026-10-21"}


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path}/hokku.db")


@pytest.fixture
def services(engine: FakeEngine, storage: Storage) -> Services:
    keys = KeyRing([hash_key(KEY)], storage)
    return replace(services_of(engine), keys=keys, administration=Administration(storage))


@pytest.fixture
async def client(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(services) as client:
        yield client


async def made(client: httpx.AsyncClient, name: str) -> dict[str, Any]:
    response = await client.post(WORKSPACES, json={"name": name})
    assert response.status_code == 200, response.text
    assert "anthropic-workspace-id" not in response.headers
    return dict(response.json())


async def refusal(response: httpx.Response, status: int) -> str:
    body = response.json()
    assert response.status_code == status, response.text
    assert body["type"] == "error"
    return str(body["error"]["message"])


async def test_a_workspace_s_life(client: httpx.AsyncClient, storage: Storage) -> None:
    workspace = await made(client, "web-team")
    assert workspace["id"].startswith("wrkspc_")
    assert (workspace["type"], workspace["name"], workspace["archived_at"]) == ("workspace", "web-team", None)
    path = f"{WORKSPACES}/{workspace['id']}"
    assert (await client.get(path)).json() == workspace
    renamed = (await client.post(path, json={"name": "shop"})).json()
    assert renamed == workspace | {"name": "shop"}
    secret, key = new_key("theirs", workspace["id"], "user")
    storage.keys.add_key(key, hash_key(secret))
    archived = (await client.post(f"{path}/archive")).json()
    assert archived["archived_at"] is not None
    assert (await client.post(f"{path}/archive")).json() == archived
    assert (await client.get(WORKSPACES)).json()["data"] == []
    assert (await client.get(WORKSPACES, params={"include_archived": "true"})).json()["data"] == [archived]
    assert (await client.get("/v1/models", headers={"x-api-key": secret})).status_code == 401
    await refusal(await client.post(path, json={"name": "again"}), 404)


async def test_the_default_workspace_is_none_of_them(client: httpx.AsyncClient) -> None:
    assert (await client.get(WORKSPACES)).json() == {
        "data": [],
        "has_more": False,
        "first_id": None,
        "last_id": None,
    }
    for method, path in (("GET", ""), ("POST", "/archive")):
        missing = await client.request(method, f"{WORKSPACES}/wrkspc_default{path}")
        assert await refusal(missing, 404) == "Workspace not found."


async def test_lists_go_page_by_page(client: httpx.AsyncClient) -> None:
    names = [(await made(client, f"w{number}"))["id"] for number in range(5)][::-1]

    async def page(**query: Any) -> tuple[list[str], bool]:
        body = (await client.get(WORKSPACES, params=query)).json()
        ids = [each["id"] for each in body["data"]]
        assert (body["first_id"], body["last_id"]) == (ids[0], ids[-1])
        return ids, body["has_more"]

    assert await page() == (names, False)
    assert await page(limit=2) == (names[:2], True)
    assert await page(limit=2, after_id=names[1]) == (names[2:4], True)
    assert await page(limit=2, after_id=names[3]) == (names[4:], False)
    assert await page(limit=2, before_id=names[4]) == (names[2:4], True)
    assert "is not in this list" in await refusal(await client.get(WORKSPACES, params={"after_id": "x"}), 400)
    for path in (WORKSPACES, KEYS):
        await refusal(await client.get(path, params={"limit": 0}), 400)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "name: Field required"),
        ({"name": 7}, "name: Input should be a valid string"),
        ({"name": "  "}, "name: String should have at least 1 character"),
        ({"name": "x" * 41}, "name: String should have at most 40 characters"),
        ({"name": "a", "data_residency": {}}, "data_residency: Extra inputs are not permitted"),
        ({"name": "taken"}, "name: there is a workspace of that name"),
    ],
)
async def test_bad_workspaces(client: httpx.AsyncClient, body: dict[str, Any], words: str) -> None:
    await made(client, "taken")
    other = await made(client, "other")
    for path in (WORKSPACES, f"{WORKSPACES}/{other['id']}"):
        assert await refusal(await client.post(path, json=body), 400) == words


async def test_keys_are_shown_in_the_words_of_each_version(
    client: httpx.AsyncClient, storage: Storage
) -> None:
    home = (await made(client, "web-team"))["id"]
    secret, key = new_key("theirs", home, "user", timedelta(days=1))
    storage.keys.add_key(key, hash_key(secret))
    admin_secret, admin = new_key("boss", "wrkspc_default", "admin")
    storage.keys.add_key(admin, hash_key(admin_secret))
    path = f"{KEYS}/{key.id}"
    old, new = (await client.get(path)).json(), (await client.get(path, headers=NEW)).json()
    assert (old["type"], old["name"], old["status"]) == ("api_key", "theirs", "active")
    assert old["partial_key_hint"] == key.hint
    assert old["expires_at"].endswith("Z")
    assert old["workspace_id"] == home
    assert new.pop("scope") == {"type": "workspace", "workspace_id": home}
    assert new == {name: value for name, value in old.items() if name != "workspace_id"}
    scope = (await client.get(f"{KEYS}/{admin.id}", headers=NEW)).json()["scope"]
    assert scope == {"type": "workspace", "workspace_id": "wrkspc_default"}
    assert (await client.get(f"{KEYS}/{admin.id}")).json()["workspace_id"] is None
    listed = (await client.get(KEYS)).text
    assert secret not in listed
    assert admin_secret not in listed


async def test_keys_are_filtered(client: httpx.AsyncClient, storage: Storage) -> None:
    home = (await made(client, "web-team"))["id"]
    long_ago = datetime.now(UTC) - timedelta(days=9)
    ids = {}
    for name, workspace, lifetime in (
        ("open", home, None),
        ("over", home, timedelta(days=1)),
        ("default", "wrkspc_default", None),
    ):
        _, key = new_key(name, workspace, "user", lifetime, long_ago)
        storage.keys.add_key(key, hash_key(name))
        ids[key.id] = name

    async def names(**query: str) -> set[str]:
        return {ids[each["id"]] for each in (await client.get(KEYS, params=query)).json()["data"]}

    assert await names() == {"open", "over", "default"}
    assert await names(workspace_id=home) == {"open", "over"}
    assert await names(status="active") == {"open", "default"}
    assert await names(status="expired", workspace_id=home) == {"over"}
    assert await names(created_by_user_id="user_1") == set()
    assert "status: Input should be" in await refusal(await client.get(KEYS, params={"status": "x"}), 400)


async def test_a_key_is_changed_at_once(client: httpx.AsyncClient, storage: Storage) -> None:
    secret, key = new_key("theirs", "wrkspc_default", "user")
    storage.keys.add_key(key, hash_key(secret))
    path, theirs = f"{KEYS}/{key.id}", {"x-api-key": secret}
    changed = (await client.post(path, json={"name": "shop", "status": "inactive"})).json()
    assert (changed["name"], changed["status"]) == ("shop", "inactive")
    assert (await client.get("/v1/models", headers=theirs)).status_code == 401
    assert (await client.post(path, json={"status": "active"})).json()["name"] == "shop"
    assert (await client.get("/v1/models", headers=theirs)).status_code == 200
    for body, words in (
        ({"status": "expired"}, "status: Input should be 'active', 'inactive' or 'archived'"),
        ({"name": ""}, "name: String should have at least 1 character"),
        ({"scope": {}}, "scope: Extra inputs are not permitted"),
    ):
        assert await refusal(await client.post(path, json=body), 400) == words
    assert (await client.post(path, json={"status": "archived"})).json()["status"] == "archived"
    await refusal(await client.post(path, json={"status": "active"}), 404)
    for method in ("GET", "POST"):
        missing = await client.request(method, f"{KEYS}/apikey_x", json={})
        assert await refusal(missing, 404) == "API key not found."


async def test_nobody_has_an_account(client: httpx.AsyncClient) -> None:
    for what in ("users", "invites"):
        assert (await client.get(f"/v1/organizations/{what}")).json()["data"] == []
        assert await refusal(await client.get(f"/v1/organizations/{what}/x"), 404) == "Not found"
    assert await refusal(await client.post("/v1/organizations/invites", json={}), 405)


async def test_limits_are_read_out(client: httpx.AsyncClient, storage: Storage) -> None:
    home = (await made(client, "web-team"))["id"]
    whole, part = "/v1/organizations/rate_limits", f"{WORKSPACES}/{home}/rate_limits"
    for path in (whole, part):
        assert (await client.get(path)).json() == {"data": [], "next_page": None}
    for rule in (
        LimitRule(None, None, 100, 5_000, batch_calls_per_minute=50, queued_batch_requests=1_000),
        LimitRule(None, MODEL_ID, 7, count_calls_per_minute=None),
        LimitRule(home, None, 10, file_calls_per_minute=3, micro_cents_per_month=9),
    ):
        storage.limits.put(rule)

    def group(name: str, models: list[str] | None, **values: int) -> dict[str, Any]:
        limits = [{"type": kind, "value": value} for kind, value in values.items()]
        model = models[0] if models else ""
        display = {"display_name": model or "each model without limits of its own"}
        return {
            "type": "rate_limit",
            "id": f"organization/{name}/{model}",
            "group_type": name,
            "group": {"type": name, "id": f"{name}/{model}"} | (display if name == "model_group" else {}),
            "models": models,
            "limits": limits,
        }

    general = group("model_group", None, requests_per_minute=100, input_tokens_per_minute=5_000)
    batch = group("batch", None, requests_per_minute=50, enqueued_batch_requests=1_000)
    of_model = group("model_group", [MODEL_ID], requests_per_minute=7)

    async def shown(path: str, **query: str) -> list[dict[str, Any]]:
        return list((await client.get(path, params=query)).json()["data"])

    assert await shown(whole) == [general, batch, of_model]
    assert await shown(whole, group_type="batch") == [batch]
    assert await shown(whole, group_type="skills") == []
    assert await shown(whole, model=ALIAS) == [of_model]
    mine = [
        ("model_group", {"type": "requests_per_minute", "value": 10, "org_limit": 100}),
        ("files", {"type": "requests_per_minute", "value": 3, "org_limit": None}),
    ]
    assert [(each["group_type"], *each["limits"]) for each in await shown(part)] == mine
    assert [each["group_type"] for each in await shown(part, model=ALIAS)] == ["model_group"]
    assert await refusal(await client.get(whole, params={"model": "claude-foo"}), 404) == "model: claude-foo"
    assert "group_type: Input" in await refusal(await client.get(part, params={"group_type": "x"}), 400)
    assert await refusal(await client.get(f"{WORKSPACES}/x/rate_limits"), 404) == "Workspace not found."


async def test_administrators_only_may_change_anything(client: httpx.AsyncClient, storage: Storage) -> None:
    home = (await made(client, "web-team"))["id"]
    secret, key = new_key("theirs", home, "user")
    storage.keys.add_key(key, hash_key(secret))
    for method, path in (
        ("POST", WORKSPACES),
        ("POST", f"{WORKSPACES}/{home}"),
        ("POST", f"{WORKSPACES}/{home}/archive"),
        ("POST", f"{KEYS}/{key.id}"),
        ("GET", KEYS),
    ):
        refused = await client.request(
            method, path, json={"name": "mine"}, headers=HEADERS | {"x-api-key": secret}
        )
        assert refused.json()["error"]["type"] == "permission_error"
        assert refused.status_code == 403
    assert (await client.get(f"{WORKSPACES}/{home}")).json()["name"] == "web-team"
