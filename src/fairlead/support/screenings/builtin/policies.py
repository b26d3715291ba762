"""Resource policies: who is let in without any condition that says who it must be."""

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from fairlead.support.hazards import is_world
from fairlead.support.screenings.builtin.checks import NotAssessed

# Condition keys that tie a request to somebody or some place. `…IfExists` ties nothing: it may be missing.
_TYING = frozenset(
    {
        "aws:principalaccount",
        "aws:principalarn",
        "aws:principalorgid",
        "aws:principalorgpaths",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:sourceorgid",
        "aws:sourceowner",
        "aws:sourcevpc",
        "aws:sourcevpce",
        "aws:userid",
        "kms:calleraccount",
        "s3:dataaccesspointaccount",
        "elasticfilesystem:accesspointarn",
    }
)
_OPERATORS = frozenset(
    {"stringequals", "stringlike", "stringequalsignorecase", "arnequals", "arnlike", "ipaddress"}
)


def parsed(policy: str | Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A policy as a document; None where there is none. Raises NotAssessed where it is not one."""
    if not policy:
        return None
    if isinstance(policy, str):
        try:
            policy = json.loads(policy)
        except ValueError as error:
            raise NotAssessed("The policy is not JSON.") from error
    if not isinstance(policy, Mapping):
        raise NotAssessed("The policy is not a document.")
    return policy


def listed(value: Any) -> list[Any]:
    """`value`, which policies write alone or in a list, as a list."""
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def statements(policy: str | Mapping[str, Any] | None) -> Iterator[Mapping[str, Any]]:
    """The statements of a policy, none where there is no policy."""
    document = parsed(policy)
    for statement in listed(document.get("Statement")) if document else ():
        if not isinstance(statement, Mapping):
            raise NotAssessed("A statement of the policy is not a document.")
        yield statement


def principals(statement: Mapping[str, Any]) -> list[str]:
    """AWS principals of a statement; "*" for everyone."""
    named = statement.get("Principal")
    if isinstance(named, Mapping):
        return [str(value) for value in listed(named.get("AWS"))]
    return [str(value) for value in listed(named)]


def everyone(statement: Mapping[str, Any]) -> bool:
    """Whether a statement is about everyone; "everyone but" lets in everyone else."""
    return "*" in principals(statement) or "NotPrincipal" in statement


def open_statements(policy: str | Mapping[str, Any] | None) -> list[str]:
    """Names of the statements that let in everyone."""
    return [
        str(statement.get("Sid") or f"statement {number}")
        for number, statement in enumerate(statements(policy), start=1)
        if statement.get("Effect") == "Allow" and everyone(statement) and not is_tied(statement)
    ]


def is_tied(statement: Mapping[str, Any]) -> bool:
    """Whether a condition says who or where the caller must be."""
    conditions = statement.get("Condition") or {}
    return any(
        str(operator).lower().removeprefix("foranyvalue:") in _OPERATORS
        and any(str(key).lower() in _TYING and _narrow(listed(values)) for key, values in keys.items())
        for operator, keys in conditions.items()
        if isinstance(keys, Mapping)
    )


def _narrow(values: Iterable[Any]) -> bool:
    found = [str(value) for value in values]
    return bool(found) and not any(value.strip("*?") == "" or _is_world(value) for value in found)


def _is_world(value: str) -> bool:
    return "/" in value and not value.startswith("arn:") and is_world(value)


def demands_tls(policy: str | Mapping[str, Any] | None) -> bool:
    """Whether a policy denies everyone everything without TLS."""
    for statement in statements(policy):
        secure = [
            str(value).lower()
            for operator, keys in (statement.get("Condition") or {}).items()
            if str(operator).lower() in ("bool", "boolifexists") and isinstance(keys, Mapping)
            for key, values in keys.items()
            if str(key).lower() == "aws:securetransport"
            for value in listed(values)
        ]
        actions = {str(action).lower() for action in listed(statement.get("Action"))}
        if (
            statement.get("Effect") == "Deny"
            and everyone(statement)
            and "false" in secure
            and actions & {"*", "s3:*"}
        ):
            return True
    return False
