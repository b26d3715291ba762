"""Shared FastAPI parts: who is calling, problem documents, paging, versions, and the door that every
request passes: request id, access log, security headers, JSON only, a limit on bodies.
"""

import asyncio
import base64
import binascii
import json
import re
import time
import uuid
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    MutableMapping,
    Sequence,
)
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Generic, TypeVar

import structlog
from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import AfterValidator, BaseModel
from starlette.exceptions import HTTPException

from fairlead.kernel import telemetry
from fairlead.kernel.clock import iso, utc_now
from fairlead.kernel.db import Database
from fairlead.kernel.errors import FairleadError, InvalidInput, NotFound, Unauthenticated
from fairlead.kernel.projects import access
from fairlead.kernel.projects.model import Actor
from fairlead.kernel.projects.tokens import SigningKey

T = TypeVar("T")
Out = TypeVar("Out", bound=BaseModel)
_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Scope, _Receive, _Send], Awaitable[None]]

PROBLEM = "application/problem+json"
ANONYMOUS_BODY_BYTES = 64 * 1024  # who shows no credentials has little to say: logging in
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_FORM_TYPE = "application/x-www-form-urlencoded"
_JSON_TYPE = re.compile(r"application/(json|[a-z0-9.+-]+\+json)", re.IGNORECASE)
_CSP = b"content-security-policy"
_SECURITY_HEADERS = (
    (b"cache-control", b"no-store"),
    (_CSP, b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


class RouteNotFound(NotFound):
    """There is nothing at this address."""

    code = "http.not_found"


class MethodNotAllowed(FairleadError):
    """This address does not take this method."""

    code, status, retryable = "http.method_not_allowed", 405, False


class BodyTooLarge(FairleadError):
    """The request's body is larger than this server takes."""

    code, status, retryable = "http.body_too_large", 413, False


class NotJson(FairleadError):
    """Bodies are JSON here."""

    code, status, retryable = "http.unsupported_media_type", 415, False


class Internal(FairleadError):
    """Something went wrong inside Fairlead; the server's log has the details under this request id."""

    code, status, retryable = "internal", 500, False


@dataclass(frozen=True, slots=True)
class HttpParts:
    """What every request needs; `install` hangs it on the app."""

    database: Database
    signing_key: SigningKey
    closing: asyncio.Event  # set when the server shuts down: streams end


def install(
    app: FastAPI,
    *,
    database: Database,
    signing_key: SigningKey,
    max_body_bytes: int,
    forms: Mapping[str, int] | None = None,
) -> None:
    """Give `app` the shared door: problem documents for every failure, and the middleware.

    `forms` (path → most bytes) are the only places where a browser's form may be posted.
    """
    app.state.parts = HttpParts(database, signing_key, asyncio.Event())
    app.add_exception_handler(FairleadError, _on_fairlead_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_middleware(_BodyGate, max_bytes=max_body_bytes, forms=forms or {})
    app.add_middleware(_Door)  # added last: outermost


def parts_of(app: FastAPI) -> HttpParts:
    """What `install` hung on the app."""
    parts: HttpParts = app.state.parts
    return parts


# --- who is calling ------------------------------------------------------------------------------

bearer = HTTPBearer(auto_error=False, description="An access token of a session, or an API token (fl_…)")


def current_actor(
    request: Request, credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]
) -> Actor:
    """The caller. Raises Unauthenticated and what else `access.authenticate` raises."""
    if credentials is None:
        raise Unauthenticated(remedy="Send `Authorization: Bearer <token>`; get one with `POST /sessions`.")
    parts = parts_of(request.app)
    actor = access.authenticate(parts.database, parts.signing_key, credentials.credentials)
    request.state.username = actor.username
    return actor


CurrentActor = Annotated[Actor, Depends(current_actor)]


def client_address(request: Request) -> str:
    """The peer's address, as the server knows it (behind a local proxy: as the proxy says)."""
    return request.client.host if request.client else "unknown"


# --- problem documents ---------------------------------------------------------------------------


class Problem(BaseModel):
    """An RFC 9457 problem document: the form of every failure."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    retryable: bool
    remedy: str | None = None
    details: dict[str, Any] | None = None
    timestamp: str
    request_id: str


def problem_response(
    error: FairleadError,
    request_id: str,
    headers: dict[str, str] | None = None,
    *,
    said: Mapping[str, Any] | None = None,
) -> Response:
    """`error` as a response; says how long to wait where the error knows.

    `said` is its problem in other words.
    """
    body = {**(said or error.problem()), "timestamp": iso(utc_now()), "request_id": request_id}
    headers = dict(headers or {})
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Bearer realm="fairlead"'
    if "retry_after_s" in error.details:
        headers["Retry-After"] = str(int(error.details["retry_after_s"]))
    # Escaped: messages may quote lone surrogates that a client sent.
    content = json.dumps(body, ensure_ascii=True, default=str).encode("ascii")
    return Response(content, status_code=error.status, headers=headers, media_type=PROBLEM)


def _request_id(request: Request) -> str:
    return str(getattr(request.state, "request_id", ""))


def _on_fairlead_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, FairleadError)
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        telemetry.log.warning("http.error", code=error.code, message=error.message)
    return problem_response(error, _request_id(request))


def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(invalid_input(error), _request_id(request))


def invalid_input(error: RequestValidationError) -> InvalidInput:
    """What is wrong with a request, place by place."""
    faults = [_fault(item) for item in error.errors()[:50]]
    places = "; ".join(f"{fault['field']}: {fault['message']}" for fault in faults[:3])
    return InvalidInput(places, remedy="Correct the fields named in details.faults.", faults=faults)


def _fault(item: Any) -> dict[str, str]:
    """Where and what; never the value, which may be a password."""
    place, *path = [str(part)[:100] for part in item["loc"]]
    if item["type"] == "json_invalid":
        reason = item.get("ctx", {}).get("error", "")
        return {"in": place, "field": place, "message": f"not valid JSON at character {path[0]}: {reason}"}
    message = str(item["msg"]).removeprefix("Value error, ")
    return {"in": place, "field": ".".join(path) or place, "message": message}


def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return problem_response(_from_status(request, error), _request_id(request), dict(error.headers or {}))


def _from_status(request: Request, error: HTTPException) -> FairleadError:
    path = str(request.url.path)[:200]
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            return RouteNotFound(f"There is nothing at {path}.", remedy="See /openapi.json for addresses.")
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = (error.headers or {}).get("Allow", "")
            return MethodNotAllowed(f"{path} does not take {request.method}.", remedy=f"It takes: {allowed}.")
        case HTTPStatus.BAD_REQUEST:
            return InvalidInput("The body cannot be read as JSON.", remedy="Send one UTF-8 JSON document.")
        case _:
            return Internal()


# --- the door ------------------------------------------------------------------------------------


class _Door:
    """Outermost: request id, security headers, access log, metrics, and no exception's text outside."""

    def __init__(self, app: _App) -> None:
        self._app = app

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _chosen_request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            await self._observed(scope, receive, send, request_id)

    async def _observed(self, scope: _Scope, receive: _Receive, send: _Send, request_id: str) -> None:
        started, status = time.perf_counter(), 0

        async def send_with_headers(message: _Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _add_headers(message, request_id)
            await send(message)

        try:
            await self._app(scope, receive, send_with_headers)
        except Exception:
            # Last line: a bug is logged with its trace, and the caller learns the request id only.
            telemetry.log.exception("http.failed", method=scope["method"], path=scope["path"])
            if status:
                raise  # the answer has begun; only closing the connection tells the caller
            await problem_response(Internal(), request_id)(scope, receive, send_with_headers)
        finally:
            _record(scope, status, time.perf_counter() - started)


def _chosen_request_id(scope: _Scope) -> str:
    offered = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    text = offered.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else uuid.uuid4().hex


def _add_headers(message: _Message, request_id: str) -> None:
    headers = list(message.get("headers", ()))
    present = {name.lower() for name, _ in headers}
    if any(name.lower() == _CSP and b"frame-ancestors" in value for name, value in headers):
        present.add(b"x-frame-options")  # knows no origins; who may frame this is said by its policy
    headers += [(name, value) for name, value in _SECURITY_HEADERS if name not in present]
    headers.append((b"x-request-id", request_id.encode("ascii")))
    message["headers"] = headers


def _record(scope: _Scope, status: int, duration_s: float) -> None:
    """Without the query: it may hold what belongs into a header."""
    route = getattr(scope.get("route"), "path", "unmatched")
    telemetry.log.info(
        "http.request",
        method=scope["method"],
        path=scope["path"],
        status=status,
        duration_ms=round(duration_s * 1000, 1),
        username=scope["state"].get("username"),
    )
    # Clients may send any word as a method; labels come from small closed sets.
    method = scope["method"] if scope["method"] in _METHODS else "other"
    labels = {"method": method, "route": route, "status": f"{status // 100}xx"}
    telemetry.observe("fairlead_http_request_seconds", duration_s, labels)


class _BodyGate:
    """Bodies are JSON (or a form, where one is expected) and not too large, before anything parses them."""

    def __init__(self, app: _App, max_bytes: int, forms: Mapping[str, int]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._forms = forms

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        try:
            replay = await self._admitted(scope["path"], headers, receive)
        except FairleadError as error:
            # The rest of the body is not read; the server closes the connection.
            refusal = problem_response(error, scope["state"]["request_id"], {"Connection": "close"})
            await refusal(scope, receive, send)
            return
        await self._app(scope, replay, send)

    async def _admitted(self, path: str, headers: dict[bytes, str], receive: _Receive) -> _Receive:
        length = headers.get(b"content-length", "")
        chunked = b"transfer-encoding" in headers
        if length in ("", "0") and not chunked:
            return receive
        limit = self._limit(path, b"authorization" in headers)
        if length.isdigit() and int(length) > limit:
            raise _too_large(limit)
        kind = headers.get(b"content-type", "").split(";")[0].strip()
        if path in self._forms and kind.lower() != _FORM_TYPE:
            raise NotJson("Only a form can be posted here.", remedy=f"Send `Content-Type: {_FORM_TYPE}`.")
        if path not in self._forms and not _JSON_TYPE.fullmatch(kind):
            raise NotJson(remedy="Send `Content-Type: application/json`.")
        return await _buffered(receive, limit) if chunked else receive

    def _limit(self, path: str, credentials: bool) -> int:
        most = self._max_bytes if credentials else min(ANONYMOUS_BODY_BYTES, self._max_bytes)
        return min(self._forms.get(path, most), most)


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than {limit} bytes.", remedy="Send less.", limit_bytes=limit)


async def _buffered(receive: _Receive, limit: int) -> _Receive:
    """A body of unannounced length, read up to `limit` bytes, then given out again."""
    messages: list[_Message] = []
    size = 0
    while True:
        message = await receive()
        messages.append(message)
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        if not message.get("more_body", False):
            break

    async def replay() -> _Message:
        return messages.pop(0) if messages else await receive()

    return replay


# --- values that clients send --------------------------------------------------------------------


def _plain_text(value: str) -> str:
    if any(character < " " and character not in "\n\t" for character in value):
        raise ValueError("must not hold control characters")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise ValueError("must not hold surrogates")
    return value


PlainText = Annotated[str, AfterValidator(_plain_text)]
"""Text that both databases store and every answer can carry."""


# --- paging and versions -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Paging:
    """Where a page begins, and its size."""

    after: str  # position of the last item already seen; "" = from the start
    limit: int

    @property
    def fetch(self) -> int:
        """How many rows to read: one more than are shown tells whether there is a next page."""
        return self.limit + 1


def paging(
    cursor: Annotated[
        str | None, Query(max_length=500, description="`next_cursor` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=200, description="Items per page")] = 50,
) -> Paging:
    """The page that is asked for. Raises InvalidInput for a cursor that we did not make."""
    return Paging(decode_cursor(cursor) if cursor else "", limit)


PageParams = Annotated[Paging, Depends(paging)]


class Page(BaseModel, Generic[T]):
    """One page of a list."""

    items: list[T]
    next_cursor: str | None = None  # null: this is the last page


def page_of(
    rows: Sequence[T], asked: Paging, *, position: Callable[[T], str], shape: Callable[[T], Out]
) -> Page[Out]:
    """The page made of `rows`, which hold up to `asked.fetch` items."""
    shown = rows[: asked.limit]
    more = len(rows) > asked.limit
    return Page(
        items=[shape(row) for row in shown],
        next_cursor=encode_cursor(position(shown[-1])) if more else None,
    )


def encode_cursor(position: str) -> str:
    """An opaque cursor."""
    return base64.urlsafe_b64encode(position.encode()).decode().rstrip("=")


def decode_cursor(cursor: str) -> str:
    """The position in a cursor. Raises InvalidInput."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        position = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        position = ""
    if not position or not position.isprintable():
        raise InvalidInput(
            "cursor: not a cursor of this server.", remedy="Use next_cursor of the page before, as it is."
        )
    return position


def etag(version: int) -> str:
    """The ETag of version `version` of something."""
    return f'"{version}"'


def if_match(
    if_match: Annotated[str | None, Header(description='ETag that you read, e.g. `"3"`; stale: 412')] = None,
) -> int | None:
    """The version that the caller means to change; None: whichever it is. Raises InvalidInput."""
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip().removeprefix("W/").strip('"')
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise InvalidInput(
            "If-Match: not an ETag of this server.", remedy='Send the ETag you read, as `"3"`.'
        )
    return int(text)


IfMatch = Annotated[int | None, Depends(if_match)]


# --- streams -------------------------------------------------------------------------------------


async def until(stream: AsyncIterator[T], *stops: Awaitable[object]) -> AsyncIterator[T]:
    """The items of `stream` (none of them None) until it ends or one of `stops` is done or raises."""
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stop) for stop in stops]
    item: asyncio.Future[Any] = asyncio.ensure_future(anext(stream, None))
    try:
        while True:
            await asyncio.wait({item, *waits}, return_when=asyncio.FIRST_COMPLETED)
            if not item.done() or (value := item.result()) is None:
                return
            yield value
            item = asyncio.ensure_future(anext(stream, None))
    finally:
        for task in (item, *waits):
            task.cancel()
        await asyncio.gather(item, *waits, return_exceptions=True)
        if isinstance(stream, AsyncGenerator):
            await stream.aclose()
