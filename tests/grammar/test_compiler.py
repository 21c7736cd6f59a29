"""Grammars compiled: what they let through, what they force, what is kept, and what is refused in bounded time."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from hokku.grammar import compiler as compiler_module
from hokku.grammar.compiler import GrammarRefused
from hokku.grammar.grammar import Grammar, any_of, control_token, json_of, literal
from hokku.grammar.schema import grammar_schema
from tests.grammar.house import END, MARK, NUM_TOKENS, accepts, allowed_ids, compiler, may_end, takes

TWO = json_of({"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]})


def test_literals_choices_and_repetitions() -> None:
    grammar = literal('say "') + any_of([literal("a"), literal("\n\\")]) + literal("é").repeated(2)
    for said in ('say "a', 'say "\n\\', 'say "aé', 'say "aéé'):
        assert accepts(grammar, said)
    for said in ('say "', 'say "b', 'say "aééé', "say a"):
        assert not accepts(grammar, said)


def test_json_has_one_layout() -> None:
    assert accepts(json_of({"type": "array", "items": {"type": "integer"}}), "[1, 2]")
    assert not accepts(json_of({"type": "array", "items": {"type": "integer"}}), "[1,2]")


def test_what_is_forced_comes_without_a_choice_and_ends_with_the_turn() -> None:
    constraint = compiler().constraint(literal("ab") + any_of([literal("c"), literal("d")]) + literal("ef"))
    assert bytes(constraint.forced()) == b"ab"
    constraint.advance(list(b"ab"))
    assert list(constraint.forced()) == []
    assert allowed_ids(constraint) == set(b"cd")
    constraint.advance(list(b"d"))
    assert bytes(constraint.forced()) == b"ef"
    constraint.advance(list(b"ef"))
    assert list(constraint.forced()) == [END]
    assert allowed_ids(constraint) == {END}


def test_the_end_of_a_document_is_forced_where_nothing_else_may_come() -> None:
    constraint = compiler().constraint(json_of({"enum": ["left", "right"]}))
    for said in ('"', "l", 'eft"'):
        assert END not in list(constraint.forced())
        constraint.advance(list(said.encode()))
    assert list(constraint.forced()) == [END]
    number = compiler().constraint(json_of({"type": "integer"}))
    number.advance(list(b"12"))
    assert END in allowed_ids(number)
    assert list(number.forced()) == []


def test_a_control_token_is_one_token_and_never_text() -> None:
    constraint = compiler().constraint(control_token(MARK) + literal("x"))
    assert list(constraint.forced())[:1] == [MARK] or allowed_ids(constraint) == {MARK}
    constraint.advance([MARK])
    assert takes(constraint, "x")
    free = compiler().constraint(json_of({"type": "string"}))
    free.advance(list(b'"'))
    assert MARK not in allowed_ids(free)
    assert END not in allowed_ids(free)


def test_a_mask_has_a_bit_for_every_token_of_the_output_layer() -> None:
    mask = compiler().constraint(TWO).allowed()
    assert mask.dtype == np.uint32
    assert mask.shape == (-(-NUM_TOKENS // 32),)


def test_tokens_may_span_the_seams() -> None:
    constraint = compiler().constraint(literal('{"call": ') + TWO + literal("}"))
    constraint.advance(list(b'{"call": {"a": "x"'))
    (closes_both,) = [token for token in allowed_ids(constraint) if token > MARK]
    constraint.advance([closes_both])
    assert may_end(constraint)


def test_a_wrong_token_is_named() -> None:
    constraint = compiler().constraint(TWO)
    with pytest.raises(GrammarRefused, match="doesn't satisfy the grammar"):
        constraint.advance(list(b"["))
    with pytest.raises(GrammarRefused):
        constraint.forced()


def test_constraints_of_one_grammar_know_nothing_of_each_other() -> None:
    shared = compiler()
    first, second = shared.constraint(TWO), shared.constraint(TWO)
    first.advance(list(b'{"a": "x"}'))
    assert takes(second, '{"a": "y"}')
    assert may_end(first)


def test_a_grammar_is_compiled_once_and_only_so_many_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler_module, "MAX_KEPT", 2)
    shared = compiler()
    for text in ("a", "b", "a", "c", "a", "b"):
        shared.constraint(literal(text))
    assert shared.num_compiled == 4  # b was forgotten for c


def test_many_threads_may_compile() -> None:
    shared = compiler()
    taken: list[bool] = []

    def work(number: int) -> None:
        text = f"grammar {number % 4}"
        taken.append(takes(shared.constraint(literal(text)), text))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == [True] * 16


def spoken(schema: dict[str, Any]) -> Grammar:
    return json_of(grammar_schema(schema, "schema", is_exact=True))


def doubled(depth: int) -> dict[str, Any]:
    """A schema that names the one below twice, `depth` times over."""
    below: dict[str, Any] = {"0": {"type": "object", "properties": {"x": {"type": "string"}}}}
    for number in range(1, depth):
        below[str(number)] = {"allOf": [{"$ref": f"#/$defs/{number - 1}"}] * 2}
    return {"$defs": below, "$ref": f"#/$defs/{depth - 1}"}


def choices(number: int) -> dict[str, Any]:
    """A product of choices that has `number` ** `number` terms."""
    names = [[f"p{row}_{column}" for column in range(number)] for row in range(number)]
    return {
        "allOf": [
            {
                "anyOf": [
                    {"type": "object", "properties": {name: {"type": "string"}}, "required": [name]}
                    for name in row
                ]
            }
            for row in names
        ]
    }


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [f"value {number} {number * 7919}" for number in range(100_000)]},
        choices(6),
        {"allOf": [{"type": "string", "pattern": f".*{letter}.{{20}}"} for letter in "abcdefgh"]},
        {"type": "string", "pattern": "(?=a)b"},
        {"type": "string", "pattern": "("},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"enum": ["a"], "type": "integer"},
        False,
    ],
    ids=[
        "choices",
        "product",
        "patterns",
        "look-ahead",
        "bad regex",
        "empty range",
        "two types",
        "no enum",
        "false",
    ],
)
def test_what_no_text_can_meet_or_no_machine_can_hold_is_refused(schema: Any) -> None:
    with pytest.raises(GrammarRefused):
        compiler().constraint(json_of(schema) if isinstance(schema, dict) else Grammar("%json false"))


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        (doubled(30), '{"x": "y"}'),
        ({"type": "string", "maxLength": 2**31 - 1}, '"x"'),
        ({"type": "array", "items": {"type": "string"}, "maxItems": 2**31 - 1}, '["x"]'),
        ({"type": "string", "pattern": "^(a|aa)+$"}, '"aaaa"'),
        ({"type": "string", "pattern": "^(([a-z]{1,100}){1,100}){1,100}$"}, '"abc"'),
        ({"type": "string", "pattern": "(.*a.{1,60}b){8}"}, '"' + "axb" * 8 + '"'),
        ({"enum": [f"value {number}" for number in range(5000)]}, '"value 4999"'),
    ],
    ids=["doubled", "length", "items", "ambiguous", "nested counts", "many states", "long enum"],
)
def test_what_looks_like_a_bomb_and_is_none_is_served(schema: dict[str, Any], text: str) -> None:
    assert accepts(spoken(schema), text)
