"""`hokku doctor`: what this machine offers, what Hokku makes of it, and what is amiss."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import version
from pathlib import Path

import typer
from rich.console import Console
from rich.table import Column, Table

from hokku.cli.options import takes_settings
from hokku.protocol.errors import OperatorError
from hokku.settings import Settings

Row = tuple[str, str]


@takes_settings("files", "engine")
def doctor(settings: Settings) -> None:
    """Show the CPU's features, the chosen kernel path and why, threads, memory, and the model cache.

    Ends with exit code 0 when a server could start here, and otherwise with that of the first thing amiss.

    \b
    Examples:
      hokku doctor
      HOKKU_ISA=avx2 hokku doctor
    """
    shown = Table("", Column(overflow="fold"), box=None, show_header=False, pad_edge=False)
    amiss: list[OperatorError] = []
    for examine in (_software, _processor, _memory, _model, _disk):
        try:
            for label, value in examine(settings):
                shown.add_row(label, value)
        except OperatorError as error:
            amiss.append(error)
    Console().print(shown)
    for each in amiss:
        print(f"amiss: {each}")
    raise typer.Exit(amiss[0].exit_code if amiss else 0)


def _software(settings: Settings) -> list[Row]:
    system = f"{platform.system()} {platform.machine()}"
    return [("hokku", f"{version('hokku-llm')}, Python {platform.python_version()}, {system}")]


def _processor(settings: Settings) -> list[Row]:
    from hokku.opening import choose_kernels

    report = choose_kernels(settings)
    return [
        ("processor", _processor_name()),
        ("features", " ".join(report.features)),
        ("paths", f"{', '.join(report.available_isas)} (HOKKU_ISA forces one)"),
        ("kernels", f"{report.isa}: {report.isa_reason}"),
        ("threads", f"{report.num_threads}: {report.threads_reason}"),
    ]


def _memory(settings: Settings) -> list[Row]:
    from hokku.machine import free_memory_bytes, total_memory_bytes

    return [("memory", f"{free_memory_bytes() / 1e9:.1f} GB free of {total_memory_bytes() / 1e9:.1f} GB")]


def _model(settings: Settings) -> list[Row]:
    from hokku.opening import resolve
    from hokku.registry.cache import ModelCache

    manifest, _ = resolve(settings)
    cache = ModelCache(settings.cache_dir)
    place = cache.locate(manifest.weights)
    where = str(place) if place else f"not here yet: hokku models pull {manifest.id}"
    kv_format = "int8, or bf16 beside bf16 weights" if settings.kv_format == "auto" else settings.kv_format
    return [
        ("model", f"{manifest.id} ({manifest.description})"),
        ("weights", where),
        ("keys, values", kv_format),
    ]


def _disk(settings: Settings) -> list[Row]:
    used = sum(file.stat().st_size for file in settings.cache_dir.rglob("*") if file.is_file())
    free = shutil.disk_usage(_existing(settings.cache_dir)).free
    return [
        ("cache", f"{settings.cache_dir}: {used / 1e6:,.0f} MB used, {free / 1e9:,.1f} GB free on its disk"),
        ("data", str(settings.data_dir)),
    ]


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(each for each in (folder, *folder.parents) if each.exists())


def _processor_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]}, {len(names)} logical cores" if names else platform.machine()
