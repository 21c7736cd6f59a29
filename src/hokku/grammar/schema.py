"""JSON Schema, draft 2020-12: is it one, is it of a sane size, and what of it can a grammar say?

Two readings of the same document. `check_schema` refuses what is no schema, or is too large for anybody.
`grammar_schema` gives the part that the compiler (llguidance, docs/json_schema.md) turns into a grammar; keywords
that only describe are left out, and keywords that restrict in a way no grammar of ours can say are refused by name,
or, where nothing was promised, left out as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NoReturn

from hokku.grammar.bounded import bounded
from hokku.grammar.finite import has_finite_value
from hokku.protocol.errors import InvalidRequest

Schema = Mapping[str, Any]

MAX_DEPTH: Final = 64  # of objects and arrays inside one another
MAX_VALUES: Final = 50_000  # in all schemas of a request; compiling takes about a second for as many
MAX_NAME_CHARS: Final = 500  # of a member; a place names all members on the way to it
MAX_PATTERN_CHARS: Final = 2_000
MAX_BOUND: Final = 2**31 - 1  # of lengths and counts

TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
# The formats whose texts the compiler can spell. Others only describe, as the draft has it for all of them.
FORMATS = frozenset(
    {"date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"}
)
_ONE = ("additionalProperties", "items", "not", "if", "then", "else", "contains", "propertyNames")
_ONE_MORE = ("unevaluatedItems", "unevaluatedProperties", "contentSchema")
_LIST = ("allOf", "anyOf", "oneOf", "prefixItems")
_MAP = ("$defs", "definitions", "dependentSchemas", "patternProperties", "properties")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
# They restrict what is valid, and no grammar of ours can say how.
UNSPEAKABLE = (
    "not", "if", "contains", "propertyNames", "dependentRequired", "dependentSchemas", "unevaluatedItems",
    "unevaluatedProperties", "$dynamicRef", "$recursiveRef",
)  # fmt: skip
# So do these in a regular expression: looks around, references back, borders of words.
_UNSPEAKABLE_PATTERN = re.compile(r"\(\?<?[=!]|\\[1-9bB]|\\k<|\(\?P=")
_SPOKEN = frozenset(
    {"type", "enum", "const", "required", "pattern", "format", "$ref", "additionalProperties", "items"}
    | {*_LIST, *_COUNTS, *_NUMBERS}
    | {"$defs", "definitions", "patternProperties", "properties"}
)


def check_schema(schema: Schema, place: str, most_values: int = MAX_VALUES) -> int:
    """Refuse what is no JSON Schema or too large a one. How many values it has, which a request's next schema has less.

    Raises: `InvalidRequest` naming the place.
    """
    num_values = _check_size(schema, place, most_values)
    for at, part in _parts(schema, place):
        if not isinstance(part, bool):
            _check_keywords(part, at)
    _check_references(schema, place)
    return num_values


def grammar_schema(
    schema: Schema, place: str, *, is_exact: bool, required_first: bool = False
) -> dict[str, Any]:
    """The part of a checked schema that a grammar can say.

    Args:
        is_exact: refuse a keyword that restricts and cannot be said; otherwise it is left out, and the grammar
            allows more than the schema.
        required_first: put an object's required members before its optional ones.

    Raises: `InvalidRequest` naming the keyword's place.
    """
    spoken: dict[str, Any] = _spoken(schema, place, is_exact, required_first)
    references = _check_references(spoken, place)  # they may have led into what is left out
    if not has_finite_value(spoken, references, lambda reference: _target(spoken, reference)):
        raise InvalidRequest("Schema cannot be met by any value that comes to an end", place=place)
    return spoken


def open_objects(schema: Schema, place: str) -> Iterator[str]:
    """Places of objects that do not say `additionalProperties: false`."""
    for at, part in _parts(schema, place):
        if isinstance(part, Mapping) and part.get("additionalProperties") is not False:
            kind = part.get("type")
            if kind == "object" or (isinstance(kind, list) and "object" in kind) or "properties" in part:
                yield at


def _check_size(schema: Schema, place: str, most_values: int) -> int:
    """Bound depth and size, without recursion."""
    waiting: list[tuple[Any, int]] = [(schema, 1)]
    num_values = 0
    while waiting:
        value, depth = waiting.pop()
        num_values += 1
        if depth > MAX_DEPTH:
            raise InvalidRequest(f"is nested deeper than {MAX_DEPTH} levels", place=place)
        if num_values > most_values:
            raise InvalidRequest(
                f"Schema is too complex: the schemas of a request have at most {MAX_VALUES} values",
                place=place,
            )
        if isinstance(value, dict):
            if any(len(name) > MAX_NAME_CHARS for name in value):
                raise InvalidRequest(f"has a name of more than {MAX_NAME_CHARS} characters", place=place)
            waiting.extend((inner, depth + 1) for inner in value.values())
        elif isinstance(value, list):
            waiting.extend((inner, depth + 1) for inner in value)
    return num_values


def _parts(schema: Any, place: str) -> Iterator[tuple[str, Any]]:
    """The schema and every schema inside it, each with its place. Raises `InvalidRequest` for what is none."""
    if not isinstance(schema, Mapping | bool):
        _invalid(place, "must be an object or a boolean")
    yield place, schema
    if isinstance(schema, bool):
        return
    for keyword in (*_ONE, *_ONE_MORE):
        if keyword in schema:
            yield from _parts(schema[keyword], f"{place}.{keyword}")
    for keyword in _LIST:
        if keyword in schema:
            listed = schema[keyword]
            if not isinstance(listed, list) or not listed:
                _invalid(f"{place}.{keyword}", "must be a list of schemas, not empty")
            for index, inner in enumerate(listed):
                yield from _parts(inner, f"{place}.{keyword}.{index}")
    for keyword in _MAP:
        if keyword in schema and schema[keyword] is not None:
            if not isinstance(schema[keyword], Mapping):
                _invalid(f"{place}.{keyword}", "must be an object of schemas")
            for name, inner in schema[keyword].items():
                yield from _parts(inner, f"{place}.{keyword}.{name}")


def _check_keywords(schema: Schema, place: str) -> None:
    for keyword, (is_good, must) in _FORMS.items():
        if keyword in schema and not is_good(schema[keyword]):
            _invalid(f"{place}.{keyword}", must)


def _check_references(schema: Schema, place: str) -> set[str]:
    """All references, each of which leads to a schema of the document."""
    parts = [(at, part) for at, part in _parts(schema, place) if not isinstance(part, bool)]
    schemas = {id(part) for _, part in parts}
    references: set[str] = set()
    for at, part in parts:
        reference = part.get("$ref")
        if reference is None or reference in references:
            continue
        target = _target(schema, reference)
        if not isinstance(target, bool) and id(target) not in schemas:
            raise InvalidRequest(f"{reference!r} leads to no schema of this document", place=f"{at}.$ref")
        references.add(reference)
    return references


def _is_type(value: Any) -> bool:
    kinds = value if isinstance(value, list) and value else [value]
    return all(isinstance(kind, str) and kind in TYPES for kind in kinds)


def _is_count(value: Any) -> bool:
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return is_whole and not isinstance(value, bool) and 0 <= value <= MAX_BOUND


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e308


def _is_names(value: Any) -> bool:
    # The published shape of a tool's schema has `required` nullable.
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


_COUNT = (_is_count, f"must be a whole number from 0 to {MAX_BOUND}")
_NUMBER = (_is_number, "must be a number")
_TEXT: tuple[Callable[[Any], bool], str] = (lambda value: isinstance(value, str), "must be a string")
_FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "type": (_is_type, f"must be one or several of {', '.join(TYPES)}"),
    "enum": (lambda value: isinstance(value, list) and bool(value), "must be a list, not empty"),
    "required": (_is_names, "must be a list of names"),
    "$ref": _TEXT,
    "format": _TEXT,
    "pattern": (
        lambda value: isinstance(value, str) and len(value) <= MAX_PATTERN_CHARS,
        f"must be a regular expression of at most {MAX_PATTERN_CHARS} characters",
    ),
    "uniqueItems": (lambda value: isinstance(value, bool), "must be a boolean"),
    **dict.fromkeys(_COUNTS, _COUNT),
    **dict.fromkeys(_NUMBERS, _NUMBER),
    "multipleOf": (lambda value: _is_number(value) and value > 0, "must be a number above 0"),
}


def _spoken(schema: Any, place: str, is_exact: bool, required_first: bool) -> Any:
    if isinstance(schema, bool):
        return schema
    if is_exact:
        _refuse_unspeakable(schema, place)

    def inner(part: Any, at: str) -> Any:
        return _spoken(part, f"{place}.{at}", is_exact, required_first)

    spoken: dict[str, Any] = {}
    for keyword, value in schema.items():
        if keyword not in _SPOKEN or (value is None and keyword != "const"):
            continue
        if keyword in _ONE:
            spoken[keyword] = inner(value, keyword)
        elif keyword == "oneOf" and not is_exact and "anyOf" not in schema:
            # The compiler takes alternatives only where it can tell that they exclude each other.
            spoken["anyOf"] = [inner(part, f"oneOf.{index}") for index, part in enumerate(value)]
        elif keyword in _LIST:
            spoken[keyword] = [inner(part, f"{keyword}.{index}") for index, part in enumerate(value)]
        elif keyword in _MAP:
            spoken[keyword] = {name: inner(part, f"{keyword}.{name}") for name, part in value.items()}
        elif keyword in _COUNTS:
            spoken[keyword] = int(value)
        elif _is_sayable(keyword, value):
            spoken[keyword] = value
    if required_first and "properties" in spoken and "required" in spoken:
        properties = spoken["properties"]
        first = {name: part for name, part in properties.items() if name in spoken["required"]}
        spoken["properties"] = {**first, **properties}
    return bounded(spoken)


def _refuse_unspeakable(schema: Schema, place: str) -> None:
    for keyword in UNSPEAKABLE:
        if keyword in schema:
            _unspeakable(place, keyword)
    if schema.get("uniqueItems"):
        _unspeakable(place, "uniqueItems")
    if not _is_sayable("pattern", schema.get("pattern", "")):
        raise InvalidRequest(
            "looking around, references back and borders of words are not supported where a reply has to validate",
            place=f"{place}.pattern",
        )


def _is_sayable(keyword: str, value: Any) -> bool:
    if keyword == "format":
        return value in FORMATS
    if keyword == "pattern":
        without_backslashes = value.replace("\\\\", "")
        return _UNSPEAKABLE_PATTERN.search(without_backslashes) is None
    return True


def _unspeakable(place: str, keyword: str) -> NoReturn:
    raise InvalidRequest(
        f"{keyword!r} is not supported where a reply has to validate",
        place=f"{place}.{keyword}",
        way_out="leave it out, or let the model choose with tool_choice auto and without strict",
    )


def _target(root: Any, reference: str) -> Any:
    """What a local reference leads to; None where there is nothing."""
    if not (reference == "#" or reference.startswith("#/")):
        return None
    found = root
    for step in reference.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, Mapping) and name in found:
            found = found[name]
        elif isinstance(found, list) and re.fullmatch("[0-9]{1,9}", name) and int(name) < len(found):
            found = found[int(name)]
        else:
            return None
    return found


def _invalid(place: str, must: str) -> NoReturn:
    raise InvalidRequest(
        f"JSON schema is invalid. It must match JSON Schema draft 2020-12: this {must}", place=place
    )
