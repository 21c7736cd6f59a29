"""`hokku.Engine`: the model in a script, without HTTP.

It drives the same service as the wires do, over a small event loop on a thread of its own, so that a script and a
client of the server get the same tokens for the same request.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from hokku.opening import open_model
from hokku.protocol.errors import InvalidRequest
from hokku.protocol.events import Reply, ReplyEvent, TextDelta, fold
from hokku.protocol.messages import Conversation, MessagesRequest, Role, SamplingParameters, TextPart, Turn
from hokku.service.keys import Identity
from hokku.service.messages import LocalReply, MessagesConfig, MessagesService, SamplingSeed
from hokku.service.models import Catalogue, ServedModel
from hokku.settings import load_settings

T = TypeVar("T")
Message = Mapping[str, str]  # {"role": "user" or "assistant", "content": "…"}
Prompt = str | Sequence[Message]


class Engine:
    """A loaded model.

        >>> from hokku import Engine
        >>> with Engine.load() as engine:
        ...     print(engine.generate("Name three seas.", max_tokens=40).text)
        ...     for piece in engine.stream("And three rivers?", max_tokens=40):
        ...         print(piece, end="", flush=True)

    Its methods may be called from several threads at once; requests then share the engine's steps.
    """

    def __init__(self, model: ServedModel, sampling_seed: SamplingSeed = SamplingSeed.REQUEST) -> None:
        self._model = model
        catalogue = Catalogue([model.manifest], {})
        catalogue.put(model)
        self._service = MessagesService(catalogue, MessagesConfig(sampling_seed))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="hokku-embedded", daemon=True)
        self._thread.start()

    @classmethod
    def load(cls, model: str | None = None, **settings: str | int) -> Engine:
        """Load a model, fetching its weights first if they are not on this machine.

        Args:
            model: an id, an alias, or the path of a GGUF file or safetensors folder; None is the default model.
            settings: further settings by name, as in docs/settings.md, for example `threads=4`.

        Raises: `OperatorError` and its kinds, each with a way out.
        """
        given = {name: str(value) for name, value in settings.items()}
        values = load_settings({"model": model, **given}, os.environ)
        return cls(open_model(values).served, SamplingSeed(values.sampling_seed))

    @property
    def model_id(self) -> str:
        """The snapshot that is loaded."""
        return self._model.id

    @property
    def context_window_tokens(self) -> int:
        """Most tokens a prompt and its reply may have together."""
        return self._model.context_window_tokens

    def generate(
        self,
        prompt: Prompt,
        *,
        system: str = "",
        max_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        stop: Sequence[str] = (),
    ) -> Reply:
        """The whole reply; its `text`, `stop_reason` and `usage` are what scripts mostly want.

        Args:
            prompt: one question, or the turns of a conversation; a last assistant turn is continued.
            system: what the model is told about its task.
            max_tokens: most tokens of the reply.
            temperature: 0 takes the likeliest token each time. With none of `temperature`, `top_p` and `top_k`
                given, the model's manifest decides; with any of them, the others are 1, 1 and 0.
            top_p: draw from the likeliest tokens that have this probability together; 1 is off.
            top_k: draw from this many likeliest tokens; 0 is off.
            stop: texts that end the reply; they are no part of it.

        Raises: `InvalidRequest` for a prompt over the window or a malformed turn, `Overloaded`.
        """
        request = self._request(prompt, system, max_tokens, temperature, top_p, top_k, stop)
        return fold(self._events(request))

    def stream(
        self,
        prompt: Prompt,
        *,
        system: str = "",
        max_tokens: int = 512,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        stop: Sequence[str] = (),
    ) -> Iterator[str]:
        """The reply's text in pieces, as it comes; arguments as for `generate`. Leaving the loop early stops it."""
        request = self._request(prompt, system, max_tokens, temperature, top_p, top_k, stop)
        for event in self._events(request):
            if isinstance(event, TextDelta):
                yield event.text

    def tokenize(self, prompt: Prompt, *, system: str = "") -> list[int]:
        """The token ids that the model reads for a prompt, its template included."""
        return list(self._model.codec.encode(conversation_of(prompt, system)).token_ids)

    def close(self) -> None:
        """Stop what runs and release the model's memory. Idempotent."""
        self._model.engine.close()
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _request(
        self,
        prompt: Prompt,
        system: str,
        max_tokens: int,
        temperature: float | None,
        top_p: float | None,
        top_k: int | None,
        stop: Sequence[str],
    ) -> MessagesRequest:
        if max_tokens < 1:
            raise InvalidRequest(f"must be at least 1, not {max_tokens}", place="max_tokens")
        conversation = conversation_of(prompt, system)
        return MessagesRequest(
            self._model.id, conversation, max_tokens, tuple(stop), sampling_of(temperature, top_p, top_k)
        )

    def _events(self, request: MessagesRequest) -> Iterator[ReplyEvent]:
        stream: LocalReply = self._await(self._service.reply(request, Identity()))
        try:
            while not stream.is_finished:
                yield from self._await(stream.next_events())
        finally:
            if not self._loop.is_closed():
                self._loop.call_soon_threadsafe(stream.cancel)

    def _await(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def sampling_of(
    temperature: float | None, top_p: float | None, top_k: int | None
) -> SamplingParameters | None:
    """What is given, the rest at the API's defaults; None when nothing is given."""
    if temperature is None and top_p is None and top_k is None:
        return None
    return SamplingParameters(
        1.0 if temperature is None else temperature, 1.0 if top_p is None else top_p, top_k or 0
    )


def conversation_of(prompt: Prompt, system: str = "") -> Conversation:
    """Plain turns as a conversation, neighbours of one role merged. Raises `InvalidRequest`."""
    messages: Sequence[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    turns: list[Turn] = []
    for number, message in enumerate(messages):
        role, part = _checked(message, f"messages.{number}")
        if turns and turns[-1].role == role:
            turns[-1] = Turn(role, (*turns[-1].parts, part))
        else:
            turns.append(Turn(role, (part,)))
    if not turns:
        raise InvalidRequest("at least one message is required", place="messages")
    return Conversation((TextPart(system),) if system else (), tuple(turns))


def _checked(message: Message, place: str) -> tuple[Role, TextPart]:
    role, content = message.get("role"), message.get("content")
    if not isinstance(content, str) or not content:
        raise InvalidRequest("must be a text", place=f"{place}.content")
    if role == "user":
        return "user", TextPart(content)
    if role == "assistant":
        return "assistant", TextPart(content)
    raise InvalidRequest(f"must be user or assistant, not {role!r}", place=f"{place}.role")
