"""Training's pictures: the same seed draws the same, what is said of them is true, the splits share nothing."""

from __future__ import annotations

import numpy as np
import pytest
from training.fonts import HELD_OUT_FONTS, TRAINING_FONTS
from training.marks import GRID, LABELS, UNKNOWN, inked, labelled
from training.notes import CODES, GROUPS, NUM_ROWS, NUM_THINGS, VOCABULARY, notes_of, read, written
from training.pictures import TILE_EDGE, Painter, Picture
from training.questions import Questioner, describe
from training.vocabulary import COLOURS, KINDS, NEW_WORDS, NUMBERS, PLACES, WORDS
from training.wordings import BRIEFLY, HELD_OUT_BRIEFLY, HELD_OUT_WORDINGS, TRAINING_WORDINGS

from training import vocabulary


def _pictures(kind: str, num: int, *, seed: int = 5, held_out: bool = False) -> list[Picture]:
    painter = Painter(seed, held_out=held_out)
    return [painter.picture(kind) for _ in range(num)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_draws_the_same_picture_again(kind: str) -> None:
    first, again, other = _pictures(kind, 2), _pictures(kind, 2), _pictures(kind, 2, seed=6)
    assert all(
        np.array_equal(a.pixels, b.pixels) and a.marks == b.marks for a, b in zip(first, again, strict=True)
    )
    assert not all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, other, strict=True))
    assert first[0].pixels.shape == (TILE_EDGE, TILE_EDGE, 3)
    assert first[0].pixels.dtype == np.uint8


def test_a_seed_asks_the_same_questions_again() -> None:
    [picture] = _pictures("shapes", 1)
    assert Questioner(3).questions(picture, 5) == Questioner(3).questions(picture, 5)


def test_things_are_where_and_of_the_colour_that_is_said() -> None:
    """Looked up in the pixels: near the middle of its place, a thing's colour is nearer than the background's."""
    checked = 0
    for picture in _pictures("shapes", 60):
        for thing in picture.things:
            row, column = divmod(PLACES.index(thing.place), 3)
            third = TILE_EDGE / 3
            area = picture.pixels[
                round(row * third) : round((row + 1) * third),
                round(column * third) : round((column + 1) * third),
            ].astype(float)
            to_thing, to_background = (
                np.linalg.norm(area - COLOURS[name], axis=-1) for name in (thing.colour, picture.background)
            )
            assert (to_thing < to_background).mean() > 0.015, thing
            checked += 1
    assert checked > 100


def test_empty_places_show_nothing_but_background() -> None:
    for picture in _pictures("shapes", 40):
        if len(picture.things) == 1:
            continue  # a large one in the centre reaches into its neighbours' places
        for place in set(PLACES) - {thing.place for thing in picture.things}:
            row, column = divmod(PLACES.index(place), 3)
            y, x = round((row + 0.5) * TILE_EDGE / 3), round((column + 0.5) * TILE_EDGE / 3)
            middle = picture.pixels[y - 12 : y + 12, x - 12 : x + 12].astype(float).mean((0, 1))
            nearest = min(COLOURS, key=lambda name: float(np.linalg.norm(middle - COLOURS[name])))
            assert np.linalg.norm(middle - COLOURS[picture.background]) < 40, (place, nearest)


def test_notes_survive_being_written_as_codes() -> None:
    for kind in KINDS:
        for picture in _pictures(kind, 8):
            codes = written(picture)
            assert codes.shape == (NUM_ROWS,)
            assert read(codes) == notes_of(picture)


def test_a_new_word_has_letters_but_no_code() -> None:
    words = [p for p in _pictures("word", 80, held_out=True) if p.text in NEW_WORDS]
    assert words
    for picture in words:
        noted = notes_of(picture)
        assert picture.text not in noted
        assert "".join(word for word in noted[24:32] if word) == picture.text


def test_counts_agree_with_what_was_drawn() -> None:
    questioner = Questioner(1)
    for picture in _pictures("shapes", 60):
        total, noun, _ = notes_of(picture)[53:56]
        assert (total, noun.removesuffix("s")) == (NUMBERS[len(picture.things)], "thing")
        for question in questioner.questions(picture, 30):
            if question.task == "count all":
                assert question.expected == NUMBERS[len(picture.things)]
            if question.task == "presence":
                named = [t.name for t in picture.things if f" {t.name}" in question.text]
                assert (question.expected == "yes") == bool(named)


def test_answers_name_what_is_expected_and_no_rival() -> None:
    questioner = Questioner(2)
    for kind in KINDS:
        for picture in _pictures(kind, 25):
            for question in questioner.questions(picture, 30):
                assert question.expected.lower() in question.answer.lower()
                assert question.expected not in question.rivals
                assert 0 < question.chance <= 1
                assert "{" not in question.text + question.answer


def test_captions_claim_only_what_was_drawn() -> None:
    for picture in _pictures("shapes", 40):
        caption = describe(picture)
        absent = set(vocabulary.THINGS) - {thing.name for thing in picture.things}
        words = set(caption.replace(",", "").replace(".", "").split())
        assert not absent & words


def test_held_out_fonts_words_and_wordings_are_never_trained_on() -> None:
    families = {font.split("/")[0] for font in TRAINING_FONTS}
    assert not families & {font.split("/")[0] for font in HELD_OUT_FONTS}
    assert not set(WORDS) & set(NEW_WORDS)
    assert min(map(len, (*WORDS, *NEW_WORDS))) >= 2
    assert not set(BRIEFLY) & set(HELD_OUT_BRIEFLY)
    assert TRAINING_WORDINGS.keys() == HELD_OUT_WORDINGS.keys()
    trained = {wording for wordings in TRAINING_WORDINGS.values() for wording in wordings}
    held_out = {wording for wordings in HELD_OUT_WORDINGS.values() for wording in wordings}
    assert not trained & held_out


@pytest.mark.parametrize("held_out", [False, True])
def test_each_split_draws_with_its_own_fonts_and_asks_in_its_own_words(held_out: bool) -> None:
    fonts = HELD_OUT_FONTS if held_out else TRAINING_FONTS
    pictures = _pictures("word", 30, held_out=held_out)
    assert {picture.font for picture in pictures} <= set(fonts)
    if not held_out:
        assert all(picture.text in WORDS for picture in pictures)
    wordings = HELD_OUT_WORDINGS if held_out else TRAINING_WORDINGS
    questioner = Questioner(1, held_out=held_out)
    for picture in pictures:
        for question in questioner.questions(picture, 9):
            if question.task == "word":
                assert question.text.startswith(wordings["word"])


def test_the_splits_draw_from_different_seeds() -> None:
    [trained], [held_out] = _pictures("shapes", 1), _pictures("shapes", 1, held_out=True)
    assert not np.array_equal(trained.pixels, held_out.pixels)


def test_what_notes_say_of_a_scene_is_what_was_drawn() -> None:
    for picture in _pictures("shapes", 40):
        phrases = " ".join(word for word in notes_of(picture) if word)
        for thing in picture.things[:NUM_THINGS]:
            assert f"The {thing.name} is {thing.colour} at the {thing.place} {thing.size}" in phrases
        assert f"The background is {picture.background}" in phrases


def test_every_word_of_the_notes_has_a_code_and_every_group_only_such_words() -> None:
    assert len(CODES) == len(VOCABULARY)
    assert all(words <= set(VOCABULARY) for words in GROUPS.values())


@pytest.mark.parametrize("kind", ["shapes", "word", "letter", "number"])
def test_marked_patches_show_ink_of_the_colour_that_is_said(kind: str) -> None:
    """Looked up in the pixels: over a mark's patches the ink is nearer than the background somewhere."""
    patch = TILE_EDGE // GRID
    for picture in _pictures(kind, 25):
        what, ink, _, _ = labelled(picture)
        marked = np.flatnonzero(what)
        assert len(marked) >= len(picture.things)
        behind = np.array(COLOURS[picture.background], float)
        for code in set(ink[marked].tolist()):
            patches = np.flatnonzero(ink == code)
            colour = np.array(COLOURS[LABELS["ink"][code - 1]], float)
            pixels = np.concatenate(
                [
                    picture.pixels[y * patch : (y + 1) * patch, x * patch : (x + 1) * patch].reshape(-1, 3)
                    for y, x in (divmod(int(each), GRID) for each in patches)
                ]
            ).astype(float)
            nearer = np.linalg.norm(pixels - colour, axis=1) < np.linalg.norm(pixels - behind, axis=1)
            assert nearer.any(), (picture.kind, picture.text, LABELS["ink"][code - 1])


def test_a_word_is_marked_letter_by_letter_from_left_to_right() -> None:
    for picture in _pictures("word", 20):
        assert picture.marks is not None
        assert "".join(mark.name for mark in picture.marks) == picture.text
        assert [mark.turn for mark in picture.marks] == list(range(1, len(picture.text) + 1))
        lefts = [mark.box[0] for mark in picture.marks]
        assert lefts == sorted(lefts)


def test_nobody_says_what_lies_where_on_a_chart() -> None:
    for picture in _pictures("bar chart", 2):
        assert (labelled(picture) == UNKNOWN).all()


def test_cells_with_ink_are_those_of_another_colour_than_the_background() -> None:
    for picture in _pictures("shapes", 25):
        cells = inked(picture)
        assert cells.shape == (GRID**2, 16)
        assert set(np.unique(cells)) <= {0, 1}
        what = labelled(picture)[0]
        assert cells[what > 0].any(), "there is ink where a thing lies"
        assert cells.mean() < 0.6
