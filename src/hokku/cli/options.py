"""Turns rows of the settings table into command line options, so that no command repeats one."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import Field
from pathlib import Path
from typing import Annotated, Any

import typer

from hokku.settings import CONFIG_VARIABLE, TRUTH, Group, load_settings, option, table, variable

_PANEL = "Settings"


def takes_settings(*groups: Group) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with a parameter `settings: Settings` the options of these groups of settings."""

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        rows = [row for row in table() if row.metadata["group"] in groups]

        def run(*, config: Path | None, **given: Any) -> None:
            options = {row.name: _as_text(given.pop(row.name)) for row in rows}
            command(settings=load_settings(options, os.environ, config), **given)

        own = [
            each
            for each in inspect.signature(command, eval_str=True).parameters.values()
            if each.name != "settings"
        ]
        keyword = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own]
        run.__signature__ = inspect.Signature([*keyword, *map(_parameter, rows), _CONFIG])  # type: ignore[attr-defined]
        run.__annotations__ = {}
        run.__doc__ = command.__doc__
        run.__name__ = command.__name__
        return run

    return decorate


def _as_text(given: str | bool | None) -> str | None:
    return str(given).lower() if isinstance(given, bool) else given


def _parameter(row: Field[Any]) -> inspect.Parameter:
    kind = row.metadata["kind"]
    help_line = f"{row.metadata['help']} [dim]({variable(row.name)}; default: {row.metadata['shown']})[/dim]"
    if kind is TRUTH:
        flags = f"{option(row.name)}/--no-{row.name}"
        info = typer.Option(flags, help=help_line, rich_help_panel=_PANEL, show_default=False)
        annotation: Any = Annotated[bool | None, info]
    else:
        info = typer.Option(
            option(row.name), metavar=kind.words, help=help_line, rich_help_panel=_PANEL, show_default=False
        )
        annotation = Annotated[str | None, info]
    return inspect.Parameter(row.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


_CONFIG_OPTION = typer.Option(
    "--config",
    metavar="file",
    help=f"TOML file of settings. [dim]({CONFIG_VARIABLE})[/dim]",
    rich_help_panel=_PANEL,
    show_default=False,
)
_CONFIG = inspect.Parameter(
    "config",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[Path | None, _CONFIG_OPTION],
)
