"""Loyalty cards on MIFARE Classic 1K at the shop's till."""

__version__ = "0.1.0"
