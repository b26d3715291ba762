"""One-resource CloudFormation stacks: the fallback for types that Cloud Control cannot handle.

Pure: names, templates and what a stack's status says about the operation on it. A stack's name
comes from the client token of its creation, and the token of the last request stands in its
template, so a repeated request finds its own work.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from fairlead.changes.awsapi.answers import InvalidRequest
from fairlead.changes.model import Json, Properties

RESOURCE = "Resource"
OUTPUT = "Identifier"
MAX_TEMPLATE_CHARS = 51_200  # of a template that is passed inline

_IN_PROGRESS, _SUCCESS, _FAILED = "IN_PROGRESS", "SUCCESS", "FAILED"
_DONE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_COMPLETE"}


def stack_name(client_token: str) -> str:
    """The name of the stack that a creation with `client_token` makes."""
    return f"fairlead-{hashlib.sha256(client_token.encode()).hexdigest()[:32]}"


def template(type_name: str, properties: Properties, client_token: str) -> Json:
    """The template of a stack that holds this one resource."""
    return {
        "Metadata": {"FairleadClientToken": client_token},
        "Resources": {RESOURCE: {"Type": type_name, "Properties": properties}},
        "Outputs": {OUTPUT: {"Value": {"Ref": RESOURCE}}},
    }


def template_of(answer: Json) -> Json:
    """The template in the answer of get-template, which is a mapping or its text."""
    body = answer.get("TemplateBody")
    return json.loads(body) if isinstance(body, str) else body


def token_of(body: Json) -> str | None:
    """Client token of the request that submitted the template `body`."""
    token = body.get("Metadata", {}).get("FairleadClientToken")
    return token if isinstance(token, str) else None


def properties_of(body: Json) -> Properties:
    """Properties of the one resource in the template `body`."""
    found = body["Resources"][RESOURCE].get("Properties", {})
    return dict(found)


def outcome(operation: str, stack_status: str | None) -> str:
    """IN_PROGRESS, SUCCESS or FAILED of `operation` (CREATE, UPDATE, DELETE) on a stack.

    `stack_status` is None where there is no such stack.
    """
    if operation == "DELETE":
        if stack_status in {None, "DELETE_COMPLETE"}:
            return _SUCCESS
        return _FAILED if stack_status == "DELETE_FAILED" else _IN_PROGRESS
    if stack_status is None or stack_status.startswith("DELETE_"):
        return _FAILED
    if stack_status in _DONE:
        return _SUCCESS
    # What rolls back has failed, but is not over: the resource may still be there.
    return _IN_PROGRESS if stack_status.endswith("_IN_PROGRESS") else _FAILED


def failure_reason(events: Json) -> str | None:
    """Why the resource failed, from the answer of describe-stack-events (newest first)."""
    reasons = (
        event.get("ResourceStatusReason")
        for event in events.get("StackEvents", ())
        if event.get("LogicalResourceId") == RESOURCE and event.get("ResourceStatus", "").endswith("_FAILED")
    )
    return next((reason for reason in reasons if reason), None)


def holds_resource(stack_status: str) -> bool:
    """Whether the resource may be there; a creation that was rolled back leaves an empty stack."""
    return stack_status not in {"ROLLBACK_COMPLETE", "DELETE_COMPLETE"}


def patched(document: Properties, patch: Sequence[Mapping[str, Any]]) -> Properties:
    """`document` after a JSON Patch of add, replace and remove. Raises InvalidRequest where it misfits."""
    result: Any = copy.deepcopy(document)
    for step in patch:
        parts = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        if not parts:
            result = copy.deepcopy(step["value"])
            continue
        try:
            parent = result
            for part in parts[:-1]:
                parent = parent[int(part)] if isinstance(parent, list) else parent[part]
            _apply(parent, parts[-1], step)
        except (KeyError, IndexError, ValueError, TypeError):
            raise InvalidRequest(
                f"The change at {step['path']} does not fit what the stack holds.",
                remedy="Plan again.",
                path=step["path"],
            ) from None
    return dict(result)


def _apply(parent: Any, last: str, step: Mapping[str, Any]) -> None:
    match step["op"], parent:
        case "add", list():
            parent.insert(len(parent) if last == "-" else int(last), step["value"])
        case "remove", list():
            parent.pop(int(last))
        case "remove", dict():
            del parent[last]
        case "replace", list():
            parent[int(last)] = step["value"]
        case "add" | "replace", dict():
            parent[last] = step["value"]
        case _:
            raise ValueError(step["op"])
