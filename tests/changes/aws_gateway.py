"""Gateways for tests: to the real MCP server in front of a real sandbox, and to a server that fails."""

import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from fairlead.changes.mcp import Gateway, open_gateway
from fairlead.kernel.settings import AwsSettings, McpSettings
from tests.sandbox_service import ACCOUNT, toolenvs

FAKE = Path(__file__).parent / "fake_server.py"


def aws_settings(endpoint_url: str | None = None, **mcp: Any) -> AwsSettings:
    """Settings of a sandbox's account, without a rate that would slow the tests."""
    return AwsSettings(
        endpoint_url=endpoint_url,
        access_key_id=ACCOUNT,
        secret_access_key=SecretStr("sandbox-secret"),
        mcp=McpSettings(**{"calls_per_second": 1_000.0, **mcp}),
    )


@asynccontextmanager
async def gateway_to(settings: AwsSettings, folder: Path) -> AsyncIterator[Gateway]:
    async with open_gateway(settings, toolenv_root=toolenvs(), data_dir=folder) as gateway:
        yield gateway


@asynccontextmanager
async def failing_gateway(folder: Path, *arguments: str, **mcp: Any) -> AsyncIterator[Gateway]:
    """A gateway to servers that fail on demand; `arguments` go to the server."""
    command = (sys.executable, str(FAKE), *arguments)
    settings = aws_settings(**{"command": command, "writers": 1, "call_timeout_s": 60.0, **mcp})
    async with gateway_to(settings, folder) as gateway:
        yield gateway


def children() -> set[int]:
    """Process ids of this process's children, whichever thread started them."""
    found: set[int] = set()
    for tasks in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with suppress(OSError):  # a thread that has ended since
            found |= {int(pid) for pid in tasks.read_text().split()}
    return found


def command_lines(pids: set[int]) -> str:
    found = []
    for pid in pids:
        with suppress(OSError):  # it has ended since
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return " ".join(found)
