"""What every request passes: admin endpoints, faults, and the rule that effects are saved before answers."""

import asyncio
import itertools
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qs

from fairlead.sandbox.inside import stacks
from fairlead.sandbox.inside.cloudcontrol import CloudControl
from fairlead.sandbox.inside.faults import KINDS as FAULT_KINDS
from fairlead.sandbox.inside.faults import FaultInvalid, Faults
from fairlead.sandbox.inside.live import KINDS
from fairlead.sandbox.inside.scope import of_call

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
_READS = (
    "Get",
    "List",
    "Describe",
    "BatchGet",
    "Query",
    "Scan",
    "Search",
    "Filter",
    "Lookup",
    "Head",
    "Validate",
)
_FLUSH_S = 0.5
_IDLE_TICKS = 10
_SHORT = {
    "CreateResource": "CREATE",
    "UpdateResource": "UPDATE",
    "DeleteResource": "DELETE",
    "GetResource": "READ",
    "ListResources": "LIST",
    "GetResourceRequestStatus": "STATUS",
}


class Gate:
    """The ASGI application in front of MiniStack's."""

    def __init__(self, app: App, service: CloudControl, faults: Faults, details: dict[str, Any]) -> None:
        self._app, self._service, self._faults, self._details = app, service, faults, details
        self._touched = False
        self._flusher: asyncio.Task[None] | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, self._lifespan(send))
        elif scope["type"] == "http" and scope["path"].startswith("/_fairlead/"):
            await self._admin(scope, receive, send)
        elif scope["type"] == "http":
            await self._pass(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    def _lifespan(self, send: Send) -> Send:
        async def watched(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete":
                self._details["resumed_requests"] = self._service.resume()
                self._flusher = asyncio.get_running_loop().create_task(self._flush())
            elif message["type"] == "lifespan.shutdown.complete":
                if self._flusher:
                    self._flusher.cancel()
                self._service.commit(None)
            await send(message)

        return watched

    async def _flush(self) -> None:
        # What background threads of MiniStack change is saved soon after; what was answered is saved already.
        for tick in itertools.count():
            await asyncio.sleep(_FLUSH_S)
            if self._touched or tick % _IDLE_TICKS == 0:
                try:
                    self._touched = False
                    self._service.commit(None)
                    self._details["save_error"] = None
                except sqlite3.Error as error:
                    self._touched = True
                    self._details["save_error"] = str(error)

    async def _pass(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["path"] == "/_ministack/reset":
            await _answer(send, 403, {"message": "Start the sandbox with a fresh state folder instead"})
            return
        headers = {
            name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]
        }
        body, receive = await _peek(scope, headers, receive)
        action, type_name, identifier = _what(headers, body, scope["query_string"], self._service)
        names = (action, _SHORT.get(action, action))
        if fault := self._faults.take("latency", names, type_name=type_name, identifier=identifier):
            await asyncio.sleep(fault.seconds)
        if fault := self._faults.take("throttle", names, type_name=type_name, identifier=identifier):
            await _throttled(send, headers, fault.message)
            return
        lost = self._faults.take("lost_answer", names, type_name=type_name, identifier=identifier)
        await self._app(scope, receive, self._saving(scope, headers, action, send, drop=lost is not None))

    def _saving(
        self, scope: Message, headers: dict[str, str], action: str, send: Send, *, drop: bool
    ) -> Send:
        self._touched = True
        saves, keys = _mutates(scope, headers, action), of_call(headers)

        async def save_first(message: Message) -> None:
            if message["type"] == "http.response.start":
                if action in stacks.OPERATIONS:
                    await stacks.settle()
                if saves:
                    self._service.commit(keys)
                if drop:
                    _hang_up(send)
            if not drop:
                await send(message)

        return save_first

    # Admin --------------------------------------------------------------------------------------

    async def _admin(self, scope: Message, receive: Receive, send: Send) -> None:
        path, method = scope["path"], scope["method"]
        if path == "/_fairlead/faults" and method in ("PUT", "DELETE"):
            try:
                body = json.loads(await _body(receive) or b"null") if method == "PUT" else {"faults": []}
                self._faults.replace(body)
            except (FaultInvalid, ValueError) as error:
                await _answer(send, 422, {"message": str(error), "kinds": FAULT_KINDS})
                return
        answers: dict[str, Callable[[], Any]] = {
            "/_fairlead/health": self._health,
            "/_fairlead/faults": lambda: {"faults": [fault.out() for fault in self._faults.active]},
            "/_fairlead/requests": lambda: {"requests": [_shown(r) for r in self._service.requests.values()]},
            "/_fairlead/types": self._types,
        }
        if path not in answers:
            await _answer(send, 404, {"message": f"There is no {path}", "paths": sorted(answers)})
        else:
            await _answer(send, 200, answers[path]())

    def _health(self) -> dict[str, Any]:
        waiting = sum(request.status == "IN_PROGRESS" for request in self._service.requests.values())
        return {"status": "ok", "requests_in_progress": waiting, **self._details}

    def _types(self) -> dict[str, Any]:
        registry = self._service.registry
        return {"types": {name: sorted(registry.facts(name).handlers) for name in sorted(KINDS)}}


def _shown(request: Any) -> dict[str, Any]:
    """A request without what it asked for: that may hold secrets."""
    shown = asdict(request)
    for name in ("argument", "model", "digest"):
        del shown[name]
    return shown


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _peek(scope: Message, headers: dict[str, str], receive: Receive) -> tuple[bytes, Receive]:
    """The body of a request whose action stands in it, and a `receive` that gives it once more."""
    form = headers.get("content-type", "").startswith("application/x-www-form-urlencoded")
    if scope["method"] != "POST" or not (form or "x-amz-target" in headers):
        return b"", receive
    chunks: list[Message] = []
    while True:
        message = await receive()
        chunks.append(message)
        if message["type"] != "http.request" or not message.get("more_body"):
            break
    body = b"".join(message.get("body", b"") for message in chunks)
    replay = iter(chunks)

    async def again() -> Message:
        return next(replay, None) or await receive()

    return body, again


def _what(headers: dict[str, str], body: bytes, query: bytes, service: CloudControl) -> tuple[str, str, str]:
    """Action, type and identifier that a request names; empty where it names none."""
    target = headers.get("x-amz-target", "")
    if not target:
        form = parse_qs((body or query).decode("utf-8", "replace")) if body or query else {}
        return (form.get("Action") or [""])[0], "", ""
    action = target.rpartition(".")[2]
    if not target.startswith("CloudApiService"):
        return action, "", ""
    data: Any = None
    with suppress(ValueError):
        data = json.loads(body)
    data = data if isinstance(data, dict) else {}
    request = service.requests.get(str(data.get("RequestToken", "")))
    if request is not None:
        return action, request.type_name, request.identifier or ""
    return action, str(data.get("TypeName", "")), str(data.get("Identifier", ""))


def _mutates(scope: Message, headers: dict[str, str], action: str) -> bool:
    """Whether the answer must wait for a save. In doubt it does."""
    if action:
        return not action.startswith(_READS)
    if scope["method"] in ("GET", "HEAD", "OPTIONS"):
        return False
    # Objects are on disk before S3 answers; only buckets live in the saved state.
    bucket_only = scope["path"].strip("/").count("/") == 0
    return (
        "/s3/aws4_request" not in headers.get("authorization", "")
        or bucket_only
        or bool(scope["query_string"])
    )


async def _answer(
    send: Send, status: int, document: Any, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    body = json.dumps(document, default=str).encode()
    named = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    date = (b"date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()).encode())
    await send({"type": "http.response.start", "status": status, "headers": [*named, date, *(headers or [])]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _throttled(send: Send, headers: dict[str, str], message: str) -> None:
    if "x-amz-target" in headers:
        kind = (b"x-amzn-errortype", b"ThrottlingException")
        await _answer(send, 400, {"__type": "ThrottlingException", "message": message}, [kind])
        return
    body = (
        "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code>"
        f"<Message>{message}</Message></Error></ErrorResponse>"
    ).encode()
    await send({"type": "http.response.start", "status": 400, "headers": [(b"content-type", b"text/xml")]})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _hang_up(send: Any) -> None:
    """Drop the connection under the answer. Hypercorn offers no way, so this walks down to its socket."""
    stream = send.__self__  # HTTPStream
    protocol = stream.send.__self__  # H11Protocol
    protocol.send.__self__.writer.transport.abort()  # TCPServer
