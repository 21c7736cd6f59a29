"""Has a schema any value that comes to an end? An object that must hold another of its kind has none."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

Resolve = Callable[[str], Any]

# Each pass settles every reference whose own references are settled, in both directions; real schemas take two.
_MOST_PASSES: Final = 20


def has_finite_value(schema: Any, references: Iterable[str], resolve: Resolve) -> bool:
    """Whether some finite value can be valid, as far as nesting goes. Schemas too entangled to tell have none.

    Args:
        references: all that stand in the schema.
        resolve: what one leads to.
    """
    finite: set[str] = set()  # references that are known to lead to a finite value
    waiting = sorted(set(references))
    for _ in range(_MOST_PASSES):
        settled = False
        for reference in waiting:
            if reference not in finite and _ends(resolve(reference), finite):
                finite.add(reference)
                settled = True
        if not settled or _ends(schema, finite):
            break
        waiting.reverse()
    return _ends(schema, finite)


def _ends(schema: Any, finite: set[str]) -> bool:
    if isinstance(schema, bool):
        return schema
    if "$ref" in schema and schema["$ref"] not in finite:
        return False
    if "enum" in schema or "const" in schema:
        return True
    for keyword in ("anyOf", "oneOf"):
        if keyword in schema and not any(_ends(part, finite) for part in schema[keyword]):
            return False
    if not all(_ends(part, finite) for part in schema.get("allOf", ())):
        return False
    kinds = schema.get("type", "any")
    if kinds == "object":
        return all(_ends(part, finite) for part in _needed_members(schema))
    if kinds == "array":
        return all(_ends(part, finite) for part in _needed_items(schema))
    return True


def _needed_members(schema: Mapping[str, Any]) -> list[Any]:
    properties = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    return [properties.get(name, rest) for name in schema.get("required", ())]


def _needed_items(schema: Mapping[str, Any]) -> list[Any]:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", [])[:least]
    return [*first, schema.get("items", True)] if least > len(first) else first
