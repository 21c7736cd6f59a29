"""Writes the words that a spelling is held against: `python -m training.dictionary`.

The tower reads letter by letter, and what it reads is looked up among the commonest words of the language model, those
that are one token of its vocabulary. Tokens stand in order of how common they are. Many of them begin longer words
and are none themselves; those the model itself gives away, by what it expects to follow.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from training.language import LanguageModel, Prompts, default_checkpoint
from training.vocabulary import MAX_LETTERS, WORDS

DICTIONARY = Path(__file__).with_name("dictionary.txt")
MOST_WORDS = 4_000
_IN_A_SENTENCE = "The word is"
_MOST_GOING_ON = 0.5  # of the probability of what follows a whole word, what may be more of a word


@cache
def dictionary() -> tuple[str, ...]:
    """The words, the commonest first; those that the tower was trained on are all among them."""
    return tuple(DICTIONARY.read_text("utf-8").split())


def _candidates(prompts: Prompts) -> Iterator[tuple[str, int]]:
    """Tokens that may be words, with their ids."""
    for token in range(prompts.tokenizer.num_tokens):
        written = prompts.tokenizer.token_bytes(token)
        if re.fullmatch(rb" [a-z]{2,%d}" % MAX_LETTERS, written):
            yield written[1:].decode(), token


@torch.no_grad()
def _going_on(model: LanguageModel, prompts: Prompts, tokens: list[int], more: Tensor) -> list[float]:
    """How likely each token is followed by more of the word. `more`: which tokens would be that."""
    before = prompts.tokenizer.encode(_IN_A_SENTENCE)
    ids = torch.tensor([[*before, token] for token in tokens])
    positions = torch.arange(ids.shape[1]).expand(len(tokens), -1)
    hidden = model(model.embedding[ids], positions)
    expected = model.logits(hidden[:, -1]).softmax(-1)[
        :, : len(more)
    ]  # the table may be longer than the vocabulary
    shares: list[float] = (expected @ more.float()).tolist()
    return shares


def _common_words(model: LanguageModel, prompts: Prompts, most: int) -> list[str]:
    tokenizer = prompts.tokenizer
    more = torch.tensor(
        [
            re.match(rb"[a-z]", tokenizer.token_bytes(token)) is not None
            for token in range(tokenizer.num_tokens)
        ]
    )
    candidates, found = list(_candidates(prompts)), list[str]()
    for start in range(0, len(candidates), 64):
        some = candidates[start : start + 64]
        shares = _going_on(model, prompts, [token for _, token in some], more)
        found += [word for (word, _), share in zip(some, shares, strict=True) if share < _MOST_GOING_ON]
        if len(found) >= most:
            break
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=MOST_WORDS)
    given = parser.parse_args()
    checkpoint = default_checkpoint()
    common = _common_words(LanguageModel(checkpoint), Prompts(checkpoint), given.most)
    words = [*common[: given.most], *(word for word in WORDS if word not in common)]
    DICTIONARY.write_text("\n".join(words) + "\n", "utf-8")
    print(f"{DICTIONARY}: {len(words)} words")


if __name__ == "__main__":
    main()
