"""Master keys in a PKCS#11 token: the same cards as with keys in files, and a token that is gone harms none of them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pkcs11 import Attribute, ObjectClass, TokenFlag, exceptions

from drivers.mifare_classic import KeyType
from terminal_agent.card.keys import CardKeys, MasterKeyInMemory, check_value
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.service import card_lane
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.keys import patience
from terminal_agent.service.keys.pkcs11_token import Token
from terminal_agent.service.keys.token_keys import TokenKey, TokenKeyStore
from terminal_agent.service.operations import OPERATIONS
from terminal_agent.service.settings import load_settings
from tests.card.independent_reader import read_card
from tests.cli.shop import wait_until
from tests.service.softhsm import LABEL, MODULE, PIN, SoftHsm
from tests.till_api.hand_reader import HandReader
from tests.workbench import MASTER_KEY, UID, UID_7, blank

NEXT, OTHER = bytes(range(16)), b"sixteen letters!"
pytestmark = pytest.mark.softhsm


class Shop:
    """A till whose key sets are in the token, and one card."""

    def __init__(self, folder: Path, reader: HandReader, *, module: Path = MODULE, token: str = LABEL) -> None:
        self.config, self.data_dir, self.reader = folder / "config.toml", folder / "data", reader
        if not self.config.exists():
            values = {"data_dir": str(self.data_dir), "terminal_id": "till-1", "reader": "sim:by-hand"}
            initialise(self.config, values, force=False)
            for made in (self.data_dir / "keys").iterdir():
                made.unlink()
        text = self.config.read_text().partition("\n[keys]")[0]
        self.config.write_text(f'{text}\n[keys]\nprovider = "pkcs11"\nmodule = "{module}"\ntoken = "{token}"\n')
        self.pin_file = self.data_dir / "token-pin"
        self.agent = Agent(load_settings(self.config), self.config)
        self.card, self.said = blank(), list[str]()

    def write_pin(self, pin: str) -> None:
        self.pin_file.write_text(pin + "\n")
        self.pin_file.chmod(0o600)

    def do(self, operation: str, **params: Any) -> Any:
        self.reader.lay(self.card)
        return OPERATIONS[operation](self.agent, {"wait_s": 0, **params}, self.said.append)

    def buy(self, receipt_no: str) -> Any:
        return self.do("purchase", receipt_no=receipt_no, amount=50_000)

    def refused(self, operation: str, **params: Any) -> AgentError:
        with pytest.raises(AgentError) as caught:
            self.do(operation, **params)
        return caught.value

    @property
    def points(self) -> int:
        state = read_card(bytes(self.card.content), MASTER_KEY, NEXT).state
        return state["balance"] if state else -1


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> HandReader:
    reader = HandReader()
    monkeypatch.setattr(card_lane, "open_reader", lambda _url: reader)
    return reader


@pytest.fixture
def shop(softhsm: SoftHsm, tmp_path: Path, reader: HandReader) -> Iterator[Shop]:
    """Key set 1 was imported into the token, and a card issued under it."""
    shop = Shop(tmp_path, reader)
    shop.write_pin(PIN)
    shop.do("keys.import", key=MASTER_KEY.hex(), version=1, activate=True)
    shop.do("card.issue")
    yield shop
    shop.agent.close()


def test_cards_and_check_values_are_those_of_the_same_key_in_a_file(shop: Shop) -> None:
    listed = {"version": 1, "kcv": check_value(MASTER_KEY), "active": True, "may_issue": True, "retired": False}
    assert shop.do("keys.list") == [listed]
    for uid in (UID, UID_7):
        inside, outside = shop.agent.keys.card_keys(1, uid), CardKeys(1, uid, MasterKeyInMemory(MASTER_KEY))
        for name in ("identity_key", "state_key", "history_key"):
            assert getattr(inside, name) == getattr(outside, name)
        assert [inside.sector_key(s, k) for s in range(16) for k in KeyType] == [
            outside.sector_key(s, k) for s in range(16) for k in KeyType
        ]
    assert shop.buy("R-1")["points_after"] == 5
    assert shop.points == 5, "as a reader sees it that has the key itself"
    shop.do("keys.import", key=NEXT.hex(), version=2, activate=True)
    assert shop.buy("R-2")["points_after"] == 10
    assert (read_card(bytes(shop.card.content), NEXT).home, shop.points) == (7, 10), "re-keyed behind the sale"
    assert shop.do("card.verify")["findings"] == []


def test_no_master_key_lies_in_the_data_directory_and_none_leaves_the_token(shop: Shop, softhsm: SoftHsm) -> None:
    shop.do("keys.generate", activate=False)
    assert "the token club: the key set is in there alone" in shop.said[-1]
    for path in shop.data_dir.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert MASTER_KEY not in content
            assert MASTER_KEY.hex().encode() not in content.lower()
    with softhsm.library.get_token(token_label=LABEL).open() as session:  # this process is logged in
        keys = list(session.get_objects({Attribute.CLASS: ObjectClass.SECRET_KEY}))
        assert {key.label for key in keys} == {"loyalty-v1", "loyalty-v2"}
        for key in keys:
            with pytest.raises(exceptions.AttributeSensitive):
                key[Attribute.VALUE]
            rights = [key[name] for name in (Attribute.SENSITIVE, Attribute.EXTRACTABLE, Attribute.ENCRYPT)]
            assert rights == [True, False, False]


def test_a_key_set_is_never_overwritten_and_the_same_one_again_changes_nothing(shop: Shop) -> None:
    shop.do("keys.import", key=MASTER_KEY.hex(), version=1, activate=True)
    refused = shop.refused("keys.import", key=NEXT.hex(), version=1, activate=True)
    assert "already here with another key" in refused.message
    assert [row["kcv"] for row in shop.do("keys.list")] == [check_value(MASTER_KEY)]


def test_a_refused_pin_is_not_tried_again_until_a_person_says_so(shop: Shop, caplog: pytest.LogCaptureFixture) -> None:
    """Whether it was tried is seen by what would have happened: with the right PIN in the file it would have worked."""
    caplog.set_level(logging.DEBUG)
    shop.agent.close()
    shop.write_pin("wrong-canary")
    for _restart in range(2):
        shop.agent = Agent(load_settings(shop.config), shop.config)
        for operation in ("keys.list", "card.show"):
            refused = shop.refused(operation)
            assert (refused.code, "has refused its PIN" in refused.message) == (ErrorCode.CONFIG_INVALID, True)
            assert "keys unlock" in refused.hint
        shop.write_pin(PIN)
        assert "has refused its PIN" in shop.refused("purchase", receipt_no="R-1", amount=50_000).message
        shop.agent.close()
    shop.agent = Agent(load_settings(shop.config), shop.config)
    doctor = {check["id"]: check for check in shop.do("doctor")["checks"]}
    assert doctor["keys"]["status"] == "fail"
    assert [row["version"] for row in shop.do("keys.unlock")] == [1]
    assert shop.buy("R-1")["state"] == "done"
    assert "canary" not in f"{caplog.text} {refused.message} {refused.hint} {shop.agent.keys!r} {shop.said}"


@pytest.mark.parametrize("flag", [TokenFlag.USER_PIN_LOCKED, TokenFlag.USER_PIN_FINAL_TRY])
def test_the_last_try_of_a_pin_is_left_to_people(tmp_path: Path, flag: TokenFlag) -> None:
    token = Token(MODULE, LABEL, lambda: pytest.fail("the PIN was read"), tmp_path / "pin-refused")
    with pytest.raises(AgentError) as refused:
        token._log_in(SimpleNamespace(flags=flag))
    assert "keys unlock" in refused.value.hint


def test_a_lost_session_is_opened_anew_and_an_unplugged_token_is_waited_for(shop: Shop, softhsm: SoftHsm) -> None:
    softhsm.begin_anew()
    assert shop.buy("R-1")["state"] == "done"
    softhsm.unplug()
    before = bytes(shop.card.content)
    refused = shop.refused("purchase", receipt_no="R-2", amount=50_000)
    assert (refused.code, refused.retryable, refused.exit_code) == (ErrorCode.KEYS_UNAVAILABLE, True, 6)
    assert "not plugged in" in refused.message
    assert bytes(shop.card.content) == before
    softhsm.plug_in()
    assert shop.buy("R-2")["points_after"] == 10


def test_a_library_that_hangs_holds_up_one_sale_for_a_while_and_no_other_and_no_end(
    shop: Shop, softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.buy("R-1")
    before = bytes(shop.card.content)
    with softhsm.hung():
        monkeypatch.setattr(patience, "LIMIT_S", 0.3)
        told = [shop.refused("purchase", receipt_no="R-2", amount=50_000)]
        monkeypatch.setattr(patience, "LIMIT_S", 3600.0)  # whoever waits from now on never ends
        told += [shop.refused("card.show"), shop.refused("keys.generate", activate=False)]
        doctor = {check["id"]: check for check in shop.do("doctor")["checks"]}
        shop.agent.keys.close()
        left_behind = [thread for thread in threading.enumerate() if thread.name == patience.THREAD]
        assert [thread.daemon for thread in left_behind] == [True], "one, and the process may end without it"
    for refused in told:
        assert (refused.code, "does not answer" in refused.message) == (ErrorCode.KEYS_UNAVAILABLE, True)
        assert "sudo systemctl restart terminal-agent" in refused.hint
    assert (doctor["keys"]["status"], "does not answer" in doctor["keys"]["detail"]) == ("fail", True)
    assert bytes(shop.card.content) == before
    wait_until(lambda: all(thread.name != patience.THREAD for thread in threading.enumerate()))
    assert shop.buy("R-2")["points_after"] == 10


def test_whenever_the_token_goes_no_sale_is_lost_and_no_card_is_blamed(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each derivation of a sale is the last one in turn; then each third of the re-key behind it fails, alone."""
    shop.do("keys.import", key=NEXT.hex(), version=2, activate=True)
    plain, ended = Token.cmac, list[bool]()
    for left in (*range(10), *range(10, 50, 3)):
        shop.card = blank(bytes((0x20, 0x21, 0x22, left)))
        shop.do("keys.activate", version=1)
        shop.do("card.issue")
        shop.do("keys.activate", version=2)
        worked = [*[True] * left, *[False] * (1 if left >= 10 else 100)]
        monkeypatch.setattr(Token, "cmac", lambda *about, worked=worked: _or_gone(plain, worked, *about))
        ended.append(_sold_or_nothing_begun(shop, f"R-{left}"))
        monkeypatch.setattr(Token, "cmac", plain)
        noted = shop.agent.journal.meta(f"rekey:202122{left:02x}") or ""
        assert not noted.startswith("refused"), "the card refused nothing"
        assert shop.buy(f"R-{left}")["state"] == "done"
        assert shop.buy(f"S-{left}")["points_after"] == 10
        card = read_card(bytes(shop.card.content), NEXT)
        assert (card.home, card.foreign_trailers) == (7, []), left
    assert ended == sorted(ended), "first refusals, and then sales"
    assert set(ended) == {False, True}
    assert shop.agent.journal.checkouts.in_doubt() == []


def _sold_or_nothing_begun(shop: Shop, receipt_no: str) -> bool:
    before = bytes(shop.card.content)
    try:
        answer = shop.buy(receipt_no)
    except AgentError as error:
        answer = {"code": error.code, **error.details}
    assert answer.get("state") == "done" or (answer, bytes(shop.card.content)) == (
        {"code": ErrorCode.KEYS_UNAVAILABLE},
        before,
    )
    return "state" in answer


def _or_gone(plain: Any, worked: list[bool], *about: Any) -> bytes:
    if worked and not worked.pop(0):
        raise Token._unusable(about[0], exceptions.DeviceRemoved())
    return bytes(plain(*about))


def test_keys_of_a_card_are_kept_for_its_tap_alone(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    derived, plain = list[tuple[str, bytes]](), Token.cmac
    monkeypatch.setattr(Token, "cmac", lambda *about: (derived.append(about[1:]), plain(*about))[1])
    shop.buy("R-1")
    of_one_tap = list(derived)
    assert len(of_one_tap) == len(set(of_one_tap)), "each once"
    assert len(of_one_tap) <= 6
    shop.buy("R-2")
    assert len(derived) > len(of_one_tap), "and again for the next tap"
    shop.do("keys.import", key=NEXT.hex(), version=2, activate=True)
    derived.clear()
    shop.do("card.rekey")
    assert len(derived) == len(set(derived)) > 32, "though the card was read three times"


def test_a_short_input_is_refused_because_it_would_be_another_key(shop: Shop) -> None:
    assert isinstance(shop.agent.keys, TokenKeyStore)
    with pytest.raises(ValueError, match="no CMAC"):
        TokenKey(shop.agent.keys._token, "loyalty-v1").diversify(bytes(15))


def test_a_key_of_other_programs_is_found_by_its_label(shop: Shop, softhsm: SoftHsm, tmp_path: Path) -> None:
    """SoftHSM's own tool shortens some keys, as those with a zero byte: such a key is none of ours."""
    (tmp_path / "raw").write_bytes(OTHER)
    for label in ("loyalty-v2", "loyalty-v2-old", "another"):
        about = ("--token", LABEL, "--label", label, "--id", "02", "--pin", PIN, "--force")
        softhsm.util("--import", str(tmp_path / "raw"), "--aes", *about)
    (tmp_path / "raw").write_bytes(NEXT)
    softhsm.util(
        "--import", str(tmp_path / "raw"), "--aes", "--label", "loyalty-v3", "--id", "03", *about[:2], *about[6:]
    )
    softhsm.begin_anew()
    assert [(row["version"], row["kcv"]) for row in shop.do("keys.list")] == [
        (1, check_value(MASTER_KEY)),
        (2, check_value(OTHER)),
    ]


def test_what_is_wrong_is_said_with_the_remedy(shop: Shop, tmp_path: Path, reader: HandReader) -> None:
    shop.agent.close()
    other = Shop(tmp_path, reader, token="another")
    assert "not plugged in" in other.refused("card.show").message
    other.agent.close()
    other = Shop(tmp_path, reader, module=tmp_path / "no.so")
    said = other.refused("card.show")
    assert (said.code, "no.so cannot be used" in said.message) == (ErrorCode.CONFIG_INVALID, True)
    other.agent.close()
    other = Shop(tmp_path, reader)
    other.card = shop.card
    other.pin_file.chmod(0o644)
    assert "chmod 600" in other.refused("card.show").hint
    other.pin_file.unlink()
    assert "Put the PIN of the token club into it" in other.refused("card.show").hint
    other.write_pin(PIN)
    assert other.buy("R-1")["state"] == "done", "each was mended without a restart"
    (other.data_dir / "keys" / "v1.key").write_text(MASTER_KEY.hex() + "\n")
    (other.data_dir / "keys" / "v1.key").chmod(0o600)
    doctor = {check["id"]: check for check in other.do("doctor")["checks"]}
    assert (doctor["keys"]["status"], "v1.key" in doctor["keys"]["fix"]) == ("warn", True)
    assert "ms for each key of a card" in doctor["keys"]["detail"]
    other.agent.close()


def test_a_pin_may_be_a_credential_of_the_service(
    shop: Shop, tmp_path: Path, reader: HandReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.agent.close()
    shop.pin_file.rename(tmp_path / "token-pin")
    (tmp_path / "token-pin").chmod(0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    shop.agent = Agent(load_settings(shop.config), shop.config)
    assert shop.buy("R-1")["state"] == "done"


def test_a_config_that_names_no_token_says_so(shop: Shop) -> None:
    shop.config.write_text(shop.config.read_text().replace(f'token = "{LABEL}"\n', ""))
    with pytest.raises(AgentError, match="does not say in which"):
        Agent(load_settings(shop.config), shop.config)
