"""Fixtures for every test. The machine's own pcscd and readers are never touched: see tests/pcsc/service.py."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.crm.postgres import INSTALL, PostgresServer, find_programs
from tests.pcsc.service import SOCKET_VARIABLE, PcscService, find_problem
from tests.pcsc.virtual_reader import ACS, VirtualReader
from tests.pn532.libnfc import find_libnfc_problem
from tests.pn532.serial_line import SerialPn532
from tests.service.softhsm import SoftHsm, find_softhsm_problem
from tests.small_disk import WITHOUT_MOUNT, mounted, mounted_ext4
from tests.workbench import Workbench

WITHOUT_PCSC = os.environ.get("TERMINAL_AGENT_WITHOUT_PCSC") == "1"
WITHOUT_NFCPY = os.environ.get("TERMINAL_AGENT_WITHOUT_NFCPY") == "1"
WITHOUT_LIBNFC = os.environ.get("TERMINAL_AGENT_WITHOUT_LIBNFC") == "1"
WITHOUT_BROWSER = os.environ.get("TERMINAL_AGENT_WITHOUT_BROWSER") == "1"
WITHOUT_SOFTHSM = os.environ.get("TERMINAL_AGENT_WITHOUT_SOFTHSM") == "1"
WITHOUT_POSTGRES = os.environ.get("TERMINAL_AGENT_WITHOUT_POSTGRES") == "1"
# Without its library a module cannot even be read; with it, each test says by itself why it is skipped.
collect_ignore = ["pcsc/test_pcsc_reader.py"] if WITHOUT_PCSC and find_spec("smartcard") is None else []
collect_ignore += ["pn532/test_usb.py"] if WITHOUT_NFCPY and find_spec("nfc") is None else []

collect_ignore += ["service/test_token_keys.py"] if WITHOUT_SOFTHSM and find_spec("pkcs11") is None else []
collect_ignore += ["browser"] if WITHOUT_BROWSER and find_spec("playwright") is None else []

SMALL_DISK_BYTES = 12 * 1024 * 1024

# The longest first: what begins last must not be what all wait for. A file is carried out by one process.
LONGEST = (
    "service_container/test_the_service.py",
    "kill/test_kill.py",
    "power_cut/test_power_cut.py",
    "simulation/test_worlds.py",
    "browser/test_screens.py",
    "fleet/test_fleet.py",
    "sweep/test_cards.py",
    "sweep/test_starts.py",
    "sweep/test_sales.py",
    "sweep/test_returns.py",
    "sweep/test_exchanges.py",
    "till_api/test_endurance.py",
    "drivers/test_soak.py",
    "sweep/test_sweep.py",
    "simulation/test_checkers_see_broken_code.py",
    "browser/test_flow.py",
    "cli/test_readers_come_and_go.py",
    "cli/test_first_tap.py",
    "cli/test_bad_input.py",
    "cli/test_daemon.py",
)

# No test asserts a time: on a busy machine an example may take long.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

_SERVICE = PcscService()
# The client library reads this once per process, so it must be there before the first reader is opened.
os.environ[SOCKET_VARIABLE] = str(_SERVICE.socket_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of :data:`LONGEST` first, each in one piece."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    gone = [str(path) for path in places if not path.exists()]
    if gone:
        raise pytest.UsageError(f"tests/conftest.py orders files that are not there: {', '.join(gone)}")
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(scope="session")
def pcsc_service() -> Iterator[PcscService]:
    """A running pcscd with two empty virtual readers. Fails, not skips, where it cannot run."""
    problem = find_problem()
    if problem and WITHOUT_PCSC:
        pytest.skip(f"TERMINAL_AGENT_WITHOUT_PCSC=1: {problem}")
    if problem:
        pytest.fail(f"{problem}\nor set TERMINAL_AGENT_WITHOUT_PCSC=1 to go without these tests")
    try:
        _SERVICE.start()
        yield _SERVICE
    finally:
        _SERVICE.stop()


@pytest.fixture(scope="session")
def shared_virtual_reader(pcsc_service: PcscService) -> Iterator[VirtualReader]:
    """The first virtual reader; may still hold the card of the test before."""
    reader = VirtualReader(pcsc_service.port)
    yield reader
    reader.remove()


@pytest.fixture
def virtual_reader(shared_virtual_reader: VirtualReader) -> VirtualReader:
    """The first virtual reader, empty, with the manners of an ACS reader."""
    shared_virtual_reader.remove()
    shared_virtual_reader.use(ACS)
    return shared_virtual_reader


@pytest.fixture(scope="session")
def nfcpy() -> None:
    """nfcpy and the libusb it needs. Fails, not skips, where they are missing."""
    try:
        import nfc.clf.pn532  # noqa: F401
    except (ImportError, OSError) as error:
        problem = f"nfcpy cannot be used ({error}); run: apt-get install libusb-1.0-0; pip install '.[nfcpy]'"
        if WITHOUT_NFCPY:
            pytest.skip(f"TERMINAL_AGENT_WITHOUT_NFCPY=1: {problem}")
        pytest.fail(f"{problem}\nor set TERMINAL_AGENT_WITHOUT_NFCPY=1 to go without these tests")


@pytest.fixture
def pn532(nfcpy: None, tmp_path: Path) -> Iterator[SerialPn532]:
    """A PN532 on a pseudo-terminal, with nothing on it; ``link`` is its name."""
    line = SerialPn532(tmp_path / "reader")
    yield line
    line.unplug()


@pytest.fixture(scope="session")
def libnfc() -> None:
    """libnfc's and libfreefare's programs. Fails, not skips, where they are missing."""
    problem = find_libnfc_problem()
    if problem and WITHOUT_LIBNFC:
        pytest.skip(f"TERMINAL_AGENT_WITHOUT_LIBNFC=1: {problem}")
    if problem:
        pytest.fail(f"{problem}\nor set TERMINAL_AGENT_WITHOUT_LIBNFC=1 to go without these tests")


@pytest.fixture(scope="session")
def httpserver_listen_address() -> tuple[str, int]:
    """A number, not a name: a bare machine may not know who localhost is."""
    return ("127.0.0.1", 0)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of our own. Fails, not skips, where it cannot run."""
    programs = find_programs()
    problem = None if programs and find_spec("psycopg") else f"PostgreSQL cannot be used; run: {INSTALL}"
    if problem and WITHOUT_POSTGRES:
        pytest.skip(f"TERMINAL_AGENT_WITHOUT_POSTGRES=1: {problem}")
    if programs is None or problem:
        pytest.fail(f"{problem}\nor set TERMINAL_AGENT_WITHOUT_POSTGRES=1 to go without these tests")
    server = PostgresServer(programs)
    try:
        server.up()
        yield server
    finally:
        server.remove()


@pytest.fixture
def softhsm(tmp_path: Path) -> Iterator[SoftHsm]:
    """A PKCS#11 token in software, empty. Fails, not skips, where it cannot be had."""
    problem = find_softhsm_problem()
    if problem and WITHOUT_SOFTHSM:
        pytest.skip(f"TERMINAL_AGENT_WITHOUT_SOFTHSM=1: {problem}")
    if problem:
        pytest.fail(f"{problem}\nor set TERMINAL_AGENT_WITHOUT_SOFTHSM=1 to go without these tests")
    with SoftHsm(tmp_path / "softhsm") as token:
        yield token


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system of 12 MB. Fails, not skips, where we may not mount one."""
    with _permitted(mounted(tmp_path / "disk", SMALL_DISK_BYTES)) as folder:
        yield folder


@pytest.fixture
def failing_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on an ext4 file system that ``break_down`` breaks."""
    with _permitted(mounted_ext4(tmp_path / "disk", 3 * SMALL_DISK_BYTES)) as folder:
        yield folder


@contextmanager
def _permitted(mounting: AbstractContextManager[Path]) -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(mounting)
        except (subprocess.CalledProcessError, FileNotFoundError) as problem:
            reason = f"no small disk can be mounted: {getattr(problem, 'stderr', problem)}"
            if os.environ.get(WITHOUT_MOUNT) == "1":
                pytest.skip(f"{WITHOUT_MOUNT}=1: {reason}")
            pytest.fail(f"{reason}\nRun as root, or set {WITHOUT_MOUNT}=1 to go without these tests")
        yield folder


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Workbench]:
    """A shop on a bench, with its journal on this test's disk."""
    bench = Workbench(tmp_path)
    yield bench
    bench.close()
