"""A sale whose keys are derived by a PKCS#11 token (SoftHSM), beside the same sale with the key in a file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path

from bench.measure import Figure, in_turns
from bench.rig import Left, Rig
from terminal_agent.card.keys import OneTap
from terminal_agent.service.keys.store import KeyStore
from terminal_agent.service.settings import KeySettings, KeysIn
from terminal_agent.till.checkout import PurchaseRequest, purchase
from tests.service.softhsm import LABEL, MODULE, PIN, SoftHsm, find_softhsm_problem
from tests.workbench import MASTER_KEY, Workbench, lay, offline

TAPS = 300


def run(_rig: Rig) -> Iterator[Figure]:
    problem = find_softhsm_problem()
    if problem:
        raise Left(problem)
    from terminal_agent.service.keys.token_keys import TokenKeyStore

    with tempfile.TemporaryDirectory() as name, SoftHsm(Path(name) / "softhsm"):
        folder = Path(name)
        (folder / "token-pin").write_text(PIN)
        (folder / "token-pin").chmod(0o600)
        settings = KeySettings(provider=KeysIn.PKCS11, module=MODULE, token=LABEL)
        with (
            closing(Workbench(folder / "shop")) as bench,
            closing(TokenKeyStore(settings, folder, folder / "keys", None)) as token,
        ):
            token.add(MASTER_KEY, 1, activate=True)
            bench.issue()
            inside, outside = in_turns(TAPS, _sale(bench, token, "T"), _sale(bench, bench.keys, "F"))
            key = token.card_keys(1, bytes(4))._master
            one, _ = in_turns(TAPS, lambda: key.diversify(bytes(20)), lambda: None)
    yield Figure("keys", "sale on the simulator, keys in SoftHSM", "ms", inside, outside, "keys in a file")
    yield Figure("keys", "one key of a card, in SoftHSM", "ms", one)


def _sale(bench: Workbench, keys: KeyStore, prefix: str) -> Callable[[], object]:
    image, numbers = bench.issue(uid=prefix.encode() * 4), count()

    def sell() -> object:
        terminal = replace(bench.terminal, keys=OneTap(keys))
        with lay(image) as connection:
            request = PurchaseRequest(f"{prefix}-{next(numbers)}", 10_000, 0)
            return purchase(terminal, connection, request, offline)

    return sell
