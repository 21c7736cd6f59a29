"""Assembling: names that are served, keys that open, memory that is taken."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from hokku.app import House, attachments_config, open_buckets
from hokku.documents.config import UrlSources
from hokku.kernels import KvFormat
from hokku.models.packing import PackedModel
from hokku.opening import choose_kernels, choose_kv_format, resolve
from hokku.protocol.errors import BadSetting, ModelNotFound
from hokku.service.first_key import stored_key
from hokku.service.jobs import OpenBucket
from hokku.settings import Settings, load_settings


def settings_in(folder: Path, **values: object) -> Settings:
    return Settings(data_dir=folder / "data", cache_dir=folder / "cache", **values)  # type: ignore[arg-type]


def test_the_default_model_answers_to_its_alias(tmp_path: Path) -> None:
    manifest, aliases = resolve(settings_in(tmp_path))
    assert manifest.id == "claude-3-5-haiku-20241022"
    assert aliases == {"claude-3-5-haiku-latest": manifest.id}


def test_weights_pointed_at_answer_to_the_default_alias(tmp_path: Path) -> None:
    file = tmp_path / "Mine.gguf"
    file.write_bytes(b"GGUF")
    manifest, aliases = resolve(settings_in(tmp_path, model=str(file)))
    assert manifest.id == "mine"
    assert aliases == {"claude-3-5-haiku-latest": "mine"}


def test_an_unknown_model_is_refused_before_a_key_is_made(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound):
        House(settings_in(tmp_path, model="nobody"))
    assert stored_key(tmp_path / "data") is None


def test_without_a_key_one_is_made_and_shown(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path))
    assert house.key_to_show == stored_key(tmp_path / "data")
    assert house.name_to_show == "claude-3-5-haiku-latest"


def test_a_configured_key_is_not_shown_and_none_is_made(tmp_path: Path) -> None:
    house = House(settings_in(tmp_path, api_key=("my-long-secret",)))
    assert house.key_to_show is None
    assert stored_key(tmp_path / "data") is None


def test_buckets_are_open_to_one_workspace_each(tmp_path: Path) -> None:
    settings = load_settings({"job_buckets": f"inbox={tmp_path}, team-a@wrkspc_1=s3://real?region=eu-1"}, {})
    assert set(open_buckets(settings)) == {
        OpenBucket("wrkspc_default", "inbox"),
        OpenBucket("wrkspc_1", "team-a"),
    }
    with pytest.raises(BadSetting, match="job_buckets: must be s3:// and the name of a bucket"):
        open_buckets(load_settings({"job_buckets": "inbox=s3://"}, {}))


def test_open_elsewhere_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="must ask for a key"):
        House(settings_in(tmp_path, open=True, host="0.0.0.0"))


@pytest.mark.parametrize("sources", UrlSources)
def test_urls_are_fetched_as_the_setting_says(tmp_path: Path, sources: UrlSources) -> None:
    assert attachments_config(settings_in(tmp_path)).fetch.sources is UrlSources.PUBLIC
    assert attachments_config(settings_in(tmp_path, url_sources=sources.value)).fetch.sources is sources


def test_kernels_and_threads_carry_their_reasons(tmp_path: Path) -> None:
    assert all((choose_kernels(Settings()).isa_reason, choose_kernels(Settings()).threads_reason))
    chosen = choose_kernels(Settings(isa="portable", threads=3))
    assert (chosen.isa, chosen.num_threads, chosen.threads_reason) == ("portable", 3, "the setting threads")


@pytest.mark.parametrize(
    ("setting", "best", "chosen"),
    [
        ("auto", KvFormat.INT8, KvFormat.INT8),
        ("auto", KvFormat.BF16, KvFormat.BF16),
        ("int8", KvFormat.BF16, KvFormat.INT8),
        ("bf16", KvFormat.INT8, KvFormat.BF16),
    ],
)
def test_keys_and_values_are_kept_as_the_setting_says(setting: str, best: KvFormat, chosen: KvFormat) -> None:
    packed = cast(PackedModel, SimpleNamespace(kv_format=best))
    assert choose_kv_format(Settings(kv_format=setting), packed) is chosen
