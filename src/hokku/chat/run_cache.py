"""Remembers what was made of long runs of text: of the system prompt that every request brings along, of the turns of a
conversation that grows.

A template's control tokens cut a prompt into runs, and each run is tokenised by itself; so what is remembered is exact,
and there is no guessing where a prefix may be cut. Tokenising 2,000 tokens takes 3 ms of a core that the engine would
use as well; bringing their text into the typed alphabet and finding where its tokens end takes as long again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, Generic, TypeVar

from hokku.protocol.scope import current_scope

T = TypeVar("T")
_Key = tuple[str, Hashable, str]  # text, flag, whose it is

# Shorter runs take less than the memory is worth.
_LEAST_CHARACTERS: Final = 256


class RunCache(Generic[T]):
    """What was made of the runs used last, as many as `max_characters` of text hold; what was made for one workspace is
    not given to another. Safe to share between threads."""

    def __init__(self, max_characters: int = 1 << 20) -> None:
        self._max_characters = max_characters
        self._num_characters = 0
        self._lock = threading.Lock()
        self._runs: OrderedDict[_Key, T] = OrderedDict()

    def made(self, text: str, flag: Hashable, make: Callable[[str, Any], T]) -> T:
        """`make(text, flag)`, remembered where that pays. It depends on nothing else, and nobody changes it."""
        if not _LEAST_CHARACTERS <= len(text) <= self._max_characters:
            return make(text, flag)
        key = (text, flag, current_scope())
        with self._lock:
            known = self._runs.get(key)
            if known is not None:
                self._runs.move_to_end(key)
                return known
        made = make(text, flag)  # outside the lock: two threads may do the same work, once
        with self._lock:
            self._remember(key, made)
        return made

    def _remember(self, key: _Key, made: T) -> None:
        if key in self._runs:
            return
        self._runs[key] = made
        self._num_characters += len(key[0])
        while self._num_characters > self._max_characters:
            (text, _, _), _ = self._runs.popitem(last=False)
            self._num_characters -= len(text)
