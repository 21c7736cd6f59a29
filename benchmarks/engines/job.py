"""What every engine is asked to do, and what it answers. Standard library only: peers' environments read this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: the ids that every engine reads, and for servers of messages the texts that give these ids.

    With `labels`, the answer is to be one of these, whatever the model would rather say, and the system prompt is to be
    kept for the requests that follow.
    """

    token_ids: Sequence[int]
    system: str = ""
    user: str = ""
    labels: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Job:
    """Prompts to answer greedily, each with `max_new_tokens` tokens, ends of text ignored where that can be said."""

    prompts: Sequence[Prompt]
    max_new_tokens: int
    at_a_time: int = 0  # requests under way at once; 0 is all of them

    @property
    def wanted_tokens(self) -> int:
        """Tokens that all replies have together when none ends early."""
        return len(self.prompts) * self.max_new_tokens

    @property
    def concurrency(self) -> int:
        """Requests under way at once."""
        return self.at_a_time or len(self.prompts)


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a job took, from handing it over to its last token."""

    secs: float
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Needs:
    """What an engine must have room for, and how it is to be asked."""

    model: str  # path of a GGUF file
    threads: int
    streams: int  # requests under way at once
    window_tokens: int  # of one request, prompt and reply
    total_tokens: int  # of all requests under way
    prefix_cache: bool = False
    isa: str = ""  # kernel path to force; "" is the engine's own choice
    speculation: bool = True  # whether Hokku may draft tokens
    cache_dir: str = ""  # where packed weights go; "" is the engine's own choice

    def as_json(self) -> dict[str, Any]:
        """For a worker's command line."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Needs:
        """What `as_json` gave."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


class Session(Protocol):
    """An engine with a model loaded, waiting for jobs."""

    def run(self, job: Job) -> Timing:
        """Do a job. Raises `EngineProblem` when the engine cannot."""

    def close(self) -> None:
        """Let go of the model. Idempotent."""

    @property
    def pid(self) -> int | None:
        """The process that holds the model between jobs; None where each job has a process of its own."""


class EngineProblem(Exception):
    """An engine could not do what it was asked; the message is one line."""


def one_line(text: str, most: int = 200) -> str:
    """The last line that says something, cut to `most` characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:most] if lines else "no message"
