"""AWS's own description of the operations, which is the contract: strategies for requests, and a judge of answers."""

from __future__ import annotations

import base64
from typing import Any

import botocore.session
from botocore.model import Shape
from hypothesis import strategies as st

RUNTIME = botocore.session.get_session().get_service_model("bedrock-runtime")
SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5)
JSON = st.dictionaries(
    st.sampled_from(["a", "type", "name"]), st.recursive(SCALARS, st.lists, max_leaves=3), max_size=2
)
WORDS = st.sampled_from(["Hi", "Hi there", "a", "cachePoint"])


def members_of(name: str) -> set[str]:
    """The members of a structure."""
    return set(RUNTIME.shape_for(name).members)


def requests_of(operation: str) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies of an operation that AWS's clients would send, whatever the server makes of them."""
    shape = RUNTIME.operation_model(operation).input_shape
    in_body = {name: each for name, each in shape.members.items() if "location" not in each.serialization}
    return st.fixed_dictionaries({}, optional={name: values_of(each) for name, each in in_body.items()})


def values_of(shape: Shape, depth: int = 0) -> st.SearchStrategy[Any]:
    """Values of a shape, as they stand in JSON."""
    if getattr(shape, "is_document_type", False):
        return JSON
    match shape.type_name:
        case "structure":
            return st.deferred(lambda: _structures(shape, depth + 1))
        case "list":
            most = min(shape.metadata.get("max", 3), 3)
            least = min(shape.metadata.get("min", 0), most)
            return st.lists(values_of(shape.member, depth + 1), min_size=least, max_size=most)
        case "map":
            return st.dictionaries(WORDS, values_of(shape.value, depth + 1), min_size=1, max_size=2)
        case "string":
            return _strings(shape)
        case "blob":
            return st.binary(min_size=1, max_size=6).map(lambda data: base64.b64encode(data).decode())
        case "boolean":
            return st.booleans()
        case "integer" | "long":
            return st.integers(shape.metadata.get("min", 0), shape.metadata.get("max", 1000))
        case _:
            return st.floats(shape.metadata.get("min", 0), shape.metadata.get("max", 1))


def _structures(shape: Shape, depth: int) -> st.SearchStrategy[dict[str, Any]]:
    values = {name: values_of(member, depth) for name, member in shape.members.items()}
    if getattr(shape, "is_tagged_union", False):
        return st.one_of([st.fixed_dictionaries({name: value}) for name, value in values.items()])
    required = {name: values[name] for name in shape.required_members}
    return st.fixed_dictionaries(
        required, optional={name: value for name, value in values.items() if name not in required}
    )


def _strings(shape: Shape) -> st.SearchStrategy[str]:
    if shape.enum:
        return st.sampled_from(shape.enum)
    if "pattern" in shape.metadata:
        longest = shape.metadata.get("max", 50)
        return st.from_regex(shape.metadata["pattern"], fullmatch=True).filter(
            lambda text: len(text) <= longest
        )
    return WORDS | st.text(min_size=shape.metadata.get("min", 0), max_size=10)
