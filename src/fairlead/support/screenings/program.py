"""Child programs of engines: fed over standard input, read line by line, ended with all that they started."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LINE_BYTES = 8 * 1024 * 1024  # of one line; 200 findings are a tenth of it
END_S = 10.0  # for the kernel to take away what was killed
# Nothing of the folder or of the user is imported, and output comes at once.
PYTHON = ("-I", "-u", "-X", "utf8")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What is started. Everybody on this machine can read `arguments`: no secret belongs there."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path


class Program:
    """A running child program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def ask(self, request: Mapping[str, Any]) -> None:
        """One line of JSON on its standard input, which stays open: its end would tell that we are gone."""
        assert self._process.stdin is not None
        with suppress(ConnectionError):  # it has died; its output's end tells
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            await self._process.stdin.drain()

    async def lines(self) -> AsyncIterator[bytes | None]:
        """Its standard output, line by line without the line's end; None for a line that is too long."""
        assert self._process.stdout is not None
        while True:
            try:
                line = await self._process.stdout.readline()
            except ValueError:
                yield None
                continue
            if not line:
                return
            yield line.rstrip(b"\r\n")

    async def ended(self) -> int:
        """Its exit status, once it has one; negative: the number of a signal."""
        return await self._process.wait()


@asynccontextmanager
async def running(command: Command) -> AsyncIterator[Program]:
    """`command` in a session of its own; with the block's end nothing of it is left."""
    process = await asyncio.create_subprocess_exec(
        *command.arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,  # chatter, which may hold names and tags of the account
        env=dict(command.environment),
        cwd=command.folder,
        limit=LINE_BYTES,
        start_new_session=True,  # one signal reaches all of it, and a Ctrl-C at our terminal does not
    )
    try:
        yield Program(process)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await process.wait()
