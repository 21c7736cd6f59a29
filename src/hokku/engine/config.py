"""What the engine must be told: how much memory it may fill, and how much work one step may hold."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hokku.protocol.errors import BadSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """The engine's limits. The program must have been made for at least `max_step_tokens` token rows,
    `max_running` logit rows and `num_pages` pages.

    `context_window_tokens` is what the model allows; the engine's own window is smaller when the pages hold
    less.
    """

    context_window_tokens: int
    num_pages: int  # of 16 tokens each
    max_step_tokens: int = 512
    max_running: int = 64
    max_waiting: int = 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise BadSetting("must be at least 1", place=field.name)
        # Every running request decodes in every step, and prefills always find a token of the budget left.
        if self.max_step_tokens <= self.max_running:
            raise BadSetting(
                f"must be more than max_running ({self.max_running})",
                place="max_step_tokens",
                way_out="raise the step's budget or run fewer requests at a time",
            )
