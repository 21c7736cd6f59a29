"""Writes the model card from a run's own records: `python -m training.card --run build/eyes`."""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from safetensors.torch import load_file

from training.config import PHASES
from training.dictionary import dictionary
from training.evaluate import RESULTS, Score, table
from training.export import WEIGHTS
from training.fonts import HELD_OUT_FONTS, TRAINING_FONTS
from training.notes import VOCABULARY
from training.state import CHECKPOINT, CURVES
from training.vocabulary import COLOURS, ICONS, NEW_WORDS, SHAPES, WORDS

_PLOT = "eyes-curves.png"

_TEXT = """\
# The eyes of the default model

<!-- Written by `python -m training.card`; change that instead. -->

A small vision tower and connector, made for Hokku and trained in this repository (`training/`), that give the
default model sight of simple pictures. It is laid out as SmolVLM's ({num_million:.1f} M parameters with the
codebook, {size_mb:.1f} MB in the package): a picture is resized to 256×256, cut into 16×16 patches, and becomes 64
rows of the language model's prompt. Unlike SmolVLM's, each row is one of {num_codes} words, looked up in a codebook,
and what is spelled is taken for the likeliest word of a dictionary of {num_entries}
([decision 022](decisions/022-eyes-that-say-words.md)). The language model, SmolLM2-135M-Instruct, was frozen
throughout: what it says without a picture has not changed by a bit.

**It is no general vision model.** It has seen nothing but drawn pictures of the kinds listed below: no
photographs, no faces, no handwriting, no scanned pages. Of such pictures it will say something, and that will
be wrong. It was trained on one picture in a prompt. Ask a stronger model, or put one behind
`claude-3-5-haiku-latest`.

## Results

{num_pictures} pictures of a held-out split, {num_asked} questions: other seeds, fonts of families never
trained on, wordings never trained on, and words that were kept out of training. Greedy replies of the frozen
language model; a reply is right if it names what is expected and nothing else it could have been. *Chance* is
a guess among the possible answers. *Absent* asks for the colour or number of what is not there, which is to be
denied; *presence* whether something is there; *relation* which of two things is above or to the left; *what at* what
is at a place; *trend* whether a line rises.

{tasks}

What the rows say by themselves, without the language model:

{notes}

Measured with PyTorch on the weights as they are exported; anyone can, after `make setup-training`, by
`.venv-training/bin/python -m training.evaluate --eyes src/hokku/registry/eyes`.

The held-out pictures taught nothing, but people looked: wrong replies to the first 150 of them showed that more
wordings and more questions about absent things were wanted. No held-out wording was taken over; other seeds would be
a stricter test.

## Compute

{compute}

![Curves]({plot})

## How it was trained

1. *notes*: what is in a picture is put into plain sentences of 64 words, one for each row ("The star is red at the
   top left", "There are two circles"). The words get vectors, which start as the language model's own embeddings
   and are trained until it answers from them. No pictures are looked at.
2. *tower*: the tower learns to write those words from pixels, and on the way to tell, for each of its 256
   patches, what lies there and in which colour. No language model takes part. Matrices are updated by Muon, the
   rest by AdamW.
{remarks}
To train on: `make setup-training`, then `.venv-training/bin/python -m training.train --config
training/eyes.toml --out build/eyes`, which goes on from `build/eyes/checkpoint.pt` if there is one (more
`samples` in the recipe: it trains on). Then `training.evaluate`, `training.export` and `training.card`, and
the new digest into the model's manifest. On a GPU, the same commands use it.

## Data

Everything is drawn by a seeded generator; the same seed gives the same pixels.

- Scenes of one to nine things on a plain background: {shapes}; {icons}; in {colours}; small, medium or large,
  at nine places.
- One word of {num_words} (up to eight letters), one letter, or a number of up to three digits, anywhere, in
  many sizes.
- Bar, line and pie charts by matplotlib; made-up forms with fields, a check box and a button.
- Crowds of up to 36 things, letters and digits, about which nothing is asked: they teach what lies on a patch.
- Canvases of several aspect ratios; some with noise or JPEG's traces.
- Questions in several wordings, answers in a word or a sentence; also about what is not there, which is to be
  denied.

Fonts trained on: {training_fonts}. Fonts of the held-out split: {held_out_fonts}.
Words never trained on: {new_words}.
"""


def card(run: Path, weights: Path, remarks: str) -> str:
    """The card's text. Raises `FileNotFoundError` where the run was not evaluated or exported."""
    results = json.loads((run / RESULTS).read_text("utf-8"))
    tasks, notes = (
        {name: Score(**score) for name, score in results[part].items()} for part in ("tasks", "notes")
    )
    values = torch.load(run / CHECKPOINT, map_location="cpu", weights_only=True)
    return _TEXT.format(
        num_million=sum(tensor.numel() for tensor in load_file(weights).values()) / 1e6,
        num_codes=len(VOCABULARY),
        num_entries=len(dictionary()),
        size_mb=weights.stat().st_size / 1e6,
        num_pictures=results["pictures"],
        num_asked=sum(score.asked for score in tasks.values()),
        tasks=table(tasks),
        notes=table(notes),
        compute=_compute(values),
        plot=_PLOT,
        remarks=f"\n{remarks}\n" if remarks else "",
        shapes=", ".join(SHAPES),
        icons=", ".join(ICONS),
        colours=", ".join(COLOURS),
        num_words=len(WORDS),
        training_fonts=_names(TRAINING_FONTS),
        held_out_fonts=_names(HELD_OUT_FONTS),
        new_words=", ".join(NEW_WORDS),
    )


def _names(fonts: tuple[str, ...]) -> str:
    return ", ".join(Path(font).stem for font in fonts)


def _compute(values: dict[str, Any]) -> str:
    lines = ["| phase | pictures | hours | FLOPs |", "|---|---:|---:|---:|"]
    rows = [(phase, *(values[key][phase] for key in ("samples", "seconds", "flops"))) for phase in PHASES]
    rows.append(("all", *(sum(row[column] for row in rows) for column in (1, 2, 3))))
    lines += [
        f"| {name} | {samples:,} | {seconds / 3600:.2f} | {flops:.2g} |"
        for name, samples, seconds, flops in rows
    ]
    return "\n".join(lines)


def plot(run: Path, file: Path) -> None:
    """Draw the curves, one panel a phase."""
    phases: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (run / CURVES).open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            phases[row["phase"]].append(row)
    figure = Figure(figsize=(4 * len(PHASES), 3), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    for axes, phase in zip(figure.subplots(1, len(PHASES)), PHASES, strict=True):
        for name in (
            "words_loss",
            "heads_loss",
            "answers_loss",
            "answers",
            "colour",
            "thing",
            "number",
            "digit",
            "letter",
            "word",
        ):
            points = [(int(row["samples"]), float(row[name])) for row in phases[phase] if row[name]]
            if points:
                axes.plot(*zip(*points, strict=True), label=name, linewidth=1)
        axes.set_title(phase)
        axes.set_xlabel("pictures")
        axes.set_ylim(0, 3)
        if phases[phase]:
            axes.legend(fontsize=6)
    canvas.print_png(file)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, default=Path("build/eyes"))
    parser.add_argument("--weights", type=Path, default=Path("src/hokku/registry/eyes") / WEIGHTS)
    parser.add_argument("--out", type=Path, default=Path("docs/eyes.md"))
    parser.add_argument("--remarks", default="", help="what a reader must know about this run")
    given = parser.parse_args()
    given.out.write_text(card(given.run, given.weights, given.remarks), "utf-8")
    plot(given.run, given.out.with_name(_PLOT))
    print(given.out)


if __name__ == "__main__":
    main()
