"""Drives a live server through the SDK of the model's own days and prints what it read, as one JSON object.

Usage: python drive.py BASE_URL KEY MODEL, with the interpreter of the environment beside this file.
"""

import json
import sys
from typing import Any

import anthropic

base_url, key, model = sys.argv[1:]
client: Any = anthropic.Anthropic(base_url=base_url, api_key=key, max_retries=0)
request: dict[str, Any] = {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}

whole = client.messages.create(temperature=0.5, **request)
with client.messages.stream(**request) as stream:
    streamed_text = "".join(stream.text_stream)
    final = stream.get_final_message()
tools = [{"name": "clock", "input_schema": {"type": "object", "properties": {"zone": {"type": "string"}}}}]
with_tools = {**request, "max_tokens": 500, "tools": tools, "tool_choice": {"type": "any"}}
called = client.messages.create(**with_tools)
with client.messages.stream(**with_tools) as stream:
    streamed_call = stream.get_final_message()
try:
    client.messages.create(**{**request, "model": "claude-foo"})
    error = None
except anthropic.NotFoundError as refusal:
    error = refusal.message

print(
    json.dumps(
        {
            "version": anthropic.__version__,
            "whole": whole.model_dump(),
            "streamed_text": streamed_text,
            "final": final.model_dump(),
            "called": [called.model_dump(), streamed_call.model_dump()],
            "tokens": client.beta.messages.count_tokens(
                model=model, messages=request["messages"]
            ).input_tokens,
            "not_found": error,
        }
    )
)
