"""What FastAPI cannot read off the routes: the header every call needs, the problem document, events and feed items."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from terminal_agent.contract import MAX_BATCH_EVENTS, REQUEST_ID_HEADER, EventType
from terminal_agent.crm import wire
from terminal_agent.crm.events import DATA_SHAPES, Envelope, EventData, PurchaseReversed

_REF = "#/components/schemas/"
_FEED_ITEMS: tuple[type[BaseModel], ...] = (
    wire.PolicyItem,
    wire.AdjustmentItem,
    wire.HotlistItem,
    wire.MemberItem,
    wire.GrantItem,
    wire.OfferCountsItem,
    wire.ErasureItem,
    wire.SettingsItem,
    wire.ResolutionItem,
)
_REQUEST_ID = {
    "name": REQUEST_ID_HEADER,
    "in": "header",
    "required": True,
    "description": "Fresh for every try; the answer's signature is bound to it.",
    "schema": {"type": "string", "pattern": "^[\\x21-\\x7e]{1,128}$"},
}
BATCH = {"type": "array", "maxItems": MAX_BATCH_EVENTS, "items": {"$ref": f"{_REF}Event"}}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """FastAPI's OpenAPI document with the rest; may be done again."""
    schemas = document["components"]["schemas"]
    for unused in ("HTTPValidationError", "ValidationError"):  # every error is a problem
        schemas.pop(unused, None)
    schemas |= _schemas_of(wire.Problem, Envelope, EventData, PurchaseReversed, *DATA_SHAPES.values(), *_FEED_ITEMS)
    schemas["Event"] = {"allOf": [_ref(Envelope)], "oneOf": [_event(kind) for kind in EventType]}
    later_kinds = {"type": "object", "required": ["kind"]}
    items = [*(_ref(shape) for shape in _FEED_ITEMS), later_kinds]
    schemas["FeedAnswer"]["properties"]["items"]["items"] = {"anyOf": items}
    for path, methods in document["paths"].items():
        for operation in methods.values() if path.startswith("/v1/") else ():
            others = [given for given in operation.get("parameters", []) if given["name"] != REQUEST_ID_HEADER]
            operation["parameters"] = [*others, _REQUEST_ID]
            operation["responses"].pop("422", None)  # FastAPI's own; ours is 400
    return document


def _event(kind: EventType) -> dict[str, Any]:
    shapes = [DATA_SHAPES.get(kind, EventData)]
    if kind is EventType.PURCHASE_REVERSED:
        shapes.insert(0, PurchaseReversed)
    data = _ref(shapes[0]) if len(shapes) == 1 else {"anyOf": [_ref(shape) for shape in shapes]}
    return {"title": kind.value, "properties": {"type": {"const": kind.value}, "data": data}}


def _schemas_of(*shapes: type[BaseModel]) -> dict[str, Any]:
    once = dict.fromkeys(shapes)
    _, found = models_json_schema([(shape, "validation") for shape in once], ref_template=_REF + "{model}")
    schemas: dict[str, Any] = found["$defs"]
    return schemas


def _ref(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": _REF + shape.__name__}
