"""The folder for an engine that reads no GGUF holds the same model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.hf_folder import write_folder_if_missing
from benchmarks.random_models import LONG, write_if_missing

from hokku.models.checkpoint import open_checkpoint
from hokku.models.weights import CheckpointWeights


def test_the_folder_is_the_same_model_in_bf16(tmp_path: Path) -> None:
    small = replace(LONG, layers=2, hidden=LONG.heads * 32, ffn=64, vocabulary=1_024)
    model = write_if_missing(small, tmp_path)
    ours = open_checkpoint(model)
    folder = write_folder_if_missing(model, tmp_path / "folder")
    (folder / "tokenizer.json").write_text("{}", "utf-8")
    theirs = open_checkpoint(folder)
    assert theirs.config.rms_eps == pytest.approx(ours.config.rms_eps)
    named_alike = replace(theirs.config, architecture=ours.config.architecture, rms_eps=ours.config.rms_eps)
    assert named_alike == ours.config
    for name in ("embedding", "layers.1.qkv", "layers.0.output", "layers.1.gate_up", "layers.1.down"):
        mine, stored = CheckpointWeights(ours).matrix(name), CheckpointWeights(theirs).matrix(name)
        np.testing.assert_allclose(stored, mine, rtol=2**-8)
