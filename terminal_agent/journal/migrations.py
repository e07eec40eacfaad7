"""The journal's schema, forward only. A released migration is never edited; a change is a new function."""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("terminal_agent.journal")


@migrations()
def m001_first_tap(db: Database) -> None:
    for statement in _FIRST_TAP:
        db.execute(statement)


@migrations()
def m002_members_rights(db: Database) -> None:
    """Whom a card's owner may still ask of; cards whose owner had everything erased."""
    db.execute("ALTER TABLE members ADD COLUMN status TEXT")
    db.execute("CREATE TABLE erased_cards (card_no TEXT PRIMARY KEY, member_id TEXT NOT NULL) STRICT")


@migrations()
def m003_till_api(db: Database) -> None:
    for statement in _TILL_API:
        db.execute(statement)


@migrations()
def m004_offers(db: Database) -> None:
    for statement in _OFFERS:
        db.execute(statement)


@migrations()
def m005_cashiers(db: Database) -> None:
    """Who may sign in at the till. A wrong PIN makes the next one wait, over restarts too."""
    db.execute(
        """CREATE TABLE cashiers (
        name TEXT PRIMARY KEY, role TEXT NOT NULL, pin_hash TEXT NOT NULL, created_at TEXT NOT NULL,
        wrong_pins INTEGER NOT NULL DEFAULT 0, next_try_at TEXT) STRICT"""
    )


@migrations()
def m006_staff_cards(db: Database) -> None:
    """A card that says who signs in: one for each cashier at most, and nobody else's."""
    db.execute("ALTER TABLE cashiers ADD COLUMN card_no TEXT")
    db.execute("CREATE UNIQUE INDEX cashiers_card ON cashiers (card_no) WHERE card_no IS NOT NULL")


@migrations()
def m007_cards_of_a_member(db: Database) -> None:
    """Each card that is issued asks for the other cards of its member."""
    db.execute("CREATE INDEX cards_of_member ON cards (member_id)")
    db.execute("CREATE INDEX holders_of_member ON holders (member_id)")


_FIRST_TAP = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT",
    # What happened, for ever: rows are added, never changed. body holds the very bytes that go to the CRM.
    """CREATE TABLE events (
        install_epoch TEXT NOT NULL, sequence INTEGER NOT NULL, event_id TEXT NOT NULL UNIQUE, type TEXT NOT NULL,
        card_no TEXT, time TEXT NOT NULL, body TEXT NOT NULL, fingerprint TEXT NOT NULL, previous_hash TEXT NOT NULL,
        PRIMARY KEY (install_epoch, sequence)) STRICT""",
    # Where each event stands on its way to the CRM. redeems marks events that later ones of the card wait behind.
    """CREATE TABLE outbox (
        event_id TEXT PRIMARY KEY REFERENCES events (event_id), position INTEGER NOT NULL UNIQUE,
        state TEXT NOT NULL CHECK (state IN ('pending', 'quarantined', 'acknowledged')),
        card_no TEXT, redeems INTEGER NOT NULL, created_at TEXT NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0, reason TEXT, settled_at TEXT) STRICT""",
    "CREATE INDEX outbox_waiting ON outbox (position) WHERE state <> 'acknowledged'",
    # A card write that was decided and is not known to have landed: the row is on disk before the card changes.
    """CREATE TABLE intents (
        intent_id TEXT PRIMARY KEY, checkout_id TEXT, kind TEXT NOT NULL, card_no TEXT NOT NULL, uid TEXT NOT NULL,
        before TEXT, after TEXT NOT NULL, document TEXT NOT NULL, created_at TEXT NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('open', 'landed', 'not_landed', 'closed')), settled_at TEXT) STRICT""",
    "CREATE INDEX intents_of_checkout ON intents (checkout_id) WHERE checkout_id IS NOT NULL",
    "CREATE INDEX intents_unsettled ON intents (card_no) WHERE state IN ('open', 'closed')",
    """CREATE TABLE checkouts (
        checkout_id TEXT PRIMARY KEY, kind TEXT NOT NULL, receipt_no TEXT NOT NULL, amount INTEGER NOT NULL,
        currency TEXT NOT NULL, state TEXT NOT NULL CHECK (state IN ('in_doubt', 'done', 'closed')),
        card_no TEXT NOT NULL, redeemed_offline INTEGER NOT NULL, result TEXT NOT NULL, created_at TEXT NOT NULL,
        reference TEXT NOT NULL, online INTEGER NOT NULL, finished_at TEXT, 
        UNIQUE (kind, receipt_no, reference)) STRICT""",
    "CREATE INDEX checkouts_redeemed_offline ON checkouts (created_at) WHERE redeemed_offline > 0",
    "CREATE INDEX checkouts_redemptions_of ON checkouts (card_no) WHERE redeemed_offline > 0 OR online = 1",
    """CREATE TABLE cards (
        card_no TEXT PRIMARY KEY, uid TEXT NOT NULL, member_id TEXT, key_set_version INTEGER NOT NULL,
        state TEXT NOT NULL, status TEXT NOT NULL, seen_at TEXT NOT NULL) STRICT""",
    "CREATE INDEX cards_uid ON cards (uid)",
    """CREATE TABLE members (
        member_id TEXT PRIMARY KEY, phone TEXT UNIQUE, name TEXT, tier TEXT, updated_at TEXT NOT NULL) STRICT""",
    "CREATE TABLE hotlist (card_no TEXT PRIMARY KEY, blocked INTEGER NOT NULL, reason TEXT) STRICT",
    """CREATE TABLE adjustments (
        card_no TEXT NOT NULL, number INTEGER NOT NULL, points INTEGER NOT NULL, reason TEXT,
        PRIMARY KEY (card_no, number)) STRICT""",
    "CREATE TABLE policies (version TEXT PRIMARY KEY, valid_from TEXT NOT NULL, document TEXT NOT NULL) STRICT",
    """CREATE TABLE audit (
        entry INTEGER PRIMARY KEY AUTOINCREMENT, time TEXT NOT NULL, action TEXT NOT NULL,
        detail TEXT NOT NULL) STRICT""",
)

_TILL_API = (
    """CREATE TABLE till_tokens (
        token_hash TEXT PRIMARY KEY, token_id TEXT NOT NULL UNIQUE, name TEXT NOT NULL, scopes TEXT NOT NULL,
        created_at TEXT NOT NULL, revoked_at TEXT) STRICT""",
    # Requests of POS software, each answered the same way again for the same key.
    """CREATE TABLE till_requests (
        token_id TEXT NOT NULL, idempotency_key TEXT NOT NULL, fingerprint TEXT NOT NULL, checkout_id TEXT NOT NULL,
        answer TEXT NOT NULL, document TEXT NOT NULL, request TEXT NOT NULL, ended INTEGER NOT NULL,
        expires_at TEXT NOT NULL, created_at TEXT NOT NULL, PRIMARY KEY (token_id, idempotency_key)) STRICT""",
    "CREATE INDEX till_requests_of ON till_requests (checkout_id)",
    "CREATE INDEX till_requests_open ON till_requests (ended) WHERE ended = 0",
)

_OFFERS = (
    # Whose card it is, as the CRM tells; a card that was issued elsewhere is known here by its number alone.
    "CREATE TABLE holders (card_no TEXT PRIMARY KEY, member_id TEXT NOT NULL) STRICT",
    # An offer given to a card, or without one to whoever shows its code.
    """CREATE TABLE grants (
        grant_id TEXT PRIMARY KEY, offer_id TEXT NOT NULL, card_no TEXT, valid_from TEXT, valid_to TEXT,
        uses INTEGER NOT NULL, used_here INTEGER NOT NULL, used_elsewhere INTEGER NOT NULL) STRICT""",
    "CREATE INDEX grants_of_card ON grants (card_no) WHERE card_no IS NOT NULL",
    # What a card had of an offer here; today counts the uses of that day.
    """CREATE TABLE offer_uses (
        card_no TEXT NOT NULL, offer_id TEXT NOT NULL, day TEXT NOT NULL, today INTEGER NOT NULL,
        uses INTEGER NOT NULL, stamps INTEGER NOT NULL, rewards INTEGER NOT NULL,
        PRIMARY KEY (card_no, offer_id)) STRICT""",
    # The same at other terminals, as the CRM tells.
    """CREATE TABLE offer_counts (
        card_no TEXT NOT NULL, offer_id TEXT NOT NULL, terminal_id TEXT NOT NULL,
        uses INTEGER NOT NULL, stamps INTEGER NOT NULL, rewards INTEGER NOT NULL,
        PRIMARY KEY (card_no, offer_id, terminal_id)) STRICT""",
)
