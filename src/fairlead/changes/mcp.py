"""The gateway to AWS MCP servers: the only module that speaks MCP.

Two pools of sessions, readers and writers. Each session is a local server process that dies with
us (its standard input closes), or a connection to a streamable-HTTP endpoint. A server's event
loop blocks during a call, so a session carries one call at a time and the next free one takes the
next call. A session that breaks, or whose caller gave up waiting, is replaced by a new one.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.stdio import stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult, Implementation, TextContent

from fairlead.changes.awsapi import answers, servers
from fairlead.changes.awsapi.commands import BATCH
from fairlead.changes.model import Json
from fairlead.kernel import resilience, telemetry, toolenv
from fairlead.kernel.errors import FairleadError, Unavailable
from fairlead.kernel.resilience import Guard, OutcomeUnknown, Policy
from fairlead.kernel.settings import AwsSettings, McpSettings

T = TypeVar("T")

_START_DEADLINE_S = 90.0
_RESTART_WAITS_S = (0.5, 1.0, 2.0, 5.0, 15.0)
_MAX_EVENT_BYTES = 64 * 1024 * 1024  # a batch of 20 resources of 256 KB, and the commands echoed


class ServerUnavailable(Unavailable):
    """An AWS MCP server could not be started or reached; nothing was sent."""

    code, status, retryable = "mcp.server_unavailable", 503, True


class ServerDied(OutcomeUnknown):
    """The AWS MCP server ended while it worked on a call, which may or may not have had its effect."""

    code, status, retryable = "mcp.server_died", 503, False


class GatewayBusy(Unavailable):
    """Every AWS MCP server was busy for too long; nothing was sent."""

    code, status, retryable = "mcp.busy", 503, True


class ToolMissing(FairleadError):
    """The MCP server does not offer the tool that the settings name."""

    code, status, retryable = "mcp.tool_missing", 500, False


@dataclass(slots=True)
class _Job:
    """One call of the tool, waiting or under way. Its caller gives up by cancelling `answer`."""

    commands: Sequence[str]
    answer: asyncio.Future[CallToolResult]
    taken: asyncio.Event = field(default_factory=asyncio.Event)

    def fail(self, error: BaseException) -> None:
        self.taken.set()
        if not self.answer.done():
            self.answer.set_exception(error)


class _Pool:
    """`size` sessions that take calls from one queue; the sessions open at the first call."""

    def __init__(self, name: str, size: int, settings: McpSettings, connect: "_Connect") -> None:
        self.name = name
        self.size = size
        self.up = 0
        self._settings = settings
        self._connect = connect
        self._jobs: asyncio.Queue[_Job] = asyncio.Queue()
        self._slots: list[asyncio.Task[None]] = []
        self._closed = False
        self._first_tried = asyncio.Event()

    def start(self) -> None:
        """Open all sessions, each in a task of its own: MCP wants a session closed where it was opened."""
        if not self._slots:
            self._slots = [asyncio.create_task(self._slot(number)) for number in range(self.size)]

    async def close(self) -> None:
        self._closed = True
        for slot in self._slots:
            slot.cancel()
        await asyncio.gather(*self._slots, return_exceptions=True)
        self._fail_waiting(ServerUnavailable("The AWS gateway was closed."))

    async def run(self, commands: Sequence[str]) -> CallToolResult:
        """The tool's result for `commands`. Waits for a free session, then for the answer."""
        if self._closed:
            raise ServerUnavailable("The AWS gateway was closed.")
        self.start()
        job = _Job(commands, asyncio.get_running_loop().create_future())
        self._jobs.put_nowait(job)
        timeout_s = self._settings.call_timeout_s
        try:
            try:
                async with asyncio.timeout(timeout_s):
                    await job.taken.wait()
            except TimeoutError:
                raise GatewayBusy(
                    f"No {self.name} became free within {timeout_s:g} s.",
                    remedy=f"Raise aws.mcp.{self.name}s, or try again later.",
                ) from None
            async with resilience.deadline(timeout_s, f"aws.{self.name}"):
                return await job.answer
        finally:
            job.answer.cancel()  # a session that still works on it is replaced

    def _observe(self, started: float) -> None:
        labels = {"tool": self._settings.tool, "pool": self.name}
        telemetry.observe("fairlead_mcp_call_seconds", time.perf_counter() - started, labels)

    async def _slot(self, number: int) -> None:
        if number:
            # One server that answers soon is worth more than several that slow each other down.
            await self._first_tried.wait()
        failures = 0
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(_START_DEADLINE_S):
                        client = await stack.enter_async_context(self._connect(self.name))
                    self._first_tried.set()
                    failures = 0
                    self.up += 1
                    stack.callback(self._count_down)
                    await self._serve(client)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next call must hear it
                self._first_tried.set()
                failures += 1
                reason = _start_error(error)
                telemetry.log.warning("mcp.session_failed", pool=self.name, reason=reason.message)
                await self._after_failure(reason, failures)

    def _count_down(self) -> None:
        self.up -= 1

    async def _after_failure(self, error: FairleadError, failures: int) -> None:
        """Return when another try is due: after a while, or, where no session is left, at the next call."""
        if self.up:
            await asyncio.sleep(_RESTART_WAITS_S[min(failures, len(_RESTART_WAITS_S)) - 1])
            return
        # Who has waited for this session hears why there is none; who asks later is worth a new try.
        self._fail_waiting(error)
        self._jobs.put_nowait(await self._jobs.get())

    def _fail_waiting(self, error: FairleadError) -> None:
        while not self._jobs.empty():
            self._jobs.get_nowait().fail(error)

    async def _next(self) -> _Job:
        while True:
            job = await self._jobs.get()
            if not job.answer.done():
                job.taken.set()
                return job

    async def _serve(self, client: Client) -> None:
        """Carry calls until the session is broken or stuck."""
        while True:
            job = await self._next()
            argument: str | list[str] = list(job.commands) if len(job.commands) > 1 else job.commands[0]
            call = asyncio.create_task(client.call_tool(self._settings.tool, {"cli_command": argument}))
            started = time.perf_counter()
            try:
                await asyncio.wait({call, job.answer}, return_when=asyncio.FIRST_COMPLETED)
                self._observe(started)
                if not call.done():
                    telemetry.log.warning("mcp.session_abandoned", pool=self.name)
                    return
                if (error := call.exception()) is None:
                    if not job.answer.done():
                        job.answer.set_result(call.result())
                else:
                    job.fail(_call_error(error))
                    return
            finally:
                call.cancel()
                job.fail(ServerDied("The AWS gateway was closed during the call."))
                await asyncio.wait({call})


_Connect = Callable[[str], contextlib.AbstractAsyncContextManager[Client]]


class Gateway:
    """Runs AWS commands through MCP servers: reads on read-only ones, writes on writing ones.

    May be called from any event loop; the work happens on the one that it was opened on.
    """

    def __init__(self, settings: McpSettings, connect: _Connect) -> None:
        self._home = asyncio.get_running_loop()
        self._tool = settings.tool
        self._readers = _Pool("reader", settings.readers, settings, connect)
        self._writers = _Pool("writer", settings.writers, settings, connect)
        # The deadlines of waiting and of the call itself are the pool's; this one is the backstop.
        policy = Policy(deadline_s=2 * settings.call_timeout_s + 1)
        rate = settings.calls_per_second
        self._guards = {
            pool.name: Guard(f"aws.{pool.name}", policy, calls_per_second=rate)
            for pool in (self._readers, self._writers)
        }

    async def read(self, command: str) -> Json:
        """What AWS answers to `command`, which changes nothing. Raises the errors of `answers`."""
        return await self.at_home(self._one, self._readers, command, True)

    async def write(self, command: str, *, safe_to_retry: bool) -> Json:
        """What AWS answers to `command`; repeated on an unknown outcome only where `safe_to_retry`."""
        return await self.at_home(self._one, self._writers, command, safe_to_retry)

    async def read_many(self, commands: Sequence[str]) -> list[Json | FairleadError]:
        """What AWS answers to each of `commands`, or the error it gave for it, in their order.

        Raises only where no answer came at all.
        """
        return await self.at_home(self._many, commands)

    async def warm(self) -> None:
        """Start all servers now, and see that one of each pool answers."""
        await self.at_home(self._warm)

    def sessions(self) -> dict[str, int]:
        """How many sessions are open, by pool."""
        return {pool.name: pool.up for pool in (self._readers, self._writers)}

    async def close(self) -> None:
        await asyncio.gather(self._readers.close(), self._writers.close())

    async def at_home(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """`await function(*args)` on the gateway's own event loop, from whichever loop we are on."""
        resilience.refuse_in_transaction("aws")
        if asyncio.get_running_loop() is self._home:
            return await function(*args)

        async def hop() -> T:
            return await function(*args)

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(hop(), self._home))

    async def _warm(self) -> None:
        self._readers.start()
        self._writers.start()
        ask = "aws sts get-caller-identity"
        await asyncio.gather(*(self._one(pool, ask, True) for pool in (self._readers, self._writers)))

    async def _one(self, pool: _Pool, command: str, safe_to_retry: bool) -> Json:
        async def ask() -> Json:
            outcome = (await self._outcomes(pool, [command]))[0]
            if isinstance(outcome, FairleadError):
                raise outcome
            return outcome

        return await resilience.call(self._guards[pool.name], ask, safe_to_retry=safe_to_retry)

    async def _many(self, commands: Sequence[str]) -> list[Json | FairleadError]:
        batches = [commands[start : start + BATCH] for start in range(0, len(commands), BATCH)]
        results = await asyncio.gather(*(self._batch(batch) for batch in batches))
        return [outcome for batch in results for outcome in batch]

    async def _batch(self, commands: Sequence[str]) -> list[Json | FairleadError]:
        outcomes = await resilience.call(
            self._guards[self._readers.name],
            self._outcomes,
            self._readers,
            commands,
            safe_to_retry=True,
            cost=len(commands),
        )
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, FairleadError) and resilience.may_repeat(outcome):
                outcomes[index] = await self._again(commands[index])
        return outcomes

    async def _again(self, command: str) -> Json | FairleadError:
        try:
            return await self._one(self._readers, command, True)
        except FairleadError as error:
            return error

    async def _outcomes(self, pool: _Pool, commands: Sequence[str]) -> list[Json | FairleadError]:
        labels = {"tool": self._tool, "pool": pool.name}
        outcome = "failed"
        try:
            result = await pool.run(commands)
            texts = [part.text for part in result.content if isinstance(part, TextContent)]
            entries = answers.entries(
                result.structured_content, texts, bool(result.is_error), expected=len(commands)
            )
            found = [_outcome(entry) for entry in entries]
            outcome = "refused" if any(isinstance(one, FairleadError) for one in found) else "ok"
        except FairleadError as error:
            outcome = error.code
            raise
        else:
            return found
        finally:
            telemetry.count("fairlead_mcp_calls_total", labels={**labels, "outcome": outcome})


def _outcome(entry: Mapping[str, Any]) -> Json | FairleadError:
    try:
        return answers.judge(entry)
    except FairleadError as error:
        return error


@asynccontextmanager
async def open_gateway(
    settings: AwsSettings, *, toolenv_root: Path, data_dir: Path
) -> AsyncIterator[Gateway]:
    """A gateway to the servers that `settings` name; all of them end with the block.

    Nothing starts before the first call. `toolenv_root` holds the environments of the local
    servers, `data_dir` their private folders.
    """
    connect = (
        _http(settings) if settings.mcp.transport == "http" else _stdio(settings, toolenv_root, data_dir)
    )
    gateway = Gateway(settings.mcp, connect)
    try:
        yield gateway
    finally:
        await gateway.close()


def _stdio(settings: AwsSettings, toolenv_root: Path, data_dir: Path) -> _Connect:
    homes = data_dir.absolute() / "mcp"

    @asynccontextmanager
    async def connect(pool: str) -> AsyncGenerator[Client]:
        command = await asyncio.to_thread(servers.start_command, settings.mcp.command, toolenv_root)
        home = homes / pool
        await asyncio.to_thread(servers.prepare_home, home, settings)
        variables = servers.variables(
            settings, home, read_only=pool == "reader", inherited=toolenv.clean_environment()
        )
        server = StdioServerParameters(command=command[0], args=list(command[1:]), env=variables, cwd=home)
        with tempfile.TemporaryFile("w+", dir=home, errors="replace") as said:
            try:
                async with _client(stdio_client(server, errlog=said), settings.mcp.tool) as client:
                    yield client
            except* (MCPError, OSError) as errors:
                raise _not_started(errors.exceptions[0], said) from errors

    return connect


def _http(settings: AwsSettings) -> _Connect:
    @asynccontextmanager
    async def connect(pool: str) -> AsyncGenerator[Client]:
        url = (settings.mcp.read_url if pool == "reader" else None) or settings.mcp.url
        if url is None:
            raise ServerUnavailable("No MCP endpoint is set.", remedy="Set aws.mcp.url.")
        try:
            transport = streamable_http_client(url, max_sse_event_size=_MAX_EVENT_BYTES)
            async with _client(transport, settings.mcp.tool) as client:
                yield client
        except* (MCPError, OSError, httpx2.HTTPError) as errors:
            raise ServerUnavailable(
                f"The MCP endpoint at {urlsplit(url).hostname} does not answer.",
                remedy="Check aws.mcp.url and the network.",
            ) from errors

    return connect


@asynccontextmanager
async def _client(transport: Any, tool: str) -> AsyncGenerator[Client]:
    """An open session whose server is known to offer `tool`."""
    about = Implementation(name="fairlead", version="1")
    async with Client(transport, client_info=about, mode="legacy", cache=None) as client:
        offered = [found.name for found in (await client.list_tools()).tools]
        if tool not in offered:
            raise ToolMissing(
                f"The MCP server offers no tool {tool!r}, only: {', '.join(offered)}.",
                remedy="Set aws.mcp.tool to one of these.",
            )
        yield client


def _not_started(error: BaseException, said: IO[str]) -> FairleadError:
    said.seek(0)
    lines = [line.strip() for line in said.read()[-4_000:].splitlines() if line.strip()]
    reason = lines[-1][:300] if lines else str(error)[:300]
    return ServerUnavailable(
        f"The AWS MCP server could not be started: {reason}",
        remedy="Check the settings aws.* and aws.mcp.*.",
    )


def _start_error(error: BaseException) -> FairleadError:
    """The error that callers hear where no session could be opened."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FairleadError):
        return error
    if isinstance(error, TimeoutError):
        return ServerUnavailable(
            f"The AWS MCP server did not come up within {_START_DEADLINE_S:g} s.",
            remedy="See whether the machine is overloaded, then try again.",
        )
    return ServerUnavailable(
        f"The AWS MCP server could not be started: {str(error)[:300]}",
        remedy="Check aws.mcp.command and the free space in the data folder.",
    )


def _call_error(error: BaseException) -> FairleadError:
    """The error of a call whose session broke, or whose server did not follow the protocol."""
    if isinstance(error, MCPError):
        return ServerDied(
            f"The AWS MCP server broke off: {str(error)[:300]}",
            remedy="Look at what stands before repeating.",
        )
    return answers.BadAnswer(
        f"The MCP server's answer breaks the protocol ({type(error).__name__}).",
        remedy="Check aws.mcp.tool and the server's version.",
    )
