"""Programs of the realtime benchmark: many agents in one process, and a bare server as the peer.

The agents are as light as a websocket allows: what is measured is the server.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import aiohttp
import socketio
import uvicorn

AT_ONCE = 100  # connecting


@dataclass
class Agent:
    """One connection: answers pings, counts events, notes how late each came."""

    late_s: list[float] = field(default_factory=list)
    seqs: list[int] = field(default_factory=list)
    last_at: float = 0.0
    hello: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, session: aiohttp.ClientSession, url: str, auth: dict[str, Any] | None) -> None:
        async with session.ws_connect(
            f"{url}/socket.io/?EIO=4&transport=websocket", max_msg_size=0, compress=0
        ) as websocket:
            async for message in websocket:
                text = str(message.data)
                if text == "2":
                    await websocket.send_str("3")
                elif text.startswith("0"):
                    await websocket.send_str("40/support," + json.dumps(auth or {}))
                elif text.startswith('42/support,["job"'):
                    self._heard(json.loads(text[11:])[1])
                elif text.startswith("42/support,"):
                    self.hello.set()

    def _heard(self, event: dict[str, Any]) -> None:
        self.last_at = time.time()
        self.seqs.append(event["seq"])
        if "sent_at" in event["data"]:
            self.late_s.append(self.last_at - event["data"]["sent_at"])


async def _main(pipe: Connection) -> None:
    loop = asyncio.get_running_loop()
    agents: list[Agent] = []
    tasks: list[asyncio.Task[None]] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        while True:
            command, *given = await loop.run_in_executor(None, pipe.recv)
            if command == "connect":
                pipe.send(await _connect(session, agents, tasks, *given))
            elif command == "told":
                pipe.send(await _told(agents, *given))
            else:
                break
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _connect(
    session: aiohttp.ClientSession,
    agents: list[Agent],
    tasks: list[asyncio.Task[None]],
    url: str,
    auths: Sequence[dict[str, Any]],
) -> float:
    """Seconds until all have been greeted."""
    began = time.perf_counter()
    for some in _batches(auths):
        new = [Agent() for _ in some]
        agents += new
        tasks += [
            asyncio.create_task(agent.run(session, url, auth)) for agent, auth in zip(new, some, strict=True)
        ]
        async with asyncio.timeout(120):
            await asyncio.gather(*(agent.hello.wait() for agent in new))
    return time.perf_counter() - began


def _batches(auths: Sequence[dict[str, Any]]) -> Iterator[Sequence[dict[str, Any]]]:
    for start in range(0, len(auths), AT_ONCE):
        yield auths[start : start + AT_ONCE]


async def _told(agents: list[Agent], last: int) -> dict[str, Any]:
    """Once everybody has heard event `last`, or after a minute: what each heard."""
    with suppress(TimeoutError):
        async with asyncio.timeout(60):
            while any(last not in agent.seqs[-50:] for agent in agents):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    return {
        "late_s": [late for agent in agents for late in agent.late_s],
        "lost": sum(len(set(range(1, last + 1)) - set(agent.seqs)) for agent in agents),
        "twice": sum(len(agent.seqs) - len(set(agent.seqs)) for agent in agents),
        "last_at": max(agent.last_at for agent in agents),
    }


def agents(pipe: Connection) -> None:
    """A process full of agents: obeys what comes through `pipe`."""
    asyncio.run(_main(pipe))


def bare_server(port: int, pipe: Connection) -> None:
    """python-socketio as its documentation begins: everybody in one room; emits what comes through `pipe`."""

    async def main() -> None:
        server = socketio.AsyncServer(async_mode="asgi", namespaces=["/support"], transports=["websocket"])

        async def connect(sid: str, _environ: Any, _auth: Any) -> None:
            await server.enter_room(sid, "all", namespace="/support")
            server.start_background_task(server.emit, "hello", {}, to=sid, namespace="/support")

        server.on("connect", connect, namespace="/support")
        config = uvicorn.Config(
            socketio.ASGIApp(server), port=port, log_config=None, lifespan="off", ws_per_message_deflate=False
        )
        http = uvicorn.Server(config)
        serving = asyncio.create_task(http.serve())
        while not http.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        pipe.send("ready")
        loop = asyncio.get_running_loop()
        while (event := await loop.run_in_executor(None, pipe.recv)) is not None:
            await server.emit("job", event, room="all", namespace="/support")
        http.should_exit = http.force_exit = True
        await serving

    asyncio.run(main())
