"""The Grafana dashboard and the docs name metrics that are there, and leave none of ours out."""

from __future__ import annotations

import json
import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families
from tools.grafana_dashboard import FILE, dashboard_text

from hokku.telemetry.metrics import Metrics
from tests.telemetry.exchanges import an_exchange
from tests.telemetry.test_metrics import STATS

OPERATIONS = (Path(__file__).parents[2] / "docs" / "operations.md").read_text("utf-8")
NAME = re.compile(r"\b(?:hokku|process)_\w+")
SUFFIX = re.compile(r"_(?:bucket|sum|count)$")


def exported() -> set[str]:
    """The names as queries write them; of a histogram, its own."""
    metrics = Metrics(lambda: [("haiku", STATS)], lambda: 0)
    metrics.observe(an_exchange(error_type="api_error"))
    families = text_string_to_metric_families(metrics.render()[0].decode())
    return {SUFFIX.sub("", sample.name) for family in families for sample in family.samples}


def test_the_file_is_what_the_tool_writes() -> None:
    assert FILE.read_text("utf-8") == dashboard_text()


def test_every_metric_of_the_dashboard_is_exported_and_every_one_of_ours_is_shown() -> None:
    panels = json.loads(FILE.read_text("utf-8"))["panels"]
    queries = " ".join(target["expr"] for panel in panels for target in panel["targets"])
    named = {SUFFIX.sub("", name) for name in NAME.findall(queries)}
    assert named - exported() == set()
    assert {name for name in exported() if name.startswith("hokku_")} - named == set()


def test_every_metric_of_the_docs_is_exported_and_every_one_of_ours_is_there() -> None:
    named = {
        name for line in OPERATIONS.splitlines() if line.startswith("| `") for name in NAME.findall(line)
    }
    assert named - exported() == set()
    assert {name for name in exported() if name.startswith("hokku_")} - named == set()
