"""Which grammar a reply is held to: JSON of the asked schema, calls of tools, or either."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hokku.chat.call_grammar import CallConstraint, calls_grammar, opening_grammar
from hokku.chat.formats.base import CallSyntax
from hokku.chat.tokenizer import Tokenizer
from hokku.grammar.compiler import GrammarCompiler, GrammarConstraint, GrammarRefused, GrammarTooLarge
from hokku.grammar.grammar import Grammar, any_of, json_of
from hokku.grammar.schema import grammar_schema
from hokku.protocol.engine import TokenConstraint
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.messages import Conversation

OUTPUT_PLACE = "output_config.format.schema"
Schemas = Mapping[str, dict[str, Any]]  # by place


class _Words:
    """The tokenizer as the grammar room sees a vocabulary: texts there never stand at a line's beginning."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.stop_token_ids = tokenizer.stop_token_ids
        self.control_ids = tokenizer.control_ids
        self.token_bytes = tokenizer.token_bytes
        self.encode = tokenizer.encode_continuation


class ReplyGrammars:
    """Grammars of one model's replies, compiled once and kept."""

    def __init__(self, tokenizer: Tokenizer, syntax: CallSyntax, num_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._syntax = syntax
        self._num_tokens = num_tokens
        self._compiler = GrammarCompiler(_Words(tokenizer), num_tokens)
        self._opening = opening_grammar(syntax, tokenizer)

    def constraint(self, conversation: Conversation, *, is_continued: bool) -> TokenConstraint | None:
        """What a reply may be; None where it may be anything. Raises `InvalidRequest` with a schema's place."""
        output, inputs = _output_schema(conversation), _input_schemas(conversation)
        if not inputs:
            return self._compiled(json_of(output), {OUTPUT_PLACE: output}) if output is not None else None
        places = {place: schema for place, (_, schema) in inputs.items()}
        is_parallel = conversation.tool_choice.is_parallel
        calls = calls_grammar(self._syntax, dict(inputs.values()), is_parallel=is_parallel)
        if conversation.tool_choice.is_forced:
            return self._compiled(self._opening + calls, places)
        if output is not None:
            both = any_of([json_of(output), self._opening + calls])
            return self._compiled(both, {OUTPUT_PLACE: output, **places})
        return CallConstraint(
            self._syntax,
            self._tokenizer.bytes_with(self._syntax.opening),
            self._tokenizer.encode_continuation,
            self._compiled(calls, places),
            self._num_tokens,
            is_continued=is_continued,
        )

    def _compiled(self, grammar: Grammar, schemas: Schemas) -> GrammarConstraint:
        try:
            return self._compiler.constraint(grammar)
        except GrammarTooLarge as cause:
            raise _refusal(cause, next(iter(schemas)) if len(schemas) == 1 else "tools") from cause
        except GrammarRefused as together:
            for place, schema in schemas.items():
                try:
                    self._compiler.constraint(json_of(schema))
                except GrammarRefused as alone:
                    raise _refusal(alone, place) from alone
            raise _refusal(together, "tools") from together


def _refusal(cause: GrammarRefused, place: str) -> InvalidRequest:
    return InvalidRequest(f"Schema is too complex for compilation, or cannot be met: {cause}", place=place)


def _output_schema(conversation: Conversation) -> dict[str, Any] | None:
    if conversation.output_schema is None or conversation.tool_choice.is_forced:
        return None
    return grammar_schema(conversation.output_schema, OUTPUT_PLACE, is_exact=True, required_first=True)


def _input_schemas(conversation: Conversation) -> dict[str, tuple[str, dict[str, Any]]]:
    """By place: the name and the schema of each tool that may be called."""
    is_forced = conversation.tool_choice.is_forced
    names = {tool.name for tool in conversation.callable_tools}
    schemas = {}
    for index, tool in enumerate(conversation.tools):
        if tool.name in names:
            place = f"tools.{index}.custom.input_schema"
            exact = is_forced or tool.is_strict
            schemas[place] = (tool.name, grammar_schema(tool.input_schema, place, is_exact=exact))
    return schemas
