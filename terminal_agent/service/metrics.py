"""Figures for Prometheus, in its text format: what taps came to, what waits, and whether reader and CRM answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PREFIX = "terminal_agent"
TAP_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 2.0, 5.0)
Status = Callable[[], dict[str, Any]]

# Name, meaning, and where `status` has it.
_GAUGES: tuple[tuple[str, str, Callable[[dict[str, Any]], float | None]], ...] = (
    ("queue_pending", "Events that wait for the CRM.", lambda s: s["pending"]),
    ("queue_oldest_seconds", "Age of the oldest event that waits.", lambda s: s["oldest_pending_age_s"] or 0),
    ("queue_quarantined", "Events the CRM has refused.", lambda s: s["quarantined"]),
    ("sales_in_doubt", "Sales whose card write may or may not have landed.", lambda s: s["in_doubt"]),
    ("reader_up", "1 while the reader answers.", lambda s: float(s["reader"]["state"] == "ready")),
    ("crm_up", "1 when the last exchange with the CRM went well.", lambda s: float(s["crm"]["state"] == "up")),
    ("till_up", "1 while the till's API can be called.", lambda s: float(s["till_url"] is not None)),
    ("journal_alarms", "Alarms of the journal that stand.", lambda s: len(s["journal"]["alarms"])),
    ("journal_free_bytes", "Free space on the journal's disk.", lambda s: s["journal"]["free_bytes"]),
    ("offline_exposure_points", "Points redeemed offline here in the last day.", lambda s: s["offline_points_today"]),
)


class Metrics:
    """Counts taps; reads the rest off ``status`` when it is asked."""

    def __init__(self, status: Status) -> None:
        self._registry = CollectorRegistry()
        self._taps = Counter(
            f"{PREFIX}_taps",
            "Jobs with a card, by what came of them.",
            ["result"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{PREFIX}_tap_seconds", "How long such a job took.", buckets=TAP_SECONDS, registry=self._registry
        )
        self._registry.register(_Now(status))

    def tapped(self, result: str, seconds: float) -> None:
        """One job with a card ended: ``done``, or the code of its error."""
        self._taps.labels(result).inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """Everything, in the text exposition format 0.0.4."""
        return generate_latest(self._registry)


class _Now(Collector):
    def __init__(self, status: Status) -> None:
        self._status = status

    def collect(self) -> Iterator[Metric]:
        now = self._status()
        for name, meaning, value in _GAUGES:
            yield GaugeMetricFamily(f"{PREFIX}_{name}", meaning, value=value(now))
        about = GaugeMetricFamily(f"{PREFIX}_info", "Which version runs here.", labels=["version", "terminal"])
        about.add_metric([now["version"], now["terminal_id"]], 1)
        yield about

    def describe(self) -> Iterator[Metric]:
        """Nothing at registration: there is no status yet."""
        return iter(())
