"""The registry: the operator's manifests beside Hokku's, and aliases that move while ids never do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hokku.protocol.errors import BadSetting, ModelNotFound
from hokku.registry.registry import DEFAULT_MODEL, Registry
from tests.registry.conftest import MANIFEST


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "tiny.toml").write_text(MANIFEST, "utf-8")
    return tmp_path


def test_newest_first_with_the_operators_own(data_dir: Path) -> None:
    ids = [manifest.id for manifest in Registry.load(data_dir).manifests()]
    assert ids == ["tiny-1", "claude-3-5-haiku-20241022"]


def test_a_moved_alias_stays_moved(data_dir: Path) -> None:
    registry = Registry.load(data_dir)
    registry.move_alias(DEFAULT_MODEL, "tiny-1")
    for each in (registry, Registry.load(data_dir)):
        assert each.resolve(DEFAULT_MODEL).id == "tiny-1"
        assert each.aliases_of("tiny-1") == (DEFAULT_MODEL,)
        assert each.resolve("claude-3-5-haiku-20241022").id == "claude-3-5-haiku-20241022"


def test_an_alias_may_move_back_and_others_stay(data_dir: Path) -> None:
    registry = Registry.load(data_dir)
    registry.move_alias("small", "tiny-1")
    registry.move_alias(DEFAULT_MODEL, "tiny-1")
    registry.move_alias(DEFAULT_MODEL, "claude-3-5-haiku-20241022")
    again = Registry.load(data_dir)
    assert again.resolve(DEFAULT_MODEL).id == "claude-3-5-haiku-20241022"
    assert again.resolve("small").id == "tiny-1"


def test_a_dated_id_never_moves(data_dir: Path) -> None:
    with pytest.raises(BadSetting, match="ids never move"):
        Registry.load(data_dir).move_alias("claude-3-5-haiku-20241022", "tiny-1")


def test_an_unknown_name_is_refused(data_dir: Path) -> None:
    registry = Registry.load(data_dir)
    with pytest.raises(ModelNotFound, match="nobody: no model of that name"):
        registry.resolve("nobody")
    with pytest.raises(ModelNotFound):
        registry.move_alias("new", "nobody")


def test_an_alias_to_a_model_that_is_gone_is_refused_by_name(data_dir: Path) -> None:
    Registry.load(data_dir).move_alias("small", "tiny-1")
    (data_dir / "models" / "tiny.toml").unlink()
    with pytest.raises(BadSetting, match=r"aliases\.toml: small: points at tiny-1"):
        Registry.load(data_dir)


def test_two_manifests_of_one_id_are_refused(data_dir: Path) -> None:
    (data_dir / "models" / "twin.toml").write_text(MANIFEST, "utf-8")
    with pytest.raises(BadSetting, match=r"twin\.toml: id: tiny-1 is already the id"):
        Registry.load(data_dir)


def test_a_path_is_opened_where_no_model_has_that_name(data_dir: Path, tmp_path: Path) -> None:
    file = tmp_path / "some.gguf"
    file.write_bytes(b"GGUF")
    assert Registry.load(data_dir).resolve_or_open(str(file)).id == "some"
    assert Registry.load(data_dir).resolve_or_open("tiny-1").display_name == "Tiny"


def test_the_manifest_in_the_docs_is_sound(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text("utf-8")
    (text,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "qwen3-4b.toml").write_text(text, "utf-8")
    assert Registry.load(tmp_path).resolve("qwen3-4b").id == "qwen3-4b-instruct-2507"
