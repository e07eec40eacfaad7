"""The example alerts and the dashboard ask for figures that the agent has."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from terminal_agent.service.metrics import PREFIX, Metrics

CONFIG = Path(__file__).parents[2] / "config"
STATUS: dict[str, Any] = {
    "pending": 0,
    "oldest_pending_age_s": None,
    "quarantined": 0,
    "in_doubt": 0,
    "reader": {"state": "ready"},
    "crm": {"state": "up"},
    "till_url": None,
    "journal": {"alarms": [], "free_bytes": 1},
    "offline_points_today": 0,
    "version": "0",
    "terminal_id": "till-1",
}


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every series the agent shows after one tap."""
    metrics = Metrics(lambda: STATUS)
    metrics.tapped("done", 0.1)
    return set(re.findall(rf"^({PREFIX}\w+)", metrics.text().decode(), re.MULTILINE))


def asked_in(text: str) -> set[str]:
    return set(re.findall(rf"\b{PREFIX}_\w+", text))


def test_alerts_ask_for_figures_that_are_there_and_say_what_to_do(known: set[str]) -> None:
    (group,) = yaml.safe_load((CONFIG / "prometheus" / "alerts.yml").read_text())["groups"]
    assert asked_in(" ".join(rule["expr"] for rule in group["rules"])) <= known
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"]
        assert rule["annotations"]["action"]


def test_the_dashboard_asks_for_figures_that_are_there_and_shows_all_of_them(known: set[str]) -> None:
    dashboard = json.loads((CONFIG / "grafana" / "terminal-agent.json").read_text())
    asked = {name for panel in dashboard["panels"] for t in panel["targets"] for name in asked_in(t["expr"])}
    assert asked <= known
    shown = {name for name in known if not name.endswith(("_created", "_sum", "_count"))}
    assert shown <= asked, "a figure nobody sees"


def test_the_dashboards_panels_are_numbered_once_and_do_not_overlap() -> None:
    panels = json.loads((CONFIG / "grafana" / "terminal-agent.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [panel["gridPos"] for panel in panels]
    cells = [(x, y) for p in places for x in range(p["x"], p["x"] + p["w"]) for y in range(p["y"], p["y"] + p["h"])]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24, "Grafana's grid has 24 columns"


def test_prometheus_is_told_where_the_terminal_is() -> None:
    (job,) = yaml.safe_load((CONFIG / "prometheus" / "scrape.yml").read_text())["scrape_configs"]
    assert job["job_name"] == "terminal-agent"
    assert job["static_configs"][0]["targets"] == ["127.0.0.1:7411"]
    assert "credentials_file" in job["authorization"], "a token is a secret: never in the file itself"
