"""The reader of forms: the same events however the bytes are cut, and a named error for whatever else they are."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import example, given

from hokku.api.multipart import FormReader, PartEnd, PartStart
from hokku.protocol.errors import InvalidRequest

BOUNDARY = b"-b-"
CONTENT_TYPE = "multipart/form-data; boundary=-b-"
# Of these, forms and near-forms come about often enough.
SHREDS = [
    b"---b-",
    b"\r\n",
    b"\r",
    b"\n",
    b"--",
    b"-",
    b"Content-Disposition: form-data; name=file",
    b'Content-Disposition: form-data; name="a"; filename="b"',
    b"Content-Type: text/plain",
    b": ",
    b"\x00\xff",
    b"text",
]


def events_of(pieces: list[bytes]) -> list[PartStart | bytes | PartEnd]:
    """All events, neighbouring pieces of content joined."""
    reader = FormReader(CONTENT_TYPE)
    events: list[PartStart | bytes | PartEnd] = []
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, bytes) and events and isinstance(events[-1], bytes):
                events[-1] += event
            else:
                events.append(event)
    reader.finish()
    return events


def answer_of(pieces: list[bytes]) -> object:
    """The events, or that the form is refused."""
    try:
        return events_of(pieces)
    except InvalidRequest:
        return "refused"


def form(content: bytes) -> bytes:
    head = b'---b-\r\nContent-Disposition: form-data; name="file"; filename="a"\r\nContent-Type: x/y\r\n\r\n'
    return head + content + b"\r\n---b---\r\n"


@given(st.binary(max_size=200) | st.lists(st.sampled_from(SHREDS)).map(b"".join), st.integers(1, 40))
@example(b"\r\n---b", 1)
@example(b"\r\n---b-x", 3)
def test_any_content_comes_through_whole(content: bytes, step: int) -> None:
    if b"\r\n---b-" in b"\r\n" + content:
        return  # a boundary of its own ends it
    body = form(content)
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    expected = [PartStart("file", "a", "x/y"), *([content] if content else []), PartEnd()]
    assert events_of(pieces) == events_of([body]) == expected


@given(
    st.lists(st.sampled_from(SHREDS) | st.binary(max_size=5), max_size=30).map(b"".join), st.integers(1, 20)
)
def test_any_bytes_are_read_or_refused_however_they_are_cut(body: bytes, step: int) -> None:
    pieces = [body[at : at + step] for at in range(0, len(body), step)]
    assert answer_of(pieces) == answer_of([body])


@given(st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@example("multipart/form-data; boundary")
def test_a_content_type_without_a_boundary_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest):
        FormReader(content_type)


@pytest.mark.parametrize("header", [b"", b"X: y\r\n", b"Content-Disposition: attachment; name=a\r\n"])
def test_a_part_without_a_name_is_refused(header: bytes) -> None:
    assert answer_of([b"---b-\r\n" + header + b"\r\nx\r\n---b---\r\n"]) == "refused"
