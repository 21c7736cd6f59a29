"""Fallback tables: what they may say, where they may stand, and what is refused by file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from hokku.protocol.errors import BadSetting
from hokku.registry.fallback import USUAL_REASONS, Fallback, KeySource, LocalTarget, Rule, UpstreamTarget
from hokku.registry.registry import Registry
from tests.registry.conftest import MANIFEST, manifest_from

HAIKU = "claude-3-5-haiku-20241022"
URL = 'url = "https://models.example"\napi = "anthropic"\nmodel = "big"\n'


def fallback_from(table: str, folder: Path) -> Fallback:
    fallback = manifest_from(f"{MANIFEST}\n[fallback]\n{table}", folder).fallback
    assert fallback is not None
    return fallback


def registry_with(folder: Path, fallbacks: str, **models: str) -> Registry:
    """A registry with a `fallbacks.toml`, and with manifests of these ids, each with a fallback table or none."""
    (folder / "models").mkdir()
    for model_id, table in models.items():
        text = MANIFEST.replace("tiny-1", model_id) + (f"\n[fallback]\n{table}" if table else "")
        (folder / "models" / f"{model_id}.toml").write_text(text, "utf-8")
    if fallbacks:
        (folder / "fallbacks.toml").write_text(fallbacks, "utf-8")
    return Registry.load(folder)


def test_another_model_of_this_machine(tmp_path: Path) -> None:
    fallback = fallback_from('model = "other"', tmp_path)
    assert fallback == Fallback(
        LocalTarget("other"), USUAL_REASONS, (), f"{tmp_path / 'model.toml'}: fallback"
    )
    assert str(fallback) == "other for overloaded, too_long, engine_failed"


def test_a_model_of_another_service(tmp_path: Path) -> None:
    table = f'{URL}key_file = "keys/big"\nconnect_secs = 2\nread_secs = 7.5\nwhen = ["loading"]\n'
    fallback = fallback_from(table, tmp_path)
    place = f"{tmp_path / 'model.toml'}: fallback.key_file"
    key = KeySource(place, file=tmp_path / "keys" / "big")
    assert fallback.target == UpstreamTarget("https://models.example", "anthropic", "big", key, 2.0, 7.5)
    assert fallback.when == {"loading"}
    assert str(fallback) == "big at https://models.example (anthropic) for loading"


def test_an_openai_compatible_one(tmp_path: Path) -> None:
    table = (
        'url = "http://localhost:9/v1/"\napi = "openai"\nmodel = "m"\nkey_variable = "BIG_KEY"\n'
        'output_limit_key = "max_completion_tokens"\n'
    )
    target = fallback_from(table, tmp_path).target
    assert isinstance(target, UpstreamTarget)
    assert (target.url, target.output_limit_key) == ("http://localhost:9/v1", "max_completion_tokens")
    assert target.key is not None
    assert target.key.variable == "BIG_KEY"


def test_rules(tmp_path: Path) -> None:
    rules = "[{ has_tools = true, prompt_tokens_over = 6000 }, { is_structured = true }]"
    table = f'model = "other"\nwhen = []\nrules = {rules}'
    fallback = fallback_from(table, tmp_path)
    assert fallback.rules == (Rule(prompt_tokens_over=6000, has_tools=True), Rule(is_structured=True))
    assert str(fallback) == "other for 2 rules"


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("", "fallback.model: is missing"),
        ('model = " "', "fallback.model: is empty"),
        ("model = 3", "fallback.model: must be a string"),
        ('model = "o"\napi = "openai"', "fallback.api: needs a url"),
        ('model = "o"\nkey_file = "k"', "fallback.key_file: is not a known key"),
        ('model = "o"\nwhen = ["tired"]', "fallback.when: 'tired' is not one of overloaded, too_long"),
        ('model = "o"\nwhen = ["rule"]', "fallback.when: 'rule' is not one of"),
        ('model = "o"\nwhen = []', "fallback.when: says never, and there are no rules"),
        ('model = "o"\nrules = [{}]', r"fallback.rules\[0\]: is empty"),
        ('model = "o"\nrules = [3]', r"fallback.rules\[0\]: must be a table"),
        ('model = "o"\nrules = [{ has_tools = 1 }]', r"fallback.rules\[0\].has_tools: must be true or false"),
        (
            'model = "o"\nrules = [{ prompt_tokens_over = -1 }]',
            r"fallback.rules\[0\].prompt_tokens_over: must not be negative",
        ),
        ('model = "o"\nrules = [{ moon = "full" }]', r"fallback.rules\[0\].moon: is not a known key"),
        ('model = "o"\nurl = "https://a.example"', "fallback.api: must be one of anthropic, openai"),
        (URL + 'output_limit_key = "max_tokens"', "fallback.output_limit_key: is not a known key"),
        (URL + "read_secs = 0", "fallback.read_secs: must be a number of seconds above 0"),
        (URL + 'connect_secs = "1"', "fallback.connect_secs: must be a number of seconds"),
        (URL + 'key = "sk-secret"', "fallback.key: must not stand here"),
        (
            URL + 'key_file = "a"\nkey_variable = "B"',
            "fallback.key_variable: cannot be given beside key_file",
        ),
        (URL.replace('"big"', '"big\\r\\nx: y"'), "fallback.model: may hold printable ASCII"),
        (URL.replace('"big"', '"groß"'), "fallback.model: may hold printable ASCII"),
        (URL.replace("https:", "ftp:"), "fallback.url: must be a URL of http or https"),
        (URL.replace("https://models.example", "models.example"), "fallback.url: must be a URL"),
        (URL.replace("models.example", "["), "fallback.url: must be a URL"),
        (URL.replace("models.example", "a.example:99999"), "fallback.url: must be a URL"),
        (URL.replace("models", "user:word@models"), "fallback.url: must hold no user"),
        (URL.replace(".example", ".example/?key=1"), "fallback.url: must hold no user"),
        (URL.replace("https:", "http:") + 'key_variable = "K"', "fallback.url: must begin with https"),
    ],
)
def test_faults_are_refused_by_key(table: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=f"model.toml: {says}") as refused:
        fallback_from(table, tmp_path)
    assert "sk-secret" not in str(refused.value)


def test_keys_are_read_where_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(" sk-1234 \n", "utf-8")
    assert KeySource("here", file=tmp_path / "key").read() == "sk-1234"
    assert KeySource("here", variable="K").read({"K": "sk-5678"}) == "sk-5678"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file"),
        (b"", "holds no key"),
        (b"\xff\xfe", "cannot be read: it is no text"),
        (b"sk-one\nsk-two", "holds something else than one key"),
        ("sk-ü".encode(), "holds something else than one key"),
    ],
)
def test_a_key_that_cannot_be_used_is_not_shown(content: bytes | None, says: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "key").write_bytes(content)
    with pytest.raises(BadSetting, match=f"f.toml: key_file: .*{says}") as refused:
        KeySource("f.toml: key_file", file=tmp_path / "key").read()
    assert "sk-" not in str(refused.value)


def test_an_unset_variable_is_named() -> None:
    with pytest.raises(BadSetting, match="f.toml: key_variable: BIG_KEY holds no key"):
        KeySource("f.toml: key_variable", variable="BIG_KEY").read({})


def test_the_data_directory_s_fallbacks_win(tmp_path: Path) -> None:
    table = f'["{HAIKU}"]\nmodel = "one"\n[one]\nmodel = "two"\n'
    registry = registry_with(tmp_path, table, one='model = "three"', two="", three="")
    names = [manifest.id for manifest in registry.with_fallbacks(registry.resolve(HAIKU))]
    assert names == [HAIKU, "one", "two"]
    assert [manifest.id for manifest in registry.with_fallbacks(registry.resolve("three"))] == ["three"]


def test_a_service_ends_the_chain(tmp_path: Path) -> None:
    registry = registry_with(tmp_path, "", one='model = "two"', two=URL)
    assert [manifest.id for manifest in registry.with_fallbacks(registry.resolve("one"))] == ["one", "two"]


@pytest.mark.parametrize(
    ("fallbacks", "models", "says"),
    [
        ('[nobody]\nmodel = "one"', {"one": ""}, "fallbacks.toml: nobody: is no model's id"),
        ('[one]\nmodel = "nobody"', {"one": ""}, "fallbacks.toml: one.model: nobody is no model's id"),
        ("one = 3", {"one": ""}, "fallbacks.toml: one: must be a table"),
        ('[one]\nmodel = "one"', {"one": ""}, "fallbacks.toml: one.model: leads in a circle: one -> one"),
        (
            "",
            {"one": 'model = "two"', "two": 'model = "three"', "three": 'model = "one"'},
            "one.toml: fallback.model: leads in a circle: one -> two -> three -> one",
        ),
    ],
)
def test_fallbacks_that_lead_nowhere(
    fallbacks: str, models: dict[str, str], says: str, tmp_path: Path
) -> None:
    with pytest.raises(BadSetting, match=says):
        registry_with(tmp_path, fallbacks, **models)
