"""The promises as named checks. Each looks at what people saw (the book), the plastic, and the files, and raises
:class:`~tests.simulation.book.Broken`. I1 to I10 and P1 to P9 are the numbers of docs/testing.md."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.card.independent_reader import HOMES, read_card
from tests.simulation.book import CARD_CAP, DONE, FINAL, TERMINAL_DAY_CAP, Book, Card, Sale, require
from tests.simulation.crm import CrmHouse
from tests.simulation.shop import Shop

DAY = timedelta(days=1)
BUDGET_SLACK = 40
BUDGET_PER_MINUTE = 9.0
"""A failed exchange is at most three requests, and the wait between two 30 s on average: 6 a minute in the long run."""


class Watcher:
    """Checks that remember what they saw, so that each look costs only what is new."""

    def __init__(self, crm: CrmHouse, book: Book) -> None:
        self._crm = crm
        self._book = book
        self._minted: dict[tuple[str, str, int], tuple[str, str]] = {}
        self._acknowledged: dict[str, set[str]] = {}
        self._forgetful = False

    def crm_went_back(self) -> None:
        """What was acknowledged may be missing at the CRM until it is sent again."""
        self._forgetful = True

    def ledger_sums_to_nothing(self) -> None:
        """I1: no point from nowhere, none into nowhere; every account is the sum of its events and adjustments."""
        (row,) = self._crm.rows("SELECT coalesce(sum(points), 0) AS total FROM entries")
        require(row["total"] == 0, "I1 ledger", f"the sum over all accounts is {row['total']}")
        booked = self._crm.rows(
            "SELECT card_no, sum(points) AS points FROM (SELECT card_no, earned - redeemed AS points FROM events "
            "WHERE verdict <> 'rejected' AND card_no IS NOT NULL UNION ALL SELECT card_no, points FROM adjustments "
            "WHERE reason NOT IN ('in_doubt_settled', 'reconciled', 'purchase.recorded', 'purchase.reversed', "
            "'sales without a card') AND reason NOT LIKE 'replaces %' UNION ALL SELECT substr(account, 6), points "
            "FROM entries JOIN transfers USING (card_no, transfer_id) WHERE kind = 'replacement' "
            "AND account LIKE 'card:%') GROUP BY card_no"
        )
        for row in booked:
            (card,) = self._crm.rows("SELECT balance FROM cards WHERE card_no = ?", row["card_no"])
            says = f"card {row['card_no']}: {card['balance']}, its events say {row['points']}"
            require(card["balance"] == row["points"], "I1 ledger", says)

    def points_without_a_card_are_kept(self) -> None:
        """I1: what waits for members who have no card is what their sales by phone brought."""
        (kept,) = self._crm.rows("SELECT coalesce(sum(points), 0) AS n FROM entries WHERE account LIKE 'member:%'")
        (told,) = self._crm.rows(
            "SELECT coalesce(sum(earned - redeemed), 0) AS n FROM events "
            "WHERE card_no IS NULL AND verdict <> 'rejected' AND type LIKE 'purchase.%'"
        )
        require(kept["n"] == told["n"], "I1 ledger", f"{kept['n']} points wait, sales by phone brought {told['n']}")

    def no_event_counts_twice(self) -> None:
        """I3: an id is booked once, and a sequence never for two events."""
        for column in ("id", "install_epoch || sequence"):
            twice = self._crm.rows(
                f"SELECT terminal_id, {column} AS what, count(*) AS n FROM events WHERE verdict <> 'rejected' "
                "AND coalesce(code, '') <> 'told_again' AND (code IS NULL OR type LIKE 'purchase.%') "
                "GROUP BY terminal_id, what HAVING n > 1"
            )
            require(not twice, "I3 once", f"booked more than once: {twice[:3]}")

    def no_receipt_counts_twice(self) -> None:
        """P2: a receipt is booked once, with the numbers the cashier saw."""
        seen: Counter[tuple[str, str, str]] = Counter()
        for booked in self._crm.sales():
            key = (booked["terminal_id"], booked["kind"], booked["receipt_no"])
            seen[key] += 1
            require(seen[key] == 1, "P2 once", f"{key} is booked {seen[key]} times")
            sale = self._book.by_receipt.get(key)
            if sale is None or sale.gone:
                continue  # a last tap of the healing, or a sale whose end the till has forgotten
            require(booked["earned"] == sale.earned, "P2 once", f"{key}: earned {booked['earned']} for {sale.amount}")
            if sale.answer is not None and sale.state == DONE:
                numbers = (booked["redeemed"], booked["card_no"])
                want = (sale.answer["points_redeemed"], sale.answer["card_no"])
                require(numbers == want, "P2 once", f"{key}: booked {numbers}, the cashier saw {want}")

    def minted_events_never_change(self, shop: Shop) -> None:
        """I10: the bytes of an event stay the same, through restarts, clocks and closings."""
        for row in shop.rows("SELECT install_epoch, sequence, event_id, fingerprint FROM events"):
            key = (shop.name, row["install_epoch"], row["sequence"])
            now = (row["event_id"], row["fingerprint"])
            require(self._minted.setdefault(key, now) == now, "I10 minted", f"{key} was {self._minted[key]}, is {now}")

    def nothing_is_acknowledged_that_the_crm_has_not(self, shop: Shop) -> None:
        """I8, P7: only what stands in the CRM's file may count as acknowledged."""
        known = self._acknowledged.setdefault(shop.name, set())
        rows = shop.rows("SELECT event_id FROM outbox WHERE state = 'acknowledged'")
        fresh = {row["event_id"] for row in rows} - known
        if not fresh or self._forgetful:
            return
        there = {row["id"] for row in self._crm.rows("SELECT id FROM events WHERE terminal_id = ?", shop.name)}
        require(fresh <= there, "I8 acknowledged", f"{shop.name}: the CRM never got {sorted(fresh - there)[:3]}")
        known |= fresh

    def sequences_have_no_gap(self, shop: Shop) -> None:
        """I5 at the terminal: 1, 2, 3 … in each install epoch."""
        for row in shop.rows("SELECT install_epoch, count(*) AS n, max(sequence) AS top FROM events GROUP BY 1"):
            require(row["n"] == row["top"], "I5 gapless", f"{shop.name}: {row['n']} events up to {row['top']}")


def answers_are_on_disk(shop: Shop, sales: list[Sale]) -> None:
    """P1, I2: what a cashier saw is there after any crash, and says the same."""
    rows = {(r["kind"], r["receipt_no"]): r for r in shop.rows("SELECT kind, receipt_no, state, result FROM checkouts")}
    for sale in sales:
        if sale.answer is None or sale.gone:
            continue
        row = rows.get((sale.kind, sale.receipt_no))
        where = f"{shop.name} {sale.receipt_no}"
        require(row is not None, "P1 on disk", f"{where} was answered {sale.state} and is gone")
        assert row is not None
        require(row["state"] == sale.state, "P1 on disk", f"{where} was {sale.state}, is {row['state']}")
        result = json.loads(row["result"])
        for name in ("points_earned", "points_redeemed", "card_no", "amount"):
            require(result[name] == sale.answer[name], "P1 on disk", f"{where}: {name} is {result[name]} now")


def card_is_whole(card: Card, before: dict[str, int] | None, after: dict[str, int] | None, where: str) -> None:
    """P3: after any tap the plastic holds the state before it, or a later one; never a mix, never nothing."""
    require(after is not None, "P3 card", f"{where}: {card.name} holds no valid state, before {before}")
    assert after is not None
    if before is not None and after["sequence"] == before["sequence"]:
        require(after == before, "P3 card", f"{where}: {card.name} was {before}, is {after} under the same number")
    elif before is not None:
        steps = after["sequence"] - before["sequence"]  # at most: what was in doubt is written again, then this sale
        require(0 < steps <= 2, "P3 card", f"{where}: {card.name} went from {before} to {after}")


def card_says_what_was_answered(card: Card, answer: dict[str, Any], after: dict[str, int] | None) -> None:
    """P3, P4: a fresh "done" means that the card was written, and reads back as the answer says."""
    said = (answer["sequence"], answer["points_after"])
    holds = after and (after["sequence"], after["balance"])
    require(said == holds, "P4 verified", f"{card.name}: the answer says {said}, the card holds {holds}")


def blocked_card_is_refused(card: Card, shop: Shop) -> None:
    """P5: a shop that knows, or could have heard, that a card is blocked takes it no more."""
    too_late = card.blocked_at is not None and shop.heard_at > card.blocked_at
    require(not too_late, "P5 blocked", f"{shop.name} took {card.name}, blocked at {card.blocked_at}")
    if card.spoilt:
        known = shop.rows("SELECT reason FROM hotlist WHERE card_no = ? AND blocked = 1", card.card_no)
        require(not known, "P5 blocked", f"{shop.name} took {card.name}, and knows that it is blocked: {known}")


def older_image_is_refused(card: Card, shop: Shop, sequence: int) -> None:
    """P5: a shop never takes a card that holds less than it has seen of it. ``sequence`` is what this tap wrote."""
    seen = card.seen.get(shop.name, -1)
    require(sequence > seen, "P5 rollback", f"{shop.name} wrote {sequence} to {card.name}, and has seen {seen}")
    card.seen[shop.name] = sequence


def forgetful_till_redeems_nothing(shop: Shop, answer: dict[str, Any]) -> None:
    """P4: put back to an old copy, a till redeems nothing offline until it has talked to the CRM again."""
    blind = shop.restored_at >= 0 and shop.heard_at < shop.restored_at
    offline = answer["points_redeemed"] > 0 and not answer["online"]
    require(not (blind and offline), "P4 after a restore", f"{shop.name} redeemed {answer['points_redeemed']} blindly")


def card_cap_holds(book: Book, card: Card) -> None:
    """I6: at most 200 points redeemed offline since the card was last online.

    A tap that nobody was told of (its sale was given up and closed) may have been online: the count begins anew there.
    """
    offline, last = 0, 0
    for sale in book.final_sales(card.card_no or ""):
        if sale.answer is None:
            continue
        if sale.answer["online"] or sale.answer["sequence"] > last + 1:
            offline = 0
        last = sale.answer["sequence"]
        if not sale.answer["online"]:
            offline += max(0, sale.answer["points_redeemed"])
        require(offline <= CARD_CAP, "I6 card cap", f"{card.name} redeemed {offline} offline, {sale.receipt_no}")


def terminal_cap_holds(shop: Shop) -> None:
    """I6: at most 2 000 points redeemed offline in any 24 hours of the terminal's clock."""
    taken: list[tuple[datetime, int]] = []
    query = "SELECT result, created_at, redeemed_offline FROM checkouts WHERE redeemed_offline > 0 ORDER BY rowid"
    for row in shop.rows(query):
        moment = datetime.fromisoformat(row["created_at"])
        result = json.loads(row["result"])
        require(not result["online"], "I6 terminal cap", f"{shop.name}: counted as offline: {result['receipt_no']}")
        taken.append((moment, row["redeemed_offline"]))
        total = sum(points for when, points in taken if when >= moment - DAY)
        require(total <= TERMINAL_DAY_CAP, "I6 terminal cap", f"{shop.name}: {total} offline by {moment}")


def copies_share_a_cap(shop: Shop) -> None:
    """P4: all copies of a card together redeem at most 200 points offline at a terminal, until it confirms the card."""
    taken: Counter[str] = Counter()
    for row in shop.rows("SELECT card_no, online, redeemed_offline FROM checkouts ORDER BY rowid"):
        taken[row["card_no"]] = 0 if row["online"] else taken[row["card_no"]] + row["redeemed_offline"]
        says = f"{shop.name} let copies of {row['card_no']} redeem {taken[row['card_no']]} offline"
        require(taken[row["card_no"]] <= CARD_CAP, "P4 copies", says)


def offline_is_counted(shop: Shop, sales: list[Sale]) -> None:
    """I6: every offline redemption a cashier granted is in the terminal's count."""
    counted = {
        r["receipt_no"]: r
        for r in shop.rows("SELECT receipt_no, redeemed_offline FROM checkouts WHERE kind = 'purchase'")
    }
    for sale in sales:
        if sale.gone:
            continue
        if sale.answer is not None and sale.of is None and sale.state == DONE and not sale.answer["online"]:
            got = counted[sale.receipt_no]["redeemed_offline"]
            want = sale.answer["points_redeemed"]
            require(got == want, "I6 terminal cap", f"{shop.name} {sale.receipt_no}: counted {got} of {want}")


def no_retry_storm(shop: Shop, since: float, until: float) -> None:
    """I9: while the line is down, the requests of a terminal stay within their budget."""
    tries = sum(1 for moment in shop.line.tries if since <= moment <= until)
    budget = BUDGET_SLACK + BUDGET_PER_MINUTE * (until - since) / 60
    require(tries <= budget, "I9 budget", f"{shop.name}: {tries} requests in {until - since:.0f} s without a line")


def everything_arrived(shop: Shop) -> None:
    """I7, I4: after healing nothing waits, nothing is quarantined, no sale is in doubt, and the hash chain holds."""
    waiting = shop.rows("SELECT event_id, state, reason FROM outbox WHERE state <> 'acknowledged'")
    require(not waiting, "I7 drained", f"{shop.name}: {waiting[:3]} of {len(waiting)}")
    open_intents = shop.rows("SELECT intent_id, card_no FROM intents WHERE state = 'open' AND kind <> 'issue'")
    require(not open_intents, "I4 settled", f"{shop.name}: open intents {open_intents[:3]}")
    in_doubt = shop.rows("SELECT receipt_no FROM checkouts WHERE state = 'in_doubt'")
    require(not in_doubt, "I4 settled", f"{shop.name}: in doubt {in_doubt[:3]}")
    broken = shop.agent.journal.events.broken_link()
    require(broken is None, "I10 minted", f"{shop.name}: the hash chain breaks at {broken}")


def crm_has_every_sequence(crm: CrmHouse, shop: Shop) -> None:
    """I5 at the CRM: nothing is missing of any install epoch."""
    for row in shop.rows("SELECT install_epoch, max(sequence) AS top FROM events GROUP BY 1"):
        (got,) = crm.rows(
            "SELECT count(DISTINCT sequence) AS n, max(sequence) AS top FROM events "
            "WHERE terminal_id = ? AND install_epoch = ?",
            shop.name,
            row["install_epoch"],
        )
        whole = got["n"] == got["top"] and got["top"] >= row["top"]  # a till put back may have sent more than it knows
        require(whole, "I5 gapless", f"{shop.name}: {got['n']} up to {got['top']} of {row['top']} at the CRM")


def every_answer_is_at_the_crm_once(crm: CrmHouse, book: Book) -> None:
    """I2: what cashiers saw is booked once; what they were refused is not."""
    sales = {(row["terminal_id"], row["kind"], row["receipt_no"]): row for row in crm.sales()}
    booked = Counter((row["terminal_id"], row["kind"], row["receipt_no"]) for row in crm.sales())
    for sale in book.sales:
        if sale.gone and sale.key in sales:
            row = sales[sale.key]
            book.forgotten[sale.key] = row["card_no"] or sale.card.name, row["earned"] - row["redeemed"]
        if sale.by_phone and sale.key in sales:
            sale.card.member_ids.add(sales[sale.key]["member_id"])
    for sale in book.sales:
        count, want = booked[sale.key], 1 if sale.state in FINAL else 0
        if sale.gone:
            want = 1 if sale.key in book.sent else min(count, 1)
        require(count == want, "I2 arrived", f"{sale.shop} {sale.receipt_no}: {sale.state}, booked {count} times")


def books_agree(crm: CrmHouse, book: Book, card: Card) -> None:
    """P2: the ledger, the plastic and the book say the same of a card, and of who has none."""
    want, waits = book.expected_balance(card), crm.waiting((card.heir_of or card).member_ids)
    if card.card_no is None:
        where = card.heir_of is not None or waits == want  # until they have the new card all is where it was
        require(where, "P2 by phone", f"{card.name}: {waits} wait of {want}")
        return
    (row,) = crm.rows("SELECT balance, sequence, status FROM cards WHERE card_no = ?", card.card_no)
    if card.heir is not None and card.heir.card_no is not None:
        if not card.leaves:
            emptied = (row["status"], row["balance"]) == ("replaced", 0)
            require(emptied, "P2 new card", f"{card.name} is {row['status']} with {row['balance']} points")
        return
    holders = [each.card_no for each in (card, card.heir_of) if each and each.card_no]
    total = sum(crm.balance(card_no) for card_no in holders) + waits
    says = f"{card.name}: the ledger says {row['balance']}, with all that waits {total}, the book {want}"
    require(total == want, "P2 balance", says)
    if card.spoilt or card.lost:
        return
    require(row["balance"] == want, "P2 balance", says)
    require(row["status"] == "active", "P6 usable", f"{card.name} is {row['status']} for no reason")
    state = card.state()
    holds = state and state["balance"]
    require(holds == want, "P2 balance", f"{card.name}: the card holds {holds}, the book says {want}")
    at_crm = state and state["sequence"]
    require(row["sequence"] == at_crm, "I5 chain", f"{card.name}: {at_crm}, the CRM knows {row['sequence']}")


def nobody_is_told_of(folder: Path, person: Card) -> None:
    """P8: the phone of who was erased is in no file of any shop, nor of the CRM."""
    phone = person.phone[1:].encode()
    files = [path for path in folder.rglob("*") if path.is_file()]
    found = [str(path.relative_to(folder)) for path in files if phone in path.read_bytes()]
    require(not found, "P8 erased", f"the phone of {person.name} is in {found}")


def card_has_the_new_keys(card: Card) -> None:
    """P9: however often its re-key was torn, a card in use ends under the newest set, but for sectors torn to garbage.

    One whose other home is garbage stays where it is, whole, under the set before.
    """
    content, newest = bytes(card.image.content), card.masters[-1]
    dead = set(read_card(content, *card.masters).foreign_trailers)
    left = set(read_card(content, newest).foreign_trailers) - dead
    require(not left or not dead.isdisjoint(HOMES), "P9 keys", f"{card.name}: old keys in {left}, dead {dead}")


def loss_is_bounded(book: Book, card: Card) -> int:
    """P4: copies of a card cost at most 200 points for each terminal that redeemed for one offline. The loss."""
    offline = {
        sale.shop
        for sale in book.final_sales(card.card_no or "")
        if sale.answer and sale.answer["points_redeemed"] > 0 and not sale.answer["online"]
    }
    loss, bound = book.loss(card), CARD_CAP * len(offline)
    require(loss <= bound, "P4 loss", f"{card.name}: {loss} points lost, at most {bound} at {sorted(offline)}")
    return loss


def copies_are_blocked_everywhere(crm: CrmHouse, shops: list[Shop], card: Card) -> None:
    """P5: a counter that two events wrote is a copy; the card is blocked at the CRM, and every shop has heard of it."""
    twice = crm.rows(
        "SELECT sequence FROM card_chain WHERE card_no = ? GROUP BY sequence HAVING count(DISTINCT event_id) > 1",
        card.card_no,
    )
    if not twice:
        return
    (row,) = crm.rows("SELECT status FROM cards WHERE card_no = ?", card.card_no)
    require(row["status"] == "blocked", "P5 blocked", f"{card.name}: counters {twice} twice, and {row['status']}")
    for shop in shops:
        heard = shop.rows("SELECT blocked FROM hotlist WHERE card_no = ?", card.card_no)
        require(bool(heard and heard[0]["blocked"]), "P5 blocked", f"{shop.name} takes {card.name}, which was copied")


def nothing_contradicts(crm: CrmHouse, spoilt: set[str | None]) -> None:
    """I3: among honest people the CRM sees no fork, and blocks nobody."""
    forks = crm.rows("SELECT terminal_id, sequence, type, card_no, code FROM events WHERE verdict = 'fork'")
    twice = ("told_again", "id_reused")  # by a till that was put back; I3 looks at those
    forks = [row for row in forks if row["card_no"] not in spoilt and row["code"] not in twice]
    require(not forks, "I3 forks", f"{forks[:3]}")
    blocked = [row for row in crm.rows("SELECT card_no, reason FROM hotlist") if row["card_no"] not in spoilt]
    require(not blocked, "P6 usable", f"blocked for no reason: {blocked[:3]}")
