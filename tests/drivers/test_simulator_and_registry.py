"""What is the simulator's own, and how a URL becomes a reader."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from drivers import KeyType, ReaderState, open_reader
from drivers.errors import NoReader, ServiceUnavailable, UnsupportedCard
from drivers.mifare_classic import TRANSPORT_KEY


def test_a_card_file_outlives_the_reader(tmp_path: Path) -> None:
    url = f"sim:{tmp_path}/card.mfd"
    with open_reader(url) as reader, reader.connect() as card:
        uid = card.uid
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        card.write_block(4, b"kept".ljust(16))
    with open_reader(url) as reader, reader.connect() as card:
        card.authenticate(4, KeyType.A, TRANSPORT_KEY)
        assert (card.uid, card.read_block(4)) == (uid, b"kept".ljust(16))
    assert (tmp_path / "card.mfd").stat().st_size == 1024


def test_a_feeder_gives_a_new_card_each_time_also_after_a_restart(tmp_path: Path) -> None:
    uids = set()
    for _ in range(2):
        with open_reader(f"sim:{tmp_path}/") as reader:
            for _ in range(2):
                with reader.connect() as card:
                    uids.add(card.uid)
    assert len(uids) == 4
    assert sorted(p.name for p in tmp_path.glob("*.mfd")) == [f"000{i}.mfd" for i in range(1, 5)]


def test_a_file_of_another_size_is_no_1k_card(tmp_path: Path) -> None:
    (tmp_path / "card.mfd").write_bytes(bytes(320))
    with open_reader(f"sim:{tmp_path}/card.mfd") as reader, pytest.raises(UnsupportedCard, match="320"):
        reader.connect()


def test_a_simulated_wait_can_be_interrupted(tmp_path: Path) -> None:
    reader = open_reader(f"sim:{tmp_path}/card.mfd")
    reader.interrupt()
    assert reader.wait_for_change(ReaderState.CARD, 30) is ReaderState.CARD


@pytest.mark.parametrize("url", ["", "nonsense", "usb", "ftp:x", "sim:", "sim:/no/such/folder/card.mfd"])
def test_a_url_that_names_no_reader_is_refused_with_a_hint(url: str) -> None:
    with pytest.raises(NoReader) as failure:
        open_reader(url)
    assert failure.value.hint


@pytest.mark.parametrize(
    ("url", "module", "library"),
    [
        ("pcsc:", "drivers.pcsc", "pyscard"),
        ("pn532:/dev/ttyUSB0", "drivers.pn53x", "nfcpy"),
        ("usb:072f:2200", "drivers.pn53x", "nfcpy"),
    ],
)
def test_without_its_library_a_reader_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, library: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ServiceUnavailable) as failure:
        open_reader(url)
    assert f"pip install {library}" in failure.value.hint


def test_no_readers_library_is_imported_for_a_simulated_card(tmp_path: Path) -> None:
    use = f"import sys, drivers; drivers.open_reader('sim:{tmp_path}/c.mfd').connect()"
    code = f"{use}; sys.exit(bool({{'smartcard', 'nfc'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
