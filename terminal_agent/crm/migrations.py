"""From any earlier schema to the present one: a step for each version, run in order in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, insert, select, text, update

from terminal_agent.crm import feed
from terminal_agent.crm.schema import (
    SCHEMA_VERSION,
    audit_log,
    card_history,
    cardless_sales,
    consents,
    entries,
    feed_waiting,
    grant_uses,
    grants,
    meta,
    offer_uses,
    referrals,
    scopes,
    tier_decisions,
    transfers,
    turns,
)


def upgrade(connection: Connection, version: int) -> None:
    """Brings tables of schema ``version`` up to date."""
    for number in range(version + 1, SCHEMA_VERSION + 1):
        STEPS[number](connection)
    if version < SCHEMA_VERSION:
        this = meta.c.key == "schema_version"
        connection.execute(update(meta).where(this).values(value=str(SCHEMA_VERSION)))


def _keep_transfers_with_their_card(connection: Connection) -> None:
    """2: entries and transfers are keyed by their card, items of the feed wait for the commit."""
    connection.execute(text("DROP INDEX entries_by_account"))
    for name in ("transfers", "entries"):
        connection.execute(text(f"ALTER TABLE {name} RENAME TO {name}_1"))
    for table in (transfers, entries, feed_waiting):
        table.create(connection)
    card_no = "substr(account, 6) AS card_no"
    card_of = f"(SELECT transfer_id, {card_no} FROM entries_1 WHERE account LIKE 'card:%')"
    for name, columns in (("transfers", "kind, reference, booked_at"), ("entries", "account, points")):
        query = f"SELECT card_no, transfer_id, {columns} FROM {name}_1 JOIN {card_of} AS card USING (transfer_id)"
        connection.execute(text(f"INSERT INTO {name} (card_no, transfer_id, {columns}) {query}"))
    for name in ("entries", "transfers"):
        connection.execute(text(f"DROP TABLE {name}_1"))
    if connection.execute(select(meta.c.key).where(meta.c.key == feed.END_OF_FEED)).first() is None:
        connection.execute(insert(meta).values(key=feed.END_OF_FEED, value=""))


def _members_rights(connection: Connection) -> None:
    """3: what members agreed to, what happened to cards, who did what."""
    for table in (consents, card_history, audit_log):
        table.create(connection)


def _turns(connection: Connection) -> None:
    """4: what transactions about members lock on PostgreSQL."""
    turns.create(connection)


def _scopes_and_referrals(connection: Connection) -> None:
    """5: what tokens may do, who brought whom."""
    for table in (scopes, referrals):
        table.create(connection)


def _offers(connection: Connection) -> None:
    """6: grants, what cards had of offers, tiers that were decided."""
    for table in (grants, grant_uses, offer_uses, tier_decisions):
        table.create(connection)


def _sales_without_a_card(connection: Connection) -> None:
    """7: sales of members without a card."""
    cardless_sales.create(connection)


STEPS: dict[int, Callable[[Connection], None]] = {
    2: _keep_transfers_with_their_card,
    3: _members_rights,
    4: _turns,
    5: _scopes_and_referrals,
    6: _offers,
    7: _sales_without_a_card,
}
"""By the version each leads to."""
