"""The prompts: English prose cut to token counts, the same for every engine, never the same twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

from benchmarks.engines.job import EngineProblem, Job, Prompt
from benchmarks.tickets import LABELS, instructions, ticket
from benchmarks.workloads import SHARED_PREFIX_TOKENS, TAIL_TOKENS, Case, PromptKind
from hokku.chat.codec import Codec
from hokku.chat.gguf_vocab import spec_from_gguf
from hokku.models.checkpoint import open_checkpoint
from hokku.protocol.messages import Conversation, TextPart, Turn

PROSE = Path(__file__).parents[1] / "tests" / "goldens" / "perplexity.txt"
_STRIDE = 211  # tokens; prime, so that no two prompts begin at the same word for a long time
_SUBJECTS = (
    "a lighthouse", "a night train", "a clockmaker", "a harbour in winter", "two rival bakers", "a lost letter",
    "a mountain school", "the last ferry", "an old orchard", "a city under snow", "a travelling circus",
    "a river that changed its course", "a museum at night", "a stubborn mule", "a violin", "a desert well",
)  # fmt: skip


class PromptMaker:
    """Cuts prompts for cases. Two jobs never share a prompt, so no cache of an earlier round can help, but for the
    instructions before labels, which are to be in everybody's cache.

    Args:
        default_model: the GGUF file whose tokenizer gives the ids.
    """

    def __init__(self, default_model: Path) -> None:
        self._codec = Codec.from_spec(spec_from_gguf(open_checkpoint(default_model).metadata))
        self._ids = self._codec.tokenizer.encode_rendered(PROSE.read_text("utf-8"))
        self._begins: Iterator[int] = count(0, _STRIDE)
        self._instructions, first_ticket = instructions(SHARED_PREFIX_TOKENS, self._num_tokens)
        self._tickets: Iterator[int] = count(first_ticket)

    def job(self, case: Case) -> Job:
        """One job for a case, with prompts that nobody has seen."""
        match case.prompts:
            case PromptKind.TEXT:
                prompts = [Prompt(self._cut(case.prompt_tokens)) for _ in range(case.streams)]
            case PromptKind.SHARED_PREFIX:
                prompts = self._shared_prefix(case.streams)
            case PromptKind.CHAT:
                prompts = [self._chat("", self._question()) for _ in range(case.streams)]
            case PromptKind.LABELS:
                prompts = [self._classified() for _ in range(case.streams)]
        return Job(prompts, case.output_tokens, case.concurrency)

    def _cut(self, num_tokens: int) -> list[int]:
        """So many tokens of the prose, which begins anew where it ends."""
        begin = next(self._begins) % len(self._ids)
        repeats = 1 + (begin + num_tokens) // len(self._ids)
        return (self._ids * repeats)[begin : begin + num_tokens]

    def _text(self, num_tokens: int) -> str:
        """Prose whose tokens are about as many: cut in the middle of a word it may be read one token longer."""
        pieces = b"".join(map(self._codec.tokenizer.token_bytes, self._cut(num_tokens)))
        return pieces.decode(errors="ignore").strip()

    def _shared_prefix(self, num_requests: int) -> list[Prompt]:
        system = self._text(SHARED_PREFIX_TOKENS)
        return [self._chat(system, self._text(TAIL_TOKENS)) for _ in range(num_requests)]

    def _classified(self) -> Prompt:
        text, _ = ticket(next(self._tickets))
        return replace(self._chat(self._instructions, text), labels=tuple(LABELS))

    def _num_tokens(self, text: str) -> int:
        return len(self._codec.tokenizer.encode_rendered(text))

    def _question(self) -> str:
        number = next(self._begins) // _STRIDE
        subject = _SUBJECTS[number % len(_SUBJECTS)]
        return (
            f"Write a long story, at least two thousand words, about {subject}. It is story number {number}."
        )

    def _chat(self, system: str, user: str) -> Prompt:
        turns = (Turn("user", (TextPart(user),)),)
        conversation = Conversation((TextPart(system),) if system else (), turns)
        return Prompt(self._codec.encode(conversation).token_ids, system, user)


def check_lengths(case: Case, job: Job, output_tokens: int) -> None:
    """Refuse a measurement whose replies ended much earlier than asked: it would flatter the engine.

    Labels end where they end; the session has looked at each.

    Raises:
        EngineProblem: fewer than nine tenths of the wanted tokens came.
    """
    if case.prompts is PromptKind.LABELS:
        return
    if output_tokens < 0.9 * job.wanted_tokens:
        raise EngineProblem(f"{case.key}: only {output_tokens} of {job.wanted_tokens} tokens came")
