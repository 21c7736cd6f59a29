"""Every sentence of wire.md sections 2.1 to 2.4, 2.8 and 2.10 that this release can be brought to say."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.fakes import ALIAS, MODEL_ID

HI = {"role": "user", "content": "Hi"}
GOOD: dict[str, Any] = {"model": ALIAS, "max_tokens": 10, "messages": [HI]}
MARK = {"type": "ephemeral"}
LONG_MARK = {"type": "ephemeral", "ttl": "1h"}


def text(words: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": words, **fields}


def user(content: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content}]}


def assistant(content: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": "assistant", "content": content}, HI]}


def system_turn(content: Any, **fields: Any) -> dict[str, Any]:
    return {"messages": [HI, {"role": "system", "content": content, **fields}]}


EXTRA = "Extra inputs are not permitted"
NOT_SERVED = "this release of Hokku does not serve"
TAGS = (
    "'document', 'image', 'redacted_thinking', 'search_result', 'text', 'thinking', 'tool_result', 'tool_use'"
)

Fields = dict[str, Any]
INVALID = "JSON schema is invalid. It must match JSON Schema draft 2020-12: this "
TYPES = "array, boolean, integer, null, number, object, string"
TOOL = {"name": "f", "input_schema": {"type": "object"}}
UNANSWERED = (
    "`tool_use` ids were found without `tool_result` blocks immediately after: {}. Each `tool_use` block must have a "
    "corresponding `tool_result` block in the next message."
)
UNEXPECTED = (
    "unexpected `tool_use_id` found in `tool_result` blocks: {}. Each `tool_result` block must have a corresponding "
    "`tool_use` block in the previous message."
)


def tool(**fields: Any) -> dict[str, Any]:
    return {"tools": [TOOL | fields]}


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"items": schema}
    return schema


def call(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}, **fields}


def result(**fields: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": "toolu_1", **fields}


def calls(blocks: list[dict[str, Any]], *answer: dict[str, Any]) -> dict[str, Any]:
    last = {"role": "user", "content": list(answer)} if answer else HI
    return {"messages": [HI, {"role": "assistant", "content": blocks}, last]}


BAD_SCHEMAS: list[tuple[Fields, str, str]] = [
    ({"properties": 7}, "properties", "must be an object of schemas"),
    ({"properties": {"a": 7}}, "properties.a", "must be an object or a boolean"),
    (
        {"properties": {"a": {"type": "text"}}},
        "properties.a.type",
        f"must be one or several of {TYPES}",
    ),
    (
        {"properties": {"a": {"anyOf": []}}},
        "properties.a.anyOf",
        "must be a list of schemas, not empty",
    ),
    ({"properties": {"a": {"items": [{}]}}}, "properties.a.items", "must be an object or a boolean"),
    ({"required": "a"}, "required", "must be a list of names"),
    ({"$defs": {"a": {"enum": []}}}, "$defs.a.enum", "must be a list, not empty"),
    (
        {"$defs": {"a": {"maxLength": -1}}},
        "$defs.a.maxLength",
        "must be a whole number from 0 to 2147483647",
    ),
    ({"$defs": {"a": {"minimum": "1"}}}, "$defs.a.minimum", "must be a number"),
    ({"$defs": {"a": {"exclusiveMinimum": True}}}, "$defs.a.exclusiveMinimum", "must be a number"),
    ({"$defs": {"a": {"multipleOf": 0}}}, "$defs.a.multipleOf", "must be a number above 0"),
    (
        {"$defs": {"a": {"pattern": "a" * 2001}}},
        "$defs.a.pattern",
        "must be a regular expression of at most 2000 characters",
    ),
]
BAD_CALLS: list[tuple[Fields, str]] = [
    ({"id": 7}, "id: Input should be a valid string"),
    ({"id": "a b"}, "id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    ({"id": ""}, "id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    ({"name": ""}, "name: String should have at least 1 character"),
    ({"name": "x" * 201}, "name: String should have at most 200 characters"),
    ({"input": "x"}, "input: Input should be a valid dictionary"),
    ({"input": nested(100)}, "input: is nested deeper than 100 levels"),
    ({"caller": {}}, "caller.type: Field required"),
    (
        {"caller": {"type": "code"}},
        "caller: Input tag 'code' found using 'type' does not match any of the expected tags: 'direct'",
    ),
    ({"toolset_name": "x"}, "toolset_name: Input should be null: there are no toolsets"),
    ({"bogus": 1}, f"bogus: {EXTRA}"),
]
BAD_RESULTS: list[tuple[Fields, str]] = [
    ({"tool_use_id": 7}, "tool_use_id: Input should be a valid string"),
    ({"tool_use_id": "a b"}, "tool_use_id: String should match pattern '^[a-zA-Z0-9_-]+$'"),
    ({"is_error": "no"}, "is_error: Input should be a valid boolean"),
    ({"content": 7}, "content: Input should be a valid array"),
    ({"content": [7]}, "content.0: Input should be an object"),
    (
        {"content": [{"type": "tool_use"}]},
        "content.0: Input tag 'tool_use' found using 'type' does not match any of the expected tags: "
        "'document', 'image', 'search_result', 'text'",
    ),
    ({"content": [{"type": "text"}]}, "content.0.text.text: Field required"),
    ({"content": [{"type": "image"}]}, "content.0.image.source: Field required"),
    ({"bogus": 1}, f"bogus: {EXTRA}"),
]
PROMPT_CASES: list[tuple[dict[str, Any], str]] = [
    # model
    ({"model": None}, "model: Input should be a valid string"),
    ({"model": 7}, "model: Input should be a valid string"),
    ({"model": ""}, "model: String should have at least 1 character"),
    ({"model": "x" * 257}, "model: String should have at most 256 characters"),
    # tool_choice
    ({"tool_choice": 7}, "tool_choice: Input should be an object"),
    ({"tool_choice": None}, "tool_choice: Input should be an object"),
    ({"tool_choice": {}}, "tool_choice.type: Field required"),
    (
        {"tool_choice": {"type": "bogus"}},
        "tool_choice: Input tag 'bogus' found using 'type' does not match any of the expected tags: "
        "'auto', 'any', 'tool', 'none'",
    ),
    ({"tool_choice": {"type": "tool"}}, "tool_choice.tool.name: Field required"),
    (
        {"tool_choice": {"type": "none", "disable_parallel_tool_use": True}},
        f"tool_choice.none.disable_parallel_tool_use: {EXTRA}",
    ),
    (
        {"tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}},
        "tool_choice.auto.disable_parallel_tool_use: Input should be a valid boolean",
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice.any may only be specified while providing tools"),
    (
        {"tool_choice": {"type": "tool", "name": "get_weather"}},
        "Tool 'get_weather' not found in provided tools",
    ),
    # tools
    ({"tools": "x"}, "tools: Input should be a valid array"),
    ({"tools": None}, "tools: Input should be a valid array"),
    ({"tools": [7]}, "tools.0: Input should be an object"),
    (
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
        f"'{MODEL_ID}' does not support tool types: bash_20250124",
    ),
    ({"tools": [{"type": 7}]}, "tools.0.type: Input should be a valid string"),
    ({"tools": [{}]}, "tools.0.custom.name: Field required"),
    (tool(name=7), "tools.0.custom.name: Input should be a valid string"),
    (tool(name=""), "tools.0.custom.name: String should have at least 1 character"),
    *[
        (tool(name=name), "tools.0.custom.name: String should match pattern '^[a-zA-Z0-9_-]{1,128}$'")
        for name in ("get weather", "größe", "a.b", "x" * 129, "a\n")
    ],
    (tool(description=7), "tools.0.custom.description: Input should be a valid string"),
    ({"tools": [{"name": "f"}]}, "tools.0.custom.input_schema: Field required"),
    (tool(input_schema=7), "tools.0.custom.input_schema: Input should be an object"),
    (tool(input_schema={}), "tools.0.custom.input_schema.type: Field required"),
    (tool(input_schema={"type": "array"}), "tools.0.custom.input_schema.type: Input should be 'object'"),
    (
        tool(input_schema={"type": "object", "anyOf": [{}]}),
        "tools.0.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level",
    ),
    *[
        (
            tool(input_schema={"type": "object", **keywords}),
            f"tools.0.custom.input_schema.{place}: {INVALID}{must}",
        )
        for keywords, place, must in BAD_SCHEMAS
    ],
    *[
        (
            tool(input_schema={"type": "object", "properties": {"a": {"$ref": reference}}}),
            f"tools.0.custom.input_schema.properties.a.$ref: {reference!r} leads to no schema of this document",
        )
        for reference in ("#/$defs/a", "https://example.com/schema", "other.json", "#/type")
    ],
    (
        tool(input_schema={"type": "object", "properties": {"a": nested(64)}}),
        "tools.0.custom.input_schema: is nested deeper than 64 levels",
    ),
    (
        tool(input_schema={"type": "object", "properties": {"x" * 501: {}}}),
        "tools.0.custom.input_schema: has a name of more than 500 characters",
    ),
    (
        tool(input_schema={"type": "object", "properties": {"a": {"enum": list(range(50_001))}}}),
        "tools.0.custom.input_schema: Schema is too complex: the schemas of a request have at most 50000 values",
    ),
    (tool(cache_control={"type": "x"}), "tools.0.custom.cache_control.type: Input should be 'ephemeral'"),
    (tool(strict=1), "tools.0.custom.strict: Input should be a valid boolean"),
    (
        tool(strict=True, input_schema={"type": "object"}),
        "tools.0.custom: For 'object' type, 'additionalProperties' must be explicitly set to false",
    ),
    (
        tool(eager_input_streaming="x"),
        "tools.0.custom.eager_input_streaming: Input should be a valid boolean",
    ),
    (
        tool(input_examples=[{}]),
        f"tools.0.custom.input_examples: {NOT_SERVED} examples of a tool's input yet",
    ),
    (tool(defer_loading=True), f"tools.0.custom.defer_loading: {NOT_SERVED} deferred tools yet"),
    (
        tool(allowed_callers=["code"]),
        f"tools.0.custom.allowed_callers: {NOT_SERVED} callers other than the model yet",
    ),
    (tool(bogus=1), f"tools.0.custom.bogus: {EXTRA}"),
    ({"tools": [TOOL, TOOL]}, "tools: Tool names must be unique."),
    ({"tools": [TOOL] * 1001}, "tools: at most 1000 tools are allowed"),
    (
        {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
        "Tool 'g' not found in provided tools",
    ),
    (
        {
            "tools": [TOOL],
            "tool_choice": {"type": "any"},
            "messages": [HI, {"role": "assistant", "content": "So"}],
        },
        "tool_choice: 'any' cannot be combined with a final assistant message",
    ),
    # messages
    ({"messages": None}, "messages: Input should be a valid array"),
    ({"messages": "x"}, "messages: Input should be a valid array"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": [7]}, "messages.0: Input should be an object"),
    ({"messages": [{"content": "x"}]}, "messages.0.role: Field required"),
    ({"messages": [{"role": 7, "content": "x"}]}, "messages.0.role: Input should be a valid string"),
    (
        {"messages": [{"role": "developer", "content": "x"}]},
        'messages: Unexpected role "developer". Allowed roles are "user" or "assistant"',
    ),
    (
        {"messages": [{"role": "system", "content": "x"}]},
        "messages.0: use the top-level 'system' parameter for the initial system prompt",
    ),
    (system_turn(None), "messages.1.content: Input should be a valid array"),
    (system_turn(""), "messages: text content blocks must be non-empty"),
    (system_turn([]), "messages: text content blocks must be non-empty"),
    (system_turn(" "), "messages: text content blocks must contain non-whitespace text"),
    (system_turn([{"type": "tool_addition"}]), "messages.1.content.0.type: Input should be 'text'"),
    (system_turn("x", output_config={"effort": "low"}), f"messages.1.output_config: {EXTRA}"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    (user(None), "messages.0.content: Input should be a valid array"),
    (user(7), "messages.0.content: Input should be a valid array"),
    (user({}), "messages.0.content: Input should be a valid array"),
    (user([7]), "messages.0.content.0: Input should be an object"),
    (user([{}]), "messages.0.content.0.type: Field required"),
    (
        user([{"type": "foo"}]),
        "messages.0.content.0: Input tag 'foo' found using 'type' does not match any of the expected tags: "
        + TAGS,
    ),
    (
        user([{"type": ["text"]}]),
        "messages.0.content.0: Input tag '['text']' found using 'type' does not match any of the expected tags: "
        + TAGS,
    ),
    (user([{"type": "text"}]), "messages.0.content.0.text.text: Field required"),
    (user([text("x", bogus=1)]), f"messages.0.content.0.text.bogus: {EXTRA}"),
    ({"messages": [{**HI, "bogus": 1}]}, f"messages.0.bogus: {EXTRA}"),
    (
        {"messages": [{"role": "assistant", "content": "x"}]},
        'messages: first message must use the "user" role',
    ),
    (user(""), "messages.0: user messages must have non-empty content"),
    (user([]), "messages.0: user messages must have non-empty content"),
    (
        {
            "messages": [
                HI,
                {"role": "assistant", "content": "x"},
                *user("")["messages"],
                *user([])["messages"],
            ]
        },
        "messages.2: user messages must have non-empty content",
    ),
    (user([text("")]), "messages: text content blocks must be non-empty"),
    (user([text("Hi"), text("")]), "messages: text content blocks must be non-empty"),
    (user(" \n"), "messages: text content blocks must contain non-whitespace text"),
    (user([text(" ")]), "messages: text content blocks must contain non-whitespace text"),
    (assistant([text(" ")]), "messages: text content blocks must contain non-whitespace text"),
    (
        {"messages": [HI, {"role": "assistant", "content": "It is "}]},
        "messages: final assistant content cannot end with trailing whitespace",
    ),
    # blocks out of place, and what this release does not serve
    # calls and their results
    *[
        (calls([call(**fields)]), f"messages.1.content.0.tool_use.{sentence}")
        for fields, sentence in BAD_CALLS
    ],
    (calls([{"type": "tool_use"}]), "messages.1.content.0.tool_use.id: Field required"),
    *[
        (calls([call()], result(**fields)), f"messages.2.content.0.tool_result.{sentence}")
        for fields, sentence in BAD_RESULTS
    ],
    *[
        (calls([call()], *answer), f"messages.1: {UNANSWERED.format('toolu_1')}")
        for answer in [[], [text("x")]]
    ],
    (calls([call()], text("first"), result()), f"messages.1: {UNANSWERED.format('toolu_1')}"),
    (
        {"messages": [HI, {"role": "assistant", "content": [call()]}]},
        f"messages.1: {UNANSWERED.format('toolu_1')}",
    ),
    (
        calls([call(), call(id="b"), call(id="c")], result(tool_use_id="b")),
        f"messages.1: {UNANSWERED.format('toolu_1, c')}",
    ),
    (user([result()]), f"messages.0.content.0: {UNEXPECTED.format('toolu_1')}"),
    (calls([call()], result(), result(tool_use_id="b")), f"messages.2.content.1: {UNEXPECTED.format('b')}"),
    (calls([call(), call()], result()), "messages.1.content.1: `tool_use` ids must be unique"),
    (
        calls([call()], result(), result()),
        "messages.2.content.1: each tool_use must have a single result. Found multiple `tool_result` blocks with id: "
        "toolu_1",
    ),
    (
        user([{"type": "thinking"}]),
        "messages.0.content.0: `thinking` blocks can only be in `assistant` messages",
    ),
    (
        assistant([{"type": "tool_result"}]),
        "messages.1.content.0: `tool_result` blocks can only be in `user` messages",
    ),
    (
        assistant([{"type": "thinking", "thinking": "hm", "signature": "s", "cache_control": MARK}]),
        f"messages.1.content.0.thinking.cache_control: {EXTRA}",
    ),
    (
        assistant([{"type": "redacted_thinking"}]),
        "messages.1.content.0.redacted_thinking.data: Field required",
    ),
    # system
    ({"system": None}, "system: Input should be a valid array"),
    ({"system": 7}, "system: Input should be a valid array"),
    ({"system": [7]}, "system.0: Input does not match the expected shape."),
    ({"system": [{"type": "image"}]}, "system.0.type: Input should be 'text'"),
    ({"system": [text("")]}, "system: text content blocks must be non-empty"),
    ({"system": [text(" ")]}, "system: text content blocks must contain non-whitespace text"),
    # thinking and output_config
    ({"thinking": None}, "thinking: Input should be an object"),
    ({"thinking": {}}, "thinking.type: Field required"),
    (
        {"thinking": {"type": "enabled", "budget_tokens": 1024}},
        f"'{MODEL_ID}' does not support thinking.",
    ),
    ({"thinking": {"type": "adaptive"}}, "adaptive thinking is not supported on this model"),
    (
        {"thinking": {"type": "deep"}},
        "thinking: Input tag 'deep' found using 'type' does not match any of the expected tags: "
        "'adaptive', 'disabled', 'enabled'",
    ),
    ({"output_config": "x"}, "output_config: Input does not match the expected shape."),
    ({"output_config": {"effort": "low"}}, "This model does not support the effort parameter."),
    (
        {"output_config": {"effort": "huge"}},
        "output_config.effort: Input should be 'low', 'medium', 'high', 'xhigh' or 'max'",
    ),
    *[
        ({"output_config": {"format": value}}, f"output_config.format{sentence}")
        for value, sentence in [
            (7, ": Input should be an object"),
            ({}, ".type: Field required"),
            ({"type": "text"}, ".type: Input should be 'json_schema'"),
            ({"type": "json_schema"}, ".schema: Field required"),
            ({"type": "json_schema", "schema": 7}, ".schema: Input should be an object"),
            ({"type": "json_schema", "schema": {}, "name": "x"}, f".name: {EXTRA}"),
            (
                {"type": "json_schema", "schema": {"type": "object"}},
                ".schema: For 'object' type, 'additionalProperties' must be explicitly set to false",
            ),
            (
                {"type": "json_schema", "schema": {"items": {"type": "text"}}},
                f".schema.items.type: {INVALID}must be one or several of {TYPES}",
            ),
        ]
    ],
    (
        {
            "output_config": {"format": {"type": "json_schema", "schema": {}}},
            "messages": [HI, {"role": "assistant", "content": "So"}],
        },
        "output_config.format: cannot be combined with a final assistant message",
    ),
    # cache_control
    ({"cache_control": "x"}, "cache_control: Input should be an object"),
    ({"cache_control": {"type": "forever"}}, "cache_control.type: Input should be 'ephemeral'"),
    (
        {"system": [text("x", cache_control={"type": "ephemeral", "ttl": "2h"})]},
        "system.0.cache_control.ephemeral.ttl: Input should be '5m' or '1h'",
    ),
    (
        user([text("", cache_control=MARK)]),
        "messages.0.content.0.text: cache_control cannot be set for empty text blocks",
    ),
    (
        user([text("x", cache_control=MARK)] * 5),
        "A maximum of 4 blocks with cache_control may be provided. Found 5.",
    ),
    (
        {"system": [text("x", cache_control=MARK)], **user([text("x", cache_control=LONG_MARK)])},
        "messages.0.content.0.cache_control.ttl: a ttl='1h' cache_control block must not come after a "
        "ttl='5m' cache_control block. Note that blocks are processed in the following order: `tools`, `system`, "
        "`messages`.",
    ),
    # unknown keys
    ({"bogus": 1}, f"bogus: {EXTRA}"),
    ({"mcp_servers": []}, f"mcp_servers: {EXTRA}"),
    ({"speed": "fast"}, f"speed: {EXTRA}"),
]

MESSAGES_CASES: list[tuple[dict[str, Any], str]] = [
    ({"max_tokens": None}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": "10"}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": True}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": 1.5}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": -1}, "max_tokens: must be greater than or equal to 0"),
    (
        {"max_tokens": 9000},
        f"max_tokens: 9000 > 8192, which is the maximum allowed number of output tokens for {MODEL_ID}",
    ),
    ({"max_tokens": 0, "stream": True}, "max_tokens: 0 cannot be combined with `stream`"),
    ({"metadata": 7}, "metadata: Input does not match the expected shape."),
    ({"metadata": {"user_id": 7}}, "metadata.user_id: Input should be a valid string"),
    (
        {"metadata": {"user_id": "x" * 257}},
        "metadata.user_id: String should have at most 256 characters",
    ),
    ({"metadata": {"bogus": 1}}, f"metadata.bogus: {EXTRA}"),
    ({"stop_sequences": "x"}, "stop_sequences: Input should be a valid array"),
    ({"stop_sequences": [1]}, "stop_sequences.0: Input should be a valid string"),
    (
        {"stop_sequences": [" \n"]},
        "stop_sequences: each stop sequence must contain non-whitespace",
    ),
    ({"temperature": None}, "temperature: Input should be a valid number"),
    ({"temperature": "1"}, "temperature: Input should be a valid number"),
    ({"temperature": 1.1}, "temperature: range: 0..1"),
    ({"temperature": -0.1}, "temperature: range: 0..1"),
    ({"temperature": 10**400}, "temperature: range: 0..1"),
    ({"service_tier": None}, "service_tier: Input should be 'auto' or 'standard_only'"),
    ({"service_tier": "fast"}, "service_tier: Input should be 'auto' or 'standard_only'"),
    ({"top_k": "1"}, "top_k: Input should be a valid integer"),
    ({"top_p": 2}, "top_p: range: 0..1"),
    ({"top_p": None}, "top_p: Input should be a valid number"),
    ({"stream": None}, "stream: Input should be a valid boolean"),
    ({"stream": 1}, "stream: Input should be a valid boolean"),
    (
        {"container": "x"},
        "container: Container identifier can only be provided when using the code execution tool",
    ),
    ({"thread": {"type": "create"}}, "thread: Threads are not supported; send the whole conversation"),
    ({"inference_geo": "x"}, "inference_geo: must be one of ['global', 'us']"),
    ({"inference_geo": "us"}, f"inference_geo: '{MODEL_ID}' does not support choosing a region."),
]


async def refusal(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> tuple[int, str, str]:
    response = await client.post(path, json=body)
    error = response.json()["error"]
    return response.status_code, error["type"], error["message"]


@pytest.mark.parametrize(("changes", "sentence"), [*PROMPT_CASES, *MESSAGES_CASES])
async def test_messages_says(client: httpx.AsyncClient, changes: dict[str, Any], sentence: str) -> None:
    assert await refusal(client, "/v1/messages", GOOD | changes) == (400, "invalid_request_error", sentence)


@pytest.mark.parametrize(("changes", "sentence"), PROMPT_CASES)
async def test_count_tokens_says_the_same(
    client: httpx.AsyncClient, changes: dict[str, Any], sentence: str
) -> None:
    body = {"model": ALIAS, "messages": [HI]} | changes
    said = await refusal(client, "/v1/messages/count_tokens", body)
    assert said == (400, "invalid_request_error", sentence)


@pytest.mark.parametrize("name", ["model", "messages", "max_tokens"])
async def test_required_fields(client: httpx.AsyncClient, name: str) -> None:
    body = {key: value for key, value in GOOD.items() if key != name}
    assert (await refusal(client, "/v1/messages", body))[2] == f"{name}: Field required"


@pytest.mark.parametrize("name", ["max_tokens", "temperature", "stream", "stop_sequences", "metadata"])
async def test_count_tokens_has_no_generation_fields(client: httpx.AsyncClient, name: str) -> None:
    body = {"model": ALIAS, "messages": [HI], name: None}
    assert (await refusal(client, "/v1/messages/count_tokens", body))[2] == f"{name}: {EXTRA}"


@pytest.mark.parametrize("model", ["   ", "claude-foo", "claude-3-5-haiku"])
async def test_unknown_model(client: httpx.AsyncClient, model: str) -> None:
    said = await refusal(client, "/v1/messages", GOOD | {"model": model})
    assert said == (404, "not_found_error", f"model: {model}")


async def test_prompt_beyond_the_window(client: httpx.AsyncClient) -> None:
    said = await refusal(client, "/v1/messages", GOOD | user("x" * 2000))
    assert said[2] == f"prompt is too long: {len('user: ') + 2000 + 1} tokens > 1000 maximum"


async def test_errors_come_in_the_order_of_the_fields(client: httpx.AsyncClient) -> None:
    """With everything wrong at once, mending what is named walks through the list of section 2.10."""
    wrong: dict[str, Any] = {
        "bogus": 1,
        "inference_geo": "x",
        "stream": 1,
        "top_p": 2,
        "top_k": "1",
        "service_tier": 1,
        "temperature": 2,
        "stop_sequences": 1,
        "metadata": 1,
        "max_tokens": -1,
        "cache_control": 1,
        "output_config": 1,
        "thinking": 1,
        "system": 1,
        "messages": 1,
        "tools": 1,
        "tool_choice": 1,
        "model": 1,
    }
    good = {"messages": [HI], "model": ALIAS, "max_tokens": 10}
    for name in reversed(wrong.copy()):
        assert (await refusal(client, "/v1/messages", wrong))[2].startswith(f"{name}: ")
        del wrong[name]
        if name in good:
            wrong[name] = good[name]


async def test_form_comes_before_shape_and_shape_before_what_is_not_served(client: httpx.AsyncClient) -> None:
    body = GOOD | user([]) | {"tools": [{"type": "bash_20250124"}], "bogus": 1}
    assert (await refusal(client, "/v1/messages", body))[2] == f"bogus: {EXTRA}"
    del body["bogus"]
    assert (await refusal(client, "/v1/messages", body))[2].startswith("messages.0: user messages")
    assert (await refusal(client, "/v1/messages", body | user("Hi")))[2].endswith(
        "does not support tool types: bash_20250124"
    )
