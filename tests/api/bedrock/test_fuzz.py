"""Whatever a body of this wire holds, the answer is a reply or a named exception, never a 500."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hokku.api.bedrock.invoke_body import parse_invoke_body
from hokku.api.config import Compatibility
from hokku.protocol.errors import InvalidRequest
from tests.api.bedrock.conftest import PROFILE, Bedrock
from tests.api.test_fuzz import bodies, json_values
from tests.fakes import fake_manifest

versions = st.sampled_from(["bedrock-2023-05-31", "2026-10-21", "x"]) | json_values
of_this_wire = st.fixed_dictionaries(
    {"anthropic_version": versions}, optional={"anthropic_beta": json_values, "user_profile_id": json_values}
)
invocations = st.tuples(bodies, of_this_wire).map(
    lambda both: {key: value for key, value in both[0].items() if key != "model"} | both[1]
)


@given(invocations)
@settings(max_examples=150, deadline=None)
def test_invocations_are_refused_by_name_or_accepted(body: dict[str, Any]) -> None:
    for compatibility in Compatibility:
        with suppress(InvalidRequest):
            parse_invoke_body(body, fake_manifest(), compatibility)


@given(invocations)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_the_server_never_answers_500(bedrock: Bedrock, body: dict[str, Any]) -> None:
    async with bedrock.client() as client:
        for verb in ("invoke", "invoke-with-response-stream"):
            is_named(await client.post(f"/model/{PROFILE}/{verb}", json=body))


def is_named(response: httpx.Response) -> None:
    assert response.status_code in (200, 400, 404)
    assert response.status_code == 200 or list(response.json()) == ["message"]
