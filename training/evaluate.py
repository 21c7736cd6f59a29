"""Asks the eyes about pictures never seen: `python -m training.evaluate --run build/eyes`, or of those in the package
`python -m training.evaluate --eyes src/hokku/registry/eyes`.

Fresh seeds, fonts and wordings of which no training picture or question had any. The frozen language model answers
greedily; a reply is right if it names what is expected and nothing else that it could have been. What the rows
themselves say, without the language model, is measured beside it.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch

from hokku.kernels.program import I32
from hokku.models.vision.codebook import Codebook
from hokku.models.vision.tower import open_tower
from training.answering import reply
from training.dictionary import dictionary
from training.export import exported, read_exported, words_without_code
from training.language import LanguageModel, Prompts, default_checkpoint
from training.notes import GROUPS, VOCABULARY, WORD_ROW, written
from training.pictures import Painter, Picture
from training.questions import Question, Questioner
from training.vocabulary import NEW_WORDS, NUMBERS

RESULTS = "results.json"
_SEED = 90_001
_MOST_TOKENS = 16
_FIGURES = re.compile(r"\b(?:10|[0-9])\b")
_NO_GUESS = ("describe",)  # nothing to hold such a reply against


@dataclass
class Score:
    """Right replies out of those asked for, and how often a guess would be right."""

    asked: int = 0
    right: int = 0
    chances: float = 0.0
    example: dict[str, str] = field(default_factory=dict)

    def add(self, question: Question, said: str) -> None:
        """Count one reply."""
        self.asked += 1
        self.right += is_right(question, said)
        self.chances += question.chance
        if not self.example:
            self.example = {"question": question.text, "reply": said, "expected": question.expected}


def is_right(question: Question, said: str) -> bool:
    """Whether a reply names what is expected and no rival, except within it: "top" in "top left". A word that was to be
    read must be the one in quotes, or the last."""
    said, expected = said.lower(), question.expected.lower()
    if question.expected in NUMBERS:
        said = _FIGURES.sub(lambda figure: NUMBERS[int(figure[0])], said)  # "3" counts as "three"
    if question.task == "word":
        quoted = re.findall(r'"([^"]*)"', said) or re.findall(r"\w+", said)[-1:]
        return bool(quoted) and quoted[0].strip(" .,") == expected
    rest = re.sub(rf"\b{re.escape(expected)}\b", " ", said)
    return _names(said, expected) and not any(_names(rest, rival.lower()) for rival in question.rivals)


def _names(text: str, words: str) -> bool:
    return re.search(rf"\b{re.escape(words)}\b", text) is not None


def row_of(question: Question, picture: Picture) -> str:
    """Under which name the table counts a question."""
    task = question.task
    if task in ("count", "count all"):
        return f"{task}, up to five" if NUMBERS.index(question.expected) <= 5 else f"{task}, six to nine"
    if task == "word" and picture.text in NEW_WORDS:
        known = "of" if picture.text in dictionary() else "outside"
        return f"word never trained on, {known} the dictionary"
    return task


def held_out(num_pictures: int) -> Iterator[tuple[Picture, list[Question], str]]:
    """Pictures of the held-out split with up to three questions each, and the system prompt."""
    painter, questioner = Painter(_SEED, held_out=True), Questioner(_SEED, held_out=True)
    for _ in range(num_pictures):
        picture = painter.picture()
        asked = [q for q in questioner.questions(picture, 9) if q.task not in _NO_GUESS]
        yield picture, asked[:3], questioner.system()


class Evaluator:
    """A run's eyes as they are exported, or eyes that were, on the held-out split."""

    def __init__(self, run: Path, eyes: Path | None = None) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checkpoint = default_checkpoint()
        self.language = LanguageModel(checkpoint)
        self.prompts = Prompts(checkpoint)
        with tempfile.TemporaryDirectory() as temporary:
            folder = eyes or Path(temporary)
            if eyes is None:
                exported(run, folder, self.language, self.prompts)
            self.tower = read_exported(folder).to(self.device)
            codebook = open_tower(folder).codebook()
        assert codebook is not None, "exported eyes have one"
        self.codebook: Codebook = codebook
        self.language.to(self.device)
        self._dictionary = dictionary()
        self._names = (*VOCABULARY, *words_without_code(self._dictionary))

    @torch.no_grad()
    def scores(
        self, num_pictures: int, *, perfect_notes: bool = False
    ) -> tuple[dict[str, Score], dict[str, Score]]:
        """By task of the questions, and by group of the notes. Perfect notes are what the tower is to say."""
        tasks: dict[str, Score] = defaultdict(Score)
        notes: dict[str, Score] = defaultdict(Score)
        for picture, questions, system in held_out(num_pictures):
            said = self._wanted(picture) if perfect_notes else self._seen(picture)
            self._compare(self._wanted(picture), said, notes)
            rows = torch.from_numpy(self.codebook.rows(said)).to(self.device)
            for question in questions:
                prompt = self.prompts.render(question.text, system)
                answer = reply(self.language, self.prompts, rows, prompt, _MOST_TOKENS)
                tasks[row_of(question, picture)].add(question, answer)
        return dict(sorted(tasks.items())), dict(sorted(notes.items()))

    def _seen(self, picture: Picture) -> I32:
        tile = torch.from_numpy(picture.pixels)[None].to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16):
            scores = self.tower(tile) - self.tower.connector.habits  # which the codebook adds
        return self.codebook.words(scores[0].float().cpu().numpy())

    def _wanted(self, picture: Picture) -> I32:
        """The notes, and a word that only the dictionary has."""
        words = written(picture).astype(np.int32)
        if picture.kind == "word" and picture.text in self._dictionary:
            words[WORD_ROW] = self._names.index(picture.text)
        return words

    def _compare(self, wanted: I32, said: I32, scores: dict[str, Score]) -> None:
        for right, word in zip(wanted.tolist(), said.tolist(), strict=True):
            for name, words in GROUPS.items():
                if self._names[right] in words:
                    scores[name].asked += 1
                    scores[name].right += right == word
                    scores[name].chances += 1 / len(words)


def table(scores: dict[str, Score]) -> str:
    """The scores as a Markdown table."""
    lines = ["| | asked | right | chance |", "|---|---:|---:|---:|"]
    for name, score in scores.items():
        share, chance = score.right / score.asked, score.chances / score.asked
        lines.append(f"| {name} | {score.asked} | {share:.1%} | {chance:.1%} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/eyes"))
    parser.add_argument(
        "--eyes", type=Path, help="a folder of exported eyes, in place of a run; writes no results"
    )
    parser.add_argument("--pictures", type=int, default=600)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--perfect-notes",
        action="store_true",
        help="show the language model what the tower is to say, not what it says: the most it can get right",
    )
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    started = time.monotonic()
    tasks, notes = Evaluator(given.run, given.eyes).scores(given.pictures, perfect_notes=given.perfect_notes)
    print(table(tasks), table(notes), sep="\n\n")
    if given.perfect_notes or given.eyes:
        return
    results = {
        "pictures": given.pictures,
        "seed": _SEED,
        "seconds": round(time.monotonic() - started),
        "tasks": {name: asdict(score) for name, score in tasks.items()},
        "notes": {name: asdict(score) for name, score in notes.items()},
    }
    (given.run / RESULTS).write_text(json.dumps(results, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
