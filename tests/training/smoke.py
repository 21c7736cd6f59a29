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
from training.dictionary import dictionary
from training.export import config_of
from training.feeder import FeedConfig, make_batch
from training.heads import Heads, words_loss
from training.notes import VOCABULARY
from training.state import learned
from training.tower import Tower, TowerConfig

from hokku.kernels.reference import ReferenceProgram
from hokku.models.vision.tower import open_tower

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
notes_phase = {{ samples = 4, batch_size = 2, learning_rate = 1e-3, questions = 1, unknown_words = 0.3 }}
tower_phase = {{ samples = {samples}, batch_size = 4, learning_rate = 1e-3, questions = 0, crowds = 0.2, texts = 0.2 }}
"""


def _run(module: str, *arguments: object) -> str:
    command = [sys.executable, "-m", f"training.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, timeout=600, check=True)
    return done.stdout


def test_train_resume_evaluate_export_card(tmp_path: Path) -> None:
    recipe, run, eyes = tmp_path / "recipe.toml", tmp_path / "run", tmp_path / "eyes"
    recipe.write_text(_RECIPE.format(samples=8), "utf-8")
    train = ("--config", recipe, "--out", run)
    _run("train", *train)
    # A longer recipe is the same as a stop: the second run finds its phases half done.
    recipe.write_text(_RECIPE.format(samples=16), "utf-8")
    assert "going on from" in _run("train", *train)
    with (run / "curves.csv").open(newline="", encoding="utf-8") as stream:
        last = {row["phase"]: int(row["samples"]) for row in csv.DictReader(stream)}
    assert last == {"notes": 4, "tower": 16}

    assert "| asked | right | chance |" in _run("evaluate", "--run", run, "--pictures", 4, "--threads", 1)
    _run("export", "--run", run, "--out", eyes)
    assert "| asked | right | chance |" in _run("evaluate", "--eyes", eyes, "--pictures", 4, "--threads", 1)
    card = tmp_path / "eyes.md"
    _run("card", "--run", run, "--weights", eyes / "model.safetensors", "--out", card)
    assert json.loads((run / "results.json").read_text("utf-8"))["tasks"]
    assert (tmp_path / "eyes-curves.png").read_bytes().startswith(b"\x89PNG")
    assert "{" not in card.read_text("utf-8")

    tower, codebook = learned(run)
    written = load_file(eyes / "model.safetensors")
    config = json.loads((eyes / "config.json").read_text("utf-8"))
    assert config == config_of(tower.config, codebook.table.shape[1], dictionary())
    numbers = {f"model.codebook.dictionary.{name}" for name in ("spellings", "vectors")}
    assert {name for name, tensor in written.items() if tensor.dtype != torch.bfloat16} == numbers
    assert all(torch.equal(written[f"model.{name}"], each) for name, each in tower.state_dict().items())
    _same_words_when_served(eyes, tower, codebook)


def _same_words_when_served(eyes: Path, tower: Tower, codebook: Codebook) -> None:
    """The engine's float tower says the same words of a picture, and makes the same rows of them."""
    opened = open_tower(eyes)
    served = opened.codebook()
    assert served is not None
    tile = make_batch(FeedConfig(1, 1, 1, 0, with_charts=False), 3).tiles[0]
    program = ReferenceProgram(kv_heads=tower.config.heads, head_dim=64)
    _, scores = opened.record(program, opened.floats())
    program.run(opened.step(tile))
    with torch.no_grad():
        wanted = tower(torch.from_numpy(tile)[None])[0]
        np.testing.assert_allclose(program.view(scores) + served.habits, wanted, rtol=1e-3, atol=1e-3)
        words = wanted.argmax(-1)
        np.testing.assert_allclose(
            served.rows(words.int().numpy()), codebook(words[None])[0], rtol=1e-5, atol=1e-6
        )


def test_a_kill_between_checkpoints_loses_the_last_batches_only(tmp_path: Path) -> None:
    recipe, run = tmp_path / "recipe.toml", tmp_path / "run"
    recipe.write_text(_RECIPE.format(samples=4_000), "utf-8")
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


def test_a_word_lends_to_its_line_and_a_little_to_all_rows() -> None:
    torch.manual_seed(0)
    codebook = Codebook(lambda word: torch.randn(32))
    for lent in (codebook.lent, codebook.lent_to_all):
        torch.nn.init.normal_(lent)
    notes = torch.zeros(1, 64, dtype=torch.long)
    notes[0, 10] = 7  # in the line of rows 8 to 15
    with torch.no_grad():
        changed = codebook(notes) - codebook(torch.zeros_like(notes))
        to_line, to_all = (
            codebook.lent[7] - codebook.lent[0],
            codebook.lent_to_all[7] - codebook.lent_to_all[0],
        )
        assert torch.allclose(changed[0, 0], to_all / 64, atol=1e-5)
        assert torch.allclose(changed[0, 15], to_line / 8 + to_all / 64, atol=1e-5)
        own = codebook.table[7] - codebook.table[0]
        assert torch.allclose(changed[0, 10], own + to_line / 8 + to_all / 64, atol=1e-5)


def test_words_that_are_said_right_have_the_lighter_loss() -> None:
    notes = torch.from_numpy(make_batch(FeedConfig(1, 1, 2, 0, with_charts=False), 0).notes).long()
    right = 20 * torch.nn.functional.one_hot(notes, len(VOCABULARY)).float()
    lighter, shares = words_loss(right, notes)
    assert {"colour", "word"} <= shares.keys()
    assert lighter < 0.01
    heavier, shares = words_loss(right.roll(1, -1), notes)
    assert heavier > 5
    assert not any(shares.values())


def test_labels_of_patches_that_are_told_right_have_the_lighter_loss() -> None:
    heads = Heads(TowerConfig(hidden=64, layers=1, heads=1, feed_forward=64))
    batch = make_batch(FeedConfig(1, 1, 2, 0, with_charts=False), 0)
    labels, inked, patches = (
        torch.from_numpy(batch.labels).long(), torch.from_numpy(batch.inked), torch.zeros(2, 256, 64)
    )  # fmt: skip
    before, shares = heads.loss(patches, patches, inked, labels)
    assert {"patch what", "patch ink", "patch turn"} <= shares.keys()
    with torch.no_grad():
        heads.patches["what"].bias[0] += 10  # "nothing", which most patches show
    assert heads.loss(patches, patches, inked, torch.zeros_like(labels))[0] < before


def test_the_pixel_shuffle_puts_four_patches_into_their_row() -> None:
    tower = Tower(TowerConfig(hidden=64, layers=1, heads=1, feed_forward=64))
    patches = torch.arange(256.0)[None, :, None].expand(1, 256, 64)
    seen: list[torch.Tensor] = []
    tower.connector.modality_projection.proj.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    tower.connector(patches)
    assert seen[0].shape == (1, 64, 256)
    assert seen[0][0, 9, ::64].tolist() == [34, 35, 50, 51]  # row 9 is the block in line 1, column 1
