"""Reading the members of a Converse request, with the sentences of AWS's own validation for what is wrong with them.

The service model (botocore's `bedrock-runtime`) says what there is: structures whose members are all named, unions of
which exactly one member is there, and limits of lengths and values. A null counts as absent, as in every AWS protocol.

Paths are dotted and count from 0, as the sentences of Converse itself do; those of AWS's common validation count from
1 and say `member` (`coral_path`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any, NoReturn

from hokku.protocol.errors import InvalidRequest


def coral_path(path: str) -> str:
    """`messages.0.content` as the common validation writes it: `messages.1.member.content`."""
    return ".".join(f"{int(name) + 1}.member" if name.isdigit() else name for name in path.split("."))


def refuse_member(path: str, constraint: str, value: object = None) -> NoReturn:
    """Raise the common validation's error. The value is named where it is a short one."""
    shown = f" '{value}'" if isinstance(value, str | int | float) and len(str(value)) <= 100 else ""
    raise InvalidRequest(
        f"1 validation error detected: Value{shown} at '{coral_path(path)}' failed to satisfy constraint: "
        f"Member must {constraint}"
    )


def refuse_extraneous(path: str, name: str) -> NoReturn:
    """Raise the error for a member that nobody knows."""
    place = "#" if not path else "#/" + path.replace(".", "/")
    raise InvalidRequest(
        f"Malformed input request: {place}: extraneous key [{name}] is not permitted, please reformat your input and "
        "try again."
    )


def not_served(path: str, what: str) -> NoReturn:
    """Raise the error for what the service model knows and this server does not serve."""
    raise InvalidRequest(f"this release of Hokku does not serve {what}", place=path)


def joined(path: str, name: str | int) -> str:
    """A dotted path one step deeper."""
    return f"{path}.{name}" if path else str(name)


def a_structure(value: object, path: str, members: Collection[str]) -> dict[str, Any]:
    """An object with some of these members, without those that are null."""
    if not isinstance(value, dict):
        refuse_member(path, "be a structure")
    for name in value:
        if name not in members:
            refuse_extraneous(path, name)
    return {name: member for name, member in value.items() if member is not None}


def a_union(value: object, path: str, members: Collection[str]) -> tuple[str, Any]:
    """The one member that is there: its name and its value."""
    there = a_structure(value, path, members)
    if len(there) != 1:
        refuse_member(path, f"have exactly one of the members [{', '.join(members)}]")
    return next(iter(there.items()))


def needed(fields: dict[str, Any], name: str, path: str) -> Any:
    """The member's value. `path` is the structure's own."""
    return fields[name] if name in fields else refuse_member(joined(path, name), "not be null")


def a_list(value: object, path: str, *, least: int = 0, most: int | None = None) -> list[Any]:
    """A JSON array."""
    if not isinstance(value, list):
        refuse_member(path, "be a list")
    _check_length(len(value), path, None, least, most)
    return value


def a_text(
    value: object, path: str, *, least: int = 0, most: int | None = None, pattern: str | None = None
) -> str:
    """A JSON string; the whole of it matches `pattern`."""
    if not isinstance(value, str):
        refuse_member(path, "be a string")
    _check_length(len(value), path, value, least, most)
    if pattern is not None and not re.fullmatch(pattern, value):
        refuse_member(path, f"satisfy regular expression pattern: {pattern}", value)
    return value


def a_choice(value: object, path: str, choices: Iterable[str]) -> str:
    """A string of an enumeration."""
    choices = list(choices)
    text = a_text(value, path)
    return (
        text
        if text in choices
        else refuse_member(path, f"satisfy enum value set: [{', '.join(choices)}]", text)
    )


def a_flag(value: object, path: str) -> bool:
    """A JSON boolean."""
    return value if isinstance(value, bool) else refuse_member(path, "be a boolean", None)


def a_document(value: object, path: str) -> dict[str, Any]:
    """Free JSON, which is an object wherever Converse takes some as a request's own."""
    return value if isinstance(value, dict) else refuse_member(path, "be an object")


def a_whole_number(value: object, path: str, *, least: int) -> int:
    """A JSON number without a fraction."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        refuse_member(path, "be an integer", None)
    return (
        value
        if value >= least
        else refuse_member(path, f"have value greater than or equal to {least}", value)
    )


def a_unit_number(value: object, path: str) -> float:
    """A JSON number from 0 to 1."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        refuse_member(path, "be a number", None)
    if value < 0:
        refuse_member(path, "have value greater than or equal to 0", value)
    if value > 1:
        refuse_member(path, "have value less than or equal to 1", value)
    return value


def _check_length(length: int, path: str, value: object, least: int, most: int | None) -> None:
    if length < least:
        refuse_member(path, f"have length greater than or equal to {least}", value)
    if most is not None and length > most:
        refuse_member(path, f"have length less than or equal to {most}", value)
