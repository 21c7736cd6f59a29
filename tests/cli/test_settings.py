"""The settings table: who wins, what is refused and by which name, and that the docs say the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tools.settings_page import PAGE, settings_page

from hokku.protocol.errors import BadSetting
from hokku.settings import (
    RETIRED_SETTINGS,
    Settings,
    check_exposure,
    load_settings,
    option,
    table,
    unknown_variables,
    variable,
)


def config(folder: Path, text: str) -> Path:
    file = folder / "hokku.toml"
    file.write_text(text, "utf-8")
    return file


def test_defaults() -> None:
    settings = load_settings({}, {})
    assert (settings.host, settings.port, settings.open) == ("127.0.0.1", 8080, False)
    assert settings.model == "claude-3-5-haiku-latest"
    assert settings.data_dir.is_absolute()


def test_option_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = config(tmp_path, 'port = 1\nthreads = 1\nmax_running = 1\nkv_cache = "1GB"\n')
    environ = {"HOKKU_PORT": "2", "HOKKU_THREADS": "2"}
    settings = load_settings({"port": "3"}, environ, file)
    assert (settings.port, settings.threads, settings.max_running) == (3, 2, 1)
    assert settings.kv_cache == 1 << 30


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = config(tmp_path, "open = true\napi_key = ['long-enough-1', 'long-enough-2']\n")
    settings = load_settings({}, {"HOKKU_CONFIG": str(file)})
    assert settings.open
    assert settings.api_key == ("long-enough-1", "long-enough-2")


def test_an_empty_variable_is_not_given() -> None:
    assert load_settings({}, {"HOKKU_PORT": ""}).port == 8080


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("port", "http", "must be a whole number from 0 to 65535, not 'http'"),
        ("port", "70000", "must be a whole number from 0 to 65535"),
        ("threads", "-1", "must be a whole number"),
        ("isa", "sse2", "must be one of auto, portable"),
        ("open", "maybe", "must be true or false"),
        ("kv_cache", "much", "must be a size"),
        ("host", "", "must not be empty"),
        ("api_key", " , ", "must hold at least one key"),
        ("api_key", "short", "holds a key of 5 characters"),
        ("signing_secret", "short", "holds 5 characters; 32 are the least"),
        ("job_buckets", "s3://x", "must be NAME=LOCATION or NAME@WORKSPACE=LOCATION, not s3://x"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, text: str, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=re.escape(f"{option(name)}: {complaint}")):
        load_settings({name: text}, {})
    if text:
        with pytest.raises(BadSetting, match=re.escape(f"{variable(name)}: {complaint}")):
            load_settings({}, {variable(name): text})
    file = config(tmp_path, f'{name} = "{text}"\n')
    with pytest.raises(BadSetting, match=re.escape(f"{file}: {name}: {complaint}")):
        load_settings({}, {}, file)


def test_a_key_is_never_repeated_in_an_error() -> None:
    with pytest.raises(BadSetting) as refused:
        load_settings({}, {"HOKKU_API_KEY": "secret"})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("4096", 4096), ("512MB", 512 << 20), ("1.5 gb", 3 << 29), ("64KB", 64 << 10)],
)
def test_sizes(text: str, size: int) -> None:
    assert load_settings({"kv_cache": text}, {}).kv_cache == size


@pytest.mark.parametrize("name", RETIRED_SETTINGS)
def test_retired_names_answer_with_advice(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=re.escape(RETIRED_SETTINGS[name])):
        load_settings({}, {variable(name): "x"})
    with pytest.raises(BadSetting, match=re.escape(RETIRED_SETTINGS[name])):
        load_settings({}, {}, config(tmp_path, f'{name} = "x"\n'))


def test_unknown_keys_of_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="prot: is not a known key"):
        load_settings({}, {}, config(tmp_path, "prot = 80\n"))
    with pytest.raises(BadSetting, match="must be a plain value"):
        load_settings({}, {}, config(tmp_path, "[port]\n"))
    with pytest.raises(BadSetting, match="cannot be read"):
        load_settings({}, {}, tmp_path / "nowhere.toml")


def test_unknown_variables_are_noted() -> None:
    assert unknown_variables({"HOKKU_PROT": "1", "HOKKU_PORT": "1", "PATH": ""}) == [
        "HOKKU_PROT is no setting; did you mean HOKKU_PORT?"
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_open_is_fine_on_loopback(host: str) -> None:
    check_exposure(Settings(host=host, open=True))


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.0.1", "::", "example.org", "127.0.0.1.example.org"])
def test_open_elsewhere_is_refused(host: str) -> None:
    check_exposure(Settings(host=host))
    with pytest.raises(BadSetting, match=f"open: a server on {re.escape(host)} must ask for a key"):
        check_exposure(Settings(host=host, open=True))


def test_the_docs_page_is_the_table() -> None:
    assert PAGE.read_text("utf-8") == settings_page(), "run python tools/settings_page.py"


def test_retired_names_are_not_in_use() -> None:
    assert not set(RETIRED_SETTINGS) & {row.name for row in table()}
