"""`hokku serve`: the Messages API on this machine."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from hokku.cli.options import takes_settings
from hokku.settings import Settings, unknown_variables

_SNIPPET = """\
{python} - <<'PY'
{imports}

client = Anthropic(base_url="{url}", api_key={key})
with client.messages.stream(
    model="{model}",
    max_tokens=200,
    messages=[{{"role": "user", "content": "Why is the sky blue?"}}],
) as stream:
    for text in stream.text_stream:
        print(text, end="", flush=True)
print()
PY"""


@takes_settings("server", "engine", "files")
def serve(settings: Settings) -> None:
    """Serve the Messages API until stopped (Ctrl-C or SIGTERM).

    \b
    Examples:
      hokku serve
      hokku serve --port 9000 --threads 4
      hokku serve --host 0.0.0.0 --api-key my-long-secret-key
      hokku serve --model ./Qwen3-0.6B-Q8_0.gguf
    """
    with _uncollected():
        _serve(settings)


def _serve(settings: Settings) -> None:
    from hokku.app import House
    from hokku.cli.progress import PackingBar, pull_with_bar
    from hokku.server import address, listen, run
    from hokku.telemetry.logs import set_up_logs

    set_up_logs(settings.log_level, settings.log_format)
    for note in unknown_variables(os.environ):
        print(f"hokku: note: {note}", file=sys.stderr)
    house = House(settings)
    listener = listen(settings.host, settings.port)
    url = address(listener)

    def open_doors() -> None:
        with PackingBar() as bar:

            def packing(num_done: int, num_total: int) -> None:
                gc.enable()  # a minute's work on large arrays is not what collecting may wait for
                bar(num_done, num_total)

            facts = house.open_doors(pull_with_bar, packing)
        _collect_what_comes()
        print("\n".join(f"  {label:<9}{value}" for label, value in (*facts, ("address", url))))
        print(
            f"\nTry it from another terminal:\n\n{snippet(url, house.key_to_show, house.name_to_show)}",
            flush=True,
        )

    with house, listener:
        run(house.application(), listener, settings.grace_secs, house.drain, open_doors)


@contextmanager
def _uncollected() -> Iterator[None]:
    """Loading makes a great many objects that stay; looking through them for cycles again and again finds nothing."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _collect_what_comes() -> None:
    """Collect again, but never look at what loading has made."""
    gc.freeze()
    gc.enable()


def snippet(url: str, key: str | None, model: str) -> str:
    """A client to paste into a terminal; without a key to show it takes the one in HOKKU_API_KEY.

    It needs the official SDK, which `make setup` brings along.
    """
    imports = "from anthropic import Anthropic" if key else "import os\nfrom anthropic import Anthropic"
    shown_key = f'"{key}"' if key else 'os.environ["HOKKU_API_KEY"]'
    has_sdk = find_spec("anthropic") is not None
    python = sys.executable if has_sdk else "python3"
    client = _SNIPPET.format(python=python, imports=imports, url=url, key=shown_key, model=model)
    return client if has_sdk else f"pip install anthropic\n{client}"
