"""A real MCP server process that fails on demand: `python fake_server.py [TOOL] [exit]`.

Its tool takes command lines like the real one's; `aws fake --do=WHAT` says what happens.
"""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import MCPServer

server = MCPServer("fake")
CALLS = Path(os.environ["HOME"]) / "calls"


def answered(value: Any) -> dict[str, Any]:
    return {"response": {"error": None, "status_code": 200, "error_code": None, "as_json": json.dumps(value)}}


def refused(code: str) -> dict[str, Any]:
    return {
        "response": {"error": f"refused: {code}", "status_code": 400, "error_code": code, "as_json": None}
    }


async def act(command: str) -> dict[str, Any]:  # noqa: C901 - a list of what can go wrong
    what, _, detail = command.rpartition("--do=")[2].partition(":")
    match what:
        case "die":
            os._exit(3)
        case "die-once":
            if CALLS.read_text().count("die-once") == 1:
                os._exit(3)
        case "gate":
            while not Path(detail).exists():  # noqa: ASYNC240
                time.sleep(0.01)  # noqa: ASYNC251 - as the real server does
        case "never":
            await asyncio.sleep(3600)
        case "refuse":
            return refused(detail)
        case "refuse-once":
            if CALLS.read_text().count("refuse-once") == 1:
                return refused(detail)
        case "words":
            return {"error": detail}
        case "garbage":
            sys.stdout.write("this is not JSON-RPC\n")
            sys.stdout.flush()
        case "empty":
            return {"nothing": True}
    return answered({"pid": os.getpid(), "did": what})


@server.tool(name=sys.argv[1] if len(sys.argv) > 1 else "call_aws")
async def call(cli_command: str | list[str]) -> dict[str, Any]:
    """Do what the command says."""
    commands = [cli_command] if isinstance(cli_command, str) else cli_command
    with CALLS.open("a") as calls:
        calls.writelines(f"{command}\n" for command in commands)
    if any("--do=too-few" in command for command in commands):
        return {"result": []}
    return {"result": [{"cli_command": command, **await act(command)} for command in commands]}


if __name__ == "__main__":
    if "exit" in sys.argv:
        sys.exit("the fake server refuses to start")
    server.run("stdio")
