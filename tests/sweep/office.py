"""Head office: the real reference CRM on its real file, called in process, and the line that leads there, counted."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import lru_cache, partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

import requests
import tenacity.nap
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from terminal_agent.crm import feed, schema
from terminal_agent.crm.sqlite import database_file
from terminal_agent.ports import rfc3339
from terminal_agent.sync import client
from tests.simulation.crm import CrmHouse, endpoints_inline
from tests.simulation.ports import START, Timeline
from tests.sweep.ports import Do, Port, Ports, Ways, after
from tests.sweep.tables import Tables, read_tables
from tests.workbench import NOW

_NOT_BOOKS = (schema.meta, schema.terminals, schema.enrolment_codes)
CRM_TABLES = tuple(table.name for table in schema.metadata.sorted_tables if table not in _NOT_BOOKS)
_PLAIN = HTTPAdapter()


class HeadOffice(CrmHouse):
    """A CRM that never fails: it stands elsewhere. The way to it does."""

    def __init__(self, folder: Path, timeline: Timeline) -> None:
        super().__init__(folder, timeline, Random(folder.name))
        self.reachable = True
        self.backup = b""

    def content(self) -> bytes:
        """All it knows."""
        return database_file(self.folder).read_bytes()

    def put_back(self, content: bytes) -> None:
        """It knows that, and no more."""
        self._store.close()  # its connections; the store opens new ones
        database_file(self.folder).write_bytes(content)

    def publish(self, policy: dict[str, Any]) -> None:
        with self._store.writing() as connection:
            feed.publish_policy(connection, policy, rfc3339(self.clock.now()))

    def tables(self) -> Tables:
        """What stands in its file."""
        return _tables_in(self.content())

    def answer(self, request: requests.PreparedRequest) -> requests.Response:
        """One request through the whole application."""
        body = request.body or b""
        content = body.encode() if isinstance(body, str) else bytes(body)
        answer = self.call(request.method or "", request.url or "", dict(request.headers), content)
        raw = HTTPResponse(io.BytesIO(answer.body), answer.headers, answer.status, preload_content=False)
        return _PLAIN.build_response(request, raw)


@lru_cache(maxsize=64)
def _tables_in(content: bytes) -> Tables:
    """Most runs leave it as it was, or as another run did."""
    with closing(sqlite3.Connection(":memory:")) as connection:
        connection.deserialize(content)
        return read_tables(connection, *CRM_TABLES)


def new_timeline() -> Timeline:
    """Time at head office, as late as on the workbench."""
    return Timeline((NOW - START).total_seconds())


def no_connection() -> requests.ConnectionError:
    return requests.ConnectionError("connection refused")


def connection_reset() -> requests.ConnectionError:
    return requests.ConnectionError("connection reset by peer")


def timed_out() -> requests.ReadTimeout:
    return requests.ReadTimeout("no answer in time")


class CountedLine(BaseAdapter):
    """``requests``' own seam for transports: each request counted, carried to the office its address names."""

    def __init__(self, ports: Ports, offices: Mapping[str, HeadOffice]) -> None:
        super().__init__()
        self._ports = ports
        self._offices = offices

    def send(self, request: requests.PreparedRequest, *_args: Any, **_options: Any) -> requests.Response:
        parts = urlsplit(request.url or "")
        do = partial(self._carry, f"{parts.scheme}://{parts.netloc}", request)
        response: requests.Response = self._ports.call(Port.HTTP, f"{request.method} {parts.path}", do, self._ways())
        return response

    def close(self) -> None:
        """Nothing is held."""

    def _carry(self, url: str, request: requests.PreparedRequest) -> requests.Response:
        if not self._offices[url].reachable:
            raise no_connection()
        return self._offices[url].answer(request)

    def _ways(self) -> Ways:
        def answer_unheard(do: Do) -> Any:
            do()
            self._ports.die()

        return {
            "no_connection": lambda _do: after(bool, no_connection),
            "line_down": lambda _do: self._ports.break_down("line_down", no_connection),
            "reply_lost": partial(after, error=timed_out),
            "reply_reset": partial(after, error=connection_reset),
            "power_cut_unheard": answer_unheard,
        }


class _NoWaiting:
    @staticmethod
    def sleep(_seconds: float) -> None:
        """Nobody waits between two tries."""


@contextmanager
def counted(ports: Ports, offices: Mapping[str, HeadOffice]) -> Iterator[None]:
    """Inside, every HTTP request of the program goes over the counted line, and no time passes between tries."""
    with ExitStack() as stack:
        stack.enter_context(endpoints_inline())
        stack.enter_context(patch.object(client, "CuttableAdapter", lambda _sockets: CountedLine(ports, offices)))
        stack.enter_context(patch.object(client, "within", lambda _limit_s, action, _cut: action()))
        stack.enter_context(patch.object(tenacity.nap, "time", _NoWaiting))
        yield
