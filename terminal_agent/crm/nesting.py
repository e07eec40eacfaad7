"""How deep a JSON document is nested."""

from __future__ import annotations

from typing import Any


def nested_deeper_than(document: Any, limit: int) -> bool:
    """Whether objects and lists stand in one another more than ``limit`` deep; asked without recursion."""
    level = [document]
    for _ in range(limit):
        level = [child for node in level for child in _children(node)]
        if not level:
            return False
    return True


def _children(node: Any) -> list[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else []
