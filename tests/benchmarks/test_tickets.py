"""The texts of W9."""

from __future__ import annotations

from benchmarks.tickets import LABELS, instructions, ticket
from benchmarks.workloads import LABEL_REQUESTS, LABELLED, SHARED_PREFIX_TOKENS

from hokku.registry.manifest import MIN_CACHE_TOKENS


def num_words(text: str) -> int:
    return len(text.split())


def test_no_text_comes_twice_and_every_label_has_its_share() -> None:
    tickets = [ticket(number) for number in range(10_000)]
    assert len({text for text, _ in tickets}) == len(tickets)
    assert {label for _, label in tickets[: 2 * len(LABELS)]} == set(LABELS)
    assert all(20 < num_words(text) < 60 for text, _ in tickets)


def test_instructions_name_every_label_and_are_as_long_as_asked_and_little_longer() -> None:
    text, first_left = instructions(1_000, num_words)
    assert all(f"- {label}: " in text for label in LABELS)
    assert 1_000 <= num_words(text) < 1_060
    assert ticket(first_left - 1)[0] in text
    assert not any(ticket(first_left + number)[0] in text for number in range(LABEL_REQUESTS))


def test_the_prompt_is_long_enough_to_be_kept() -> None:
    assert SHARED_PREFIX_TOKENS >= MIN_CACHE_TOKENS
    assert LABELLED.prompt_tokens > SHARED_PREFIX_TOKENS
