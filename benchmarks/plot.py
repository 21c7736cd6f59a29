"""Draws the comparison from a run's JSON: `python -m benchmarks.plot result.json docs/images/benchmarks`.

Runs in the peers' environment, which has matplotlib; nothing else here needs it. Bars are speed relative to the best
peer, so that rates and times stand side by side and longer is better throughout.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

_SHOWN = ("W1", "W2", "W3-16", "W3-32", "W4", "W5-prefill", "W5-1", "W5-16", "W6", "W9", "W11")
_COLOURS = {"Hokku": "#c8102e", "llama.cpp": "#4c6a92", "OpenVINO GenAI": "#8aa29e", "xllamacpp": "#b8b08d"}
_OTHER_COLOUR = "#a0a0a0"
_BAR = 0.8


def relative_speeds(case: dict[str, Any]) -> dict[str, float]:
    """Each contestant's speed over the best peer's: 1 is the best peer."""
    medians, best = case["medians"], case["medians"][case["best_peer"]]
    slower_is_more = case["unit"] in ("s", "ms to first token")
    return {name: best / value if slower_is_more else value / best for name, value in medians.items()}


def family_of(name: str) -> str:
    """llama.cpp for all its weights."""
    return next((family for family in _COLOURS if name.startswith(family)), name)


def bars(case: dict[str, Any]) -> dict[str, float]:
    """The best of each family, Hokku first."""
    best: dict[str, float] = {}
    for name, speed in relative_speeds(case).items():
        family = family_of(name)
        best[family] = max(speed, best.get(family, 0.0))
    return dict(sorted(best.items(), key=lambda item: item[0] != "Hokku"))


def draw(result: dict[str, Any], stem: Path) -> None:
    """Write `stem`.png and `stem`.svg."""
    cases = [case for case in result["cases"] if case["key"] in _SHOWN and case["best_peer"]]
    rcParams["svg.hashsalt"] = "hokku"  # the same figures give the same file
    figure = Figure(figsize=(9, 0.75 * len(cases) + 1.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    named: set[str] = set()
    for row, case in enumerate(cases):
        heights = bars(case)
        for place, (family, speed) in enumerate(heights.items()):
            thickness = _BAR / len(heights)
            label = "_" if family in named else family
            named.add(family)
            middle = row - _BAR / 2 + (place + 0.5) * thickness
            axes.barh(middle, speed, thickness * 0.9, label=label, color=_COLOURS.get(family, _OTHER_COLOUR))
            if family == "Hokku":
                axes.text(speed, middle, f" {speed:.1f}×", va="center", fontsize=8)
    machine = result["machine"]
    axes.set_yticks(range(len(cases)), [f"{case['key']}: {case['title']}" for case in cases], fontsize=8)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.6)
    axes.set_xlabel("speed, best peer = 1 (longer is better)")
    where = f"{machine['processor']}, {machine['cores']} cores, {machine['isa']}"
    axes.set_title(f"{where}; {machine['commit']}, {machine['date']}", fontsize=9)
    axes.margins(y=0.01)
    figure.legend(fontsize=8, loc="outside lower center", ncols=max(1, len(named)))
    axes.spines[["top", "right"]].set_visible(False)
    stem.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(stem.with_suffix(".png"), dpi=150)
    figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text("utf-8")), Path(sys.argv[2]))
