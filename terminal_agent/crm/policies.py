"""The policies of the club: published once under a version and never changed, the newest that is in force counts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError
from sqlalchemy import Connection, select

from terminal_agent.club.policy import (
    Policy,
    PolicyInvalid,
    default_policy,
    parse_policy,
    policy_schema,
    unknown_keys,
    usable_policy,
)
from terminal_agent.club.trial import Trial, try_purchase
from terminal_agent.contract import canonical_json
from terminal_agent.crm import feed
from terminal_agent.crm.schema import policies
from terminal_agent.errors import AgentError, ErrorCode
from terminal_agent.ports import rfc3339

FRESH = str(default_policy()["version"])
_PUBLISHED = select(policies.c.version, policies.c.document).order_by(policies.c.published_at, policies.c.version)


def read(text: str) -> dict[str, Any]:
    """The document in a policy file. AgentError: INVALID_INPUT, with the line where it is no JSON."""
    hint = "A policy is one JSON object; docs/policy.md has examples"
    try:
        document = json.loads(text)
    except ValueError as error:
        raise AgentError(ErrorCode.INVALID_INPUT, f"the policy is not JSON: {error}", hint=hint) from error
    if not isinstance(document, dict):
        raise AgentError(ErrorCode.INVALID_INPUT, "the policy is not a JSON object", hint=hint)
    return document


def checked(document: dict[str, Any]) -> Policy:
    """The policy in a document. AgentError: INVALID_INPUT, ``problems:[{pointer, expected}]`` beside it."""
    try:
        return parse_policy(document)
    except PolicyInvalid as invalid:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            "\n  ".join(["this policy cannot be used, nothing was published:", *map(str, invalid.problems)]),
            hint="Correct what stands at these places; the JSON Schema: terminal-agent crm policy schema",
            details={"problems": [dict(vars(problem)) for problem in invalid.problems]},
        ) from invalid


def try_out(text: str, case: dict[str, Any]) -> dict[str, Any]:
    """What the policy in a file does to the purchase in ``case`` (as ``club.trial.Trial`` reads it), and why.

    AgentError: INVALID_INPUT.
    """
    policy = checked(read(text))
    try:
        trial = Trial.model_validate(case)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        message = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
        raise AgentError(ErrorCode.INVALID_INPUT, message, hint="terminal-agent crm policy try --help") from error
    return try_purchase(policy, trial)


def schema() -> dict[str, Any]:
    """The JSON Schema of a policy document."""
    return policy_schema()


def load(connection: Connection, document: dict[str, Any], now: str) -> dict[str, Any]:
    """Publishes a policy: ``{version, valid_from, currency, published, unknown_keys}``; the same again changes nothing.

    Raises AgentError INVALID_INPUT: for a document that is none, and for one that contradicts what was published.
    """
    policy = checked(document)
    known = {row.version: row.document for row in connection.execute(select(policies))}
    text = canonical_json(document).decode()
    if known.get(policy.version, text) != text:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            f"the version {policy.version} was published with other content",
            hint="Give the changed document a version of its own: sales name the version they were made under",
        )
    _require_currency(policy, known)
    if policy.version not in known:
        feed.publish_policy(connection, document, now)
    return {
        "version": policy.version,
        "valid_from": rfc3339(policy.valid_from),
        "currency": policy.currency,
        "published": policy.version not in known,
        "unknown_keys": unknown_keys(policy),
    }


def _require_currency(policy: Policy, known: dict[str, str]) -> None:
    """Points are a debt in one currency. Only the policy a fresh CRM begins with says nothing about it."""
    used = {_policy_in(text).currency for version, text in known.items() if version != FRESH}
    if used and policy.currency not in used:
        raise AgentError(
            ErrorCode.INVALID_INPUT,
            f"this club counts in {', '.join(sorted(used))}, the policy in {policy.currency}",
            hint="Points keep their worth only within one currency; start another club for the new one",
        )


def listing(connection: Connection, now: str) -> list[dict[str, Any]]:
    """``[{version, valid_from, currency, published_at, in_force}]``, in the order of publication."""
    current = in_force(connection, now)
    rows = connection.execute(select(policies).order_by(policies.c.published_at, policies.c.version)).all()
    return [
        {
            "version": row.version,
            "valid_from": rfc3339(_policy_in(row.document).valid_from),
            "currency": _policy_in(row.document).currency,
            "published_at": row.published_at,
            "in_force": row.version == current.version,
        }
        for row in rows
    ]


def document_of(connection: Connection, version: str) -> dict[str, Any]:
    """The document published under a version. AgentError: NOT_FOUND."""
    text = connection.execute(select(policies.c.document).where(policies.c.version == version)).scalar()
    if text is None:
        message = f"no policy was published as {version}"
        raise AgentError(ErrorCode.NOT_FOUND, message, hint="See them: terminal-agent crm policy list --data-dir DIR")
    document: dict[str, Any] = json.loads(text)
    return document


def published(connection: Connection) -> dict[str, Policy]:
    """Every policy by its version, in the order of publication."""
    return {version: _policy_in(text) for version, text in connection.execute(_PUBLISHED)}


def in_force(connection: Connection, now: str) -> Policy:
    """The policy that counts now."""
    return newest_of(published(connection), now)


def newest_of(published: Mapping[str, Policy], now: str) -> Policy:
    """The policy with the latest ``valid_from`` that has come; of two with one moment the later published."""
    found = list(published.values())
    begun = [policy for policy in found if rfc3339(policy.valid_from) <= now]
    last = max(range(len(begun)), key=lambda place: (begun[place].valid_from, place), default=None)
    return begun[last] if last is not None else parse_policy(default_policy())


@lru_cache(maxsize=256)
def _policy_in(text: str) -> Policy:
    """A published policy; every booking asks for it, and they are frozen."""
    return usable_policy(json.loads(text))[0]
