"""Schemas as people write them for tools and structured output, each with an end of its own: no text in them may go on
for ever but two, which any model ends, and no list. What contains itself without such a bound ends when the model
ends it, and a small one at temperature 1 may not."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string"}
SHORT: Schema = {"type": "string", "maxLength": 40}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 1000}
NUMBER: Schema = {"type": "number"}
FLAG: Schema = {"type": "boolean"}
DATE: Schema = {"type": "string", "format": "date"}


def words(*choices: Any) -> Schema:
    return {"enum": list(choices)}


def listed(items: Schema, least: int = 0, most: int = 3) -> Schema:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


def closed(required: str = "*", /, **properties: Schema) -> Schema:
    """An object without further members; `required` names members, "*" all of them."""
    names = list(properties) if required == "*" else required.split()
    return {"type": "object", "properties": properties, "required": names, "additionalProperties": False}


def nullable(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


ADDRESS = closed(
    street=SHORT, city=SHORT, zip={"type": "string", "pattern": "^[0-9]{5}$"}, country=words("DE", "FR")
)
PERSON = closed("name", name=SHORT, age=nullable(COUNT), email={"type": "string", "format": "email"})
LINE_ITEM = closed(sku={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{4}$"}, quantity=COUNT, price=NUMBER)
TREE = {
    "type": "object",
    "properties": {"root": {"$ref": "#/$defs/node"}},
    "required": ["root"],
    "additionalProperties": False,
    "$defs": {"node": closed("label", label=SHORT, children=listed({"$ref": "#/$defs/node"}, most=1))},
}
SHAPE = {
    "oneOf": [
        closed(kind={"const": "circle"}, radius=NUMBER),
        closed(kind={"const": "square"}, side=NUMBER),
        closed(kind={"const": "line"}, points=listed(listed(NUMBER, 2, 2), 2, 3)),
    ]
}
FILTER = {
    "type": "object",
    "properties": {"where": {"anyOf": [{"$ref": "#/definitions/clause"}, {"$ref": "#/definitions/clauses"}]}},
    "required": ["where"],
    "additionalProperties": False,
    "definitions": {
        "clause": closed(field=words("name", "size", "owner"), op=words("=", "<", ">", "≠"), value=SHORT),
        "clauses": closed(all=listed({"$ref": "#/definitions/clause"}, 1, 3)),
    },
}

CORPUS: dict[str, Schema] = {
    "sentiment": closed(label=words("positive", "negative", "neutral")),
    "sentiment with score": closed(
        label=words("positive", "negative"), score={"type": "number", "minimum": 0, "maximum": 1}
    ),
    "spam": closed(is_spam=FLAG, reason=SHORT),
    "language": closed(code=words("de", "en", "es", "fr", "it", "ja", "pt", "zh")),
    "topic": closed(topics=listed(words("sport", "politics", "science", "music"), 1, 3)),
    "priority": closed(
        priority={"type": "integer", "enum": [1, 2, 3, 4, 5]}, team=words("billing", "sales", "support")
    ),
    "weather": closed(location=SHORT, unit=words("celsius", "fahrenheit")),
    "weather, free text": closed("location", location=TEXT, unit=words("celsius", "fahrenheit")),
    "summary, free text": closed(summary=TEXT, keywords=listed(TEXT, 1, 3)),
    "number, free": closed(n=NUMBER, i={"type": "integer"}),
    "clock": closed(timezone=words("Europe/Berlin", "Asia/Tokyo", "America/New_York")),
    "no arguments": closed(),
    "one optional": closed("query", query=SHORT, page={"type": "integer"}),
    "calculator": closed(operation=words("+", "-", "*", "/"), a=NUMBER, b=NUMBER),
    "search": closed("query", query=SHORT, limit={"type": "integer", "minimum": 1, "maximum": 50}, safe=FLAG),
    "sql": closed(
        table={"type": "string", "pattern": "^[a-z_]{1,20}$"},
        columns=listed({"type": "string", "pattern": "^[a-z_]{1,12}$"}, 1, 4),
    ),
    "shell": closed(
        "command", command=SHORT, timeout_ms={"type": "integer", "minimum": 1, "maximum": 600000}
    ),
    "read a file": closed(
        "path", path={"type": "string", "minLength": 1, "maxLength": 60}, offset=COUNT, limit=COUNT
    ),
    "edit a file": closed(path=SHORT, old_string=SHORT, new_string=SHORT, replace_all=FLAG),
    "grep": closed(
        "pattern",
        pattern=SHORT,
        path=SHORT,
        output_mode=words("content", "count"),
        **{"-i": FLAG, "-n": FLAG},
    ),
    "to-do list": closed(
        todos=listed(
            closed(
                content=SHORT,
                status=words("pending", "done"),
                id={"type": "string", "pattern": "^[0-9]+$", "maxLength": 4},
            ),
            1,
            3,
        )
    ),
    "person": PERSON,
    "address": ADDRESS,
    "customer": closed(person=PERSON, address=ADDRESS, tags=listed(SHORT)),
    "two addresses": {
        **closed(billing={"$ref": "#/$defs/address"}, shipping=nullable({"$ref": "#/$defs/address"})),
        "$defs": {"address": ADDRESS},
    },
    "order": closed(id={"type": "string", "format": "uuid"}, items=listed(LINE_ITEM, 1, 3), paid=FLAG),
    "invoice": closed(
        "number total",
        number={"type": "string", "pattern": "^INV-[0-9]{6}$"},
        issued=DATE,
        due=DATE,
        total={"type": "number", "minimum": 0},
    ),
    "payment": closed(
        amount={"type": "number", "exclusiveMinimum": 0, "maximum": 10000},
        currency=words("EUR", "USD", "JPY"),
        method={
            "anyOf": [
                closed(iban={"type": "string", "pattern": "^DE[0-9]{20}$"}),
                closed(card=words("visa", "master")),
            ]
        },
    ),
    "calendar event": closed(
        "title start",
        title=SHORT,
        start={"type": "string", "format": "date-time"},
        end={"type": "string", "format": "date-time"},
        attendees=listed({"type": "string", "format": "email"}),
    ),
    "time of day": closed(at={"type": "string", "format": "time"}),
    "duration": closed(length={"type": "string", "format": "duration"}),
    "host": closed(
        host={"type": "string", "format": "hostname"},
        port={"type": "integer", "minimum": 1, "maximum": 65535},
    ),
    "addresses of a machine": closed(
        v4={"type": "string", "format": "ipv4"}, v6={"type": "string", "format": "ipv6"}
    ),
    "link": closed(url={"type": "string", "format": "uri"}, title=SHORT),
    "unknown format": closed(path={"type": "string", "format": "uri-template", "maxLength": 30}),
    "shape": closed(shape=SHAPE),
    "shapes": closed(shapes=listed(SHAPE, 1, 2)),
    "tree": TREE,
    "filter": FILTER,
    "expression": {
        **closed(expression={"$ref": "#/$defs/sum"}),
        "$defs": {
            "sum": {"anyOf": [{"$ref": "#/$defs/term"}, closed(plus=listed({"$ref": "#/$defs/term"}, 2, 2))]},
            "term": {"anyOf": [{"type": "integer"}, closed(times=listed({"type": "integer"}, 2, 2))]},
        },
    },
    "matrix": closed(rows=listed(listed({"type": "integer", "minimum": -9, "maximum": 9}, 2, 2), 2, 2)),
    "point": closed(point={"type": "array", "prefixItems": [NUMBER, NUMBER], "items": False, "minItems": 2}),
    "tuple of kinds": closed(
        row={
            "type": "array",
            "prefixItems": [SHORT, COUNT, FLAG],
            "items": False,
            "minItems": 3,
            "maxItems": 3,
        }
    ),
    "rgb": closed(rgb=listed({"type": "integer", "minimum": 0, "maximum": 255}, 3, 3)),
    "hex colour": closed(colour={"type": "string", "pattern": "^#[0-9a-f]{6}$"}),
    "version": closed(version={"type": "string", "pattern": "^\\d+\\.\\d+\\.\\d+$", "maxLength": 12}),
    "even number": closed(n={"type": "integer", "multipleOf": 2, "minimum": 0, "maximum": 100}),
    "temperature": closed(celsius={"type": "number", "minimum": -273.15, "maximum": 5000}),
    "nothing or a number": closed(value={"type": ["integer", "null"]}),
    "mixed types": closed(value={"type": ["string", "integer", "boolean"], "maxLength": 20}),
    "constants": closed(version={"const": 2}, kind={"const": "report"}, draft={"const": None}),
    "enum of kinds": closed(value=words("auto", 0, 1.5, True, None)),
    "enum of lists": closed(size=words([1, 2], [3, 4], {"w": 1})),
    "German keys": closed(
        Straße=SHORT, Größe={"type": "integer", "minimum": 30, "maximum": 50}, Übergabe=FLAG
    ),
    "Japanese keys": closed(名前=SHORT, 年齢=COUNT, 都市=words("東京", "大阪", "京都")),
    "emoji": closed(mood=words("😀", "😐", "😢"), **{"👍": FLAG}),
    "awkward keys": closed(
        **{'a "quoted" key': FLAG, "back\\slash": FLAG, "new\nline": FLAG, "": COUNT, "$ref": FLAG}
    ),
    "words of the format": closed(
        name=SHORT, arguments=SHORT, parameters=FLAG, tool_call=words("</tool_call>", "<|im_end|>")
    ),
    "all optional": closed("", a=COUNT, b=SHORT, c=FLAG),
    "many flags": closed(**{f"flag_{number}": FLAG for number in range(12)}),
    "many options": closed(choice=words(*(f"option number {number}" for number in range(100)))),
    "deep": closed(a=closed(b=closed(c=closed(d=closed(e=closed(value=COUNT)))))),
    "dictionary": {
        "type": "object",
        "properties": {"scores": {"type": "object", "additionalProperties": COUNT, "maxProperties": 3}},
        "required": ["scores"],
        "additionalProperties": False,
    },
    "pattern keys": closed(
        env={
            "type": "object",
            "patternProperties": {"^[A-Z]{1,8}$": SHORT},
            "additionalProperties": False,
            "maxProperties": 3,
        }
    ),
    "all of": closed(
        account={
            "allOf": [
                {"type": "object", "properties": {"id": COUNT}, "required": ["id"]},
                closed(id=COUNT, owner=SHORT),
            ]
        }
    ),
    "base and more": {
        **closed(
            pet={"allOf": [{"$ref": "#/$defs/base"}], "properties": {"barks": FLAG}, "required": ["barks"]}
        ),
        "$defs": {
            "base": {
                "type": "object",
                "properties": {"name": SHORT},
                "required": ["name"],
                "maxProperties": 2,
            }
        },
    },
    "annotated": {
        **closed(
            age={
                **COUNT,
                "title": "Age",
                "description": "in years",
                "default": 3,
                "examples": [4],
                "x-order": 1,
            }
        ),
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Annotated",
    },
    "pydantic": {
        "$defs": {
            "Ingredient": {
                "title": "Ingredient",
                **closed(name={**SHORT, "title": "Name"}, grams={**COUNT, "title": "Grams"}),
            }
        },
        "title": "Recipe",
        **closed(
            title={**SHORT, "title": "Title"},
            ingredients=listed({"$ref": "#/$defs/Ingredient"}, 1, 3),
            vegan={"default": False, "type": "boolean"},
        ),
    },
    "zod": {
        **closed(
            user=closed(
                "id",
                id={"type": "integer", "exclusiveMinimum": 0, "maximum": 9007199254740991},
                role={"type": "string", "enum": ["admin", "user"]},
            )
        ),
        "$schema": "http://json-schema.org/draft-07/schema#",
    },
    "extraction": closed(
        people=listed(closed(name=SHORT, role=nullable(SHORT)), most=2),
        places=listed(SHORT, most=2),
        dates=listed(DATE, most=2),
        summary={"type": "string", "minLength": 1, "maxLength": 120},
    ),
}
