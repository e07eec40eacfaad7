"""Readers on USB: what is said when one cannot be opened, how one comes and goes. The contract suite does the rest."""

from __future__ import annotations

from pathlib import Path

import pytest
import usb1

from drivers import KeyType, ReaderInfo, ReaderState, list_readers, open_reader
from drivers.errors import NoReader, ReaderBusy, ReaderError, ReaderLost
from drivers.mifare_classic import TRANSPORT_KEY
from tests.pcsc.service import PcscService
from tests.pn532.chip import FieldCard
from tests.pn532.usb import RC_S380_ID, Acr122u, Pn533Stick, UsbReader, hold, plug_in

pytestmark = pytest.mark.nfcpy
UID = bytes.fromhex("1A2B3C4D")


@pytest.fixture(autouse=True)
def _needs_nfcpy(nfcpy: None) -> None:
    """Every test here."""


@pytest.fixture
def acr122u(monkeypatch: pytest.MonkeyPatch) -> Acr122u:
    reader = Acr122u()
    plug_in(monkeypatch, reader)
    reader.lay(FieldCard.blank(UID))
    return reader


def test_vendor_and_product_name_the_reader_in_any_case(acr122u: Acr122u) -> None:
    for url in ("usb:072f:2200", "usb:072F:2200"):
        with open_reader(url) as reader, reader.connect() as card:
            assert (reader.url, reader.name, card.uid) == ("usb:072f:2200", "ACS ACR122U", UID)


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("072f:2200", "there is no USB device 072f:2200"),
        ("054c:06c3", "drives no MIFARE Classic reader 054c:06c3"),
        ("ffff:ffff", "drives no MIFARE Classic reader"),
        ("072f", "is no USB device"),
        ("", "is no USB device"),
    ],
)
def test_a_place_that_names_no_reader_is_told_with_a_hint(
    monkeypatch: pytest.MonkeyPatch, place: str, words: str
) -> None:
    plug_in(monkeypatch, Pn533Stick())
    with pytest.raises(NoReader, match=words) as failure:
        open_reader(f"usb:{place}")
    assert failure.value.hint


@pytest.mark.parametrize(
    ("claim_error", "driver", "kind", "words", "hint"),
    [
        (usb1.USBErrorBusy(), "pn533_usb", NoReader, "the kernel's module pn533_usb holds", "modprobe -r pn533_usb"),
        (usb1.USBErrorBusy(), "usbfs", ReaderBusy, "another program holds", "systemctl stop pcscd"),
        (usb1.USBErrorBusy(), None, ReaderBusy, "another program holds", "systemctl stop pcscd"),
        (usb1.USBErrorAccess(), None, NoReader, "may not open", "plugdev"),
        (usb1.USBErrorNoDevice(), None, NoReader, "does not answer", "plug it in again"),
        (usb1.USBErrorNotSupported(), None, NoReader, "does not answer", "plug it in again"),
    ],
)
def test_a_reader_that_does_not_open_says_why(
    acr122u: Acr122u,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    claim_error: usb1.USBError,
    driver: str | None,
    kind: type[ReaderError],
    words: str,
    hint: str,
) -> None:
    hold(tmp_path, monkeypatch, driver)
    acr122u.claim_error = claim_error
    with pytest.raises(kind, match=words) as failure:
        open_reader("usb:072f:2200")
    assert hint in failure.value.hint


@pytest.mark.parametrize("model", [Acr122u, Pn533Stick])
def test_a_reader_pulled_out_is_lost_until_it_is_back(
    monkeypatch: pytest.MonkeyPatch, model: type[Acr122u | Pn533Stick]
) -> None:
    usb = model()
    plug_in(monkeypatch, usb)
    usb.lay(FieldCard.blank(UID))
    with open_reader("usb:{:04x}:{:04x}".format(*usb.ids)) as reader:
        with reader.connect() as card:
            usb.plugged = False
            with pytest.raises(ReaderLost):
                card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert reader.wait_for_change(ReaderState.EMPTY, 0) is ReaderState.LOST
        usb.plugged = True
        assert reader.wait_for_change(ReaderState.LOST, 5) is ReaderState.CARD
        with reader.connect() as card:
            card.authenticate(4, KeyType.A, TRANSPORT_KEY)


def test_readers_on_usb_are_listed_unopened_with_who_has_them(
    pcsc_service: PcscService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rc_s380 = UsbReader(RC_S380_ID, Acr122u().chip)
    acr122u = Acr122u()
    acr122u.claim_error = usb1.USBErrorBusy()
    plug_in(monkeypatch, rc_s380, acr122u)
    hold(tmp_path, monkeypatch, "usbfs")
    on_usb = [info for info in list_readers() if info.url.startswith("usb:")]
    (info,) = on_usb
    assert (info.url, info.name, info.state) == ("usb:072f:2200", "ACR122U PICC Interface", ReaderState.IN_USE)
    assert info.problem == "another program holds the reader 072f:2200"
    assert info.hint is not None
    assert "Use it as pcsc:" in info.hint
    assert [info.url for info in list_readers() if info.url.startswith("pcsc:")]


def test_without_any_usb_nothing_is_listed_there(pcsc_service: PcscService, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_usb() -> None:
        raise usb1.USBErrorOther

    monkeypatch.setattr(usb1, "USBContext", no_usb)
    assert not [info for info in list_readers() if info.url.startswith("usb:")]
    with pytest.raises(NoReader, match="there is no USB device"):
        open_reader("usb:072f:2200")


def test_a_reader_on_usb_is_listed_even_when_pcsc_cannot_be_asked(
    acr122u: Acr122u, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "drivers.pcsc", None)
    hold(tmp_path, monkeypatch, None)
    on_usb, on_pcsc = (info for info in list_readers() if not info.url.startswith("pn532:"))
    assert on_usb == ReaderInfo("usb:072f:2200", "ACR122U PICC Interface", ReaderState.EMPTY)
    assert (on_pcsc.url, on_pcsc.state) == ("pcsc:", ReaderState.UNUSABLE)
    assert "pip install pyscard" in (on_pcsc.hint or "")


def test_a_reader_held_by_the_kernel_is_listed_with_the_remedy(
    acr122u: Acr122u, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(tmp_path, monkeypatch, "pn533_usb")
    info = next(info for info in list_readers() if info.url == "usb:072f:2200")
    acr122u.claim_error = usb1.USBErrorBusy()
    with pytest.raises(NoReader) as failure:
        open_reader(info.url)
    assert (info.state, info.problem, info.hint) == (ReaderState.UNUSABLE, str(failure.value), failure.value.hint)
    assert "modprobe -r pn533_usb" in failure.value.hint
