"""The picture of a comeback: what waited, and how many requests a second that took."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402 - the backend is chosen first

from fleet.comeback import Moment


def draw(path: Path, moments: list[Moment], requests_by_second: Counter[int]) -> None:
    """A PNG with both curves over the seconds since the line came back."""
    figure, (above, below) = pyplot.subplots(2, 1, sharex=True, figsize=(9, 6), layout="constrained")
    above.fill_between([m.at_s for m in moments], [m.waiting for m in moments], color="#2a6f97", alpha=0.35)
    above.plot([m.at_s for m in moments], [m.waiting for m in moments], color="#2a6f97")
    above.set_ylabel("events that wait")
    first = min(requests_by_second)
    seconds = range(max(requests_by_second) - first + 1)
    below.bar(list(seconds), [requests_by_second[first + second] for second in seconds], color="#e09f3e")
    below.set_ylabel("requests a second")
    below.set_xlabel("seconds since the line came back")
    for axes in (above, below):
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
