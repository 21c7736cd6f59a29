"""Writes deploy/grafana/hokku.json (`python tools/grafana_dashboard.py`); a test holds it against the metrics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[1] / "deploy" / "grafana" / "hokku.json"
_SOURCE = {"type": "prometheus", "uid": "${source}"}
_WIDTH, _HEIGHT, _A_ROW = 8, 8, 3  # Grafana's grid is 24 wide


@dataclass(frozen=True, slots=True)
class Panel:
    """One plot: a title, a unit of Grafana's, and each line's legend and query."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]


def _quantiles(metric: str, of: str = "") -> list[tuple[str, str]]:
    rates = f"sum by (le, model) (rate({metric}_bucket{of}[$__rate_interval]))"
    return [
        (f"p{percent} {{{{model}}}}", f"histogram_quantile({percent / 100}, {rates})")
        for percent in (50, 95, 99)
    ]


def _rate(metric: str, by: str) -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))"


def _share(part: str, whole: str) -> str:
    return (
        f"sum by (model) (rate({part}[$__rate_interval])) / sum by (model) (rate({whole}[$__rate_interval]))"
    )


PANELS = (
    Panel("Time to first token", "s", _quantiles("hokku_time_to_first_token_seconds")),
    Panel("Time per output token", "s", _quantiles("hokku_time_per_output_token_seconds")),
    Panel("Reply duration", "s", _quantiles("hokku_reply_seconds", '{tier="standard"}')),
    Panel(
        "Requests", "reqps", [("{{route}} {{status}}", _rate("hokku_http_requests_total", "route, status"))]
    ),
    Panel("Replies", "reqps", [("{{tier}} {{outcome}}", _rate("hokku_replies_total", "tier, outcome"))]),
    Panel("Errors", "reqps", [("{{type}}", _rate("hokku_errors_total", "type"))]),
    Panel("Tokens", "short", [("{{tier}} {{kind}}", _rate("hokku_tokens_total", "tier, kind"))]),
    Panel(
        "Prompt tokens found in the cache",
        "percentunit",
        [("{{model}}", _share("hokku_prompt_tokens_cached_total", "hokku_prompt_tokens_total"))],
    ),
    Panel(
        "Drafts that came true",
        "percentunit",
        [("{{model}}", _share("hokku_draft_tokens_accepted_total", "hokku_draft_tokens_total"))],
    ),
    Panel(
        "Requests in the engine",
        "short",
        [("running {{model}}", "hokku_running_requests"), ("waiting {{model}}", "hokku_queue_requests")],
    ),
    Panel(
        "Pages for keys and values",
        "percentunit",
        [
            ("held {{model}}", "hokku_kv_pages_used / hokku_kv_pages"),
            ("kept for prefixes {{model}}", "hokku_kv_pages_cached / hokku_kv_pages"),
        ],
    ),
    Panel("Cached prompts in memory", "short", [("{{model}}", "hokku_cache_entries")]),
    Panel("Requests of batches without a result", "short", [("", "hokku_batch_backlog_requests")]),
    Panel("Time of a batch's request", "s", _quantiles("hokku_reply_seconds", '{tier="batch"}')),
    Panel("Engine steps", "ops", [("{{model}}", _rate("hokku_engine_steps_total", "model"))]),
    Panel("Memory", "bytes", [("{{instance}}", "process_resident_memory_bytes")]),
    Panel(
        "Processor", "short", [("cores of {{instance}}", "rate(process_cpu_seconds_total[$__rate_interval])")]
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana imports it."""
    return {
        "uid": "hokku",
        "title": "Hokku",
        "tags": ["hokku"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "source", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(number, panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    row, column = divmod(number, _A_ROW)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + place), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for place, (legend, query) in enumerate(panel.lines)
        ],
    }


def dashboard_text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(dashboard_text(), "utf-8")
