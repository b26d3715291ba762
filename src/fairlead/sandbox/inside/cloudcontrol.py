"""AWS Cloud Control in front of the real resources: the eight operations, asynchronous, idempotent, durable.

A request is answered when it is written down; its effect and its outcome are written down together.
"""

import asyncio
import hashlib
import json
import logging
import sqlite3
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ministack.core.responses import (
    AccountRegionScopedDict,
    error_response_json,
    get_account_id,
    get_region,
    json_response,
    request_scope,
)

from fairlead.sandbox.inside import effects, jsonpatch, scope
from fairlead.sandbox.inside.effects import Failure
from fairlead.sandbox.inside.faults import Fault, Faults
from fairlead.sandbox.inside.live import KINDS
from fairlead.sandbox.inside.registry import Facts, Registry
from fairlead.sandbox.inside.store import Request

_log = logging.getLogger("fairlead.sandbox")  # noqa: TID251 - no telemetry in this environment
Model = dict[str, Any]
CLIENT_TOKEN_VALID_S = 36 * 3600.0
_PAGE = 100
_ENDED = ("SUCCESS", "FAILED", "CANCEL_COMPLETE")


class ApiError(Exception):
    """An operation that is refused at the door."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass
class CloudControl:
    """The service. `commit` writes down; `latency_s` is how long a request stays in progress."""

    registry: Registry
    faults: Faults
    latency_s: float
    commit: Callable[[frozenset[str] | None], None]  # the named services; None: all
    memory: effects.Memory = field(default_factory=AccountRegionScopedDict)
    requests: dict[str, Request] = field(default_factory=dict)
    dirty: dict[str, Request] = field(default_factory=dict)  # changed since the last commit
    _active: dict[str, Request] = field(default_factory=dict)
    _tokens: dict[tuple[str, str, str], str] = field(default_factory=dict)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def handle(self, _: str, __: str, headers: dict[str, str], body: bytes, ___: Any) -> Any:
        """MiniStack's `handle_request` of this service."""
        action = headers.get("x-amz-target", "").rpartition(".")[2]
        operation: Callable[[Model], Model] | None = {
            "CreateResource": self.create,
            "GetResource": self.get,
            "UpdateResource": self.update,
            "DeleteResource": self.delete,
            "ListResources": self.list_resources,
            "GetResourceRequestStatus": self.status,
            "ListResourceRequests": self.list_requests,
            "CancelResourceRequest": self.cancel,
        }.get(action)
        if operation is None:
            return error_response_json("UnknownOperationException", f"Unknown operation {action}", 400)
        try:
            data = json.loads(body or b"{}")
        except ValueError:
            return error_response_json("SerializationException", "The body is not JSON", 400)
        try:
            return json_response(operation(data))
        except ApiError as error:
            return error_response_json(error.code, str(error), 400)

    # Reads --------------------------------------------------------------------------------------

    def get(self, data: Model) -> Model:
        """GetResource."""
        facts = self._facts(data, "read")
        identifier = _required(data, "Identifier")
        found = effects.read(facts, identifier, self.memory)
        if found is None:
            raise _not_found(facts, identifier)
        return {"TypeName": facts.type_name, "ResourceDescription": _description(found)}

    def list_resources(self, data: Model) -> Model:
        """ListResources; `ResourceModel` narrows the list to what has these values."""
        facts = self._facts(data, "list")
        wanted = _document(data.get("ResourceModel") or "{}", "ResourceModel")
        kind = KINDS[facts.type_name]
        found = []
        for key in sorted(kind.keys()):
            model = kind.read(key)
            if model is not None and all(model.get(name) == value for name, value in wanted.items()):
                found.append(_description(effects.complete(facts, model, self.memory)))
        page, following = _page(found, data)
        return {"TypeName": facts.type_name, "ResourceDescriptions": page, **following}

    def status(self, data: Model) -> Model:
        """GetResourceRequestStatus."""
        return {"ProgressEvent": _event(self._request(data))}

    def list_requests(self, data: Model) -> Model:
        """ListResourceRequests, newest first."""
        wanted = data.get("ResourceRequestStatusFilter") or {}
        operations, statuses = wanted.get("Operations"), wanted.get("OperationStatuses")
        events = [
            _event(request)
            for request in reversed(self.requests.values())
            if (request.account, request.region) == (get_account_id(), get_region())
            and (not operations or request.operation in operations)
            and (not statuses or request.status in statuses)
        ]
        page, following = _page(events, data)
        return {"ResourceRequestStatusSummaries": page, **following}

    # Writes -------------------------------------------------------------------------------------

    def create(self, data: Model) -> Model:
        """CreateResource."""
        if seen := self._seen("CREATE", data):
            return seen
        facts = self._facts(data, "create")
        desired = _document(_required(data, "DesiredState"), "DesiredState")
        if not isinstance(desired, dict):
            raise ApiError("InvalidRequestException", "DesiredState must be a JSON object")
        return self._accept("CREATE", facts, None, {"desired": desired}, data)

    def update(self, data: Model) -> Model:
        """UpdateResource."""
        if seen := self._seen("UPDATE", data):
            return seen
        facts = self._facts(data, "update")
        identifier = _required(data, "Identifier")
        patch = _document(_required(data, "PatchDocument"), "PatchDocument")
        if (found := effects.read(facts, identifier, self.memory)) is None:
            raise _not_found(facts, identifier)
        try:
            jsonpatch.apply_patch(found.visible, patch)
        except jsonpatch.PatchInvalid as error:
            raise ApiError("InvalidRequestException", str(error)) from error
        return self._accept("UPDATE", facts, found.identifier, {"patch": patch}, data)

    def delete(self, data: Model) -> Model:
        """DeleteResource; that there is nothing to delete is the outcome of the request."""
        if seen := self._seen("DELETE", data):
            return seen
        facts = self._facts(data, "delete")
        return self._accept("DELETE", facts, _required(data, "Identifier"), {}, data)

    def cancel(self, data: Model) -> Model:
        """CancelResourceRequest: what has not taken effect yet never will."""
        request = self._request(data)
        if request.status in _ENDED:
            message = f"Only PENDING or IN_PROGRESS requests can be cancelled: this one is {request.status}"
            raise ApiError("ConcurrentModificationException", message)
        self._end(request, "CANCEL_COMPLETE")
        return {"ProgressEvent": _event(request)}

    # Life of a request --------------------------------------------------------------------------

    def restore(self, requests: list[Request]) -> None:
        """Take over saved requests."""
        for request in requests:
            self.requests[request.token] = request
            if request.client_token:
                self._tokens[request.account, request.region, request.client_token] = request.token

    def resume(self) -> int:
        """Go on with what was in progress when the last process ended; how many that are."""
        waiting = [request for request in self.requests.values() if request.status == "IN_PROGRESS"]
        for request in waiting:
            self._start(request)
        return len(waiting)

    def _seen(self, operation: str, data: Model) -> Model | None:
        client_token = data.get("ClientToken")
        if not client_token:
            return None
        key = (get_account_id(), get_region(), client_token)
        request = self.requests.get(self._tokens.get(key, ""))
        if request is None or time.time() - request.created > CLIENT_TOKEN_VALID_S:
            return None
        if request.operation != operation or request.digest != _digest(data):
            message = f"The client token {client_token} was used for another request"
            raise ApiError("ClientTokenConflictException", message)
        request.accepted += 1
        self.dirty[request.token] = request
        return {"ProgressEvent": _event(request)}

    def _accept(
        self, operation: str, facts: Facts, identifier: str | None, argument: Model, data: Model
    ) -> Model:
        account, region = get_account_id(), get_region()
        if identifier is not None:
            for other in self._active.values():
                if (other.account, other.region, other.type_name, other.identifier) == (
                    account,
                    region,
                    facts.type_name,
                    identifier,
                ):
                    message = f"Resource {identifier} is already being changed by request {other.token}"
                    raise ApiError("ConcurrentOperationException", message)
        request = Request(
            token=str(uuid.uuid4()),
            client_token=data.get("ClientToken"),
            digest=_digest(data),
            account=account,
            region=region,
            operation=operation,
            type_name=facts.type_name,
            identifier=identifier,
            argument=argument,
        )
        self.requests[request.token] = request
        if request.client_token:
            self._tokens[account, region, request.client_token] = request.token
        self.dirty[request.token] = request
        self._start(request)
        return {"ProgressEvent": _event(request)}

    def _start(self, request: Request) -> None:
        self._active[request.token] = request
        task = asyncio.get_running_loop().create_task(self._run(request))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fault(self, kind: str, request: Request) -> Fault | None:
        return self.faults.take(
            kind, (request.operation,), type_name=request.type_name, identifier=request.identifier or ""
        )

    async def _run(self, request: Request) -> None:
        slower = self._fault("handler_latency", request)
        await asyncio.sleep(self.latency_s + (slower.seconds if slower else 0.0))
        if request.status != "IN_PROGRESS":  # cancelled
            return
        # No await from here on: effect and outcome become one commit.
        with request_scope(request.account, request.region):
            request.attempts += 1
            try:
                if fault := self._fault("fail", request):
                    raise Failure(fault.error_code, fault.message)
                self._act(request)
                request.effects += 1
                if fault := self._fault("fail_after_effect", request):
                    raise Failure(fault.error_code, fault.message)
                self._end(request, "SUCCESS")
            except Failure as failure:
                self._end(request, "FAILED", failure.code, str(failure))
        try:
            self.commit(scope.of_type(request.type_name))
        except sqlite3.Error:  # a full disk, say: the next commit carries it
            _log.exception("request %s is not saved yet", request.token)

    def _act(self, request: Request) -> None:
        facts = self.registry.facts(request.type_name)
        if request.operation == "CREATE":
            found = effects.create(facts, request.argument["desired"], request.token, self.memory)
        elif request.operation == "UPDATE":
            found = effects.update(facts, str(request.identifier), request.argument["patch"], self.memory)
        else:
            effects.delete(facts, str(request.identifier), self.memory)
            return
        request.identifier, request.model = found.identifier, found.visible

    def _end(
        self, request: Request, status: str, code: str | None = None, message: str | None = None
    ) -> None:
        request.status, request.error_code, request.message = status, code, message
        request.updated = time.time()
        self._active.pop(request.token, None)
        self.dirty[request.token] = request

    # Doors --------------------------------------------------------------------------------------

    def _facts(self, data: Model, handler: str) -> Facts:
        type_name = _required(data, "TypeName")
        if type_name not in self.registry:
            raise ApiError("TypeNotFoundException", f"The type {type_name} cannot be found")
        facts = self.registry.facts(type_name)
        if "read" not in facts.handlers or handler not in facts.handlers:
            message = f"Resource type {type_name} does not support {handler.upper()} action"
            raise ApiError("UnsupportedActionException", message)
        if type_name not in KINDS:
            message = f"Resource type {type_name} does not support {handler.upper()} action in this sandbox"
            raise ApiError("UnsupportedActionException", message)
        return facts

    def _request(self, data: Model) -> Request:
        token = _required(data, "RequestToken")
        request = self.requests.get(token)
        if request is None or (request.account, request.region) != (get_account_id(), get_region()):
            raise ApiError("RequestTokenNotFoundException", f"Request token {token} cannot be found")
        return request


def _required(data: Model, name: str) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError("ValidationException", f"{name} is required and must be a string")
    return value


def _document(text: str, name: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ApiError("InvalidRequestException", f"{name} is not valid JSON: {error}") from error


def _not_found(facts: Facts, identifier: str) -> ApiError:
    return ApiError(
        "ResourceNotFoundException",
        f"Resource of type '{facts.type_name}' with identifier '{identifier}' was not found.",
    )


def _digest(data: Model) -> str:
    text = json.dumps({name: data[name] for name in sorted(data) if name != "ClientToken"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _description(found: effects.Found) -> Model:
    return {"Identifier": found.identifier, "Properties": json.dumps(found.visible)}


def _page(items: list[Model], data: Model) -> tuple[list[Model], Model]:
    size = data.get("MaxResults") or _PAGE
    start = data.get("NextToken") or "0"
    if not isinstance(size, int) or not 1 <= size <= _PAGE:
        raise ApiError("ValidationException", f"MaxResults is between 1 and {_PAGE}")
    if not str(start).isdigit():
        raise ApiError("InvalidRequestException", "NextToken is not one that was given")
    end = int(start) + size
    return items[int(start) : end], {"NextToken": str(end)} if end < len(items) else {}


def _event(request: Request) -> Model:
    event: Model = {
        "TypeName": request.type_name,
        "RequestToken": request.token,
        "Operation": request.operation,
        "OperationStatus": request.status,
        "EventTime": request.updated,
    }
    optional = {
        "Identifier": request.identifier,
        "ResourceModel": None if request.model is None else json.dumps(request.model),
        "ErrorCode": request.error_code,
        "StatusMessage": request.message,
        # Soon: handlers here take tens of milliseconds.
        "RetryAfter": time.time() + 0.1 if request.status == "IN_PROGRESS" else None,
    }
    event.update({name: value for name, value in optional.items() if value is not None})
    return event
