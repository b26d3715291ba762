"""One-resource CloudFormation stacks: the fallback for types that Cloud Control cannot handle.

Pure: names, templates and what a stack's status says about the operation on it. A stack's name
comes from the client token of its creation, and the token of the last request stands in its
template, so a repeated request finds its own work. Secrets are NoEcho parameters of the stack:
the template, which everybody who may read stacks can see, only refers to them.
"""

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fairlead.changes.awsapi.answers import InvalidRequest
from fairlead.changes.intrinsics import MASK, Secret
from fairlead.changes.model import Json, Properties

Patch = Sequence[Mapping[str, Any]]  # JSON Patch (RFC 6902): {"op", "path", "value"}
RESOURCE = "Resource"
OUTPUT = "Identifier"
MAX_TEMPLATE_CHARS = 51_200  # of a template that is passed inline
MAX_SECRET_BYTES = 4_096  # of one parameter's value
_SECRET = "FairleadSecret"  # begins the names of the parameters that hold secrets  # noqa: S105

_IN_PROGRESS, _SUCCESS, _FAILED = "IN_PROGRESS", "SUCCESS", "FAILED"
_DONE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "IMPORT_COMPLETE"}


def stack_name(client_token: str) -> str:
    """The name of the stack that a creation with `client_token` makes."""
    return f"fairlead-{hashlib.sha256(client_token.encode()).hexdigest()[:32]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What a stack is made from; `parameters` in the form of the option `--parameters`."""

    body: Json
    parameters: list[dict[str, Any]]


def template(type_name: str, properties: Properties, client_token: str) -> Template:
    """A stack that holds this one resource.

    A `Secret` in `properties` becomes the value of a parameter; a reference to such a parameter, from the
    template before, stays and keeps the value that the stack has. Raises InvalidRequest.
    """
    secrets: dict[str, str | None] = {}
    without = _without_secrets(properties, "", secrets)
    body: dict[str, Any] = {
        "Metadata": {"FairleadClientToken": client_token},
        "Resources": {RESOURCE: {"Type": type_name, "Properties": without}},
        "Outputs": {OUTPUT: {"Value": {"Ref": RESOURCE}}},
    }
    if secrets:
        body["Parameters"] = {name: {"Type": "String", "NoEcho": True} for name in sorted(secrets)}
    return Template(body=body, parameters=[_parameter(name, secrets[name]) for name in sorted(secrets)])


def _without_secrets(value: Json, path: str, secrets: dict[str, str | None]) -> Json:
    if isinstance(value, Secret):
        name = f"{_SECRET}{hashlib.sha256(path.encode()).hexdigest()[:16]}"
        plain = "".join(value)
        if len(plain.encode()) > MAX_SECRET_BYTES:
            raise InvalidRequest(
                f"The secret at {path[1:].replace('/', '.')} has more than {MAX_SECRET_BYTES:,} bytes, "
                "too many for a stack's parameter.",
                remedy="Keep it in Secrets Manager or Parameter Store, and refer to it by name.",
            )
        secrets[name] = plain
        return {"Ref": name}
    if _is_secret(value):
        secrets.setdefault(value["Ref"], None)
        return value
    if isinstance(value, dict):
        return {key: _without_secrets(item, f"{path}/{key}", secrets) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_secrets(item, f"{path}/{index}", secrets) for index, item in enumerate(value)]
    return value


def _is_secret(value: Json) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"Ref"}
        and isinstance(value["Ref"], str)
        and value["Ref"].startswith(_SECRET)
    )


def _parameter(name: str, value: str | None) -> dict[str, Any]:
    if value is None:
        return {"ParameterKey": name, "UsePreviousValue": True}
    return {"ParameterKey": name, "ParameterValue": value}


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


def shown_of(body: Json) -> Properties:
    """The properties as they may be read: secrets, which AWS does not give back, as `****`."""
    shown: Properties = _masked(properties_of(body))
    return shown


def _masked(value: Json) -> Json:
    if _is_secret(value):
        return MASK
    if isinstance(value, dict):
        return {key: _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value


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


def patched(document: Properties, patch: Patch) -> Properties:
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
