"""Trains the eyes: `python -m training.train --config training/eyes.toml --out build/eyes`. Started again, it goes on.

Two phases, of which neither needs the other. *notes*: codes for 64 notes about a picture become rows that the frozen
language model answers from. *tower*: the tower learns to write the notes from pixels.
"""

from __future__ import annotations

import argparse
import math
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from training.answering import answer_loss
from training.codebook import Codebook
from training.config import PHASES, PhaseConfig, Recipe, read_recipe
from training.feeder import Batch, FeedConfig, feed
from training.heads import words_loss
from training.language import LanguageModel, Prompts, default_checkpoint, embedding_of
from training.marks import LABELS
from training.notes import GROUPS
from training.optimizers import Optimizers, for_codebook, for_tower
from training.state import State, note_curve
from training.tower import Tower

_WARM_UP_SHARE = 0.04
_REPORT_SECS = 20.0
_WORDS_WEIGHT = 8.0  # beside what lies on the patches, which is only a way to them
_LOSSES = ("words_loss", "heads_loss", "answers_loss")
_SHARES = (*(f"patch {name}" for name in LABELS), *GROUPS)


class Trainer:
    """Runs the phases that are not done yet."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        checkpoint = default_checkpoint()
        self.language = LanguageModel(checkpoint).to(self.device)
        self.prompts = Prompts(checkpoint)
        self.state = State(recipe, Codebook(partial(embedding_of, self.language, self.prompts)))
        if self.state.load(folder):
            print(f"going on from {folder}: {self.state.samples}", flush=True)
        self.state.to(self.device)
        features = self.state.tower.features
        self._features = torch.compile(features) if recipe.compiled else features
        self._stops = False

    def run(self) -> bool:
        """Train until all is done (True) or somebody asks to stop (False)."""
        for name in ("SIGTERM", "SIGINT"):
            signal.signal(getattr(signal, name), self._ask_to_stop)
        for phase in PHASES:
            self._run_phase(phase, self.recipe.phases[phase])
            if self._stops:
                return False
        return True

    def _run_phase(self, phase: str, config: PhaseConfig) -> None:
        state = self.state
        if state.samples[phase] >= config.samples:
            return
        optimizers = self._optimizers(phase)
        # A longer recipe may take up an earlier phase again, for which this one's momenta mean nothing.
        if state.optimizer is not None and state.optimizer_phase == phase:
            optimizers.load_state_dict(state.optimizer)
        reported = saved = time.monotonic()
        sums: dict[str, list[Tensor]] = {}
        for batch in self._batches(phase, config):
            started = time.monotonic()
            rate = _learning_rate(config, state.samples[phase])
            optimizers.set_rate(rate)
            for name, value in self._step(phase, batch, optimizers).items():
                sums.setdefault(name, []).append(value)
            state.samples[phase] += config.batch_size
            now = time.monotonic()
            state.seconds[phase] += now - started
            is_done = state.samples[phase] >= config.samples
            if now - reported > _REPORT_SECS or is_done or self._stops:
                self._report(phase, config, rate, sums)
                sums, reported = {}, now
            if is_done or self._stops:
                state.save(self.folder, phase, None if is_done else optimizers)
                return
            if now - saved > self.recipe.checkpoint_secs:
                state.save(self.folder, phase, optimizers)
                saved = now

    def _step(self, phase: str, batch: Batch, optimizers: Optimizers) -> dict[str, Tensor]:
        """One update; returns what is to be seen on the curves."""
        loss, seen = self._read_notes(batch) if phase == "notes" else self._write_notes(batch)
        optimizers.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizers.parameters, 1.0)
        optimizers.step()
        if phase == "tower":
            self.state.update_average(self.recipe.ema)
        self.state.flops[phase] += self._flops(phase, batch)
        return seen

    def _read_notes(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The language model answers from notes."""
        rows = self.state.codebook(torch.from_numpy(batch.notes).long().to(self.device))
        loss, right = answer_loss(self.language, self.prompts, rows, batch.examples)
        return loss, {"answers_loss": loss.detach(), "answers": right}

    def _write_notes(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The tower makes notes of pixels."""
        tiles, inked, labels, notes = (
            torch.from_numpy(each).to(self.device)
            for each in (batch.tiles, batch.inked, batch.labels, batch.notes)
        )
        with torch.autocast(self.device.type, torch.bfloat16):
            early, patches = self._features(tiles)
            scores = self.state.tower.connector(patches)
            of_patches, seen = self.state.heads.loss(early, patches, inked, labels.long())
        of_words, shares = words_loss(scores, notes.long())
        seen |= {"words_loss": of_words.detach(), "heads_loss": of_patches.detach(), **shares}
        return _WORDS_WEIGHT * of_words + of_patches, seen

    def _optimizers(self, phase: str) -> Optimizers:
        if phase == "notes":
            return for_codebook(self.state.codebook)
        return for_tower(self.state.tower, self.state.heads, self.recipe.weight_decay)

    def _batches(self, phase: str, config: PhaseConfig) -> Iterator[Batch]:
        feed_config = FeedConfig(
            self.recipe.seed,
            PHASES.index(phase),
            config.batch_size,
            config.questions,
            self.recipe.with_charts,
            config.crowds,
            config.texts,
            config.unknown_words,
        )
        return feed(feed_config, self.state.samples[phase] // config.batch_size, self.recipe.workers)

    def _flops(self, phase: str, batch: Batch) -> float:
        """Multiply-adds count two. Backward costs twice forward, or once through frozen weights."""
        if phase == "tower":
            return 3 * tower_flops(self.state.tower) * len(batch.tiles)
        config = self.language.config
        weights = sum(b.numel() for b in self.language.layers.buffers())
        num_tokens = sum(100 + 26 * len(example.questions) for example in batch.examples)
        return 2 * 2 * num_tokens * (weights + 0.1 * config.vocabulary * config.hidden)

    def _report(self, phase: str, config: PhaseConfig, rate: float, sums: dict[str, list[Tensor]]) -> None:
        state = self.state
        means = {name: float(torch.stack(values).float().mean()) for name, values in sums.items()}
        done, total = state.samples[phase], config.samples
        row = {
            "phase": phase, "samples": done, "seconds": round(state.seconds[phase], 1), "learning_rate": rate,
            **{name: means.get(name, "") for name in (*_LOSSES, "answers", *_SHARES)},
        }  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        note_curve(self.folder, row)
        bar = "#" * int(20 * done / total)
        shown = " ".join(f"{name} {value:.3g}" for name, value in means.items())
        speed = done / max(state.seconds[phase], 1e-9)
        print(f"{phase} [{bar:<20}] {done}/{total} {speed:.1f}/s {shown}", flush=True)

    def _ask_to_stop(self, *_: object) -> None:
        self._stops = True


def tower_flops(tower: Tower) -> float:
    """Of one tile through the tower and the connector, forward."""
    config = tower.config
    patches = config.grid**2
    weights = sum(p.numel() for name, p in tower.named_parameters() if p.ndim > 1 and "position" not in name)
    connector = tower.connector.modality_projection.proj.weight.numel()
    linear = 2 * patches * (weights - connector) + 2 * patches / config.scale**2 * connector
    return linear + config.layers * 4 * patches**2 * config.hidden


def _learning_rate(config: PhaseConfig, done: int) -> float:
    share = done / config.samples
    if share < _WARM_UP_SHARE:
        return config.learning_rate * (share + 1e-3) / _WARM_UP_SHARE
    return config.learning_rate * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * share)))


def main() -> int:
    """The command; its exit status is 0 when all phases are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path("training/eyes.toml"))
    parser.add_argument("--out", type=Path, default=Path("build/eyes"))
    given = parser.parse_args()
    recipe = read_recipe(given.config)
    torch.set_num_threads(recipe.threads)
    is_done = Trainer(recipe, given.out).run()
    print("done" if is_done else "stopped; the same command goes on", flush=True)
    return 0 if is_done else 3


if __name__ == "__main__":
    sys.exit(main())
