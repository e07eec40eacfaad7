"""Figures: measured in turns with their yardstick, told as medians, because a shared CPU makes means lie."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from statistics import median, quantiles
from typing import Any


@dataclass(frozen=True)
class Samples:
    """Many runs of one thing: median and 95th percentile."""

    median: float
    p95: float
    count: int

    @classmethod
    def of(cls, values: list[float]) -> Samples:
        return cls(median(values), quantiles(values, n=20)[-1], len(values))

    @classmethod
    def one(cls, value: float) -> Samples:
        """A thing that is measured once, as memory is."""
        return cls(value, value, 1)


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    ``target`` bounds the ratio where ``target_is_ratio``, else our own median: from above, or from below where
    ``target_is_least``.
    """

    bench: str
    what: str
    unit: str
    ours: Samples
    yardstick: Samples | None = None
    yardstick_is: str = ""
    target: float | None = None
    target_is_ratio: bool = False
    target_is_least: bool = False
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        return self.ours.median / self.yardstick.median if self.yardstick and self.yardstick.median else None

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None without one."""
        measured = self.ratio if self.target_is_ratio else self.ours.median
        if self.target is None or measured is None:
            return None
        return measured >= self.target if self.target_is_least else measured <= self.target

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratio": self.ratio, "met": self.met}


def time_ms(action: Callable[[], Any]) -> float:
    started = time.perf_counter()
    action()
    return (time.perf_counter() - started) * 1000


def in_turns(count: int, *actions: Callable[[], Any]) -> list[Samples]:
    """Each action ``count`` times, in turns (A B A B …), so that a busy moment of the machine meets them all."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(count):
        for taken, action in zip(times, actions, strict=True):
            taken.append(time_ms(action))
    return [Samples.of(taken) for taken in times]
