"""Fixtures of the browser tests: Debian's chromium, a fresh profile for each test, a till of its own."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from drivers.mifare_classic import blank_card
from drivers.simulator import MemoryImage
from tests.browser.till import PATIENCE_S, POLICY, Cashier, Till
from tests.cli.shop import CrmProcess, Shop
from tests.pcsc.virtual_reader import VirtualReader

UID = "1A2B3C4D"
WITHOUT_BROWSER = "TERMINAL_AGENT_WITHOUT_BROWSER"
SCREENSHOTS = "TERMINAL_AGENT_SCREENSHOTS"
Look = Callable[[Page, str], Path]
FAILED = pytest.StashKey[bool]()


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's chromium; root has no sandbox. Not for the whole session: while it is open, playwright's event loop runs
    in this thread, and tests that run one of their own cannot."""
    path = shutil.which("chromium")
    if path is None:
        problem = "chromium is not installed; run: apt-get install --no-install-recommends chromium"
        if os.environ.get(WITHOUT_BROWSER) == "1":
            pytest.skip(f"{WITHOUT_BROWSER}=1: {problem}")
        pytest.fail(f"{problem}\nor set {WITHOUT_BROWSER}=1 to go without these tests")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if os.geteuid() == 0 else [])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """A fresh profile on a small POS screen."""
    context = chromium.new_context(viewport={"width": 1024, "height": 600}, locale="fa-IR")
    context.set_default_timeout(PATIENCE_S * 1000)
    expect.set_options(timeout=PATIENCE_S * 1000)  # it has one of its own, of 5 s: too short for a busy machine
    yield context
    context.close()


def _new_till(folder: Path, capsys: pytest.CaptureFixture[str], reader: VirtualReader) -> Till:
    till = Till(Shop(folder, capsys), reader, MemoryImage(bytes(blank_card(bytes.fromhex(UID)))))
    till.configure()
    return till


@pytest.fixture
def new_till(tmp_path: Path, capsys: pytest.CaptureFixture[str], virtual_reader: VirtualReader) -> Iterator[Till]:
    """A configured shop of the test's own, whose daemon does not run yet."""
    till = _new_till(tmp_path, capsys, virtual_reader)
    yield till
    till.shop.close()
    virtual_reader.remove()


@pytest.fixture
def crm(new_till: Till) -> CrmProcess:
    """The CRM that the new till has joined and whose policy it knows."""
    crm = CrmProcess(new_till.shop)
    crm.up()
    new_till.shop.join(crm)
    new_till.publish(str(crm.data_dir), POLICY)
    return crm


@pytest.fixture
def new_cashier(context: BrowserContext, new_till: Till) -> Iterator[Cashier]:
    """The paired page of the new till, whose customer Sara has an issued card."""
    new_till.opens()
    cashier = Cashier(context.new_page(), new_till)
    cashier.pair()
    yield cashier
    assert cashier.problems == []


@pytest.fixture(scope="module")
def open_tills() -> Iterator[list[Till]]:
    """At most one: a daemon that serves one test of the module after the other."""
    tills: list[Till] = []
    yield tills
    for till in tills:
        till.shop.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test came to, for the fixtures that end after it."""
    report = yield
    item.stash.setdefault(FAILED, False)
    item.stash[FAILED] |= report.failed
    return report


@pytest.fixture
def till(
    request: pytest.FixtureRequest,
    open_tills: list[Till],
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
    virtual_reader: VirtualReader,
) -> Iterator[Till]:
    """The module's open till, with a customer who is new to it."""
    if not open_tills:
        open_tills.append(_new_till(tmp_path_factory.mktemp("till"), capsys, virtual_reader))
        open_tills[0].opens()
    [till] = open_tills
    till.shop.hear(capsys)
    till.welcomes(int.from_bytes(secrets.token_bytes(3)))
    yield till
    virtual_reader.remove()
    if request.node.stash.get(FAILED, False):  # who knows how it was left: the next test gets another one
        open_tills.clear()
        till.shop.close()


@pytest.fixture
def cashier(context: BrowserContext, till: Till) -> Iterator[Cashier]:
    """A page of the module's open till, paired in a browser of its own."""
    cashier = Cashier(context.new_page(), till)
    cashier.pair()
    yield cashier
    assert cashier.problems == []


@pytest.fixture(scope="session")
def look(tmp_path_factory: pytest.TempPathFactory) -> Look:
    """Keeps a picture of the page: in the folder TERMINAL_AGENT_SCREENSHOTS, or among the test's own files."""
    folder = Path(os.environ.get(SCREENSHOTS) or tmp_path_factory.mktemp("screenshots"))
    folder.mkdir(parents=True, exist_ok=True)

    def take(page: Page, name: str) -> Path:
        path = folder / f"{name}.png"
        page.screenshot(path=path, animations="disabled")
        return path

    return take
