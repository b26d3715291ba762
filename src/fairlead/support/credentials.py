"""Credentials for child programs over loopback: none in their environment, arguments or files.

A child finds an address and a token in its environment and asks there, as a container does on AWS, again
before what it got expires. What it gets is good for a quarter of an hour at most, however long the keys live,
so that a child of an offer that was withdrawn stops soon.
"""

import asyncio
import hmac
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fairlead.kernel import telemetry
from fairlead.kernel.clock import iso
from fairlead.kernel.errors import FairleadError
from fairlead.kernel.toolenv import clean_environment
from fairlead.support.collect import Keys

HOST = "127.0.0.1"
# AWS's SDKs ask again in the last 15 minutes and must in the last 10: one question a minute, and at most
# six minutes until a child notices that its offer was withdrawn.
LEASE_S = 960.0
_NETWORK = ("HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE")
_READ_S = 5.0
_HEAD_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Offer:
    """Where one child may fetch which credentials."""

    url: str
    token: str
    withdraw: Callable[[], None]

    def environment(self, home: Path, *, region: str, endpoint_url: str | None) -> dict[str, str]:
        """All of a child program's environment: it finds the credentials on offer there, and no others.

        `home` is one that `empty_home` made. There are no credentials in it, and nothing of our own
        environment but how this machine reaches the network.
        """
        around = clean_environment()
        return {
            **{name: around[name] for name in _NETWORK if name in around},
            "NO_PROXY": ",".join(filter(None, (around.get("NO_PROXY"), HOST, "localhost"))),
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": self.token,
            **({"AWS_ENDPOINT_URL": endpoint_url} if endpoint_url else {}),
            "AWS_REGION": region,
            "AWS_DEFAULT_REGION": region,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": str(home / "aws" / "config"),
            "AWS_SHARED_CREDENTIALS_FILE": str(home / "aws" / "credentials"),
            "HOME": str(home / "home"),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "LANG": "C.UTF-8",
        }


def empty_home(within: Path) -> Path:
    """A new folder for one account's children: an empty home, and an AWS configuration without a word."""
    folder = Path(tempfile.mkdtemp(dir=within))
    (folder / "home").mkdir()
    (folder / "aws").mkdir()
    for name in ("config", "credentials"):
        (folder / "aws" / name).touch(mode=0o400)
    return folder


class Endpoint:
    """Serves credentials to whoever shows an offer's path and token."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.port = 0
        self._now = now
        self._offers: dict[str, tuple[str, Callable[[], Awaitable[Keys]]]] = {}

    def offer(self, keys: Callable[[], Awaitable[Keys]]) -> Offer:
        """What `keys` gives at the time, until it is withdrawn."""
        path, token = f"/{secrets.token_urlsafe(24)}", secrets.token_urlsafe(32)
        self._offers[path] = (token, keys)
        return Offer(f"http://{HOST}:{self.port}{path}", token, lambda: self._withdraw(path))

    def _withdraw(self, path: str) -> None:
        self._offers.pop(path, None)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, one question."""
        try:
            with suppress(TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
                async with asyncio.timeout(_READ_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                status, document = await self._answer(head)
                body = json.dumps(document).encode()
                lines = (
                    f"HTTP/1.1 {status}",
                    "Content-Type: application/json",
                    f"Content-Length: {len(body)}",
                    "Cache-Control: no-store",
                    "Connection: close",
                )
                writer.write("\r\n".join([*lines, "", ""]).encode() + body)
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, head: bytes) -> tuple[str, dict[str, str | None]]:
        path, shown = _request(head)
        token, keys = self._offers.get(path, ("", None))
        # Compared in any case: how long a refusal takes tells nothing about paths.
        right = hmac.compare_digest(shown.encode(), token.encode())
        if not right or keys is None:
            telemetry.log.warning("support.credentials_refused")
            return "403 Forbidden", {"code": "Forbidden", "message": "These credentials are not on offer."}
        try:
            held = await keys()
        except FairleadError as error:
            telemetry.log.warning("support.credentials_unavailable", error=error.code)
            return "503 Service Unavailable", {"code": error.code, "message": error.message}
        return "200 OK", self._document(held)

    def _document(self, keys: Keys) -> dict[str, str | None]:
        ends = self._now() + timedelta(seconds=LEASE_S)
        if keys.expires_at is not None:
            ends = min(ends, keys.expires_at)
        return {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key.get_secret_value(),
            "Token": keys.session_token.get_secret_value() if keys.session_token else None,
            "Expiration": iso(ends),
        }


def _request(head: bytes) -> tuple[str, str]:
    """Path and Authorization of a request's head; ("", "") for everything that is no plain GET."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, _, rest = first.partition(" ")
    path, _, version = rest.partition(" ")
    if method != "GET" or not version.startswith("HTTP/1."):
        return "", ""
    for line in lines:
        name, _, value = line.partition(":")
        if name.lower() == "authorization":
            return path, value.strip()
    return path, ""


@asynccontextmanager
async def open_endpoint(now: Callable[[], datetime]) -> AsyncIterator[Endpoint]:
    """The endpoint on a free port of loopback; with the block's end nothing is on offer any more."""
    endpoint = Endpoint(now)
    server = await asyncio.start_server(endpoint.serve, HOST, 0, limit=_HEAD_BYTES)
    endpoint.port = server.sockets[0].getsockname()[1]
    try:
        yield endpoint
    finally:
        endpoint._offers.clear()
        server.close()
        await server.wait_closed()
