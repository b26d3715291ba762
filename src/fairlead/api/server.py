"""Serve an app over HTTP until told to stop; open streams end by themselves, well within two seconds."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator

import uvicorn
from fastapi import FastAPI

from fairlead.api.patience import HEAD_S, patient
from fairlead.kernel import http, telemetry
from fairlead.kernel.errors import FairleadError

WEBSOCKET_MAX_BYTES = 128 * 1024  # of one message
DRAIN_S = 2  # requests in progress may take this long after the signal


class AddressUnavailable(FairleadError):
    """The address that the API should listen on cannot be used."""

    code, status, retryable = "api.address_unavailable", 500, False


class _Server(uvicorn.Server):
    """Says when it listens, ends the app's streams when it stops, and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self._closing = closing

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._closing.set()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _bound(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        # With the protocol named: without it asyncio leaves Nagle's delay on, 40 ms per answer.
        bound = socket.socket(family, kind, protocol)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(address)
        except BaseException:
            bound.close()
            raise
    except OSError as error:
        raise AddressUnavailable(
            f"Cannot listen on {host} port {port}: {error.strerror}.",
            remedy="Choose another port (FAIRLEAD_HTTP__PORT), or 0 for any free one.",
            host=host,
            port=port,
        ) from error
    return bound


@contextlib.asynccontextmanager
async def serving(app: FastAPI, *, host: str, port: int, head_s: float = HEAD_S) -> AsyncIterator[str]:
    """Serve `app` (of `build_app`) while the context is open; the value is its URL. Port 0: any free one.

    Who has not sent a request's head after `head_s` seconds is put out. Raises AddressUnavailable.
    """
    bound = _bound(host, port)
    config = uvicorn.Config(
        app,
        http=patient(head_s),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips="127.0.0.1",
        timeout_graceful_shutdown=DRAIN_S,
        ws_max_size=WEBSOCKET_MAX_BYTES,
        ws_per_message_deflate=False,  # messages are small; its memory for each connection is not
        ws_ping_interval=None,  # the protocol spoken over them has pings of its own
    )
    server = _Server(config, http.parts_of(app).closing)
    task = asyncio.create_task(server.serve(sockets=[bound]))
    listening = asyncio.ensure_future(server.listening.wait())
    try:
        await asyncio.wait({task, listening}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            await task
        name = f"[{host}]" if ":" in host else host
        url = f"http://{name}:{bound.getsockname()[1]}"
        telemetry.log.info("api.listening", url=url)
        yield url
    finally:
        listening.cancel()
        server.should_exit = True
        await task
        bound.close()


async def serve_api(
    app: FastAPI, *, host: str, port: int, on_ready: Callable[[str], None] | None = None
) -> None:
    """Serve until SIGINT or SIGTERM; `on_ready` gets the URL once it answers. Raises AddressUnavailable."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serving(app, host=host, port=port) as url:
            if on_ready is not None:
                on_ready(url)
            await stop.wait()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
