"""A shop whose till runs in this process, and POS software that calls it over HTTP."""

from __future__ import annotations

import threading
import time
from itertools import count
from pathlib import Path
from typing import Any

import requests

from drivers.simulator import Fault, MemoryImage
from terminal_agent.desk.issue import IssueRequest, issue
from terminal_agent.service.agent import Agent
from terminal_agent.service.initialise import initialise
from terminal_agent.service.operations import OPERATIONS, Params, Talk
from terminal_agent.service.reader_watch import ReaderWatch
from terminal_agent.service.settings import load_settings
from terminal_agent.service.till import TillService
from terminal_agent.sync.client import Credentials
from tests.till_api.hand_reader import HandReader
from tests.workbench import MASTER_KEY, UID, blank, lay

PATIENCE_S = 60.0
POS_ORIGIN = "https://pos.example"
_keys = count(1)


def a_key() -> str:
    return f"key-{next(_keys)}"


class Shop:
    """What the daemon starts for the till, without its process."""

    def __init__(self, folder: Path, reader: HandReader) -> None:
        config = folder / "till.toml"
        if not config.exists():
            wanted = {
                "data_dir": str(folder / "till"),
                "terminal_id": "till-1",
                "reader": "sim:by-hand",
                "till": {"listen": "127.0.0.1:0"},
            }
            initialise(config, wanted, force=False)
            config.write_text(config.read_text() + f'origins = ["{POS_ORIGIN}"]\n')
        self.reader = reader
        self.agent = Agent(load_settings(config), config)
        if 9 not in self.agent.keys.versions():
            self.agent.keys.add(MASTER_KEY, 9, activate=True)
        self._stop = threading.Event()
        self.till = TillService(self.agent, self._ask, lambda: self._watch.seen)
        self._watch = ReaderWatch(self.agent, self._stop, self.till.publish)
        self._thread = threading.Thread(target=self._watch.run)
        self._thread.start()
        self.till.start()

    def _ask(self, operation: str, params: Params, talk: Talk) -> Any:
        if operation == "status":
            params = {"state": "ready", "reader_seen": self._watch.seen, "till_url": self.till.url}
        return OPERATIONS[operation](self.agent, params, talk)

    def issue(self, name: str | None = None, uid: bytes = UID) -> MemoryImage:
        image = blank(uid)
        with lay(image) as connection:
            issue(self.agent.terminal, connection, IssueRequest(name=name))
        return image

    def join_a_crm_that_is_down(self) -> None:
        nowhere = "http://127.0.0.1:9"  # discard (RFC 863): nobody listens
        self.agent.join(Credentials(nowhere, "till-1", "a programme", "a token", bytes(32)))

    def pair(self) -> Pos:
        answer = requests.post(f"{self.till.url}/v1/pair", json={"code": self.till.code()["code"]}, timeout=10)
        assert answer.status_code == 200, answer.text
        return Pos(self.till.url, answer.json()["token"])

    def close(self) -> None:
        self._stop.set()
        self.agent.lane.stop()
        self.till.stop()
        self._watch.interrupt()
        self._thread.join()
        self.agent.close()


class Pos:
    """POS software with a token."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def call(self, method: str, path: str, *, key: str | None = None, **kwargs: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}", **kwargs.pop("headers", {})}
        if key is not None:
            headers["Idempotency-Key"] = key
        return requests.request(method, self.url + path, headers=headers, timeout=30, **kwargs)

    def get(self, path: str, **params: Any) -> Any:
        answer = self.call("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def open(self, receipt_no: str, amount: int = 250_000, key: str | None = None, **more: Any) -> dict[str, Any]:
        body = {"amount": amount, "currency": "IRR", "receipt_no": receipt_no, **more}
        answer = self.call("POST", "/v1/checkouts", key=key or a_key(), json=body)
        assert answer.status_code == 201, answer.text
        opened: dict[str, Any] = answer.json()
        return opened

    def wait_for(self, checkout_id: str, *states: str) -> dict[str, Any]:
        """The checkout once it is in one of these states."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            shown: dict[str, Any] = self.get(f"/v1/checkouts/{checkout_id}")
            if shown["state"] in states:
                return shown
            time.sleep(0.01)
        raise AssertionError(f"still {shown['state']}, not {states}: {shown['error']}")

    def sell(self, receipt_no: str, amount: int = 250_000, **more: Any) -> dict[str, Any]:
        """A checkout with the card that lies there; gives it done."""
        return self.wait_for(self.open(receipt_no, amount, **more)["id"], "done")

    def events(self, after: str, wait_s: float = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("/v1/events", after=after, wait_s=wait_s)["events"]
        return found

    def first(self, after: str, name: str) -> dict[str, Any]:
        """The data of the first event of this name after ``after``."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            for event in self.events(after, wait_s=2):
                after = event["id"]
                if event["event"] == name:
                    data: dict[str, Any] = event["data"]
                    return data
        raise AssertionError(f"{name} was never told")


TEAR_AT_WRITE = Fault(5)
"""The card leaves while its state is written."""
