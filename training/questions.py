"""Questions and answers about a picture, in varied wording. Answers come from what was drawn, never from the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from training.pictures import Picture, Thing
from training.vocabulary import (
    COLOURS,
    DIGITS,
    KINDS,
    LETTERS,
    NUMBERS,
    PLACES,
    SHAPES,
    THINGS,
    WORDS,
    plural,
    with_article,
)  # fmt: skip
from training.wordings import BRIEFLY, HELD_OUT_BRIEFLY, HELD_OUT_WORDINGS, SYSTEMS, TRAINING_WORDINGS

T = TypeVar("T")

# How much rarer than others a task is picked (Efraimidis and Spirakis, weighted sampling without replacement).
_SHARES = {"kind": 0.25, "background": 0.4, "describe": 0.25, "size": 0.5, "relation": 0.5}
_SIDES = {"to the left of": (1, -1), "to the right of": (1, 1), "above": (0, -1), "below": (0, 1)}


@dataclass(frozen=True)
class Question:
    """A question with its answer. `expected` is what the reply must name, `rivals` what it must not name."""

    task: str
    text: str
    answer: str
    expected: str
    rivals: tuple[str, ...]

    @property
    def chance(self) -> float:
        """How often a guess among the possible values is right."""
        return 1 / (len(self.rivals) + 1)


class Questioner:
    """Asks about pictures in the wordings of one split."""

    def __init__(self, seed: int, *, held_out: bool = False) -> None:
        self.random = np.random.default_rng([seed, 7, int(held_out)])
        self._wordings = HELD_OUT_WORDINGS if held_out else TRAINING_WORDINGS
        self._briefly = HELD_OUT_BRIEFLY if held_out else BRIEFLY

    def questions(self, picture: Picture, most: int) -> list[Question]:
        """Up to `most` different questions about a picture, in random order."""
        every = list(self._every(picture))
        # Of things that every picture has, some are asked about; of what is hard, all.
        keys = self.random.random(len(every)) ** np.array([1 / _SHARES.get(q.task, 1.0) for q in every])
        return [every[place] for place in np.argsort(-keys)[:most].tolist()]

    def system(self) -> str:
        """Usually "", the template's own system prompt."""
        return SYSTEMS[int(self.random.integers(len(SYSTEMS)))] if self.random.random() < 0.2 else ""

    def _every(self, picture: Picture) -> Iterator[Question]:
        match picture.kind:
            case "shapes":
                yield from self._about_scene(picture)
            case "word":
                yield self._ask("word", picture.text, f'It says "{picture.text}".', rivals=WORDS)
            case "letter":
                yield self._ask("letter", picture.text.upper(), f"It is the letter {picture.text.upper()}.",
                                rivals=LETTERS)  # fmt: skip
            case "number":
                one = len(picture.text) == 1
                yield self._ask("digit" if one else "number", picture.text, f"It is the number {picture.text}.",
                                rivals=DIGITS if one else tuple(str(n) for n in range(10, 1000)))  # fmt: skip
            case "form":
                yield from self._about_form(picture)
            case _:
                yield from self._about_chart(picture)
        yield self._ask(
            "kind", picture.kind, f"It is a picture of {_kind_words(picture.kind)}.", rivals=KINDS
        )
        if picture.background and picture.kind != "form":
            colour = picture.background
            yield self._ask("background", colour, f"The background is {colour}.", rivals=tuple(COLOURS))
        yield self._ask("describe", "", describe(picture), can_be_brief=False)
        if picture.kind != "shapes":
            yield self._any(tuple(self._about_absent(THINGS)))

    def _about_scene(self, picture: Picture) -> Iterator[Question]:
        things = picture.things
        names, colours = Counter(t.name for t in things), Counter(t.colour for t in things)
        if len(things) == 1:
            yield self._ask("shape", things[0].name, f"It is {with_article(things[0].name)}.", rivals=THINGS)
        for thing in things:
            if names[thing.name] == 1:
                yield from self._about_thing(thing, things)
            if colours[thing.colour] == 1:
                yield self._ask("shape of colour", thing.name, f"The {thing.name} is {thing.colour}.",
                                rivals=THINGS, colour=thing.colour)  # fmt: skip
        at, present = (things[int(self.random.integers(len(things)))] for _ in range(2))
        words = with_article(f"{at.colour} {at.name}")
        yield self._ask(
            "what at", at.name, f"There is {words} at the {at.place}.", rivals=THINGS, place=at.place
        )
        for name, count in names.items():
            if name in SHAPES:
                yield self._count(name, count)
        yield self._ask("presence", "yes", self._is_there(present, names), brief="Yes", rivals=("yes", "no"),
                        thing=present.name)  # fmt: skip
        yield from self._about_absent(tuple(thing for thing in THINGS if thing not in names))
        total = len(things)
        verb = "is one thing" if total == 1 else f"are {NUMBERS[total]} things"
        yield self._ask("count all", NUMBERS[total], f"There {verb}.", rivals=NUMBERS[1:10])

    def _about_thing(self, thing: Thing, things: tuple[Thing, ...]) -> Iterator[Question]:
        name = thing.name
        yield self._ask(
            "colour", thing.colour, f"The {name} is {thing.colour}.", rivals=tuple(COLOURS), thing=name
        )
        yield self._ask(
            "position", thing.place, f"The {name} is at the {thing.place}.", rivals=PLACES, thing=name
        )
        if thing.size != "medium":
            yield self._ask(
                "size", thing.size, f"The {name} is {thing.size}.", rivals=("small", "large"), thing=name
            )
        unique = [t for t in things if t.name != name and sum(o.name == t.name for o in things) == 1]
        if unique:
            yield self._relation(thing, unique[int(self.random.integers(len(unique)))])

    def _relation(self, thing: Thing, other: Thing) -> Question:
        side = self._any(tuple(_SIDES))
        axis, sign = _SIDES[side]
        here, there = (divmod(PLACES.index(t.place), 3)[axis] for t in (thing, other))
        is_so = (here - there) * sign > 0
        answer = f"{'Yes' if is_so else 'No'}, the {thing.name} is {'' if is_so else 'not '}{side} the {other.name}."
        reply = "Yes" if is_so else "No"
        return self._ask("relation", reply.lower(), answer, brief=reply, rivals=("yes", "no"), thing=thing.name,
                         side=side, other=other.name)  # fmt: skip

    def _count(self, name: str, count: int) -> Question:
        words = f"is one {name}" if count == 1 else f"are {NUMBERS[count]} {plural(name)}"
        return self._ask(
            "count", NUMBERS[count], f"There {words}.", rivals=NUMBERS[1:10], things=plural(name)
        )

    @staticmethod
    def _is_there(thing: Thing, names: Counter[str]) -> str:
        if names[thing.name] > 1:
            return f"Yes, there are {NUMBERS[names[thing.name]]} {plural(thing.name)}."
        return f"Yes, there is {with_article(f'{thing.colour} {thing.name}')}."

    def _about_absent(self, things: tuple[str, ...]) -> Iterator[Question]:
        """About things that are not there: whether they are, and the colour or the number of one."""
        name = self._any(things)
        yield self._ask(
            "presence", "no", f"No, there is no {name}.", brief="No", rivals=("yes", "no"), thing=name
        )
        name = self._any(things)
        if self.random.random() < 0.5:
            answer, parts, wording = f"There is no {name}.", {"thing": name}, "colour"
        else:
            answer, parts, wording = f"There are no {plural(name)}.", {"things": plural(name)}, "count"
        yield self._ask("absent", "no", answer, rivals=("yes",), can_be_brief=False, wording=wording, **parts)

    def _about_chart(self, picture: Picture) -> Iterator[Question]:
        if picture.kind == "line chart":
            brief = {"rising": "up", "falling": "down"}[picture.state]
            yield self._ask("trend", picture.state, f"The line is {picture.state}, it goes {brief}.",
                            brief=picture.state.capitalize(), rivals=("rising", "falling"))  # fmt: skip
            return
        part = "bar" if picture.kind == "bar chart" else "slice"
        yield self._ask("chart count", NUMBERS[picture.count], f"The chart has {NUMBERS[picture.count]} {part}s.",
                        rivals=NUMBERS[2:7], things=part + "s")  # fmt: skip
        first, last = ("tallest", "shortest") if part == "bar" else ("largest", "smallest")
        for superlative, colour in ((first, picture.most), (last, picture.least)):
            yield self._ask("chart most", colour, f"The {superlative} {part} is {colour}.", rivals=tuple(COLOURS),
                            superlative=superlative, thing=part)  # fmt: skip

    def _about_form(self, picture: Picture) -> Iterator[Question]:
        is_ticked = picture.state == "ticked"
        reply = "Yes" if is_ticked else "No"
        answer = f"{reply}, the check box is {'ticked' if is_ticked else 'not ticked'}."
        yield self._ask("check box", reply.lower(), answer, brief=reply, rivals=("yes", "no"))
        fields = "field" if picture.count == 1 else "fields"
        yield self._ask("form fields", NUMBERS[picture.count], f"There {'is' if picture.count == 1 else 'are'} "
                        f"{NUMBERS[picture.count]} text {fields}.", rivals=NUMBERS[1:5])  # fmt: skip

    def _any(self, values: tuple[T, ...]) -> T:
        return values[int(self.random.integers(len(values)))]

    def _ask(
        self,
        task: str,
        expected: str,
        answer: str,
        *,
        brief: str | None = None,
        rivals: tuple[str, ...] = (),
        can_be_brief: bool = True,
        wording: str | None = None,
        **parts: str,
    ) -> Question:
        text = self._any(self._wordings[wording or task]).format(**parts)
        if can_be_brief and self.random.random() < 0.4:
            text = f"{text} {self._any(self._briefly)}"
            answer = f"{brief or expected[:1].upper() + expected[1:]}."
        others = tuple(rival for rival in rivals if rival.lower() != expected.lower())
        return Question(task, text, answer, expected, others)


def _kind_words(kind: str) -> str:
    return "shapes" if kind == "shapes" else with_article(kind)


def describe(picture: Picture) -> str:
    """A short caption that claims nothing that was not drawn."""
    match picture.kind:
        case "shapes":
            listed = [
                with_article(f"{t.size} {t.colour} {t.name}") + f" at the {t.place}"
                for t in picture.things[:3]
            ]
            if len(picture.things) > 3:
                return (
                    f"There are {NUMBERS[len(picture.things)]} things on a {picture.background} background."
                )
            return f"The picture shows {_listed(listed)} on a {picture.background} background."
        case "word":
            return f'The picture shows the word "{picture.text}".'
        case "letter":
            return f"The picture shows the letter {picture.text.upper()}."
        case "number":
            return f"The picture shows the number {picture.text}."
        case "form":
            return f"The picture shows a form with a button and a check box that is {picture.state}."
        case "line chart":
            return f"The picture shows a line chart. The line is {picture.state}."
        case "bar chart":
            return f"The picture shows a bar chart with {NUMBERS[picture.count]} bars. The tallest is {picture.most}."
        case _:
            return f"The picture shows a pie chart with {NUMBERS[picture.count]} slices. The largest is {picture.most}."


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]
