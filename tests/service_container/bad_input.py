"""Chapters in which something goes wrong around the service, told on a machine that others use: each leaves it as it
was. ``doctor`` and ``status`` name it, the fix mends it, and sales go on where they can.

A full disk: tests/cli/test_journal_health.py; a disk that Linux stopped: tests/service.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

from tests.cli.shop import wait_until
from tests.service_container.machine import Machine

DROP_IN = "/etc/systemd/system/terminal-agent.service.d/mine.conf"
COPY = "/etc/systemd/system/copy.service"
SEALED = "/etc/credstore.encrypted/terminal-agent.key-v9"
DATA = "/var/lib/terminal-agent"


class Story:
    """The machine, its card, and what was sold: every chapter sells once more."""

    def __init__(self, machine: Machine, card: Path) -> None:
        self.machine = machine
        self._card = machine.lay_card(card)
        self._name = card.parent.name
        self._sales = 0
        machine.ta("card", "issue", "--wait-s", "20")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.take(self._card)

    def sell(self) -> None:
        """A sale, answered by the daemon, with all the points so far."""
        self._sales += 1
        sold = self.machine.ta("purchase", "250000", "--receipt", f"{self._name}-{self._sales}")
        assert sold.get("points_after") == 25 * self._sales, sold

    def doctor(self) -> dict[str, dict[str, Any]]:
        """Every check by name; a remedy stands beside each that is not well."""
        checks = {str(check["id"]): dict(check) for check in self.machine.ta("doctor")["checks"]}
        for check in checks.values():
            assert (check["fix"] is None) == (check["status"] == "ok"), check
        return checks

    def named(self, name: str, words: str) -> str:
        """Doctor and status name it, if not at once then soon; gives the fix."""

        def in_status() -> bool:
            problems = self.machine.ta("status")["problems"]
            return any(each["id"] == name and words in each["detail"] for each in problems)

        wait_until(in_status)
        check = self.doctor()[name]
        assert words in check["detail"], check
        return str(check["fix"])

    def named_at_the_start(self, words: str) -> None:
        """Status itself fails: its error says it, and the service is told beside."""

        def told() -> bool:
            status = self.machine.ta("status")
            return words in status.get("error", {}).get("message", "") and "service" in {
                each["id"] for each in status["problems"]
            }

        wait_until(told)

    def mend(self, fix: str) -> None:
        """The fix as it stands, from its first command on."""
        self.machine.run("sh", "-c", fix[fix.index("sudo ") :].replace("sudo ", ""))
        self.well()

    def well(self) -> None:
        """The daemon is up again, and sells."""
        self.machine.wait_for("ActiveState", "active")
        self.sell()


def drop_ins_that_weaken_or_break_the_unit_and_a_sealed_key_of_another_machine(story: Story) -> None:
    shop = story.machine
    shop.write(SEALED, "of another machine")
    for line, check, words in (
        ("ProtectSystem=no\nWatchdogSecc=5", "unit", "ProtectSystem=no; systemd does not understand"),
        ("ExecStart=/bin/true", "service", "more than one ExecStart"),
        (
            "LoadCredentialEncrypted=key-v9:terminal-agent.key-v9",
            "service",
            "a sealed key or credential is missing, or",
        ),
    ):
        shop.write(DROP_IN, f"[Service]\n{line}\n")
        shop.run("systemctl", "daemon-reload")
        shop.try_to("systemctl", "restart", "terminal-agent")
        fix = story.named(check, words)
        if "Credential" in line:
            assert "move that file out of /etc/credstore.encrypted" in fix
            named = shop.try_to("sh", "-c", fix[: fix.index(" names it")].removeprefix("sudo "))
            unwell = [line for line in named.stdout.splitlines() if not line.startswith("good: ")]
            assert (named.returncode, unwell) == (1, [f"cannot be deciphered here: {SEALED}"])
            (shop.root / SEALED.lstrip("/")).unlink()
            fix = f"sudo rm {DROP_IN} && systemctl daemon-reload && systemctl restart terminal-agent"
        assert f"sudo rm {DROP_IN} &&" in fix
        story.mend(fix)


def another_program_on_the_tills_port(story: Story) -> None:
    shop = story.machine
    shop.run("systemctl", "stop", "terminal-agent")
    other = "import socket, time; s = socket.create_server(('127.0.0.1', 7411)); time.sleep(600)"
    shop.run("systemd-run", "-q", "--unit=other", "python3", "-c", other)
    wait_until(lambda: f":{7411:04X} " in shop.run("cat", "/proc/net/tcp"))
    shop.run("systemctl", "start", "terminal-agent")
    story.sell()
    end = re.search(r"\((sudo systemctl [^)]*)\)", story.named("till_port", "of other.service"))
    assert end is not None
    story.mend(end[1].replace("disable --now", "stop"))  # a transient unit cannot be disabled
    wait_until(lambda: shop.ta("status")["till_url"] is not None)


def the_service_started_twice(story: Story) -> None:
    shop = story.machine
    shop.run("cp", "/usr/lib/systemd/system/terminal-agent.service", COPY)
    shop.run("systemctl", "daemon-reload")
    assert shop.try_to("timeout", "10", "systemctl", "start", "copy").returncode != 0
    story.sell()
    shop.run("test", "-S", "/run/terminal-agent/agent.sock")
    story.mend(story.named("second_service", "copy.service"))
    shop.run("test", "-S", "/run/terminal-agent/agent.sock")

    shop.run("systemctl", "stop", "terminal-agent")
    shop.run("systemctl", "start", "copy")  # which has no sealed keys: those are the service's alone
    shop.try_to("timeout", "10", "systemctl", "start", "terminal-agent")
    fix = story.named("service", "of copy.service) has the data directory")
    story.mend(fix.replace("; then:", ";"))
    assert story.doctor()["second_service"]["status"] == "ok"
    shop.run("rm", COPY)


def a_read_only_var_then_a_file_of_another_user_and_a_changed_file_of_the_package(story: Story) -> None:
    shop = story.machine
    shop.run("systemctl", "stop", "terminal-agent")
    shop.run("mount", "--bind", "/var/lib", "/var/lib")
    shop.run("mount", "-o", "remount,ro,bind", "/var/lib")
    shop.try_to("timeout", "5", "systemctl", "start", "terminal-agent")
    story.named_at_the_start("is read-only")
    refused = shop.ta("purchase", "250000", "--receipt", "R-no")
    assert refused["error"]["code"] == "journal_failed", "nothing is said to be sold that is not on disk"
    remount = re.search(r'sudo (mount -o remount,rw "[^"]*")', story.doctor()["data_disk"]["fix"])
    assert remount is not None
    shop.run("sh", "-c", remount[1].replace("rw", "rw,bind"))  # what is read-only here is a bind mount
    story.well()

    shop.run("systemctl", "stop", "terminal-agent")
    shop.run("umount", "/var/lib")
    shop.run("chown", "root", f"{DATA}/journal.sqlite3")
    rule = "/usr/share/polkit-1/rules.d/50-terminal-agent.rules"
    shop.run("sh", "-c", f"echo // >> {rule}")
    shop.try_to("timeout", "5", "systemctl", "start", "terminal-agent")
    checks = story.doctor()
    assert rule in checks["package"]["detail"]
    assert f"{DATA}/journal.sqlite3 is of another user" in checks["data_disk"]["detail"]
    story.mend(checks["data_disk"]["fix"])


def a_clock_of_1970(story: Story) -> None:
    """As on a PC with an empty battery. A container has no clock of its own, so a library tells the daemon the time."""
    shop = story.machine
    (library,) = (shop.root / "usr" / "lib").glob("*/faketime/libfaketimeMT.so.1")
    told = f'LD_PRELOAD=/{library.relative_to(shop.root)} "FAKETIME=@1970-01-01 00:00:05" DONT_FAKE_MONOTONIC=1'
    shop.write(DROP_IN, f"[Service]\nEnvironment={told}\n")
    shop.run("systemctl", "daemon-reload")
    shop.run("systemctl", "restart", "terminal-agent")
    story.sell()
    assert "timedatectl set-time" in story.named("clock", "it is 1970-01-01; sales go on")
    shop.run("rm", DROP_IN)
    shop.run("systemctl", "daemon-reload")
    shop.run("systemctl", "restart", "terminal-agent")
    story.well()
    assert story.doctor()["clock"]["status"] == "ok"


CHAPTERS = (
    drop_ins_that_weaken_or_break_the_unit_and_a_sealed_key_of_another_machine,
    another_program_on_the_tills_port,
    the_service_started_twice,
    a_read_only_var_then_a_file_of_another_user_and_a_changed_file_of_the_package,
    a_clock_of_1970,
)
