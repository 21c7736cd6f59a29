"""Schemas: what is refused with its place, what is left out of the grammar, and values that come to an end."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hokku.grammar.grammar import json_of
from hokku.grammar.schema import UNSPEAKABLE, check_schema, grammar_schema, open_objects
from hokku.protocol.errors import InvalidRequest
from tests.grammar.house import accepts
from tests.house.schema_corpus import CORPUS


def spoken(schema: dict[str, Any], *, is_exact: bool = True, required_first: bool = False) -> dict[str, Any]:
    check_schema(schema, "here")
    return grammar_schema(schema, "here", is_exact=is_exact, required_first=required_first)


@pytest.mark.parametrize("name", CORPUS)
def test_real_schemas_are_schemas(name: str) -> None:
    check_schema(CORPUS[name], "here")
    assert spoken(CORPUS[name])


@pytest.mark.parametrize("keyword", [*UNSPEAKABLE, "uniqueItems"])
def test_what_no_grammar_can_say_is_refused_by_name_or_left_out(keyword: str) -> None:
    value: Any = {"dependentRequired": {"a": ["b"]}, "dependentSchemas": {"a": {}}, "uniqueItems": True}.get(
        keyword, {}
    )
    value = "#" if keyword.endswith("Ref") else value
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {keyword: value}}}}
    with pytest.raises(InvalidRequest) as refusal:
        spoken(schema)
    assert refusal.value.place == f"here.properties.a.items.{keyword}"
    assert spoken(schema, is_exact=False)["properties"]["a"]["items"] == {}


@pytest.mark.parametrize(
    "pattern", ["(?=a)b", "(?!a)b", "(?<=a)b", "(?<!a)b", r"(a)\1", r"\bword\b", r"a\\\b"]
)
def test_patterns_that_no_grammar_can_say(pattern: str) -> None:
    schema = {"properties": {"a": {"type": "string", "pattern": pattern}}}
    with pytest.raises(InvalidRequest, match="not supported") as refusal:
        spoken(schema)
    assert refusal.value.place == "here.properties.a.pattern"
    assert spoken(schema, is_exact=False)["properties"]["a"] == {"type": "string"}


@pytest.mark.parametrize("pattern", [r"^\\b$", r"^(?:a|b)$", r"^\d+$"])
def test_patterns_that_only_look_so(pattern: str) -> None:
    assert spoken({"type": "string", "pattern": pattern})["pattern"] == pattern


def test_alternatives_that_may_both_hold_are_taken_where_nothing_was_promised() -> None:
    schema = {"oneOf": [{"type": "integer"}, {"type": "number"}]}
    assert accepts(json_of(spoken(schema, is_exact=False)), "1.5")
    assert spoken(schema)["oneOf"]


def test_descriptions_and_unknown_words_are_no_part_of_a_grammar() -> None:
    schema = {
        "title": "T",
        "description": "D",
        "default": 1,
        "examples": [1],
        "x-mine": {"type": "nonsense"},
        "x-guidance": {"whitespace_flexible": True},
        "$comment": "no",
        "deprecated": True,
        "type": "boolean",
    }
    assert spoken(schema) == {"type": "boolean"}


def test_an_unknown_format_only_describes() -> None:
    assert spoken({"type": "string", "format": "text"}) == {"type": "string"}


def test_required_members_come_first_where_asked() -> None:
    schema = {"type": "object", "properties": {"a": {}, "b": {}, "c": {}}, "required": ["c", "b"]}
    assert list(spoken(schema)["properties"]) == ["a", "b", "c"]
    assert list(spoken(schema, required_first=True)["properties"]) == ["b", "c", "a"]


def test_a_reference_into_what_a_grammar_leaves_out_is_refused() -> None:
    schema = {"x-parts": {"a": {"type": "string"}}, "properties": {"b": {"$ref": "#/x-parts/a"}}}
    with pytest.raises(InvalidRequest, match="leads to no schema") as refusal:
        spoken(schema)
    assert refusal.value.place == "here.properties.b.$ref"


def test_a_reference_to_what_is_no_schema_is_refused() -> None:
    schema = {"enum": [{"anyOf": 5}], "items": {"$ref": "#/enum/0"}}
    with pytest.raises(InvalidRequest, match="leads to no schema") as refusal:
        check_schema(schema, "here")
    assert refusal.value.place == "here.items.$ref"


def test_references_may_be_escaped_and_lead_on() -> None:
    schema = {
        "$defs": {"a/b": {"$ref": "#/$defs/~0"}, "~": {"enum": [1]}, "list": {"anyOf": [{"enum": [2]}]}},
        "prefixItems": [{"$ref": "#/$defs/a~1b"}, {"$ref": "#/$defs/list/anyOf/0"}],
        "type": "array",
        "items": False,
        "minItems": 2,
    }
    assert accepts(json_of(spoken(schema)), "[1, 2]")


def test_what_looks_like_a_reference_may_be_a_value_or_a_name() -> None:
    schema = {
        "type": "object",
        "properties": {"$ref": {"enum": [{"$ref": "nowhere"}]}, "x": {"const": {"$ref": "#/no"}}},
        "required": ["$ref"],
    }
    assert accepts(json_of(spoken(schema)), '{"$ref": {"$ref": "nowhere"}}')


def test_open_objects_are_found() -> None:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "a": {"type": ["object", "null"]},
            "b": {"items": {"properties": {}}},
            "c": {"type": "string"},
        },
    }
    assert list(open_objects(schema, "here")) == ["here.properties.a", "here.properties.b.items"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            {"type": "string", "format": "date"},
            ["2024-02-28", "2023-12-31"],
            ["2023-02-30", "2023-04-31", "23-1-1"],
        ),
        (
            {"type": "string", "format": "time"},
            ["23:59:59Z", "00:00:00.123+05:45"],
            ["24:00:00Z", "00:00:00.1111111Z"],
        ),
        (
            {"type": "string", "format": "date-time"},
            ["2024-01-31T23:59:59Z"],
            ["2024-01-31", "2024-01-31 10:00:00Z"],
        ),
        (
            {"type": "string", "format": "duration"},
            ["P1D", "PT2H30M", "P1Y2M3DT4H", "P3W"],
            ["P", "PT", "1D", "P" + "1" * 9 + "D"],
        ),
        (
            {"type": "string", "format": "email"},
            ["a.b+c@example.com"],
            ["a@b", "@example.com", "a b@example.com"],
        ),
        ({"type": "string", "format": "hostname"}, ["a", "db-1.example.com"], ["-a", "a..b", "a b"]),
        (
            {"type": "string", "format": "uri"},
            ["https://example.com/a%20b?c=d#e", "mailto:a@b.de"],
            ["a b", "//x", "http:"],
        ),
        ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"], ["123"]),
        ({"type": "string", "format": "ipv4"}, ["10.0.0.1"], ["10.0.0", "10.0.0.256"]),
    ],
    ids=lambda value: value.get("format") if isinstance(value, dict) else "",
)
def test_formats(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = json_of(spoken(schema))
    assert [text for text in good if not accepts(grammar, json.dumps(text))] == []
    assert [text for text in bad if accepts(grammar, json.dumps(text))] == []


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "integer"}, ["0", "-7", "9007199254740991"], ["9007199254740992", "1" * 40, "1.5"]),
        ({"type": "number"}, ["0", "-7.25", "0.000000001", "1"], ["0." + "3" * 20, "1" * 40]),
        ({"type": "number", "minimum": 0, "maximum": 1}, ["0.5", "1"], ["1.5", "-0.1"]),
        ({"type": "number", "minimum": 1e-6, "maximum": 2e-6}, ["0.0000015"], ["1"]),
        ({"type": "number", "multipleOf": 0.01}, ["1.25"], ["1.255"]),
        ({"type": "integer", "exclusiveMinimum": 3}, ["4"], ["3"]),
        ({"type": ["integer", "null"], "maximum": -1}, ["-5", "null"], ["0"]),
        ({"enum": [10**20]}, [str(10**20)], ["1"]),
    ],
)
def test_numbers_come_to_an_end(schema: dict[str, Any], good: list[str], bad: list[str]) -> None:
    grammar = json_of(spoken(schema))
    assert [text for text in good if not accepts(grammar, text)] == []
    assert [text for text in bad if accepts(grammar, text)] == []


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {
            "type": "object",
            "properties": {"a": {"type": "array", "items": {"$ref": "#"}, "minItems": 1}},
            "required": ["a"],
        },
        {
            "$ref": "#/$defs/a",
            "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"allOf": [{"$ref": "#/$defs/a"}]}},
        },
        {"type": "object", "required": ["a"], "additionalProperties": False},
    ],
)
def test_a_schema_without_a_finite_value_is_refused(schema: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest, match="comes to an end") as refusal:
        spoken(schema)
    assert refusal.value.place == "here"


def test_a_long_chain_of_references_is_followed_and_an_endless_one_is_not() -> None:
    chain: dict[str, Any] = {f"{n:04}": {"$ref": f"#/$defs/{n + 1:04}"} for n in range(5000)}
    assert spoken({"$defs": {**chain, "5000": {"type": "null"}}, "$ref": "#/$defs/0000"})
    with pytest.raises(InvalidRequest, match="comes to an end"):
        spoken({"$defs": {**chain, "5000": {"$ref": "#/$defs/0000"}}, "$ref": "#/$defs/0000"})


KEYWORDS = [
    "type",
    "properties",
    "items",
    "anyOf",
    "$ref",
    "$defs",
    "enum",
    "required",
    "pattern",
    "maxLength",
    "minimum",
]
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["string", "object", "#", "#/$defs/a", "#/enum/0", "#/required", "("]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYWORDS, "a"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_object_is_spoken_or_refused(schema: dict[str, Any]) -> None:
    with suppress(InvalidRequest):  # anything else would be a 500
        spoken(schema)
