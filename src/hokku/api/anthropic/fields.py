"""Reading JSON values, with the wire's own sentences for what is wrong with them (wire.md section 2.10)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NoReturn

from hokku.protocol.errors import InvalidRequest


def refuse(path: str, sentence: str) -> NoReturn:
    """Raise the one error this request is answered with."""
    raise InvalidRequest(sentence, place=path)


def an_object(value: object, path: str) -> dict[str, Any]:
    """A JSON object."""
    return value if isinstance(value, dict) else refuse(path, "Input should be an object")


def an_array(value: object, path: str) -> list[Any]:
    """A JSON array."""
    return value if isinstance(value, list) else refuse(path, "Input should be a valid array")


def a_string(value: object, path: str) -> str:
    """A JSON string."""
    return value if isinstance(value, str) else refuse(path, "Input should be a valid string")


def a_boolean(value: object, path: str) -> bool:
    """A JSON boolean."""
    return value if isinstance(value, bool) else refuse(path, "Input should be a valid boolean")


def an_integer(value: object, path: str) -> int:
    """A whole JSON number; 8.0 is one, as JSON has a single kind of number."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    refuse(path, "Input should be a valid integer")


def a_number(value: object, path: str) -> float:
    """A JSON number that a float can hold."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    refuse(path, "Input should be a valid number")


def refuse_deep(value: object, most: int, path: str) -> None:
    """Refuse objects and arrays that are nested deeper than any real ones. Needs no recursion itself."""
    nested: list[Any] = [value]
    for _ in range(most + 1):
        nested = [each for each in nested if isinstance(each, dict | list)]
        if not nested:
            return
        nested = [part for each in nested for part in (each.values() if isinstance(each, dict) else each)]
    refuse(path, f"is nested deeper than {most} levels")


def required(fields: dict[str, Any], name: str, path: str) -> Any:
    """The field's value. `path` is the object's own."""
    return fields[name] if name in fields else refuse(joined(path, name), "Field required")


def refuse_extras(fields: dict[str, Any], known: Collection[str], path: str) -> None:
    """Refuse the first field, in the client's order, that nobody knows."""
    for name in fields:
        if name not in known:
            refuse(joined(path, name), "Extra inputs are not permitted")


def refuse_tag(path: str, tag: object, expected: Iterable[str]) -> NoReturn:
    """The sentence for a `type` that names none of the alternatives."""
    listed = ", ".join(f"'{name}'" for name in expected)
    refuse(path, f"Input tag '{tag}' found using 'type' does not match any of the expected tags: {listed}")


def a_tagged_object(value: object, path: str, types: Sequence[str]) -> tuple[dict[str, Any], str]:
    """An object and its `type`, which is one of `types`."""
    fields = an_object(value, path)
    kind = required(fields, "type", path)
    if kind not in types:
        refuse_tag(path, kind, types)
    return fields, kind


def one_of(choices: Iterable[str]) -> str:
    """The sentence for a value outside an enumeration."""
    *most, last = [f"'{choice}'" for choice in choices]
    return f"Input should be {', '.join(most)} or {last}" if most else f"Input should be {last}"


def joined(path: str, name: str) -> str:
    """A dotted path one step deeper."""
    return f"{path}.{name}" if path else name
