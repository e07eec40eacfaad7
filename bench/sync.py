"""How fast a queue that grew for days empties: one exchange with the reference CRM on loopback."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from bench.measure import Figure, Samples
from bench.purchase import Till
from bench.rig import PROGRAM, Left, Rig, Shop
from terminal_agent.service.operations import OPERATIONS

EVENTS = 2000


@contextmanager
def _crm(shop: Shop) -> Iterator[str]:
    """The reference CRM in a process of its own; gives its URL."""
    data_dir = shop.folder / "crm"
    code = shop.done("crm", "code", "--data-dir", str(data_dir))["code"]
    (shop.folder / "code").write_text(code)
    command = [*PROGRAM, "crm", "serve", "--data-dir", str(data_dir), "--listen", "127.0.0.1:0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        said = process.stderr.readline() if process.stderr else ""
        listens = re.search(r"http://\S+", said)
        if listens is None:
            raise Left(f"the CRM did not start: {said}")
        yield listens[0]
    finally:
        process.terminate()
        process.communicate(timeout=20)


def run(rig: Rig) -> Iterator[Figure]:
    shop = rig.simulated("sync")
    with _crm(shop) as url:
        shop.done("enroll", "--crm-url", url, "--code-file", str(shop.folder / "code"))
        with closing(Till(shop)) as till:
            for _ in range(EVENTS):
                till.tap()
            started = time.perf_counter()
            report = OPERATIONS["sync"](till.agent, {}, lambda _text: None)
            elapsed_s = time.perf_counter() - started
    if report["accepted"] < EVENTS:
        raise Left(f"the CRM did not take all events: {report}")
    yield Figure("sync", "events sent and booked", "per s", Samples.one(report["sent"] / elapsed_s), details=report)
