"""The `hokku` command: one file a subcommand; errors in one line, exit codes from the error tree.

A subcommand's file is imported when the command is asked for: `hokku serve` does not pay for what the others need.
Imports at the top of such a file are what `hokku --help` pays for, so a command's body imports the rooms it needs
itself.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from hokku.protocol.errors import HokkuError, OperatorError

INTERRUPTED = 130  # 128 + SIGINT, as a shell would report it
COMMANDS = (
    "serve",
    "chat",
    "models",
    "keys",
    "workspaces",
    "limits",
    "usage",
    "batches",
    "database",
    "doctor",
    "bench",
)  # each a file of this folder, in the order of the help
_debug = False


class Commands(TyperGroup):
    """The subcommands, each imported when it is first asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """One of them, or None for a name that is none."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _command(cmd_name)
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """For a slip of the pen every command is imported, so that the nearest name can be told."""
        if args[0] not in COMMANDS:
            for name in COMMANDS:
                self.get_command(ctx, name)
        return super().resolve_command(ctx, args)


def _command(name: str) -> Any:
    """A file's own `app`, or the function that is called like the file."""
    module = import_module(f"hokku.cli.{name}")
    command = getattr(module, "app", None)
    if command is None:
        command = typer.Typer(add_completion=False, rich_markup_mode="rich")
        command.command(name)(getattr(module, name))
    built = typer.main.get_command(command)
    built.name = name
    return built


app = typer.Typer(
    name="hokku",
    cls=Commands,
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
    except typer.TyperException as error:  # of the command line itself: a name, an option, a value
        if message := error.format_message():  # empty where help has been shown instead
            print(f"hokku: {message}", file=sys.stderr)
        return error.exit_code
    except typer.Exit as end:
        return end.exit_code
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
