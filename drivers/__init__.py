"""A MIFARE Classic card on any reader. Knows no loyalty, no SQLite, no HTTP."""

from drivers.base import ClassicConnection, Reader, ReaderInfo, ReaderState
from drivers.listing import list_readers
from drivers.mifare_classic import KeyType
from drivers.registry import open_reader

__all__ = [
    "ClassicConnection",
    "KeyType",
    "Reader",
    "ReaderInfo",
    "ReaderState",
    "list_readers",
    "open_reader",
]
