"""Templates that are broken, that refuse, and that would run or grow for ever."""

from __future__ import annotations

import pytest

from hokku.chat.template import ChatTemplate
from hokku.chat.typed import TypedAlphabet
from hokku.protocol.errors import BadModelFile, InvalidRequest
from tests.chat.house import conversation

ALPHABET = TypedAlphabet(["<|im_start|>", "</s>"])
DOUBLE = "{%% set n = namespace(s='aa') %%}{%% for i in range(60) %%}%s{%% endfor %%}"


def render(source: str, *texts: str) -> str:
    template = ChatTemplate(source, ALPHABET, bos="<s>", eos="</s>")
    return ALPHABET.plain(template.render(conversation(*(texts or ("Hi",)))))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("a\n{{ x", 2),
        ("a\n\n{{ messages[0].nothing.more }}", 3),
        ("{% for m in messages %}\n{{ m.content + 1 }}{% endfor %}", 2),
        ("\n{{ nobody() }}", 2),
        ("{{ 'a'|nofilter }}", 1),
    ],
)
def test_a_broken_template_is_named_with_its_line(source: str, line: int) -> None:
    with pytest.raises(BadModelFile) as refusal:
        render(source)
    assert refusal.value.place == f"chat template, line {line}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{{ f(n - 1) }}{% endmacro %}{{ f(9) }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ [1] * 10 ** 9 }}",
        "{{ 10 ** 1000 }}",
        "{{ '%999999999d' % 1 }}",
        "{{ '{:999999999}'.format(1) }}",
        "{{ 'a'.ljust(999999999) }}",
        "{{ 'a'|center(999999999) }}",
        "{{ range(99999)|join('a' * 1000) }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ '(' * 200000 }}" + "x" * 200_000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        DOUBLE % "{% set n.s = n.s ~ n.s %}",
        DOUBLE % "{% set n.s = n.s + n.s %}",
        DOUBLE % "{% set n.s = n.s.replace('a', 'aa') %}",
        DOUBLE % "{% set n.s = n.s|replace('a', 'aa') %}",
        DOUBLE % "{% set n.s = [n.s, n.s]|join %}",
        DOUBLE % "{% set n.s = ''.join([n.s, n.s]) %}",
        DOUBLE % "{% set t %}{{ n.s }}{{ n.s }}{% endset %}{% set n.s = t %}",
        "{% set n = namespace(s=3) %}{% for i in range(60) %}{% set n.s = n.s * n.s %}{% endfor %}",
        "{% for i in range(60000) %}{{ 'a' * 1000 in 'b' * 1000 }}{% endfor %}",
    ],
)
def test_a_greedy_or_prying_template_is_stopped(source: str) -> None:
    with pytest.raises(BadModelFile):
        render(source)


def test_a_namespace_that_holds_itself_is_not_printed() -> None:
    assert render("{% set n = namespace() %}{% set n.me = [n, n] %}{{ n }}") == "namespace"


def test_a_refusal_is_the_caller_s_to_mend() -> None:
    refuses = "{% if messages|length > 1 %}{{ raise_exception('one at a time') }}{% endif %}{{ messages[0].content }}"
    assert render(refuses, "Hi") == "Hi"
    with pytest.raises(InvalidRequest, match="one at a time"):
        render(refuses, "Hi", "Yo", "So")


def test_the_dialect_is_hugging_face_s() -> None:
    source = """\
{%- for m in messages %}
    {%- if m.content == 'skip' %}{% continue %}{% endif %}
    {% if loop.first %}{% generation %}{{ m|tojson }}{% endgeneration %}{% else %}{{ m.content[1:] }}{% endif %}
    {% if m.content == 'stop' %}{% break %}{% endif %}
{% endfor %}
{{ strftime_now('%Y')|length }} {{ {'a': ['é', 1.5]}|tojson(indent=1) }}{{ bos_token }}"""
    expected = '{"role": "user", "content": "A<"}top4 {\n "a": [\n  "é",\n  1.5\n ]\n}<s>'
    assert render(source, "A<", "skip", "stop", "never", "shown") == expected


@pytest.mark.parametrize(
    ("expression", "answer"),
    [
        ("t|trim", "a </s> b"),
        ("t|upper", "  A </S> B "),
        ("t|length", "11"),
        ("'</s>' in t", "True"),
        ("'</S>' in t", "False"),
        ("t.split('</s>')[1]", " b "),
        ("t.strip() == 'a </s> b'", "True"),
        ("t != 'a'", "True"),
        ("t.startswith('  a <')", "True"),
        ("t.find('<')", "4"),
        ("t[4:8]", "</s>"),
        ("t|replace('</s>', '|')", "  a | b "),
        ("t.replace('</s>', '<|im_start|>')", "  a <|im_start|> b "),
        ("t is string", "True"),
    ],
)
def test_people_s_text_answers_as_written(expression: str, answer: str) -> None:
    assert render(f"{{% set t = messages[0].content %}}{{{{ {expression} }}}}", "  a </s> b ") == answer


def test_people_s_text_answers_as_written_after_a_macro() -> None:
    source = (
        "{% macro same(t) %}{{ t }}{% endmacro %}{{ (same(messages[0].content)|trim).split('</s>')[-1] }}"
    )
    assert render(source, " a</s>b ") == "b"


def test_long_conversations_stay_within_the_budget() -> None:
    source = (
        "{% for m in messages %}{% set later = messages[loop.index0:] %}"
        "{% if loop.index0 == messages|length - 1 %}{{ m.content | trim }}{% endif %}{% endfor %}"
    )
    assert render(source, *(["word " * 50] * 601)) == ("word " * 50).strip()
