"""What a grammar costs a token: streams of the default model with and without one, in turn, in one process.

    python -m benchmarks.grammars --streams 16 --tokens 96 --rounds 5

*string* is JSON text that does not end, so that every token is drawn under a mask and none is forced: the mask's cost
alone. *object* is what schemas are like: names and punctuation are forced and come without a draw. *auto* may call a
tool and does not. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from queue import SimpleQueue

from hokku.opening import open_model
from hokku.protocol.engine import EngineEvent, Failed, Finished, GenerationRequest, Sampling, Tokens
from hokku.protocol.messages import Conversation, TextPart, Tool, Turn
from hokku.service.models import ServedModel
from hokku.settings import load_settings

NAMES = [f"member_{number}" for number in range(100)]
OBJECT = {
    "type": "object",
    "properties": {name: {"type": "string", "maxLength": 20} for name in NAMES},
    "required": NAMES,
    "additionalProperties": False,
}
FREE = Conversation((), (Turn("user", (TextPart("Tell me a story about a ship and its crew."),)),))
KINDS = {
    "free": FREE,
    "string": replace(FREE, output_schema={"type": "string", "minLength": 10_000}),
    "object": replace(FREE, output_schema=OBJECT),
    "auto": replace(FREE, tools=(Tool("look_up", "", {"type": "object"}),)),
}


def main() -> None:
    """Run the rounds, each with every kind, and print medians."""
    arguments = _arguments()
    opened = open_model(load_settings({"speculation": "false"}, os.environ))
    prompt = list(opened.served.codec.encode(FREE).token_ids)
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number in range(arguments.rounds + 1):  # the first warms up
        for kind, conversation in KINDS.items():
            rate = tokens_per_sec(opened.served, prompt, conversation, arguments.streams, arguments.tokens)
            if number:
                rates[kind].append(rate)
    opened.engine.close()
    medians = {kind: statistics.median(each) for kind, each in rates.items()}
    for kind, median in medians.items():
        print(f"{kind:8} {median:8.0f} tokens/s  {median / medians['free']:.3f} of free")
    print(json.dumps({"streams": arguments.streams, "tokens_per_sec": medians}))


def tokens_per_sec(
    model: ServedModel, prompt: list[int], conversation: Conversation, num_streams: int, num_tokens: int
) -> float:
    """All streams together, forced tokens included. The same prompt for every kind: only the grammar differs."""
    events: SimpleQueue[EngineEvent] = SimpleQueue()
    requests = [
        GenerationRequest(
            prompt,
            num_tokens,
            Sampling(seed=number),
            constraint=model.codec.constraint(conversation, prefill=False),
        )
        for number in range(num_streams)
    ]
    started = time.perf_counter()
    for request in requests:
        model.engine.submit(request, events.put)
    num_open, num_generated = num_streams, 0
    while num_open:
        match events.get():
            case Tokens(ids=ids):
                num_generated += len(ids)
            case Finished():
                num_open -= 1
            case Failed(error=error):
                raise error
    return num_generated / (time.perf_counter() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=96, help="of each stream")
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
