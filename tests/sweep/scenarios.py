"""What is swept: a line each."""

from __future__ import annotations

from dataclasses import dataclass

from drivers.simulator import Torn
from tests.sweep.shop import OTHER_OFFICE
from tests.sweep.steps import (
    Step,
    backup,
    blank_cards,
    buy,
    buy_by_phone,
    close_in_doubt,
    disk,
    give_back,
    give_back_without_card,
    housekeeping,
    initialise_terminal,
    issue,
    join,
    journal_damaged,
    line,
    new_key_set,
    office_adjusts,
    office_blocks,
    office_goes_back,
    office_makes_backup,
    office_publishes,
    power_cut,
    rekey,
    start,
    sync,
    torn,
    wipe,
    without_fault,
)


@dataclass(frozen=True)
class Scenario:
    """``prepare`` goes without faults; in ``steps`` each port call fails in turn."""

    name: str
    prepare: tuple[Step, ...]
    steps: tuple[Step, ...]
    furnished: bool = True
    everyday: bool = True
    alarms: frozenset[str] = frozenset()


SARA = {"phone": "09125554433", "name": "Sara"}
JOINED = (blank_cards("a"), join())
READY = (*JOINED, issue(**SARA), buy("R-0", 10_000_000), sync())
"""A card with 1 000 points that head office knows."""
OFFLINE = (*READY, line(up=False))
SALE = buy("R-1", 50_000)

STARTS = (
    Scenario("init and first start", (), (initialise_terminal(), join()), furnished=False),
    Scenario("start", READY, (start(),)),
    Scenario("start after a power cut", (*OFFLINE, SALE, power_cut()), (start(),)),
    Scenario("backup", READY, (backup(),)),
    Scenario("housekeeping", READY, (housekeeping(),)),
    Scenario(
        "start on a damaged journal",
        (*OFFLINE, SALE, buy("R-2", 70_000), journal_damaged()),
        (start(), line(up=True), sync(), without_fault(buy("R-3", 10_000))),
        alarms=frozenset({"started_over"}),
    ),
)
CARDS = (
    Scenario("issue", JOINED, (issue(**SARA),)),
    Scenario("issue with an application directory", JOINED, (issue(**SARA, mad=True),), everyday=False),
    Scenario("issue begun and torn", (*JOINED, torn(issue(**SARA), Torn.NEW)), (issue(**SARA),), everyday=False),
    Scenario("wipe", READY, (wipe(),)),
    Scenario("wipe and issue again", READY, (wipe(), issue(**SARA)), everyday=False),
    Scenario("new key set", READY, (new_key_set(),)),
    Scenario("re-key", (*READY, new_key_set()), (rekey(), without_fault(buy("R-1", 50_000)))),
    Scenario(
        "purchase that re-keys its card",
        (*READY, new_key_set()),
        (SALE, *map(without_fault, (buy("R-2", 70_000), buy("R-3", 10_000), sync()))),
    ),
)
SALES = (
    Scenario("purchase", READY, (SALE,)),
    Scenario("purchase on a full disk", (*READY, disk(full=True)), (SALE,)),
    Scenario("purchase with redemption offline", OFFLINE, (buy("R-1", 50_000, redeem=150),)),
    Scenario("purchase with redemption online", READY, (buy("R-1", 100_000, redeem=900),)),
    Scenario("purchase with adjustments waiting", (*READY, office_adjusts(30), office_adjusts(-7), sync()), (SALE,)),
    Scenario(
        "purchase and return by phone",
        READY,
        (
            buy_by_phone("R-1", 70_000, SARA["phone"]),
            give_back_without_card("R-1", 30_000),
            *map(without_fault, (sync(), buy("R-2", 10_000))),
        ),
    ),
    *(
        Scenario(f"purchase after a torn one: {outcome}", (*OFFLINE, torn(SALE, outcome)), (buy("R-2", 70_000), SALE))
        for outcome in Torn
    ),
    *(
        Scenario(f"the same purchase after it was torn: {outcome}", (*OFFLINE, torn(SALE, outcome)), (SALE,))
        for outcome in (Torn.OLD, Torn.NEW)
    ),
)
RETURNS = (
    Scenario("reversal of all", (*READY, buy("R-1", 100_000, redeem=40)), (give_back("R-1"),)),
    Scenario(
        "reversal in two parts", (*READY, buy("R-1", 100_000)), (give_back("R-1", 30_000), give_back("R-1", 70_000))
    ),
    *(
        Scenario(
            f"sale closed without its card: {outcome}",
            (*READY, torn(SALE, outcome)),
            (close_in_doubt(), sync(), buy("R-2", 70_000), *map(without_fault, (sync(), buy("R-3", 10_000)))),
        )
        for outcome in (Torn.OLD, Torn.NEW)
    ),
)
EXCHANGES = (
    Scenario("join", (blank_cards("a"), issue(**SARA), SALE), (join(), sync())),
    Scenario(
        "join another CRM",
        (*READY, office_publishes("ours", 2), sync(), office_publishes("theirs", 3, OTHER_OFFICE)),
        (join(OTHER_OFFICE, looks_first=True), blank_cards("b"), without_fault(issue("b")), sync()),
    ),
    Scenario(
        "sync up: several cards",
        (
            *(blank_cards("a", "b"), join(), issue("a", **SARA), issue("b")),
            *(buy("R-1", 50_000), buy("R-2", 10_000, card="b")),
        ),
        (sync(),),
    ),
    Scenario(
        "sync down: adjustments, hotlist, policy",
        (*READY, office_adjusts(30), office_adjusts(-7), office_blocks(), office_publishes("2", 2)),
        (sync(),),
    ),
    Scenario(
        "sync with a CRM that went back",
        (*READY, office_makes_backup(), SALE, sync(), office_goes_back(), buy("R-2", 70_000)),
        (sync(),),
    ),
)

SCENARIOS = (*STARTS, *CARDS, *SALES, *RETURNS, *EXCHANGES)
