"""Questions and answers about a picture, in varied wording. Answers come from what was drawn, never from the pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

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

# Task → wordings. {thing}, {things}, {colour}, {place}, {other} are filled in.
TRAINING_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": (
        "What color is the {thing}?", "What colour is the {thing}?", "Which color does the {thing} have?",
        "Tell me the color of the {thing}.", "What is the color of the {thing}?", "In what color is the {thing} drawn?",
        "Look at the {thing}: what color is it?", "There is a {thing}. Which color is it?", "{thing}: which color?",
        "Say which color the {thing} has.", "What is the {thing}'s color?",
        "I need the color of the {thing}.", "Which colour has the {thing} been given?",
    ),
    "background": (
        "What color is the background?", "What is the background colour?", "Which color is the background?",
        "Tell me the color of the background.", "On what color is it drawn?",
        "What is the color behind the drawing?", "Which colour fills the background?", "Background color?",
        "Say which color the background has.", "What color is behind it all?",
    ),
    "shape": (
        "What shape is this?", "What is shown in the picture?", "What do you see?", "Which shape is in the image?",
        "What object is in this image?", "Tell me what is drawn here.", "What is it?", "Which thing is drawn here?",
        "Identify the object.", "Say what is in the picture.",
    ),
    "shape of colour": (
        "What is {colour}?", "Which thing is {colour}?", "What is the {colour} thing?", "Which shape is {colour}?",
        "Tell me what is {colour}.", "Something is {colour}. What is it?", "Which object is {colour}?",
        "Identify the {colour} object.", "What has the color {colour}?", "What do you see in {colour}?",
        "Say which thing is {colour}.", "What kind of thing is drawn in {colour}?",
    ),
    "count": (
        "How many {things} are there?", "How many {things} are in the picture?", "Count the {things}.",
        "How many {things} do you see?", "How many {things} can be seen?", "Tell me how many {things} there are.",
        "Give me the number of {things}.", "{things}: how many?", "How many {things} does the image contain?",
        "I want to know how many {things} were drawn.", "How often does one see {things} here?",
    ),
    "count all": (
        "How many things are there?", "How many objects are in the picture?", "How many shapes are there in total?",
        "Count the objects.", "How many things do you see?", "Tell me how many objects there are.",
        "Give me the number of things.", "How many things were drawn?", "How many objects does the image contain?",
        "Count everything in the picture.", "In all, how many things are there?",
    ),
    "position": (
        "Where is the {thing}?", "Where in the picture is the {thing}?", "What is the position of the {thing}?",
        "In which part of the image is the {thing}?", "Tell me where the {thing} is.", "The {thing} is where?",
        "At which place is the {thing}?", "Where do you see the {thing}?", "Locate the {thing}.",
        "Where has the {thing} been drawn?", "Say where the {thing} is.", "{thing}: where is it?",
    ),
    "what at": (
        "What is at the {place}?", "What do you see at the {place}?", "Which thing is at the {place}?",
        "Tell me what is at the {place}.", "Look at the {place}: what is there?", "Identify the object at the {place}.",
        "What has been drawn at the {place}?", "Which object is placed at the {place}?", "The {place} shows what?",
        "Say what is at the {place}.",
    ),
    "relation": (
        "Is the {thing} {side} the {other}?", "Is the {thing} {side} the {other} in the picture?",
        "Does the {thing} lie {side} the {other}?", "Tell me if the {thing} is {side} the {other}.",
        "Look at the {thing}: is it {side} the {other}?", "Is it true that the {thing} is {side} the {other}?",
        "Was the {thing} drawn {side} the {other}?",
    ),
    "size": (
        "Is the {thing} small or large?", "What size is the {thing}?", "How big is the {thing}?",
        "Tell me the size of the {thing}.", "Is it a small or a large {thing}?", "The {thing} has which size?",
        "Was the {thing} drawn small or large?", "How large is the {thing}?",
    ),
    "presence": (
        "Is there a {thing}?", "Is there a {thing} in the picture?", "Do you see a {thing}?",
        "Does the image show a {thing}?", "Tell me if there is a {thing}.", "Has a {thing} been drawn?",
        "Is a {thing} among the objects?", "Does one see a {thing} here?", "Is any {thing} in the image?",
        "Look for a {thing}: is there one?", "Is it true that the picture has a {thing}?",
    ),
    "kind": (
        "What kind of picture is this?", "What type of image is this?", "What kind of image is this?",
        "Tell me the kind of picture.", "Is this a chart, a form or something else?",
        "What type of picture do you see?",
    ),
    "word": (
        "What does it say?", "What word is written here?", "Read the word.", "What is written in the picture?",
        "Which word do you see?", "Tell me the word.", "What text is in the image?", "Transcribe the text.",
        "Say which word is written.", "The picture shows which word?", "What word is this?",
    ),
    "letter": (
        "Which letter is this?", "What letter do you see?", "What letter is shown?", "Tell me the letter.",
        "Read the letter.", "Which letter is drawn here?", "Identify the letter.", "The picture shows which letter?",
    ),
    "digit": (
        "Which digit is this?", "What digit is shown?", "What number is this?", "What number do you see?",
        "Tell me the digit.", "Read the digit.", "Which digit is drawn here?", "Identify the digit.",
    ),
    "number": (
        "What number is this?", "What number do you see?", "Which number is shown?", "Read the number.",
        "Tell me the number.", "Which number is drawn here?", "Identify the number.", "Transcribe the number.",
    ),
    "chart count": (
        "How many {things} does the chart have?", "How many {things} are there?", "How many {things} do you see?",
        "Tell me how many {things} the chart shows.", "Give me the number of {things}.",
    ),
    "chart most": (
        "Which color is the {superlative} {thing}?", "What color is the {superlative} {thing}?",
        "Tell me the color of the {superlative} {thing}.", "In which color is the {superlative} {thing} drawn?",
        "What is the color of the {superlative} {thing}?", "Look at the {superlative} {thing}: which color is it?",
    ),
    "trend": (
        "Does the line go up or down?", "Is the line rising or falling?", "Tell me if the line goes up or down.",
        "Where does the line go, up or down?", "Is the trend up or down?",
    ),
    "check box": (
        "Is the check box ticked?", "Is the checkbox checked?", "Tell me if the check box is ticked.",
        "Is there a tick in the check box?", "Look at the check box: is it ticked?",
    ),
    "form fields": (
        "How many text fields are there?", "How many fields does the form have?", "Count the text fields.",
        "Tell me how many fields there are.", "Give me the number of text fields.",
    ),
    "describe": (
        "Describe the image.", "Describe this picture.", "What is in this image?", "Describe what you see.",
        "What's in the picture?", "Tell me about this picture.", "Give me a caption.",
        "What does the picture look like?",
    ),
}  # fmt: skip
HELD_OUT_WORDINGS: dict[str, tuple[str, ...]] = {
    "colour": ("The {thing} is what color?", "Please name the color of the {thing}."),
    "background": ("Please name the color of the background.", "What color lies behind everything?"),
    "shape": ("Please name the thing in this picture.", "What does this image show?"),
    "shape of colour": ("Name the thing that is {colour}.", "What in the image is {colour}?"),
    "count": ("What is the number of {things}?", "Can you count how many {things} there are?"),
    "count all": ("What is the total number of objects?", "Can you count how many things there are?"),
    "position": ("Whereabouts is the {thing}?", "Can you tell me where the {thing} is?"),
    "what at": ("Name what is at the {place}.", "Can you tell me what is at the {place}?"),
    "relation": ("Would you say the {thing} is {side} the {other}?",),
    "size": ("Would you say the {thing} is small or large?",),
    "presence": ("Can you find a {thing}?", "Does this contain a {thing}?"),
    "kind": ("Which sort of picture is it?",),
    "word": ("Please read what is written.", "Which word can you read here?"),
    "letter": ("Please name this letter.", "Which letter can you read?"),
    "digit": ("Please name this digit.", "Which digit can you read?"),
    "number": ("Please read this number.", "Which number can you read?"),
    "chart count": ("Count the {things} of the chart.",),
    "chart most": ("The {superlative} {thing} has which color?",),
    "trend": ("Would you say that the line rises or falls?",),
    "check box": ("Has the check box been ticked?",),
    "form fields": ("Can you count the text fields?",),
    "describe": ("Please describe this image.", "Say what the picture shows."),
}
BRIEFLY = ("Answer with one word.", "Answer briefly.", "One word only.", "Be brief.")
HELD_OUT_BRIEFLY = ("Reply with a single word.", "Keep it short.")
SYSTEMS = ("You are a helpful assistant.", "You answer questions about images.", "Be concise and honest.")

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
            yield self._absent(self._any(THINGS))

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
        at = things[int(self.random.integers(len(things)))]
        words = with_article(f"{at.colour} {at.name}")
        yield self._ask(
            "what at", at.name, f"There is {words} at the {at.place}.", rivals=THINGS, place=at.place
        )
        for name, count in names.items():
            if name in SHAPES:
                yield self._count(name, count)
        if len(names) < len(THINGS):
            yield self._absent(self._any(tuple(thing for thing in THINGS if thing not in names)))
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
        article = with_article(f"{thing.colour} {name}")
        yield self._ask(
            "presence", "yes", f"Yes, there is {article}.", brief="Yes", rivals=("yes", "no"), thing=name
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

    def _absent(self, name: str) -> Question:
        """About something that is not there: whether it is, its colour, or how many."""
        style = self.random.integers(3)
        if style == 0:
            answer = f"No, there is no {name}."
            return self._ask("presence", "no", answer, brief="No", rivals=("yes", "no"), thing=name)
        if style == 1:
            answer, parts, wording = f"There is no {name}.", {"thing": name}, "colour"
        else:
            answer, parts, wording = f"There are no {plural(name)}.", {"things": plural(name)}, "count"
        return self._ask(
            "absent", "no", answer, rivals=("yes",), can_be_brief=False, wording=wording, **parts
        )

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

    def _any(self, values: tuple[str, ...]) -> str:
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
