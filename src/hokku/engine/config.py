"""What the engine must be told: how much memory it may fill, and how much work one step may hold."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

from hokku.kernels.program import PAGE_TOKENS
from hokku.protocol.errors import BadSetting

_MAY_BE_ZERO: Final = (
    "max_wait_secs",
    "max_speculative_rows",
    "max_idle_batch_pages",
    "batch_step_secs",
    "lone_batch_step_secs",
    "turns_pictures",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The engine's limits. The program must have been made for at least `max_step_tokens` token rows,
    `max_logit_rows` logit rows and `num_pages` pages.

    `context_window_tokens` is what the model allows; the engine's own window is smaller when the pages hold
    less.
    """

    context_window_tokens: int
    vocabulary: int  # the token ids that may be drawn are below
    num_pages: int  # of 16 tokens each
    max_step_tokens: int = 512
    max_running: int = 64
    max_waiting: int = 1024
    max_wait_secs: float = 0  # of an interactive request for its turn; 0: as long as it takes
    max_speculative_rows: int = 0  # steps of up to this many rows, drafts included, take drafts; 0: none does
    max_idle_batch_pages: int = 256  # kept in the prefix cache that only batches have used: 4,096 tokens
    # Steps with requests of batches take about so long at most; 0: no matter how long.
    batch_step_secs: float = 0.0  # while interactive requests come
    lone_batch_step_secs: float = 0.0  # once none has come for some seconds
    # A picture's rows have their rotary positions by their row and column in it, as Qwen2-VL's models expect.
    turns_pictures: bool = False

    @property
    def window_tokens(self) -> int:
        """Most tokens a prompt and its output may have together."""
        return min(self.context_window_tokens, self.num_pages * PAGE_TOKENS)

    @property
    def max_logit_rows(self) -> int:
        """Most tokens that a step draws."""
        return max(self.max_running, self.max_speculative_rows)

    def __post_init__(self) -> None:
        for field in fields(self):
            least = 0 if field.name in _MAY_BE_ZERO else 1
            if getattr(self, field.name) < least:
                raise BadSetting(f"must be at least {least}", place=field.name)
        if self.max_speculative_rows > self.max_step_tokens:
            raise BadSetting(
                f"must not be more than max_step_tokens ({self.max_step_tokens})",
                place="max_speculative_rows",
            )
        # Every running request decodes in every step, and prefills always find a token of the budget left.
        if self.max_step_tokens <= self.max_running:
            raise BadSetting(
                f"must be more than max_running ({self.max_running})",
                place="max_step_tokens",
                way_out="raise the step's budget or run fewer requests at a time",
            )
