"""Values that come to an end: formats and numbers spelled so that no small model loses itself in digits.

RFC 3339 allows a time any number of decimals, JSON a number any number of digits, and a model at temperature 1 may well
go on for thousands. What is allowed here is part of what the schema allows, and ample for real data.
"""

from __future__ import annotations

from typing import Any, Final

_MOST_EXACT: Final = 2**53 - 1  # beyond it JSON's numbers are not exact for everybody (RFC 8259, section 6)
_DECIMALS: Final = 1e-9
_LEAST_RANGE: Final = 1e-3  # narrower ranges may need more decimals

_YEAR = "[12][0-9]{3}"
_DATE = f"{_YEAR}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])|{_YEAR}-(0[13-9]|1[0-2])-(29|30)|{_YEAR}-(0[13578]|1[02])-31"
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{3}([0-9]{3})?)?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])"
_LABEL = "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?"
_HOST = rf"{_LABEL}(\.{_LABEL}){{0,4}}"
_DOMAIN = rf"{_LABEL}(\.{_LABEL}){{0,3}}\.[a-z]{{2,12}}"
_ATOM = "[A-Za-z0-9_+-]{1,32}"
_PATH_CHARACTER = "([A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-F]{2})"
_TAIL = rf"(/{_PATH_CHARACTER}{{0,64}}){{0,12}}(\?({_PATH_CHARACTER}|[/?]){{0,300}})?(#{_PATH_CHARACTER}{{0,64}})?"
_DAYS = "([0-9]{1,4}Y([0-9]{1,4}M([0-9]{1,4}D)?)?|[0-9]{1,4}M([0-9]{1,4}D)?|[0-9]{1,4}D)"
_CLOCK = "T([0-9]{1,4}H([0-9]{1,4}M([0-9]{1,4}S)?)?|[0-9]{1,4}M([0-9]{1,4}S)?|[0-9]{1,4}S)"

# Part of each format, as RFC 3339, 5321, 1123, 3986 and 8601 define them. An IP address and a UUID end by themselves.
_PATTERNS: Final = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"({_DATE})T{_TIME}",
    "duration": f"P([0-9]{{1,4}}W|{_DAYS}({_CLOCK})?|{_CLOCK})",
    "email": rf"{_ATOM}(\.{_ATOM}){{0,3}}@{_DOMAIN}",
    "hostname": _HOST,
    "uri": rf"[a-z][a-z0-9+.-]{{1,15}}://{_HOST}(:[0-9]{{1,5}})?{_TAIL}|(mailto|tel|urn|data):{_PATH_CHARACTER}{{1,300}}",
}


def bounded(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema's keywords with an end to formats and numbers; its subschemas are left as they are."""
    pattern = _PATTERNS.get(schema.get("format", ""))
    if pattern is not None and "pattern" not in schema:
        rest = {keyword: value for keyword, value in schema.items() if keyword != "format"}
        return {**rest, "pattern": f"^({pattern})$"}
    if "enum" in schema or "const" in schema:
        return schema
    kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    if "integer" in kinds or "number" in kinds:
        return schema | _number_bounds(schema, is_integer="number" not in kinds)
    return schema


def _number_bounds(schema: dict[str, Any], *, is_integer: bool) -> dict[str, Any]:
    """The bounds that are missing."""
    bounds: dict[str, Any] = {}
    least = schema.get("minimum", schema.get("exclusiveMinimum"))
    most = schema.get("maximum", schema.get("exclusiveMaximum"))
    if least is None and (most is None or most > -_MOST_EXACT):
        least = bounds["minimum"] = -_MOST_EXACT
    if most is None and (least is None or least < _MOST_EXACT):
        most = bounds["maximum"] = _MOST_EXACT
    has_range = least is not None and most is not None and most - least >= _LEAST_RANGE
    if not is_integer and "multipleOf" not in schema and has_range:
        bounds["multipleOf"] = _DECIMALS
    return bounds
