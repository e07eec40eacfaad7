"""The CRM on PostgreSQL: what it demands of the server, what it never tells, and what many writers at once may do."""

from __future__ import annotations

import subprocess
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier

import pytest
from sqlalchemy import Connection, insert, inspect, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from terminal_agent.contract import FeedKind
from terminal_agent.crm import admin, cards, feed, inbox, restore, turns
from terminal_agent.crm.place import DatabaseUrl
from terminal_agent.crm.schema import PARTITIONS, SCHEMA_VERSION, feed_waiting, members, metadata, terminals
from terminal_agent.crm.schema import cards as cards_table
from terminal_agent.crm.schema import feed as feed_table
from terminal_agent.crm.store import Store, open_store
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import SystemClock, SystemIds
from tests.crm.postgres import PostgresServer
from tests.crm.world import CARD, Terminal

pytestmark = pytest.mark.postgres

NOW = "2026-11-22T09:30:00.000Z"
OTHER = "2000000000000008"


@contextmanager
def opened(url: DatabaseUrl, *, create: bool = True) -> Iterator[Store]:
    store = open_store(url, SystemClock(), SystemIds(), create=create)
    try:
        yield store
    finally:
        store.close()


@pytest.fixture
def place(database: DatabaseUrl) -> DatabaseUrl:
    return database


@pytest.fixture
def fresh(postgres: PostgresServer) -> Iterator[DatabaseUrl]:
    """A database without tables."""
    yield postgres.create("fresh")
    postgres.execute("DROP DATABASE fresh WITH (FORCE)")


# What it demands of the server.


def test_a_server_that_would_lose_commits_is_refused(postgres: PostgresServer, database: DatabaseUrl) -> None:
    postgres.execute("ALTER SYSTEM SET fsync TO off")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        with pytest.raises(AgentError, match="fsync=off") as refused:
            open_store(database, SystemClock(), SystemIds())
    finally:
        postgres.execute("ALTER SYSTEM RESET fsync")
        postgres.execute("SELECT pg_reload_conf()")
    assert (refused.value.code, "fsync = on" in refused.value.hint) == (ErrorCode.CONFIG_INVALID, True)


@pytest.mark.parametrize(("preset", "ours"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
def test_every_commit_waits_for_the_disk_and_a_stronger_wish_stands(
    preset: str, ours: str, postgres: PostgresServer, database: DatabaseUrl
) -> None:
    postgres.execute(f"ALTER ROLE crm SET synchronous_commit TO {preset}")
    try:
        with opened(database) as store, store.writing() as connection:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == ours
    finally:
        postgres.execute("ALTER ROLE crm RESET synchronous_commit")


def test_torn_pages_are_warned_of(postgres: PostgresServer, database: DatabaseUrl) -> None:
    with opened(database) as store:
        assert store.warnings == ()
    postgres.execute("ALTER SYSTEM SET full_page_writes TO off")
    postgres.execute("SELECT pg_reload_conf()")
    try:
        with opened(database) as store:
            assert "full_page_writes" in store.warnings[0]
    finally:
        postgres.execute("ALTER SYSTEM RESET full_page_writes")
        postgres.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://crm:geheim@db/club", "holds a password"),
        ("postgresql:///club?host=/nowhere&user=crm&password=geheim", "holds a password"),
        ("postgresql:///club?host=/nowhere&sslpassword=geheim", "holds a password"),
        ("postgresql://crm:geheim@db/club?nonsense=1", "cannot be read"),
        ("mysql://crm:geheim@db/club", "begins with postgresql"),
    ],
)
def test_a_url_with_a_password_is_refused_and_not_repeated(url: str, said: str) -> None:
    with pytest.raises(AgentError, match=said) as refused:
        open_store(DatabaseUrl(url), SystemClock(), SystemIds())
    assert refused.value.code is ErrorCode.CONFIG_INVALID
    assert "geheim" not in "".join(traceback.format_exception(refused.value))
    assert refused.value.hint


def test_a_server_that_is_not_there_is_said_in_one_line() -> None:
    with pytest.raises(AgentError, match="PostgreSQL cannot be used") as refused:
        open_store(DatabaseUrl("postgresql:///club?host=/nowhere"), SystemClock(), SystemIds())
    assert "\n" not in refused.value.message


# What it never tells.


def test_an_error_names_no_value(store: Store) -> None:
    row = {"member_id": "m-1", "phone": "09125554433", "tier": "basic", "status": "active", "enrolled_at": NOW}
    with pytest.raises(IntegrityError) as failed, store.writing() as connection:
        connection.execute(insert(members), [row, row])
    told = "".join(traceback.format_exception(failed.value))
    assert "m-1" not in told
    assert "09125554433" not in told
    assert "23505" in told


def test_an_error_inside_a_transaction_keeps_nothing_of_it(store: Store) -> None:
    with pytest.raises(DBAPIError):
        write_then_fail(store)
    with store.reading() as connection:
        assert cards.find(connection, CARD) is None


def write_then_fail(store: Store) -> None:
    with store.writing() as connection:
        cards.ensure(connection, CARD, NOW)
        connection.execute(text("SELECT * FROM no_such_table"))


def test_nothing_is_written_while_reading(store: Store) -> None:
    with pytest.raises(DBAPIError, match="25006"), store.reading() as connection:
        cards.ensure(connection, CARD, NOW)


# Its tables.


def test_whoever_opens_a_fresh_database_at_the_same_time_finds_one_crm(fresh: DatabaseUrl) -> None:
    with ThreadPoolExecutor(4) as pool:
        stores = list(pool.map(lambda _: open_store(fresh, SystemClock(), SystemIds()), range(4)))
    with stores[0].reading() as connection:
        assert len(connection.execute(select(feed_table)).all()) == 1
    for store in stores:
        store.close()


def test_looking_at_a_database_without_a_crm_makes_none(fresh: DatabaseUrl, postgres: PostgresServer) -> None:
    with pytest.raises(AgentError, match="no CRM"):
        admin.show_ledger(fresh)
    assert postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'", "fresh") == []


def test_a_database_of_a_newer_version_is_refused(fresh: DatabaseUrl, postgres: PostgresServer) -> None:
    with opened(fresh):
        pass
    postgres.execute(f"UPDATE meta SET value = '{SCHEMA_VERSION + 1}' WHERE key = 'schema_version'", "fresh")
    with pytest.raises(AgentError, match=f"schema {SCHEMA_VERSION + 1}"):
        open_store(fresh, SystemClock(), SystemIds())


SHARED = {"meta", "terminals", "scopes", "enrolment_codes", "turns", "feed", "feed_waiting", "policies", "audit_log"}
"""What does not grow with sales and is the same for all."""


def test_whatever_grows_with_the_club_is_split_and_its_keys_begin_with_what_splits_it(store: Store) -> None:
    query = text(
        "SELECT parent.relname, pg_get_partkeydef(parent.oid), count(*) FROM pg_inherits"
        " JOIN pg_class parent ON parent.oid = inhparent WHERE parent.relkind = 'p' GROUP BY 1, 2"
    )
    with store.reading() as connection:
        split = {row[0]: (row[1].removeprefix("HASH (").removesuffix(")"), row[2]) for row in connection.execute(query)}
        keys = {name: inspect(connection).get_pk_constraint(name)["constrained_columns"] for name in split}
    assert set(split) == set(metadata.tables) - SHARED
    for name, (by, count) in split.items():
        assert (keys[name][0], count) == (by, PARTITIONS), name


# A copy of it.


def copy_into(postgres: PostgresServer, source: str, target: str) -> None:
    """As a backup is made and put back."""
    dump = subprocess.run([postgres.programs / "pg_dump", postgres.url(source).text], check=True, capture_output=True)
    psql = [postgres.programs / "psql", "--quiet", "--no-psqlrc", "--set=ON_ERROR_STOP=1", postgres.url(target).text]
    subprocess.run(psql, check=True, input=dump.stdout, stdout=subprocess.DEVNULL)


def test_a_database_put_back_from_a_dump_is_noticed_once(
    database: DatabaseUrl, fresh: DatabaseUrl, postgres: PostgresServer
) -> None:
    code = admin.make_code(database)["code"]
    copy_into(postgres, "club", "fresh")
    with opened(database) as store:
        assert not store.was_restored
    with opened(fresh) as store:
        assert store.was_restored
        with store.reading() as connection:
            assert restore.happened(connection)
            unused = connection.execute(text("SELECT count(*) FROM enrolment_codes WHERE used_at IS NULL")).scalar()
        assert (unused, bool(code)) == (0, True)
    with opened(fresh) as store:
        assert not store.was_restored


# Many at once.


def test_two_batches_that_name_the_same_cards_in_other_orders_never_wait_for_each_other(store: Store) -> None:
    started = Barrier(2)

    def book(shop: str) -> list[str]:
        terminal = Terminal("", shop, "", b"")
        verdicts = []
        for turn in range(30):
            counters = range(3 * turn + 1, 3 * turn + 4)
            order = [CARD, OTHER] if shop == "shop-1" else [OTHER, CARD]
            batch = [terminal.purchase(10_000 * int(shop[-1]) + n, 1, card_no=no) for n in counters for no in order]
            started.wait(30)
            with store.writing() as connection:  # without a second try: a deadlock would fail the test
                results, _ = inbox.receive(connection, shop, batch, NOW)
            verdicts += [result.status for result in results]
        return verdicts

    with ThreadPoolExecutor(2) as pool:
        told = list(pool.map(book, ["shop-1", "shop-2"]))
    assert [set(verdicts) for verdicts in told] == [{"accepted"}, {"accepted"}]
    with store.reading() as connection:
        assert set(connection.execute(select(cards_table.c.balance)).scalars()) == {180}


def test_a_transaction_that_lost_to_another_is_done_again(store: Store) -> None:
    met, tries = Barrier(2), []

    def work(first: str, second: str) -> None:
        def cross(connection: Connection) -> None:
            tries.append(first)
            turns.take_cards(connection, [first], fresh=cards.fresh(NOW))
            if len(tries) <= 2:
                met.wait(30)
            turns.take_cards(connection, [second], fresh=cards.fresh(NOW))
            cards.adjust(connection, first, 1, "a gift", NOW)

        store.write(cross)

    with store.writing() as connection:
        turns.take_cards(connection, [CARD, OTHER], fresh=cards.fresh(NOW))
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(work, CARD, OTHER), pool.submit(work, OTHER, CARD)]:
            done.result(60)
    assert len(tries) == 3, "one of the two was chosen to give way"
    with store.reading() as connection:
        assert connection.execute(select(cards_table.c.adjustments_through)).scalars().all() == [1, 1]


def test_who_writes_for_a_terminal_holds_it_until_the_commit(store: Store) -> None:
    row = {"terminal_id": "shop-1", "token_hash": "t", "secret": b"s", "enrolled_at": NOW}
    with store.writing() as connection:
        connection.execute(insert(terminals).values(row))
    with store.writing() as first:
        turns.take_terminal(first, "shop-1")
        with pytest.raises(DBAPIError, match="55P03"), store.writing() as second:
            second.execute(select(terminals).with_for_update(nowait=True))


def test_one_phone_enrolled_at_many_shops_at_once_has_one_owner(store: Store) -> None:
    def enrol(number: int) -> str:
        terminal = Terminal("", f"shop-{number}", "", b"")
        data = {"member": {"member_id": f"m-{number}", "phone": "09125554433", "name": "A", "tier": None}}
        event = terminal.event("member.enrolled", data, subject=f"members/m-{number}")
        results, _ = store.write(lambda connection: inbox.receive(connection, terminal.terminal_id, [event], NOW))
        return str(results[0].status.value)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(enrol, range(16))) == {"accepted"}
    with store.reading() as connection:
        owners = connection.execute(select(members.c.alias_of)).scalars().all()
    assert (owners.count(None), len(set(owners))) == (1, 2)


def test_a_reader_of_the_feed_misses_nothing_of_writers_side_by_side(store: Store) -> None:
    writers, items = 6, 25

    def write(writer: int) -> None:
        for item in range(items):
            store.write(lambda connection, item=item: publish_two(connection, writer, item))

    seen: list[tuple[int, int, int]] = []
    cursor = None
    with ThreadPoolExecutor(writers) as pool:
        running = [pool.submit(write, writer) for writer in range(writers)]
        while True:
            ended = all(task.done() for task in running)
            with store.reading() as connection:
                page = feed.read_page(connection, cursor, 7)
            seen += [(item["writer"], item["item"], item["part"]) for item in page.items if "writer" in item]
            cursor = page.next_cursor
            if ended and not page.items:
                break
        for task in running:
            task.result()
    assert sorted(seen) == [(w, i, p) for w in range(writers) for i in range(items) for p in (0, 1)]
    for writer in range(writers):
        assert [item for item in seen if item[0] == writer] == sorted(item for item in seen if item[0] == writer)
    with store.reading() as connection:
        assert connection.execute(select(feed_waiting)).all() == []


def publish_two(connection: Connection, writer: int, item: int) -> None:
    for part in (0, 1):
        document = {"writer": writer, "item": item, "part": part}
        feed.publish(connection, FeedKind.SETTINGS, document, NOW)
    if item % 2:  # some take longer to commit than those that began after them
        connection.execute(text("SELECT pg_sleep(0.005)"))
