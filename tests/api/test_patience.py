"""A server that waits for a request's head, and not for ever."""

import asyncio
from urllib.parse import urlsplit

from fairlead.api.app import build_app
from fairlead.api.server import serving
from tests.api.conftest import KEY, World

PATIENCE_S = 60.0  # of these tests; what is tested ends far sooner
HEAD_S = 1.0
LONGER_S = 3.0  # where a head has to arrive, also on a busy machine


async def connected(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address = urlsplit(url)
    return await asyncio.open_connection(address.hostname, address.port)


async def closed(reader: asyncio.StreamReader) -> bytes:
    """What the server said until it closed the line."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await reader.read()
    except ConnectionResetError:  # there was something on its way that nobody reads any more
        return b""


async def test_who_never_ends_a_head_is_put_out_however_it_trickles(world: World) -> None:
    app = build_app(database=world.database, signing_key=KEY, runs=world.runs)
    async with serving(app, host="127.0.0.1", port=0, head_s=HEAD_S) as url:
        reader, writer = await connected(url)
        writer.write(b"GET /health HTTP/1.1\r\nHost: x\r\n")

        async def trickle() -> None:
            while not writer.is_closing():
                writer.write(b"X-More: 1\r\n")
                await asyncio.sleep(0.05)

        trickling = asyncio.create_task(trickle())
        try:
            assert await closed(reader) == b""
        finally:
            trickling.cancel()
            writer.close()


async def test_who_says_nothing_at_all_is_put_out(world: World) -> None:
    app = build_app(database=world.database, signing_key=KEY, runs=world.runs)
    async with serving(app, host="127.0.0.1", port=0, head_s=HEAD_S) as url:
        reader, writer = await connected(url)
        assert await closed(reader) == b""
        writer.close()


async def test_a_second_head_has_its_own_time_and_a_slow_body_takes_as_long_as_it_takes(world: World) -> None:
    app = build_app(database=world.database, signing_key=KEY, runs=world.runs)
    async with serving(app, host="127.0.0.1", port=0, head_s=LONGER_S) as url:
        reader, writer = await connected(url)
        writer.write(
            b"POST /sessions HTTP/1.1\r\nHost: x\r\n"
            b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        until = loop.time() + LONGER_S + 0.5
        while loop.time() < until:  # the head is here: the line stays open
            assert not reader.at_eof()
            await asyncio.sleep(0.05)
        writer.write(b"{}")
        async with asyncio.timeout(PATIENCE_S):
            assert b" 422 " in await reader.readline()
            await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /health HT")
        rest = await closed(reader)  # the rest of the first answer, and nothing of a second one
        assert b"HTTP/1.1" not in rest
        writer.close()
