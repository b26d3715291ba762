"""Processes of MCP servers, per account and session: started at the first call, kept warm, closed when idle.

A server knows one account's way to credentials and nothing else, so no two accounts, and no two sessions of
one account, ever share one. One that dies or hangs is replaced at the next call.
"""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from fastmcp.client import Client
from fastmcp.client.transports import StdioTransport
from fastmcp.exceptions import ToolError
from mcp_types import LoggingMessageNotificationParams
from pydantic_ai.mcp import MCPToolset

from fairlead.kernel import telemetry
from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.settings import Settings
from fairlead.support.answers import servers
from fairlead.support.answers.model import Access

MAX_GROUPS = 6  # accounts and sessions at once; each has up to three processes of 100 to 200 MB
IDLE_S = 300.0
START_S = 90.0
CALL_S = 45.0  # of one call, its attempts at AWS included
_PING_S = 3.0
_LOOK_S = 5.0
_MOST_SAID = 5


class ToolServerUnavailable(Unavailable):
    """A tool's server could not be started; nothing was asked."""

    code, status, retryable = "support.tool_server_unavailable", 503, True


class ToolServerDied(Unavailable):
    """A tool's server ended, or hung, while it worked on a call."""

    code, status, retryable = "support.tool_server_died", 503, True


class ToolServersBusy(Unavailable):
    """Too many accounts are being asked about at once."""

    code, status, retryable = "support.tool_servers_busy", 503, True


class ToolFailed(FairleadError):
    """A tool answered with an error."""

    code, status, retryable = "support.tool_failed", 502, False


class _Server:
    """One process that is up, or not yet, or no more."""

    def __init__(self, name: str, prepare: Callable[[], servers.Start]) -> None:
        self.name = name
        self._prepare = prepare
        self._toolset: MCPToolset[None] | None = None
        self._turn = asyncio.Lock()
        self._said: list[str] = []
        self._endings: set[asyncio.Task[None]] = set()

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> Any:
        """What the tool answers. Raises ToolFailed, ToolServerDied, ToolServerUnavailable.

        One call at a time: the servers block while they work, and say why a call failed only in messages that
        name no call.
        """
        async with self._turn:
            toolset = self._toolset = self._toolset or await self._started()
            self._said.clear()
            return await self._called(toolset, tool, arguments)

    async def _called(self, toolset: MCPToolset[None], tool: str, arguments: Mapping[str, Any]) -> Any:
        started = time.perf_counter()
        try:
            async with asyncio.timeout(CALL_S):
                return await toolset.direct_call_tool(tool, dict(arguments))
        except ToolError as error:
            raise ToolFailed(" ".join([*self._said, str(error)])[:4_000]) from error
        except Exception as error:
            # Not the tool but what carries it: whatever it is, this process answers nobody any more.
            self._drop(toolset)
            telemetry.log.warning("support.tool_server_died", server=self.name, error=type(error).__name__)
            raise ToolServerDied(
                f"{self.name} broke off ({type(error).__name__}).", remedy="Ask again."
            ) from error
        finally:
            elapsed_s = time.perf_counter() - started
            telemetry.observe("fairlead_support_tool_seconds", elapsed_s, {"tool": tool})

    async def _hear(self, message: LoggingMessageNotificationParams) -> None:
        """What the server says while it works; never logged, for it may hold anything."""
        if message.level == "error" and len(self._said) < _MOST_SAID:
            data = message.data
            self._said.append(str(data.get("msg", "") if isinstance(data, dict) else data)[:2_000])

    async def check(self) -> None:
        """See whether a process that was left alone still lives; the next call replaces it if not."""
        if (toolset := self._toolset) is not None and not self._turn.locked():
            try:
                async with asyncio.timeout(_PING_S):
                    await toolset.client.ping()
            except Exception as error:  # noqa: BLE001 - whatever it is, there is no answer
                telemetry.log.info("support.tool_server_gone", server=self.name, error=type(error).__name__)
                self._drop(toolset)

    async def _started(self) -> MCPToolset[None]:
        try:
            start = await asyncio.to_thread(self._prepare)
            transport = StdioTransport(
                command=start.command,
                args=list(start.arguments),
                env=dict(start.environment),
                cwd=str(start.home),
                keep_alive=False,
                log_file=start.home / "server.log",
            )
            (start.home / "server.log").unlink(missing_ok=True)  # of the process before
            client = Client(
                transport, timeout=CALL_S, init_timeout=START_S, mode="legacy", log_handler=self._hear
            )
            toolset: MCPToolset[None] = MCPToolset(client, tool_error_behavior="error")
            async with asyncio.timeout(START_S):
                await toolset.__aenter__()
        except FairleadError:
            raise
        except Exception as error:
            telemetry.log.warning("support.tool_server_not_started", server=self.name, error=str(error)[:300])
            raise ToolServerUnavailable(
                f"{self.name} could not be started ({type(error).__name__}).",
                remedy="Try again; the server's own words are in server.log in its folder.",
            ) from error
        telemetry.log.info("support.tool_server_started", server=self.name)
        return toolset

    def _drop(self, toolset: MCPToolset[None]) -> None:
        """End this process, without anybody waiting for it."""
        if self._toolset is toolset:
            self._toolset = None
        ending = asyncio.create_task(_end(toolset))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)

    async def close(self) -> None:
        if self._toolset is not None:
            self._drop(self._toolset)
        await asyncio.gather(*self._endings)


async def _end(toolset: MCPToolset[None]) -> None:
    with suppress(Exception):
        await toolset.__aexit__(None, None, None)
    with suppress(Exception):
        await toolset.client.transport.close()


class Group:
    """The servers of one account and session."""

    def __init__(self, account: str, make: Callable[[str], servers.Start]) -> None:
        self.account = account
        self.users = 0
        self.used_at = time.monotonic()
        self._make = make
        self._servers: dict[str, _Server] = {}

    async def call(self, server: str, tool: str, arguments: Mapping[str, Any]) -> Any:
        """What `tool` of `server` answers. Raises ToolFailed, ToolServerDied, ToolServerUnavailable."""
        self.used_at = time.monotonic()
        if server not in self._servers:
            self._servers[server] = _Server(server, lambda: self._make(server))
        return await self._servers[server].call(tool, arguments)

    async def check(self) -> None:
        """See which of the processes still live."""
        await asyncio.gather(*(server.check() for server in self._servers.values()))

    async def close(self) -> None:
        await asyncio.gather(*(server.close() for server in self._servers.values()))


class Toolsets:
    """MCP servers that are up, per account and session."""

    def __init__(self, *, root: Path, homes: Path) -> None:
        self._root, self._homes = root, homes
        self._groups: dict[tuple[str, str], Group] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def of(self, access: Access) -> AsyncIterator[Group]:
        """The servers for `access`, which are not closed within the block. Raises ToolServersBusy."""
        environment = access.environment()
        digest = hashlib.sha256(json.dumps(sorted(environment.items())).encode()).hexdigest()
        key = (access.account, digest)
        group = self._groups.get(key)
        if group is None:
            self._make_room(access.account)
            group = self._groups[key] = Group(access.account, self._maker(access.account, environment))
        group.users += 1
        try:
            await group.check()
            yield group
        finally:
            group.users -= 1
            group.used_at = time.monotonic()

    def _maker(self, account: str, environment: Mapping[str, str]) -> Callable[[str], servers.Start]:
        return lambda server: servers.prepare(
            server, account, environment, root=self._root, homes=self._homes
        )

    def _make_room(self, account: str) -> None:
        """Close what an earlier session of the account left, and the longest idle of too many."""
        idle = sorted((g for g in self._groups.values() if not g.users), key=lambda g: g.used_at)
        for group in idle:
            if group.account == account or len(self._groups) >= MAX_GROUPS:
                self._forget(group)
        if len(self._groups) >= MAX_GROUPS:
            raise ToolServersBusy(
                f"{MAX_GROUPS} accounts are being asked about at once.", remedy="Try again in a minute."
            )

    def _forget(self, group: Group) -> None:
        self._groups = {key: held for key, held in self._groups.items() if held is not group}
        closing = asyncio.create_task(group.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)

    def close_idle(self, idle_s: float = IDLE_S) -> None:
        """Close the servers that nobody asked for `idle_s` seconds."""
        now = time.monotonic()
        for group in list(self._groups.values()):
            if not group.users and now - group.used_at >= idle_s:
                self._forget(group)

    @property
    def groups(self) -> int:
        """How many accounts and sessions have servers now."""
        return len(self._groups)

    async def close(self) -> None:
        """End all processes."""
        for group in list(self._groups.values()):
            self._forget(group)
        await asyncio.gather(*self._closing)

    async def tidy(self) -> None:
        """Close what is idle, again and again, until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.close_idle()


@asynccontextmanager
async def open_toolsets(settings: Settings) -> AsyncIterator[Toolsets]:
    """A pool; its processes end with the block. Nothing starts before the first tool call."""
    toolsets = Toolsets(
        root=settings.toolenvs.absolute(), homes=settings.data_dir.absolute() / "support-tools"
    )
    tidying = asyncio.create_task(toolsets.tidy())
    try:
        yield toolsets
    finally:
        tidying.cancel()
        await asyncio.gather(tidying, return_exceptions=True)
        await toolsets.close()
