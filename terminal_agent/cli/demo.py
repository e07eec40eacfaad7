"""demo: the whole story on a simulated reader with an embedded CRM, told by running the real commands."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from terminal_agent.cli.output import AgentCommand, emit, state
from terminal_agent.errors import AgentError, ErrorCode, ExitCode

if TYPE_CHECKING:
    from rich.console import Console

START_TIMEOUT_S = 20.0
COMMAND_TIMEOUT_S = 60.0
TEMPORARY_PREFIX = "terminal-agent-demo-"
PACKAGE_FOLDER = Path(__file__).parents[2]


@click.command(cls=AgentCommand)
def demo() -> int:
    """Show the whole story in under a minute; uses a temporary folder and leaves nothing behind.

    A shop joins a CRM, a card is issued, purchases are tapped with the CRM down, the queue holds them, the CRM comes
    back, everything is synced, and card, journal and CRM agree to the point. The reader is simulated, all else is real.

    \b
    Example:
      terminal-agent demo
    """
    from rich.console import Console

    console = Console(stderr=state().json, highlight=False)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX) as folder, Story(Path(folder), console) as story:
        answer = story.tell()
        answer["seconds"] = round(time.monotonic() - started, 1)
        emit(answer, lambda: story.show_agreement(answer))
    return ExitCode.DONE if answer["agree"] else ExitCode.FAILURE


class Story:
    """One shop, one member, one CRM, in ``folder``."""

    def __init__(self, folder: Path, console: Console) -> None:
        self._folder = folder
        self._console = console
        self._crm: subprocess.Popen[bytes] | None = None
        self._crm_address = f"127.0.0.1:{_free_port()}"

    def __enter__(self) -> Story:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_crm()

    def tell(self) -> dict[str, Any]:
        """All chapters; gives what card, journal and CRM say at the end."""
        self._chapter("A shop sets up its terminal, and joins the CRM of its club.")
        self._start_crm()
        self._run("init", "--data-dir", "shop", "--terminal-id", "till-1", "--reader", "sim:card.mfd")
        (self._folder / "code.txt").write_text(self._run("crm", "code", "--data-dir", "crm")["code"])
        self._run("enroll", "--crm-url", f"http://{self._crm_address}", "--code-file", "code.txt")
        self._chapter("A customer becomes a member: a blank card is issued, every block verified.")
        self._run("card", "issue", "--phone", "09125554433", "--name", "Sara")
        self._run("sync")
        self._chapter("The line to the CRM goes down. The shop goes on selling.")
        self._stop_crm()
        self._run("purchase", "1250000", "--receipt", "1001")
        self._run("purchase", "480000", "--receipt", "1002", "--redeem", "50")
        self._chapter("A cashier who is not sure taps receipt 1002 again: nothing is booked twice.")
        self._run("purchase", "480000", "--receipt", "1002", "--redeem", "50")
        self._chapter("The CRM cannot be reached; the queue holds everything.")
        self._run("sync", expect=ExitCode.CRM_UNREACHABLE)
        waiting = self._run("queue", "list")["pending"]
        self._chapter("The CRM is back.")
        self._start_crm()
        self._run("sync")
        return self._compare(waiting)

    def _compare(self, waiting: int) -> dict[str, Any]:
        card = self._run("card", "show", quiet=True)
        journal = self._run("purchase", "480000", "--receipt", "1002", quiet=True)
        crm = self._run("crm", "card", card["card_no"], "--data-dir", "crm", quiet=True)
        ledger = self._run("crm", "ledger", "--data-dir", "crm", quiet=True)
        queue = self._run("queue", "list", quiet=True)
        points = (card["points"], journal["points_after"], crm["balance"])
        taps = (card["sequence"], journal["sequence"], crm["sequence"])
        return {
            "card_no": card["card_no"],
            "points": dict(zip(("card", "journal", "crm"), points, strict=True)),
            "taps": dict(zip(("card", "journal", "crm"), taps, strict=True)),
            "waited_while_down": waiting,
            "pending": queue["pending"],
            "ledger_sum": ledger["sum"],
            "agree": len(set(points)) == len(set(taps)) == 1 and queue["pending"] == ledger["sum"] == 0,
        }

    def show_agreement(self, answer: dict[str, Any]) -> None:
        """The table at the end."""
        from rich import box
        from rich.table import Table

        table = Table(title=f"Card {answer['card_no']}", box=box.ROUNDED, title_justify="left")
        table.add_column("")
        for place, heading in (("card", "on the card"), ("journal", "in the journal"), ("crm", "at the CRM")):
            table.add_column(heading, justify="right", style="bold" if place else None)
        for row in ("points", "taps"):
            table.add_row(row, *(f"{answer[row][place]:,}" for place in ("card", "journal", "crm")))
        self._console.print()
        self._console.print(table)
        held = f"{answer['waited_while_down']} events waited while the line was down; {answer['pending']} wait now."
        self._say(f"{held} All accounts of the ledger add up to {answer['ledger_sum']}.")
        verdict = "[bold green]They agree to the point.[/]" if answer["agree"] else "[bold red]They do not agree![/]"
        self._console.print(f"{verdict} It took {answer['seconds']} seconds, and nothing is left behind.")

    def _chapter(self, text: str) -> None:
        self._say(f"\n[bold]{text}[/]")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _run(self, *arguments: str, expect: int = ExitCode.DONE, quiet: bool = False) -> Any:
        """Run one real command and give its JSON answer. Raises AgentError when it ends in another way than told."""
        if not quiet:
            self._say(f"  [cyan]$ terminal-agent {shlex.join(arguments)}[/]")
        done = subprocess.run(
            [*_ourselves(), *arguments, "--json"],
            cwd=self._folder,
            env=self._environment(),
            capture_output=True,
            timeout=COMMAND_TIMEOUT_S,
            check=False,
        )
        if done.returncode != expect:
            raise _went_wrong(arguments, done.stdout or done.stderr)
        answer = json.loads(done.stdout)
        if not quiet:
            self._say(f"    {_in_words(arguments, answer)}")
        return answer

    def _environment(self) -> dict[str, str]:
        """Ours, with the demo's own config file, and with this very package found from any folder."""
        ours = {"TERMINAL_AGENT_CONFIG": str(self._folder / "config.toml"), "PYTHONPATH": str(PACKAGE_FOLDER)}
        return {**os.environ, **ours}

    def _start_crm(self) -> None:
        self._say(f"  [cyan]$ terminal-agent crm serve --data-dir crm --listen {self._crm_address} &[/]")
        arguments = [*_ourselves(), "crm", "serve", "--data-dir", "crm", "--listen", self._crm_address]
        with (self._folder / "crm.log").open("ab") as log:
            self._crm = subprocess.Popen(arguments, cwd=self._folder, env=self._environment(), stdout=log, stderr=log)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not _accepts(self._crm_address):
            if self._crm.poll() is not None or time.monotonic() > deadline:
                raise _went_wrong(("crm", "serve"), (self._folder / "crm.log").read_bytes())
            time.sleep(0.05)
        self._say("    the CRM answers")

    def _stop_crm(self) -> None:
        if self._crm is None:
            return
        self._crm.send_signal(signal.SIGTERM)
        self._crm.wait(timeout=COMMAND_TIMEOUT_S)
        self._crm = None


def _ourselves() -> list[str]:
    return [sys.executable, "-m", "terminal_agent"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _accepts(address: str) -> bool:
    host, _, port = address.partition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _went_wrong(arguments: tuple[str, ...], output: bytes) -> AgentError:
    said = output.decode(errors="replace").strip()[-500:]
    return AgentError(
        ErrorCode.INTERNAL, f"the demo stopped at 'terminal-agent {shlex.join(arguments)}': {said}", hint="Run it again"
    )


def _in_words(arguments: tuple[str, ...], answer: dict[str, Any]) -> str:
    """One line of narration for a command's answer."""
    name = " ".join(arguments[:2])
    if "error" in answer:
        return f"{answer['error']['message']}. {answer['error']['hint'].split('.')[0]}."
    if arguments[0] == "purchase":
        again = "recorded before: " if answer["replayed"] else ""
        spent = f", {answer['points_redeemed']} redeemed" if answer["points_redeemed"] else ""
        return (
            f"{again}{answer['points_earned']} points earned{spent}: "
            f"{answer['points_before']} -> {answer['points_after']} on the card"
        )
    if arguments[0] == "sync":
        return f"{answer['sent']} events sent, {answer['accepted']} accepted, {answer['pending']} left"
    words = {
        "init --data-dir": "key set {key_set_version} made, check value {kcv}",
        "crm code": "a one-time code: {code}",
        "enroll --crm-url": "{terminal_id} has joined",
        "card issue": "card {card_no}, 16 sectors with keys of their own",
        "queue list": "{pending} events wait, none is lost",
    }
    return words[name].format(**answer)


COMMANDS = (demo,)
