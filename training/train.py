"""Trains the eyes: `python -m training.train --config training/eyes.toml --out build/eyes`. Started again, it goes on.

Three phases. *notes*: codes for 64 notes about a picture become rows that the frozen language model answers from.
*tower*: the tower learns to write those rows from pixels. *together*: the tower is led by the language model's answers
themselves.
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
from training.language import LanguageModel, Prompts, default_checkpoint, embedding_of
from training.marks import LABELS
from training.notes import GROUPS
from training.optimizers import Optimizers, for_codebook, for_tower
from training.state import State, note_curve
from training.tower import Tower

_WARM_UP_SHARE = 0.04
_REPORT_SECS = 20.0
_LOSSES = ("heads_loss", "distance", "confusion", "answers_loss")
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
        state = self.state
        notes = torch.from_numpy(batch.notes).long().to(self.device)
        seen: dict[str, Tensor] = {}
        if phase == "notes":
            rows = state.codebook(notes)
        else:
            tiles = torch.from_numpy(batch.tiles).to(self.device)
            inked = torch.from_numpy(batch.inked).to(self.device)
            labels = torch.from_numpy(batch.labels).long().to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16):
                early, patches = self._features(tiles)
                blocks = state.tower.connector.shuffled(patches)
                rows = state.tower.connector.modality_projection.proj(blocks)
                heads_loss, seen = state.heads.loss(early, patches, blocks, inked, labels, notes)
            rows = rows.float()
            distance, confusion = state.codebook.distance(rows, notes), state.codebook.confusion(rows, notes)
            seen |= {
                "heads_loss": heads_loss.detach(), "distance": distance.detach(), "confusion": confusion.detach()
            }  # fmt: skip
        loss = rows.new_zeros(())
        if phase != "notes":
            loss = (heads_loss + distance + confusion) * (1.0 if phase == "tower" else 0.3)
        if phase != "tower":
            answers_loss, right = answer_loss(self.language, self.prompts, rows, batch.examples)
            loss = loss + answers_loss
            seen |= {"answers_loss": answers_loss.detach(), "answers": right}
        optimizers.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizers.parameters, 1.0)
        optimizers.step()
        if phase != "notes":
            state.update_average(self.recipe.ema)
        state.flops[phase] += self._flops(phase, batch)
        return seen

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
        )
        return feed(feed_config, self.state.samples[phase] // config.batch_size, self.recipe.workers)

    def _flops(self, phase: str, batch: Batch) -> float:
        """Multiply-adds count two. Backward costs twice forward, or once through frozen weights."""
        flops = 0.0
        if phase != "notes":
            flops += 3 * tower_flops(self.state.tower) * len(batch.tiles)
        if phase != "tower":
            config = self.language.config
            weights = sum(b.numel() for b in self.language.layers.buffers())
            num_tokens = sum(100 + 26 * len(example.questions) for example in batch.examples)
            flops += 2 * 2 * num_tokens * (weights + 0.1 * config.vocabulary * config.hidden)
        return flops

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
