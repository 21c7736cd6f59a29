"""The Admin API through the official SDK, which reads the form of 2026."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import anthropic
import pytest

from hokku.api.config import ApiConfig
from hokku.api.http import create_app
from hokku.protocol.records import LimitRule
from hokku.service.administration import Administration
from hokku.service.key_making import new_key
from hokku.service.keys import KeyRing, hash_key
from hokku.storage.storage import Storage
from tests.api.conftest import KEY, services_of
from tests.fakes import MODEL_ID, FakeEngine
from tests.live import live_server


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(f"sqlite:///{tmp_path}/hokku.db")


@pytest.fixture
def sdk(storage: Storage) -> Iterator[anthropic.Anthropic]:
    engine = FakeEngine()
    keys = KeyRing([hash_key(KEY)], storage)
    services = replace(services_of(engine), keys=keys, administration=Administration(storage))
    with (
        live_server(create_app(services, ApiConfig())) as url,
        anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as sdk,
    ):
        yield sdk
    engine.close()


def test_workspaces_and_keys(sdk: anthropic.Anthropic, storage: Storage) -> None:
    organization = sdk.beta.organization
    made = [organization.workspaces.create(name=f"team-{number}").id for number in range(3)]
    assert [each.id for each in organization.workspaces.list(limit=1)] == made[::-1]
    renamed = organization.workspaces.update(made[0], name="shop")
    assert (renamed.name, renamed.archived_at) == ("shop", None)
    secret, key = new_key("theirs", made[0], "user")
    storage.keys.add_key(key, hash_key(secret))
    (shown,) = organization.api_keys.list(workspace_id=made[0])
    assert (shown.id, shown.status, shown.scope.type) == (key.id, "active", "workspace")
    assert shown.created_at == key.created_at.replace(microsecond=0)
    assert organization.api_keys.update(key.id, status="inactive").status == "inactive"
    with pytest.raises(anthropic.AuthenticationError):
        sdk.with_options(api_key=secret).models.list()
    assert organization.workspaces.archive(made[0]).archived_at is not None
    assert organization.api_keys.retrieve(key.id).status == "archived"
    with pytest.raises(anthropic.NotFoundError):
        organization.workspaces.retrieve("wrkspc_x")
    assert list(organization.users.list()) == []


def test_limits(sdk: anthropic.Anthropic, storage: Storage) -> None:
    storage.limits.put(LimitRule(None, None, queued_batch_requests=5))
    storage.limits.put(LimitRule(None, MODEL_ID, requests_per_minute=7))
    shown = list(sdk.beta.organization.rate_limits.list())
    assert [(each.group.type, each.models, each.limits[0].value) for each in shown] == [
        ("batch", None, 5),
        ("model_group", [MODEL_ID], 7),
    ]
