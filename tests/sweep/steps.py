"""What people do, a step at a time, and how they do it again when it went wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Any

from drivers.simulator import Torn
from terminal_agent.club.policy import default_policy
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.journal.journal import JOURNAL_FILE
from terminal_agent.ports import rfc3339
from terminal_agent.service.initialise import initialise
from tests.sweep.ports import Fault
from tests.sweep.shop import COPY, NEXT_MASTER_KEY, OFFICE, READER, TERMINAL, Shop
from tests.workbench import NOW, blank

Act = Callable[[Shop], Any]


@dataclass(frozen=True)
class Step:
    """``again`` is what people do after a failure, if it is not the same once more. ``settled_by`` are the refusals
    that say: it was done the first time. What is not ``swept`` never fails. A ``cold`` step starts the process."""

    name: str
    act: Act
    again: Act | None = None
    receipt_no: str | None = None
    settled_by: frozenset[ErrorCode] = frozenset()
    swept: bool = True
    cold: bool = False

    def repeat(self, shop: Shop) -> Any:
        return (self.again or self.act)(shop)


def _operation(title: str, operation: str, card: str | None = None, /, **params: Any) -> Step:
    return Step(title, lambda shop: shop.do(operation, card, **params))


def _elsewhere(name: str, act: Act) -> Step:
    return Step(name, act, swept=False)


def without_fault(step: Step) -> Step:
    """It belongs to the story, and another scenario sweeps it."""
    return replace(step, swept=False)


# --- the plastic


def blank_cards(*names: str) -> Step:
    """New cards, blank as the maker delivers them."""

    def lay_out(shop: Shop) -> None:
        for name in names:
            shop.cards[name] = blank(b"\x1a\x2b\x3c" + name.encode()[:1])

    return _elsewhere("blank cards", lay_out)


# --- at the till


def issue(card: str = "a", **who: Any) -> Step:
    step = _operation(f"issue {card}", "card.issue", card, **who)
    return replace(step, settled_by=frozenset({ErrorCode.ALREADY_ISSUED}))


def buy(receipt_no: str, amount: int, redeem: int = 0, card: str = "a") -> Step:
    params = {"receipt_no": receipt_no, "amount": amount, "redeem": redeem}
    return replace(_operation(f"purchase {receipt_no}", "purchase", card, **params), receipt_no=receipt_no)


def give_back(receipt_no: str, amount: int | None = None, card: str = "a") -> Step:
    params = {"receipt_no": receipt_no, "amount": amount}
    return replace(_operation(f"reverse {receipt_no}", "reverse", card, **params), receipt_no=receipt_no)


def buy_by_phone(receipt_no: str, amount: int, phone: str) -> Step:
    params = {"receipt_no": receipt_no, "amount": amount, "phone": phone}
    return replace(_operation(f"purchase {receipt_no} by phone", "purchase", **params), receipt_no=receipt_no)


def give_back_without_card(receipt_no: str, amount: int | None = None) -> Step:
    params = {"receipt_no": receipt_no, "amount": amount}
    return replace(_operation(f"reverse {receipt_no}", "reverse", **params), receipt_no=receipt_no)


def wipe(card: str = "a") -> Step:
    return _operation(f"wipe {card}", "card.wipe", card)


def new_key_set(version: int = 2) -> Step:
    """Cards are to live under another master key from now on."""
    return _operation("new key set", "keys.import", key=NEXT_MASTER_KEY.hex(), version=version, activate=True)


def rekey(card: str = "a") -> Step:
    return _operation(f"rekey {card}", "card.rekey", card)


def sync() -> Step:
    return _operation("sync", "sync")


def close_in_doubt() -> Step:
    """The cashier looks which sale is in doubt, once, and ends it."""

    def act(shop: Shop) -> Any:
        (sale,) = [row for row in shop.journal()["checkouts"] if row["state"] in ("in_doubt", "closed")]
        return shop.do("queue.close", checkout_id=sale["checkout_id"])

    return Step("queue close", act)


def torn(step: Step, outcome: Torn) -> Step:
    """The card leaves in the middle of the step's first write, and nobody does the step again."""
    way = {Torn.OLD: "removed", Torn.NEW: "removed_written", Torn.GARBAGE: "removed_garbage"}[outcome]

    def act(shop: Shop) -> None:
        shop.ports.watch(Fault(way, what="write"))
        with suppress(AgentError):
            step.act(shop)
        assert shop.ports.struck
        shop.ports.heal()

    return _elsewhere(f"{step.name}, torn: {outcome}", act)


# --- the terminal itself


def initialise_terminal() -> Step:
    """``init``; the second time with ``--force``, as its hint says."""
    values = {"terminal_id": TERMINAL, "reader": READER}

    def run(shop: Shop, *, force: bool) -> Any:
        return initialise(shop.config, {**values, "data_dir": str(shop.data_dir)}, force=force)

    return Step("init", lambda shop: run(shop, force=False), lambda shop: run(shop, force=True))


def join(url: str = OFFICE, *, looks_first: bool = False) -> Step:
    """``enroll``, each time with a fresh code: one that was used, or may have been, is no good.

    ``looks_first``: who does not know whether it worked asks ``status``, and does it again only if it did not.
    """

    def act(shop: Shop) -> Any:
        return shop.do("enroll", crm_url=url, code=shop.offices[url].enrolment_code())

    def again(shop: Shop) -> Any:
        joined = looks_first and shop.do("status")["crm"]["url"] == url
        return None if joined else act(shop)

    return Step(f"join {url}", act, again)


def start() -> Step:
    """The process starts, whatever it finds."""
    return Step("start", lambda shop: {"epoch": shop.agent.journal.events.install_epoch}, cold=True)


def backup() -> Step:
    """A copy by hand; one that has its name is not made again."""
    step = Step("backup", lambda shop: shop.do("backup", output=str(shop.data_dir / COPY)))
    return replace(step, settled_by=frozenset({ErrorCode.INVALID_INPUT}))


def housekeeping() -> Step:
    """What the daemon does now and then; again a day later."""

    def again(shop: Shop) -> None:
        shop.wait(days=1)
        shop.agent.journal.keep_house()

    return Step("housekeeping", lambda shop: shop.agent.journal.keep_house(), again)


def power_cut() -> Step:
    """The process is gone, its write-ahead log as it was."""
    return _elsewhere("power cut", lambda shop: shop.power_goes())


def disk(*, full: bool) -> Step:
    """Others fill the disk, or make room on it."""

    def act(shop: Shop) -> None:
        shop.disk_is_full = full

    return _elsewhere(f"disk {'full' if full else 'with room'}", act)


def journal_damaged() -> Step:
    """A page of the journal goes bad while the process is not running; the events are not on it."""

    def act(shop: Shop) -> None:
        shop.stop()
        path = shop.data_dir / JOURNAL_FILE
        with closing(sqlite3.Connection(path)) as connection:
            (page_size,) = connection.execute("PRAGMA page_size").fetchone()
            (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'members'").fetchone()
        content = bytearray(path.read_bytes())
        content[(page - 1) * page_size : page * page_size] = bytes(page_size)
        path.write_bytes(content)

    return _elsewhere("a bad page", act)


# --- elsewhere


def office_adjusts(points: int, card: str = "a") -> Step:
    return _elsewhere(
        f"head office gives {points}",
        lambda shop: shop.offices[OFFICE].adjust(shop.card_no(card), points),
    )


def office_blocks(card: str = "a") -> Step:
    return _elsewhere(
        f"head office blocks {card}",
        lambda shop: shop.offices[OFFICE].block(shop.card_no(card)),
    )


def office_publishes(version: str, points: int, url: str = OFFICE) -> Step:
    """A policy that gives ``points`` where there was 1, from now on."""
    earn = {"points": points, "per_amount": 10_000, "basis": "gross"}
    document = {**default_policy(), "version": version, "valid_from": rfc3339(NOW), "earn": earn}
    return _elsewhere(f"policy {version}", lambda shop: shop.offices[url].publish(document))


def line(*, up: bool) -> Step:
    """The line to head office is cut, or mended."""

    def act(shop: Shop) -> None:
        shop.offices[OFFICE].reachable = up

    return _elsewhere(f"line {'up' if up else 'down'}", act)


def office_makes_backup() -> Step:
    def act(shop: Shop) -> None:
        shop.offices[OFFICE].backup = shop.offices[OFFICE].content()

    return _elsewhere("head office makes a backup", act)


def office_goes_back() -> Step:
    """Head office's disk broke; it was put back from its backup."""
    return _elsewhere("head office goes back", lambda shop: shop.offices[OFFICE].put_back(shop.offices[OFFICE].backup))


def time_passes(**by: float) -> Step:
    return _elsewhere("time passes", lambda shop: shop.wait(**by))
