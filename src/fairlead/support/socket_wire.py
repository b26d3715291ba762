"""The socket server itself: how python-socketio is set up here, and what it is not trusted with."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any

import redis.asyncio
import socketio
from pydantic import ValidationError
from socketio.packet import BINARY_ACK, BINARY_EVENT, EVENT, Packet

from fairlead.kernel import telemetry
from fairlead.support.messages import MESSAGE_MAX_BYTES, NAMESPACE, JobEvent

PING_S = 10.0  # between two pings, and for the answer
REDIS_S = 1.0
SHOUT_S = 3.0
SHOUTS_MAX = 1000  # on their way to Redis; more are dropped: others read the database anyway
MALFORMED = ""  # the name under which events without a usable name arrive
_RESERVED = frozenset({"connect", "disconnect", "connect_error", "message", "*"})  # handlers of the server's
Hear = Callable[[str, JobEvent], Awaitable[None]]


class StrictPacket(Packet):  # type: ignore[misc]
    """Text only; an event is a list that begins with a name, never with that of a handler of the server's."""

    def decode(self, encoded_packet: Any) -> int:
        """Raises ValueError for what is no packet."""
        text = isinstance(encoded_packet, str)
        if text:
            super().decode(encoded_packet)
        if not text or self.packet_type in (BINARY_EVENT, BINARY_ACK):
            raise ValueError("binary message")
        if self.packet_type == EVENT:
            given: Any = self.data
            data = given if isinstance(given, list) and given else [None]
            name = data[0] if isinstance(data[0], str) and data[0] not in _RESERVED else MALFORMED
            self.data: Any = [name, *data[1:]]
        return 0


class QuietLog:
    """What the socket libraries log, as events of ours: never a trace, an address or a message."""

    def __init__(self, event: str) -> None:
        self._event = event

    def debug(self, *_: Any, **__: Any) -> None:
        """Not of interest."""

    info = debug

    def warning(self, *_: Any, **__: Any) -> None:
        """Counted."""
        telemetry.count(f"{self._event}_warnings_total")

    def error(self, message: str, *_: Any, **__: Any) -> None:
        """Logged at debug: clients can cause most of these at will."""
        telemetry.count(f"{self._event}_errors_total")
        telemetry.log.debug("support.socket_error", library=self._event, message=str(message)[:100])

    exception = critical = error


class RedisLog(QuietLog):
    """Redis is ours: that it is away is worth a warning."""

    def error(self, message: str, *_: Any, **__: Any) -> None:
        """Logged; the address, which may hold a password, is not part of these messages."""
        telemetry.count("fairlead_support_redis_errors_total")
        telemetry.log.warning("support.redis_away", message=str(message)[:100])

    exception = critical = error


class Telegraph(socketio.AsyncRedisManager):  # type: ignore[misc]
    """The Redis manager, which hands what other processes emit to us instead of to the room.

    Only we know what the room was told already.
    """

    def __init__(self, url: str, hear: Hear) -> None:
        super().__init__(
            url,
            channel="fairlead.support",
            logger=RedisLog("redis"),
            redis_options={"socket_connect_timeout": REDIS_S, "health_check_interval": 15},
        )
        self._hear = hear
        self._shout = socketio.AsyncRedisManager(
            url,
            channel="fairlead.support",
            write_only=True,
            logger=RedisLog("redis"),
            json=json,
            redis_options={"socket_connect_timeout": REDIS_S, "socket_timeout": REDIS_S},
        )
        self._shouts: asyncio.Queue[tuple[str, Mapping[str, Any]]] = asyncio.Queue(SHOUTS_MAX)
        self._shouting: asyncio.Task[None] | None = None

    async def _handle_emit(self, message: Any) -> None:
        if message.get("host_id") == self._shout.host_id:
            return
        try:
            data = message["data"]
            event = JobEvent.model_validate(data[0] if isinstance(data, list) else data)
            await self._hear(str(message["room"]), event)
        except (ValidationError, LookupError, TypeError):
            telemetry.count("fairlead_support_redis_errors_total")

    def shout(self, room: str, event: Mapping[str, Any]) -> None:
        """Tell the other processes, some time soon; where Redis is away or slow, never."""
        with suppress(asyncio.QueueFull):
            self._shouts.put_nowait((room, event))

    def start(self) -> None:
        """Begin to shout."""
        self._shouting = asyncio.create_task(self._shout_on())

    async def _shout_on(self) -> None:
        while True:
            room, event = await self._shouts.get()
            with suppress(TimeoutError):
                async with asyncio.timeout(SHOUT_S):
                    await self._shout.emit("job", dict(event), namespace=NAMESPACE, room=room)

    async def close(self) -> None:
        """End both directions."""
        tasks = [task for task in (self._shouting, getattr(self, "thread", None)) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (self.redis, self._shout.redis):
            if client is not None:
                with suppress(redis.exceptions.RedisError, OSError):
                    await client.aclose()


def socket_server(
    origins: Iterable[str], *, own_origin: bool, telegraph: Telegraph | None
) -> socketio.AsyncServer:
    """The server. Browsers' pages connect from `origins`; with `own_origin` from pages of this server too."""
    allowed = frozenset(origins)

    def is_allowed(origin: str, environ: Mapping[str, Any]) -> bool:
        host = environ.get("HTTP_HOST", "")
        return origin in allowed or (own_origin and origin in (f"http://{host}", f"https://{host}"))

    return socketio.AsyncServer(
        async_mode="asgi",
        client_manager=telegraph,
        serializer=StrictPacket,
        namespaces=[NAMESPACE],
        transports=["websocket"],
        allow_upgrades=False,
        http_compression=False,
        ping_interval=PING_S,
        ping_timeout=PING_S,
        max_http_buffer_size=MESSAGE_MAX_BYTES,
        cors_allowed_origins=is_allowed,
        cors_credentials=False,
        logger=QuietLog("fairlead_support_socketio"),
        engineio_logger=QuietLog("fairlead_support_engineio"),
    )


async def redis_answers(url: str) -> None:
    """Raises unless Redis answers within a second."""
    client = redis.asyncio.Redis.from_url(url, socket_connect_timeout=REDIS_S, socket_timeout=REDIS_S)
    try:
        await client.ping()
    finally:
        await client.aclose()
