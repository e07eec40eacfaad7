"""Which faults a seed has, and how often: a random subset at random rates, so that no two worlds fail alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

# Each kind with the range its rate is drawn from: per tap, per request, or per shop and day, as the comment says.
RATES: dict[str, tuple[float, float]] = {
    "tears": (0.03, 0.4),  # per tap: the card leaves during it
    "departures": (0.05, 0.6),  # per torn tap: the customer walks out instead of trying again
    "swaps": (0.02, 0.3),  # per retry: another card is laid down
    "mistakes": (0.005, 0.1),  # per sale: the cashier types another amount on a retry, or asks for too many points
    "returns": (0.02, 0.3),  # per sale: it is taken back, whole or in part
    "crashes": (0.004, 0.1),  # per step: the process dies at one of its port calls
    "power": (0.004, 0.1),  # per step: the same, and the disk loses what was not synced
    "outages": (1.0, 12.0),  # per shop and day: no line for minutes to days
    "network": (0.01, 0.4),  # per request: refused, lost, doubled, late, cut short, corrupted, 429, 5xx
    "portal": (0.01, 0.3),  # per request: something between answers in the CRM's place
    "clocks": (0.5, 6.0),  # per shop and day: a clock jumps by minutes to years
    "disk": (0.5, 4.0),  # per shop and day: the disk is full for a while
    "tools": (0.001, 0.02),  # per statement in a transaction: another program tries to write to the journal
    "daemons": (0.5, 3.0),  # per shop and day: a second one is started
    "crm": (0.5, 6.0),  # per day: the CRM dies in the middle of a request, or is down for a while
    "office": (1.0, 20.0),  # per day: head office gives or takes points
    "lost": (0.03, 0.2),  # per card: it is never seen again from some day on
    "backups": (1.0, 6.0),  # per shop and day: a till's journal is put back to a copy some hours old
    "rollback": (1.0, 6.0),  # per day: the CRM is put back to a backup some hours old
    "fraud": (0.1, 0.6),  # per card: somebody copies it, and uses the copies
    "edits": (0.02, 0.2),  # per card: somebody writes to it with another reader
    "keys": (0.05, 0.5),  # per tap: torn while the card gets new keys; shops change to the next set one by one
    "phones": (2.0, 20.0),  # per person and day: they give their phone instead of a card; some ask to be forgotten
}
KINDS = tuple(RATES)
# Left out unless asked for: under fraud other promises hold, and the stories of the corpus are older than some.
SEPARATE = frozenset({"fraud", "rollback", "backups", "keys", "phones"})


@dataclass
class Faults:
    """The rates of one world. ``injected`` counts what was really done, by name."""

    rates: dict[str, float]
    injected: dict[str, int] = field(default_factory=dict)

    def rate(self, kind: str) -> float:
        return self.rates.get(kind, 0.0)

    def has(self, kind: str) -> bool:
        return self.rate(kind) > 0

    def count(self, what: str) -> None:
        self.injected[what] = self.injected.get(what, 0) + 1

    def stop(self) -> None:
        """From now on the world is kind."""
        self.rates = {}


def parse(text: str) -> tuple[str, ...]:
    """``all``, ``none`` or kinds joined by commas; ``swarm`` is all but those with worlds of their own. ValueError."""
    if text == "none":
        return ()
    if text == "all":
        return KINDS
    swarm = ",".join(kind for kind in KINDS if kind not in SEPARATE)
    named = tuple(part.strip() for part in text.replace("swarm", swarm).split(","))
    unknown = set(named) - set(KINDS)
    if unknown:
        raise ValueError(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    return named


def draw(seed: int, kinds: str, *, always: bool = False) -> Faults:
    """Rates for one seed: each kind is in it two times in three (or always), more often rare than frequent."""
    chance, named = Random(f"{seed}:faults"), parse(kinds)
    rates = {}
    for kind in KINDS:
        low, high = RATES[kind]
        rate = low * (high / low) ** chance.random()
        if kind in named and (chance.random() < 2 / 3 or always):
            rates[kind] = rate
    return Faults(rates)
