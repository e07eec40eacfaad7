"""A private PostgreSQL: an unprivileged user, a Unix socket, nothing of the machine's own servers touched."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from terminal_agent.crm.place import DatabaseUrl
from tests.processes import DidNotHappen, wait_for

INSTALL = "apt-get install postgresql; pip install '.[postgres]'"
_PLACES = "/usr/lib/postgresql/*/bin", "/usr/local/pgsql/bin"
_USER = "postgres"
"""Whom Debian's package makes; the server refuses to run as root."""


def find_programs() -> Path | None:
    """Where ``initdb`` and ``postgres`` are."""
    on_path = shutil.which("initdb")
    found = [place for pattern in _PLACES for place in sorted(Path("/").glob(pattern[1:]))]
    return Path(on_path).resolve().parent if on_path else found[-1] if found else None


class PostgresServer:
    """A cluster in a folder of its own, started and ended any way."""

    def __init__(self, programs: Path) -> None:
        self.programs = programs
        self._user = _USER if os.geteuid() == 0 else None
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # noqa: S108 - a socket's path must be short
        if self._user:
            os.chown(self.folder, pwd.getpwnam(self._user).pw_uid, -1)
        self._process: subprocess.Popen[bytes] | None = None
        self._run("initdb", "--auth=trust", "--username=crm", "--encoding=UTF8", "--locale=C", "--no-sync")

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def url(self, database: str) -> DatabaseUrl:
        return DatabaseUrl(f"postgresql:///{database}?host={self.folder}&user=crm")

    def up(self, **settings: str) -> None:
        """Starts it, with a few settings; returns when it answers."""
        options = {"listen_addresses": "", "unix_socket_directories": str(self.folder), "log_statement": "none"}
        words = [word for name, value in (options | settings).items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [self.programs / "postgres", "-D", self._data, *words], stdout=log, stderr=log, user=self._user
            )
        wait_for(self._answers, "PostgreSQL did not start")

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise DidNotHappen(f"PostgreSQL ended: {self.log()[-2000:]}")
        import psycopg  # without it the tests that need no PostgreSQL must still be found

        try:
            psycopg.connect(self.url("postgres").text).close()
        except psycopg.OperationalError:
            return False
        return True

    def log(self) -> str:
        """All it ever said."""
        return (self.folder / "log").read_text()

    def kill(self) -> None:
        """As if the machine died: every process of it at once, by ``SIGKILL``."""
        process, self._process = self._process, None
        assert process is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        for pid in (process.pid, *map(int, children)):
            os.kill(pid, signal.SIGKILL)
        process.wait()

    def down(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)  # fast: ends what is connected
            process.wait()

    def remove(self) -> None:
        self.down()
        shutil.rmtree(self.folder)

    def create(self, database: str) -> DatabaseUrl:
        """A fresh database."""
        self.execute(f"CREATE DATABASE {database}")
        return self.url(database)

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """What a statement answers, past the CRM."""
        import psycopg

        with psycopg.connect(self.url(database).text, autocommit=True) as connection:
            done = connection.execute(statement)
            return done.fetchall() if done.description else []

    def _run(self, program: str, *arguments: str) -> None:
        command = [self.programs / program, "-D", self._data, *arguments]
        subprocess.run(command, check=True, user=self._user, stdout=subprocess.DEVNULL, cwd=self.folder)
