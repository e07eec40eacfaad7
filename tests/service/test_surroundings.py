"""What ``doctor`` sees around the agent: each cause is named, with the command that mends it."""

from __future__ import annotations

import json
import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from terminal_agent import __version__
from terminal_agent.service.control import ControlServer
from terminal_agent.service.doctor import surroundings, unit
from terminal_agent.service.doctor.finding import Finding, Status
from terminal_agent.service.doctor.listeners import listener_on, process
from terminal_agent.service.doctor.surroundings import CHECKS, Surroundings, around
from terminal_agent.service.settings import Settings, TillSettings

UNIT_FILE = Path(__file__).parents[2] / "config" / "systemd" / "terminal-agent.service"
CONFIG = Path("/etc/terminal-agent/config.toml")
WELL = {
    **unit.PROMISED,
    "LoadState": "loaded",
    "UnitFileState": "enabled",
    "ActiveState": "active",
    "Result": "success",
    "ExecMainStatus": "0",
    "NRestarts": "0",
    "MainPID": "1",
    "FragmentPath": "/usr/lib/systemd/system/terminal-agent.service",
    "NeedDaemonReload": "no",
    "ExecStart": f"{{ path=/opt/terminal-agent/current/bin/python ; argv[]=... --config {CONFIG} run }}",
    "WatchdogUSec": "30s",
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "data").mkdir()
    return Settings(data_dir=tmp_path / "data", terminal_id="till-1", reader="pcsc:")


@pytest.fixture
def here(settings: Settings, tmp_path: Path) -> Surroundings:
    """A machine of files, with nobody to ask."""
    (tmp_path / "root").mkdir()
    return Surroundings(settings, tmp_path / "config.toml", None, tmp_path / "root")


def put(here: Surroundings, name: str, text: str = "") -> Path:
    file = here.root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def as_unit(**changed: str) -> unit.Unit:
    return unit.Unit({**WELL, **changed})


def service(owner: int | None = None, **changed: str) -> Finding:
    return unit.service(as_unit(**changed), CONFIG, owner)


def test_every_check_has_a_name_of_its_own_and_a_remedy_for_what_is_not_well(here: Surroundings) -> None:
    found = around(here)
    assert [each["id"] for each in found] == [check.name for check in CHECKS]
    assert len({each["id"] for each in found}) == len(found)
    for each in found:
        assert (each["fix"] is None) == (each["status"] == "ok"), each


def test_a_check_that_cannot_be_made_says_so_and_stops_no_other(
    here: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def out_of_reach(_here: Surroundings) -> Finding:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(surroundings, "CHECKS", (surroundings.Check("first", out_of_reach), *CHECKS))
    first, *rest = around(here)
    assert (first["status"], "as root" in first["fix"], len(rest)) == ("warn", True, len(CHECKS))


def test_a_daemon_of_another_version_is_to_be_restarted(here: Surroundings) -> None:
    assert surroundings.version(here).status is Status.OK
    here.status = {"version": "0.0.9"}
    assert "0.0.9" in surroundings.version(here).detail
    here.status = {"version": __version__}
    assert surroundings.version(here).status is Status.OK


def test_changed_files_are_told_by_their_names_and_a_closed_folder_is_no_change() -> None:
    said = (
        "??5??????   /usr/lib/systemd/system/terminal-agent.service\n"
        "missing     /usr/lib/a file.conf\n"
        "??5?????? c /etc/settings\n"
        "missing     /usr/share/polkit-1/rules.d/50-terminal-agent.rules (Permission denied)\n"
        "dpkg: warning: something else\n"
    )
    changed = ["/usr/lib/systemd/system/terminal-agent.service", "/usr/lib/a file.conf", "/etc/settings"]
    assert unit.changed_files(said) == changed


class TestThePort:
    @pytest.fixture
    def taken(self) -> Iterator[int]:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            yield listener.getsockname()[1]

    def test_who_has_the_tills_port_is_named(self, here: Surroundings, taken: int) -> None:
        here.settings = here.settings.model_copy(update={"till": TillSettings(listen=f"127.0.0.1:{taken}")})
        found = surroundings.till_port(here)
        assert found.status is Status.WARN
        assert f"(process {os.getpid()}" in found.detail
        assert f"sudo kill {os.getpid()}" in str(found.fix)
        here.status = {"till_url": None, "till_problem": "in use"}
        assert surroundings.till_port(here).status is Status.FAIL
        here.status = {"till_url": f"http://127.0.0.1:{taken}", "till_problem": None}
        assert surroundings.till_port(here).status is Status.OK, "the till itself has it"

    def test_whoever_may_not_ask_the_daemon_is_not_told_to_end_the_till(self, here: Surroundings, taken: int) -> None:
        here.settings = here.settings.model_copy(update={"till": TillSettings(listen=f"127.0.0.1:{taken}")})
        here.config = CONFIG
        user = pwd.getpwuid(os.getuid()).pw_name
        here.__dict__["unit"] = unit.Unit({**WELL, "User": user})
        assert surroundings.till_port(here) == Finding(Status.OK, f"the service has port {taken}")
        here.__dict__["unit"] = unit.Unit({**WELL, "User": "somebody-else"})
        assert surroundings.till_port(here).status is Status.WARN

    def test_a_free_port_is_well_and_another_trouble_is_told_as_it_is(self, here: Surroundings, taken: int) -> None:
        assert listener_on(1) is None
        here.settings = here.settings.model_copy(update={"till": TillSettings(listen="127.0.0.1:1")})
        assert surroundings.till_port(here).status is Status.OK
        here.status = {"till_url": None, "till_problem": "not this machine's address"}
        assert surroundings.till_port(here).detail == "not this machine's address"

    def test_a_listener_on_ipv6_is_seen(self) -> None:
        with closing(socket.create_server(("::1", 0), family=socket.AF_INET6)) as listener:
            found = listener_on(listener.getsockname()[1])
        assert found is not None
        assert found.process is not None
        assert found.process.pid == os.getpid()

    def test_another_users_program_is_known_by_its_user_and_a_service_is_ended_for_good(self, tmp_path: Path) -> None:
        head = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        row = "   0: 0100007F:1CF3 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1\n"
        (tmp_path / "net").mkdir()
        (tmp_path / "net" / "tcp").write_text(head + row.replace(" 0A ", " 01 "))
        assert listener_on(7411, tmp_path) is None, "a connection is no listener"
        (tmp_path / "net" / "tcp").write_text(head + row)
        assert str(listener_on(7411, tmp_path)) == "a program of the user root"
        (tmp_path / "12" / "fd").mkdir(parents=True)
        (tmp_path / "12" / "fd" / "3").symlink_to("socket:[4711]")
        (tmp_path / "12" / "comm").write_text("apache2\n")
        (tmp_path / "12" / "cgroup").write_text("1:name=systemd:/system.slice/apache2.service\n")
        found = listener_on(7411, tmp_path)
        assert found is not None
        assert found.process is not None
        assert found.process.ended_by == "sudo systemctl disable --now apache2.service"
        (tmp_path / "12" / "cgroup").write_text("0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n")
        assert process(12, tmp_path) is not None
        assert str(process(12, tmp_path)) == "apache2 (process 12)", "a whole login is not to be ended"


class TestTheService:
    def test_one_that_runs_is_well(self) -> None:
        assert service().status is Status.OK
        assert unit.service(None, CONFIG, None).status is Status.OK
        assert service(LoadState="not-found").status is Status.OK
        assert service(ExecStart="--config /elsewhere.toml", ActiveState="failed").status is Status.OK

    @pytest.mark.parametrize(
        ("changed", "told", "remedy"),
        [
            ({"ActiveState": "inactive"}, "does not run", "enable --now"),
            ({"LoadState": "masked"}, "masked", "unmask"),
            ({"LoadState": "bad-setting", "LoadError": "no ExecStart"}, "no ExecStart", "--reinstall"),
            ({"ActiveState": "activating", "NRestarts": "4", "Result": "watchdog"}, "watchdog", "journalctl"),
            ({"ActiveState": "activating", "NRestarts": "4", "Result": "oom-kill"}, "memory", "journalctl"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "203"}, "program", "dpkg-reconfigure"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "217"}, "user", "systemd-sysusers"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "226"}, "view of the disk", "findmnt"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "238"}, "/var/lib", "remount,rw"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "243"}, "sealed", "credstore"),
            ({"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "6"}, "exit code 6", "journalctl"),
            ({"NRestarts": "3"}, "started anew 3 times", "journalctl"),
            ({"UnitFileState": "disabled"}, "will not start", "systemctl enable"),
        ],
        ids=lambda value: next(iter(value.values())) if isinstance(value, dict) else "",
    )
    def test_why_it_does_not_run_is_said_with_what_to_do(self, changed: dict[str, str], told: str, remedy: str) -> None:
        found = service(**changed)
        assert found.status is not Status.OK
        assert told in found.detail
        assert remedy in str(found.fix)

    def test_another_daemon_in_the_data_directory_is_named(self) -> None:
        waiting = {"ActiveState": "activating", "NRestarts": "9", "Result": "exit-code", "MainPID": "0"}
        found = service(os.getpid(), **waiting)
        assert f"(process {os.getpid()}) has the data directory" in found.detail
        assert f"sudo kill {os.getpid()}" in str(found.fix)
        assert "exit code" in service(None, **waiting).detail

    def test_a_second_unit_that_starts_the_daemon_is_named(self) -> None:
        ours = f"Id=terminal-agent.service\nActiveState=active\nExecStart={WELL['ExecStart']}\n"
        assert unit.others(None, CONFIG).status is Status.OK
        assert unit.others(ours, CONFIG).status is Status.OK
        start = f"{{ argv[]=python -m terminal_agent --config {CONFIG} run }}"
        copy = f"Id=copy.service\nActiveState=activating\nExecStart={start}\n"
        assert unit.others(f"{ours}\n{copy}", CONFIG).fix == "sudo systemctl disable --now copy.service"
        assert unit.others(f"{copy}\n{ours}", Path("/elsewhere.toml")).status is Status.OK
        by_name = "Id=mine.service\nActiveState=active\nExecStart={ argv[]=/usr/bin/terminal-agent run }\n"
        assert "mine.service" in unit.others(by_name, CONFIG).detail
        assert unit.others(copy.replace("activating", "failed"), CONFIG).status is Status.OK

    def test_how_it_ended_is_not_read_while_it_is_tried_again(self) -> None:
        trying = {"ActiveState": "activating", "NRestarts": "3"}
        assert as_unit(**trying, SubState="start").is_tried_again
        assert not as_unit(**trying, SubState="auto-restart").is_tried_again
        assert not as_unit(ActiveState="activating", NRestarts="0", SubState="start").is_tried_again

    def test_the_process_behind_the_control_socket_is_known(self, here: Surroundings) -> None:
        assert here.owner is None
        del here.owner
        server = ControlServer(here.settings.socket_dir, lambda *_: None)
        server.start()
        assert here.owner == os.getpid()
        server.stop()


class TestTheUnit:
    def test_what_is_promised_stands_in_the_unit(self) -> None:
        lines = set(UNIT_FILE.read_text().splitlines())
        for name, value in unit.PROMISED.items():
            assert name == "DynamicUser" or f"{name}={value}" in lines, name

    @pytest.mark.parametrize(
        "changed",
        [{"ProtectSystem": "no"}, {"Restart": "no"}, {"User": "root"}, {"DynamicUser": "yes"}, {"WatchdogUSec": "0"}],
        ids=str,
    )
    def test_a_drop_in_that_weakens_it_is_named_with_the_line_that_takes_it_away(self, changed: dict[str, str]) -> None:
        file = "/etc/systemd/system/terminal-agent.service.d/mine.conf"
        sealed = "/etc/systemd/system/terminal-agent.service.d/credentials.conf"
        found = unit.drift(as_unit(**changed, DropInPaths=f"{sealed} {file}"), CONFIG)
        assert found.status is Status.WARN
        assert next(iter(changed)).replace("USec", "Sec") in found.detail
        assert f"sudo rm {file} &&" in str(found.fix)
        assert sealed not in str(found.fix), "the keys are in it"

    def test_files_that_systemd_has_not_read_anew_are_told(self) -> None:
        assert unit.drift(as_unit(), CONFIG).status is Status.OK
        assert "daemon-reload" in str(unit.drift(as_unit(NeedDaemonReload="yes"), CONFIG).fix)

    def test_the_words_of_systemctl_are_taken_apart(self) -> None:
        parsed = unit.parse("LoadState=loaded\nExecStart={ path=/a ; argv[]=a --b=c }\nCapabilityBoundingSet=\n")
        assert (parsed["ExecStart"], parsed["CapabilityBoundingSet"]) == ("{ path=/a ; argv[]=a --b=c }", "")


class TestTheReader:
    def test_a_kernel_module_that_takes_readers_is_told(self, here: Surroundings) -> None:
        modules = put(here, "proc/modules", "nfc 135168 0 - Live 0x0\n")
        assert surroundings.kernel_modules(here).status is Status.OK
        modules.write_text("pn533_usb 20480 0 - Live 0x0\npn533 49152 1 pn533_usb, Live 0x0\n")
        found = surroundings.kernel_modules(here)
        assert "pn533_usb" in found.detail
        assert "/etc/modprobe.d/nfc-reader.conf" in str(found.fix)
        put(here, "etc/modprobe.d/own.conf", "blacklist pn533_usb\n")
        assert surroundings.kernel_modules(here).fix == "sudo modprobe -r pn533_usb pn533 nfc"

    def test_pcscd_that_is_missing_or_talks_too_much_is_told(self, here: Surroundings) -> None:
        put(here, "usr/sbin/other")
        assert "apt-get install pcscd" in str(surroundings.smart_card_service(here).fix)
        put(here, "usr/sbin/pcscd")
        assert surroundings.smart_card_service(here).status is Status.OK
        put(here, "proc/7/comm", "pcscd\n")
        put(here, "proc/7/cmdline", "/usr/sbin/pcscd\0--foreground\0--apdu\0")
        assert "card keys in clear" in surroundings.smart_card_service(here).detail
        here.settings = here.settings.model_copy(update={"reader": "sim:card.mfd"})
        assert surroundings.smart_card_service(here).status is Status.OK

    def test_a_daemon_that_no_polkit_rule_names_is_told(self, here: Surroundings) -> None:
        if os.geteuid() == 0:  # root needs no rule
            os.chown(here.settings.data_dir, 1, -1)
        user = here.settings.data_dir.owner()
        put(here, "usr/share/polkit-1/actions/org.debian.pcsc-lite.policy")
        found = surroundings.smart_card_service(here)
        assert found.status is Status.FAIL
        assert f"no polkit rule lets {user} use pcscd" in found.detail
        text = (UNIT_FILE.parents[1] / "polkit" / "50-terminal-agent.rules").read_text()
        rule = put(here, "usr/share/polkit-1/rules.d/50-terminal-agent.rules", text)
        assert surroundings.smart_card_service(here).status is Status.FAIL, "it is another user's rule"
        rule.write_text(text.replace('"terminal-agent"', f'"{user}"'))
        assert surroundings.smart_card_service(here).status is Status.OK
        put(here, "proc/mounts", "proc /proc proc rw,nosuid,hidepid=invisible 0 0\n")
        assert "hidepid" in str(surroundings.smart_card_service(here).fix)


class TestThePosPage:
    POS = "https://pos.example"

    @pytest.fixture
    def pos(self, here: Surroundings) -> Surroundings:
        till = TillSettings(listen="127.0.0.1:7411", origins=(self.POS,))
        here.settings = here.settings.model_copy(update={"till": till})
        put(here, "usr/bin/chromium")
        return here

    def policy(self, here: Surroundings, document: Any) -> Finding:
        put(here, "etc/chromium/policies/managed/shop.json", json.dumps(document))
        return surroundings.pos_pages(here)

    def test_without_a_policy_the_command_that_writes_it_is_given(self, pos: Surroundings) -> None:
        found = surroundings.pos_pages(pos)
        assert found.status is Status.WARN
        written = re.search(r"echo (.*) \| sudo tee (\S+)", str(found.fix))
        assert written is not None
        put(pos, written[2].lstrip("/"), shlex.split(written[1])[0])
        assert surroundings.pos_pages(pos).status is Status.OK

    @pytest.mark.parametrize(
        ("document", "status"),
        [
            ({"LoopbackNetworkAllowedForUrls": ["https://pos.example"]}, "ok"),
            ({"LocalNetworkAccessAllowedForUrls": ["[*.]example"]}, "ok"),
            ({"LocalNetworkAccessAllowedForUrls": ["*"]}, "ok"),
            ({"LoopbackNetworkAllowedForUrls": ["http://pos.example", "https://pos.example.org"]}, "warn"),
            ({"LocalNetworkAccessBlockedForUrls": ["pos.example"]}, "fail"),
            ({"LoopbackNetworkAllowedForUrls": ["*"], "LocalNetworkAccessBlockedForUrls": ["*"]}, "ok"),
            ({"LoopbackNetworkBlockedForUrls": ["*"], "LoopbackNetworkAllowedForUrls": ["*"]}, "fail"),
            ([], "warn"),
            ({"LoopbackNetworkAllowedForUrls": "https://pos.example"}, "warn"),
        ],
        ids=str,
    )
    def test_a_policy_is_read_as_the_browser_reads_it(self, pos: Surroundings, document: Any, status: str) -> None:
        assert self.policy(pos, document).status.value == status

    def test_without_origins_or_a_browser_nothing_is_asked_for(self, pos: Surroundings, settings: Settings) -> None:
        (pos.root / "usr/bin/chromium").unlink()
        assert surroundings.pos_pages(pos).status is Status.OK
        put(pos, "opt/google/chrome/chrome")
        assert "Chrome asks" in surroundings.pos_pages(pos).detail
        pos.settings = settings
        assert surroundings.pos_pages(pos).status is Status.OK


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (None, None),
        ("NTP=yes\nCanNTP=yes\nNTPSynchronized=yes\n", None),
        ("NTP=no\nCanNTP=no\nNTPSynchronized=no\n", "apt-get install systemd-timesyncd"),
        ("NTP=no\nCanNTP=yes\nNTPSynchronized=no\n", "set-ntp true"),
        ("NTP=yes\nCanNTP=yes\nNTPSynchronized=no\n", "timesync-status"),
    ],
)
def test_whether_a_time_server_keeps_the_clock(said: str | None, remedy: str | None) -> None:
    found = surroundings.kept_in_step(said)
    assert found.fix is None if remedy is None else remedy in str(found.fix)


def test_why_a_user_is_refused() -> None:
    assert surroundings.membership("sara", "terminal-agent", [], has_it=True).status is Status.OK
    assert "sudo adduser sara terminal-agent" in str(surroundings.membership("sara", "terminal-agent", [], False).fix)
    assert "newgrp" in str(surroundings.membership("sara", "terminal-agent", ["sara"], False).fix)
