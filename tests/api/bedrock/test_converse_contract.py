"""Whatever AWS's own description lets a client send is honoured or refused by name, and never a surprise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from hokku.api.bedrock.converse_body import (
    CONVERSE_MEMBERS,
    PROMPT_MEMBERS,
    read_converse_body,
)
from hokku.api.bedrock.converse_content import (
    CONTENT_MEMBERS,
    RESULT_MEMBERS,
    SYSTEM_MEMBERS,
    read_content,
)
from hokku.api.bedrock.converse_tools import read_output_config, read_tool_config
from hokku.protocol.errors import InvalidRequest
from tests.api.bedrock.service_model import RUNTIME, members_of, requests_of, values_of


@pytest.mark.parametrize(
    ("structure", "known"),
    [
        ("ConverseRequest", {*CONVERSE_MEMBERS, "modelId"}),
        ("ConverseStreamRequest", {*CONVERSE_MEMBERS, "modelId"}),
        ("ConverseTokensRequest", set(PROMPT_MEMBERS)),
        ("ContentBlock", set(CONTENT_MEMBERS)),
        ("SystemContentBlock", set(SYSTEM_MEMBERS)),
        ("ToolResultContentBlock", set(RESULT_MEMBERS)),
    ],
)
def test_every_member_of_the_contract_is_known(structure: str, known: set[str]) -> None:
    assert members_of(structure) == known


def refusal_of(read: Callable[[], object]) -> str:
    """Why something is refused; "" where it is taken. Anything else that it raises is a failure."""
    try:
        read()
    except InvalidRequest as refusal:
        return str(refusal)
    return ""


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(requests_of("ConverseStream"))
def test_what_the_contract_has_is_read_or_refused_by_name(body: dict[str, Any]) -> None:
    refusal = refusal_of(lambda: read_converse_body(body))
    assert "extraneous key" not in refusal or "additionalModelRequestFields" in body


@pytest.mark.parametrize("member", sorted(set(CONTENT_MEMBERS) - {"cachePoint"}))
def test_every_member_of_a_content_block_is_known(member: str) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values_of(RUNTIME.shape_for("ContentBlock").members[member]))
    def is_known(value: object) -> None:
        refusal = refusal_of(lambda: read_content([{member: value}], "messages.0.content"))
        assert "extraneous key" not in refusal

    is_known()


@pytest.mark.parametrize(
    ("structure", "read"), [("ToolConfiguration", read_tool_config), ("OutputConfig", read_output_config)]
)
def test_every_member_around_tools_is_known(structure: str, read: Callable[[object, str], object]) -> None:
    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(values_of(RUNTIME.shape_for(structure)))
    def is_known(value: object) -> None:
        assert "extraneous key" not in refusal_of(lambda: read(value, "here"))

    is_known()
