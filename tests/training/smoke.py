"""The whole way of training the eyes in two minutes, on a recipe that learns next to nothing.

`make train-vision-smoke` runs it; needing PyTorch, it is left out of the default tests.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from training.codebook import Codebook
from training.export import config_of
from training.feeder import FeedConfig, make_batch
from training.heads import Heads
from training.state import averaged_tower
from training.tower import Tower, TowerConfig

ROOT = Path(__file__).parents[2]
_RECIPE = """\
seed = 1
threads = 1
workers = 2
ema = 0.99
weight_decay = 0.02
checkpoint_secs = 0
with_charts = false
tower = {{ hidden = 64, layers = 1, heads = 1, feed_forward = 64 }}
notes_phase = {{ samples = 4, batch_size = 2, learning_rate = 1e-3, questions = 1 }}
tower_phase = {{ samples = {tower_samples}, batch_size = 4, learning_rate = 1e-3, questions = 0 }}
together_phase = {{ samples = {together_samples}, batch_size = 2, learning_rate = 1e-3, questions = 1 }}
"""


def _run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, timeout=600, check=True)
    return done.stdout


def test_train_resume_evaluate_export_card(tmp_path: Path) -> None:
    recipe, run, eyes = tmp_path / "recipe.toml", tmp_path / "run", tmp_path / "eyes"
    recipe.write_text(_RECIPE.format(tower_samples=8, together_samples=0), "utf-8")
    train = ("--config", recipe, "--out", run)
    _run("train", *train)
    # A longer recipe is the same as a stop: the second run finds its phases half done.
    recipe.write_text(_RECIPE.format(tower_samples=16, together_samples=4), "utf-8")
    assert "going on from" in _run("train", *train)
    with (run / "curves.csv").open(newline="", encoding="utf-8") as stream:
        last = {row["phase"]: int(row["samples"]) for row in csv.DictReader(stream)}
    assert last == {"notes": 4, "tower": 16, "together": 4}

    assert "| asked | right | chance |" in _run("evaluate", "--run", run, "--pictures", 4, "--threads", 1)
    _run("export", "--run", run, "--out", eyes)
    card = tmp_path / "eyes.md"
    _run("card", "--run", run, "--weights", eyes / "model.safetensors", "--out", card)
    assert json.loads((run / "results.json").read_text("utf-8"))["tasks"]
    assert (tmp_path / "eyes-curves.png").read_bytes().startswith(b"\x89PNG")
    assert "{" not in card.read_text("utf-8")

    tower = averaged_tower(run)
    written = load_file(eyes / "model.safetensors")
    config = json.loads((eyes / "config.json").read_text("utf-8"))
    assert config == config_of(tower.config)
    assert all(tensor.dtype == torch.bfloat16 for tensor in written.values())
    loaded = Tower(tower.config)
    loaded.load_state_dict({name.removeprefix("model."): tensor for name, tensor in written.items()})
    tiles = torch.from_numpy(np.stack([np.zeros((256, 256, 3), np.uint8)]))
    assert torch.equal(loaded(tiles), tower(tiles))


def test_a_kill_between_checkpoints_loses_the_last_batches_only(tmp_path: Path) -> None:
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(_RECIPE.format(tower_samples=4_000, together_samples=0), "utf-8")
    command = [sys.executable, "-m", "training.train", "--config", str(recipe), "--out", str(run)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, env=dict(os.environ))
    try:
        _await_samples(run, process)
    finally:
        process.kill()
        process.wait()
    values = torch.load(run / "checkpoint.pt", weights_only=True)
    assert 0 < values["samples"]["tower"] < 4_000
    assert all(member["state"] for member in values["optimizer"])


def _await_samples(run: Path, process: subprocess.Popen[bytes]) -> None:
    while process.poll() is None:
        if (run / "checkpoint.pt").exists():
            values = torch.load(run / "checkpoint.pt", weights_only=True)
            if values["samples"]["tower"] >= 8:
                return
        try:
            process.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
    raise AssertionError(f"training ended with {process.returncode}")


def test_a_batch_depends_on_its_number_alone() -> None:
    config = FeedConfig(seed=1, phase=1, batch_size=3, questions=2, with_charts=False)
    first, again, other = make_batch(config, 7), make_batch(config, 7), make_batch(config, 8)
    assert np.array_equal(first.tiles, again.tiles)
    assert first.examples == again.examples
    assert not np.array_equal(first.tiles, other.tiles)


def test_rows_that_are_codes_say_their_notes() -> None:
    torch.manual_seed(0)
    codebook = Codebook(lambda words: torch.randn(32))
    torch.nn.init.normal_(codebook.lent, std=0.5)
    notes = torch.from_numpy(make_batch(FeedConfig(1, 1, 8, 0, with_charts=False), 0).notes).long()
    assert torch.equal(codebook.nearest(codebook(notes)), notes)
    assert codebook.distance(codebook(notes), notes) == 0
    assert codebook.confusion(codebook(notes), notes) < 0.1
    assert codebook.confusion(torch.zeros(8, 64, 32), notes) > 1


def test_a_head_that_says_a_row_right_has_the_lighter_loss() -> None:
    config = TowerConfig(hidden=64, layers=1, heads=1, feed_forward=64)
    batch = make_batch(FeedConfig(1, 1, 2, 0, with_charts=False), 0)
    labels, notes = torch.from_numpy(batch.labels).long(), torch.from_numpy(batch.notes).long()
    heads = Heads(config)
    with torch.no_grad():
        heads.words.weight.zero_()
        heads.words.bias.zero_()
        heads.habits[0, notes[0, 0]] = 50.0
    patches, blocks, inked = torch.zeros(2, 256, 64), torch.zeros(2, 64, 256), torch.from_numpy(batch.inked)
    given = patches, patches, blocks, inked, labels, notes
    lighter, shares = heads.loss(*(each[:1] for each in given))
    assert {"patch what", "patch ink", "patch turn", "colour", "word"} <= shares.keys()
    with torch.no_grad():
        heads.habits.zero_()
    heavier, _ = heads.loss(*(each[:1] for each in given))
    assert lighter < heavier


def test_the_pixel_shuffle_puts_four_patches_into_their_row() -> None:
    tower = Tower(TowerConfig(hidden=64, layers=1, heads=1, feed_forward=64))
    patches = torch.arange(256.0)[None, :, None].expand(1, 256, 64)
    seen: list[torch.Tensor] = []
    tower.connector.modality_projection.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tower.connector(patches)
    assert seen[0].shape == (1, 64, 256)
    assert seen[0][0, 9, ::64].tolist() == [34, 35, 50, 51]  # row 9 is the block in line 1, column 1
