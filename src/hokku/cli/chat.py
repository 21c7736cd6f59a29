"""`hokku chat`: one answer, or a conversation, streamed to the terminal; on its own or against a server."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Annotated, Protocol

import typer

from hokku.cli.options import takes_settings
from hokku.protocol.errors import InvalidRequest
from hokku.settings import Settings

Message = dict[str, str]


class Partner(Protocol):
    """Whoever answers: an engine in this process, or a server."""

    def stream(
        self, prompt: list[Message], *, system: str, max_tokens: int, temperature: float | None
    ) -> Iterator[str]:
        """The reply's text in pieces."""
        ...

    def close(self) -> None:
        """Let go of it."""
        ...


@takes_settings("files", "engine")
def chat(
    settings: Settings,
    text: Annotated[
        str | None, typer.Argument(help="What to say. Without it, a conversation begins.")
    ] = None,
    server: Annotated[
        str | None, typer.Option(metavar="URL", help="Ask this server instead of loading the model here.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(metavar="KEY", envvar="HOKKU_API_KEY", help="Key to show the server.", show_envvar=True),
    ] = None,
    system: Annotated[str, typer.Option(help="What the model is told about its task.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens of a reply.")] = 1024,
    temperature: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="0 takes the likeliest token; without it, the model's manifest decides."
        ),
    ] = None,
) -> None:
    """Talk to the model.

    \b
    Examples:
      hokku chat "Why is the sky blue?"
      hokku chat --server http://127.0.0.1:8080 "Why is the sky blue?"
      hokku chat --system "Answer in one sentence."
      cat notes.txt | hokku chat -
    """
    with closing(_partner(settings, server, key)) as partner:

        def answer(messages: list[Message]) -> str:
            pieces = partner.stream(messages, system=system, max_tokens=max_tokens, temperature=temperature)
            return _written(pieces)

        if text is not None:
            answer([{"role": "user", "content": sys.stdin.read() if text == "-" else text}])
        else:
            _converse(answer)


def _partner(settings: Settings, server: str | None, key: str | None) -> Partner:
    if server is not None:
        from hokku.cli.remote import RemoteModel
        from hokku.service.first_key import stored_key

        return RemoteModel(server, settings.model, key or stored_key(settings.data_dir))
    from hokku.cli.progress import PackingBar, pull_with_bar
    from hokku.embedded import Engine
    from hokku.opening import open_model

    with PackingBar() as packing:
        return Engine(open_model(settings, pull_with_bar, packing).served)


def _converse(answer: Callable[[list[Message]], str]) -> None:
    """Questions and answers until the input ends. A refused question is dropped and the talk goes on."""
    if sys.stdin.isatty():
        print("Ctrl-D ends the conversation; an empty line is passed over.", file=sys.stderr)
    messages: list[Message] = []
    while (line := _next_line()) is not None:
        if not line.strip():
            continue
        messages.append({"role": "user", "content": line})
        try:
            messages.append({"role": "assistant", "content": answer(messages) or "…"})
        except InvalidRequest as error:
            messages.pop()
            print(f"hokku: {error}", file=sys.stderr)


def _next_line() -> str | None:
    try:
        return input("> " if sys.stdin.isatty() else "")
    except EOFError:
        return None


def _written(pieces: Iterator[str]) -> str:
    """Write pieces as they come; Ctrl-C cuts the reply short."""
    said = []
    try:
        for piece in pieces:
            said.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
    print()
    return "".join(said)
