"""Where a request's constraint meets the engine: forced tokens are appended without a draw, and what may be drawn
after them is asked and checked once, so that no constraint can break a step that others share.

Forced tokens are computed together, as a prompt is, instead of one a step ("jump-ahead decoding": Zheng et al. 2024,
SGLang). A draw is named by the number of tokens before it, so jumping changes no token.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hokku.engine.request import Request
from hokku.protocol.engine import FinishReason, TokenConstraint
from hokku.protocol.errors import EngineFailed, RequestError


def follow(request: Request, news: Sequence[int], vocabulary: int) -> None:
    """Tell the constraint which tokens were drawn, none at the start, and append what must come after them.
    Raises `EngineFailed`, or the `RequestError` that the constraint itself raised."""
    constraint = request.generation.constraint
    if constraint is None or len(request.tokens) == request.max_tokens:
        return
    try:
        if news:
            constraint.advance(news)
        _jump(request, constraint, vocabulary)
        if len(request.tokens) < request.max_tokens:
            request.allowed = _checked(constraint.allowed(), vocabulary)
    except RequestError:
        raise  # what the caller asked for cannot be followed any further
    except Exception as error:
        raise EngineFailed(f"the request's constraint failed: {error}") from error


def num_free(request: Request, draft: Sequence[int]) -> int:
    """How much of a draft may be tried in one step, which has no masks between its tokens."""
    constraint = request.generation.constraint
    if constraint is None:
        return len(draft)
    try:
        return max(0, min(constraint.num_free(draft), len(draft)))
    except Exception:
        return 0  # what is broken shows where it is told of tokens, and fails its request there


def _jump(request: Request, constraint: TokenConstraint, vocabulary: int) -> None:
    while (room := request.max_tokens - len(request.tokens)) and (forced := constraint.forced()):
        jumped: list[int] = []
        for token in forced[:room]:
            if not 0 <= token < vocabulary:
                raise ValueError(f"it forces token {token} of a vocabulary of {vocabulary}")
            if token in request.generation.stop_token_ids:
                request.max_tokens = len(request.tokens) + len(jumped)
                request.end_reason = FinishReason.STOP_TOKEN
                break
            jumped.append(token)
        request.tokens.extend(jumped)
        if jumped:
            constraint.advance(jumped)


def _checked(allowed: NDArray[np.uint32], vocabulary: int) -> NDArray[np.uint32]:
    """A copy of a mask that is sure to allow a token. Raises `ValueError`."""
    num_words = -(-vocabulary // 32)
    if allowed.dtype != np.uint32 or allowed.shape != (num_words,):
        raise ValueError(f"its mask is {allowed.dtype}{list(allowed.shape)}, not uint32[{num_words}]")
    padding = num_words * 32 - vocabulary
    if not allowed[:-1].any() and not int(allowed[-1]) & (0xFFFFFFFF >> padding):
        raise ValueError("its mask allows no token")
    return allowed.copy()
