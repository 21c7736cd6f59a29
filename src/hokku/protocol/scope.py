"""In whose name work is being done: memories of earlier work are kept apart by it, so that the time of an answer tells
no workspace what another has asked.

A context variable, since those who remember (a tokenizer's runs, compiled grammars) lie deep below those who know the
caller, with templates of other libraries in between. Work that is handed to a thread takes it along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_scope: ContextVar[str] = ContextVar("hokku_scope", default="")


def current_scope() -> str:
    """Whose work this is; "" where nobody has said."""
    return _scope.get()


@contextmanager
def working_for(workspace_id: str) -> Iterator[None]:
    """What is done inside is this workspace's."""
    token = _scope.set(workspace_id)
    try:
        yield
    finally:
        _scope.reset(token)
