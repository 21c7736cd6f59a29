"""The `hokku` command: one file a subcommand; errors in one line, exit codes from the error tree.

Imports at the top of a subcommand's file are what `hokku --help` pays for, so a command's body imports the
rooms it needs itself.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from hokku.cli import bench, chat, doctor, models, serve
from hokku.protocol.errors import HokkuError, OperatorError

INTERRUPTED = 130  # 128 + SIGINT, as a shell would report it
_debug = False

app = typer.Typer(
    name="hokku",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def hokku(
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error came from.")] = False,
) -> None:
    """A drop-in home for code written for Claude 3.5 Haiku, on plain CPUs.

    \b
    Examples:
      hokku serve                               serve the Messages API on 127.0.0.1:8080
      hokku chat "Why is the sky blue?"         answer in the terminal
      hokku models list                         what can be served
      hokku doctor                              what this machine offers and what Hokku makes of it
    """
    global _debug
    _debug = debug


app.command("serve")(serve.serve)
app.command("chat")(chat.chat)
app.add_typer(models.app, name="models")
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)


def main() -> None:
    """The console script. Ends the process with the command's exit code."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run one command line; the exit code. Errors with a name are printed in one line on standard error."""
    try:
        result = typer.main.get_command(app).main(arguments, prog_name="hokku", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except HokkuError as error:
        if _debug:
            raise
        print(f"hokku: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, OperatorError) else 1
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
