"""The simplest constraint: a form to fill in, with a set of tokens for each place."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import takewhile

import numpy as np
from numpy.typing import NDArray

_MOST_FORCED = 7  # told at once, so that engines have to ask again


class Form:
    """Allows at each place one of its tokens. Places with a single token are forced, unless `jumps` is false."""

    def __init__(self, places: Sequence[Collection[int]], vocabulary: int, *, jumps: bool = True) -> None:
        self._places = places
        self._vocabulary = vocabulary
        self._jumps = jumps
        self._at = 0

    def fresh(self, *, jumps: bool = True) -> Form:
        """The same form, empty."""
        return Form(self._places, self._vocabulary, jumps=jumps)

    def forced(self) -> Sequence[int]:
        """The tokens of the next single places."""
        tokens: list[int] = []
        for place in self._places[self._at : self._at + _MOST_FORCED] if self._jumps else ():
            if len(place) > 1:
                break
            tokens.extend(place)
        return tokens

    def advance(self, tokens: Sequence[int]) -> None:
        """Move on, over tokens that fit."""
        for token in tokens:
            assert token in self._places[self._at]
            self._at += 1

    def num_free(self, draft: Sequence[int]) -> int:
        """As far as the places allow everything."""
        whole = takewhile(lambda place: len(place) == self._vocabulary, self._places[self._at :])
        return max(0, min(len(draft), len(list(whole)) - 1))

    def allowed(self) -> NDArray[np.uint32]:
        """The tokens of this place."""
        assert not self.forced()
        bits = np.zeros(-(-self._vocabulary // 32) * 32, np.uint8)
        bits[list(self._places[self._at])] = 1
        return np.packbits(bits, bitorder="little").view("<u4").astype(np.uint32)
