"""The dashboard and the reference page contain exactly the metrics in the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from event_hooks import metrics
from event_hooks.maintain_ledger import maintenance

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def metric_names() -> set[str]:
    """The names of the metrics in the code."""
    modules = (metrics, maintenance)
    source = "".join(Path(module.__file__).read_text() for module in modules)
    names = re.findall(r'(?:_count|_time|gauge)\("(\w+)"', source)
    # The others are names in overview.count_pending.
    return {*names, "reports_pending", "reports_rejected", "follow_ups_pending", "events_not_started"}


def test_the_dashboard_shows_exactly_the_metrics_in_the_code(metric_names: set[str]) -> None:
    dashboard = json.loads((DOCS / "grafana-dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    assert {
        name for text in expressions for name in re.findall(r"airflow_event_hooks_(\w+)", text)
    } == metric_names
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])


def test_the_reference_explains_exactly_the_metrics_in_the_code(metric_names: set[str]) -> None:
    page = (DOCS / "reference" / "metrics.md").read_text()
    table = page[page.index("| Metric |") :].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE)) == metric_names
