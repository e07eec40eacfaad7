"""Secrets on disk: private, never half-written, never overwritten, never shown."""

from __future__ import annotations

import errno
import logging
import os
import stat
from pathlib import Path

import pytest

from terminal_agent.card.keys import check_value
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service.files import write_private
from terminal_agent.service.keys.credentials import CREDENTIALS_FILE, load_credentials, store_credentials
from terminal_agent.service.keys.store import FileKeyStore, parse_key
from terminal_agent.service.lock import DataDirLock
from terminal_agent.sync.client import Credentials

KEY = bytes.fromhex("00112233445566778899aabbccddeeff")
OTHER = bytes.fromhex("ffeeddccbbaa99887766554433221100")
CREDENTIALS = Credentials("https://crm.example", "till-7", "p", "canary-token", b"canary-secret-of-thirty-two-byte")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "keys"


@pytest.fixture
def store(folder: Path) -> FileKeyStore:
    return FileKeyStore(folder)


def test_a_private_file_is_private_from_its_first_moment(tmp_path: Path) -> None:
    old_mask = os.umask(0)
    try:
        write_private(tmp_path / "a", "کلید")
    finally:
        os.umask(old_mask)
    assert mode_of(tmp_path / "a") == 0o600
    assert (tmp_path / "a").read_text(encoding="utf-8") == "کلید"


@pytest.mark.parametrize("step", ["open", "fsync", "replace"])
def test_a_key_set_that_cannot_be_written_is_told_with_the_remedy_and_can_be_added_again(
    store: FileKeyStore, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, no_space)
        with pytest.raises(AgentError, match="No space left") as told:
            store.add(KEY, 1, activate=True)
    assert told.value.code is ErrorCode.CONFIG_INVALID
    assert store.add(KEY, 1, activate=True).active
    assert FileKeyStore(folder).versions() == [1]


def test_a_private_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    write_private(tmp_path / "a", "old")
    for step in ("fsync", "replace"):
        with monkeypatch.context() as patched:
            patched.setattr(os, step, fail)
            with pytest.raises(OSError, match="no space"):
                write_private(tmp_path / "a", "new")
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_text() == "old"


def test_key_files_and_their_folder_are_private(store: FileKeyStore, folder: Path) -> None:
    store.add(KEY, None, activate=True)
    assert mode_of(folder) == 0o700
    assert {path.name: mode_of(path) for path in folder.iterdir()} == {"v1.key": 0o600, "active": 0o600}


def test_the_first_key_set_is_active_and_a_later_one_when_asked(store: FileKeyStore, folder: Path) -> None:
    store.add(KEY, None, activate=False)
    store.add(OTHER, 7, activate=False)
    assert store.versions() == [1, 7]
    assert store.generate(activate=True).version == 8
    again = FileKeyStore(folder)
    assert again.versions() == [8, 7, 1]
    assert again.activate(7).active
    assert FileKeyStore(folder).versions() == [7, 8, 1]


def test_a_retired_set_stays_so_and_the_set_in_use_cannot_be_retired(store: FileKeyStore, folder: Path) -> None:
    store.add(KEY, 1, activate=True)
    with pytest.raises(AgentError, match="is in use"):
        store.retire(1, retired=True)
    store.add(OTHER, 2, activate=True)
    assert store.retire(1, retired=True).retired
    again = FileKeyStore(folder)
    assert (again.is_retired(1), again.may_issue(1), again.is_retired(2), again.may_issue(2)) == (
        True,
        False,
        False,
        True,
    )
    assert again.versions() == [2, 1], "its cards are known, and refused by name"
    with pytest.raises(AgentError, match="taken no more") as refused:
        again.activate(1)
    assert "keys retire 1 --undo" in refused.value.hint
    assert (again.retire(1, retired=False).retired, again.activate(1).active) == (False, True)


def test_key_sets_are_shown_by_their_check_values(store: FileKeyStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    added = store.add(KEY, 3, activate=True)
    assert added.to_json() == {
        "version": 3,
        "kcv": check_value(KEY),
        "active": True,
        "may_issue": True,
        "retired": False,
    }
    shown = f"{added!r} {store!r} {store.list()} {caplog.text}"
    assert KEY.hex() not in shown
    assert repr(KEY) not in shown


def test_a_key_set_is_never_overwritten(store: FileKeyStore, folder: Path) -> None:
    store.add(KEY, 1, activate=True)
    store.add(KEY, 1, activate=True)
    with pytest.raises(AgentError, match="already here with another key") as refused:
        store.add(OTHER, 1, activate=True)
    assert KEY.hex() not in str(refused.value)
    assert (folder / "v1.key").read_text() == KEY.hex() + "\n"


def test_a_key_set_that_is_here_is_imported_again_under_its_own_version(store: FileKeyStore) -> None:
    """Else whoever runs the line twice makes cards that no other terminal knows."""
    for _ in range(2):
        assert (store.add(KEY, None, activate=True).version, store.versions()) == (1, [1])
    store.add(OTHER, None, activate=True)
    assert store.add(KEY, None, activate=False).active is False
    assert store.add(KEY, None, activate=True).to_json()["version"] == 1
    assert store.versions() == [1, 2]


@pytest.mark.parametrize("version", [0, -1, 256])
def test_a_version_that_no_card_could_hold_is_refused(store: FileKeyStore, version: int) -> None:
    with pytest.raises(AgentError) as refused:
        store.add(KEY, version, activate=True)
    assert refused.value.code is ErrorCode.INVALID_INPUT


def test_a_key_set_that_is_not_here_can_be_neither_used_nor_activated(store: FileKeyStore) -> None:
    store.add(KEY, 1, activate=True)
    with pytest.raises(AgentError, match="key set 2 is not on this machine"):
        store.card_keys(2, b"\x01\x02\x03\x04")
    with pytest.raises(AgentError, match="there is no key set 2"):
        store.activate(2)


def refused_by(store: FileKeyStore) -> AgentError:
    """What cards are told."""
    with pytest.raises(AgentError) as refused:
        store.versions()
    return refused.value


@pytest.mark.parametrize("content", [b"", b"00112233", b"zz" * 16, b"\xff\xfe\x00", KEY.hex().encode() + b"00"])
def test_a_damaged_key_file_is_told_without_its_content(folder: Path, content: bytes) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    (folder / "v1.key").write_bytes(content)
    refused = refused_by(FileKeyStore(folder))
    assert (refused.code, "v1.key is damaged" in refused.message) == (ErrorCode.CONFIG_INVALID, True)
    assert not content or content.decode("latin-1") not in str(refused)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_file_that_others_may_read_is_refused_with_the_remedy(folder: Path, mode: int) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    (folder / "v1.key").chmod(mode)
    store = FileKeyStore(folder)
    refused = refused_by(store)
    assert ("others may read" in refused.message, "chmod 600" in refused.hint) == (True, True)
    with pytest.raises(AgentError, match="others may read"):
        store.add(OTHER, 1, activate=True)
    (folder / "v1.key").chmod(0o600)
    assert store.versions() == [1], "without a restart"


def test_a_key_file_that_cannot_be_used_stops_the_cards_of_its_set_alone(folder: Path) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    (folder / "v2.key").mkdir(mode=0o700)
    store = FileKeyStore(folder)
    assert store.versions() == [1]
    assert "v2.key cannot be read" in store.unusable[2].message
    for use in (
        lambda: store.card_keys(2, bytes(4)),
        lambda: store.activate(2),
        lambda: store.limit(2, may_issue=False),
    ):
        with pytest.raises(AgentError, match="v2.key cannot be read"):
            use()
    assert store.generate(activate=False).version == 3, "its number is not given to another set"
    (folder / "v2.key").rmdir()
    assert store.add(OTHER, 2, activate=False).version == 2, "as the fix says"
    assert (store.versions(), store.unusable) == ([1, 3, 2], {})


def test_a_damaged_newest_set_does_not_make_an_older_one_the_set_in_use(folder: Path) -> None:
    store = FileKeyStore(folder)
    store.add(KEY, 1, activate=True)
    store.add(OTHER, 2, activate=False)
    (folder / "active").unlink()
    (folder / "v2.key").write_text("damaged")
    assert "v2.key is damaged" in refused_by(FileKeyStore(folder)).message


def test_a_damaged_credential_of_the_service_is_named_where_it_was_sealed(folder: Path, tmp_path: Path) -> None:
    sealed = tmp_path / "credentials"
    sealed.mkdir()
    (sealed / "key-v1").write_text("damaged")
    refused = refused_by(FileKeyStore(folder, sealed))
    assert "/etc/credstore.encrypted/terminal-agent.key-v1 is damaged" in refused.message
    (sealed / "key-v1").unlink()
    store = FileKeyStore(folder, sealed)
    assert store.add(KEY, 1, activate=True).version == 1, "as the fix says"


def test_other_files_in_the_folder_do_no_harm(folder: Path) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    for name in ("v1-old.key", "vault.key", "v01.key", "v1.key.bak", "v0.key"):
        (folder / name).write_text("the operator's own")
    assert FileKeyStore(folder).versions() == [1]


@pytest.mark.parametrize("text", [KEY.hex(), KEY.hex().upper() + "\n", " 0011 2233 4455 6677\n8899 aabb ccdd eeff "])
def test_a_key_is_read_as_people_write_it(text: str) -> None:
    assert parse_key(text) == KEY


@pytest.mark.parametrize("text", ["", "0" * 31, "0" * 33, "0x" + "0" * 30, "canary-key"])
def test_what_is_no_key_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(AgentError) as refused:
        parse_key(text)
    assert not text or text not in f"{refused.value.message} {refused.value.hint}"


def test_credentials_come_back_as_they_were_and_private(tmp_path: Path) -> None:
    assert load_credentials(tmp_path, None) is None
    store_credentials(tmp_path, CREDENTIALS)
    assert load_credentials(tmp_path, None) == CREDENTIALS
    assert mode_of(tmp_path / CREDENTIALS_FILE) == 0o600


def test_an_address_in_the_config_wins_but_never_sends_the_token_in_plain_text(tmp_path: Path) -> None:
    store_credentials(tmp_path, CREDENTIALS)
    moved = load_credentials(tmp_path, "https://new.example/")
    assert moved is not None
    assert moved.crm_url == "https://new.example"
    with pytest.raises(AgentError, match="cannot be used as the CRM's address"):
        load_credentials(tmp_path, "http://crm.example")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"\xff", b'{"crm_url": 1}'])
def test_damaged_credentials_are_told_without_their_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CREDENTIALS_FILE).write_bytes(content)
    with pytest.raises(AgentError, match="cannot be read") as told:
        load_credentials(tmp_path, None)
    assert "terminal-agent enroll" in told.value.hint


def test_one_owner_at_a_time_holds_a_data_directory(tmp_path: Path) -> None:
    first, second = DataDirLock(tmp_path), DataDirLock(tmp_path)
    assert first.acquire()
    assert not second.acquire()
    assert second.owner() == str(os.getpid())
    first.release()
    first.release()
    assert second.acquire()
    second.release()


def test_the_kernel_lets_go_of_the_lock_of_a_process_that_died(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0 if DataDirLock(tmp_path).acquire() else 1)
    assert os.waitpid(child, 0)[1] == 0
    lock = DataDirLock(tmp_path)
    assert lock.owner() == str(child)
    assert lock.acquire()
    lock.release()


@pytest.mark.parametrize("content", ["", "two", "9"])
def test_an_unclear_active_key_set_is_told_and_can_be_chosen_anew(folder: Path, content: str) -> None:
    store = FileKeyStore(folder)
    store.add(bytes(16), 1, activate=True)
    (folder / "active").write_text(content)
    again = FileKeyStore(folder)
    with pytest.raises(AgentError) as caught:
        again.versions()
    assert caught.value.code is ErrorCode.CONFIG_INVALID
    assert [key_set.active for key_set in again.list()] == [False]
    again.activate(1)
    assert again.versions() == [1]


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """Credentials as systemd lays them: root's, the service reads them by an access list."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "key-v1").write_text(KEY.hex() + "\n")
    (credentials / "key-v1").chmod(0o440)
    return credentials


def test_a_key_set_may_be_a_credential_of_the_service(folder: Path, sealed: Path) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    (folder / "v1.key").unlink()
    store = FileKeyStore(folder, sealed)
    assert (store.versions(), store.kept(1)) == ([1], "sealed")
    assert store.list()[0].kcv == check_value(KEY)
    assert store.add(OTHER, None, activate=True).version == 2
    assert (store.kept(1), store.kept(2)) == ("sealed", "in the data directory")
    assert FileKeyStore(folder, sealed).versions() == [2, 1]


def test_a_credential_that_is_missing_is_named(folder: Path, sealed: Path) -> None:
    FileKeyStore(folder).add(KEY, 1, activate=True)
    (folder / "v1.key").unlink()
    (sealed / "key-v1").unlink()
    with pytest.raises(AgentError, match="key set 1 is in use, and is neither") as told:
        FileKeyStore(folder, sealed).versions()
    assert "terminal-agent.key-v1" in told.value.hint
