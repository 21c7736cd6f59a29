"""Pictures from processes of their own, a bounded number of batches ahead.

A batch depends on its number alone, so that a resumed run sees what it would have seen.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Iterator
from dataclasses import dataclass
from queue import Full

import numpy as np
from numpy.typing import NDArray

from training.marks import inked, labelled
from training.notes import written
from training.pictures import CROWD, Painter
from training.questions import Question, Questioner

_AHEAD = 6  # batches
_TEXTS = ("word", "word", "word", "number", "number", "letter")


@dataclass(frozen=True)
class Example:
    """One picture's questions, under one system prompt."""

    system: str
    picture_last: bool
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class Batch:
    """Pictures with what is to be learned of them."""

    tiles: NDArray[np.uint8]  # [B][256][256][3]
    notes: NDArray[np.int16]  # [B][64]
    inked: NDArray[np.uint8]  # [B][256][16]
    labels: NDArray[np.int16]  # [B][4][256]
    examples: tuple[Example, ...]


@dataclass(frozen=True)
class FeedConfig:
    """What a phase is fed. `phase` keeps the seeds of phases apart."""

    seed: int
    phase: int
    batch_size: int
    questions: int
    with_charts: bool = True
    crowds: float = 0.0  # share of the pictures
    texts: float = 0.0  # share of further words, numbers and letters
    unknown_words: float = 0.0  # share of the words that are only spelled, known or not


def make_batch(config: FeedConfig, number: int) -> Batch:
    """The batch of this number."""
    seed = (config.seed * 10 + config.phase) * 10_000_000 + number
    painter = Painter(seed, with_charts=config.with_charts)
    questioner = Questioner(seed)
    pictures = [painter.picture(_kind(painter, config)) for _ in range(config.batch_size)]
    examples, notes = [], []
    for picture in pictures:
        notes.append(written(picture, knows_word=not painter.chance(config.unknown_words)))
        picture_last = bool(questioner.random.random() < 0.1)
        most = 1 if picture_last else config.questions
        asked = tuple(questioner.questions(picture, most)) if config.questions else ()
        examples.append(Example(questioner.system(), picture_last, asked))
    return Batch(
        np.stack([picture.pixels for picture in pictures]),
        np.stack(notes),
        np.stack([inked(picture) for picture in pictures]),
        np.stack([labelled(picture) for picture in pictures]),
        tuple(examples),
    )


def _kind(painter: Painter, config: FeedConfig) -> str | None:
    """What to draw, None for the painter's own choice."""
    if painter.chance(config.crowds):
        return CROWD
    return painter.one_of(_TEXTS) if painter.chance(config.texts / (1 - config.crowds)) else None


def feed(config: FeedConfig, first: int, num_workers: int = 1) -> Iterator[Batch]:
    """Batches from number `first` on, in order and without end, whoever draws them."""
    context = multiprocessing.get_context("fork")
    queues: list[multiprocessing.Queue[Batch]] = [context.Queue(_AHEAD) for _ in range(num_workers)]
    workers = [
        context.Process(
            target=_fill, args=(queue, config, first + place, num_workers, os.getpid()), daemon=True
        )
        for place, queue in enumerate(queues)
    ]
    for worker in workers:
        worker.start()
    try:
        for queue in itertools.cycle(queues):
            yield queue.get()
    finally:
        for worker in workers:
            worker.kill()
            worker.join()


def _fill(
    queue: multiprocessing.Queue[Batch], config: FeedConfig, number: int, step: int, parent: int
) -> None:
    queue.cancel_join_thread()  # nobody reads what is left when training ends
    batch = make_batch(config, number)
    while os.getppid() == parent:  # a trainer that was killed cannot end its workers
        try:
            queue.put(batch, timeout=2)
        except Full:
            continue
        number += step
        batch = make_batch(config, number)
