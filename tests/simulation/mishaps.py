"""What goes wrong by itself: lines, clocks, disks, the CRM, second daemons, and head office's generosity."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.simulation import checks
from tests.simulation.book import Card, require
from tests.simulation.network import WATCHED_S
from tests.simulation.ports import DAY_S
from tests.simulation.shop import Shop
from tests.simulation.world import World

YEAR_S = 365 * DAY_S


class Mishaps:
    """Plans faults into a world, at the rates it drew."""

    def __init__(self, world: World) -> None:
        self._world = world

    def begin(self) -> None:
        for shop in self._world.shops:
            for kind, happen in (
                ("outages", self._line_goes_down),
                ("clocks", self._clock_jumps),
                ("disk", self._disk_fills),
                ("daemons", self._second_daemon),
                ("backups", self._journal_is_backed_up),
            ):
                self._every(kind, happen, shop)
            if self._world.faults.has("keys"):
                moment = self._world.chance.uniform(0, self._world.size.days * DAY_S / 2)
                self._world.later(moment, partial(self._new_keys, shop))
        self._every("office", lambda _shop: self._office_gives(), None)
        self._every("crm", lambda _shop: self._crm_goes_down(), None)
        self._every("rollback", lambda _shop: self._crm_is_backed_up(), None)
        for card in self._world.cards:
            if self._world.chance.random() < self._world.faults.rate("lost"):
                moment = self._world.chance.uniform(0, self._world.size.days * DAY_S)
                self._world.later(moment, partial(self._card_is_lost, card))

    def _every(self, kind: str, happen: Callable[..., None], shop: Shop | None) -> None:
        """Again and again, at the rate of its kind."""
        world = self._world
        if not world.faults.has(kind):
            return

        def once() -> None:
            if world.faults.has(kind):
                happen(shop)
                world.later(world.exponential(world.faults.rate(kind)), once)

        world.later(world.exponential(world.faults.rate(kind)), once)

    def _line_goes_down(self, shop: Shop) -> None:
        world = self._world
        if not shop.line.up:
            return
        length = world.chance.choice((300.0, 3_600.0, 6 * 3_600.0, DAY_S)) * world.chance.uniform(0.5, 1.5)
        shop.line.turn(up=False)
        world.faults.count("outage")
        world.say(f"{shop.name} has no line for {length:.0f} s")
        since = world.timeline.now
        world.later(length, lambda: self.line_comes_back(shop, since))

    def line_comes_back(self, shop: Shop, since: float) -> None:
        if shop.line.up:
            return
        shop.line.turn(up=True)
        self._world.say(f"{shop.name} has a line again")
        checks.no_retry_storm(shop, since, min(since + WATCHED_S, self._world.timeline.now))

    def _clock_jumps(self, shop: Shop) -> None:
        world = self._world
        far = world.chance.choice((300.0, DAY_S, 40 * DAY_S, YEAR_S, 30 * YEAR_S)) * world.chance.uniform(-1, 1)
        shop.clock.off_s = 0.0 if shop.clock.off_s else round(far, 3)
        world.faults.count("clock_jump")
        world.say(f"{shop.name} clock is off by {shop.clock.off_s:.0f} s")

    def _disk_fills(self, shop: Shop) -> None:
        world = self._world
        if shop.disk.full:
            return
        shop.disk.full = True
        world.disk_troubles.add(shop.name)
        world.faults.count("disk_full")
        world.say(f"{shop.name} disk is full")
        world.later(world.chance.uniform(60, 7200), lambda: self.disk_is_freed(shop))

    def disk_is_freed(self, shop: Shop) -> None:
        if shop.disk.full:
            shop.disk.full = False
            self._world.disk_troubles.discard(shop.name)
            self._world.say(f"{shop.name} disk is freed")

    def _new_keys(self, shop: Shop) -> None:
        """The set that every shop has imported comes into use at this one."""
        world = self._world
        if not shop.is_open or world.step(shop, lambda: shop.use_key_set(len(world.masters)) or True) is not True:
            world.later(60, partial(self._new_keys, shop))
            return
        world.faults.count("new_key_set")
        world.say(f"{shop.name} changes to the next key set")

    def _second_daemon(self, shop: Shop) -> None:
        if shop.is_open:
            self._world.faults.count("second_daemon")
            require(shop.second_daemon_is_refused(), "one owner", f"{shop.name} has two owners of its data")

    def _office_gives(self) -> None:
        """Points by hand, more often given than taken."""
        world = self._world
        known = {row["card_no"] for row in world.crm.rows("SELECT card_no FROM cards")}
        cards = [card for card in world.cards if card.card_no in known]
        if world.crm.down or not cards:
            return
        card = world.chance.choice(cards)
        points = world.chance.choice((1, 50, 500, -20))
        number = world.crm.adjust(card.card_no or "", points)["number"]
        card.given += points
        card.taken -= min(0, points)
        world.faults.count("adjustment")
        world.say(f"office gives {card.name} {points} as number {number}")

    def _crm_goes_down(self) -> None:
        """The server ends, is down for a while, and starts on what is on its disk."""
        world = self._world
        if world.crm.down:
            return
        world.crm.down = True
        world.faults.count("crm_down")
        world.say("crm goes down")
        world.later(world.chance.uniform(5, 7200), self.crm_comes_back)

    def crm_comes_back(self) -> None:
        if self._world.crm.down:
            self._world.crm.restart()
            self._world.crm.down = False
            self._world.say("crm comes back")

    def _journal_is_backed_up(self, shop: Shop) -> None:
        """And hours later the till is put back to that copy."""
        if shop.is_open:
            copy = shop.copy_of_journal()
            self._world.later(self._world.chance.uniform(600, 4 * 3600), partial(self._journal_goes_back, shop, copy))

    def _journal_goes_back(self, shop: Shop, copy: bytes) -> None:
        world = self._world
        mine = [sale for sale in world.book.sales if sale.shop == shop.name]
        if world.closing or not shop.is_open or any(sale.card.busy for sale in mine):
            return  # people wait until nobody is at the till
        acknowledged = {
            row["event_id"] for row in shop.rows("SELECT event_id FROM outbox WHERE state = 'acknowledged'")
        }
        sent = {(b["terminal_id"], b["kind"], b["receipt_no"]) for b in world.crm.sales() if b["id"] in acknowledged}
        world.die_in_order(shop, lambda: shop.put_back(copy))
        known = {(r["kind"], r["receipt_no"]): r["state"] for r in shop.rows("SELECT * FROM checkouts")}
        for sale in mine:
            if sale.tries and known.get((sale.kind, sale.receipt_no)) != sale.state:
                sale.gone = True
                world.book.sent |= {sale.key} & sent
                for card in sale.cards:
                    card.spoilt = card.spoilt or "its last sale was forgotten"
        for card in world.cards:
            card.seen.pop(shop.name, None)
        world.faults.count("journal_put_back")
        world.say(f"{shop.name} is put back to a backup")

    def _crm_is_backed_up(self) -> None:
        """And hours later the CRM is put back to that copy."""
        world = self._world
        backup = world.crm.backup()
        world.later(world.chance.uniform(600, 6 * 3600), lambda: self._crm_goes_back(backup))

    def _crm_goes_back(self, backup: bytes) -> None:
        world = self._world
        if not world.closing:
            world.crm.put_back(backup)
            world.watcher.crm_went_back()
            world.faults.count("crm_put_back")
            world.say("crm is put back to a backup")

    def _card_is_lost(self, card: Card) -> None:
        """Its owner reports it, or not; if so, whoever found it goes on using it."""
        world = self._world
        card.lost = True
        world.faults.count("lost_card")
        world.say(f"{card.name} is lost")
        known = {row["card_no"] for row in world.crm.rows("SELECT card_no FROM cards")}
        if card.card_no in known and world.chance.random() < 0.6:
            world.crm.block(card.card_no or "")
            card.blocked_at, card.spoilt = world.timeline.now, "blocked"
            world.say(f"office blocks {card.name}")
