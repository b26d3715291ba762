"""The door of every websocket: text only, no floods, and no client that stopped reading piles up messages.

Pure ASGI around the socket server, so that a limit holds before anything is parsed and whoever is connected
can be put out at once, also while a message to them hangs.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any

from fairlead.kernel import telemetry
from fairlead.support.feeds import Bucket

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[Any]]

FRAMES_A_SECOND, FRAMES_AT_ONCE = 50.0, 200.0  # of any kind, from one connection
JOIN_S = 10.0  # a connection without a session is closed after so long
STALL_S = 5.0  # a message that cannot be written for so long: the client has stopped reading
OWED_MAX = 5000  # messages on their way to one client
CLOSE_S = 1.0
POLICY = 1008  # websocket: the peer broke a rule
SCOPE_KEY = "fairlead.connection"


class Connection:
    """One websocket. Belongs to one event loop."""

    def __init__(self, now: float) -> None:
        self.waiting_since: float | None = now  # for a session; None while it has one
        self.sent = 0  # messages written
        self.owed = 0  # messages that were to be written
        self.sending_since: float | None = None
        self.ended: tuple[int, str] | None = None
        self._frames = Bucket(FRAMES_A_SECOND, FRAMES_AT_ONCE)
        self._tasks: set[asyncio.Task[Any]] = set()

    def close(self, reason: str, code: int = POLICY) -> None:
        """Put the client out, whatever hangs."""
        if self.ended is None:
            self.ended = (code, reason)
            telemetry.count("fairlead_support_connections_closed_total", labels={"reason": reason})
            telemetry.log.info("support.connection_closed", reason=reason)
            for task in self._tasks:
                task.cancel()

    def look(self, now: float) -> None:
        """Close it where it waits too long, or makes us wait too long."""
        if self.waiting_since is not None and now - self.waiting_since > JOIN_S:
            self.close("no_session")
        elif self.sending_since is not None and now - self.sending_since > STALL_S:
            self.close("stalled")
        elif self.owed - self.sent > OWED_MAX:
            self.close("behind")

    async def drained(self, before: int) -> None:
        """Return once `before` messages have been written, or it is closed."""
        while self.sent < before and self.ended is None:  # noqa: ASYNC110 - the writer is not ours
            await asyncio.sleep(0.02)

    async def run(self, app: App, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve the websocket until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await app(
                {**scope, SCOPE_KEY: self},
                lambda: self._next(receive),
                lambda message: self._write(send, message),
            )
        except asyncio.CancelledError:
            if self.ended is None:
                raise
        finally:
            self._tasks.discard(task)
            if self.ended is None:
                self.ended = (1000, "left")

    async def _next(self, receive: Receive) -> Message:
        while self.ended is None:
            message = await receive()
            if message["type"] != "websocket.receive":
                return message
            if self._frames.take(time.monotonic()):
                self.close("flood")
            elif message.get("text"):
                return message
            # Nothing is said in bytes or without a word.
        return {"type": "websocket.disconnect", "code": self.ended[0]}

    async def _write(self, send: Send, message: Message) -> None:
        if message["type"] == "websocket.send":
            await self._write_frame(send, message)
        elif message["type"] == "websocket.close" and self.ended is not None:
            with suppress(TimeoutError):  # who does not read does not get this either
                async with asyncio.timeout(CLOSE_S):
                    await send({**message, "code": self.ended[0], "reason": self.ended[1]})
        else:
            await send(message)

    async def _write_frame(self, send: Send, message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self.ended is not None:
            raise ConnectionAbortedError
        self._tasks.add(task)
        self.sending_since = time.monotonic()
        try:
            await send(message)
            self.sent += 1
        finally:
            self._tasks.discard(task)
            self.sending_since = None


class Gate:
    """The door of `app`; knows who is connected."""

    def __init__(self, app: App) -> None:
        self._app = app
        self.connections: set[Connection] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request: websockets through the door, anything else as it is."""
        if scope["type"] != "websocket":
            await self._app(scope, receive, send)
            return
        connection = Connection(time.monotonic())
        self.connections.add(connection)
        try:
            await connection.run(self._app, scope, receive, send)
        finally:
            self.connections.discard(connection)

    def look(self, now: float) -> None:
        """Close who waits, or makes us wait, too long."""
        for connection in list(self.connections):
            connection.look(now)
