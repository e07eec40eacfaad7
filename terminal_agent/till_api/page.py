"""The cashier page: static files, served by the agent itself; nothing comes from the network, no data is in them."""

from __future__ import annotations

from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Response

from terminal_agent.till_api.problems import Refusal, Refused

router = APIRouter(include_in_schema=False)
_MEDIA_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "ttf": "font/ttf",
}
_FOLDERS: tuple[Traversable, ...] = (
    resources.files(__package__) / "static",
    resources.files("terminal_agent") / "till" / "fonts",
)
_FILES = {entry.name: entry for folder in _FOLDERS for entry in folder.iterdir() if entry.is_file()}


@router.get("/")
def index() -> Response:
    """The page of the cashier."""
    return _file("index.html")


@router.get("/customer")
def customer() -> Response:
    """The page that faces the customer."""
    return _file("customer.html")


@router.get("/static/{name}")
def static(name: str) -> Response:
    """What the pages need."""
    return _file(name)


def _file(name: str) -> Response:
    found = _FILES.get(name)
    media_type = _MEDIA_TYPES.get(name.rpartition(".")[2])
    if found is None or media_type is None:
        raise Refused(Refusal.NOT_FOUND)
    return Response(found.read_bytes(), media_type=media_type)
